"""A market's table as a person reads it: one row for each date."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import date
from typing import Any, Final

from scheduler.calendars.days import UNNAMED
from scheduler.core.market import CLOSED, Day, MarketTable
from scheduler.core.walltime import to_wall
from scheduler.errors import OutsideTableError

WARNED_AHEAD: Final = 45  # days


def calendar_rows(table: MarketTable, first: date, last: date) -> Iterator[dict[str, Any]]:
    """The rows of ``scheduler calendar`` for the dates from ``first`` to ``last``, both included.

    Times carry the offset of the market's zone; a phase over midnight is one. OutsideTableError
    when the table does not have all of the dates.
    """
    dates = [day.date for day in table.days]
    if not dates[0] <= str(first) <= str(last) <= dates[-1]:
        raise OutsideTableError(f"{table.name}: {first} to {last} is outside of the table of this market")
    for day in table.days[bisect_left(dates, str(first)) : bisect_right(dates, str(last))]:
        yield {
            "date": day.date,
            "market": table.name,
            "open": day.session >= 0,
            "reason": day.reason,
            "layer": day.layer,
            "phases": [
                {"phase": phase, "start": _iso(start, table), "end": _iso(end, table)}
                for phase, start, end in _phases(table, day)
            ],
        }


def unsettled_days(table: MarketTable, today: date, ahead: int = WARNED_AHEAD) -> Iterator[Day]:
    """The dates of the coming days of which something was announced that is not certain.

    Weekdays that are merely assumed are left out: what they are assumed for has a warning of its own.
    """
    for day in table.days:
        is_announced = day.reason not in ("", *UNNAMED)
        if day.assumed and is_announced and 0 <= (date.fromisoformat(day.date) - today).days < ahead:
            yield day


def _phases(table: MarketTable, day: Day) -> Iterator[tuple[str, int, int]]:
    """The phases of a date's session, each whole although pieces end at midnight."""
    if day.session < 0:
        return
    session = table.sessions[day.session]
    begun: tuple[str, int, int] | None = None
    for piece in table.pieces[bisect_left(table.pieces, (session.start,)) :]:
        if piece.start >= session.end:
            break
        if piece.phase == CLOSED:
            continue
        if begun and (piece.phase, piece.phase_start) == begun[:2]:
            begun = (*begun[:2], piece.end)
            continue
        if begun:
            yield begun
        begun = (piece.phase, piece.phase_start, piece.end)
    if begun:
        yield begun


def _iso(t: int, table: MarketTable) -> str:
    return to_wall(t, table.zone).isoformat()
