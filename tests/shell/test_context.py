from __future__ import annotations

import asyncio
from typing import Any

from scheduler.context import Context, Ticks
from scheduler.core.messages import MILLISECOND, SECOND, Run, Status, TaskSpec, Work
from scheduler.executors import Job, Services
from tests.helpers import instant
from tests.shell.execution import DUE, FACTS, Desk, Record, on_both_loops, target, task, until

OPEN = instant("2026-11-23T09:15:00+05:30")


class StillClock:
    """Time passes only where the test says so; waiting takes next to no real time."""

    def __init__(self, now: int) -> None:
        self.time = now
        self.waits: list[int] = []

    def now(self) -> int:
        return self.time

    def monotonic(self) -> int:
        return self.time

    def real_seconds(self, duration: int) -> float:
        """Waking comes a third early, as uvloop's timers do."""
        self.waits.append(duration)
        self.time += max(1, duration * 2 // 3)
        return 0.0


def pace(interval: int, last: int | None = None) -> Any:
    def next_tick(_spec: TaskSpec, after: int) -> int | None:
        tick = OPEN + ((after - OPEN) // interval + 1) * interval
        return None if last is not None and tick > last else tick

    return next_tick


def job(due: int = OPEN) -> Job:
    services = Services(lambda *_: FACTS, lambda _job: None, lambda _run: Record(), lambda *_: None)
    return Job(Run("live-feed", due), task(target("nothing")), None, None, services)  # type: ignore[arg-type]


async def collect(ticks: Ticks, clock: StillClock, number: int, busy: int = 0) -> list[str]:
    seen = []
    async for tick in ticks:
        assert clock.now() >= instant(tick.isoformat()), "a tick came before its instant"
        seen.append(tick.isoformat())
        clock.time += busy
        if len(seen) == number:
            break
    return seen


async def test_ticks_follow_the_pace_and_begin_with_the_runs_own_due() -> None:
    clock = StillClock(OPEN + 2 * MILLISECOND)
    seen = await collect(Ticks(job(), clock, pace(5 * SECOND)), clock, 3)
    assert seen == [
        "2026-11-23T09:15:00+05:30",
        "2026-11-23T09:15:05+05:30",
        "2026-11-23T09:15:10+05:30",
    ]


async def test_a_run_that_starts_late_begins_with_the_next_tick() -> None:
    clock = StillClock(OPEN + 61 * SECOND)
    assert await collect(Ticks(job(), clock, pace(5 * SECOND)), clock, 1) == ["2026-11-23T09:16:05+05:30"]


async def test_ticks_that_pass_while_the_body_is_busy_are_skipped() -> None:
    clock = StillClock(OPEN)
    seen = await collect(Ticks(job(), clock, pace(5 * SECOND)), clock, 3, busy=12 * SECOND)
    assert seen == [
        "2026-11-23T09:15:00+05:30",
        "2026-11-23T09:15:15+05:30",
        "2026-11-23T09:15:30+05:30",
    ]


async def test_no_tick_comes_twice_when_the_clock_goes_back() -> None:
    clock = StillClock(OPEN)
    seen = await collect(Ticks(job(), clock, pace(5 * SECOND)), clock, 3, busy=-3 * SECOND)
    assert seen == [
        "2026-11-23T09:15:00+05:30",
        "2026-11-23T09:15:05+05:30",
        "2026-11-23T09:15:10+05:30",
    ]


async def test_long_waits_are_cut_up_so_that_a_stepped_clock_is_seen() -> None:
    clock = StillClock(OPEN + 1)
    await collect(Ticks(job(OPEN - SECOND), clock, pace(600 * SECOND)), clock, 1)
    assert max(clock.waits) == 30 * SECOND


async def test_ticks_end_with_the_pace() -> None:
    clock = StillClock(OPEN)
    seen = await collect(Ticks(job(), clock, pace(5 * SECOND, last=OPEN + 5 * SECOND)), clock, 99)
    assert len(seen) == 2


async def test_a_sync_loop_over_ticks_ends_when_the_run_is_cancelled() -> None:
    clock, one = StillClock(OPEN), job()
    seen = []
    for tick in Ticks(one, clock, pace(5 * SECOND)):
        seen.append(tick)
        if len(seen) == 2:
            one.stop()
    assert len(seen) == 2


async def test_a_context_says_what_its_run_is_about() -> None:
    run = Run("page-desk", DUE, 2, event="task.stale", subject="live-feed")
    services = Services(
        lambda *_: FACTS,
        lambda _job: None,
        lambda run: f"log of {run.task}",  # type: ignore[arg-type, return-value]
        lambda *_: None,
    )
    one = Job(run, task(target("nothing")), None, None, services)  # type: ignore[arg-type]
    ctx = Context(one, cache={"prices": {}}, clock=StillClock(OPEN), next_tick=pace(SECOND))
    assert (ctx.task, ctx.attempt, ctx.priority, ctx.event, ctx.subject) == (
        "page-desk", 2, "important", "task.stale", "live-feed",
    )  # fmt: skip
    assert ctx.due.isoformat() == "2026-11-23T15:45:00+05:30"
    assert (ctx.phase, ctx.session) == ("post-close", "2026-11-23")
    assert ctx.run_id == "page-desk-20261123T101500Z~2"
    assert ctx.log == "log of page-desk"
    assert ctx.cache == {"prices": {}}
    assert not ctx.cancelled.is_set()
    one.stop()
    assert ctx.cancelled.is_set()


def test_a_context_made_after_the_stop_knows_of_it() -> None:
    one = job()
    one.stop()
    assert one.cancelled.is_set()


@on_both_loops
async def test_a_loop_over_ticks_is_never_early_and_ends_with_its_run() -> None:
    early: list[float] = []
    step = 20 * MILLISECOND

    async def loop_over(ctx: Any) -> None:
        number = 0
        async for tick in ctx.ticks():
            number += 1
            early.append(instant(tick.isoformat()) - ctx._clock.now())
            if number == 10:
                await asyncio.Event().wait()

    async with Desk() as desk:
        desk.next_tick = lambda _spec, after: (after // step + 1) * step
        desk.executors.register("loop", loop_over)
        run = desk.start(task(Work(target="loop")))
        await until(lambda: len(early) == 10)
        desk.stop(run, Status.COMPLETED, "phase-ended")
        assert (await desk.end_of(run)).reason == "phase-ended"
    assert max(early) <= 0
