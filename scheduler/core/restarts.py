"""A run is tried again: after a failure by policy, after a cancellation for its sake (law 5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from scheduler.core import events
from scheduler.core.durations import format_duration
from scheduler.core.messages import MILLISECOND, Cause, Instant, Priority, Reason, Run, Status
from scheduler.core.supervision import Health, Verdict, backoff
from scheduler.core.tasks import Kind, TaskState
from scheduler.core.timetable import Timetable

if TYPE_CHECKING:
    from scheduler.core.lifecycle import Lifecycle


def parking_ends_by(task: str) -> str:
    """What ends the parking of a task."""
    return f"`scheduler resume {task}`, or a changed definition"


class Restarts:
    """Retries of one engine's tasks; ``retry_run`` of a task is the attempt that waits."""

    def __init__(self, life: Lifecycle, timetable: Timetable[object], jitter: Callable[[], float]) -> None:
        self._life = life
        self._timetable = timetable
        self._jitter = jitter

    def after_failure(self, state: TaskState, run: Run, cause: str) -> bool:
        """Ask supervision; whether the run will be tried again."""
        life = self._life
        if life.stopping or state.removed:
            return False
        verdict = state.supervisor.failed(life.now)
        failures = state.supervisor.consecutive
        if verdict is Verdict.PARK:
            life.announce(
                events.TASK_PARKED, "error", task=state.name, reason=cause, failures=failures,
                ends_by=parking_ends_by(state.name),
            )  # fmt: skip
        if verdict is Verdict.ALARM_AND_RETRY:
            life.announce(
                events.TASK_CRASH_LOOPING, "critical", task=state.name, reason=cause, failures=failures
            )
        wanted = verdict in (Verdict.RETRY, Verdict.ALARM_AND_RETRY) and not state.paused
        until = self._backoff_until(state) if wanted else None
        if until is not None and not state.may_retry(run.due, until):
            until = None
        if until is not None:
            self.give_up(state)  # an older run, in whose place this one is tried again
        life.memory.failed(state, life.now, cause, until)
        if until is None:
            return False
        self._timetable.set(state.timer(Kind.RETRY), until)
        self._announce(state, run, until, cause)
        return True

    def after_cancellation(self, state: TaskState, run: Run, reason: str) -> bool:
        """Start again at once what was ended only to be started again; whether it was."""
        life = self._life
        resumed = reason == Reason.PAUSED and not state.paused
        if life.stopping or state.removed or not (resumed or reason in (Reason.RESTARTED, Reason.RELOADED)):
            return False
        if state.may_retry(run.due, life.now):
            self.give_up(state)  # as above
            self._announce(state, run, life.now, reason)
            self.due(state)
            return True
        return False

    def due(self, state: TaskState) -> None:
        """The backoff is over."""
        life = self._life
        run = state.retry_run
        if run is None or self._waits_for_its_return(state, run):
            return
        busy = state.active is not None or state.lingering is not None
        parked = bool(state.broken) or state.supervisor.health is Health.PARKED
        barred = life.stopping or state.paused or parked or busy
        if barred or not state.may_retry(run.due, life.now):
            state.retry_run = None
            self._settle(state, run)
        else:
            life.queueing.start_or_wait(state, run)
            state.retry_run = None  # until here it was not over

    def returned(self, state: TaskState) -> None:
        """The run that could not be ended has come back."""
        if state.retry_run is not None and state.timer(Kind.RETRY).when is None:
            self.due(state)

    def _waits_for_its_return(self, state: TaskState, run: Run) -> bool:
        """Whether a loop whose thread has not come back is tried again as soon as it has: no tick will."""
        return (
            state.keeps_running and state.lingering is not None and state.may_retry(run.due, self._life.now)
        )

    def give_up(self, state: TaskState) -> None:
        run, state.retry_run = state.retry_run, None
        self._life.clear(state, Kind.RETRY)
        if run is not None:
            self._settle(state, run)

    def _settle(self, state: TaskState, run: Run) -> None:
        """It is not tried again: the failed attempt stands."""
        self._life.memory.tried_again(state.name, None)
        self._life.outcomes.settle(state, run, Status.FAILED)

    def clock_stepped(self, state: TaskState) -> None:
        """The timers of backoffs have moved along."""
        timer = state.timers.get(Kind.RETRY)
        if timer is not None and timer.when is not None:
            self._life.memory.tried_again(state.name, timer.when)

    def _backoff_until(self, state: TaskState) -> Instant:
        now = self._life.now
        piece = state.piece_at(now)
        trading = piece is not None and piece.trading
        until = now + backoff(state.supervisor.consecutive, trading=trading, jitter=self._jitter)
        if state.spec.priority is Priority.CRITICAL and piece is not None:
            until = min(until, state.table.next_change(now))
        return until

    def _announce(self, state: TaskState, run: Run, until: Instant, reason: str) -> None:
        again = state.retry_run = run._replace(attempt=run.attempt + 1, cause=Cause.RETRY)
        state.supervisor.restarts += 1
        policy = state.spec.restart
        last = "it is parked" if policy.then == "park" else "an alarm, and it is tried on"
        delay = (until - self._life.now) // MILLISECOND * MILLISECOND
        stuck = {"provided": "the run that timed out has returned by then"} if state.lingering else {}
        self._life.announce(
            events.TASK_RESTARTING, "warning" if delay else "info", task=state.name, run_id=again.run_id,
            due=again.due, attempt=again.attempt, delay=format_duration(delay), reason=reason,
            after_the_last=f"{policy.burst} failures in {format_duration(policy.window)}: {last}", **stuck,
        )  # fmt: skip
