"""Runs: started, owned, ended. Nothing else in this package creates asyncio tasks (law 6)."""

from __future__ import annotations

from scheduler.runs.manager import BackgroundTaskManager, program_task
from scheduler.runs.prints import prints_logged
from scheduler.runs.registry import RunEntry, RunRegistry
from scheduler.runs.runner import Runner
from scheduler.runs.strays import ThreadWatch, threads_in_the_way

__all__ = [
    "BackgroundTaskManager", "RunEntry", "RunRegistry", "Runner", "ThreadWatch", "prints_logged",
    "program_task", "threads_in_the_way",
]  # fmt: skip
