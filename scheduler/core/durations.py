"""Durations as people write them: ``250ms``, ``5s``, ``1m30s``, ``2h``, ``1d``.

Every library accepts something dangerous here (``5M``, ``1:30``, a bare ``5``), so this is strict:
units in falling order, each once, no sign, no blanks.
"""

from __future__ import annotations

import re

from scheduler.core.messages import DAY, HOUR, MILLISECOND, MINUTE, SECOND, Duration

_UNITS = {"d": DAY, "h": HOUR, "m": MINUTE, "s": SECOND, "ms": MILLISECOND}
_PATTERN = re.compile(
    r"(?:(?P<d>\d+)d)?(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m(?!s))?(?:(?P<s>\d+)s)?(?:(?P<ms>\d+)ms)?", re.ASCII
)
_MOST_CHARACTERS = 40  # nobody needs more, and Python refuses to read numbers of thousands of digits
_LONGEST = 3660 * DAY  # ten years: beyond it a typing mistake is likelier than an intention


def parse_duration(text: str) -> Duration:
    """Nanoseconds; ValueError says what would be right."""
    match = _PATTERN.fullmatch(text) if 0 < len(text) <= _MOST_CHARACTERS else None
    if match is None:
        raise ValueError(f"{text[:_MOST_CHARACTERS]!r} is not a duration; write 5s, 1m30s, 2h or 1d")
    total = sum(int(number) * _UNITS[unit] for unit, number in match.groupdict().items() if number)
    if total > _LONGEST:
        raise ValueError(f"{text!r} is longer than ten years")
    return total


def format_duration(duration: Duration) -> str:
    """The shortest text that ``parse_duration`` reads back (below a millisecond: decimals)."""
    if duration < 0:
        return "-" + format_duration(-duration)
    parts = []
    rest = duration
    for unit, size in _UNITS.items():
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number}{unit}")
    if rest and not parts:
        return f"{rest / MILLISECOND:.3g}ms"
    return "".join(parts) or "0s"
