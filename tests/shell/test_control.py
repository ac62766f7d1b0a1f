"""What the control plane answers, of a real daemon with a real ledger."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, closing
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

import pytest

from scheduler.api.control import Peer
from scheduler.api.models.runs import PlanQuery, RunsQuery, Timeline, TimelineQuery
from scheduler.api.models.system import EventsQuery, MarketsQuery, System
from scheduler.api.models.tasks import BackfillRequest, PauseSelection, Selection, Tasks
from scheduler.clock import ScaledClock
from scheduler.configuration import Configuration
from scheduler.control.process import OwnProcess
from scheduler.control.threads import Threads
from scheduler.control.whole import DaemonControl
from scheduler.core.market import MarketTable
from scheduler.core.messages import (
    HOUR,
    SECOND,
    CacheSpec,
    Overlap,
    Priority,
    RestartPolicy,
    Run,
    TaskSpec,
    Work,
)
from scheduler.core.triggers import After, At, Every, KeepRunning, parse_anchor
from scheduler.daemon import Daemon
from scheduler.errors import (
    ConfigurationError,
    SchedulerError,
    UnknownKeyError,
    UnknownNamespaceError,
    UnknownRunError,
    UnknownTaskError,
    UsageError,
)
from tests.core.tables import always, nse_week
from tests.helpers import instant
from tests.shell.execution import until
from tests.shell.test_daemon import task

TABLE = nse_week()
TEN = "2026-11-23T10:00:00.500+05:30"
ME = Peer(os.geteuid(), os.getpid())
WHO = pwd.getpwuid(os.geteuid()).pw_name
HOURLY = Every({"*": HOUR})
NOON = At((parse_anchor("12:00"),))

pytestmark = pytest.mark.asyncio


class Works:
    """What the tasks do; each can be held up and made to fail."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.fail = False
        self.error = "no quotes"

    async def quick(self) -> None:
        if self.fail:
            raise ValueError(self.error)

    async def slow(self) -> None:
        await self.go_on.wait()


@asynccontextmanager
async def control_of(
    tmp_path: Path,
    *tasks: TaskSpec,
    works: Works | None = None,
    threads: Threads | None = None,
    at: str = TEN,
    table: MarketTable = TABLE,
    zone: str = "Asia/Kolkata",
) -> AsyncIterator[Any]:
    works = works or Works()
    configuration = Configuration(tasks, {"NSE": table}, ZoneInfo(zone), {"news": CacheSpec(60 * SECOND)})
    daemon = Daemon(
        lambda _: configuration, state=tmp_path / "state", clock=ScaledClock(instant(at), 1),
        callables={each.name: works.slow if each.name.startswith("slow") else works.quick for each in tasks},
        seed=0,
    )  # fmt: skip
    with closing(threads or Threads()) as of_control:
        control = DaemonControl(daemon, of_control)
        await daemon.start()
        await control.begin()
        try:
            yield control
        finally:
            works.go_on.set()
            await daemon.stop()


def status(control: DaemonControl, name: str) -> Any:
    specs = {spec.name: spec for spec in control._daemon.configuration.specs}
    return control.tasks.status(specs[name])


async def test_all_tasks_are_told_of_at_a_glance_also_those_that_are_disabled(tmp_path: Path) -> None:
    tasks = (
        task("b", HOURLY),
        task("a", NOON, priority=Priority.CRITICAL, fresh_within=HOUR),
        task("off", HOURLY, enabled=False),
    )
    async with control_of(tmp_path, *tasks) as control:
        system = System.model_validate_json(await control.system(ME), strict=False)
        assert [(each.task, each.state, each.freshness) for each in system.tasks] == [
            ("a", "waiting", "fresh"), ("b", "waiting", None), ("off", "disabled", None),
        ]  # fmt: skip
        assert status(control, "a").next == "2026-11-23T12:00:00+05:30"
        assert (system.markets[0].market, system.markets[0].phase) == ("NSE", "open")
        assert system.markets[0].until == "2026-11-23T15:30:00+05:30"
        assert system.process.pid == os.getpid()
        assert system.slots.total == 64
        assert system.timezone == str(TABLE.zone)


async def test_a_run_by_hand_is_started_shown_and_on_record_with_who_and_why(tmp_path: Path) -> None:
    async with control_of(tmp_path, task("slow", NOON)) as control:
        ran = await control.tasks.run_now("slow", ME, "the feed was late")
        assert (ran.outcome, ran.by) == ("started", WHO)
        (alive,) = control.runs.active().runs
        assert (alive.run_id, alive.state, alive.cause) == (ran.run_id, "running", "manual")
        assert (await control.runs.row(ran.run_id)).status == "running"
        again = await control.tasks.run_now("slow", ME, "")
        assert (again.outcome, again.reason) == ("skipped", "overlap")
        acts = (await control.tasks.acts(10)).acts
        assert [(act.action, act.by, act.task, act.reason) for act in acts] == [
            ("run-now", WHO, "slow", ""), ("run-now", WHO, "slow", "the feed was late"),
        ]  # fmt: skip


async def test_a_run_is_cancelled_by_its_id_and_only_while_it_is_active(tmp_path: Path) -> None:
    async with control_of(tmp_path, task("slow", NOON)) as control:
        ran = await control.tasks.run_now("slow", ME, "")
        assert (await control.runs.cancel(ran.run_id, ME, "wrong day")).task == "slow"
        await until(lambda: not control.runs.active().runs)
        assert (await control.runs.row(ran.run_id)).reason == "operator"
        with pytest.raises(SchedulerError, match="is not running: it is cancelled"):
            await control.runs.cancel(ran.run_id, ME, "")


async def test_a_run_that_waits_is_shown_and_cancelled_by_its_id(tmp_path: Path) -> None:
    async with control_of(tmp_path, task("slow", NOON, overlap=Overlap.QUEUE_ONE)) as control:
        runs = [await control.tasks.run_now("slow", ME, "") for _ in range(2)]
        assert [run.outcome for run in runs] == ["started", "queued"]
        assert (await control.runs.row(runs[1].run_id)).status == "queued"
        await control.runs.cancel(runs[1].run_id, ME, "once is enough")
        assert [run.run_id for run in control.runs.active().runs] == [runs[0].run_id]
        row = await control.runs.row(runs[1].run_id)
        assert (row.status, row.reason, row.started) == ("cancelled", "operator", None)
        assert len((await control.runs.rows(RunsQuery(task=("slow",)))).runs) == 2


@pytest.mark.parametrize(
    "run_id", ["slow", "slow-20260231T000000Z", "slow-20261123T043000Z", "x-20261123T043000Z~0"]
)
async def test_what_is_no_run_is_not_found(tmp_path: Path, run_id: str) -> None:
    async with control_of(tmp_path, task("slow", NOON)) as control:
        with pytest.raises(UnknownRunError):
            await control.runs.row(run_id)


@pytest.mark.parametrize("due", ["2026-11-23T10:00:00+05:30", "1970-01-01T00:00:00.000000001+00:00"])
@pytest.mark.parametrize("attempt", [1, 2, 12])
async def test_every_run_id_is_understood(tmp_path: Path, due: str, attempt: int) -> None:
    run = Run("a-b-20261123T043000Z", instant(due), attempt)
    async with control_of(tmp_path, task("slow", NOON)) as control:
        with pytest.raises(UnknownRunError, match=f"no run has the id {run.run_id!r}"):
            await control.runs.row(run.run_id)


@pytest.mark.parametrize(
    ("until", "ends"),
    [
        ("02:00", "2026-03-29T02:00:00+01:00"), ("00:45:30", "2026-03-29T00:45:30+00:00"),
        ("2026-03-30T00:30", "2026-03-30T00:30:00+01:00"),
    ],
)  # fmt: skip
async def test_a_time_of_today_is_in_the_zone_of_the_files_with_the_offset_that_it_has_by_then(
    tmp_path: Path, until: str, ends: str
) -> None:
    night, table = "2026-03-29T00:30:00+00:00", always("2026-03-20", "2026-04-10")
    async with control_of(
        tmp_path, task("a", HOURLY), at=night, table=table, zone="Europe/London"
    ) as control:
        assert (await control.tasks.pause(PauseSelection(all=True, until=until), ME)).until == ends
        with pytest.raises(UsageError, match="until 00:30 is over already"):
            await control.tasks.pause(PauseSelection(all=True, until="00:30"), ME)
        with pytest.raises(UsageError, match="T25:00' is not a time; write 2026-11-23T09:15"):
            await control.tasks.pause(PauseSelection(all=True, until="25:00"), ME)


async def test_many_tasks_are_paused_by_priority_for_a_time_and_resumed_together(tmp_path: Path) -> None:
    tasks = (
        task("a", HOURLY, priority=Priority.CRITICAL),
        task("b", HOURLY, priority=Priority.CRITICAL),
        task("c", HOURLY),
    )
    async with control_of(tmp_path, *tasks) as control:
        wanted = PauseSelection(priority="critical", until="2026-11-23T11:30", reason="drill")
        paused = await control.tasks.pause(wanted, ME)
        assert (paused.tasks, paused.until) == (("a", "b"), "2026-11-23T11:30:00+05:30")
        assert [status(control, name).state for name in "abc"] == ["paused", "paused", "waiting"]
        assert status(control, "a").paused_until == "2026-11-23T11:30:00+05:30"
        resumed = await control.tasks.resume(Selection(all=True), ME)
        assert [(each.task, each.ended) for each in resumed.tasks] == [("a", ("paused",)), ("b", ("paused",))]
        with pytest.raises(UsageError, match="is over already"):
            await control.tasks.pause(PauseSelection(all=True, until="2026-11-23T09:00"), ME)
        with pytest.raises(UsageError, match="no task goes by a market 'MCX'; there are NSE"):
            await control.tasks.pause(PauseSelection(market="MCX"), ME)


async def test_when_one_of_several_names_is_wrong_nothing_is_paused(tmp_path: Path) -> None:
    async with control_of(tmp_path, task("a", HOURLY), task("off", HOURLY, enabled=False)) as control:
        with pytest.raises(UnknownTaskError, match="no task is named 'aa'; did you mean 'a'"):
            await control.tasks.pause(PauseSelection(tasks=("a", "aa")), ME)
        with pytest.raises(SchedulerError, match="off is disabled"):
            await control.tasks.pause(PauseSelection(tasks=("a", "off")), ME)
        assert status(control, "a").state == "waiting"


async def test_a_backfill_makes_what_did_not_complete_and_counts_the_attempts_on(tmp_path: Path) -> None:
    works = Works()
    async with control_of(
        tmp_path, task("a", HOURLY), task("feed", KeepRunning(None)), works=works
    ) as control:
        works.fail = True
        wanted = BackfillRequest.model_validate(
            {"from": "2026-11-23T06:00", "until": "2026-11-23T09:00", "reason": "x"}
        )
        first = await control.tasks.backfill("a", wanted, ME)
        assert (first.runs, first.first, first.completed) == (3, "2026-11-23T06:00:00+05:30", 0)
        await until(control._daemon.engine.idle)
        works.fail = False
        await until(lambda: control.runs.active().count <= 1)
        wanted = BackfillRequest.model_validate({"from": "2026-11-23T06:00", "until": "2026-11-24T00:00"})
        second = await control.tasks.backfill("a", wanted, ME)
        assert (second.runs, second.last) == (5, "2026-11-23T10:00:00+05:30")
        await asyncio.sleep(0.3)
        rows = (await control.runs.rows(RunsQuery(task=("a",), status=("completed",)))).runs
        assert [(row.due[11:16], row.attempt, row.cause) for row in reversed(rows)] == [
            ("06:00", 2, "backfill"), ("07:00", 2, "backfill"), ("08:00", 2, "backfill"),
            ("09:00", 1, "backfill"), ("10:00", 1, "backfill"),
        ]  # fmt: skip
        assert (await control.tasks.backfill("a", wanted, ME)).completed == 5
        with pytest.raises(SchedulerError, match="feed has no dues of the past"):
            await control.tasks.backfill("feed", wanted, ME)


async def test_a_backfill_is_refused_where_it_would_be_endless_or_the_calendar_does_not_reach(
    tmp_path: Path,
) -> None:
    async with control_of(tmp_path, task("a", Every({"*": SECOND}))) as control:
        day = {"from": "2026-11-22", "until": "2026-11-23"}
        with pytest.raises(UsageError, match="more than 10000 runs"):
            await control.tasks.backfill("a", BackfillRequest.model_validate(day), ME)
        early = {"from": "2019-01-01", "until": "2019-01-01T00:00:05"}
        with pytest.raises(UsageError, match="the calendar in force reaches back to"):
            await control.tasks.backfill("a", BackfillRequest.model_validate(early), ME)
        turned = {"from": "2026-11-23", "until": "2026-11-22"}
        with pytest.raises(UsageError, match="is before"):
            await control.tasks.backfill("a", BackfillRequest.model_validate(turned), ME)


async def test_all_about_a_task_has_its_reason_its_runs_and_what_comes(tmp_path: Path) -> None:
    works = Works()
    works.fail = True
    park = RestartPolicy("on-failure", burst=1, window=HOUR, then="park")
    async with control_of(tmp_path, task("a", NOON, restart=park), works=works) as control:
        ran = await control.tasks.run_now("a", ME, "")
        await until(lambda: status(control, "a").state == "parked")
        detail = await control.tasks.detail("a")
        assert detail.status.trouble == "is parked after 1 failures in a row"
        assert "is parked" in detail.why
        assert [(row.run_id, row.status, row.error) for row in detail.runs] == [
            (ran.run_id, "failed", "ValueError: no quotes")
        ]
        assert detail.coming[0] == "2026-11-23T12:00:00+05:30"
        assert detail.definition["name"] == "a"
        with pytest.raises(UnknownTaskError):
            await control.tasks.detail("b")


async def test_the_error_of_a_task_may_have_a_text_that_json_does_not_take(tmp_path: Path) -> None:
    works = Works()
    works.fail, works.error = True, "cannot parse /data/\udcff.csv"
    async with control_of(tmp_path, task("a", NOON), works=works) as control:
        await control.tasks.run_now("a", ME, "")
        await until(lambda: status(control, "a").last is not None)
        detail = await control.tasks.detail("a")
        assert detail.status.error == "ValueError: cannot parse /data/?.csv"
        assert b"/data/?.csv" in detail.model_dump_json().encode()


class Turns:
    """Counts the turns of the loop that others get meanwhile."""

    async def __aenter__(self) -> Self:
        self.count, self._over = 0, False
        self._counting = asyncio.ensure_future(self._go())
        return self

    async def _go(self) -> None:
        while not self._over:
            self.count += 1
            await asyncio.sleep(0)

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        await self._counting


async def test_much_is_done_in_many_turns_of_the_loop(tmp_path: Path) -> None:
    tasks = [task(f"t{number:03}", NOON) for number in range(600)]
    async with control_of(tmp_path, *tasks) as control:
        await control.system(ME)  # the process has been looked at
        for work in (
            control.tasks.all,
            lambda: control.tasks.pause(PauseSelection(all=True), ME),
            lambda: control.tasks.resume(Selection(all=True), ME),
        ):
            async with Turns() as turns:
                await work()
            assert turns.count >= 5


async def test_all_tasks_are_told_of_as_the_document_says(tmp_path: Path) -> None:
    async with control_of(tmp_path, task("a", NOON), task("off", NOON, enabled=False)) as control:
        tasks = Tasks.model_validate_json(await control.tasks.all(), strict=False).tasks
        assert [(each.task, each.state) for each in tasks] == [("a", "waiting"), ("off", "disabled")]
        assert tasks[0] == status(control, "a")


async def test_a_task_that_is_removed_while_it_is_looked_at_is_unknown(tmp_path: Path) -> None:
    async with control_of(tmp_path, task("a", NOON), task("b", NOON)) as control:
        looking = asyncio.ensure_future(control.tasks.detail("a"))
        await asyncio.sleep(0)
        control._daemon._load = lambda _: Configuration((task("b", NOON),), {"NSE": TABLE}, TABLE.zone)
        held = control._access.in_thread

        async def in_thread(work: Any) -> Any:
            found = await held(work)
            await control._daemon.reload("test")
            return found

        control._access.in_thread = in_thread
        with pytest.raises(UnknownTaskError, match="no task is named 'a'"):
            await looking


async def test_what_became_of_a_task_that_is_no_more_is_forgotten(tmp_path: Path) -> None:
    both, one = (task("a", NOON), task("b", NOON)), (task("b", NOON),)
    async with control_of(tmp_path, *both) as control:
        await control.tasks.run_now("a", ME, "")
        await until(lambda: control._latest.outcomes.keys() == {"a"})
        control._daemon._load = lambda _: Configuration(one, {"NSE": TABLE}, TABLE.zone)
        await control.reload(ME, "")
        assert not control._latest.outcomes
    async with control_of(tmp_path, *one) as control:
        assert not control._latest.outcomes


async def test_the_run_of_a_backfill_is_not_the_latest_of_its_task_after_a_restart_either(
    tmp_path: Path,
) -> None:
    wanted = BackfillRequest.model_validate({"from": "2026-11-23T06:00", "until": "2026-11-23T07:00"})
    async with control_of(tmp_path, task("a", HOURLY)) as control:
        await control.tasks.backfill("a", wanted, ME)
        await until(control._daemon.engine.idle)
        await asyncio.sleep(0.05)
        assert status(control, "a").last is None
    async with control_of(tmp_path, task("a", HOURLY)) as control:
        assert status(control, "a").last is None


async def test_when_one_of_several_cannot_be_resumed_none_is(tmp_path: Path) -> None:
    broken = task("broken", NOON, work=Work(target="no.such.module:task"))
    async with control_of(tmp_path, task("a", NOON), broken) as control:
        await control.tasks.pause(PauseSelection(tasks=("a",)), ME)
        control._daemon.engine.tasks["broken"].broken = "it cannot be imported"
        with pytest.raises(SchedulerError, match="broken cannot be run at all"):
            await control.tasks.resume(Selection(tasks=("a", "broken")), ME)
        assert status(control, "a").state == "paused"


async def test_a_disk_that_hangs_does_not_keep_what_is_known_from_being_told(tmp_path: Path) -> None:
    async with control_of(tmp_path, task("slow", NOON)) as control:
        ran = await control.tasks.run_now("slow", ME, "")
        durable, control._daemon.durable = control._daemon.durable, asyncio.Event().wait
        try:
            async with asyncio.timeout(30):
                assert (await control.tasks.detail("slow")).status.run_id == ran.run_id
                await control.runs.rows(RunsQuery())
                await control.tasks.acts(10)
        finally:
            control._daemon.durable = durable


async def test_without_a_ledger_all_about_a_task_is_what_is_known_without(tmp_path: Path) -> None:
    async with control_of(tmp_path, task("slow", NOON)) as control:
        await control._daemon.durable()
        for part in (tmp_path / "state").glob("ledger.db*"):
            part.rename(part.with_suffix(part.suffix + ".away"))
        detail = await control.tasks.detail("slow")
        assert (detail.runs, detail.status.state) == ((), "waiting")
        assert detail.why


async def test_rejected_files_are_on_record_with_who_wanted_them(tmp_path: Path) -> None:
    def load(_: object) -> Configuration:
        raise ConfigurationError("tasks.yaml:1:1: no")

    async with control_of(tmp_path, task("a", NOON)) as control:
        control._daemon._load = load
        with pytest.raises(ConfigurationError):
            await control.reload(ME, "new hours")
        (act,) = (await control.tasks.acts(10)).acts
        assert (act.action, act.by, act.reason) == ("reload", WHO, "new hours")
        assert act.detail == {"rejected": ["tasks.yaml:1:1: no"]}


async def test_changes_of_the_cache_are_said_to_those_who_look_without_the_value(tmp_path: Path) -> None:
    async with control_of(tmp_path, task("a", NOON)) as control:
        said: list[Any] = []
        control._daemon.voice.listeners.append(said.append)
        await control.cache.put("news", "headline", "secret", None, ME)
        await control.cache.delete("news", "headline", ME)
        about = {"by": WHO, "namespace": "news", "key": "headline"}
        assert [(each.event, each.level, each.fields) for each in said] == [
            ("cache.changed", "debug", {"action": action, **about}) for action in ("put", "delete")
        ]
        assert (await control.tasks.acts(10)).acts == ()


async def test_the_process_is_looked_at_in_a_thread_and_not_waited_for_without_end(tmp_path: Path) -> None:
    go_on, where = threading.Event(), []

    class Slow(OwnProcess):
        def _take(self) -> Any:
            where.append(threading.current_thread())
            found = super()._take()
            if len(where) > 1:
                go_on.wait()
            return found

    with ThreadPoolExecutor(1) as threads:
        process = Slow(threads)
        known = await process.seen(0)
        async with asyncio.timeout(30):
            assert await process.seen(2 * SECOND) is known
        go_on.set()
    assert len(where) == 2
    assert threading.main_thread() not in where
    assert known.pid == os.getpid()


async def test_the_timeline_has_what_ran_and_what_is_planned_of_each_task_in_its_order(
    tmp_path: Path,
) -> None:
    tasks = (
        task("late", NOON),
        task("down", After("late")),
        task("slow", HOURLY, priority=Priority.CRITICAL),
    )
    async with control_of(tmp_path, *tasks) as control:
        await control.tasks.run_now("slow", ME, "")
        await asyncio.sleep(0.1)  # a pace's run is put on record once it has lasted for a turn of the loop
        wanted = TimelineQuery.model_validate({"from": "2026-11-23T09:00", "until": "2026-11-23T18:00"})
        timeline = Timeline.model_validate_json(await control.runs.timeline(wanted))
        assert [row.task for row in timeline.rows] == ["slow", "down", "late"]
        slow, down, late = timeline.rows
        assert [(mark.status, mark.count) for mark in slow.marks] == [("running", 1)]
        assert slow.planned[0].start == 2 * 3600
        assert sum(stretch.count for stretch in slow.planned) == 7
        assert down.planned == late.planned
        assert [(stretch.start, stretch.count) for stretch in late.planned] == [(3 * 3600.0, 1)]
        with pytest.raises(UsageError, match="eight days at most"):
            await control.runs.timeline(
                TimelineQuery.model_validate({"from": "2026-11-01", "until": "2026-11-23"})
            )


async def test_plan_and_markets_are_of_the_time_that_is_asked_for(tmp_path: Path) -> None:
    async with control_of(tmp_path, task("a", NOON)) as control:
        plan = await control.runs.plan(PlanQuery(limit=1))
        assert [(run.due, run.phase, run.trigger) for run in plan.runs] == [
            ("2026-11-23T12:00:00+05:30", "open", "12:00")
        ]
        day = MarketsQuery.model_validate({"from": "2026-11-23", "until": "2026-11-24"})
        (market,) = control.markets(day).markets
        assert [(phase.phase, phase.start[11:16]) for phase in market.phases if phase.trading] == [
            ("open", "09:15")
        ]
        assert market.phases[0].start == "2026-11-23T00:00:00+05:30"
        assert market.phases[-1].end == "2026-11-24T00:00:00+05:30"


async def test_metrics_are_those_of_prometheus(tmp_path: Path) -> None:
    async with control_of(tmp_path, task("a", NOON)) as control:
        await control.tasks.run_now("a", ME, "")
        await until(lambda: status(control, "a").last is not None)
        text, kind = await control.metrics()
        assert kind.startswith("text/plain; version=0.0.4")
        assert (
            'scheduler_runs_total{priority="important",reason="",status="completed",task="a"} 1.0'
            in text.decode()
        )


async def test_the_cache_is_shared_with_those_outside(tmp_path: Path) -> None:
    async with control_of(tmp_path, task("a", NOON)) as control:
        await control.cache.put("news", "headline", {"text": "up"}, "5s", ME)
        assert control.cache.get("news", "headline").value == {"text": "up"}
        control._daemon.cache["news"].put("odd", object())
        with pytest.raises(SchedulerError, match="'odd' is a object"):
            control.cache.get("news", "odd")
        await control.cache.delete("news", "headline", ME)
        with pytest.raises(UnknownKeyError):
            control.cache.get("news", "headline")
        with pytest.raises(UnknownNamespaceError):
            control.cache.get("weather", "x")
        with pytest.raises(UsageError, match="ttl"):
            await control.cache.put("news", "x", 1, "soon", ME)
        (stats,) = control.cache.stats().namespaces
        assert (stats.namespace, stats.hits) == ("news", 2)


async def test_what_happens_is_told_to_whoever_listens_and_as_filtered(tmp_path: Path) -> None:
    async with (
        control_of(tmp_path, task("a", NOON), task("b", NOON)) as control,
        aclosing(
            control.events(EventsQuery(task=("a",), event=("operator.", "task.paused"), runs=True))
        ) as stream,
    ):
        upcoming = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        await control.tasks.run_now("b", ME, "")
        await control.tasks.run_now("a", ME, "")
        name, text = await upcoming
        told = [(name, json.loads(text))]
        await control.tasks.pause(PauseSelection(tasks=("a",), reason="lunch"), ME)
        while len(told) < 5:
            async with asyncio.timeout(5):
                name, text = await anext(stream)
            told.append((name, json.loads(text)))
        assert {name for name, _ in told} == {"run", "log"}
        assert {item["task"] for _, item in told} == {"a"}
        assert {item["status"] for name, item in told if name == "run"} == {"running", "completed"}
        logs = [(item["event"], item["by"], item["reason"]) for name, item in told if name == "log"]
        assert ("task.paused", WHO, "lunch") in logs
        assert ("operator.acted", WHO, "") in logs


async def test_a_listener_that_does_not_listen_is_let_go(tmp_path: Path) -> None:
    async with control_of(tmp_path, task("a", NOON)) as control:
        stream = control.events(EventsQuery(level="debug", runs=True))
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        for _ in range(2500):
            control._stream.recorded(control._latest.outcomes.get("a") or _record())
        await first
        heard = [item async for item in stream]
        assert len(heard) <= 2001
        assert not control._stream._readers


def _record() -> Any:
    from scheduler.core.messages import Record, Status  # noqa: PLC0415 - only here

    return Record("a", instant(TEN), 1, Status.COMPLETED)


async def test_a_restarted_daemon_knows_the_latest_outcomes(tmp_path: Path) -> None:
    async with control_of(tmp_path, task("a", NOON)) as control:
        await control.tasks.run_now("a", ME, "")
        await until(lambda: status(control, "a").last is not None)
        before = status(control, "a").last
    async with control_of(tmp_path, task("a", NOON)) as control:
        assert status(control, "a").last == before


async def test_a_loop_that_an_operator_ended_is_in_trouble_until_it_is_started_again(tmp_path: Path) -> None:
    async with control_of(tmp_path, task("slow", KeepRunning(None))) as control:
        (alive,) = control.runs.active().runs
        await control.runs.cancel(alive.run_id, ME, "")
        await until(lambda: not control.runs.active().runs)
        told = "was ended by an operator and does not run; `scheduler restart slow` starts it"
        assert status(control, "slow").trouble == told
        assert [concern.what for concern in control.readiness().concerns if concern.kind == "task"] == [told]
        restarted = await control.tasks.restart("slow", ME, "")
        assert (restarted.run_id, restarted.started) == (None, status(control, "slow").run_id)
        assert status(control, "slow").trouble == ""


async def test_what_was_backfilled_is_in_the_picture_of_the_day_that_it_completes(tmp_path: Path) -> None:
    async with control_of(tmp_path, task("a", HOURLY)) as control:
        wanted = BackfillRequest.model_validate({"from": "2026-11-22T06:00", "until": "2026-11-22T07:00"})
        await control.tasks.backfill("a", wanted, ME)
        await until(control._daemon.engine.idle)
        day = TimelineQuery.model_validate({"from": "2026-11-22", "until": "2026-11-23"})
        (row,) = Timeline.model_validate_json(await control.runs.timeline(day)).rows
        assert [(mark.start, mark.status) for mark in row.marks] == [(6 * 3600.0, "completed")]
