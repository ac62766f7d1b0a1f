"""A task is taken up where the ledger left it: what was missed, interrupted, or not yet passed on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard

from scheduler.core import events
from scheduler.core.lifecycle import Lifecycle
from scheduler.core.messages import Cause, Reason, Record, Run, Status, TaskHistory, run_id
from scheduler.core.tasks import TaskState
from scheduler.core.ticks import Ticks


class Recovery:
    """What happens once to each task when a scheduler starts."""

    def __init__(self, life: Lifecycle, ticks: Ticks) -> None:
        self._life = life
        self._ticks = ticks
        self.started = False  # the first configuration is in force

    def begin(self, state: TaskState, history: TaskHistory | None) -> None:
        """Take up a task where the ledger left it (law 4), or for the first time."""
        life = self._life
        if history is not None:
            if history.latest is not None:
                state.attempts = (history.latest.due, history.latest.attempt)
                if history.latest.status is Status.COMPLETED:
                    state.success = history.latest.ended
            if history.begun is not None:  # the latest row of a loop may be of a run by hand
                state.attempts = history.begun
            for record in history.interrupted:
                life.out.append(
                    record._replace(status=Status.FAILED, reason=Reason.INTERRUPTED, ended=life.now)
                )
                life.announce(
                    events.RUN_FAILED, "error", task=state.name,
                    run_id=run_id(state.name, record.due, record.attempt), due=record.due,
                    attempt=record.attempt, reason=Reason.INTERRUPTED,
                    error="the scheduler ended while it ran",
                )  # fmt: skip
            state.last_due = history.expected_from - 1
            self._catch_up(state, history)
        else:
            state.last_due = life.now if self.started else life.now - 1  # a reload: due after the change
        now_due = state.trigger.next_after(state.last_due, state.table)
        if now_due is not None and now_due == life.now:
            self._ticks.tick(state, now_due)

    def _catch_up(self, state: TaskState, history: TaskHistory) -> None:
        life = self._life
        first = state.trigger.next_after(state.last_due, state.table)
        if first is not None and first <= life.now:
            newest = self._ticks.fell_behind(state, first)
            state.last_due = newest
            life.admit(state, Run(state.name, newest, 1, Cause.CATCH_UP))
        self._make_up_stopped(state, history.latest)
        latest = history.interrupted[-1] if history.interrupted else None
        if latest is not None and state.active is None and not state.keeps_running:
            self._retry_interrupted(state, latest)

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
        if known.interrupted:
            record = known.interrupted[-1]
            alive = state.active is not None and state.active.due == record.due  # it is tried again
            if not alive:
                run = Run(state.name, record.due, record.attempt)
                self._life.settle(state, run, Status.FAILED)
        elif known.latest is not None and known.latest.status is Status.COMPLETED:
            for dependent in state.dependents:
                self._start_after(dependent, known.latest, history.get(dependent.name))

    def _start_after(self, dependent: TaskState, done: Record, known: TaskHistory | None) -> None:
        """An upstream run that completed just before a crash still has its dependents to start."""
        if known is None or known.latest is None:
            told = known is None or known.expected_from > done.due
        else:
            told = known.latest.due > done.due or (
                known.latest.due == done.due and not _stopped(known.latest)
            )
        if told:
            return
        if self._life.now - (done.ended or done.due) <= dependent.spec.catchup:
            self._life.admit(dependent, Run(dependent.name, done.due, 1, Cause.AFTER))
        else:
            self._life.miss(dependent, done.due, Reason.DOWNTIME, cause=Cause.AFTER)


def _stopped(record: Record | None) -> TypeGuard[Record]:
    """Missed because the scheduler was stopping."""
    return record is not None and record.status is Status.MISSED and record.reason == Reason.STOPPED
