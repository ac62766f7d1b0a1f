"""One trading day: where its phases begin and end.

Works on numbers alone. ``WallClock`` turns nanoseconds since the date's midnight on the clock on the
wall into an instant, so the same rules lay out a real day and the nominal one that `checks` uses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from scheduler.core.anchors import Anchor
from scheduler.core.market import BREAK, OPEN
from scheduler.core.marketspec import Interval, Phases, wall
from scheduler.core.messages import DAY, Duration, Instant

WallClock: TypeAlias = Callable[[Duration], Instant]
Complain: TypeAlias = Callable[[Interval, str], None]
Note: TypeAlias = Callable[[str, Interval, "Span | None"], None]
"""Told of a phase that is not where it was written, but here; None: it is left out."""


class Span(NamedTuple):
    """A half-open interval."""

    start: Instant
    end: Instant


class Occurrence(NamedTuple):
    """One phase, once."""

    start: Instant
    end: Instant
    phase: str
    trading: bool  # `open`, or carved out of it
    segment_start: Instant  # of the open segment round it; outside trading the same as start

    def later(self, duration: Duration) -> Occurrence:
        """The same phase on another day."""
        start, end, phase, trading, segment_start = self
        return Occurrence(start + duration, end + duration, phase, trading, segment_start + duration)


class _Placed(NamedTuple):
    span: Span
    rank: int  # in the order in which they are written
    name: str
    interval: Interval
    segment: Span | None  # the open segment that it is carved out of

    @property
    def text(self) -> str:
        return f"{self.name} ({self.interval.text})"


def open_segments(
    intervals: Iterable[Interval],
    clock: WallClock,
    ordinary: Sequence[Span] = (),
    complain: Complain | None = None,
) -> tuple[Span, ...]:
    """The open segments of a day; ``open`` and ``close`` in them are those of its ordinary hours.

    Segments that do not follow one another are complained of, and cut.
    """
    edges = _Edges(ordinary, {}, clock)
    segments: list[Span] = []
    for interval in intervals:
        span = edges.span(interval)
        if span is None or span.start == span.end:
            if complain:
                complain(interval, f"{interval.text} is empty")
            continue
        if segments and span.start < segments[-1].end:
            if complain:
                complain(interval, f"{interval.text} begins before the open segment in front of it has ended")
            span = Span(segments[-1].end, span.end)
        if span.start < span.end:
            segments.append(span)
    return tuple(segments)


def laid_over(below: Phases, above: Phases) -> Phases:
    """Both, the latter wins and comes last: where two phases collide, the last is the one to blame."""
    return {**{name: found for name, found in below.items() if name not in above}, **above}


def moving(phases: Phases) -> Phases:
    """The phases that keep their place relative to the open and close when these move."""
    return {name: found for name, found in phases.items() if not any(one.by_wall_clock for one in found)}


def lay_out(
    segments: Sequence[Span],
    phases: Phases,
    clock: WallClock,
    *,
    outside: Collection[str] = (),
    complain: Complain | None = None,
    note: Note | None = None,
) -> list[Occurrence]:
    """Every phase of a day in order of time, ``open`` and ``break`` included.

    A phase that lies neither inside an open segment nor outside of all, or overlaps another, is
    complained of and clipped: to the part outside if it is in ``outside``, else to the part inside.
    """
    edges = _Edges(segments, phases, clock)
    written = [(name, one, edges.span(one)) for name, intervals in phases.items() for one in intervals]
    placed: list[_Placed] = []
    for rank, (name, interval, span) in enumerate(written):
        if span is None:
            continue
        if complain and span.start == span.end:
            complain(interval, f"{name} ({interval.text}) is empty: it does not end after its start")
        one = _Placed(span, rank, name, interval, None)
        placed.append(_place(one, segments, name in outside, complain))
    apart = _apart(sorted(placed), complain)
    if note:
        _note(written, apart, note)
    found = []
    for one in apart:
        holder = one.segment or one.span
        found.append(Occurrence(*one.span, one.name, one.segment is not None, holder.start))
    taken = [one.span for one in apart]
    for segment in segments:
        found += (Occurrence(*span, OPEN, True, segment.start) for span in _without(segment, taken))
    for before, after in pairwise(segments):
        gap = Span(before.end, after.start)
        found += (Occurrence(*span, BREAK, False, span.start) for span in _without(gap, taken))
    return sorted(found)


def _note(written: Sequence[tuple[str, Interval, Span | None]], apart: Sequence[_Placed], note: Note) -> None:
    """Tell of the phases that are not where they were written."""
    left = {one.rank: one.span for one in apart}
    for rank, (name, interval, span) in enumerate(written):
        if span is None or left.get(rank) != span:
            note(name, interval, left.get(rank))


def _place(one: _Placed, segments: Sequence[Span], is_outside: bool, complain: Complain | None) -> _Placed:
    """Find the open segment round a phase, or clip it so that it has one or none."""
    span = one.span
    first = next(
        (segment for segment in segments if span.start < segment.end and segment.start < span.end), None
    )
    if first is None:
        return one
    if first.start <= span.start and span.end <= first.end:
        return one._replace(segment=first)
    if complain:
        complain(one.interval, f"{one.text} lies partly inside of the open hours and partly outside")
    if not is_outside:
        inside = Span(max(span.start, first.start), min(span.end, first.end))
        return one._replace(span=inside, segment=first)
    parts = _without(span, segments)
    return one._replace(span=parts[0] if parts else Span(span.start, span.start))


def _apart(placed: Sequence[_Placed], complain: Complain | None) -> list[_Placed]:
    """The same without overlaps: what begins later gives way."""
    apart: list[_Placed] = []
    for one in placed:
        start = one.span.start
        if apart and start < apart[-1].span.end:
            if complain:
                first, last = sorted((one, apart[-1]), key=lambda placed: placed.rank)
                complain(last.interval, f"{last.text} overlaps {first.text}")
            start = apart[-1].span.end
        if start < one.span.end:
            apart.append(one._replace(span=Span(start, one.span.end)))
    return apart


def _without(whole: Span, taken: Iterable[Span]) -> list[Span]:
    """What is left of an interval; ``taken`` is in order of time and free of overlaps."""
    left = []
    cursor = whole.start
    for span in taken:
        if span.start < whole.end and whole.start < span.end:
            if cursor < span.start:
                left.append(Span(cursor, span.start))
            cursor = max(cursor, span.end)
    if cursor < whole.end:
        left.append(Span(cursor, whole.end))
    return left


class _Edges:
    """Resolves edges on one day; a phase that hangs on itself, or on one that is absent, has none."""

    def __init__(self, segments: Sequence[Span], phases: Phases, clock: WallClock) -> None:
        self._segments = segments
        self._phases = phases
        self._clock = clock
        self._asked: list[str] = []

    def span(self, interval: Interval) -> Span | None:
        start, end = self._instant(interval.start), self._instant(interval.end)
        if start is None or end is None:
            return None
        at = wall(interval.end)
        if end <= start and at is not None:
            end = self._clock(at + DAY) + interval.end.offset
        return Span(start, max(start, end))

    def _instant(self, edge: Anchor) -> Instant | None:
        at = wall(edge)
        if at is not None:
            return self._clock(at) + edge.offset
        whole = self._whole(edge.phase or OPEN)
        if whole is None:
            return None
        is_start = edge.base == "open" or edge.base.endswith(".start")
        return (whole.start if is_start else whole.end) + edge.offset

    def _whole(self, name: str) -> Span | None:
        """From the first start of a phase to its last end."""
        if name == OPEN:
            spans: list[Span | None] = list(self._segments)
        elif name == BREAK:
            spans = [Span(before.end, after.start) for before, after in pairwise(self._segments)]
        elif name in self._asked:
            return None
        else:
            self._asked.append(name)
            spans = [self.span(interval) for interval in self._phases.get(name, ())]
            self._asked.pop()
        found = [span for span in spans if span is not None and span.start < span.end]
        return Span(min(span.start for span in found), max(span.end for span in found)) if found else None
