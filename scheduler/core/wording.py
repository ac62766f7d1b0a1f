"""Instants and markets as a sentence says them."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from scheduler.core.market import CLOSED, OPEN
from scheduler.core.walltime import to_wall

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from scheduler.core.market import MarketTable, Piece, Session
    from scheduler.core.messages import Instant


def moment(t: Instant, zone: tzinfo) -> str:
    """``Tue 24 November 2026 10:00 IST``."""
    wall = to_wall(t, zone)
    return f"{wall:%a} {wall.day} {wall:%B %Y} {_clock(wall)} {wall:%Z}"


def beside(t: Instant, at: Instant, zone: tzinfo) -> str:
    """An instant as one says it when speaking of ``at``: ``15:30``, ``Wednesday 25 November 09:15``."""
    wall, here = to_wall(t, zone), to_wall(at, zone)
    if wall.date() == here.date():
        return _clock(wall)
    return f"{date_of(t, zone, year=wall.year != here.year)} {_clock(wall)}"


def date_of(t: Instant, zone: tzinfo, *, year: bool = True) -> str:
    """``Wednesday 25 November 2026``."""
    wall = to_wall(t, zone)
    return f"{wall:%A} {wall.day} {wall:%B}" + (f" {wall.year}" if year else "")


def encodable(text: str) -> str:
    """Without halves of surrogate pairs, as odd file names have them: no database and no JSON takes those."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _clock(wall: datetime) -> str:
    return f"{wall:%H:%M:%S}" if wall.second else f"{wall:%H:%M}"


def is_in(piece: Piece) -> str:
    """``is closed``, ``is in pre-open``."""
    return f"is {piece.phase}" if piece.phase in (OPEN, CLOSED) else f"is in {piece.phase}"


def because(piece: Piece, session: Session | None) -> str:
    """Why a market is in its phase: ``Gurunanak Jayanti``, ``an ordinary session``."""
    if piece.phase == CLOSED:
        return piece.reason
    kind = "a session with hours of its own" if session and session.special else "an ordinary session"
    return f"{piece.reason}, {kind}" if piece.reason else kind


def session_of_day(t: Instant, table: MarketTable) -> Session | None:
    """The session under way, else that of the date."""
    latest = table.session_at(t)
    if latest is not None and t < latest.end:
        return latest
    day = table.days[bisect_right(table.days, t, key=lambda day: day.midnight) - 1]
    return table.sessions[day.session] if day.session >= 0 else None


def horizon(table: MarketTable) -> str:
    """What is known of a market, and what holds beyond."""
    assert table.known_until is not None
    end = date_of(table.known_until - 1, table.zone)
    return f"what is known of {table.name} ends with {end} (beyond_horizon: {table.beyond_horizon})"
