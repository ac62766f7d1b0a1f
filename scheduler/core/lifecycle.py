"""One due run, from the tick to its end: admit, start, end, try again.

Every path ends in exactly one outcome for ``(task, due)`` (law 3): ``start`` leads to ``ended``, and
what is not started to ``Outcomes``. What has to wait is in the hands of ``Queueing``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scheduler.core import events
from scheduler.core.admission import Admission
from scheduler.core.backfill import Backfills
from scheduler.core.loops import Loops
from scheduler.core.memory import HEALTH, STUCK, Memory
from scheduler.core.messages import (
    SECOND,
    Action,
    Announce,
    Cause,
    Duration,
    Instant,
    Level,
    Overlap,
    Reason,
    Record,
    Remember,
    Run,
    RunEnded,
    StartRun,
    Status,
    StopRun,
)
from scheduler.core.outcomes import Outcomes
from scheduler.core.queueing import Queueing
from scheduler.core.restarts import Restarts
from scheduler.core.supervision import SETTLED_AFTER, Health, Verdict
from scheduler.core.tasks import CLOCK_DRIVEN, PROMPT, Kind, TaskState
from scheduler.core.timetable import Timetable

CANCEL_GRACE = 2 * SECOND  # at shutdown, between the cancellation of a run and its end by force


class Lifecycle:
    """The engine's hands: it turns decisions into actions, collected in ``out``."""

    def __init__(
        self,
        timetable: Timetable[object],
        admission: Admission,
        jitter: Callable[[], float],
        *,
        verbose: bool,
    ) -> None:
        self.out: list[Action] = []
        self.happened: list[Announce] = []  # events that `on` tasks may wait for
        self.now: Instant = 0
        self.stopping = False
        self.outcomes = Outcomes(self)
        self.queueing = Queueing(self, timetable, admission)
        self.loops = Loops(self)
        self.restarts = Restarts(self, timetable, jitter)
        self.backfills = Backfills(self, timetable, admission)
        self.memory = Memory(self._remember)
        self._timetable = timetable
        self._admission = admission
        self._verbose = verbose  # announce what went well, too

    def announce(self, event: str, level: Level, **fields: Any) -> None:
        action = Announce(event, level, fields)
        self.out.append(action)
        self.happened.append(action)

    def _remember(self, change: Remember) -> None:
        self.out.append(change)

    def clear(self, state: TaskState, kind: int) -> None:
        timer = state.timers.get(kind)
        if timer is not None and timer.when is not None:
            self._timetable.set(timer, None)

    # A due run comes in.

    def admit(self, state: TaskState, run: Run) -> None:
        """Start a run that is due, or say why not."""
        if run.due >= state.table.refused_from and run.cause in _BY_CALENDAR and state.table.refuses(run.due):
            self.outcomes.refuse(state, run)
            return
        if self.stopping:
            self.outcomes.give_up(state, run, Reason.STOPPED)
            return
        if (
            self.now - run.due > PROMPT
            and run.cause in CLOCK_DRIVEN
            and not state.may_start(run.due, self.now)
        ):
            self.outcomes.miss(state, run.due, self.outcomes.why_missed(run.due, run.due))
            return
        refusal = self.refusal(state, run)
        if refusal is not None:
            # The older first: what is on record must never be ahead of what is not.
            self.queueing.give_up(state, Reason.OVERLAP if state.active else Reason.NO_SLOT)
            self.outcomes.skip(state, run, refusal)
        elif state.active is not None:
            self._overlap(state, run)
        else:
            self.queueing.start_or_wait(state, run)

    def refusal(self, state: TaskState, run: Run) -> Reason | None:
        """Why a run may not be started at present."""
        if state.lingering is not None:
            self.announce(
                events.TASK_LEAKED, "error", task=state.name, run_id=state.lingering.run_id,
                kind="run", detail="timed out and has not returned; not started again until it does",
            )  # fmt: skip
            return Reason.OVERLAP
        if state.broken:
            return Reason.PARKED
        if run.cause is Cause.MANUAL:
            return None
        if state.paused:
            return Reason.PAUSED
        if state.supervisor.health is Health.PARKED:
            return Reason.PARKED
        if state.spec.priority in self._admission.shedding and not state.keeps_running:
            return Reason.SHED
        waits = state.retry_run is not None and state.timer(Kind.RETRY).when is not None
        return Reason.BACKING_OFF if waits else None

    def _overlap(self, state: TaskState, run: Run) -> None:
        overlap = state.spec.overlap
        if state.active is not None and state.active.cause is Cause.BACKFILL:
            overlap = Overlap.QUEUE_ONE  # what is due now does not yield to what was
        if overlap is Overlap.SKIP and not state.keeps_running:
            self.outcomes.skip(state, run, Reason.OVERLAP)
            return
        self.queueing.wait_behind(state, run)
        if overlap is Overlap.CANCEL_PREVIOUS:
            self.stop_run(state, Status.CANCELLED, Reason.SUPERSEDED)

    # It starts.

    def start(self, state: TaskState, run: Run) -> None:
        """There is a slot for it, and nothing in its way."""
        spec = state.spec
        self.outcomes.pass_over(state, run.due)
        state.recorded.discard(run.due)
        state.active = run
        state.started = self.now
        state.fold = None
        state.newest = max(state.newest, run.due)
        is_backfill = run.cause is Cause.BACKFILL
        if not is_backfill and (run.cause is not Cause.MANUAL or state.keeps_running):
            state.attempts = (run.due, run.attempt)
        state.looping = state.keeps_running
        state.slot = spec.priority
        state.label = label = state.calendar_of(run.due)
        self._admission.take(spec.priority)
        out = self.out
        out.append(
            Record(run.task, run.due, run.attempt, Status.RUNNING, "", self.now, None, "", 1, None,
                   run.cause, label)
        )  # fmt: skip
        out.append(StartRun(run, spec, is_backfill or not (state.is_pace or run.cause is Cause.AFTER)))
        if state.keeps_running:
            self._timetable.set(state.timer(Kind.SETTLED), self.now + SETTLED_AFTER)
        if run.attempt > 1 and not is_backfill:
            for follower in state.followers:
                self.restart(follower)

    def stop_run(
        self, state: TaskState, status: Status, reason: Reason, grace: Duration | None = None
    ) -> None:
        run = state.active
        if run is not None:
            self.out.append(StopRun(run, status, reason, state.spec.stop_grace if grace is None else grace))

    def restart(self, state: TaskState) -> None:
        """End the active run to start it again at once."""
        self.stop_run(state, Status.CANCELLED, Reason.RESTARTED)

    # It ends.

    def ended(self, state: TaskState, event: RunEnded) -> None:
        run, status, reason = event.run, event.status, event.reason
        state.active = None
        if event.lingering:
            state.lingering = run
            self.memory.keep(state.name, STUCK, self.now, due=run.due)
        else:
            self.queueing.release(state)
        if state.keeps_running:
            self.clear(state, Kind.SETTLED)
        if self.stopping:
            self.clear(state, Kind.STOP)
        self.out.append(
            Record(run.task, run.due, run.attempt, status, reason, event.started or state.started, self.now,
                   event.error, 1, None, run.cause, state.label)
        )  # fmt: skip
        if run.cause is Cause.BACKFILL:
            self._announce_end(state, event)
            self.backfills.ended(state, event)
            if state.keeps_running:  # by a new definition
                self.loops.revive(state)
        else:
            self._go_on(state, event)
        if state.queued is not None or self.queueing:
            self.queueing.next(state)
        self.backfills.next(state)

    def _go_on(self, state: TaskState, event: RunEnded) -> None:
        """What the end of a run means for its task and for others."""
        run, status = event.run, event.status
        self._announce_end(state, event)
        again = False
        if status is Status.COMPLETED:
            again = self._completed(state, run, event.reason)
        elif status is Status.FAILED:
            again = self.restarts.after_failure(state, run, event.error or event.reason)
        else:
            again = self.restarts.after_cancellation(state, run, event.reason)
        if state.dependents and not again:
            self.outcomes.settle(state, run, status)
        if state.keeps_running and not (again or self.stopping or state.removed):
            self.loops.ended(state, run)

    def _announce_end(self, state: TaskState, event: RunEnded) -> None:
        about = _about(event.run)
        if event.status is Status.FAILED:
            self.announce(events.RUN_FAILED, "error", **about, reason=event.reason, error=event.error)
        elif event.status is Status.CANCELLED:
            self.announce(events.RUN_CANCELLED, "info", **about, reason=event.reason)
        elif self._verbose:
            self.announce(events.RUN_COMPLETED, "debug", **about, seconds=(self.now - state.started) / SECOND)

    def _completed(self, state: TaskState, run: Run, reason: str) -> bool:
        """Whether the run is to be made again: a keep_running task that returned by itself."""
        if (
            state.keeps_running
            and reason != Reason.PHASE_ENDED
            and state.spec.restart.policy == "always"
            and state.span_at(self.now) is not None
        ):
            state.success = self.now
            return self.restarts.after_failure(state, run, "returned")
        self.proven_healthy(state)
        return False

    def proven_healthy(self, state: TaskState) -> None:
        state.success = self.now
        if state.supervisor.succeeded() is Verdict.RECOVER:
            self.memory.forget(state.name, HEALTH)
            self.announce(events.TASK_RECOVERED, "info", task=state.name)

    def returned(self, state: TaskState) -> None:
        """A lingering run has come back: its slot is free, and the task may run again."""
        state.lingering = None
        self.memory.forget(state.name, STUCK)
        self.queueing.release(state)
        self.restarts.returned(state)
        self.queueing.next(state)


# What a market may refuse: not what an operator asks for, nor an alarm's run for what happened.
_BY_CALENDAR = frozenset({Cause.TICK, Cause.CATCH_UP, Cause.AFTER})


def _about(run: Run) -> dict[str, Any]:
    return {"task": run.task, "run_id": run.run_id, "due": run.due, "attempt": run.attempt}
