"""Everything that is configured, read and validated as one: files and calendars -> specs and tables.

A configuration is good as a whole or refused as a whole (law 7), with every problem of every file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from pathlib import Path

from scheduler.core.market import MarketTable
from scheduler.core.messages import SECOND, CacheSpec, Instant, TaskSpec

AHEAD = timedelta(days=400)  # how far the tables of a running daemon reach; rebuilt daily
BEHIND = timedelta(days=10)


@dataclass(frozen=True, slots=True)
class Window:
    """The dates, both included, that the markets' tables are to cover."""

    first: date
    last: date

    @classmethod
    def around(cls, now: Instant, since: Instant | None = None) -> Window:
        """Of a running daemon: from the oldest instant it answers for to more than a year ahead."""
        today = _date(now)
        first = today - BEHIND
        return cls(min(first, _date(since) - timedelta(days=3)) if since is not None else first, today + AHEAD)

    @classmethod
    def of(cls, start: Instant, until: Instant) -> Window:
        """Enough for every question between two instants, whatever the zone."""
        return cls(_date(start) - BEHIND, _date(until) + BEHIND)


def _date(instant: Instant) -> date:
    return datetime.fromtimestamp(instant / SECOND, UTC).date()


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the daemon runs by until the next one."""

    specs: tuple[TaskSpec, ...]
    tables: Mapping[str, MarketTable]
    zone: tzinfo
    caches: Mapping[str, CacheSpec] = field(default_factory=dict)
    default_market: str = "NSE"
    reload: str = "auto"  # auto, manual, closed-only
    sources: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()


Loader = Callable[[Window], Configuration]
