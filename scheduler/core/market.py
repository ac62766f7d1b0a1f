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
REFUSE = "refuse"  # of `beyond_horizon`: nothing is started on days that nobody knows
_NEVER = 1 << 62
_MARK = "+assumed"  # behind the version in a record of a run whose day is assumed


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
    notes: tuple[str, ...] = ()  # what of the ordinary day was clipped or left out, in words


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
        "_changes", "_doubts", "_flips", "_labels", "_session_starts", "_starts", "beyond_horizon", "days",
        "first", "known_until", "last", "name", "phases", "pieces", "refused_from", "sessions", "version",
        "zone",
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
        self._doubts = _doubts(self.pieces)
        self._labels = (version, version + _MARK)
        # The first instant that may be refused, so that one comparison answers for all days before.
        refusing = known_until if beyond_horizon == REFUSE else None
        self.refused_from: Instant = _NEVER if refusing is None else refusing

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

    def label_at(self, t: Instant) -> str:
        """The calendar that a run due at ``t`` belongs to: its version, marked where the day is assumed."""
        return self._labels[bisect_right(self._doubts, t) & 1]

    def refuses(self, t: Instant) -> bool:
        """Whether nothing may be started for what is due at ``t``: past the horizon, and not known since."""
        return t >= self.refused_from and bool(bisect_right(self._doubts, t) & 1)

    def next_refusal(self, t: Instant) -> Instant | None:
        """When it will begin to refuse, after an instant ``t`` at which it does not; None: never."""
        if self.refused_from == _NEVER:
            return None
        at = max(t, self.refused_from)
        doubt = at if self.refuses(at) else self.next_doubt(at)
        return None if doubt == _NEVER else doubt

    def next_doubt(self, t: Instant) -> Instant:
        """The next instant after ``t`` at which days begin or cease to be assumed, or refused."""
        at = bisect_right(self._doubts, t)
        doubt = self._doubts[at] if at < len(self._doubts) else _NEVER
        return min(doubt, self.refused_from) if t < self.refused_from else doubt

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


def _doubts(pieces: Sequence[Piece]) -> list[Instant]:
    """Where days begin and cease to be assumed, in turn."""
    doubts = [pieces[0].start] if pieces[0].assumed else []
    doubts += [after.start for before, after in pairwise(pieces) if before.assumed != after.assumed]
    return doubts


def is_assumed(label: str) -> bool:
    """Whether a record's calendar says that its day was assumed."""
    return label.endswith(_MARK)
