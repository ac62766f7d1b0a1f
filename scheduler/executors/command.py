"""Commands: an argument list, no shell, a process group of their own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from scheduler.core.template import expand
from scheduler.executors.base import DONE, Job, Outcome, describe
from scheduler.executors.child import Child


class CommandExecutor:
    """Executes ``spec.work.argv``."""

    def __init__(self, hold: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self._hold = hold  # VirtualClock.hold: the loop cannot see a process work

    async def execute(self, job: Job) -> Outcome:
        try:
            values = template_values(job)
            argv = [expand(argument, values) for argument in job.spec.work.argv]
            child = Child(job, argv, environment(job))
        except (OSError, ValueError) as problem:  # no such program, a NUL in an argument
            return job.failed_with(describe(problem))
        with self._hold():
            status = await child.wait()
        if job.stopping:
            return job.stopped()
        if status == 0:
            return DONE
        return job.failed_with(child.error())


def template_values(job: Job) -> dict[str, str]:
    """What the placeholders stand for. In an `on` run ``{task}`` is whom the event is about."""
    run, facts = job.run, job.facts
    return {
        "task": run.subject if run.event else run.task,
        "run_id": run.run_id,
        "due": job.due.isoformat(),
        "session": facts.session,
        "phase": facts.phase,
        "attempt": str(run.attempt),
        "priority": job.spec.priority.label,
        "market": job.spec.market,
        "event": run.event,
        "subject": run.subject,
    }


def environment(job: Job) -> dict[str, str]:
    """The same as ``SCHEDULER_*`` variables, and what the task's `env` adds."""
    values = {f"SCHEDULER_{name.upper()}": value for name, value in template_values(job).items()}
    values["SCHEDULER_TASK"] = job.run.task
    return {**values, **job.spec.work.env}
