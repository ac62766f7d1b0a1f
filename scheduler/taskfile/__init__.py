"""tasks.yaml and tasks.d/*.yaml, validated once, at the edge, as frozen specs.

Reading needs nothing but the files and never raises: what is wrong is in ``TaskFile.problems``, and
what is right goes on, so that a desk sees all its mistakes at once. ``TaskFile.compile`` adds what
only the markets can tell and makes the ``Config`` that the daemon runs by.

``values`` says what single values look like, ``models`` which keys there are, ``complaints`` how
their mistakes are put, ``fit`` which keys go together, ``defaults`` what holds where a file is
silent; ``compiling`` adds the markets and the other tasks; ``merging`` and ``files`` read.
"""

from __future__ import annotations

from scheduler.core.alerting import Alert
from scheduler.taskfile.files import read_tasks, task_files, task_from_options
from scheduler.taskfile.models import tasks_schema
from scheduler.taskfile.result import Config, TaskFile, in_order

__all__ = [
    "Alert",
    "Config",
    "TaskFile",
    "in_order",
    "read_tasks",
    "task_files",
    "task_from_options",
    "tasks_schema",
]
