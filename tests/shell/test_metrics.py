"""What Prometheus is told of a daemon: each run once, however often its row is written."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import TypeAdapter, ValidationError

from scheduler.context import Context
from scheduler.core import view
from scheduler.core.admission import Admission
from scheduler.core.messages import (
    MINUTE,
    SECOND,
    BackfillRequested,
    CacheSpec,
    Cause,
    ClockStepped,
    Instant,
    LoopLag,
    Overlap,
    PauseRequested,
    Priority,
    RestartPolicy,
    ResumeRequested,
    RunNow,
    Status,
    Wake,
    Work,
)
from scheduler.core.tasks import TaskState
from scheduler.core.triggers import After, Every, KeepRunning, On
from scheduler.daemon import Daemon
from scheduler.metrics import Metrics
from scheduler.metrics.counts import Counts, Histogram, OfTask
from scheduler.metrics.labels import OTHER, Labels
from scheduler.metrics.state import state_of
from scheduler.taskfile.values import Name
from tests.core.desk import Desk, bad, ok, spec
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


def failing_at_first(times: int) -> Any:
    """It fails so many times, then it lasts."""

    async def work(ctx: Context) -> None:
        nonlocal times
        times -= 1
        if times >= 0:
            raise ValueError("no")
        await asyncio.sleep(20)

    return work


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


def counted(desk: Desk) -> dict[str, OfTask]:
    """Fed with all that the engine wrote, as it wrote it."""
    counts = Counts(desk.engine.tasks)
    for record in desk.records:
        counts.record(record)
    return counts.tasks


def on_record(desk: Desk, name: str) -> tuple[int, int, Counter[tuple[str, str]]]:
    """Dues, starts and outcomes by the rows that there are in the end."""
    rows = [record for record in desk.rows.values() if record.task == name]
    dues: dict[Instant, int] = {}
    outcomes: Counter[tuple[str, str]] = Counter()
    for record in rows:
        if record.cause != Cause.BACKFILL:
            dues[record.due] = max(dues.get(record.due, 0), record.count)
        if record.status not in (Status.QUEUED, Status.RUNNING):
            outcomes[str(record.status), str(record.reason)] += record.count
    return sum(dues.values()), sum(record.attempt > 0 for record in rows), outcomes


SLOW, EVERY_TEN = {"a": ok(25)}, Every({"*": 10 * SECOND})
STORIES: dict[str, Callable[[], Desk]] = {
    "each at once": lambda: Desk([spec("a", EVERY_TEN)], TABLE, NOON),
    "it waits behind the one before": lambda: Desk(
        [spec("a", EVERY_TEN, overlap=Overlap.QUEUE_ONE)], TABLE, NOON, scripts=SLOW
    ),
    "it takes the place of the one before": lambda: Desk(
        [spec("a", EVERY_TEN, overlap=Overlap.CANCEL_PREVIOUS)], TABLE, NOON, scripts=SLOW
    ),
    "it overlaps": lambda: Desk([spec("a", EVERY_TEN)], TABLE, NOON, scripts=SLOW),
    "it waits for a slot": lambda: Desk(
        [spec("a", EVERY_TEN), spec("b", EVERY_TEN), spec("c", EVERY_TEN, catchup=SECOND)], TABLE, NOON,
        scripts={"a": ok(12), "b": ok(12)}, admission=Admission(1, reserved=0),
    ),
    "it comes after one that lasts": lambda: Desk(
        [spec("a", EVERY_TEN, overlap=Overlap.QUEUE_ONE), spec("b", After("a")), spec("c", After("b"))],
        TABLE, NOON, scripts=SLOW | {"b": ok(45)},
    ),
    "it fails": lambda: Desk(
        [spec("a", EVERY_TEN), spec("b", After("a"))], TABLE, NOON, scripts={"a": bad()}
    ),
    "it listens to what waits": lambda: Desk(
        [spec("a", EVERY_TEN), spec("b", On(("run.failed",)), overlap=Overlap.QUEUE_ONE)], TABLE, NOON,
        scripts={"a": bad(), "b": ok(40)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES)
def test_each_due_is_counted_once_however_often_its_row_is_written(story: str) -> None:
    desk = STORIES[story]().until("2026-11-23T12:03:03+05:30")
    desk.tell(PauseRequested("a"))
    desk.until("2026-11-23T12:04:03+05:30").tell(RunNow("a"))
    desk.tell(ResumeRequested("a"))
    desk.until("2026-11-23T12:05:05+05:30").sleep("2026-11-23T12:09:05+05:30").tell(Wake())
    desk.tell(BackfillRequested("a", (instant("2026-11-23T11:00:00+05:30"),)))
    desk.until("2026-11-23T12:12:00+05:30")
    found = counted(desk)
    for name in desk.engine.tasks:
        counts = found[name]
        assert (counts.due, counts.started, Counter(counts.outcomes)) == on_record(desk, name)
    assert on_record(desk, "a")[0] > 70


def test_how_long_a_run_took_is_not_told_where_the_clock_stepped_meanwhile() -> None:
    desk = Desk([spec("a", EVERY_TEN)], TABLE, NOON, scripts={"a": ok(5)})
    counts, seen = Counts(desk.engine.tasks), [0, 0]

    def tell() -> float:
        for record in desk.records[seen[0] :]:
            counts.record(record)
        for announcement in desk.said[seen[1] :]:
            counts.announcement(announcement)
        seen[:] = len(desk.records), len(desk.said)
        return counts.duration[Priority.IMPORTANT].cumulative()[0][-1][1]

    desk.until("2026-11-23T12:00:12+05:30")
    assert tell() == 1
    desk.sleep("2026-11-23T12:30:12+05:30").tell(ClockStepped(30 * MINUTE))
    assert tell() == 1
    desk.until("2026-11-23T12:30:19+05:30")
    assert (tell(), counts.tasks["a"].completed) == (1, 2)
    desk.until("2026-11-23T12:30:26+05:30")
    assert tell() == 2


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
    assert labels.of(states("abc")) == {"a": "a", "b": "b", "c": OTHER}
    assert labels.of(states("xbc")) == {"x": "x", "b": "b", "c": OTHER}
    assert labels.of(states("bxc")) == {"x": "x", "b": "b", "c": OTHER}


def test_no_task_can_have_the_label_of_the_rest() -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(OTHER)


@on_virtual_time(NOON)
async def test_a_task_is_in_the_state_that_the_api_says_it_is_in(host: Host) -> None:
    tasks = (
        task("a", PACE, restart=PATIENT), task("b", PACE), task("c", PACE),
        task("d", at("12:01"), restart=PATIENT),
    )  # fmt: skip
    works = {"a": failing_at_first(5), "b": lasting, "d": failing}
    daemon, metrics = measured(host, *tasks, works=works)
    await daemon.start()
    daemon.handle(PauseRequested("c"))
    words = set()
    for _ in range(40):
        await asyncio.sleep(1)
        told = await scrape(host, metrics)
        for seen in daemon.engine.snapshot():
            assert told("task_state", task=seen["task"], state=seen["state"]) == 1
            assert told("task_state", task=seen["task"]) == 1
            words.add(seen["state"])
    assert words == {"waiting", "running", "paused", "backing-off", "crash-looping"} <= set(view.WORDS)
    await daemon.stop()


@on_virtual_time(NOON)
async def test_what_is_told_together_adds_up(host: Host) -> None:
    daemon, metrics = measured(host, *(task(name, PACE) for name in "abcd"))
    metrics._labels = Labels(most=1)
    await daemon.start()
    await host.until("2026-11-23T12:00:05+05:30")
    told = await scrape(host, metrics)
    assert told("runs_due_total", task="a") == 1
    assert told("runs_due_total", task=OTHER) == told("runs_total", task=OTHER) == 3
    assert told("task_state", task=OTHER, state="waiting") == told("task_state", task=OTHER) == 3
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
