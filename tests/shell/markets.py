"""What the tests of market files and calendars share: one child's real answers, and readable tables."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping
from datetime import date, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from scheduler.calendars import Built, Calendars, calendar_rows, run_child
from scheduler.core.market import MarketTable
from scheduler.core.walltime import to_wall
from scheduler.errors import CalendarError
from scheduler.marketfile import amended, parse_markets

INDIA = ZoneInfo("Asia/Kolkata")
CODES = ("24/7", "CMES", "NYSE", "XASX", "XBOM", "XHKG", "XLON", "XNYS", "XTKS")
NOTHING = "default: NSE"


@cache
def answered() -> str:
    """What the real child says of the calendars that the tests use, 2018 to 2028."""
    return run_child(json.dumps({"calendars": CODES, "first": "2018-01-01", "last": "2028-12-31"}))


@cache
def _answer() -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(answered())
    return answer


def by_heart(request: str) -> str:
    """A runner that repeats the real child's answer without starting it again."""
    answer = dict(_answer())
    unknown = {"error": "exchange-calendars does not know it"}
    wanted = json.loads(request)["calendars"]
    answer["calendars"] = {name: answer["calendars"].get(name, unknown) for name in wanted}
    return json.dumps(answer)


def broken(request: str) -> str:
    """A runner without a child."""
    raise CalendarError("the calendar process failed with status 1: no such library")


def build(
    state: Path,
    text: str = NOTHING,
    names: tuple[str, ...] = ("NSE",),
    window: tuple[str, str] = ("2026-01-01", "2026-12-31"),
    **options: Any,
) -> Built:
    """Markets from the text of a markets.yaml; dates are ISO, both included."""
    runner = options.pop("runner", by_heart)
    amendments = options.pop("amendments", "")
    first, last = (date.fromisoformat(day) for day in window)
    markets = parse_markets(text)
    if amendments:
        markets = amended(markets, state, amendments)
    return Calendars(state, runner).build(markets, names, (first, last), INDIA, **options)


def shown(table: MarketTable, day: str) -> str:
    """A date's phases as ``open 09:15-15:30, ...`` in the market's zone, or ``closed: reason``."""
    row = row_of(table, day)
    if not row["open"]:
        return f"closed: {row['reason']}"
    return ", ".join(
        f"{one['phase']} {clock(one, 'start', day)}-{clock(one, 'end', day)}" for one in row["phases"]
    )


def clock(phase: Mapping[str, str], edge: str, day: str) -> str:
    """``HH:MM``, with ``+1`` or ``-1`` for the day after or before."""
    days = (date.fromisoformat(phase[edge][:10]) - date.fromisoformat(day)).days
    return phase[edge][11:16] + (f"{days:+d}" if days else "")


def row_of(table: MarketTable, day: str) -> dict[str, Any]:
    only = date.fromisoformat(day)
    (row,) = calendar_rows(table, only, only)
    return row


def assert_partition(table: MarketTable) -> None:
    """Every instant of the table lies in exactly one piece, and every piece says what is true of it."""
    assert table.first == table.pieces[0].start
    assert table.last == table.pieces[-1].end
    for before, after in pairwise(table.pieces):
        assert before.end == after.start
    begins = [session.start for session in table.sessions]
    assert begins == sorted(begins)
    for before_session, after_session in pairwise(table.sessions):
        assert before_session.end <= after_session.start
    for piece in table.pieces:
        assert piece.start < piece.end
        assert piece.midnight <= piece.start
        assert piece.phase_start <= piece.start
        assert piece.segment_start <= piece.start
        assert piece.phase in table.phases
        begun = to_wall(piece.start, table.zone)
        ended = to_wall(piece.end - 1, table.zone)
        assert begun.date() == ended.date() == to_wall(piece.midnight, table.zone).date()
        assert piece.session == bisect_right(begins, piece.start) - 1
        assert piece.trading == (piece.trading and piece.session >= 0)
        if piece.phase == "closed":
            assert not piece.trading
            assert piece.reason
        if piece.phase == "open":
            assert piece.trading
    dates = [date.fromisoformat(day.date) for day in table.days]
    assert all(after - before == timedelta(days=1) for before, after in pairwise(dates))
    for day in table.days:
        assert day.assumed == (day.layer == "assumed")
        assert day.session == -1 or table.sessions[day.session].date == day.date
