"""The plan: every clock-driven run that will be due, and what a change of tasks or calendar does to it."""

from __future__ import annotations

from collections import Counter
from heapq import merge
from typing import TYPE_CHECKING, NamedTuple

from scheduler.core.during import overlapping
from scheduler.core.triggers import PLAIN, At, Cron, Every, KeepRunning, Trigger, session_of
from scheduler.core.walltime import to_wall
from scheduler.errors import OutsideTableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from scheduler.core.market import MarketTable
    from scheduler.core.messages import Instant, Priority, TaskSpec


_FEW = 24  # dues within a phase that a picture can tell apart


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
    moved: str = ""  # of an appointment: from when to when
    too_late: bool = False  # it moved to a time that has passed: it does not run at all

    def __str__(self) -> str:
        """``2026-11-25 mm: -4500 open, +375 closed``, or ``2026-11-25 eod: 15:45 to 17:15``."""
        changes = (
            (self.open_after - self.open_before, "open"),
            (self.closed_after - self.closed_before, "closed"),
        )
        parts = [f"{n:+} {kind}" for n, kind in changes if n and not self.moved] or [self.moved]
        late = ", which has passed: it does not run" if self.too_late else ""
        return f"{self.date} {self.task}: {', '.join(parts)}{late}"


def plan(
    specs: Iterable[TaskSpec], tables: Mapping[str, MarketTable], start: Instant, until: Instant
) -> Iterator[PlannedRun]:
    """Every clock-driven run due in ``[start, until)``, by due, priority and name, made as it is read.

    OutsideTableError, at once, when a table does not cover that stretch: an answer that stopped short
    would look like a day without runs.
    """
    streams = [_runs(spec, table, start, until) for spec, table in _clock_driven(specs, tables, start, until)]
    return merge(*streams, key=lambda run: (run.due, run.priority, run.task))


def outline(
    trigger: Trigger, table: MarketTable, start: Instant, until: Instant
) -> Iterator[tuple[Instant, Instant, int]]:
    """What is due in ``[start, until)`` as stretches: first, last, how many. For pictures.

    Few dues within a phase are told one by one. Of a loop, from when to when it runs.
    """
    if isinstance(trigger, KeepRunning):
        yield from _spans(trigger, table, start, until)
        return
    for piece in overlapping(start, until, table):
        low, high = max(start, piece.start), min(until, piece.end)
        count = trigger.count_between(low, high, table)
        first, last = trigger.next_after(low - 1, table), trigger.last_before(high, table)
        if not count or first is None or last is None:
            continue
        if count > _FEW:
            yield first, last, count
            continue
        while first is not None and first < high:
            yield first, first, 1
            first = trigger.next_after(first, table)


def _spans(
    trigger: KeepRunning, table: MarketTable, start: Instant, until: Instant
) -> Iterator[tuple[Instant, Instant, int]]:
    t: Instant | None = start
    while t is not None and t < until:
        span = trigger.span_at(t, table)
        if span is None:
            t = trigger.next_after(t, table)
            continue
        end = until if span[1] is None else min(span[1], until)
        yield t, end, 1
        t = None if span[1] is None else span[1]


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
    """The dates and tasks whose runs in ``[start, until)`` differ, by date and task.

    ``old`` and ``new`` are tasks with the tables they go by. A pace is compared by number, an
    appointment by time. OutsideTableError as with ``plan``.
    """
    before, after = _daily(*old, start, until), _daily(*new, start, until)
    found = []
    for date, task in sorted(before.keys() | after.keys()):
        was, will = before.get((date, task), _NOTHING), after.get((date, task), _NOTHING)
        if was != will and not (was.by_clock and will.by_clock and was.total == will.total):
            moved, too_late = _moved(was.times, will.times, start)
            if moved or (was.open, was.closed) != (will.open, will.closed):
                found.append(
                    Difference(date, task, was.open, will.open, was.closed, will.closed, moved, too_late)
                )
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


class _Day(NamedTuple):
    """The runs of a task on a date, in trading time and in the rest."""

    open: int = 0
    closed: int = 0
    times: tuple[tuple[Instant, str], ...] = ()  # of an appointment, those of the whole day, with ``15:45``
    by_clock: bool = False  # whatever the phases are

    @property
    def total(self) -> int:
        return self.open + self.closed


_NOTHING = _Day()


def _daily(
    specs: Iterable[TaskSpec], tables: Mapping[str, MarketTable], start: Instant, until: Instant
) -> dict[tuple[str, str], _Day]:
    """Runs per date and task; what is not there is none."""
    daily = {}
    for spec, table in _clock_driven(specs, tables, start, until):
        trigger = spec.trigger
        ends = [day.midnight for day in table.days[1:]] + [table.last]
        for day, end in zip(table.days, ends, strict=True):
            counted = Counter({True: 0, False: 0})
            for piece in overlapping(max(start, day.midnight), min(until, end), table):
                low, high = max(start, piece.start), min(until, piece.end)
                counted[piece.trading] += trigger.count_between(low, high, table)
            in_window = day.midnight < until and start < end
            times = _times(trigger, table, day.midnight, end) if in_window and isinstance(trigger, At) else ()
            if times or counted.total():
                found = _Day(counted[True], counted[False], times, _by_clock(trigger))
                daily[day.date, spec.name] = found
    return daily


def _times(trigger: At, table: MarketTable, start: Instant, end: Instant) -> tuple[tuple[Instant, str], ...]:
    found = []
    due = trigger.next_after(start - 1, table)
    while due is not None and due < end:
        found.append((due, to_wall(due, table.zone).strftime("%H:%M:%S").removesuffix(":00")))
        due = trigger.next_after(due, table)
    return tuple(found)


def _moved(
    before: tuple[tuple[Instant, str], ...], after: tuple[tuple[Instant, str], ...], start: Instant
) -> tuple[str, bool]:
    """From when to when appointments that were still to come were moved; whether that has passed."""
    gone = [one for one in before if one not in after and one[0] >= start]
    come = [one for one in after if one not in before]
    if not (gone and come):
        return "", False
    times = [", ".join(text for _, text in side) for side in (gone, come)]
    return " to ".join(times), any(due < start for due, _ in come)


def _by_clock(trigger: Trigger) -> bool:
    """Whether no phase disturbs it."""
    is_plain = isinstance(trigger, Cron) or (isinstance(trigger, Every) and PLAIN in trigger.pace)
    return is_plain and getattr(trigger, "during", None) is None
