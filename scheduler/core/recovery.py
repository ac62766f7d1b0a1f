"""A task is taken up where the ledger left it: what was missed, interrupted, or not yet passed on."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import TypeGuard

from scheduler.core import events
from scheduler.core.lifecycle import Lifecycle
from scheduler.core.messages import Cause, Instant, Reason, Record, Run, Status, TaskHistory, run_id
from scheduler.core.tasks import CLOCK_DRIVEN, TaskState
from scheduler.core.ticks import Ticks


class Recovery:
    """What happens once to each task when a scheduler starts."""

    def __init__(self, life: Lifecycle, ticks: Ticks) -> None:
        self._life = life
        self._ticks = ticks
        self.started = False  # the first configuration is in force

    def recall(self, states: Iterable[TaskState], histories: Mapping[str, TaskHistory]) -> None:
        """What is on record of tasks, before anything is decided about any of them."""
        for state in states:
            known = histories.get(state.name)
            if known is None:
                continue
            if known.latest is not None:
                state.newest = known.latest.last_due or known.latest.due
            state.recorded = {record.due for record in _of(known, Status.QUEUED)}
            state.labels = {record.due: record.calendar for record in known.interrupted if record.calendar}

    def begin(self, state: TaskState, histories: Mapping[str, TaskHistory]) -> None:
        """Take up a task where the ledger left it (law 4), or for the first time."""
        life, history = self._life, histories.get(state.name)
        if history is not None:
            state.success = history.success
            if history.latest is not None:
                state.attempts = (history.latest.due, history.latest.attempt)
            if history.begun is not None:  # the latest row of a loop may be of a run by hand
                state.attempts = history.begun
            self.interrupted(history)
            state.last_due = history.expected_from - 1
            if history.latest is not None and not state.trigger.clock_driven:
                state.last_due = max(state.last_due, history.latest.last_due or history.latest.due)
            self._catch_up(state, history, _unfinished_upstream(state, histories, life.now))
        else:
            state.last_due = life.now if self.started else life.now - 1  # a reload: due after the change
        now_due = state.trigger.next_after(state.last_due, state.table)
        if now_due is not None and now_due == life.now:
            self._ticks.tick(state, now_due)

    def interrupted(self, history: TaskHistory) -> None:
        """What ran when the scheduler before ended has failed, also of a task that is no more."""
        life = self._life
        for record in _of(history, Status.RUNNING):
            life.out.append(record._replace(status=Status.FAILED, reason=Reason.INTERRUPTED, ended=life.now))
            life.announce(
                events.RUN_FAILED, "error", task=record.task,
                run_id=run_id(record.task, record.due, record.attempt), due=record.due,
                attempt=record.attempt, reason=Reason.INTERRUPTED,
                error="the scheduler ended while it ran",
            )  # fmt: skip

    def never_started(self, history: TaskHistory) -> None:
        """What waited when the scheduler before ended, of a task that is no more."""
        for record in _of(history, Status.QUEUED):
            self._life.out.append(record._replace(status=Status.MISSED, reason=Reason.DOWNTIME))
            self._life.announce(
                events.RUN_MISSED, "warning", task=record.task, due=record.due,
                reason=Reason.DOWNTIME, count=1,
            )  # fmt: skip

    def _catch_up(self, state: TaskState, history: TaskHistory, elsewhere: Container[Instant]) -> None:
        life = self._life
        first = state.trigger.next_after(state.last_due, state.table)
        fell_behind = first is not None and first <= life.now
        self._take_up_waiting(state, history, elsewhere, newest=not fell_behind)
        if first is not None and fell_behind:
            newest = self._ticks.fell_behind(state, first)
            state.last_due = newest
            life.admit(state, Run(state.name, newest, 1, Cause.CATCH_UP))
        self._make_up_stopped(state, history.latest)
        ran = [record for record in _of(history, Status.RUNNING) if record.cause != Cause.BACKFILL]
        if ran and state.active is None and not state.keeps_running:
            self._retry_interrupted(state, ran[-1])

    def _take_up_waiting(
        self, state: TaskState, history: TaskHistory, elsewhere: Container[Instant], *, newest: bool
    ) -> None:
        """What waited, and is on record: made up if it is the newest and law 4 lets it, else missed.

        Unless it is decided ``elsewhere``: further up its chain it is not over either.
        """
        for record in _of(history, Status.QUEUED):
            if record.due in elsewhere or record.due not in state.recorded:
                continue
            cause = Cause.CATCH_UP if record.cause in CLOCK_DRIVEN else Cause(record.cause)
            run = Run(state.name, record.due, 1, cause)
            is_newest = newest and record is history.interrupted[-1] and record == history.latest
            if is_newest and cause in _MADE_UP and state.may_start(run.due, self._life.now):
                self._life.admit(state, run)
            else:
                self._life.outcomes.miss(state, run.due, Reason.DOWNTIME, cause=Cause(record.cause))

    def _make_up_stopped(self, state: TaskState, latest: Record | None) -> None:
        """What came due while the scheduler stopped is missed like any other: made up, if law 4 lets it."""
        if not _stopped(latest) or state.active is not None or not state.trigger.clock_driven:
            return
        due = latest.due if latest.last_due is None else latest.last_due
        if not state.keeps_running and state.may_start(due, self._life.now):
            self._life.admit(state, Run(state.name, due, 1, Cause.CATCH_UP))

    def _retry_interrupted(self, state: TaskState, record: Record) -> None:
        """Once: what is interrupted again may itself be what ends the scheduler."""
        wanted = state.spec.if_interrupted == "retry" and record.cause != Cause.INTERRUPTED
        if wanted and state.may_start(record.due, self._life.now):
            state.retry_run = Run(state.name, record.due, record.attempt + 1, Cause.INTERRUPTED)
            self._life.restarts.due(state)

    def resume_chain(self, state: TaskState, history: Mapping[str, TaskHistory]) -> None:
        """What a crash left between a run and those that come after it."""
        known = history.get(state.name)
        if known is None or not state.dependents:
            return
        ran = [record for record in _of(known, Status.RUNNING) if record.cause != Cause.BACKFILL]
        if ran:
            record, again = ran[-1], state.active or state.queued
            if again is None or again.due != record.due:
                run = Run(state.name, record.due, record.attempt)
                self._life.outcomes.settle(state, run, Status.FAILED)
        elif known.latest is not None and known.latest.status in _PASSED_ON:
            for dependent in state.dependents:
                self._pass_on(dependent, known.latest, history.get(dependent.name))

    def _pass_on(self, dependent: TaskState, done: Record, known: TaskHistory | None) -> None:
        """It ended just before a crash, or was to be tried again: what comes after it has yet to hear."""
        if known is None or known.expected_from > done.due:
            return  # it was not expected of it then
        if known.latest is not None:
            reached = known.latest.last_due or known.latest.due
            if reached > done.due or (reached == done.due and not _stopped(known.latest)):
                return
        if done.status is not Status.COMPLETED:
            run = Run(dependent.name, done.due, 0, Cause.AFTER)
            self._life.outcomes.skip(dependent, run, Reason.UPSTREAM)
        elif self._life.now - (done.ended or done.due) <= dependent.spec.catchup:
            self._life.admit(dependent, Run(dependent.name, done.due, 1, Cause.AFTER))
        else:
            self._life.outcomes.miss(dependent, done.due, Reason.DOWNTIME, cause=Cause.AFTER)


# Of what waited; what an operator asked for, or an event, was for then.
_MADE_UP = frozenset({Cause.CATCH_UP, Cause.AFTER})
_PASSED_ON = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})  # when they are over


def _unfinished_upstream(
    state: TaskState, histories: Mapping[str, TaskHistory], now: Instant
) -> Container[Instant]:
    """The dues that are not over in what it comes after, or are made up there: it will hear of them."""
    known = None if state.upstream is None else histories.get(state.upstream.name)
    if known is None:
        return ()
    head, first = state.head, histories.get(state.head.name)
    newest = head.trigger.last_before(now + 1, head.table)
    found = {record.due for record in known.interrupted}
    if newest is not None and first is not None and first.expected_from <= newest:
        found.add(newest)
    return found


def _of(history: TaskHistory, status: Status) -> list[Record]:
    return [record for record in history.interrupted if record.status is status]


def _stopped(record: Record | None) -> TypeGuard[Record]:
    """Missed because the scheduler was stopping."""
    return record is not None and record.status is Status.MISSED and record.reason == Reason.STOPPED
