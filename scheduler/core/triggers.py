"""Triggers: what makes runs due. Small, immutable, and a function of the calendar alone (law 2).

Nothing here remembers what it answered: ask twice and the answer is the same, on every host.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, ClassVar, Protocol

from scheduler.core.anchors import Anchor, At, parse_anchor
from scheduler.core.cron import Cron, can_fire
from scheduler.core.durations import format_duration
from scheduler.core.during import begins, holds, overlapping, stretch_at
from scheduler.core.market import CLOSED, OPEN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scheduler.core.market import MarketTable, Piece, Session
    from scheduler.core.messages import Duration, Instant

__all__ = [
    "PLAIN", "After", "Anchor", "At", "Cron", "Every", "KeepRunning", "On", "Trigger", "can_fire",
    "parse_anchor", "session_of", "share_of",
]  # fmt: skip

PLAIN = "*"  # the only key of a pace that no phase disturbs


class Trigger(Protocol):
    """What makes runs due. Instants are nanoseconds; ticks outside the table are not known."""

    @property
    def text(self) -> str:
        """The trigger as a person would write it."""

    @property
    def clock_driven(self) -> bool:
        """Whether its ticks are known in advance."""

    def text_at(self, t: Instant, table: MarketTable) -> str:
        """What of the trigger made the tick at ``t``: the anchor, the pace."""

    def next_after(self, t: Instant, table: MarketTable) -> Instant | None:
        """The smallest tick after ``t``; None when the table ends first."""

    def last_before(self, t: Instant, table: MarketTable) -> Instant | None:
        """The greatest tick before ``t``; None when the table begins after it."""

    def count_between(self, a: Instant, b: Instant, table: MarketTable) -> int:
        """How many ticks are in ``[a, b)``, by arithmetic and not by enumeration."""


@dataclass(frozen=True, slots=True)
class Every:
    """Due at ``anchor + offset + share of the pace + k * pace``, k = 0, 1, ..., while the pace holds.

    ``pace`` maps phases to nanoseconds, or None to pause, or is ``{PLAIN: nanoseconds}``. Trading
    phases that it does not name go by its ``open``, others by its ``closed``, and pause without one.
    ``share`` is in [0, 1): how far ``spread`` shifts each grid.
    """

    pace: Mapping[str, Duration | None]
    offset: Duration = 0
    share: float = 0.0
    during: frozenset[str] | None = None

    clock_driven: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if any(interval is not None and interval <= 0 for interval in self.pace.values()):
            raise ValueError("a pace must be longer than 0")
        if self.offset < 0 or not 0 <= self.share < 1:
            raise ValueError("an offset must not be negative, and a share must be in [0, 1)")

    @property
    def text(self) -> str:
        paces = ", ".join(
            ("" if phase == PLAIN else f"{phase} ") + ("pause" if pace is None else format_duration(pace))
            for phase, pace in self.pace.items()
        )
        offset = f", offset {format_duration(self.offset)}" if self.offset else ""
        return f"every {paces}{offset}{_during_text(self.during)}"

    def text_at(self, t: Instant, table: MarketTable) -> str:
        pace = self.pace_at(t, table)
        return self.text if pace is None else f"every {format_duration(pace)}"

    def pace_at(self, t: Instant, table: MarketTable) -> Duration | None:
        """The pace that holds at an instant; None: it pauses."""
        grid = self._grid(table.phase_at(t), table)
        return None if grid is None else grid[1]

    def next_after(self, t: Instant, table: MarketTable) -> Instant | None:
        if t >= table.last:
            return None
        pieces = table.pieces
        at = table.index_at(t) if t >= table.first else 0
        while at < len(pieces):
            piece = pieces[at]
            grid = self._grid(piece, table)
            if grid is not None:
                first, interval = grid
                after = t if t >= piece.start else piece.start - 1
                tick = after + interval - (after - first) % interval if after >= first else first
                if tick < piece.end:
                    return tick
            at += 1
        return None

    def last_before(self, t: Instant, table: MarketTable) -> Instant | None:
        t = min(t, table.last)
        if t <= table.first:
            return None
        for at in range(table.index_at(t - 1), -1, -1):
            piece = table.pieces[at]
            grid = self._grid(piece, table)
            if grid is None:
                continue
            first, interval = grid
            latest = min(t, piece.end) - 1
            tick = latest - (latest - first) % interval
            if latest >= first and tick >= piece.start:
                return tick
        return None

    def count_between(self, a: Instant, b: Instant, table: MarketTable) -> int:
        total = 0
        for piece in overlapping(a, b, table):
            grid = self._grid(piece, table)
            if grid is not None:
                first, interval = grid
                low, high = max(a, piece.start, first), min(b, piece.end)
                if low < high:
                    total += (high - 1 - first) // interval - (low - 1 - first) // interval
        return total

    def _grid(self, piece: Piece, table: MarketTable) -> tuple[Instant, Duration] | None:
        """The first instant and the interval of the grid that holds in a piece; None: paused."""
        pace = self.pace
        phase = piece.phase
        if PLAIN in pace:
            interval, anchor = pace[PLAIN], piece.midnight
        elif phase not in pace and piece.trading:
            interval, anchor = pace.get(OPEN), piece.segment_start
        elif phase not in pace or phase == CLOSED:
            interval, anchor = pace.get(CLOSED), piece.midnight
        else:
            interval, anchor = pace[phase], piece.segment_start if phase == OPEN else piece.phase_start
        if interval is None or (self.during is not None and not holds(self.during, piece, table)):
            return None
        shift = int(self.share * interval) if self.share else 0
        return anchor + self.offset + shift, interval


@dataclass(frozen=True, slots=True)
class KeepRunning:
    """Due at each start of ``during``, to run until it ends; without ``during``: always, so never due."""

    during: frozenset[str] | None = None

    clock_driven: ClassVar[bool] = True

    @property
    def text(self) -> str:
        return f"keep_running{_during_text(self.during)}"

    def text_at(self, t: Instant, table: MarketTable) -> str:  # noqa: ARG002 - one signature for all triggers
        return "keep_running"

    def span_at(self, t: Instant, table: MarketTable) -> tuple[Instant | None, Instant | None] | None:
        """The stretch round ``t`` in which it is to run; None when it is not.

        An edge is None where the stretch reaches beyond the table.
        """
        return stretch_at(self.during, t, table)

    def next_after(self, t: Instant, table: MarketTable) -> Instant | None:
        if self.during is None or t >= table.last:
            return None
        for at in range(table.index_at(max(t, table.first)) + 1, len(table.pieces)):
            if begins(self.during, at, table):
                return table.pieces[at].start
        return None

    def last_before(self, t: Instant, table: MarketTable) -> Instant | None:
        if self.during is None or t <= table.first:
            return None
        for at in range(table.index_at(min(t, table.last) - 1), 0, -1):
            if begins(self.during, at, table):
                return table.pieces[at].start
        return None

    def count_between(self, a: Instant, b: Instant, table: MarketTable) -> int:
        pieces = overlapping(a, b, table)
        if self.during is None or not pieces:
            return 0
        low = table.index_at(pieces[0].start)
        return sum(
            piece.start >= a and begins(self.during, at, table) for at, piece in enumerate(pieces, start=low)
        )


def may_run(
    trigger: KeepRunning, t: Instant, table: MarketTable
) -> tuple[Instant | None, Instant | None] | None:
    """The stretch round ``t`` in which a loop may run: where its `during` holds and no day is refused."""
    if table.refuses(t):
        return None
    covered = trigger.during is None or table.first <= t < table.last
    span = trigger.span_at(t, table) if covered else None
    refusal = table.next_refusal(t)
    if span is None or refusal is None or (span[1] is not None and span[1] <= refusal):
        return span
    return span[0], refusal


class _Caused(ABC):
    """A trigger that the clock does not drive: it has no ticks."""

    __slots__ = ()

    clock_driven: ClassVar[bool] = False

    @property
    @abstractmethod
    def text(self) -> str: ...

    def text_at(self, t: Instant, table: MarketTable) -> str:  # noqa: ARG002
        return self.text

    def next_after(self, t: Instant, table: MarketTable) -> Instant | None:  # noqa: ARG002
        return None

    def last_before(self, t: Instant, table: MarketTable) -> Instant | None:  # noqa: ARG002
        return None

    def count_between(self, a: Instant, b: Instant, table: MarketTable) -> int:  # noqa: ARG002
        return 0


@dataclass(frozen=True, slots=True)
class On(_Caused):
    """Due when one of these events happens, at its instant."""

    events: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"on {', '.join(self.events)}"


@dataclass(frozen=True, slots=True)
class After(_Caused):
    """Due whenever a run of another task completes, at that run's due."""

    upstream: str

    @property
    def text(self) -> str:
        return f"after {self.upstream}"


def session_of(trigger: Trigger, due: Instant, table: MarketTable) -> Session | None:
    """The session that a due run belongs to: its anchor's own, else the one begun latest."""
    origin = trigger.origin(due, table) if isinstance(trigger, At) else None
    return table.session_at(due) if origin is None else origin[0]


def share_of(name: str) -> float:
    """The share in [0, 1) by which ``spread`` shifts the task of this name: the same on every host."""
    return (int.from_bytes(sha256(name.encode()).digest()[:8], "big") >> 11) / (1 << 53)


def _during_text(during: frozenset[str] | None) -> str:
    return "" if during is None else f" during {', '.join(sorted(during))}"
