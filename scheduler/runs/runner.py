"""Runs as the engine asks for them: ``StartRun`` and ``StopRun`` in, run events out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

from scheduler.core.durations import format_duration
from scheduler.core.messages import (
    SECOND,
    Event,
    Reason,
    Run,
    RunEnded,
    RunReturned,
    StartRun,
    Status,
    StopRun,
)
from scheduler.core.wording import encodable
from scheduler.executors.output import OutputLines
from scheduler.executors.places import place_of_thread
from scheduler.runs.deadlines import Deadlines
from scheduler.runs.manager import BackgroundTaskManager, error_text
from scheduler.runs.registry import RunEntry
from scheduler.runs.strays import current_nest, waiting_at

if TYPE_CHECKING:
    from scheduler.executors import Executors, Job, Outcome

_INSIST = 0.25  # seconds between cancellations of a run whose grace is over
_INSISTENCE = 4  # how many of them before it is given up


class _Verdict(NamedTuple):
    """What the outcome of a run will be called, since it was not left to end by itself."""

    status: Status
    reason: str
    error: str = ""


class _Execution(RunEntry):
    """A run in the hands of the runner, from StartRun to RunEnded (or RunReturned)."""

    job: Job | None = None
    verdict: _Verdict | None = None
    force_at: float | None = None  # loop time at which its grace is over
    timer: asyncio.TimerHandle | None = None  # and for which this is set
    over = False  # its work has ended: a verdict comes too late
    abandoned = False  # it was given up; its RunEnded has been sent
    printed: OutputLines | None = None  # what its callable prints

    def __init__(self, runner: Runner, action: StartRun) -> None:
        self.run, self.spec, self.durable = action
        self.run_id = self.run.run_id
        self.owner = self.run.task
        self.runner = runner

    def cancel(self) -> None:
        """What the manager's ``cancel_task`` means for a run of the daemon."""
        self.runner.end(self, _Verdict(Status.CANCELLED, Reason.OPERATOR), self.spec.stop_grace / SECOND)

    def where(self) -> str:
        """The line that its callable is at; "" when nobody can see it from here."""
        if self.job is not None and self.job.thread is not None:
            return place_of_thread(self.job.thread)
        return waiting_at(self.task) if self.task is not None else ""

    @property
    def output(self) -> OutputLines | None:
        if self.printed is None and self.job is not None and self.task is not None:
            job = self.job
            self.printed = OutputLines(lambda: job.log, self.task.get_loop().time)
        return self.printed

    # What the executors see of it (executors.base.Owner)

    def background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self.runner.manager.background(self, work)

    def leaked(self, kind: str, count: int, where: str) -> None:
        self.runner.manager.report_leak(self, kind, count, where)

    def returned(self) -> None:
        self.runner.returned(self)


class Runner:
    """Executes runs and answers every start with exactly one RunEnded."""

    def __init__(
        self,
        manager: BackgroundTaskManager,
        executors: Executors,
        on_event: Callable[[Event], None],
        *,
        durable: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """``on_event`` is called on the loop with RunEnded and RunReturned. ``durable`` is
        awaited before a durable run begins (``Ledger.durable``); it must bear cancellation.
        """
        self.manager = manager
        self._executors = executors
        self._on_event = on_event
        self._durable = durable
        self._deadlines = Deadlines(self._time_out)
        self._lingering: dict[Run, _Execution] = {}

    def start(self, action: StartRun) -> None:
        """Begin a run. DuplicateRunError when it is alive."""
        execution = _Execution(self, action)
        self.manager.registry.add(execution)
        self.manager.launch(execution, self._drive(execution))

    def stop(self, action: StopRun) -> None:
        """Ask, wait for the grace, then force. A run that has ended is left alone."""
        execution = self.manager.registry.live.get(action.run.run_id)
        if isinstance(execution, _Execution):
            self.end(execution, _Verdict(action.status, action.reason), action.grace / SECOND)

    async def shutdown(self, limit: float) -> list[str]:
        """Stop what has not been asked to stop, wait ``limit`` seconds at most, then force.

        The ids of the runs that could not be ended. Takes two seconds more than the limit at worst.
        """
        verdict = _Verdict(Status.CANCELLED, Reason.STOPPED)
        for execution in self._alive():
            if execution.verdict is None:
                self.end(execution, verdict, execution.spec.stop_grace / SECOND)
        await self._settle(limit)
        for execution in self._alive():
            self.end(execution, verdict, 0.0)
        await self._settle(_INSIST * (_INSISTENCE + 3))
        self._deadlines.close()
        return [execution.run_id for execution in (*self._alive(), *self._lingering.values())]

    def end(self, execution: _Execution, verdict: _Verdict, grace: float) -> None:
        """Ask a run to end; when ``grace`` seconds are over, insist. The first verdict stands."""
        loop = asyncio.get_running_loop()
        if execution.verdict is None and not execution.over:
            execution.verdict = verdict
        force_at = loop.time() + grace
        if execution.force_at is None or force_at < execution.force_at:
            execution.force_at = force_at
            self._set_timer(execution, loop.call_at(force_at, self._force, execution, _INSISTENCE))
        if not execution.stopping:
            execution.stopping = True
            if execution.job is not None:
                execution.job.stop()
            execution.interrupt()

    def returned(self, execution: _Execution) -> None:
        """A run that lingered has come back."""
        if self._lingering.pop(execution.run, None) is not None:
            self._on_event(RunReturned(execution.run))

    async def _drive(self, execution: _Execution) -> None:
        """The run's own task, from its first step to its end."""
        current_nest.set(execution)
        execution.begun = True
        spec = execution.spec
        outcome: Outcome | None = None
        error = ""
        try:
            if execution.durable and self._durable is not None and not execution.stopping:
                await self._durable()
            if not execution.stopping:
                executor, job = self._executors.prepare(execution.run, spec, execution)
                execution.job = job
                self._begin(execution)
                outcome = await executor.execute(job)
        except BaseException as problem:  # noqa: BLE001 - a callable that does not import, a stop while waiting
            error = "" if execution.stopping else error_text(problem)
        execution.over = True
        if spec.timeout is not None:
            self._deadlines.discard(execution, spec.timeout)
        if execution.noted:
            await self.manager.sweep(execution)
        if execution.timer is not None:
            execution.timer.cancel()
        if execution.abandoned:
            self.manager.registry.finish(execution, execution.status, execution.error)
            self.returned(execution)
        else:
            self._conclude(execution, outcome, error)

    def _begin(self, execution: _Execution) -> None:
        execution.status = Status.RUNNING
        execution.started = self.manager.registry.now()
        if execution.spec.timeout is not None:
            self._deadlines.add(execution, execution.spec.timeout, asyncio.get_running_loop())

    def _conclude(self, execution: _Execution, outcome: Outcome | None, error: str) -> None:
        """The outcome stands unless someone ended the run; an executor may add what it had to do."""
        if outcome is not None:
            status, reason, error, lingering = outcome
        else:
            status, reason, lingering = Status.FAILED, Reason.ERROR, False
        verdict = execution.verdict
        if verdict is not None:
            status, reason = verdict.status, verdict.reason
            error = f"{verdict.error}; {error}" if verdict.error and error else verdict.error or error
        if execution.printed is not None:
            execution.printed.finish()
        execution.job = None  # which knows its execution: no cycle is left for the collector
        self.manager.registry.finish(execution, status, error)
        if lingering:
            self._lingering[execution.run] = execution
        self._tell(execution, _Verdict(status, reason, error), lingering=lingering)

    def _tell(self, execution: _Execution, end: _Verdict, *, lingering: bool) -> None:
        """What a task raises may have any text; from here on it is one that can be kept and sent."""
        error = encodable(end.error)
        self._on_event(RunEnded(execution.run, end.status, end.reason, error, execution.started, lingering))

    def _time_out(self, execution: _Execution) -> None:
        spec = execution.spec
        error = f"timed out after {format_duration(spec.timeout or 0)}"
        if where := execution.where():
            error += f" at {where}"
        self.end(execution, _Verdict(Status.FAILED, Reason.TIMEOUT, error), spec.stop_grace / SECOND)

    def _force(self, execution: _Execution, insistence: int) -> None:
        """Its grace is over: cancel it again and again, and give it up at last."""
        if execution.job is not None:
            execution.job.forced = True
        if not insistence:
            self._abandon(execution)
            return
        execution.interrupt()
        loop = asyncio.get_running_loop()
        self._set_timer(execution, loop.call_later(_INSIST, self._force, execution, insistence - 1))

    def _abandon(self, execution: _Execution) -> None:
        """An asyncio task that swallows every cancellation cannot be killed either."""
        execution.abandoned = True
        where = execution.where()
        self.manager.report_leak(execution, "task", 1, where)
        status, reason, error = execution.verdict or _Verdict(Status.FAILED, Reason.ERROR)
        ignored = "it ignored its cancellation" + (f" at {where}" if where else "")
        execution.status, execution.error = status, f"{error}; {ignored}" if error else ignored
        self._lingering[execution.run] = execution
        self._tell(execution, _Verdict(status, reason, execution.error), lingering=True)

    def _alive(self) -> list[_Execution]:
        """The runs that are owed a RunEnded."""
        live = self.manager.registry.live.values()
        return [entry for entry in live if isinstance(entry, _Execution) and not entry.abandoned]

    async def _settle(self, limit: float) -> None:
        """Wait until no run is alive, for ``limit`` seconds at most."""
        tasks = [execution.task for execution in self._alive() if execution.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=max(0.0, limit))

    def _set_timer(self, execution: _Execution, timer: asyncio.TimerHandle) -> None:
        if execution.timer is not None:
            execution.timer.cancel()
        execution.timer = timer
