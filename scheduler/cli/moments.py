"""Times and spans as people want to read them; the daemon gives them as ISO 8601."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from scheduler.cli.common import Row

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


def took_of(run: Row) -> str:
    """How long a run took; "" where it never started or has not ended."""
    if not run["started"] or not run["ended"]:
        return ""
    return span((_moment(run["ended"]) - _moment(run["started"])).total_seconds())


def ago(time: str, now: str) -> str:
    """``12m``: as coarse as somebody wants to know it at a glance; never negative."""
    seconds = max(0, int((_moment(now) - _moment(time)).total_seconds()))
    for unit, size in (("d", _DAY), ("h", _HOUR), ("m", _MINUTE)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def span(seconds: float) -> str:
    """``1.2s``, ``3h12m``: six characters at most up to a hundred days; never negative."""
    seconds = max(0.0, seconds)
    if seconds < 1:
        return f"{int(seconds * 1000)}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}s".replace(".0s", "s")
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return _two(whole, _MINUTE, "m", 1, "s")
    if whole < _DAY:
        return _two(whole, _HOUR, "h", _MINUTE, "m")
    return _two(whole, _DAY, "d", _HOUR, "h")


def clock(time: str, now: str) -> str:
    """Nine characters: ``09:15:05`` today, ``Mon 09:15`` this week, else ``23 Nov``."""
    moment, today = _moment(time), _moment(now)
    days = abs((moment.date() - today.date()).days)
    if not days:
        return f"{moment:%H:%M:%S}"
    return f"{moment:%a %H:%M}" if days < 7 else f"{moment.day} {moment:%b}"


def to_milliseconds(time: str) -> str:
    """ISO 8601, of which each has as many characters."""
    return _moment(time).isoformat(timespec="milliseconds")


def hour(time: str, now: str) -> str:
    """As ``clock``, but with seconds only where there are some."""
    text = clock(time, now)
    return text[:-3] if text.count(":") == 2 and text.endswith(":00") else text


def _two(whole: int, large: int, large_unit: str, small: int, small_unit: str) -> str:
    first, rest = divmod(whole, large)
    second = rest // small
    return f"{first}{large_unit}{second}{small_unit}" if second else f"{first}{large_unit}"


def _moment(time: str) -> datetime:
    return datetime.fromisoformat(time)
