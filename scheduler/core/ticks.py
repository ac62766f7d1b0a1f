"""What the clock makes due, when it is late too (law 4)."""

from __future__ import annotations

from scheduler.core.lifecycle import Lifecycle
from scheduler.core.messages import Cause, Instant, Run
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
        self._timetable.set(state.tick, upcoming)
        if state.keeps_running:
            span = state.span_at(due)
            if span is not None:
                self._timetable.set(state.timer(Kind.SPAN_END), span[1])
        self._life.admit(state, Run(state.name, due, 1, cause))

    def fell_behind(self, state: TaskState, due: Instant) -> Instant:
        """Count what was due from ``due`` until now and never looked at; the newest due of all."""
        now = self._life.now
        newest = state.trigger.last_before(now + 1, state.table)
        if newest is None or newest <= due:
            return due
        count = state.trigger.count_between(due, newest, state.table)
        last = state.trigger.last_before(newest, state.table)
        self._life.miss(state, due, self._life.why_missed(due, newest), last_due=last, count=count)
        return newest
