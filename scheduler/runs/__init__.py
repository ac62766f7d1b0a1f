"""Runs: started, owned, ended. Nothing else in this package creates asyncio tasks (law 6)."""

from __future__ import annotations

from scheduler.runs.manager import BackgroundTaskManager
from scheduler.runs.registry import RunEntry, RunRegistry
from scheduler.runs.runner import Runner

__all__ = ["BackgroundTaskManager", "RunEntry", "RunRegistry", "Runner"]
