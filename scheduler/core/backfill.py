"""Runs of the past that an operator wants made: the oldest first, one at a time, when nothing else is due.

They say nothing about a task's health now, so supervision does not hear of them, and they are tried once.
What comes ``after`` such a run is made likewise, where it has not completed before. Their dues have an
outcome already: none of them is ever recorded as skipped or missed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from scheduler.core import events
from scheduler.core.messages import SECOND, BackfillRequested, Cause, Past, Priority, Reason, Run, Status
from scheduler.core.tasks import Kind, TaskState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scheduler.core.admission import Admission
    from scheduler.core.lifecycle import Lifecycle
    from scheduler.core.market import MarketTable
    from scheduler.core.messages import Duration, Instant, RunEnded
    from scheduler.core.timetable import Timetable
    from scheduler.core.triggers import Trigger

LOOK_AGAIN = 5 * SECOND  # while something stands in the way of which nobody tells


class Wanted(NamedTuple):
    """What of a stretch of time is to be made."""

    dues: tuple[Instant, ...]
    completed: int  # how many have been made already


def wanted(trigger: Trigger, table: MarketTable, start: Instant, until: Instant, past: Past) -> Wanted:
    """The dues in ``[start, until)`` that did not complete.

    By the present definition since that holds, and before the first one: there was no task then to be due.
    In between only what is on record: another trigger may have made other dues.
    """
    ticks, due = set(), trigger.next_after(start - 1, table)
    while due is not None and due < until:
        ticks.add(due)
        due = trigger.next_after(due, table)
    known = set(past.attempts)
    for first, last, count in past.stretches:
        within = {tick for tick in ticks if first <= tick <= last}
        known |= within if len(within) == count else set()
    by_definition = {tick for tick in ticks if past.began is None or tick < past.began or tick >= past.since}
    dues = (known & {due for due in known if start <= due < until}) | by_definition
    return Wanted(tuple(sorted(dues - past.completed)), len(dues & past.completed))


class Backfill:
    """What is left to be made of one task, and what has been made of its dues, here and before."""

    __slots__ = ("attempts", "completed", "done", "failed", "left", "quickest")

    def __init__(self) -> None:
        self.left: list[Instant] = []  # in falling order
        self.attempts: dict[Instant, int] = {}
        self.done: set[Instant] = set()
        self.completed = 0  # of this backfill
        self.failed = 0
        self.quickest: Duration | None = None  # of its runs

    def learn(self, past: Past) -> None:
        for due, attempt in past.attempts.items():
            self.attempts[due] = max(attempt, self.attempts.get(due, 0))
        self.done |= past.completed

    def add(self, dues: Iterable[Instant]) -> int:
        """How many of them are new."""
        before = len(self.left)
        self.left = sorted({*self.left, *dues} - self.done, reverse=True)
        return len(self.left) - before


class Backfills:
    """Those of all tasks. Dues that wait or run in the ordinary way are left to that."""

    def __init__(self, life: Lifecycle, timetable: Timetable[object], admission: Admission) -> None:
        self._life = life
        self._timetable = timetable
        self._admission = admission
        self._of: dict[str, Backfill] = {}

    def left(self, task: str) -> tuple[Instant, ...]:
        """What is still to be made, the oldest first."""
        backfill = self._of.get(task)
        return () if backfill is None else tuple(reversed(backfill.left))

    def request(self, state: TaskState, event: BackfillRequested) -> None:
        """Beside what is left of earlier ones; without dues, all of that is given up."""
        if not event.dues:
            self.end(state, "ended by an operator")
        elif not (self._life.stopping or state.keeps_running):
            self._learn(state, event.past)
            fresh = self._of[state.name].add(set(event.dues) - state.in_hand - self._coming(state))
            if fresh:
                self._life.announce(events.BACKFILL_STARTED, "info", task=state.name, runs=fresh)
            self.next(state)

    def _learn(self, state: TaskState, past: Mapping[str, Past]) -> None:
        """Of the task and all that comes after it, before any of that is made."""
        backfill = self._of.setdefault(state.name, Backfill())
        if state.name in past:
            backfill.learn(past[state.name])
        for dependent in state.dependents:
            self._learn(dependent, past)

    def next(self, state: TaskState) -> None:
        """Start the next run, if there is one and nothing stands in its way; else look again."""
        backfill = self._of.get(state.name)
        if backfill is None or state.active is not None:
            return  # after the active run this is called again
        if not backfill.left:
            if not self._may_come(state):
                self.end(state, "")
        elif self._may_start(state, backfill):
            due = backfill.left.pop()
            attempt = backfill.attempts[due] = backfill.attempts.get(due, 0) + 1
            self._life.start(state, Run(state.name, due, attempt, Cause.BACKFILL))
        elif not state.paused:  # then nothing happens before it is resumed
            self._timetable.set(state.timer(Kind.BACKFILL), self._life.now + LOOK_AGAIN)

    def _coming(self, state: TaskState) -> set[Instant]:
        """What a backfill further up its chain is still to make, and then bring it."""
        upstream = state.upstream
        return set() if upstream is None else {*self.left(upstream.name), *self._coming(upstream)}

    def _may_come(self, state: TaskState) -> bool:
        """Whether a backfill further up its chain may still bring it dues."""
        upstream = state.upstream
        return upstream is not None and upstream.name in self._of

    def _may_start(self, state: TaskState, backfill: Backfill) -> bool:
        """It waits for all that the task owes, and takes no slot that is kept for critical tasks."""
        busy = state.queued is not None or state.retry_run is not None or state.lingering is not None
        barred = state.paused or state.broken or state.spec.priority in self._admission.shedding
        if busy or barred or self._life.stopping or not self._admission.has_slot(Priority.NICE_TO_HAVE):
            return False
        tick = state.head.tick.when  # what is due next should not have to wait for it
        return tick is None or backfill.quickest is None or self._life.now + backfill.quickest <= tick

    def ended(self, state: TaskState, event: RunEnded) -> None:
        """One of its runs is over."""
        backfill, run = self._of.get(state.name), event.run
        if backfill is None:
            return  # ended by an operator
        took = self._life.now - state.started
        backfill.quickest = took if backfill.quickest is None else min(took, backfill.quickest)
        if event.status is Status.COMPLETED:
            backfill.completed += 1
            backfill.done.add(run.due)
            for dependent in state.dependents:
                if run.due not in dependent.in_hand:
                    self._of.setdefault(dependent.name, Backfill()).add([run.due])
                    self.next(dependent)
        elif event.reason == Reason.RESTARTED:
            backfill.add([run.due])
        else:
            backfill.failed += 1

    def end(self, state: TaskState, reason: str) -> None:
        """What is left of it is not made."""
        backfill = self._of.pop(state.name, None)
        self._life.clear(state, Kind.BACKFILL)
        if backfill is None:
            return
        if backfill.left or backfill.completed or backfill.failed:
            why: dict[str, Any] = {"reason": reason} if reason else {}
            self._life.announce(
                events.BACKFILL_ENDED, "warning" if backfill.left else "info", task=state.name,
                completed=backfill.completed, failed=backfill.failed, left=len(backfill.left), **why,
            )  # fmt: skip
        for dependent in state.dependents:
            self.next(dependent)
