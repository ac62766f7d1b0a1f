"""The scheduler inside a program's own event loop."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from scheduler import Scheduler
from scheduler.clock import VirtualClock, VirtualTimeLoop
from scheduler.context import Context
from scheduler.core.messages import MINUTE, SECOND
from scheduler.errors import (
    ConfigurationError,
    SchedulerError,
    StateLockedError,
    UnknownNamespaceError,
    UnknownTaskError,
)
from scheduler.ledger import read_history
from tests.helpers import instant, iso
from tests.shell.execution import on_both_loops, until

OPENING = instant("2026-11-23T09:15:00+05:30")


DEFAULTS: dict[str, Any] = {"market": "always", "timezone": "UTC"}


@pytest.fixture(scope="module", autouse=True)
def _markets(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A market that is always open, and no other: so there is no calendar to build."""
    directory = tmp_path_factory.mktemp("markets")
    (directory / "markets.yaml").write_text("default: always\n")
    DEFAULTS["markets_dir"] = directory


def embedded(**options: Any) -> Scheduler:
    return Scheduler(**DEFAULTS | options)


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def idle() -> None:
    await asyncio.Event().wait()


def virtually(start: int, work: Callable[[VirtualClock], Coroutine[Any, Any, None]]) -> None:
    clock = VirtualClock(start)
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(clock)) as runner:
        runner.run(work(clock))


@on_both_loops
async def test_tasks_registered_before_and_after_the_start_both_run() -> None:
    ran: list[str] = []
    scheduler = embedded()
    scheduler.register_task("before", lambda: ran.append("before"), every="100ms")
    await scheduler.start()
    scheduler.register_task("after", lambda: ran.append("after"), every="100ms")
    await until(lambda: {"before", "after"} <= set(ran))
    await scheduler.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@on_both_loops
async def test_its_loop_is_watched_from_a_thread_that_ends_with_it() -> None:
    def watches() -> int:
        return [thread.name for thread in threading.enumerate()].count("loop-watch")

    scheduler = embedded()
    for _ in range(2):
        await scheduler.start()
        assert watches() == 1
        await scheduler.stop()
        assert watches() == 0


@on_both_loops
async def test_to_start_twice_is_to_start_once() -> None:
    starts: list[int] = []

    async def loop() -> None:
        starts.append(1)
        await idle()

    scheduler = embedded()
    scheduler.register_task("loop", loop)
    await asyncio.gather(scheduler.start(), scheduler.start())
    await scheduler.start()
    await until(lambda: starts)
    await scheduler.stop()
    assert starts == [1]


@on_both_loops
async def test_to_stop_twice_is_to_stop_once_and_it_can_be_started_again() -> None:
    starts: list[int] = []

    async def loop() -> None:
        starts.append(1)
        await idle()

    scheduler = embedded()
    scheduler.register_task("loop", loop)
    await scheduler.stop()
    for times in (1, 2):
        await scheduler.start()
        await until(lambda times=times: len(starts) == times)  # type: ignore[misc]
        await scheduler.stop()
        await scheduler.stop()
    assert scheduler.health()["running"] is False


@on_both_loops
async def test_to_stop_while_it_starts_leaves_nothing_running(tmp_path: Path) -> None:
    starts: list[int] = []

    async def loop() -> None:
        starts.append(1)
        await idle()

    scheduler = embedded(state_dir=tmp_path)
    scheduler.register_task("loop", loop)
    await asyncio.gather(scheduler.start(), scheduler.stop(), return_exceptions=True)
    await scheduler.stop()
    seen = len(starts)
    await asyncio.sleep(0.2)
    assert len(starts) == seen
    assert scheduler.health()["running"] is False
    assert asyncio.all_tasks() == {asyncio.current_task()}


@on_both_loops
async def test_a_task_registered_while_it_starts_runs_too() -> None:
    ran: list[int] = []
    scheduler = embedded()
    starting = asyncio.create_task(scheduler.start())
    await asyncio.sleep(0)
    scheduler.register_task("late", lambda: ran.append(1), every="100ms")
    await starting
    await until(lambda: ran)
    await scheduler.stop()


def test_an_existing_monitor_loop_runs_unchanged_and_is_restarted_when_it_raises() -> None:
    looks: list[str] = []

    async def work(clock: VirtualClock) -> None:
        async def _market_monitor_loop() -> None:
            while True:
                looks.append(iso(clock.now())[11:19])
                if len(looks) == 3:
                    raise ConnectionError("the feed broke off")
                await asyncio.sleep(5)

        scheduler = embedded(clock=clock)
        scheduler.register_task("monitor", _market_monitor_loop, priority="critical")
        await scheduler.start()
        await asyncio.sleep(21.5)
        assert scheduler.health()["tasks"]["monitor"]["restarts"] == 1
        assert scheduler.health()["healthy"]
        await scheduler.stop()

    virtually(OPENING, work)
    assert looks[:3] == ["09:15:00", "09:15:05", "09:15:10"]
    assert looks[3] in {"09:15:10", "09:15:11"}  # a second later at most
    assert len(looks) == 6


def test_market_hours_only_starts_a_loop_with_the_open_and_ends_it_with_the_close() -> None:
    looks: list[str] = []

    async def work(clock: VirtualClock) -> None:
        async def monitor() -> None:
            while True:
                looks.append(iso(clock.now())[11:19])
                await asyncio.sleep(3600)

        scheduler = Scheduler(clock=clock)
        scheduler.register_task("monitor", monitor, priority="critical", market_hours_only=True)
        await scheduler.start()
        await asyncio.sleep(12 * 3600)
        await scheduler.stop()

    virtually(OPENING - 5 * MINUTE, work)
    assert looks == [f"{hour:02}:15:00" for hour in range(9, 16)]


def test_market_hours_only_holds_for_a_paced_function_too() -> None:
    dues: list[str] = []

    async def work(clock: VirtualClock) -> None:
        scheduler = Scheduler(clock=clock)
        scheduler.register_task(
            "quarter", lambda ctx: dues.append(ctx.due.isoformat()[11:16]), every="2h", market_hours_only=True
        )
        await scheduler.start()
        await asyncio.sleep(24 * 3600)
        await scheduler.stop()

    virtually(OPENING - 5 * MINUTE, work)
    assert dues == ["10:00", "12:00", "14:00"]  # a plain pace is a clock grid


@on_both_loops
async def test_a_plain_function_runs_in_a_thread_and_a_coroutine_function_on_the_loop() -> None:
    threads: dict[str, threading.Thread] = {}

    def plain() -> None:
        threads["plain"] = threading.current_thread()

    async def coroutine() -> None:
        threads["coroutine"] = threading.current_thread()

    scheduler = embedded()
    scheduler.register_task("plain", plain, every="100ms")
    scheduler.register_task("coroutine", coroutine, every="100ms")
    await scheduler.start()
    await until(lambda: len(threads) == 2)
    await scheduler.stop()
    assert threads["coroutine"] is threading.current_thread()
    assert threads["plain"] is not threading.current_thread()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"every": "5 parsecs"}, "5 parsecs"),
        ({"evry": "5s"}, "every"),
        ({"every": "5s", "at": "open"}, "at"),
        ({"every": "0s"}, "0"),
        ({"timeout": "-5s", "every": "5s"}, "timeout"),
        ({"market": "NOWHERE", "every": "5s"}, "NOWHERE"),
        ({"after": "nobody"}, "nobody"),
        ({"priority": "urgent"}, "urgent"),
        ({"every": {"opne": "5s"}}, "open"),
    ],
)
@on_both_loops
async def test_options_that_a_file_could_not_have_either_are_refused_at_the_start(
    options: dict[str, Any], complaint: str
) -> None:
    scheduler = embedded()
    scheduler.register_task("bad", lambda: None, **options)
    with pytest.raises(ConfigurationError, match=complaint):
        await scheduler.start()
    assert scheduler.health()["running"] is False
    await scheduler.stop()


@on_both_loops
async def test_a_bad_task_registered_while_it_runs_does_not_keep_out_the_next_one() -> None:
    ran: list[str] = []
    scheduler = embedded()
    scheduler.register_task("first", lambda: ran.append("first"), every="100ms")
    await scheduler.start()
    with suppress(ConfigurationError):  # at once would be even better
        scheduler.register_task("bad", lambda: None, every="5 parsecs")
    await asyncio.sleep(0.2)
    scheduler.register_task("good", lambda: ran.append("good"), every="100ms")
    try:
        await until(lambda: "good" in ran)
    finally:
        await scheduler.stop()


@on_both_loops
async def test_a_name_that_is_taken_is_refused() -> None:
    scheduler = embedded()
    scheduler.register_task("a", lambda: None)
    with pytest.raises(ValueError, match="'a'"):
        scheduler.register_task("a", idle)
    await scheduler.start()
    with pytest.raises(ValueError, match="'a'"):
        scheduler.register_task("a", idle)
    await scheduler.stop()


@on_both_loops
async def test_health_tells_of_every_task_and_of_trouble() -> None:
    def bad() -> None:
        raise ValueError("no")

    scheduler = embedded()
    assert scheduler.health() == {"running": False, "healthy": False, "troubled": [], "tasks": {}}
    scheduler.register_task("good", idle)
    scheduler.register_task(
        "bad", bad, every="100ms", restart={"policy": "on-failure", "burst": 1, "then": "park"}
    )
    await scheduler.start()
    await until(lambda: scheduler.health()["troubled"])
    health = scheduler.health()
    assert (health["running"], health["healthy"], health["troubled"]) == (True, False, ["bad"])
    assert set(health["tasks"]) == {"good", "bad"}
    assert health["tasks"]["good"]["state"] == "running"
    await scheduler.stop()


@on_both_loops
async def test_a_task_can_come_after_another_and_be_run_at_once() -> None:
    ran: list[str] = []
    scheduler = embedded()
    scheduler.register_task("fetch", lambda: ran.append("fetch"), at="00:00")
    scheduler.register_task("compute", lambda: ran.append("compute"), after="fetch")
    await scheduler.start()
    scheduler.run_now("fetch")
    await until(lambda: ran == ["fetch", "compute"])
    with pytest.raises(UnknownTaskError):
        scheduler.run_now("nobody")
    await scheduler.stop()


@on_both_loops
async def test_a_run_can_be_cancelled_and_a_loop_that_was_does_not_come_back() -> None:
    scheduler = embedded()
    scheduler.register_task("slow", idle, every="100ms")
    await scheduler.start()
    await until(lambda: scheduler.health()["tasks"]["slow"]["run_id"])
    run_id = scheduler.health()["tasks"]["slow"]["run_id"]
    scheduler.cancel(run_id)
    await until(lambda: scheduler.health()["tasks"]["slow"]["run_id"] != run_id)
    await scheduler.stop()


@on_both_loops
async def test_the_cache_is_shared_by_its_tasks_and_open_to_the_program() -> None:
    loads: list[int] = []
    seen: list[Any] = []

    async def load() -> str:
        loads.append(1)
        await asyncio.sleep(0)
        return "quotes"

    async def reader(ctx: Context) -> None:
        seen.append(await ctx.cache["market_data"].get_or_load("NIFTY", load))

    scheduler = embedded(cache={"market_data": "1h"})
    scheduler.register_task("one", reader, every="100ms")
    scheduler.register_task("two", reader, every="100ms")
    await scheduler.start()
    await until(lambda: len(seen) >= 2)
    assert loads == [1]
    assert scheduler.cache["market_data"].get("NIFTY") == "quotes"
    with pytest.raises(UnknownNamespaceError, match="market_data"):
        scheduler.cache["market_dta"]
    await scheduler.stop()


@on_both_loops
async def test_before_the_start_there_is_nothing_to_ask() -> None:
    scheduler = embedded()
    scheduler.register_task("a", lambda: None)
    for ask in (lambda: scheduler.cache, lambda: scheduler.run_now("a"), lambda: scheduler.cancel("a")):
        with pytest.raises(SchedulerError, match="not been started"):
            ask()


@on_both_loops
async def test_two_schedulers_run_side_by_side_in_one_loop() -> None:
    ran: list[str] = []
    one, two = embedded(cache={"a": "1h"}), embedded(cache={"b": "1h"})
    one.register_task("namesake", lambda: ran.append("one"), every="100ms")
    two.register_task("namesake", lambda: ran.append("two"), every="100ms")
    await asyncio.gather(one.start(), two.start())
    await until(lambda: {"one", "two"} <= set(ran))
    await one.stop()
    count = ran.count("two")
    await until(lambda: ran.count("two") > count)
    assert two.health()["healthy"]
    two.cache["b"].put("key", 1)
    await two.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@on_both_loops
async def test_the_programs_own_task_factory_is_left_as_it_was() -> None:
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    scheduler = embedded()
    scheduler.register_task("loop", idle)
    await scheduler.start()
    await asyncio.sleep(0.05)
    await scheduler.stop()
    assert loop.get_task_factory() is before


@on_both_loops
async def test_without_a_state_directory_nothing_is_left_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    scheduler = embedded()
    scheduler.register_task("a", lambda: None, every="100ms")
    await scheduler.start()
    assert [name.startswith("scheduler-") for name in names_in(tmp_path)] == [True]
    await scheduler.stop()
    assert names_in(tmp_path) == []
    failing = embedded()
    failing.register_task("bad", lambda: None, every="never")
    with pytest.raises(ConfigurationError):
        await failing.start()
    assert names_in(tmp_path) == []


@on_both_loops
async def test_a_state_directory_keeps_the_ledger_and_belongs_to_one_scheduler(tmp_path: Path) -> None:
    ran: list[int] = []
    scheduler = embedded(state_dir=tmp_path)
    scheduler.register_task("a", lambda: ran.append(1), every="100ms")
    await scheduler.start()
    await until(lambda: ran)
    with pytest.raises(StateLockedError):
        await embedded(state_dir=tmp_path).start()
    await scheduler.stop()
    assert [row.task for row in read_history(tmp_path / "ledger.db")][:1] == ["a"]


@on_both_loops
async def test_a_task_with_arguments_and_a_key_that_python_reserves() -> None:
    seen: list[Any] = []
    scheduler = embedded()
    scheduler.register_task(
        "a",
        lambda symbol, ctx: seen.append((symbol, ctx.task, ctx.priority)),
        every="100ms",
        with_={"symbol": "X"},
    )
    await scheduler.start()
    await until(lambda: seen)
    await scheduler.stop()
    assert seen[0] == ("X", "a", "important")


def test_dues_are_those_of_the_calendar_whenever_the_program_starts() -> None:
    dues: list[str] = []

    async def work(clock: VirtualClock) -> None:
        scheduler = Scheduler(clock=clock)
        scheduler.register_task(
            "a", lambda ctx: dues.append(ctx.due.isoformat()[11:19]), every={"open": "40s"}
        )
        await scheduler.start()
        await asyncio.sleep(100)
        await scheduler.stop()

    virtually(OPENING + 17 * SECOND, work)
    assert dues == ["09:15:40", "09:16:20"]
