"""Instants as people write and read them: ISO 8601 with an offset, at the edges only."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo

from scheduler.core.messages import Instant
from scheduler.errors import UsageError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_iso(instant: Instant, zone: tzinfo) -> str:
    """``2026-11-23T09:15:00+05:30``, with a fraction only where there is one."""
    return (_EPOCH + timedelta(microseconds=instant // 1000)).astimezone(zone).isoformat()


def parse_time(text: str, zone: tzinfo) -> Instant:
    """An ISO 8601 time or date; without an offset it is in ``zone``. UsageError says what would be right."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is not a time; write 2026-11-23T09:15:00+05:30, 2026-11-23T09:15 or 2026-11-23"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def parse_date(text: str) -> date:
    """``2026-11-25`` and nothing else that ISO 8601 has for it. UsageError says what would be right."""
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
            return date.fromisoformat(text)
    except ValueError:
        pass  # there is no such day
    raise UsageError(f"{text!r} is not a date; write 2026-11-25")
