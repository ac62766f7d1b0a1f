"""tasks.yaml and tasks.d/*.yaml, validated once, as frozen specs.

``values`` says what single values look like, ``models`` which keys there are, ``fit`` which keys go
together, ``defaults`` what holds where a file is silent, ``compiling`` what the markets and the
other tasks add, ``complaints`` how it is said, and ``files`` reads and merges.
"""

from __future__ import annotations

from scheduler.taskfile.files import Alert, Config, TaskFile, in_order, read_tasks, task_from_options
from scheduler.taskfile.models import tasks_schema
from scheduler.taskfile.values import TEMPLATE_NAMES

__all__ = [
    "TEMPLATE_NAMES",
    "Alert",
    "Config",
    "TaskFile",
    "in_order",
    "read_tasks",
    "task_from_options",
    "tasks_schema",
]
