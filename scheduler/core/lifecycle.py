"""One due run, from the tick to its outcome: admit, start, end, try again, settle.

Every path ends in exactly one outcome for ``(task, due)`` (law 3): ``_start`` leads to ``ended``,
everything else to ``skip`` or ``miss``. ``_settle`` is where an outcome becomes final, and where
the tasks that come ``after`` learn of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scheduler.core import events
from scheduler.core.admission import Admission
from scheduler.core.memory import HEALTH, Memory
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
from scheduler.core.restarts import Restarts
from scheduler.core.supervision import SETTLED_AFTER, Health, Verdict
from scheduler.core.tasks import PROMPT, Kind, TaskState
from scheduler.core.timetable import Timer, Timetable
from scheduler.core.waiting import LOOK_EVERY, WaitingRoom

CANCEL_GRACE = 2 * SECOND  # at shutdown, between the cancellation of a run and its end by force

Announcer = Callable[..., None]


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
        self.jump: tuple[Instant, Instant] = (0, 0)  # the stretch that the wall clock jumped over
        self._timetable = timetable
        self._admission = admission
        self.restarts = Restarts(self, timetable, jitter)
        self.memory = Memory(self._remember)
        self._verbose = verbose  # announce what went well, too
        self._waiting = WaitingRoom()  # for a slot
        self._look: Timer[object] = Timer(self, Kind.WAITING, -1)

    def announce(self, event: str, level: Level, **fields: Any) -> None:
        action = Announce(event, level, fields)
        self.out.append(action)
        self.happened.append(action)

    def _remember(self, change: Remember) -> None:
        self.out.append(change)

    # A due run comes in.

    def admit(self, state: TaskState, run: Run) -> None:
        """Start a run that is due, or say why not."""
        if run.due >= state.table.refused_from and run.cause in _BY_CALENDAR and state.table.refuses(run.due):
            self.refuse(state, run)
            return
        if self.stopping:
            self.miss(state, run.due, Reason.STOPPED, cause=run.cause)
            return
        if (
            self.now - run.due > PROMPT
            and run.cause in _CLOCK_DRIVEN
            and not state.may_start(run.due, self.now)
        ):
            self.miss(state, run.due, self.why_missed(run.due, run.due))
            return
        refusal = self._refusal(state, run)
        if refusal is not None:
            # The older first: what is on record must never be ahead of what is not.
            self.give_up_queued(state, Reason.OVERLAP if state.active else Reason.NO_SLOT)
            self.skip(state, run, refusal)
        elif state.active is not None:
            self._overlap(state, run)
        else:
            self.start_or_wait(state, run)

    def _refusal(self, state: TaskState, run: Run) -> Reason | None:
        if state.lingering is not None:
            self.announce(
                events.TASK_LEAKED, "error", task=state.name, run_id=state.lingering.run_id,
                kind="thread", detail="timed out and has not returned; not started again until it does",
            )  # fmt: skip
            return Reason.OVERLAP
        if state.refused:
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
        if overlap is Overlap.SKIP and not state.keeps_running:
            self.skip(state, run, Reason.OVERLAP)
            return
        self._queue(state, run, Reason.OVERLAP)
        if not state.keeps_running:
            since = self._late_from(run)
            latest = min(state.latest_start(since), state.table.next_flip(since) - 1)
            self._timetable.set(state.timer(Kind.DEADLINE), latest + 1)
        if overlap is Overlap.CANCEL_PREVIOUS:
            self.stop_run(state, Status.CANCELLED, Reason.SUPERSEDED)

    def _queue(self, state: TaskState, run: Run, reason: Reason) -> None:
        """Let it wait, in place of an older one that does; for no longer than it may start late."""
        if state.queued is not None:
            self.skip(state, state.queued, reason)
        state.queued = run

    def _late_from(self, run: Run) -> Instant:
        return run.due if run.cause in _CLOCK_DRIVEN else self.now

    def give_up_queued(self, state: TaskState, reason: Reason) -> None:
        run, state.queued = state.queued, None
        self.clear(state, Kind.DEADLINE)
        if run is not None:
            if reason is Reason.STOPPED and run.attempt == 1:
                self.miss(state, run.due, reason, cause=run.cause)
            else:
                self.skip(state, run, reason)

    def deadline(self, state: TaskState) -> None:
        """What waits behind a run may have to give up; unless a newer tick has taken its place."""
        run = state.queued
        if run is not None and not state.may_start(run.due, self.now):
            self.give_up_queued(state, Reason.OVERLAP)

    # It starts.

    def start_or_wait(self, state: TaskState, run: Run) -> None:
        if self._admission.has_slot(state.spec.priority):
            self.give_up_queued(state, Reason.NO_SLOT)  # an older one that got none
            self._start(state, run)
        else:
            self._queue(state, run, Reason.NO_SLOT)
            self._waiting.add(state, run, self._late_from(run))
            if self._look.when is None:
                self._timetable.set(self._look, self.now + LOOK_EVERY)

    def _start(self, state: TaskState, run: Run) -> None:
        spec = state.spec
        state.active = run
        state.started = self.now
        state.fold = None
        if run.cause is not Cause.MANUAL or state.keeps_running:
            state.attempts = (run.due, run.attempt)
        state.looping = state.keeps_running
        state.slot = spec.priority
        self._admission.take(spec.priority)
        out = self.out
        out.append(
            Record(run.task, run.due, run.attempt, Status.RUNNING, "", self.now, None, "", 1, None,
                   run.cause, state.calendar_of(run.due))
        )  # fmt: skip
        out.append(StartRun(run, spec, not (state.is_pace or run.cause is Cause.AFTER)))
        if state.keeps_running:
            self._timetable.set(state.timer(Kind.SETTLED), self.now + SETTLED_AFTER)
        if run.attempt > 1:
            for follower in state.followers:
                self.restart(follower)

    def stop_run(
        self, state: TaskState, status: Status, reason: Reason, grace: Duration | None = None
    ) -> None:
        run = state.active
        if run is not None:
            self.out.append(StopRun(run, status, reason, state.spec.stop_grace if grace is None else grace))

    def revive(self, state: TaskState) -> None:
        """Start a keep_running task whose `during` holds: at boot, after a resume, by a new definition."""
        span = state.span_at(self.now)
        if span is None or state.active or state.queued or state.retry_run:
            return
        due = self.now if span[0] is None else span[0]
        self.admit(state, Run(state.name, due, state.next_attempt(due)))

    def _resume_loop(self, state: TaskState, run: Run) -> None:
        """What ended was not the loop that is due now: a run by hand, of an older stretch or definition."""
        span = state.span_at(self.now)
        other = run.cause is Cause.MANUAL or not state.looping or (span and span[0] not in (None, run.due))
        if other and not (state.paused or state.refused or state.supervisor.health is Health.PARKED):
            self.revive(state)

    def restart(self, state: TaskState) -> None:
        """End the active run to start it again at once."""
        self.stop_run(state, Status.CANCELLED, Reason.RESTARTED)

    # It ends.

    def ended(self, state: TaskState, event: RunEnded) -> None:
        run, status, reason = event.run, event.status, event.reason
        state.active = None
        if event.lingering:
            state.lingering = run
        else:
            self._release(state)
        if state.keeps_running:
            self.clear(state, Kind.SETTLED)
        if self.stopping:
            self.clear(state, Kind.STOP)
        self.out.append(
            Record(run.task, run.due, run.attempt, status, reason, event.started or state.started, self.now,
                   event.error, 1, None, run.cause, state.calendar_of(run.due))
        )  # fmt: skip
        again = False
        if status is Status.COMPLETED:
            again = self._completed(state, run, reason)
        elif status is Status.FAILED:
            again = self._failed(state, run, event)
        else:
            self.announce(events.RUN_CANCELLED, "info", **_about(run), reason=reason)
            again = self.restarts.after_cancellation(state, run, reason)
        if state.dependents and not again:
            self.settle(state, run, status)
        if state.keeps_running and not (again or self.stopping or state.removed):
            self._resume_loop(state, run)
        if state.queued is not None or self._waiting:
            self._next(state)

    def _completed(self, state: TaskState, run: Run, reason: str) -> bool:
        """Whether the run is to be made again: a keep_running task that returned by itself."""
        if self._verbose:
            self.announce(
                events.RUN_COMPLETED, "debug", **_about(run), seconds=(self.now - state.started) / SECOND
            )
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

    def _failed(self, state: TaskState, run: Run, event: RunEnded) -> bool:
        self.announce(events.RUN_FAILED, "error", **_about(run), reason=event.reason, error=event.error)
        return self.restarts.after_failure(state, run, event.error or event.reason)

    def proven_healthy(self, state: TaskState) -> None:
        state.success = self.now
        if state.supervisor.succeeded() is Verdict.RECOVER:
            self.memory.forget(state.name, HEALTH)
            self.announce(events.TASK_RECOVERED, "info", task=state.name)

    # Its outcome is final.

    def settle(self, state: TaskState, run: Run, status: Status) -> None:
        for dependent in state.dependents:
            if status is Status.COMPLETED:
                self.admit(dependent, Run(dependent.name, run.due, 1, Cause.AFTER))
            else:
                self.skip(dependent, Run(dependent.name, run.due, 0, Cause.AFTER), Reason.UPSTREAM)

    def skip(self, state: TaskState, run: Run, reason: Reason) -> None:
        """A due run that is not started. Skips in a row for one reason are one row with a count."""
        if run.attempt > 1:  # a queued retry that never got its slot: the failed attempt stands
            self.settle(state, run, Status.FAILED)
            return
        level: Level = "info" if reason in _QUIET else "warning"
        self._fold(state, run, Status.SKIPPED, reason, events.RUN_SKIPPED, level)
        self.settle(state, run, Status.SKIPPED)

    def refuse(self, state: TaskState, run: Run) -> None:
        """A run due past the horizon of a market that is set to refuse, and those that come after it."""
        self.give_up_queued(state, Reason.OVERLAP if state.active else Reason.NO_SLOT)  # the older first
        self._fold(state, run, Status.MISSED, Reason.REFUSED, events.RUN_MISSED, "warning")
        for dependent in state.dependents:
            self.refuse(dependent, Run(dependent.name, run.due, 1, Cause.AFTER))

    def _fold(
        self, state: TaskState, run: Run, status: Status, reason: Reason, event: str, level: Level
    ) -> None:
        """Record a run that is not started; those in a row for one reason are one row with a count."""
        calendar = state.calendar_of(run.due)
        fold = state.fold
        if fold is not None and fold.calendar == calendar and _continues(fold, run, reason):
            fold = fold._replace(count=fold.count + 1, last_due=run.due)
        else:
            fold = Record(state.name, run.due, 0, status, reason, last_due=run.due, cause=run.cause,
                          calendar=calendar)  # fmt: skip
            said = Announce(event, level, {"task": state.name, "due": run.due, "reason": reason})
            self.out.append(said)
            if run.cause is not Cause.EVENT:  # or two `on` tasks could skip each other for ever
                self.happened.append(said)
        state.fold = fold
        self.out.append(fold)

    def why_missed(self, first: Instant, last: Instant) -> Reason:
        """Why nobody looked at what was due from ``first`` to ``last``."""
        if self.stopping:
            return Reason.STOPPED
        jumped = self.jump[0] < last and first <= self.jump[1]
        return Reason.CLOCK_JUMP if jumped else Reason.DOWNTIME

    def miss(
        self,
        state: TaskState,
        due: Instant,
        reason: Reason,
        *,
        last_due: Instant | None = None,
        count: int = 1,
        cause: Cause = Cause.TICK,
    ) -> None:
        """Due runs that were never looked at in time: one row with a count."""
        state.fold = None
        last = due if last_due is None else last_due
        self.out.append(
            Record(state.name, due, 0, Status.MISSED, reason, count=count, last_due=last, cause=cause,
                   calendar=state.calendar_of(last))
        )  # fmt: skip
        self.announce(events.RUN_MISSED, "warning", task=state.name, due=due, reason=reason, count=count)
        for dependent in state.dependents:
            self.miss(dependent, due, reason, last_due=last_due, count=count, cause=Cause.AFTER)

    # Slots come free.

    def returned(self, state: TaskState) -> None:
        """A lingering run has come back: its slot is free, and the task may run again."""
        state.lingering = None
        self._release(state)
        self._next(state)

    def _release(self, state: TaskState) -> None:
        slot, state.slot = state.slot, None
        if slot is not None:
            self._admission.release(slot)

    def _next(self, state: TaskState) -> None:
        waiting = self._waiting
        if state.queued is not None and state.active is None and not self.stopping:
            self.clear(state, Kind.DEADLINE)
            waiting.add(state, state.queued, self._late_from(state.queued))  # the room decides who goes first
        while waiting and (waiter := waiting.first()) is not None:
            if not self._admission.has_slot(waiter.state.spec.priority):
                return
            waiting.pop()
            state, run = waiter.state, waiter.run
            refusal = Reason.NO_SLOT if waiter.too_late(self.now) else self._refusal(state, run)
            if refusal is None:
                state.queued = None
                self._start(state, run)
            else:
                self.give_up_queued(state, refusal)

    def give_up_late_waiters(self) -> None:
        """Runs that got no slot in the time that law 4 gives them."""
        for waiter in self._waiting.too_late(self.now):
            self.give_up_queued(waiter.state, Reason.NO_SLOT)
        waiting = self._waiting.tasks()
        self.memory.waiting(waiting, self.now)
        self._timetable.set(self._look, self.now + LOOK_EVERY if waiting else None)

    def clear(self, state: TaskState, kind: int) -> None:
        timer = state.timers.get(kind)
        if timer is not None and timer.when is not None:
            self._timetable.set(timer, None)


_CLOCK_DRIVEN = frozenset({Cause.TICK, Cause.CATCH_UP})
# What a market may refuse: not what an operator asks for, nor an alarm's run for what happened.
_BY_CALENDAR = frozenset({Cause.TICK, Cause.CATCH_UP, Cause.AFTER})
_QUIET = frozenset({Reason.PAUSED, Reason.UPSTREAM, Reason.PARKED, Reason.BACKING_OFF})


def _continues(fold: Record, run: Run, reason: Reason) -> bool:
    last = fold.due if fold.last_due is None else fold.last_due
    return fold.reason == reason and fold.cause == run.cause and last < run.due


def _about(run: Run) -> dict[str, Any]:
    return {"task": run.task, "run_id": run.run_id, "due": run.due, "attempt": run.attempt}
