"""What becomes of a due run that is not started, and what a final outcome means for others (law 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.core import events
from scheduler.core.messages import Announce, Cause, Instant, Level, Reason, Record, Run, Status
from scheduler.core.tasks import TaskState

if TYPE_CHECKING:
    from scheduler.core.lifecycle import Lifecycle


class Outcomes:
    """Skipped or missed, and recorded as such; who comes ``after`` learns of it."""

    def __init__(self, life: Lifecycle) -> None:
        self.jump: tuple[Instant, Instant] = (0, 0)  # the stretch that the wall clock jumped over
        self._life = life

    def settle(self, state: TaskState, run: Run, status: Status) -> None:
        """Its outcome is final: it is the turn of those that come after it."""
        if state.labels:
            _hand_on_calendar(state, run.due)
        for dependent in state.dependents:
            name, due = dependent.name, run.due
            if status is Status.COMPLETED:
                # More than the first where a loop, run by hand, completes a second time.
                self._life.admit(dependent, Run(name, due, dependent.next_attempt(due), Cause.AFTER))
            else:
                self.skip(dependent, Run(name, due, 0, Cause.AFTER), Reason.UPSTREAM)

    def give_up(self, state: TaskState, run: Run, reason: Reason) -> None:
        """It has come, but is not started any more."""
        if reason is Reason.STOPPED and run.attempt == 1:
            self.miss(state, run.due, reason, cause=run.cause)
        else:
            self.skip(state, run, reason)

    def cancel(self, state: TaskState, run: Run) -> None:
        """An operator does not want it to be started."""
        if run.attempt > 1:  # the outcome of the attempt before stands
            self.skip(state, run, Reason.OPERATOR)
            return
        self.pass_over(state, run.due)
        state.recorded.discard(run.due)
        state.fold = None
        state.newest = max(state.newest, run.due)
        self._life.out.append(
            Record(state.name, run.due, run.attempt, Status.CANCELLED, Reason.OPERATOR,
                   ended=self._life.now, cause=run.cause, calendar=state.calendar_of(run.due))
        )  # fmt: skip
        about = {"task": state.name, "run_id": run.run_id, "due": run.due, "attempt": run.attempt}
        self._life.announce(events.RUN_CANCELLED, "info", **about, reason=Reason.OPERATOR)
        self.settle(state, run, Status.CANCELLED)

    def skip(self, state: TaskState, run: Run, reason: Reason) -> None:
        """A due run that is not started. Skips in a row for one reason are one row with a count."""
        if run.attempt > 1:  # the outcome of the attempt before stands
            if run.cause is not Cause.AFTER:  # a retry that never got its slot
                self.settle(state, run, Status.FAILED)
            return
        level: Level = "info" if reason in _QUIET else "warning"
        self._fold(state, run, Status.SKIPPED, reason, events.RUN_SKIPPED, level)
        self.settle(state, run, Status.SKIPPED)

    def refuse(self, state: TaskState, run: Run) -> None:
        """A run due past the horizon of a market that is set to refuse, and those that come after it."""
        # The older first: what is on record must never be ahead of what is not.
        self._life.queueing.give_up(state, Reason.OVERLAP if state.active else Reason.NO_SLOT)
        self._fold(state, run, Status.MISSED, Reason.REFUSED, events.RUN_MISSED, "warning")
        for dependent in state.dependents:
            self.refuse(dependent, Run(dependent.name, run.due, 1, Cause.AFTER))

    def _fold(
        self, state: TaskState, run: Run, status: Status, reason: Reason, event: str, level: Level
    ) -> None:
        """Record a run that is not started; those in a row for one reason are one row with a count."""
        self.pass_over(state, run.due)
        calendar = state.calendar_of(run.due)
        fold, has_row = state.fold, run.due in state.recorded
        state.recorded.discard(run.due)
        goes_on = fold is not None and fold.calendar == calendar and _continues(state, fold, run, reason)
        if fold is not None and goes_on and not has_row:
            fold = fold._replace(count=fold.count + 1, last_due=run.due)
        else:
            fold = Record(state.name, run.due, 0, status, reason, last_due=run.due, cause=run.cause,
                          calendar=calendar)  # fmt: skip
        if not goes_on:
            said = Announce(event, level, {"task": state.name, "due": run.due, "reason": reason})
            self._life.out.append(said)
            if run.cause is not Cause.EVENT:  # or two `on` tasks could skip each other for ever
                self._life.happened.append(said)
        state.fold = fold
        state.newest = max(state.newest, run.due)
        self._life.out.append(fold)

    def why_missed(self, first: Instant, last: Instant) -> Reason:
        """Why nobody looked at what was due from ``first`` to ``last``."""
        if self._life.stopping:
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
        self.pass_over(state, due)
        state.recorded.discard(due)
        state.fold = None
        if state.labels:
            _hand_on_calendar(state, due)
        last = due if last_due is None else last_due
        state.newest = max(state.newest, last)
        self._life.out.append(
            Record(state.name, due, 0, Status.MISSED, reason, count=count, last_due=last, cause=cause,
                   calendar=state.calendar_of(last))
        )  # fmt: skip
        self._life.announce(
            events.RUN_MISSED, "warning", task=state.name, due=due, reason=reason, count=count
        )
        for dependent in state.dependents:
            self.miss(dependent, due, reason, last_due=last_due, count=count, cause=Cause.AFTER)

    # What waits is on record where a crash would lose it.

    def put_on_record(self, state: TaskState, due: Instant, cause: Cause) -> None:
        """It waits: the ledger says so until it has an outcome."""
        if due not in state.recorded:
            self.pass_over(state, due)
            state.recorded.add(due)
            self._life.out.append(
                Record(state.name, due, 0, Status.QUEUED, cause=cause, calendar=state.calendar_of(due))
            )

    def pass_over(self, state: TaskState, due: Instant) -> None:
        """Before this due is on record, older ones that may still come are: else a crash loses them."""
        if state.upstream is not None:
            for older in sorted(state.upstream.unsettled(due)):
                self.put_on_record(state, older, Cause.AFTER)
        for dependent in state.dependents:
            self.pass_over(dependent, due)

    def abandon(self, state: TaskState) -> None:
        """It does not come after that task any more: nothing of what it awaits will come."""
        queued, upstream = state.queued, state.upstream
        dues = state.recorded - {queued.due if queued is not None else None}
        if upstream is not None:
            dues |= upstream.unsettled(self._life.now + 1)
        for due in sorted(dues, reverse=True):  # each puts the older ones on record, to wait
            self.miss(state, due, Reason.STOPPED, cause=Cause.AFTER)


_QUIET = frozenset({Reason.PAUSED, Reason.UPSTREAM, Reason.PARKED, Reason.BACKING_OFF})


def _continues(state: TaskState, fold: Record, run: Run, reason: Reason) -> bool:
    """Whether a run goes on with a stretch: nothing between the two is on record, or still to come."""
    is_alike = fold.reason == reason and fold.cause == run.cause
    is_next = fold.last_due is not None and fold.last_due == state.newest < run.due
    return is_alike and is_next and not any(due > state.newest for due in state.awaited(run.due))


def _hand_on_calendar(state: TaskState, due: Instant) -> None:
    """What comes after a run belongs to the same calendar, although that was replaced meanwhile."""
    label = state.labels.get(due)
    if label is not None:
        for dependent in state.dependents:
            if dependent.spec.market == state.spec.market:
                dependent.labels[due] = label
