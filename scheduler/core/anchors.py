"""``at``: instants named by the trading day, such as ``close+15m``, ``pre-open.start`` or ``16:00``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import TYPE_CHECKING, ClassVar

from scheduler.core.durations import format_duration, parse_duration
from scheduler.core.messages import DAY
from scheduler.core.walltime import wall_instant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.core.market import MarketTable, Session
    from scheduler.core.messages import Duration, Instant

_REACH = 4 * DAY  # no phase or time of day of a session is farther from its start than this
_PATTERN = re.compile(
    r"(?P<base>open|close|(?:[01]\d|2[0-3]):[0-5]\d|[A-Za-z][\w-]*\.(?:start|end))"
    r"(?:(?P<sign>[+-])(?P<offset>.+))?",
    re.ASCII,
)
_EXPECTED = "write HH:MM, open, close, PHASE.start or PHASE.end, each with +DURATION or -DURATION if needed"


@dataclass(frozen=True, slots=True)
class Anchor:
    """A point of each session: a base and a signed offset in nanoseconds."""

    base: str  # "open", "close", "PHASE.start", "PHASE.end" or "HH:MM"
    offset: Duration = 0

    @property
    def text(self) -> str:
        """What ``parse_anchor`` reads back."""
        if not self.offset:
            return self.base
        return f"{self.base}{'+' if self.offset > 0 else '-'}{format_duration(abs(self.offset))}"

    @property
    def phase(self) -> str | None:
        """The phase that the anchor needs, None when it needs none."""
        return self.base.rpartition(".")[0] or None

    def instants(self, session: Session, table: MarketTable) -> Instant | None:
        """When this is on that session; None when the session has no such phase.

        On a session with hours of its own, ``open+d`` is no later than the close and ``close-d`` no
        earlier than the open.
        """
        at = self._unclamped(session, table)
        if at is None or not session.special:
            return at
        if self.base == "open" and self.offset > 0:
            return min(at, session.close)
        if self.base == "close" and self.offset < 0:
            return max(at, session.open)
        return at

    def clamped(self, session: Session) -> bool:
        """Whether the anchor did not fit this session and was moved to its open or close."""
        if not session.special or self.base not in ("open", "close"):
            return False
        length = session.close - session.open
        return self.offset > length if self.base == "open" else -self.offset > length

    def _unclamped(self, session: Session, table: MarketTable) -> Instant | None:
        if self.base == "open":
            return session.open + self.offset
        if self.base == "close":
            return session.close + self.offset
        phase, _, edge = self.base.rpartition(".")
        if phase:
            span = session.spans.get(phase)
            return None if span is None else span[edge == "end"] + self.offset
        wall = datetime.combine(date.fromisoformat(session.date), time.fromisoformat(self.base))
        return wall_instant(wall, table.zone) + self.offset


def parse_anchor(text: str) -> Anchor:
    """The anchor that a text names; ValueError says what would be right."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an anchor; {_EXPECTED}")
    if match["sign"] is None:
        return Anchor(match["base"])
    try:
        offset = parse_duration(match["offset"])
    except ValueError as error:
        raise ValueError(f"{text!r} is not an anchor: {error}") from None
    return Anchor(match["base"], -offset if match["sign"] == "-" else offset)


@dataclass(frozen=True, slots=True)
class At:
    """Due at anchors of each session; anchors that fall together are one tick."""

    anchors: tuple[Anchor, ...]

    clock_driven: ClassVar[bool] = True

    @property
    def text(self) -> str:
        return ", ".join(anchor.text for anchor in self.anchors)

    def text_at(self, t: Instant, table: MarketTable) -> str:
        origin = self.origin(t, table)
        return self.text if origin is None else origin[1].text

    def origin(self, due: Instant, table: MarketTable) -> tuple[Session, Anchor] | None:
        """The session and the anchor that make the tick at ``due``; of several the latest session's."""
        found = [found for found in self._near(due, due + 1, table) if found[0] == due]
        return max(found, key=lambda made: made[1].start)[1:] if found else None

    def next_after(self, t: Instant, table: MarketTable) -> Instant | None:
        reach = self._reach
        best = table.last
        for index in range(table.first_session_from(t - reach), len(table.sessions)):
            session = table.sessions[index]
            if session.start - reach > best:
                break
            for anchor in self.anchors:
                tick = anchor.instants(session, table)
                if tick is not None and max(t, table.first - 1) < tick < best:
                    best = tick
        return best if best < table.last else None

    def last_before(self, t: Instant, table: MarketTable) -> Instant | None:
        reach = self._reach
        best = table.first - 1
        for index in reversed(range(table.first_session_from(t + reach))):
            session = table.sessions[index]
            if session.start + reach < best:
                break
            for anchor in self.anchors:
                tick = anchor.instants(session, table)
                if tick is not None and best < tick < min(t, table.last):
                    best = tick
        return best if best >= table.first else None

    def count_between(self, a: Instant, b: Instant, table: MarketTable) -> int:
        a, b = max(a, table.first), min(b, table.last)
        return len({tick for tick, _, _ in self._near(a, b, table) if a <= tick < b})

    @property
    def _reach(self) -> Duration:
        """How far a tick may be from the start of its session, before or after."""
        return _REACH + max((abs(anchor.offset) for anchor in self.anchors), default=0)

    def _near(self, a: Instant, b: Instant, table: MarketTable) -> Iterator[tuple[Instant, Session, Anchor]]:
        """The anchors of every session that may have a tick in ``[a, b)``."""
        low, high = (table.first_session_from(t) for t in (a - self._reach, b + self._reach))
        for session in table.sessions[low:high]:
            for anchor in self.anchors:
                tick = anchor.instants(session, table)
                if tick is not None:
                    yield tick, session, anchor
