"""What was due, worked out from the opening hours of NSE by arithmetic of its own.

The checker's half of the truth: it shares no line with the scheduler. The days are those from
2026-11-16 to 2026-12-04; the 24th of November is a holiday (Gurunanak Jayanti).
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import date, timedelta

from tests.simulation.desk import Plan

SECOND = 1_000_000_000
_IST = 19_800  # seconds ahead of UTC
_EPOCH = date(1970, 1, 1)
_HOLIDAY = date(2026, 11, 24)
_DAYS = [date(2026, 11, 16) + timedelta(days=n) for n in range(19)]
_PHASES = (
    ("closed", 0, 32_400),
    ("pre-open", 32_400, 33_300),  # 09:00
    ("open", 33_300, 55_800),  # 09:15
    ("closed", 55_800, 57_000),  # 15:30
    ("post-close", 57_000, 57_600),  # 15:50
    ("closed", 57_600, 86_400),
)
_OPEN, _CLOSE = 33_300, 55_800


def midnight(day: date) -> int:
    """Seconds since the epoch."""
    return (day - _EPOCH).days * 86_400 - _IST


def trades(day: date) -> bool:
    return day.weekday() < 5 and day != _HOLIDAY


_SESSIONS = [midnight(day) for day in _DAYS if trades(day)]
# Where trading begins or ends, in nanoseconds.
FLIPS = [(session + edge) * SECOND for session in _SESSIONS for edge in (_OPEN, _CLOSE)]


def flips_between(a: int, b: int) -> int:
    """How often trading begins or ends in ``(a, b]``."""
    return bisect_right(FLIPS, b) - bisect_right(FLIPS, a)


def trading_at(t: int) -> bool:
    return bisect_right(FLIPS, t) % 2 == 1


def stretches(during: frozenset[str]) -> list[tuple[int, int]]:
    """Where a task is to be kept running; phases that adjoin are one stretch. Nanoseconds."""
    found: list[tuple[int, int]] = []
    for session in _SESSIONS:
        for phase, start, end in _PHASES:
            if phase not in during:
                continue
            if found and found[-1][1] == (session + start) * SECOND:
                found[-1] = (found[-1][0], (session + end) * SECOND)
            else:
                found.append(((session + start) * SECOND, (session + end) * SECOND))
    return found


def dues(plan: Plan, since: int, until: int) -> list[int]:
    """Every instant in ``[since, until)`` (nanoseconds) at which the clock makes a task due, in order."""
    if plan.every is not None:
        found = _pace(plan.every, plan.offset)
    elif plan.at:
        found = [session + _anchor(base) + shift for session in _SESSIONS for base, shift in plan.at]
    elif plan.cron is not None:
        _, minutes, hours = plan.cron
        found = [midnight(day) + h * 3600 + m * 60 for day in _DAYS for h in hours for m in minutes]
    elif plan.keep_running:
        found = [start // SECOND for start, _ in stretches(plan.keep_running)]
    else:
        found = []
    return sorted(t * SECOND for t in found if since <= t * SECOND < until)


def _anchor(base: str) -> int:
    if ":" in base:
        hours, minutes = base.split(":")
        return int(hours) * 3600 + int(minutes) * 60
    return _OPEN if base == "open" else _CLOSE


def _pace(every: dict[str, int | None], offset: int) -> list[int]:
    found: list[int] = []
    for day in _DAYS:
        base = midnight(day)
        for phase, start, end in _PHASES if trades(day) else (("closed", 0, 86_400),):
            named = "*" if "*" in every else phase if phase in every else "closed"
            interval = every.get(named)
            if interval is not None:
                anchor = base + (0 if named in ("*", "closed") else start) + offset
                first = anchor + max(0, -((anchor - base - start) // interval)) * interval
                found += range(first, base + end, interval)
    return found
