"""What is wrong with a book of markets, as far as that shows without asking any calendar."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from difflib import get_close_matches
from typing import Final

from scheduler.calendars.book import Book, Market
from scheduler.calendars.layout import Complain, Span, laid_over, lay_out, moving, open_segments
from scheduler.core.market import BREAK, OPEN
from scheduler.core.marketspec import Change, Interval, MarketDef, Phases
from scheduler.core.messages import Duration, Instant
from scheduler.errors import Mark, Problem

_EARLY: Final = date(2000, 1, 3)  # hours without a `since` are looked at on this date
_HALF_A_YEAR: Final = timedelta(days=182)


def check(book: Book) -> list[Problem]:
    """Every problem of every definition, each once, in the order of the files."""
    found: dict[Problem, None] = {}
    for layer in book.file.layers:
        for definition in layer.values():
            found.update(dict.fromkeys(_check_definition(book, definition)))
    return list(found)


def suggestion(word: str, candidates: frozenset[str]) -> str:
    """The end of a sentence about an unknown name: what was probably meant, or nothing."""
    by_case = {name.casefold(): name for name in sorted(candidates)}
    close = get_close_matches(word.casefold(), by_case, n=1)
    return f"; did you mean {by_case[close[0]]!r}?" if close else ""


def _check_definition(book: Book, definition: MarketDef) -> Iterator[Problem]:
    name, marks = definition.name, definition.marks
    fault = book.fault(name)
    if fault:
        if definition.has_base:
            yield Problem(marks.get("like") or marks.get("any_of") or definition.mark, fault)
        return
    market = book.market(name)
    base = market.base
    if base is definition and base.weekdays is not None and market.template(date.max).open is None:
        message = 'weekdays without hours; write hours: [{phases: {open: "09:00..17:00"}}]'
        yield Problem(marks["weekdays"], message)
    if base is not None and base.any_of:
        message = "a market with any_of is open when its members are; its hours can only have other phases"
        yield from (Problem(row.mark, message) for row in definition.hours if OPEN in row.phases)
    yield from _references(market, definition)
    yield from _nominal_days(market)
    for change in definition.changes:
        yield from _change(market, change)


def _references(market: Market, definition: MarketDef) -> Iterator[Problem]:
    """Edges on phases that the market never has, and phases that hang on each other in a circle."""
    known = market.phase_names | {OPEN, BREAK}
    groups: list[Phases] = [definition.phases]
    groups += [row.phases for row in definition.hours]
    groups += [row.summer_time.phases for row in definition.hours if row.summer_time]
    groups += [change.phases for change in definition.changes]
    groups += [{OPEN: change.open} for change in definition.changes if isinstance(change.open, tuple)]
    for phases in groups:
        for name, intervals in phases.items():
            for interval in intervals:
                for needed in sorted(interval.needs - known):
                    message = f"{market.name} has no phase {needed!r}{suggestion(needed, known)}"
                    yield Problem(interval.mark, message)
                if _hangs_on(name, interval, phases):
                    yield Problem(interval.mark, f"{name} ({interval.text}) hangs on itself, in a circle")


def _hangs_on(name: str, interval: Interval, phases: Phases, seen: frozenset[str] = frozenset()) -> bool:
    needs = interval.needs - seen
    if name in interval.needs:
        return True
    following = (other for need in needs for other in phases.get(need, ()))
    return any(_hangs_on(name, other, phases, seen | needs) for other in following)


def _nominal_days(market: Market) -> Iterator[Problem]:
    """Lay out an ordinary day of every row of hours, and of both halves of its year."""
    starts = {max(row.since, _EARLY) for _, level in market.levels for row in level.hours} | {_EARLY}
    found: list[Problem] = []
    for start in starts:
        for day in (start, start + _HALF_A_YEAR):
            template = market.template(day)
            if template.open is not None:
                complain = _collect(found)
                segments = open_segments(template.open, _nominal, complain=complain)
                lay_out(segments, template.phases, _nominal, complain=complain)
    yield from found


def _change(market: Market, change: Change) -> Iterator[Problem]:
    """Lay out the day that a change describes; only what it says itself can be wrong here."""
    own = [interval for intervals in change.phases.values() for interval in intervals]
    template = market.template(change.first)
    segments: tuple[Span, ...] = open_segments(template.open or (), _nominal)
    phases = laid_over(template.phases, change.phases)
    found: list[Problem] = []
    if isinstance(change.open, tuple):
        if template.open is None and not all(map(_absolute, change.open)):
            return  # the usual hours are the calendar's, and it is not asked here
        segments = open_segments(change.open, _nominal, segments, complain=_collect(found))
        phases = laid_over(moving(template.phases), change.phases)
    if segments:
        lay_out(segments, phases, _nominal, complain=_collect(found, only=own))
    yield from found


def _absolute(interval: Interval) -> bool:
    """Whether both edges are times of day."""
    return all(":" in edge.base for edge in (interval.start, interval.end))


def _collect(found: list[Problem], only: list[Interval] | None = None) -> Complain:
    marks: set[Mark] | None = None if only is None else {interval.mark for interval in only}

    def complain(interval: Interval, message: str) -> None:
        if marks is None or interval.mark in marks:
            found.append(Problem(interval.mark, message))

    return complain


def _nominal(wall: Duration) -> Instant:
    return wall
