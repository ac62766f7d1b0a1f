"""Between instants and the clock on the wall of a zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from scheduler.core.messages import MICROSECOND, SECOND

if TYPE_CHECKING:
    from datetime import tzinfo

    from scheduler.core.messages import Instant

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)


def wall_instant(wall: datetime, zone: tzinfo) -> Instant:
    """The instant of a naive local time, as cron has it when the clocks change.

    A time that is skipped is right after the jump; one that comes twice is the first of the two.
    """
    moment = wall.replace(tzinfo=zone)
    while (utc := moment.astimezone(UTC)).astimezone(zone).replace(tzinfo=None) != wall:
        wall += _MINUTE
        moment = wall.replace(tzinfo=zone)
    return to_instant(utc)


def to_instant(moment: datetime) -> Instant:
    """Nanoseconds since the epoch of an aware datetime."""
    elapsed = moment - _EPOCH
    return (elapsed.days * 86_400 + elapsed.seconds) * SECOND + elapsed.microseconds * MICROSECOND


def to_wall(t: Instant, zone: tzinfo) -> datetime:
    """The aware local time of an instant, to the second."""
    return datetime.fromtimestamp(t // SECOND, zone)
