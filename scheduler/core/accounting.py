"""Is every due run accounted for (law 3)? What the calendar expects against what is on record.

Expected is what arithmetic says of the trigger. Of what an ``after`` task is in the end driven by,
too: each due of the task at the head of its chain is one of its own. Nothing is expected of tasks that
no clock drives (``on``, and what comes after those) nor of runs by hand, and a loop is expected once at
each start of its ``during``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from scheduler.core.market import MarketTable
from scheduler.core.messages import Instant
from scheduler.core.tasks import TaskState
from scheduler.core.triggers import Trigger


class Row(NamedTuple):
    """A final outcome on record: of one due, or of all from ``due`` to ``last_due``."""

    due: Instant
    last_due: Instant


class Expected(NamedTuple):
    """A task whose runs can be counted in advance, and which of them are in the engine's hands."""

    name: str
    chain: tuple[str, ...]  # itself, what it comes after, and so on to the one that the clock drives
    trigger: Trigger  # of the last of these
    table: MarketTable
    in_flight: tuple[Instant, ...]  # dues that run, or wait for a slot, a retry or one further up the chain
    goes_on: bool = True  # else nothing more is expected of it, but what was due before may be in flight


class Finding(NamedTuple):
    """What of a task has no outcome on record; all of it is due in ``[since, until)``."""

    in_flight: int
    unaccounted: int
    since: Instant
    until: Instant

    @property
    def open(self) -> int:
        return self.in_flight + self.unaccounted

    def joined(self, other: Finding) -> Finding:
        """With what was found in another window."""
        return Finding(
            self.in_flight + other.in_flight,
            self.unaccounted + other.unaccounted,
            min(self.since, other.since),
            max(self.until, other.until),
        )


class Audit(NamedTuple):
    """The latest audit. Counts are since the audits began; ``expected`` is the sum of the other three."""

    at: Instant | None = None  # None: there has been none yet
    expected: int = 0
    accounted: int = 0
    in_flight: int = 0
    unaccounted: int = 0
    by_task: Mapping[str, int] = {}  # what is unaccounted for; tasks with nothing are left out


def expectations(states: Iterable[TaskState]) -> list[Expected]:
    """What is expected of the tasks of an engine, at this moment."""
    return list(map(_expectation, states))


def _expectation(state: TaskState) -> Expected:
    head, chain = state, [state.name]
    in_flight = [run.due for run in (state.active, state.queued, state.retry_run) if run is not None]
    while head.upstream is not None:
        head = head.upstream
        chain.append(head.name)
        in_flight += [run.due for run in (head.active, head.queued, head.retry_run) if run is not None]
    goes_on = head.trigger.clock_driven and not state.removed
    return Expected(state.name, tuple(chain), head.trigger, head.table, tuple(in_flight), goes_on)


def examine(task: Expected, since: Instant, until: Instant, rows: Iterable[Row]) -> Finding:
    """Compare the runs due in ``[since, until)`` with the rows due then or reaching into it."""
    record = _OnRecord(task, since, rows)
    lacking = record.lacks(since, until)
    if not lacking:
        return Finding(0, 0, until, until)
    instants = range(since, until + 1)
    first = since + bisect_left(instants, 1, key=lambda t: record.lacks(since, t)) - 1
    last = since + bisect_left(instants, 0, key=lambda t: -record.lacks(t, until)) - 1
    in_flight = sum(record.lacks(due, due + 1) for due in set(task.in_flight) if since <= due < until)
    return Finding(in_flight, lacking - in_flight, first, last + 1)


class _OnRecord:
    """The dues of a task that have an outcome; rows of what was never due, as by hand, do not count."""

    def __init__(self, task: Expected, since: Instant, rows: Iterable[Row]) -> None:
        """``since`` bounds what will be asked."""
        self._trigger, self._table = task.trigger, task.table
        singles: set[Instant] = set()
        self._stretches: list[tuple[Instant, Instant]] = []  # half-open, apart from one another
        reach = since
        for due, last_due in sorted(rows):
            if last_due > due:
                if last_due >= reach:
                    self._stretches.append((max(due, reach), last_due + 1))
                    reach = last_due + 1
            elif self._expected(due, due + 1):
                singles.add(due)
        self._singles = sorted(
            due for due in singles if not any(start <= due < end for start, end in self._stretches)
        )

    def lacks(self, a: Instant, b: Instant) -> int:
        """How many runs due in ``[a, b)`` have no outcome."""
        singles = bisect_left(self._singles, b) - bisect_left(self._singles, a)
        in_stretches = (
            self._expected(max(a, start), min(b, end))
            for start, end in self._stretches
            if start < b and a < end
        )
        return self._expected(a, b) - singles - sum(in_stretches)

    def _expected(self, a: Instant, b: Instant) -> int:
        return self._trigger.count_between(a, b, self._table)
