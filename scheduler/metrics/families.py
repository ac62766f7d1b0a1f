"""The metrics: their names, their meaning, their labels."""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from scheduler.core import events
from scheduler.core.messages import SECOND, Priority, Reason, Status
from scheduler.core.view import WORDS
from scheduler.metrics.labels import OTHER
from scheduler.metrics.state import Buckets, OneTask, State

_CACHE: Final = {  # a count of a namespace -> its metric, and what it counts
    "hits": ("hits", "Values found."),
    "misses": ("misses", "Values not found."),
    "loads": ("loads", "Loads begun."),
    "failures": ("load_failures", "Loads that failed."),
    "evictions": ("evictions", "Values that had to make room."),
    "expirations": ("expirations", "Values that were kept for their time."),
    "stale": ("stale_values", "Old values that stood in for a load that failed."),
}

# There before the first: Prometheus sees no increase in a series that begins with 1.
_RARE: Final[Mapping[str, Mapping[tuple[str, str], int]]] = {
    Priority.CRITICAL.label: {
        (Status.MISSED, reason): 0
        for reason in (Reason.DOWNTIME, Reason.CLOCK_JUMP, Reason.STOPPED, Reason.REFUSED)
    }
}
_EVENTS: Final = dict.fromkeys(sorted(events.ALL), 0)  # likewise

Values = Iterable[tuple[tuple[str, ...], float]]  # values of the labels, and of the metric


class Scrape(Collector):
    """All metrics at one moment."""

    def __init__(self, state: State, process: Collector) -> None:
        self._state = state
        self._process = process

    def collect(self) -> Iterator[Metric]:
        state = self._state
        yield from _daemon(state)
        yield from _runs(state)
        yield from _tasks(state)
        yield from _markets(state)
        yield from _loop(state)
        yield from _caches(state)
        yield from _ledger(state)
        yield from self._process.collect()


def _daemon(state: State) -> Iterator[Metric]:
    info = (state.version, platform.python_version())
    yield _gauge("build_info", "Always 1.", [(info, 1)], "version", "python")
    yield _gauge("ready", "Whether what is due is started, in all markets.", [((), state.ready)])
    about = "What was announced; runs that completed only with a log level of debug."
    yield _counter("events", about, (((name,), n) for name, n in (_EVENTS | state.events).items()), "event")


def _runs(state: State) -> Iterator[Metric]:
    due, started, ended = _sums(state.tasks)
    yield _counter("runs_due", "Runs that came due.", due.items(), "task")
    about = "Runs that were started, each attempt."
    yield _counter("runs_started", about, started.items(), "task", "priority")
    about = "What became of runs and of each attempt."
    yield _counter("runs", about, ended.items(), "task", "priority", "status", "reason")
    about = "How late runs that the clock makes due began. Not of loops."
    yield _histogram("run_lateness_seconds", about, state.lateness)
    about = "How long runs took, each attempt. Not of loops, nor where the clock stepped meanwhile."
    yield _histogram("run_duration_seconds", about, state.duration)
    yield _gauge("slots", "Runs that may be active at a time.", [((), state.slots)])
    yield _gauge("slots_used", "Runs that are.", [((), state.slots_used)])
    yield from _audit(state)


def _audit(state: State) -> Iterator[Metric]:
    audit = state.audit
    if audit.at is None:
        return
    about = "Until when the runs that were due have been compared with the ledger."
    yield _gauge("audited_until_timestamp_seconds", about, [((), audit.at / SECOND)])
    about = "Runs that were due by the calendar, since the audits began (a day before the start)."
    yield _gauge("runs_expected", about, [((), audit.expected)])
    yield _gauge("runs_accounted", "Those of them with an outcome in the ledger.", [((), audit.accounted)])
    yield _gauge("runs_in_flight", "Those that run or wait.", [((), audit.in_flight)])
    yield _gauge("runs_unaccounted", "Those of which nothing is known.", [((), audit.unaccounted)])
    by_task: dict[tuple[str, ...], float] = defaultdict(float)
    for name, count in audit.by_task.items():
        by_task[state.labels.get(name, OTHER),] += count
    about = "Likewise, by task; only of tasks with any."
    yield _gauge("task_unaccounted_runs", about, by_task.items(), "task")


def _sums(tasks: Iterable[OneTask]) -> tuple[dict[tuple[str, ...], float], ...]:
    due: dict[tuple[str, ...], float] = defaultdict(float)
    started: dict[tuple[str, ...], float] = defaultdict(float)
    ended: dict[tuple[str, ...], float] = defaultdict(float)
    for task in tasks:
        due[task.label,] += task.due
        started[task.label, task.priority] += task.started
        for (status, reason), count in {**_RARE.get(task.priority, {}), **task.outcomes}.items():
            ended[task.label, task.priority, status, reason] += count
    return due, started, ended


def _tasks(state: State) -> Iterator[Metric]:
    states: dict[tuple[str, ...], float] = {}
    restarts: dict[tuple[str, ...], float] = defaultdict(float)
    crash_loops: dict[tuple[str, ...], float] = defaultdict(float)
    failures: dict[tuple[str, ...], float] = defaultdict(float)
    stale: dict[tuple[str, ...], float] = defaultdict(float)
    for task in state.tasks:
        own = (task.label,)
        if (task.label, WORDS[0]) not in states:
            states.update({(task.label, word): 0 for word in WORDS})
        states[task.label, task.state] += 1
        restarts[own] += task.restarts
        crash_loops[own] += task.crash_loops
        failures[own] = max(failures[own], task.failures)
        if task.stale is not None:
            stale[own] += task.stale
    successes = [
        ((task.label,), task.success / SECOND)
        for task in state.tasks
        if task.success is not None and task.label != OTHER
    ]
    yield _gauge("task_state", "1 for the state that a task is in.", states.items(), "task", "state")
    about = "Times that a task was tried again or started anew."
    yield _counter("task_restarts", about, restarts.items(), "task")
    about = "Times that a task began to fail again and again."
    yield _counter("crash_loops", about, crash_loops.items(), "task")
    yield _gauge("task_consecutive_failures", "Since its last success.", failures.items(), "task")
    about = "Whether a success is overdue, of tasks with `fresh_within`."
    yield _gauge("task_stale", about, stale.items(), "task")
    yield _gauge("task_last_success_timestamp_seconds", "When it last succeeded.", successes, "task")
    about = "Critical tasks that were to be started half a minute ago, with nothing in the way."
    yield _gauge("critical_tasks_overdue", about, [((), state.overdue)])


def _markets(state: State) -> Iterator[Metric]:
    phases = [((m.name, phase), float(phase == m.phase)) for m in state.markets for phase in m.phases]
    yield _gauge("market_phase", "1 for the phase that a market is in.", phases, "market", "phase")
    horizons = [((m.name,), m.horizon) for m in state.markets if m.horizon is not None]
    # No unit in the name: promtool has days for no unit at all.
    about = "Days until the end of the last that the exchange has announced; below 0 past it."
    yield _gauge("market_horizon", about, horizons, "market")


def _loop(state: State) -> Iterator[Metric]:
    yield _gauge("loop_lag_seconds", "Mean lag of the event loop, over 5 s.", [((), state.lag)])
    about = "Times that the event loop did not answer for half a second."
    yield _counter("loop_stalls", about, [((), state.stalls)])
    shedding = [((each.label,), float(each in state.shedding)) for each in Priority]
    yield _gauge("load_shedding", "Whether runs are skipped to relieve the loop.", shedding, "priority")


def _caches(state: State) -> Iterator[Metric]:
    stats = state.cache.stats()
    entries = [((name,), each["entries"]) for name, each in stats.items()]
    yield _gauge("cache_entries", "Values held.", entries, "namespace")
    for count, (name, about) in _CACHE.items():
        values = [((namespace,), each[count]) for namespace, each in stats.items()]
        yield _counter(f"cache_{name}", about, values, "namespace")


def _ledger(state: State) -> Iterator[Metric]:
    ledger = state.ledger
    yield _gauge("ledger_degraded", "Whether the disk refuses what is recorded.", [((), ledger.degraded)])
    yield _gauge("ledger_queue", "Records on their way to the disk.", [((), ledger.queued)])
    about = "Runs that are on the disk as queued or running."
    yield _gauge("ledger_unfinished_runs", about, [((), ledger.unfinished)])
    yield _counter("ledger_dropped", "Records given up.", [((), ledger.dropped)])
    yield _counter("ledger_commits", "Commits.", [((), ledger.commits)])
    yield _counter("ledger_commit_seconds", "The time that all of them took.", [((), ledger.commit_seconds)])
    about = "How long the latest commit took."
    yield _gauge("ledger_last_commit_seconds", about, [((), ledger.last_commit_seconds)])


def _gauge(name: str, about: str, values: Values, *labels: str) -> Metric:
    family = GaugeMetricFamily(f"scheduler_{name}", about, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family


def _counter(name: str, about: str, values: Values, *labels: str) -> Metric:
    family = CounterMetricFamily(f"scheduler_{name}", about, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family


def _histogram(name: str, about: str, values: Iterable[Buckets]) -> Metric:
    family = HistogramMetricFamily(f"scheduler_{name}", about, labels=("priority",))
    for priority, (buckets, total) in zip(Priority, values, strict=True):
        family.add_metric((priority.label,), buckets, total)
    return family
