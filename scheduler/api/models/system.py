"""How the whole does."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from scheduler.api.models.base import Model, Query, Time
from scheduler.api.models.health import Concern
from scheduler.api.models.runs import ActiveRun
from scheduler.api.models.tasks import TaskStatus


class CacheStats(Model):
    namespace: str
    ttl_seconds: float
    max_entries: int
    entries: int
    hits: int
    misses: int
    loads: int
    failures: int
    evictions: int
    expirations: int
    stale: int


class Caches(Model):
    namespaces: tuple[CacheStats, ...]


class CacheValue(Model):
    namespace: str
    key: str
    value: JsonValue
    age_seconds: float


class CachePut(Model):
    value: JsonValue
    ttl: str | None = Field(
        default=None, description="such as 5s; at most, and by default, the namespace's own"
    )


class CacheChanged(Model):
    namespace: str
    key: str


class PhaseStretch(Model):
    phase: str
    start: Time
    end: Time
    trading: bool
    reason: str


class MarketStatus(Model):
    market: str
    phase: str
    reason: str = Field(description="of closed: why; else empty")
    trading: bool
    assumed: bool
    layer: str
    until: Time
    next_phase: str
    next_open: Time | None
    session: str | None = Field(description="date of the session begun latest")
    known_until: str | None = Field(description="last date that the exchange has announced; None: for ever")
    horizon_days: int | None
    beyond_horizon: str
    timezone: str
    calendar: str = Field(description="version of the calendar")
    phases: tuple[PhaseStretch, ...] = Field(default=(), description="those of the time that was asked for")


class MarketsQuery(Query):
    from_: str | None = Field(
        default=None, alias="from", description="ISO 8601: also give the phases from then on"
    )
    until: str | None = Field(default=None, description="excluded, ISO 8601")


class Markets(Model):
    default: str
    markets: tuple[MarketStatus, ...] = Field(description="the default first")


class Process(Model):
    pid: int
    cpu_percent: float = Field(description="of one processor, since the last time this was asked")
    cpu_seconds: float
    memory_bytes: int
    threads: int
    open_files: int
    children: int


class Loop(Model):
    lag_seconds: float = Field(description="mean of five seconds")
    stalls: int
    shedding: tuple[str, ...] = Field(description="priorities")


class Slots(Model):
    total: int
    reserved: int = Field(description="for critical tasks")
    used: int


class LedgerStatus(Model):
    expected: int = Field(description="dues of the time that was audited")
    accounted: int
    in_flight: int
    unaccounted: int = Field(description="expected - accounted - in_flight: 0, or something is wrong")
    audited: Time | None
    queued: int = Field(description="records on their way to the disk")
    dropped: int
    degraded: bool
    commits: int
    last_commit_seconds: float


class System(Model):
    """All that an operator wants to know at a glance."""

    timestamp: Time
    timezone: str = Field(description="of the files, in which times are shown")
    version: str
    started: Time
    uptime_seconds: float
    may_change: bool = Field(description="whether this connection may do more than look")
    ready: bool
    concerns: tuple[Concern, ...]
    tasks: tuple[TaskStatus, ...] = Field(description="by priority and name")
    active: tuple[ActiveRun, ...]
    long_running: tuple[ActiveRun, ...]
    markets: tuple[MarketStatus, ...]
    cache: tuple[CacheStats, ...]
    process: Process
    loop: Loop
    slots: Slots
    ledger: LedgerStatus


class EventsQuery(Query):
    task: tuple[str, ...] = ()
    event: tuple[str, ...] = Field(default=(), description="names, or beginnings such as `task.`")
    level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    runs: bool = Field(default=False, description="also an event `run` for each change of a run")
