"""The daemon as a whole, on virtual time: wired rightly, started and stopped without a trace."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scheduler.clock import SystemClock, VirtualClock, VirtualTimeLoop
from scheduler.configuration import Configuration
from scheduler.context import Context
from scheduler.core.messages import (
    HOUR,
    SECOND,
    CacheSpec,
    ClockStepped,
    PauseRequested,
    Priority,
    RestartPolicy,
    ResumeRequested,
    RunNow,
    TaskSpec,
    Work,
)
from scheduler.core.triggers import After, At, Cron, Every, KeepRunning, On, Trigger, parse_anchor
from scheduler.daemon import Daemon
from scheduler.errors import ConfigurationError, Problem, StateLockedError
from scheduler.ledger import read_history, read_remembered
from scheduler.lock import StateLock
from tests.core.desk import NEVER, spec
from tests.core.tables import always, nse_week
from tests.helpers import instant, iso
from tests.shell.execution import on_both_loops, until

TABLE = nse_week()
NOON = "2026-11-23T12:00:00+05:30"
PACE = Every({"open": 10 * SECOND, "closed": 60 * SECOND})


def at(*texts: str) -> At:
    return At(tuple(map(parse_anchor, texts)))


def task(name: str, trigger: Trigger, **options: Any) -> TaskSpec:
    return spec(name, trigger, **{"work": Work(target=name), "restart": NEVER, **options})


class Host:
    """A machine with one state directory, on which daemons come and go; nothing but time is virtual."""

    def __init__(self, state: Path, start: str) -> None:
        self.state = state
        self.clock = VirtualClock(instant(start))
        self.ran: list[tuple[str, str, int]] = []
        self.tables = {"NSE": TABLE}
        self.troubles: list[dict[str, Any]] = []  # what reached the loop's exception handler

    async def until(self, text: str) -> None:
        await asyncio.sleep((instant(text) - self.clock.now()) / SECOND)

    def note(self, ctx: Context) -> None:
        self.ran.append((ctx.task, ctx.due.isoformat(), ctx.attempt))

    async def quick(self, ctx: Context) -> None:
        self.note(ctx)

    def dues(self, name: str) -> list[str]:
        """The times of day of the runs of a task that began."""
        return [due[11:19] for ran, due, _ in self.ran if ran == name]

    def configured(self, *tasks: TaskSpec, **options: Any) -> Configuration:
        return Configuration(tasks, self.tables, TABLE.zone, **options)

    def daemon(
        self,
        load: Configuration | Callable[[], Configuration],
        *,
        works: dict[str, Any] | None = None,
        **more: Any,
    ) -> Daemon:
        names = {"a", "b", "c", "d"} | (works or {}).keys()
        callables = {name: (works or {}).get(name, self.quick) for name in names}
        loader = load if callable(load) else lambda: load
        return Daemon(
            lambda _window: loader(), state=self.state, clock=self.clock, callables=callables, seed=0, **more
        )

    @asynccontextmanager
    async def up(self, *tasks: TaskSpec, **options: Any) -> AsyncIterator[Daemon]:
        daemon = self.daemon(self.configured(*tasks), **options)
        await daemon.start()
        try:
            yield daemon
        finally:
            await daemon.stop()

    def rows(self, name: str) -> list[tuple[str, int, str, str, int]]:
        """(due, attempt, status, reason, count) of each row of a task."""
        rows = sorted(read_history(self.state / "ledger.db", tasks=[name]), key=lambda r: (r.due, r.attempt))
        return [(iso(row.due)[11:19], row.attempt, row.status, row.reason, row.count) for row in rows]


def on_virtual_time(start: str) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Callable[..., None]]:
    """Run an async test on virtual time from an instant on, with a Host; nothing may remain in its loop."""

    def decorate(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
        async def checked(host: Host, *args: Any, **kwargs: Any) -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: host.troubles.append(context))
            await test(host, *args, **kwargs)
            await asyncio.sleep(120)  # whoever is late comes now
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert host.troubles == []

        @functools.wraps(test)
        def run(tmp_path: Path, **kwargs: Any) -> None:
            host = Host(tmp_path / "state", start)
            with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(host.clock)) as runner:
                runner.run(checked(host, **kwargs))

        given = list(inspect.signature(test).parameters.values())[1:]
        tmp_path = inspect.Parameter("tmp_path", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        run.__signature__ = inspect.Signature([tmp_path, *given])  # type: ignore[attr-defined]
        return run

    return decorate


# Life.


@on_virtual_time(NOON)
async def test_tasks_run_at_their_dues_and_their_rows_are_in_the_ledger(host: Host) -> None:
    async with host.up(task("a", PACE), task("b", After("a"))):
        await host.until("2026-11-23T12:00:25+05:30")
    assert host.dues("a") == host.dues("b") == ["12:00:00", "12:00:10", "12:00:20"]
    assert host.rows("a") == host.rows("b") == [
        (f"12:00:{second:02}", 1, "completed", "", 1) for second in (0, 10, 20)
    ]  # fmt: skip


@on_virtual_time(NOON)
async def test_to_stop_twice_is_to_stop_once_and_before_the_start_nothing(host: Host) -> None:
    daemon = host.daemon(host.configured(task("a", PACE)))
    await daemon.stop()
    await daemon.start()
    await daemon.stop()
    await daemon.stop()
    StateLock(host.state).release()


@on_virtual_time(NOON)
async def test_a_second_daemon_on_the_same_state_is_refused_and_the_first_goes_on(host: Host) -> None:
    async with host.up(task("a", PACE)):
        with pytest.raises(StateLockedError):
            await host.daemon(host.configured(task("a", PACE))).start()
        await host.until("2026-11-23T12:00:15+05:30")
    assert host.dues("a") == ["12:00:00", "12:00:10"]


@on_virtual_time(NOON)
async def test_on_virtual_time_no_thread_watches_a_loop_that_jumps(host: Host) -> None:
    async with host.up(task("a", PACE)):
        await host.until("2026-11-23T12:10:00+05:30")
        assert "loop-watch" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("error", [ConfigurationError("no"), RuntimeError("no")])
@on_virtual_time(NOON)
async def test_a_start_that_fails_leaves_nothing_behind(host: Host, error: Exception) -> None:
    def load() -> Configuration:
        raise error

    with pytest.raises(type(error)):
        await host.daemon(load).start()
    async with host.up(task("a", PACE)):
        await host.until("2026-11-23T12:00:05+05:30")
    assert host.dues("a") == ["12:00:00"]


@on_virtual_time(NOON)
async def test_a_file_that_cannot_be_used_at_the_start_is_named_in_a_sentence(host: Host) -> None:
    def load() -> Configuration:
        raise PermissionError(13, "Permission denied", "/var/lib/scheduler/amendments")

    with pytest.raises(ConfigurationError) as caught:
        await host.daemon(load).start()
    assert str(caught.value) == "/var/lib/scheduler/amendments cannot be used: Permission denied"
    StateLock(host.state).release()


@on_virtual_time(NOON)
async def test_a_task_may_hear_of_the_ledgers_trouble_from_whichever_thread(host: Host) -> None:
    """From before the start, too: a ledger that was replaced is replaced before anything is loaded."""
    host.state.mkdir()
    (host.state / "ledger.db").write_bytes(b"no database at all" * 1000)
    listens = task("a", On(("ledger.replaced",))), task("b", On(("ledger.degraded",)))
    async with host.up(*listens) as daemon:
        await host.until("2026-11-23T12:00:05+05:30")
        threading.Thread(
            target=daemon.voice.ledger_trouble, args=("ledger.degraded", {"error": "full"})
        ).start()
        await host.until("2026-11-23T12:00:10+05:30")
    assert (len(host.dues("a")), len(host.dues("b"))) == (1, 1)


@on_virtual_time(NOON)
async def test_a_task_may_hear_that_what_is_in_force_could_not_be_kept(host: Host) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    async with host.up(task("a", On(("config.not_kept",))), accepted=full):
        await host.until("2026-11-23T12:00:05+05:30")
    assert len(host.dues("a")) == 1


@on_virtual_time(NOON)
async def test_a_task_may_hear_of_failed_background_work_but_not_of_its_own(host: Host) -> None:
    async def fails(ctx: Context) -> None:
        async def background() -> None:
            raise ValueError("no")

        host.note(ctx)
        ctx.background(background())
        await asyncio.sleep(1)

    own = task("b", On(("background.failed",)), work=Work(target="a"))
    async with host.up(task("a", at("12:01")), own, works={"a": fails}):
        await host.until("2026-11-23T12:02:00+05:30")
    assert (len(host.dues("a")), len(host.dues("b"))) == (1, 1)


@on_virtual_time(NOON)
async def test_running_work_is_given_its_grace_and_then_cancelled(host: Host) -> None:
    async def slow(ctx: Context) -> None:
        await asyncio.sleep(3)

    async def endless(ctx: Context) -> None:
        await asyncio.sleep(1e6)

    tasks = [task("slow", at("12:00")), task("endless", at("12:00"), stop_grace=5 * SECOND)]
    async with host.up(*tasks, works={"slow": slow, "endless": endless}):
        await host.until("2026-11-23T12:00:01+05:30")
    assert host.rows("slow") == [("12:00:00", 1, "completed", "", 1)]
    assert host.rows("endless") == [("12:00:00", 1, "cancelled", "stopped", 1)]
    assert host.clock.now() <= instant("2026-11-23T12:00:20+05:30")


@on_virtual_time(NOON)
async def test_a_run_that_takes_long_is_told_of_once_and_a_loop_is_not(host: Host) -> None:
    async def for_hours() -> None:
        await asyncio.sleep(3 * 3600)

    told: list[tuple[str, str]] = []
    daemon = host.daemon(
        host.configured(task("a", at("12:00")), task("b", KeepRunning(None))),
        works={"a": for_hours, "b": for_hours},
        long_running_after=HOUR,
    )
    daemon.voice.listeners.append(
        lambda it: (
            told.append((iso(host.clock.now())[11:16], it.fields["run_id"]))
            if it.event == "run.long_running"
            else None
        )
    )
    await daemon.start()
    await host.until("2026-11-23T14:30:00+05:30")
    await daemon.stop()
    assert told == [("13:01", "a-20261123T063000Z")]


@on_virtual_time(NOON)
async def test_a_loop_is_ended_at_once_when_all_stops(host: Host) -> None:
    async def loop(ctx: Context) -> None:
        await asyncio.sleep(1e6)

    async with host.up(task("loop", KeepRunning()), works={"loop": loop}):
        await host.until("2026-11-23T12:00:10+05:30")
    assert host.clock.now() < instant("2026-11-23T12:00:11+05:30")
    assert [row[2:4] for row in host.rows("loop")] == [("cancelled", "stopped")]


@on_virtual_time(NOON)
async def test_a_run_that_cannot_be_cancelled_does_not_hold_up_the_end(host: Host) -> None:
    released = asyncio.Event()

    async def stubborn(ctx: Context) -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    async with host.up(task("stubborn", at("12:00"), stop_grace=SECOND), works={"stubborn": stubborn}):
        await host.until("2026-11-23T12:00:01+05:30")
    assert host.clock.now() < instant("2026-11-23T12:01:00+05:30")
    assert host.rows("stubborn")[0][2:4] == ("cancelled", "stopped")
    released.set()


@on_both_loops
async def test_a_thread_that_returns_after_the_end_finds_the_daemon_gone_and_wakes_nobody(
    tmp_path: Path,
) -> None:
    """On real time: virtual time stands while a thread is at work."""
    clock = SystemClock()
    released, troubles, ran = threading.Event(), [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
    today = datetime.now(UTC).date()
    table = always(str(today - timedelta(days=3)), str(today + timedelta(days=3)))
    pace = Every({"*": SECOND // 5})
    tasks = (
        task("sync", pace, timeout=SECOND // 10, stop_grace=SECOND // 10, market="always"),
        task("a", pace, market="always"),
    )
    daemon = Daemon(
        lambda _: Configuration(tasks, {"always": table}, UTC),
        state=tmp_path,
        clock=clock,
        callables={"sync": lambda: released.wait(60), "a": lambda: ran.append(1)},
    )
    await daemon.start()
    await until(lambda: any(row.reason == "timeout" for row in read_history(tmp_path / "ledger.db")))
    await daemon.stop()
    count = len(ran)
    released.set()
    await asyncio.sleep(1.0)
    assert len(ran) == count
    assert troubles == []


@on_virtual_time(NOON)
async def test_a_task_that_raises_anything_leaves_the_others_alone(host: Host) -> None:
    async def bad(ctx: Context) -> None:
        raise [SystemExit(3), KeyboardInterrupt(), RecursionError("no"), GeneratorExit()][
            len(host.dues("a")) % 4
        ]

    async with host.up(task("bad", PACE), task("a", PACE), works={"bad": bad}):
        await host.until("2026-11-23T12:00:55+05:30")
    assert len(host.dues("a")) == 6
    assert [row[2:4] for row in host.rows("bad")] == [("failed", "error")] * 6


@on_virtual_time(NOON)
async def test_a_callable_that_does_not_import_parks_its_task_alone(host: Host) -> None:
    broken = task("broken", PACE, work=Work(target="no.such.module:work"))
    async with host.up(broken, task("a", PACE)) as daemon:
        await host.until("2026-11-23T12:00:15+05:30")
        assert {row["task"]: row["state"] for row in daemon.engine.snapshot()}["broken"] == "refused"
    assert {row[2:4] for row in host.rows("broken")} == {("skipped", "parked")}
    assert sum(row[4] for row in host.rows("broken")) == 2
    assert len(host.dues("a")) == 2


@on_virtual_time(NOON)
async def test_what_is_parked_or_paused_stays_so_over_a_restart(host: Host) -> None:
    async def fail(ctx: Context) -> None:
        raise ValueError("no")

    tasks = [task("a", PACE), task("bad", PACE, restart=RestartPolicy("on-failure", burst=2, then="park"))]
    async with host.up(*tasks, works={"bad": fail}) as daemon:
        daemon.handle(PauseRequested("a", until=instant("2026-11-23T12:01:05+05:30")))
        await host.until("2026-11-23T12:00:15+05:30")
        assert states(daemon) == {"a": "paused", "bad": "parked"}
    known = read_remembered(host.state / "ledger.db")
    assert {name: set(keys) for name, keys in known.items()} == {"a": {"paused"}, "bad": {"health"}}
    async with host.up(*tasks, works={"bad": fail}) as daemon:
        assert states(daemon) == {"a": "paused", "bad": "parked"}
        await host.until("2026-11-23T12:01:15+05:30")
        assert states(daemon) == {"a": "waiting", "bad": "parked"}
    assert host.dues("a") == ["12:00:00", "12:01:10"]
    assert [row[2] for row in host.rows("bad") if row[1] > 0] == ["failed", "failed"]


@on_virtual_time(NOON)
async def test_a_changed_definition_ends_parking_and_of_a_task_that_went_nothing_is_kept(host: Host) -> None:
    async def fail(ctx: Context) -> None:
        raise ValueError("no")

    bad = task("bad", PACE, restart=RestartPolicy("on-failure", burst=2, then="park"))
    gone = task("gone", PACE, restart=bad.restart)
    async with host.up(bad, gone, works={"bad": fail, "gone": fail}) as daemon:
        await host.until("2026-11-23T12:00:15+05:30")
        assert states(daemon) == {"bad": "parked", "gone": "parked"}
    async with host.up(replace(bad, timeout=SECOND), works={"bad": host.quick}) as daemon:
        await host.until("2026-11-23T12:02:25+05:30")
        assert states(daemon) == {"bad": "waiting"}
    assert host.dues("bad")
    assert read_remembered(host.state / "ledger.db") == {}


def states(daemon: Daemon) -> dict[str, str]:
    return {row["task"]: row["state"] for row in daemon.engine.snapshot()}


@on_virtual_time(NOON)
async def test_an_appointment_is_on_the_disk_before_it_begins(host: Host) -> None:
    seen: list[tuple[str, int, str, str, int]] = []

    async def look(ctx: Context) -> None:
        seen.extend(host.rows(ctx.task))

    tasks = [task("at", at("12:00")), task("cron", Cron("1 12 * * *", TABLE.zone))]
    async with host.up(*tasks, works={"at": look, "cron": look}):
        await host.until("2026-11-23T12:01:05+05:30")
    assert seen == [("12:00:00", 1, "running", "", 1), ("12:01:00", 1, "running", "", 1)]


@on_virtual_time("2026-11-23T09:14:30+05:30")
async def test_a_phase_that_changes_empties_what_the_cache_keeps_for_a_phase(host: Host) -> None:
    loads: list[str] = []

    async def look(ctx: Context) -> None:
        async def load() -> int:
            loads.append(ctx.due.isoformat()[11:19])
            return 1

        await ctx.cache["regime"].get_or_load("regime", load)

    caches = {"regime": CacheSpec(ttl=HOUR, expire_at="phase_change")}
    configuration = host.configured(task("a", Every({"*": 20 * SECOND})), caches=caches)
    daemon = host.daemon(configuration, works={"a": look})
    await daemon.start()
    await host.until("2026-11-23T09:15:50+05:30")
    await daemon.stop()
    assert loads == ["09:14:40", "09:15:00"]


@on_virtual_time(NOON)
async def test_with_pretended_runs_nothing_is_executed(host: Host) -> None:
    command = task("command", at("12:00"), work=Work(argv=("/no/such/program",)))
    async with host.up(command, task("a", PACE), simulate=lambda _: 0.5):
        await host.until("2026-11-23T12:00:05+05:30")
    assert host.ran == []
    assert host.rows("command")[0][2] == host.rows("a")[0][2] == "completed"


# Its ledger remembers.


@on_virtual_time("2026-11-23T12:00:01+05:30")
async def test_after_a_stop_what_was_due_meanwhile_is_missed_but_for_the_newest(host: Host) -> None:
    a = task("a", PACE, catchup=30 * SECOND)
    async with host.up(a):
        await host.until("2026-11-23T12:00:15+05:30")
    await host.until("2026-11-23T12:01:05+05:30")
    async with host.up(a):
        await host.until("2026-11-23T12:01:08+05:30")
    assert host.rows("a") == [
        ("12:00:10", 1, "completed", "", 1),
        ("12:00:20", 0, "missed", "downtime", 4),
        ("12:01:00", 1, "completed", "", 1),
    ]


@on_virtual_time("2026-11-20T15:25:00+05:30")
async def test_a_weekend_without_a_daemon_is_one_row_of_each_task(host: Host) -> None:
    tasks = [task("a", PACE), task("b", After("a")), task("c", at("close+15m"))]
    async with host.up(*tasks):
        await host.until("2026-11-20T15:29:55+05:30")
    await host.until("2026-11-23T10:00:05+05:30")
    async with host.up(*tasks):
        await host.until("2026-11-23T10:00:08+05:30")
    ticks = PACE.count_between(
        instant("2026-11-20T15:30:00+05:30"), instant("2026-11-23T10:00:00+05:30"), TABLE
    )
    for name in ("a", "b"):
        assert ("15:30:00", 0, "missed", "downtime", ticks) in host.rows(name)
    assert host.rows("c") == [("15:45:00", 0, "missed", "downtime", 1)]


@on_virtual_time(NOON)
async def test_a_task_that_was_away_while_it_was_not_configured_missed_nothing(host: Host) -> None:
    for tasks, end in [
        ((task("a", PACE), task("b", PACE)), "2026-11-23T12:00:05+05:30"),
        ((task("b", PACE),), "2026-11-23T12:10:05+05:30"),  # `a` was taken out while nobody was up
        ((task("a", PACE), task("b", PACE)), "2026-11-23T12:20:05+05:30"),
    ]:
        async with host.up(*tasks):
            await host.until(end)
    missed = sum(row[4] for row in host.rows("a") if row[2] == "missed")
    assert missed == 0
    assert host.dues("a")[:2] == ["12:00:00", "12:10:10"]


@on_virtual_time("2026-11-23T09:00:00+05:30")
async def test_what_a_changed_task_would_have_had_due_before_the_change_is_not_caught_up(host: Host) -> None:
    loaded = [host.configured(task("a", at("11:00")))]
    daemon = host.daemon(lambda: loaded[-1])
    await daemon.start()
    await host.until("2026-11-23T10:00:00+05:30")
    loaded.append(host.configured(task("a", at("09:50"))))
    assert await daemon.reload("saved")
    await host.until("2026-11-23T10:05:00+05:30")
    await daemon.stop()
    async with host.up(task("a", at("09:50"))):
        await host.until("2026-11-23T10:10:00+05:30")
    assert host.rows("a") == []


@on_virtual_time(NOON)
async def test_a_changed_pace_counts_what_it_misses_from_the_change_on(host: Host) -> None:
    loaded = [host.configured(task("a", at("15:00")))]
    daemon = host.daemon(lambda: loaded[-1])
    await daemon.start()
    await host.until("2026-11-23T13:00:05+05:30")
    loaded.append(host.configured(task("a", PACE, catchup=SECOND)))
    assert await daemon.reload("saved")
    await daemon.stop()
    await host.until("2026-11-23T13:01:05+05:30")
    async with host.up(task("a", PACE, catchup=SECOND)):
        await host.until("2026-11-23T13:01:08+05:30")
    assert sum(row[4] for row in host.rows("a")) == 6  # from 13:00:10 to 13:01:00


DEFINING = """
import asyncio, sys
from pathlib import Path
from tests.core.tables import nse_week
from tests.shell.test_daemon import Host, NOON, VirtualTimeLoop, task, KeepRunning
async def main():
    async with host.up(task("a", KeepRunning(frozenset({"pre-open", "open", "post-close"})))):
        pass
host = Host(Path(sys.argv[1]), NOON)
with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(host.clock)) as runner:
    runner.run(main())
"""


def test_the_same_definition_is_the_same_in_every_process(tmp_path: Path) -> None:
    """The order of a set is not: it differs with the hash seed."""
    for seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(
            [sys.executable, "-c", DEFINING, str(tmp_path)], env=environment, check=True, timeout=60
        )
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        assert connection.execute("SELECT count(*) FROM definition_texts").fetchone() == (1,)


# Time is distrusted.


@on_virtual_time("2026-11-23T12:00:01+05:30")
async def test_a_suspend_is_noticed_and_what_it_slept_through_is_missed(host: Host) -> None:
    async with host.up(task("a", PACE, catchup=SECOND)):
        await asyncio.sleep(1)
        host.clock.step(HOUR)
        await asyncio.sleep(30)
    reasons = {row[3] for row in host.rows("a") if row[2] == "missed"}
    assert reasons == {"clock-jump"}
    assert sum(row[4] for row in host.rows("a") if row[2] == "missed") >= 360


@on_virtual_time("2026-11-23T12:00:01+05:30")
async def test_a_suspend_is_told_as_such_although_something_else_is_seen_first(host: Host) -> None:
    """What was under way when the machine fell asleep ends when it wakes, before any look at the clock."""

    async def interrupted(ctx: Context) -> None:
        await asyncio.sleep(3)

    tasks = [task("a", PACE, catchup=SECOND), task("b", at("12:01"))]
    async with host.up(*tasks, works={"b": interrupted}):
        await host.until("2026-11-23T12:01:01+05:30")
        host.clock.step(HOUR)
        await asyncio.sleep(30)
    assert {row[3] for row in host.rows("a") if row[2] == "missed"} == {"clock-jump"}


@on_virtual_time(NOON)
async def test_a_clock_set_back_makes_nothing_run_twice(host: Host) -> None:
    async with host.up(task("a", PACE), task("b", at("12:01"))):
        await host.until("2026-11-23T12:01:05+05:30")
        host.clock.step(-120 * SECOND)
        await asyncio.sleep(180)
    assert len(host.ran) == len(set(host.ran))
    assert host.dues("b") == ["12:01:00"]
    assert host.dues("a")[-1] == "12:02:00"


# Reloads.


@on_virtual_time(NOON)
async def test_a_reload_takes_effect_and_says_that_it_was_accepted(host: Host) -> None:
    accepted: list[int] = []
    loaded = [host.configured(task("a", PACE))]
    daemon = host.daemon(lambda: loaded[-1], accepted=lambda: accepted.append(len(loaded)))
    await daemon.start()
    await host.until("2026-11-23T12:00:15+05:30")
    loaded.append(host.configured(task("b", PACE), caches={"new": CacheSpec(ttl=SECOND)}))
    assert await daemon.reload("saved")
    await host.until("2026-11-23T12:00:35+05:30")
    daemon.cache["new"].put("key", 1)
    await daemon.stop()
    assert accepted == [1, 2]
    assert host.dues("a") == ["12:00:00", "12:00:10"]
    assert host.dues("b") == ["12:00:20", "12:00:30"]


@on_virtual_time(NOON)
async def test_a_bad_reload_is_rejected_whole_and_tasks_may_hear_of_it(host: Host) -> None:
    loaded: list[Configuration] = []

    def load() -> Configuration:
        if loaded:
            raise ConfigurationError([Problem(None, "this is wrong"), Problem(None, "and this")])
        loaded.append(host.configured(task("a", PACE), task("b", On(("config.rejected",)))))
        return loaded[0]

    daemon = host.daemon(load)
    await daemon.start()
    assert not await daemon.reload("saved")
    await host.until("2026-11-23T12:00:15+05:30")
    await daemon.stop()
    assert host.dues("a") == ["12:00:00", "12:00:10"]
    assert len(host.dues("b")) >= 1


@on_virtual_time(NOON)
async def test_whatever_a_reload_meets_it_is_rejected_and_the_next_one_is_not(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = host.daemon(host.configured(task("a", PACE)))
    await daemon.start()
    with monkeypatch.context() as broken:
        broken.setattr("scheduler.reports.changed", lambda *_: 1 / 0)
        outcome = await daemon.reload("saved")
    assert outcome.problems == ("ZeroDivisionError: division by zero",)
    assert await daemon.reload("saved again")
    await daemon.stop()


@on_virtual_time(NOON)
async def test_many_reloads_at_once_come_one_after_the_other(host: Host) -> None:
    loaded = [host.configured(task("a", PACE))]
    daemon = host.daemon(lambda: loaded[-1])
    await daemon.start()
    loaded.append(host.configured(task("b", PACE)))
    for cause in ("SIGHUP", "saved", "the market closed"):
        daemon.reload_soon(cause)
    await host.until("2026-11-23T12:00:15+05:30")
    await daemon.stop()
    assert host.dues("b") == ["12:00:10"]


@on_virtual_time("2026-11-23T12:00:05+05:30")
async def test_the_calendar_is_loaded_anew_each_day(host: Host) -> None:
    loads: list[str] = []

    def load() -> Configuration:
        loads.append(iso(host.clock.now())[:10])
        return host.configured(task("a", at("12:00")))

    daemon = host.daemon(load)
    await daemon.start()
    await host.until("2026-11-26T13:00:00+05:30")
    await daemon.stop()
    assert loads == ["2026-11-23", "2026-11-24", "2026-11-25", "2026-11-26"]


# What an operator asks for.


@on_virtual_time("2026-11-23T12:00:01+05:30")
async def test_run_now_pause_and_resume(host: Host) -> None:
    async with host.up(task("a", PACE)) as daemon:
        daemon.handle(RunNow("a"))
        daemon.handle(PauseRequested("a"))
        await host.until("2026-11-23T12:00:25+05:30")
        daemon.handle(ResumeRequested("a"))
        await host.until("2026-11-23T12:00:35+05:30")
    assert host.dues("a") == ["12:00:01", "12:00:30"]
    assert ("12:00:10", 0, "skipped", "paused", 2) in host.rows("a")


@on_virtual_time("2026-11-23T12:00:01+05:30")
async def test_a_step_that_someone_else_tells_of_is_taken_as_seen(host: Host) -> None:
    """Nothing depends on who saw it first: a suspend may be announced by the system."""
    async with host.up(task("a", PACE, catchup=SECOND)) as daemon:
        host.clock.step(HOUR)
        daemon.handle(ClockStepped(HOUR))
        await asyncio.sleep(60)
    dues = [row[0] for row in host.rows("a")]
    assert len(dues) == len(set(dues))


def test_the_helpers_of_this_file_would_notice_what_remains(tmp_path: Path) -> None:
    async def leaves_something(_host: Host) -> None:
        task = asyncio.create_task(asyncio.sleep(1e6))
        kept: Sequence[asyncio.Task[None]] = [task]
        assert kept

    with pytest.raises(AssertionError):
        on_virtual_time(NOON)(leaves_something)(tmp_path)


@on_virtual_time(NOON)
async def test_a_reload_that_fails_inside_leaves_what_was_in_force(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = host.configured(task("a", PACE))
    loaded = [before]
    daemon = host.daemon(lambda: loaded[-1])
    await daemon.start()
    loaded.append(host.configured(task("b", PACE)))
    for broken in ("scheduler.ledger.Ledger.defined", "scheduler.core.roster.Roster.configure"):
        with monkeypatch.context() as patch:
            patch.setattr(broken, lambda *_: 1 / 0)
            outcome = await daemon.reload("saved")
        assert outcome.problems == ("ZeroDivisionError: division by zero",)
        assert outcome.again
        assert daemon.configuration is before
    assert await daemon.reload("saved again")
    assert daemon.configuration is loaded[-1]
    await daemon.stop()


@on_virtual_time(NOON)
async def test_what_is_to_be_told_of_an_appointments_end_is_told_although_all_stops(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(ctx: Context) -> None:
        host.note(ctx)
        raise ValueError

    said: list[str] = []
    daemon = host.daemon(host.configured(task("a", at("12:01"))), works={"a": fails})
    monkeypatch.setattr("scheduler.logs.enabled", lambda _: True)
    monkeypatch.setattr("scheduler.logs.announce", lambda event, *_: said.append(event))
    await daemon.start()
    wait, slow = daemon._durable, asyncio.Event()

    async def durable() -> None:
        if daemon._appointments:
            await wait()
        else:
            await slow.wait()

    monkeypatch.setattr(daemon, "_durable", durable)
    await host.until("2026-11-23T12:01:05+05:30")
    assert host.dues("a") == ["12:01:00"]
    assert "run.failed" not in said
    asyncio.get_running_loop().call_later(1, slow.set)
    await daemon.stop()
    assert "run.failed" in said


async def test_a_module_that_is_slow_to_import_holds_up_its_reload_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"slow_{os.getpid()}"
    (tmp_path / f"{name}.py").write_text("import time\ntime.sleep(1.5)\nasync def work(): pass\n", "utf-8")
    today = datetime.now(UTC)
    table = always(*((today + timedelta(days=days)).date().isoformat() for days in (-2, 3)))
    begun: list[float] = []

    async def beat() -> None:
        begun.append(asyncio.get_running_loop().time())

    def configured(*tasks: TaskSpec) -> Configuration:
        return Configuration(tasks, {"NSE": table}, table.zone)

    pulse = task("pulse", Every({"*": SECOND // 5}), priority=Priority.CRITICAL)
    slow = task("slow", Every({"*": SECOND}), work=Work(target=f"{name}:work"))
    absent = task("absent", Every({"*": SECOND}), work=Work(target=f"{name}:absent"))
    loaded = [configured(pulse)]
    daemon = Daemon(
        lambda _window: loaded[-1], state=tmp_path / "state", clock=SystemClock(),
        callables={"pulse": beat}, python_path=[str(tmp_path)],
    )  # fmt: skip
    await daemon.start()
    try:
        await until(lambda: begun)
        loaded.append(configured(pulse, slow, absent))
        assert await daemon.reload("saved")
        assert states(daemon)["absent"] == "refused"
        assert "slow" in states(daemon)
    finally:
        await daemon.stop()
        sys.modules.pop(name, None)
        sys.path.remove(str(tmp_path))
    history = read_history(tmp_path / "state" / "ledger.db", tasks=["pulse"])
    assert {row.status for row in history} == {"completed"}
    assert len(begun) >= 7
