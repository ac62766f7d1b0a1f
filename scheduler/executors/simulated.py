"""Rehearsals without --live: time passes, nothing is executed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from scheduler.core.messages import TaskSpec
from scheduler.executors.base import DONE, Job, Outcome


class SimulatedExecutor:
    """Every run succeeds after the duration that is remembered for its task."""

    def __init__(self, seconds: Callable[[TaskSpec], float]) -> None:
        self._seconds = seconds  # of the loop's time; 0 for a task never seen

    async def execute(self, job: Job) -> Outcome:
        seconds = self._seconds(job.spec)
        if seconds > 0:
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError as problem:
                return job.failed(problem)
        return DONE
