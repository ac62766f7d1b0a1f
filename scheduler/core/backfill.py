"""Runs of the past that an operator wants made: the oldest first, one at a time, when nothing else is due.

They say nothing about a task's health now, so supervision does not hear of them, and they are tried once.
What comes ``after`` such a run is made likewise. Their dues are accounted for already: none of them is
ever recorded as skipped or missed.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from scheduler.core import events
from scheduler.core.messages import SECOND, BackfillRequested, Cause, Priority, Run, RunEnded, Status
from scheduler.core.tasks import Kind, TaskState

if TYPE_CHECKING:
    from scheduler.core.admission import Admission
    from scheduler.core.lifecycle import Lifecycle
    from scheduler.core.timetable import Timetable

LOOK_AGAIN = SECOND  # while something stands in the way


class Backfill:
    """What is left to be made of one task."""

    __slots__ = ("completed", "failed", "left")

    def __init__(self) -> None:
        self.left: deque[Run] = deque()
        self.completed = 0
        self.failed = 0


class Backfills:
    """Those of all tasks."""

    def __init__(self, life: Lifecycle, timetable: Timetable[object], admission: Admission) -> None:
        self._life = life
        self._timetable = timetable
        self._admission = admission
        self._of: dict[str, Backfill] = {}

    def request(self, state: TaskState, event: BackfillRequested) -> None:
        """In place of what was left of an earlier one."""
        self.end(state, "replaced" if event.dues else "ended by an operator")
        if event.dues:
            self._life.announce(events.BACKFILL_STARTED, "info", task=state.name, runs=len(event.dues))
            self._add(state, [Run(state.name, due, attempt, Cause.BACKFILL) for due, attempt in event.dues])

    def _add(self, state: TaskState, runs: list[Run]) -> None:
        self._of.setdefault(state.name, Backfill()).left.extend(runs)
        self.next(state)

    def next(self, state: TaskState) -> None:
        """Start the next run, if there is one and nothing stands in its way; else look again soon."""
        backfill = self._of.get(state.name)
        if backfill is None or state.active is not None:
            return  # after the active run this is called again
        if not backfill.left:
            self.end(state, "")
        elif self._may_start(state):
            self._life.start(state, backfill.left.popleft())
        else:
            self._timetable.set(state.timer(Kind.BACKFILL), self._life.now + LOOK_AGAIN)

    def _may_start(self, state: TaskState) -> bool:
        """It takes no slot that is kept for critical tasks, and waits for all that the task owes."""
        busy = state.queued is not None or state.retry_run is not None or state.lingering is not None
        barred = state.paused or state.broken or state.spec.priority in self._admission.shedding
        return not (busy or barred) and self._admission.has_slot(Priority.NICE_TO_HAVE)

    def ended(self, state: TaskState, event: RunEnded) -> None:
        """One of its runs is over, and its slot is free again."""
        backfill = self._of.get(state.name)
        if backfill is not None:
            backfill.completed += event.status is Status.COMPLETED
            backfill.failed += event.status is not Status.COMPLETED
        if event.status is Status.COMPLETED and not self._life.stopping:
            for dependent in state.dependents:
                due = event.run.due
                self._add(dependent, [Run(dependent.name, due, dependent.next_attempt(due), Cause.BACKFILL)])

    def end(self, state: TaskState, reason: str) -> None:
        """What is left of it is not made."""
        backfill = self._of.pop(state.name, None)
        self._life.clear(state, Kind.BACKFILL)
        if backfill is not None:
            why: dict[str, Any] = {"reason": reason} if reason else {}
            self._life.announce(
                events.BACKFILL_ENDED, "warning" if backfill.left else "info", task=state.name,
                completed=backfill.completed, failed=backfill.failed, left=len(backfill.left), **why,
            )  # fmt: skip
