"""What the clock makes due, when it is late too (law 4)."""

from __future__ import annotations

from scheduler.core.lifecycle import Lifecycle
from scheduler.core.messages import Cause, Instant, Reason, Run
from scheduler.core.tasks import Kind, TaskState
from scheduler.core.timetable import Timetable


class Ticks:
    """Turns a task's tick into its run, and sets the next."""

    def __init__(self, life: Lifecycle, timetable: Timetable[object]) -> None:
        self._life = life
        self._timetable = timetable

    def tick(self, state: TaskState, due: Instant) -> None:
        now = self._life.now
        trigger, table = state.trigger, state.table
        cause = Cause.TICK
        upcoming = trigger.next_after(due, table)
        if upcoming is not None and upcoming <= now:
            due = self.fell_behind(state, due)
            upcoming = trigger.next_after(due, table)
            cause = Cause.CATCH_UP
        state.last_due = due
        if state.keeps_running:
            upcoming = state.next_tick(due)
            span = state.span_at(due)
            if span is not None:
                self._timetable.set(state.timer(Kind.SPAN_END), span[1])
        self._timetable.set(state.tick, upcoming)
        self._life.admit(state, Run(state.name, due, 1, cause))

    def fell_behind(self, state: TaskState, due: Instant) -> Instant:
        """Count what was due from ``due`` until now and never looked at; the newest due of all."""
        now = self._life.now
        newest = state.trigger.last_before(now + 1, state.table)
        if newest is None or newest <= due:
            return due
        while due < newest:
            until = min(newest, state.table.next_doubt(due))
            self._missed(state, due, until)
            due = state.trigger.next_after(until - 1, state.table) or newest
        return newest

    def _missed(self, state: TaskState, due: Instant, until: Instant) -> None:
        """What was due in ``[due, until)``, days all alike in what is known of them: one row."""
        count = state.trigger.count_between(due, until, state.table)
        last = state.trigger.last_before(until, state.table)
        refused = state.table.refuses(due)
        reason = Reason.REFUSED if refused else self._life.outcomes.why_missed(due, until)
        self._life.outcomes.miss(state, due, reason, last_due=last, count=count)
