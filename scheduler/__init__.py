"""A scheduler daemon that knows the exchange: the face for task authors and embedding programs."""

from scheduler.context import Context
from scheduler.embedding import Scheduler
from scheduler.errors import SchedulerError
from scheduler.runs import BackgroundTaskManager, RunRegistry

__all__ = ["BackgroundTaskManager", "Context", "RunRegistry", "Scheduler", "SchedulerError"]
