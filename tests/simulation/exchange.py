"""What was due, worked out from the opening hours of NSE by arithmetic of its own.

The checker's half of the truth: it shares no line with the scheduler. The days are those from
2026-11-16 to 2026-12-04; the 24th of November is a holiday (Gurunanak Jayanti).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from datetime import date, timedelta
from functools import cache, cached_property
from hashlib import sha256
from typing import NamedTuple

from tests.simulation.desk import Plan

SECOND = 1_000_000_000
_IST = 19_800  # seconds ahead of UTC
_EPOCH = date(1970, 1, 1)
_HOLIDAY = date(2026, 11, 24)
_DAYS = [date(2026, 11, 16) + timedelta(days=n) for n in range(19)]
_ORDINARY = (
    ("pre-open", 32_400, 33_300),  # 09:00
    ("open", 33_300, 55_800),  # 09:15 to 15:30
    ("closed", 55_800, 57_000),
    ("post-close", 57_000, 57_600),  # 15:50
)


class Amendment(NamedTuple):
    """An operator's change of a date: other hours (seconds of the day), or none."""

    day: date
    hours: tuple[int, int] | None
    yaml: str  # the same for markets.yaml


AMENDMENTS = {
    "a drill on Saturday": Amendment(date(2026, 11, 21), (36_000, 43_200), 'open: ["10:00..12:00"]'),
    "an early close": Amendment(date(2026, 11, 23), (33_300, 46_800), 'open: ["09:15..13:00"]'),
    "an evening": Amendment(_HOLIDAY, (64_800, 68_400), 'open: ["18:00..19:00"]'),
    "a late close": Amendment(date(2026, 11, 25), (33_300, 61_200), 'open: ["09:15..17:00"]'),
    "a holiday": Amendment(date(2026, 11, 26), None, "closed: true"),
}


def midnight(day: date) -> int:
    """Seconds since the epoch."""
    return (day - _EPOCH).days * 86_400 - _IST


class Stretch(NamedTuple):
    """A part of a local day in one phase; seconds since the epoch."""

    phase: str
    start: int
    end: int
    midnight: int
    in_session: bool  # from the first phase of a session to its last


class Exchange:
    """NSE with some amendments in force."""

    def __init__(self, amendments: Iterable[str] = ()) -> None:
        self._changes = {AMENDMENTS[name].day: AMENDMENTS[name].hours for name in amendments}

    def phases(self, day: date) -> tuple[tuple[str, int, int], ...]:
        """The phases of a day in seconds from its midnight, the gaps within the session included."""
        if day not in self._changes:
            return _ORDINARY if day.weekday() < 5 and day != _HOLIDAY else ()
        hours = self._changes[day]
        if hours is None:
            return ()
        # A day with hours of its own has what moves along with them, and no `post-close` at 15:50.
        return ("pre-open", hours[0] - 900, hours[0]), ("open", *hours)

    @cached_property
    def stretches(self) -> list[Stretch]:
        """All time, cut where the phase or the day changes."""
        found: list[Stretch] = []
        for day in _DAYS:
            base, phases = midnight(day), self.phases(day)
            first, last = (phases[0][1], phases[-1][2]) if phases else (0, 0)
            parts = [("closed", 0, first), *phases, ("closed", last, 86_400)]
            for phase, start, end in parts:
                if start < end:
                    in_session = first <= start < last
                    found.append(Stretch(phase, base + start, base + end, base, in_session))
        return found

    @cached_property
    def flips(self) -> list[int]:
        """Where trading begins or ends, in nanoseconds."""
        return [edge * SECOND for s in self.stretches if s.phase == "open" for edge in (s.start, s.end)]

    @cached_property
    def changes(self) -> list[int]:
        """Where the phase changes, in nanoseconds."""
        found = [self.stretches[0]]
        for stretch in self.stretches:
            if stretch.phase != found[-1].phase:
                found.append(stretch)
        return [stretch.start * SECOND for stretch in found]

    def flips_between(self, a: int, b: int) -> int:
        """How often trading begins or ends in ``(a, b]``."""
        return bisect_right(self.flips, b) - bisect_right(self.flips, a)

    def trading_at(self, t: int) -> bool:
        return bisect_right(self.flips, t) % 2 == 1

    def next_change(self, t: int) -> int:
        return self.changes[bisect_right(self.changes, t)]

    def spans(self, during: frozenset[str]) -> list[tuple[int, int]]:
        """Where a task is to be kept running; phases that adjoin are one stretch. Nanoseconds."""
        found: list[tuple[int, int]] = []
        for phase, start, end, _, _ in self.stretches:
            if phase not in during:
                continue
            if found and found[-1][1] == start * SECOND:
                found[-1] = (found[-1][0], end * SECOND)
            else:
                found.append((start * SECOND, end * SECOND))
        return found

    def span_at(self, during: frozenset[str], t: int) -> tuple[int, int] | None:
        return next(((a, b) for a, b in self.spans(during) if a <= t < b), None)

    def anchor(self, day: date, base: str, shift: int) -> int | None:
        """Nanoseconds; None where the day has nothing of that name."""
        phases = {phase: (start, end) for phase, start, end in self.phases(day) if phase != "closed"}
        if not phases:
            return None
        opening, close = phases["open"]
        at: int
        if ":" in base:
            hours, minutes = base.split(":")
            at = int(hours) * 3600 + int(minutes) * 60 + shift
        elif "." in base:
            phase, edge = base.split(".")
            if phase not in phases:
                return None
            at = phases[phase][edge == "end"] + shift
        elif day in self._changes:  # what does not fit a day with hours of its own is moved to their edge
            shifted = (opening if base == "open" else close) + shift
            inwards = shift > 0 if base == "open" else shift < 0
            at = max(opening, min(close, shifted)) if inwards else shifted
        else:
            at = (opening if base == "open" else close) + shift
        return (midnight(day) + at) * SECOND

    def latest_start(self, plan: Plan, due: int) -> int:
        """How late a run may be started as far as its catch-up goes, in nanoseconds."""
        if plan.catchup_until is None:
            return due + plan.catchup * SECOND
        sessions = [day for day in _DAYS if any(self.anchor(day, *at) == due for at in plan.at)]
        until = self.anchor(sessions[-1], *plan.catchup_until) if sessions else None
        return due if until is None else until

    def dues(self, name: str, plan: Plan, since: int, until: int) -> list[int]:
        """Every instant in ``[since, until)`` (nanoseconds) at which the clock makes a task due, in order."""
        key = name, tuple(plan.every.items()) if plan.every else None, plan.offset, plan.spread, plan.during
        if plan.every is not None:
            found = (
                self._paces.setdefault(key, self._pace(name, plan))
                if key not in self._paces
                else self._paces[key]
            )
        elif plan.at:
            sessions = (self.anchor(day, *at) for day in _DAYS for at in plan.at)
            found = sorted({at for at in sessions if at is not None})
        elif plan.cron is not None:
            found = self._cron(plan)
        else:
            found = [start for start, _ in self.spans(plan.keep_running)] if plan.keep_running else []
        return [due for due in found if since <= due < until]

    @cached_property
    def _paces(self) -> dict[object, list[int]]:
        return {}

    def _pace(self, name: str, plan: Plan) -> list[int]:
        assert plan.every is not None
        found: list[int] = []
        for stretch in self.stretches:
            phase = stretch.phase
            named = "*" if "*" in plan.every else phase if phase in plan.every else "closed"
            interval = plan.every.get(named)
            if interval is None or not _holds(plan, stretch):
                continue
            anchor = (stretch.midnight if named in ("*", "closed") else stretch.start) + plan.offset
            first = anchor * SECOND + (int(share(name) * interval * SECOND) if plan.spread else 0)
            start, end, step = stretch.start * SECOND, stretch.end * SECOND, interval * SECOND
            if first < start:
                first += -(-(start - first) // step) * step
            found += range(first, end, step)
        return found

    def _cron(self, plan: Plan) -> list[int]:
        assert plan.cron is not None
        _, minutes, hours, weekdays = plan.cron
        ticks = (
            (midnight(day) + hour * 3600 + minute * 60) * SECOND
            for day in _DAYS if day.weekday() in weekdays
            for hour in sorted(hours) for minute in sorted(minutes)
        )  # fmt: skip
        return [tick for tick in ticks if plan.during is None or self.trading_at(tick)]


def _holds(plan: Plan, stretch: Stretch) -> bool:
    if plan.during is None:
        return True
    return stretch.phase in plan.during or ("session" in plan.during and stretch.in_session)


@cache
def share(name: str) -> float:
    """By how much of its pace `spread` shifts a task: 53 bits of a digest of its name."""
    return int(sha256(name.encode()).hexdigest()[:16], 16) // 2**11 / 2**53
