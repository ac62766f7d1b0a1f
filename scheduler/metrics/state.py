"""What a scrape takes on the loop: everything that another thread must not look at while it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib.metadata import version
from typing import Final, NamedTuple

from scheduler.cache import SharedCache
from scheduler.core import view
from scheduler.core.accounting import Audit
from scheduler.core.messages import DAY, SECOND, Instant, Priority
from scheduler.core.tasks import TaskState
from scheduler.daemon import Daemon
from scheduler.ledger import Ledger
from scheduler.metrics.counts import Counts, OfTask
from scheduler.metrics.labels import OTHER, Labels

BATCH: Final = 250  # tasks looked at before others have their turn of the loop
_VERSION: Final = version("trading-hours-scheduler")

Buckets = tuple[list[tuple[str, float]], float]


class OneTask(NamedTuple):
    """A task, or all those together that have no label of their own."""

    label: str
    priority: str
    state: str
    stale: bool | None  # None: it has no `fresh_within`
    success: Instant | None
    failures: int
    due: int
    started: int
    restarts: int
    crash_loops: int
    outcomes: Mapping[tuple[str, str], int]


class OneMarket(NamedTuple):
    name: str
    phases: tuple[str, ...]
    phase: str  # "": outside of what is known
    horizon: float | None  # days; None: known for ever


class State(NamedTuple):
    """A daemon at one moment."""

    version: str
    ready: bool
    overdue: int
    tasks: list[OneTask]
    markets: list[OneMarket]
    audit: Audit
    labels: Mapping[str, str]
    lateness: list[Buckets]  # by priority
    duration: list[Buckets]
    events: dict[str, int]
    lag: float  # seconds
    stalls: int
    shedding: frozenset[Priority]
    slots: int
    slots_used: int
    cache: SharedCache  # safe to ask from any thread, as is the ledger
    ledger: Ledger


async def state_of(daemon: Daemon, counts: Counts, labels: Labels) -> State:
    """Of a daemon that has started; the loop is held up for a few milliseconds at a time."""
    engine, states = daemon.engine, daemon.engine.tasks
    named = labels.of(states)
    for gone in counts.tasks.keys() - states.keys():
        del counts.tasks[gone]
    tasks: list[OneTask] = []
    for number, state in enumerate(list(states.values()), start=1):
        tasks.append(_task(state, named.get(state.name, OTHER), counts.of(state.name)))
        if number % BATCH == 0:
            await asyncio.sleep(0)
    return State(
        version=_VERSION,
        ready=daemon.readiness().ready,
        overdue=len(daemon.overdue()),
        tasks=tasks,
        markets=_markets(daemon),
        audit=daemon.accounting.latest,
        labels=dict(named),
        lateness=[each.cumulative() for each in counts.lateness],
        duration=[each.cumulative() for each in counts.duration],
        events=dict(counts.events),
        lag=daemon.loop_watch.mean_lag / SECOND,
        stalls=daemon.loop_watch.stalls,
        shedding=engine.slots.shedding,
        slots=engine.slots.slots,
        slots_used=engine.slots.taken,
        cache=daemon.cache,
        ledger=daemon.ledger,
    )


def _task(state: TaskState, label: str, counts: OfTask) -> OneTask:
    return OneTask(
        label,
        state.spec.priority.label,
        view.word(state),
        state.stale if state.spec.fresh_within is not None else None,
        state.success,
        state.supervisor.consecutive,
        counts.due,
        counts.started,
        counts.restarts,
        counts.crash_loops,
        counts.outcomes,
    )


def _markets(daemon: Daemon) -> list[OneMarket]:
    now = daemon.now()
    return [
        OneMarket(
            name,
            tuple(sorted(table.phases)),
            table.phase_at(now).phase if table.first <= now < table.last else "",
            None if table.known_until is None else (table.known_until - now) / DAY,
        )
        for name, table in sorted(daemon.configuration.tables.items())
    ]
