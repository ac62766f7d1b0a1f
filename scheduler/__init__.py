"""A scheduler daemon that knows the exchange: the face for task authors and embedding programs.

Imported when first used: the command line imports this package too, and has to start at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scheduler.context import Context
    from scheduler.embedding import Scheduler
    from scheduler.errors import SchedulerError
    from scheduler.runs import BackgroundTaskManager, RunRegistry

__all__ = ["BackgroundTaskManager", "Context", "RunRegistry", "Scheduler", "SchedulerError"]

_HOMES = {
    "BackgroundTaskManager": "scheduler.runs",
    "Context": "scheduler.context",
    "RunRegistry": "scheduler.runs",
    "Scheduler": "scheduler.embedding",
    "SchedulerError": "scheduler.errors",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
