"""Alarms, not triggers: ``fresh_within`` (a success is overdue) and ``finish_by`` (a run is not done)."""

from __future__ import annotations

from scheduler.core import events
from scheduler.core.durations import format_duration
from scheduler.core.lifecycle import Lifecycle
from scheduler.core.messages import Duration, Instant
from scheduler.core.tasks import Kind, TaskState
from scheduler.core.timetable import Timetable
from scheduler.core.triggers import At


class Alarms:
    """Watches what should have succeeded by now."""

    def __init__(self, timetable: Timetable[object], life: Lifecycle) -> None:
        self._timetable = timetable
        self._life = life

    def arm(self, state: TaskState, *, anew: bool) -> None:
        """Set the alarms of a task that is new or has changed (``anew``), or whose calendar has."""
        within, by = state.spec.fresh_within, state.spec.finish_by
        if within is not None and anew:
            since = state.success if state.success is not None else self._life.now
            self._timetable.set(state.timer(Kind.FRESH), since + within)
        elif within is not None and not state.stale:
            self._sooner(state, within)
        if by is not None:
            self._timetable.set(state.timer(Kind.FINISH), At((by,)).next_after(self._life.now, state.table))

    def _sooner(self, state: TaskState, within: Duration) -> None:
        """What waits for the next run to be due may not have to wait so long by a new calendar."""
        timer = state.timer(Kind.FRESH)
        upcoming = _next_due(state, self._life.now)
        if upcoming is not None and (timer.when is None or upcoming + within < timer.when):
            self._timetable.set(timer, upcoming + within)

    def succeeded(self, state: TaskState) -> None:
        within = state.spec.fresh_within
        if within is None:
            return
        if state.stale:
            state.stale = False
            self._life.announce(events.TASK_FRESH, "info", task=state.name)
        self._timetable.set(state.timer(Kind.FRESH), self._life.now + within)

    def fresh_due(self, state: TaskState) -> None:
        """No success for ``fresh_within``: stale if the task had something due in that time."""
        within = state.spec.fresh_within
        if within is None:
            return
        now = self._life.now
        if state.keeps_running and state.active is not None:
            self._timetable.set(state.timer(Kind.FRESH), now + within)
        elif state.span_at(now) or state.source.count_between(now - within, now + 1, state.head.table):
            state.stale = True
            self._life.announce(
                events.TASK_STALE, "error", task=state.name, fresh_within=format_duration(within),
                last_success=state.success,
            )  # fmt: skip
        else:  # nothing was wanted of it, for instance overnight: look again after its next run
            upcoming = _next_due(state, now)
            self._timetable.set(state.timer(Kind.FRESH), None if upcoming is None else upcoming + within)

    def finish_due(self, state: TaskState, at: Instant) -> None:
        """``finish_by`` has come: the run due last must have succeeded."""
        by = state.spec.finish_by
        if by is None:
            return
        due = state.source.last_before(at, state.head.table)
        if due is not None and (state.success is None or state.success < due):
            self._life.announce(events.TASK_UNFINISHED, "error", task=state.name, due=due, finish_by=by.text)
        self._timetable.set(state.timer(Kind.FINISH), At((by,)).next_after(at, state.table))


def _next_due(state: TaskState, after: Instant) -> Instant | None:
    """What comes after a task of another market is due by the calendar of that one."""
    head = state.head
    return head.trigger.next_after(after, head.table)
