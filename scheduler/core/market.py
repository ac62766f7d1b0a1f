"""MarketTable: what a market is doing at any instant, as sorted integers and bisect.

The builder (``scheduler.calendars``) cuts time into pieces. A piece lies in one phase, one local
day and one session, so every question is one binary search and one look at a piece: about a
quarter of a microsecond on twenty years of sessions.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from itertools import pairwise
from typing import NamedTuple

from scheduler.core.messages import Instant
from scheduler.errors import OutsideTableError

OPEN = "open"
CLOSED = "closed"
BREAK = "break"


class Piece(NamedTuple):
    """A half-open interval of one phase within one local day; together they partition the table."""

    start: Instant
    end: Instant
    phase: str
    trading: bool  # `open`, or carved out of it
    phase_start: Instant  # where this occurrence of the phase began
    segment_start: Instant  # where its open segment began; outside trading the same as phase_start
    midnight: Instant  # the local midnight on or before `start`: anchor of `closed` and plain paces
    session: int  # index of the session begun latest, -1 before the first
    reason: str  # of `closed`: "overnight", "weekend", "between phases", the holiday's name
    layer: str  # exchange-calendars, india, desk, amendment, assumed
    assumed: bool


class Session(NamedTuple):
    """One trading date."""

    date: str  # ISO
    midnight: Instant  # local midnight of the trading date
    start: Instant  # first phase's start
    end: Instant  # last phase's end
    open: Instant  # first open
    close: Instant  # last close
    spans: Mapping[str, tuple[Instant, Instant]]  # phase -> its first start and last end
    special: bool  # has hours of its own: anchors that do not fit are clamped
    name: str = ""
    layer: str = ""
    assumed: bool = False


class Day(NamedTuple):
    """One calendar date of the market, a session or not."""

    date: str  # ISO
    midnight: Instant
    session: int  # index into `sessions`, -1 when there is none
    reason: str  # the session's name, or why there is none
    layer: str
    assumed: bool


class MarketTable:
    """One market over one stretch of time ``[first, last)``; immutable."""

    __slots__ = (
        "_changes", "_flips", "_session_starts", "_starts", "beyond_horizon", "days", "first",
        "known_until", "last", "name", "phases", "pieces", "sessions", "version", "zone",
    )  # fmt: skip

    def __init__(
        self,
        *,
        name: str,
        zone: tzinfo,
        pieces: Sequence[Piece],
        sessions: Sequence[Session],
        days: Sequence[Day],
        phases: frozenset[str],
        version: str,
        known_until: Instant | None = None,
        beyond_horizon: str = "closed",
    ) -> None:
        self.name = name
        self.zone = zone
        self.pieces = tuple(pieces)
        self.sessions = tuple(sessions)  # by start
        self.days = tuple(days)
        self.phases = phases  # every phase name the market can have, `closed` included
        self.version = version  # changes with anything the table was built from
        self.known_until = known_until  # end of the last day the exchange has announced; None: for ever
        self.beyond_horizon = beyond_horizon  # assume-weekdays, closed, refuse
        self.first = self.pieces[0].start
        self.last = self.pieces[-1].end
        self._starts = [piece.start for piece in self.pieces]
        self._session_starts = [session.start for session in self.sessions]
        self._changes, self._flips = _boundaries(self.pieces)

    def index_at(self, t: Instant) -> int:
        """The index of the piece that holds ``t``; OutsideTableError when none does."""
        if not self.first <= t < self.last:
            raise OutsideTableError(f"{self.name}: instant {t} is outside the table of this market")
        return bisect_right(self._starts, t) - 1

    def phase_at(self, t: Instant) -> Piece:
        """The piece that holds ``t``; OutsideTableError when none does."""
        if not self.first <= t < self.last:
            raise OutsideTableError(f"{self.name}: instant {t} is outside the table of this market")
        return self.pieces[bisect_right(self._starts, t) - 1]

    def next_change(self, t: Instant) -> Instant:
        """When the phase that holds at ``t`` ends (``last`` when the table ends first)."""
        changes = self._changes
        at = bisect_right(changes, t)
        return changes[at] if at < len(changes) else self.last

    def next_flip(self, t: Instant) -> Instant:
        """The next boundary between trading time and the rest after ``t`` (``last`` if none)."""
        at = bisect_right(self._flips, t)
        return self._flips[at] if at < len(self._flips) else self.last

    def session_at(self, t: Instant) -> Session | None:
        """The session begun latest at ``t``."""
        at = bisect_right(self._session_starts, t) - 1
        return self.sessions[at] if at >= 0 else None

    def first_session_from(self, t: Instant) -> int:
        """The index of the first session that starts at or after ``t``."""
        return bisect_left(self._session_starts, t)


def _boundaries(pieces: Sequence[Piece]) -> tuple[list[Instant], list[Instant]]:
    """Where the phase changes, and where trading time begins or ends."""
    changes: list[Instant] = []
    flips: list[Instant] = []
    for before, after in pairwise(pieces):
        if before.phase != after.phase:
            changes.append(after.start)
        if before.trading != after.trading:
            flips.append(after.start)
    return changes, flips
