"""What the daemon tells at a glance, made by the models that it is made by."""

from __future__ import annotations

import json
from typing import Any

from scheduler.api.models.health import Concern
from scheduler.api.models.runs import RunRow
from scheduler.api.models.system import (
    CacheStats,
    LedgerStatus,
    Loop,
    MarketStatus,
    Process,
    Slots,
    System,
)
from scheduler.api.models.tasks import TaskStatus

NOW = "2026-11-26T09:16:04.250000+05:30"


def run(**more: Any) -> RunRow:
    facts: dict[str, Any] = {
        "task": "feed", "due": "2026-11-26T09:16:00+05:30", "run_id": "feed-20261126T034600Z", "attempt": 1,
        "status": "completed", "reason": "", "started": "2026-11-26T09:16:00+05:30",
        "ended": "2026-11-26T09:16:01.200000+05:30", "error": "", "count": 1, "cause": "tick",
    }  # fmt: skip
    return RunRow(**facts | more)


def task(name: str, **more: Any) -> TaskStatus:
    facts: dict[str, Any] = {
        "task": name, "priority": "critical", "market": "NSE", "trigger": "every open 5s, closed 1m",
        "state": "waiting", "health": "healthy", "run_id": None, "since": None, "last": run(task=name),
        "next": "2026-11-26T09:16:05+05:30", "restarts": 0, "consecutive_failures": 0,
        "last_success": "2026-11-26T09:16:01.200000+05:30", "freshness": None,
    }  # fmt: skip
    return TaskStatus(**facts | more)


def market(name: str, **more: Any) -> MarketStatus:
    facts: dict[str, Any] = {
        "market": name, "phase": "open", "reason": "", "trading": True, "assumed": False,
        "layer": "exchange-calendars", "until": "2026-11-26T15:30:00+05:30", "next_phase": "closed",
        "next_open": "2026-11-27T09:15:00+05:30", "session": "2026-11-26", "known_until": "2026-12-31",
        "horizon_days": 35, "beyond_horizon": "assume-weekdays", "timezone": "Asia/Kolkata", "calendar": "1",
    }  # fmt: skip
    return MarketStatus(**facts | more)


def namespace(name: str, **more: Any) -> CacheStats:
    numbers = dict.fromkeys(
        ("entries", "hits", "misses", "loads", "failures", "evictions", "expirations", "stale"), 0
    )
    facts: dict[str, Any] = {"namespace": name, "ttl_seconds": 5.0, "max_entries": 10_000, **numbers}
    return CacheStats(**facts | more)


def system(*tasks: TaskStatus, **more: Any) -> dict[str, Any]:
    """As it comes over the wire."""
    facts: dict[str, Any] = {
        "timestamp": NOW, "timezone": "Asia/Kolkata", "version": "1", "started": NOW,
        "uptime_seconds": 11_520.4, "may_change": True, "ready": True, "concerns": (), "tasks": tasks,
        "active": (), "long_running": (), "markets": (market("NSE"),), "cache": (),
        "process": Process(
            pid=1, cpu_percent=2.5, cpu_seconds=100.0, memory_bytes=84 << 20, threads=9, open_files=40,
            children=3,
        ),
        "loop": Loop(lag_seconds=0.0012, stalls=0, shedding=()),
        "slots": Slots(total=64, reserved=16, used=2),
        "ledger": LedgerStatus(
            expected=0, accounted=0, in_flight=0, unaccounted=0, audited=None, queued=0, dropped=0,
            degraded=False, commits=1, last_commit_seconds=0.001,
        ),
    }  # fmt: skip
    found: dict[str, Any] = json.loads(System(**facts | more).model_dump_json())
    return found


def concern(name: str, what: str, *, blocking: bool = False) -> Concern:
    return Concern(kind="market", name=name, what=what, blocking=blocking)
