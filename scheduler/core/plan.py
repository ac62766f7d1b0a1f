"""The plan: every clock-driven run that will be due, and what a change of tasks or calendar does to it."""

from __future__ import annotations

from collections import Counter
from heapq import merge
from typing import TYPE_CHECKING, NamedTuple

from scheduler.core.during import overlapping
from scheduler.core.triggers import session_of
from scheduler.errors import OutsideTableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from scheduler.core.market import MarketTable
    from scheduler.core.messages import Instant, Priority, TaskSpec


class PlannedRun(NamedTuple):
    """A run that will be due."""

    due: Instant
    task: str
    priority: Priority
    market: str
    phase: str
    session: str | None  # date of the latest session begun, or of the anchor's own; None before the first
    trigger: str  # the part of the trigger that makes it due: `close+15m`, `every 5s`
    assumed: bool = False  # whether what its market does on that day is only assumed


class Difference(NamedTuple):
    """How many runs of a task a date had and will have, in trading time and in the rest."""

    date: str  # ISO, in the market's zone
    task: str
    open_before: int
    open_after: int
    closed_before: int
    closed_after: int

    def __str__(self) -> str:
        """``2026-11-25 market-monitoring: -4500 open, +375 closed``."""
        changes = (
            (self.open_after - self.open_before, "open"),
            (self.closed_after - self.closed_before, "closed"),
        )
        return f"{self.date} {self.task}: " + ", ".join(f"{n:+} {kind}" for n, kind in changes if n)


def plan(
    specs: Iterable[TaskSpec], tables: Mapping[str, MarketTable], start: Instant, until: Instant
) -> Iterator[PlannedRun]:
    """Every clock-driven run due in ``[start, until)``, by due, priority and name, made as it is read.

    OutsideTableError, at once, when a table does not cover that stretch: an answer that stopped short
    would look like a day without runs.
    """
    streams = [_runs(spec, table, start, until) for spec, table in _clock_driven(specs, tables, start, until)]
    return merge(*streams, key=lambda run: (run.due, run.priority, run.task))


def counts(
    specs: Iterable[TaskSpec], tables: Mapping[str, MarketTable], start: Instant, until: Instant
) -> dict[str, int]:
    """How many runs ``plan`` has of each task, by arithmetic. OutsideTableError as there."""
    return {
        spec.name: spec.trigger.count_between(start, until, table)
        for spec, table in _clock_driven(specs, tables, start, until)
    }


def difference(
    old: tuple[Iterable[TaskSpec], Mapping[str, MarketTable]],
    new: tuple[Iterable[TaskSpec], Mapping[str, MarketTable]],
    start: Instant,
    until: Instant,
) -> list[Difference]:
    """The dates and tasks whose number of runs in ``[start, until)`` differs, by date and task.

    ``old`` and ``new`` are tasks with the tables they go by. OutsideTableError as with ``plan``.
    """
    before, after = _daily(*old, start, until), _daily(*new, start, until)
    none: Counter[bool] = Counter()
    found = []
    for date, task in sorted(before.keys() | after.keys()):
        was, will = before.get((date, task), none), after.get((date, task), none)
        if was != will:
            found.append(Difference(date, task, was[True], will[True], was[False], will[False]))
    return found


def _clock_driven(
    specs: Iterable[TaskSpec], tables: Mapping[str, MarketTable], start: Instant, until: Instant
) -> list[tuple[TaskSpec, MarketTable]]:
    pairs = [(spec, tables[spec.market]) for spec in specs if spec.enabled and spec.trigger.clock_driven]
    for _, table in pairs:
        if start < until and not table.first <= start <= until <= table.last:
            raise OutsideTableError(
                f"{table.name}: the calendar reaches from {table.days[0].date} to {table.days[-1].date}"
            )
    return pairs


def _runs(spec: TaskSpec, table: MarketTable, start: Instant, until: Instant) -> Iterator[PlannedRun]:
    trigger = spec.trigger
    due = trigger.next_after(start - 1, table)
    while due is not None and due < until:
        session = session_of(trigger, due, table)
        piece = table.phase_at(due)
        yield PlannedRun(
            due=due,
            task=spec.name,
            priority=spec.priority,
            market=spec.market,
            phase=piece.phase,
            session=None if session is None else session.date,
            trigger=trigger.text_at(due, table),
            assumed=piece.assumed,
        )
        due = trigger.next_after(due, table)


def _daily(
    specs: Iterable[TaskSpec], tables: Mapping[str, MarketTable], start: Instant, until: Instant
) -> dict[tuple[str, str], Counter[bool]]:
    """Runs per date and task, by whether the market trades; what is not there is none."""
    daily: dict[tuple[str, str], Counter[bool]] = {}
    for spec, table in _clock_driven(specs, tables, start, until):
        ends = [day.midnight for day in table.days[1:]] + [table.last]
        for day, end in zip(table.days, ends, strict=True):
            for piece in overlapping(max(start, day.midnight), min(until, end), table):
                low, high = max(start, piece.start), min(until, piece.end)
                number = spec.trigger.count_between(low, high, table)
                if number:
                    daily.setdefault((day.date, spec.name), Counter())[piece.trading] += number
    return daily
