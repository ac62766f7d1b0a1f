"""Async callables, on the event loop."""

from __future__ import annotations

from scheduler.executors.base import DONE, Job, Outcome


class InlineExecutor:
    """Awaits the callable in the run's own asyncio task."""

    async def execute(self, job: Job) -> Outcome:
        target = job.target
        assert target is not None
        try:
            result = (
                target.call(**job.arguments())
                if target.wants_ctx or job.spec.work.arguments
                else target.call()
            )
            if hasattr(result, "__await__"):  # not so for a sync callable that asks for the loop
                await result
        except BaseException as problem:  # noqa: BLE001 - SystemExit ends the task, not the daemon
            return job.failed(problem)
        return DONE
