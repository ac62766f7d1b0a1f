"""What Prometheus is told of a daemon: each run once, however often its row is written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from scheduler.context import Context
from scheduler.core.messages import (
    MINUTE,
    SECOND,
    CacheSpec,
    LoopLag,
    PauseRequested,
    Priority,
    Record,
    RestartPolicy,
    ResumeRequested,
    RunNow,
    Status,
    Work,
)
from scheduler.core.tasks import TaskState
from scheduler.core.triggers import After, KeepRunning, On
from scheduler.daemon import Daemon
from scheduler.metrics import Metrics
from scheduler.metrics.counts import Counts, Histogram
from scheduler.metrics.labels import Labels
from scheduler.metrics.state import state_of
from tests.core.desk import spec
from tests.core.tables import nse_week
from tests.helpers import instant
from tests.shell.test_daemon import NOON, PACE, Host, at, on_virtual_time, task

TABLE = nse_week()
DUE = instant(NOON)
PATIENT = RestartPolicy("always", burst=3, window=MINUTE, then="keep_trying")


class Reading:
    """A scrape, parsed."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.samples = [
            sample for family in text_string_to_metric_families(text.decode()) for sample in family.samples
        ]

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels."""
        found = [
            sample.value
            for sample in self.samples
            if sample.name == f"scheduler_{name}" and labels.items() <= sample.labels.items()
        ]
        assert found, f"{name} {labels} is not told"
        return sum(found)

    def has(self, name: str) -> bool:
        return any(sample.name == f"scheduler_{name}" for sample in self.samples)


async def scrape(host: Host, metrics: Metrics) -> Reading:
    with ThreadPoolExecutor(1) as threads, host.clock.hold():
        return Reading(await metrics.exposition(threads))


def measured(host: Host, *tasks: Any, works: dict[str, Any] | None = None) -> tuple[Daemon, Metrics]:
    daemon = host.daemon(host.configured(*tasks, caches={"news": CacheSpec(ttl=SECOND)}), works=works)
    return daemon, Metrics(daemon)


async def failing(ctx: Context) -> None:
    raise ValueError("no")


async def lasting(ctx: Context) -> None:
    await asyncio.sleep(25)


# Of runs.


@on_virtual_time(NOON)
async def test_a_run_is_due_started_and_ended_once(host: Host) -> None:
    daemon, metrics = measured(host, task("a", PACE, priority=Priority.CRITICAL), task("b", After("a")))
    await daemon.start()
    await host.until("2026-11-23T12:00:25+05:30")
    told = await scrape(host, metrics)
    for name in "ab":
        assert told("runs_due_total", task=name) == 3
        assert told("runs_started_total", task=name) == 3
        assert (
            told("runs_total", task=name) == told("runs_total", task=name, status="completed", reason="") == 3
        )
    assert told("runs_total", priority="critical") == 3
    assert told("run_lateness_seconds_count", priority="critical") == 3
    assert told("run_lateness_seconds_count") == 3, "what comes after a run is not late for the clock"
    assert told("run_duration_seconds_count") == 6
    assert told("task_last_success_timestamp_seconds", task="a") == (DUE + 20 * SECOND) / SECOND
    await daemon.stop()


@on_virtual_time(NOON)
async def test_a_stretch_that_grows_is_counted_by_what_it_grows_by(host: Host) -> None:
    daemon, metrics = measured(host, task("a", PACE))
    await daemon.start()
    await host.until("2026-11-23T12:00:05+05:30")
    daemon.handle(PauseRequested("a"))
    await host.until("2026-11-23T12:01:05+05:30")
    told = await scrape(host, metrics)
    assert told("runs_total", task="a", status="skipped", reason="paused") == 6
    assert told("runs_due_total", task="a") == 7
    assert told("task_state", task="a", state="paused") == 1
    daemon.handle(ResumeRequested("a"))
    await host.until("2026-11-23T12:01:25+05:30")
    daemon.handle(PauseRequested("a"))
    await host.until("2026-11-23T12:02:05+05:30")
    told = await scrape(host, metrics)
    assert told("runs_total", task="a", status="skipped") == 10
    assert told("runs_due_total", task="a") == told("runs_total", task="a") == 13
    await daemon.stop()


@on_virtual_time(NOON)
async def test_what_was_missed_before_the_start_is_counted_and_a_critical_miss_is_there_before_it(
    host: Host,
) -> None:
    daemon, metrics = measured(host, task("a", PACE, priority=Priority.CRITICAL, catchup=5 * SECOND))
    await daemon.start()
    await host.until("2026-11-23T12:00:05+05:30")
    assert (await scrape(host, metrics))("runs_total", task="a", status="missed", reason="downtime") == 0
    await daemon.stop()
    await host.until("2026-11-23T12:05:07+05:30")
    daemon, metrics = measured(host, task("a", PACE, priority=Priority.CRITICAL, catchup=5 * SECOND))
    await daemon.start()
    told = await scrape(host, metrics)
    assert told("runs_total", task="a", status="missed", reason="downtime") == 30
    assert told("runs_due_total", task="a") == 30
    await daemon.stop()


@on_virtual_time(NOON)
async def test_failures_retries_and_crash_loops_are_counted_and_the_state_says_so(host: Host) -> None:
    daemon, metrics = measured(host, task("c", at("12:01"), restart=PATIENT), works={"c": failing})
    await daemon.start()
    await host.until("2026-11-23T12:01:10+05:30")
    told = await scrape(host, metrics)
    assert told("runs_due_total", task="c") == 1
    assert told("runs_total", task="c", status="failed", reason="error") == told(
        "runs_started_total", task="c"
    )
    assert told("task_restarts_total", task="c") == told("runs_started_total", task="c") > 3
    assert told("crash_loops_total", task="c") == 1
    assert told("task_state", task="c", state="crash-looping") == told("task_state", task="c") == 1
    assert told("task_consecutive_failures", task="c") == told("runs_total", task="c")
    assert told("events_total", event="task.crash_looping") == 1
    assert told("events_total", event="config.rejected") == 0
    await daemon.stop()


@on_virtual_time(NOON)
async def test_a_loop_is_not_measured_and_what_listens_or_is_run_by_hand_is_not_late(host: Host) -> None:
    loop = task("c", KeepRunning(frozenset({"open"})))
    daemon, metrics = measured(host, loop, task("a", On(("task.paused",))), works={"c": lasting})
    await daemon.start()
    daemon.handle(RunNow("a"))
    await host.until("2026-11-23T12:00:05+05:30")
    daemon.handle(PauseRequested("c"))
    await host.until("2026-11-23T12:00:10+05:30")
    told = await scrape(host, metrics)
    assert told("runs_total", task="c", status="cancelled", reason="paused") == 1
    assert told("runs_due_total", task="a") == 2
    assert told("run_duration_seconds_count") == 2
    assert told("run_lateness_seconds_count") == 0
    await daemon.stop()


def recorded(*records: Record) -> Counts:
    states = {"a": TaskState(spec("a", PACE), TABLE, 0, 0)}
    counts = Counts(states)
    for record in records:
        counts.record(record)
    return counts


def row(status: Status, attempt: int = 1, *, count: int = 1, **more: Any) -> Record:
    return Record("a", DUE, attempt, status, count=count, **more)


@pytest.mark.parametrize(
    ("rows", "due", "started", "outcomes"),
    [
        ([row(Status.QUEUED, 0), row(Status.RUNNING), row(Status.COMPLETED)], 1, 1, {"completed": 1}),
        ([row(Status.QUEUED, 0), row(Status.MISSED, 0)], 1, 0, {"missed": 1}),
        ([row(Status.QUEUED, 0), row(Status.SKIPPED, 0)], 1, 0, {"skipped": 1}),
        ([row(Status.QUEUED, 0), row(Status.CANCELLED)], 1, 0, {"cancelled": 1}),
        ([row(Status.RUNNING), row(Status.CANCELLED, started=DUE)], 1, 1, {"cancelled": 1}),
        ([row(Status.RUNNING), row(Status.FAILED), row(Status.RUNNING, 2)], 1, 2, {"failed": 1}),
        ([row(Status.FAILED)], 0, 0, {"failed": 1}),  # found running by a daemon that starts
        ([row(Status.MISSED, 0, count=7)], 7, 0, {"missed": 7}),
        ([row(Status.SKIPPED, 0, count=2), row(Status.SKIPPED, 0, count=5)], 5, 0, {"skipped": 5}),
        ([row(Status.SKIPPED, 0), row(Status.MISSED, 0)], 1, 0, {"skipped": 1}),  # settled already
        ([row(Status.RUNNING, cause="backfill"), row(Status.COMPLETED, cause="backfill")], 0, 1,
         {"completed": 1}),
    ],
)  # fmt: skip
def test_the_rows_of_one_run_are_one_run(
    rows: Sequence[Record], due: int, started: int, outcomes: dict[str, int]
) -> None:
    of = recorded(*rows).tasks["a"]
    assert (of.due, of.started) == (due, started)
    assert {str(status): number for (status, _), number in of.outcomes.items()} == outcomes


def test_a_second_stretch_is_counted_from_its_beginning() -> None:
    first, second = row(Status.SKIPPED, 0, count=3), row(Status.SKIPPED, 0, count=2)
    of = recorded(first, second._replace(due=DUE + MINUTE)).tasks["a"]
    assert (of.due, sum(of.outcomes.values())) == (5, 5)


def test_a_histogram_counts_up_to_and_including_each_bound_and_never_goes_back() -> None:
    histogram = Histogram((0.5, 2.0))
    for duration in (-SECOND, SECOND // 2, SECOND, 2 * SECOND, 3 * SECOND):
        histogram.observe(duration)
    assert histogram.cumulative() == ([("0.5", 2), ("2.0", 4), ("+Inf", 5)], 6.5)


# Of everything else.


@on_virtual_time(NOON)
async def test_the_state_of_markets_load_cache_and_ledger_is_told(host: Host) -> None:
    daemon, metrics = measured(host, task("a", PACE, fresh_within=MINUTE), task("b", PACE))
    await daemon.start()
    daemon.cache["news"].get("nothing")
    daemon.handle(LoopLag(SECOND // 2))
    told = await scrape(host, metrics)
    assert told("ready") == 1
    assert told("build_info") == 1
    assert told("market_phase", market="NSE", phase="open") == told("market_phase", market="NSE") == 1
    assert told("market_horizon", market="NSE") == pytest.approx(11.5)
    assert told("load_shedding", priority="nice-to-have") == told("load_shedding") == 1
    assert (told("loop_lag_seconds"), told("loop_stalls_total")) == (0, 0)
    assert told("cache_misses_total", namespace="news") == 1
    assert told("cache_entries", namespace="news") == 0
    assert told("task_stale", task="a") == told("task_stale") == 0
    assert (told("slots"), told("slots_used")) == (64, 0)
    assert told("ledger_commits_total") > 0
    assert (told("ledger_degraded"), told("ledger_dropped_total")) == (0, 0)
    assert told("critical_tasks_overdue") == 0
    assert b"process_resident_memory_bytes" in told.text
    await daemon.stop()


@on_virtual_time(NOON)
async def test_a_task_without_a_success_for_too_long_is_stale(host: Host) -> None:
    daemon, metrics = measured(host, task("c", PACE, fresh_within=MINUTE), works={"c": failing})
    await daemon.start()
    await host.until("2026-11-23T12:02:00+05:30")
    assert (await scrape(host, metrics))("task_stale", task="c") == 1
    await daemon.stop()


@on_virtual_time(NOON)
async def test_the_audit_is_told_once_there_has_been_one(host: Host) -> None:
    daemon, metrics = measured(host, task("a", PACE))
    await daemon.start()
    assert not (await scrape(host, metrics)).has("runs_expected")
    await host.until("2026-11-23T12:01:15+05:30")
    daemon.accounting.latest = (await daemon.accounting.audit())._replace(
        accounted=4, unaccounted=2, by_task={"a": 2}
    )
    told = await scrape(host, metrics)
    assert [told(f"runs_{name}") for name in ("expected", "accounted", "in_flight", "unaccounted")] == [
        6,
        4,
        0,
        2,
    ]
    assert told("task_unaccounted_runs", task="a") == 2
    assert told("audited_until_timestamp_seconds") == (DUE + 65 * SECOND) / SECOND
    await daemon.stop()


@on_virtual_time(NOON)
async def test_a_task_that_goes_takes_its_series_along(host: Host) -> None:
    current = [host.configured(task("a", PACE), task("b", PACE))]
    daemon = host.daemon(lambda: current[0])
    metrics = Metrics(daemon)
    await daemon.start()
    await host.until("2026-11-23T12:00:05+05:30")
    current[0] = host.configured(task("a", PACE))
    assert await daemon.reload("test")
    told = await scrape(host, metrics)
    assert b'task="b"' not in told.text
    assert told("runs_total", task="a") == 1
    await daemon.stop()


def states(names: Sequence[str]) -> dict[str, TaskState]:
    return {name: TaskState(spec(name, PACE), TABLE, rank, 0) for rank, name in enumerate(names)}


def test_beyond_a_number_of_tasks_the_rest_are_told_together_and_labels_are_kept() -> None:
    labels = Labels(most=2)
    assert labels.of(states("abc")) == {"a": "a", "b": "b", "c": "other"}
    assert labels.of(states("xbc")) == {"x": "x", "b": "b", "c": "other"}
    assert labels.of(states("bxc")) == {"x": "x", "b": "b", "c": "other"}


@on_virtual_time(NOON)
async def test_what_is_told_together_adds_up(host: Host) -> None:
    daemon, metrics = measured(host, *(task(name, PACE) for name in "abcd"))
    metrics._labels = Labels(most=1)
    await daemon.start()
    await host.until("2026-11-23T12:00:05+05:30")
    told = await scrape(host, metrics)
    assert told("runs_due_total", task="a") == 1
    assert told("runs_due_total", task="other") == told("runs_total", task="other") == 3
    assert told("task_state", task="other", state="waiting") == told("task_state", task="other") == 3
    await daemon.stop()


@on_virtual_time(NOON)
async def test_others_have_their_turn_of_the_loop_while_many_tasks_are_looked_at(host: Host) -> None:
    daemon, metrics = measured(
        host, *(task(f"t{n}", at("13:00"), work=Work(target="a")) for n in range(1000))
    )
    await daemon.start()
    turns = 0
    scraping = asyncio.ensure_future(state_of(daemon, metrics._counts, metrics._labels))
    while not scraping.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 4
    assert len((await scraping).tasks) == 1000
    await daemon.stop()
