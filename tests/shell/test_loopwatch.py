"""The loop's watch, on real loops that are really blocked."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import uvloop

from scheduler import loopwatch
from scheduler.core import admission
from scheduler.core.messages import MILLISECOND, SECOND
from scheduler.loopwatch import LoopWatch, Stall
from scheduler.runs import BackgroundTaskManager
from tests.shell.execution import on_both_loops, on_uvloop, until

HERE = __file__
LONG = 1.2  # seconds for which a loop is blocked here: enough for a busy machine to find it in time


class Watched:
    """A watch and all that it tells, each with the time at which it was told."""

    def __init__(self) -> None:
        self.stalls: list[tuple[float, Stall]] = []
        self.overs: list[Stall] = []
        self.lags: list[int] = []
        self.busy = True
        self.appointment: int | None = None
        self.asked = 0
        self.tellers: set[int] = set()
        self.watch = LoopWatch(
            appointment=lambda: self.appointment,
            busy=self._is_busy,
            whose=lambda task: ("desk", "desk-1") if task.get_name() == "desk-1" else None,
            on_stall=self._stalled,
            on_over=self.overs.append,
            on_lag=self.lags.append,
        )

    def _is_busy(self) -> bool:
        self.asked += 1
        return self.busy

    def _stalled(self, stall: Stall) -> None:
        self.tellers.add(threading.get_ident())
        self.stalls.append((time.monotonic(), stall))

    async def over(self) -> tuple[float, Stall, Stall]:
        """When the one stall was told, and what was told of it then and at its end."""
        await until(lambda: self.overs)
        [(told, stall)], [end] = self.stalls, self.overs
        assert self.tellers.isdisjoint({threading.get_ident()})
        return told, stall, end

    async def resting(self) -> None:
        await until(lambda: self.watch._resting)


@asynccontextmanager
async def watched() -> AsyncIterator[Watched]:
    it = Watched()
    it.watch.start()
    try:
        yield it
    finally:
        it.watch.close()
        assert "loop-watch" not in {thread.name for thread in threading.enumerate()}


def here(function: Callable[..., Any], offset: int = 1) -> str:
    """A line of a function of this file, as a frame is told."""
    return f"{HERE}:{function.__code__.co_firstlineno + offset} in {function.__name__}"


def block(seconds: float) -> None:
    """What no coroutine should do."""
    time.sleep(seconds)


def sleeps() -> None:
    time.sleep(LONG)


def burns() -> None:
    limit = time.monotonic() + LONG
    while time.monotonic() < limit:
        pass


def searches() -> None:
    """Matched in C, which keeps the interpreter to itself: each letter more doubles the time."""
    for size in range(20, 40):
        began = time.monotonic()
        re.match(r"(a+)+$", "a" * size + "b")
        if time.monotonic() - began > 0.8:
            return


async def a_task(work: Callable[[], None]) -> None:
    await asyncio.sleep(0.1)
    work()


@pytest.mark.parametrize("work, lines", [(sleeps, [1]), (burns, [2, 3])])
@on_both_loops
async def test_a_task_that_blocks_is_named_with_its_frame_before_it_ends(
    work: Callable[[], None], lines: list[int]
) -> None:
    async with watched() as it:
        await asyncio.create_task(a_task(work), name="desk-1")
        ended = time.monotonic()
        told, stall, over = await it.over()
    assert told < ended
    assert 0.5 <= stall.seconds < over.seconds
    assert over.seconds >= LONG - 0.3
    assert (stall.sight.culprit, stall.sight.run_id) == ("desk", "desk-1")
    assert stall.sight.stack[0] == here(a_task, 2)
    assert stall.sight.stack[-1] in {here(work, line) for line in lines}
    assert it.watch.stalls == 1


@on_both_loops
async def test_c_code_that_lets_nobody_else_run_is_named_when_it_lets_go() -> None:
    async with watched() as it:
        await asyncio.create_task(a_task(searches), name="desk-1")
        await until(lambda: it.overs)
    assert it.watch.stalls >= 1
    for _, stall in it.stalls:
        assert stall.sight.culprit == "desk"
        assert any(frame.endswith(" in searches") for frame in stall.sight.stack)


@on_uvloop
async def test_the_stack_leads_from_the_task_to_what_blocks_through_every_await() -> None:
    async def inner() -> None:
        await asyncio.sleep(0)
        sleeps()

    async def outer() -> None:
        await inner()

    async with watched() as it:
        await asyncio.create_task(outer(), name="desk-1")
        _, stall, _ = await it.over()
    assert [frame.rpartition(" in ")[2] for frame in stall.sight.stack] == ["outer", "inner", "sleeps"]
    fields = stall.fields()
    assert fields["task"] == fields["culprit"] == "desk"
    assert fields["frame"] == here(sleeps)
    assert fields["stack"] == list(stall.sight.stack)
    assert "isolation: thread" in fields["hint"]


@on_uvloop
async def test_an_asyncio_task_of_nobody_is_named_by_its_coroutine() -> None:
    async with watched() as it:
        await asyncio.create_task(a_task(sleeps))
        _, stall, _ = await it.over()
    assert (stall.sight.culprit, stall.sight.run_id) == ("a_task", "")
    assert stall.fields().keys().isdisjoint({"task", "run_id", "hint"})


@on_both_loops
async def test_an_asyncio_task_that_a_run_has_made_is_the_runs() -> None:
    manager = BackgroundTaskManager(time.time_ns)
    owners: list[str | None] = []

    def look() -> None:
        task = asyncio.current_task()
        assert task is not None
        owner = manager.owner_of(task)
        owners.append(owner.owner if owner is not None else None)

    async def child() -> None:
        look()

    async def run() -> None:
        look()
        await asyncio.create_task(child())
        entry = manager.registry.live["desk-1"]
        await manager.background(entry, child())

    manager.start_task(run(), "desk-1", owner="desk")
    await manager.wait_all(10)
    look()
    manager.close()
    assert owners == ["desk", "desk", "desk", None]


@on_both_loops
async def test_a_callback_in_no_task_is_named_by_its_frame() -> None:
    async with watched() as it:
        asyncio.get_running_loop().call_soon(sleeps)
        _, stall, _ = await it.over()
    assert stall.sight.culprit == "a callback"
    assert stall.sight.stack == (here(sleeps),)


@on_both_loops
async def test_a_callback_without_python_code_is_a_stall_all_the_same() -> None:
    async with watched() as it:
        asyncio.get_running_loop().call_soon(time.sleep, LONG)
        _, stall, _ = await it.over()
    assert stall.sight.stack == ()
    assert stall.fields()["frame"] == "no Python code"


@on_uvloop
async def test_one_turn_of_many_blocking_tasks_is_not_put_down_to_one_of_them() -> None:
    async with watched() as it:

        async def first() -> None:
            while it.watch._glimpse is None:
                block(0.01)

        async def second() -> None:
            while not it.stalls:
                block(0.01)

        await asyncio.gather(first(), second())
        _, stall, _ = await it.over()
    assert (stall.earlier.rpartition(".")[2], stall.sight.culprit.rpartition(".")[2]) == ("first", "second")
    assert stall.fields()["earlier"] == stall.earlier


@on_uvloop
async def test_short_blocks_and_a_quiet_loop_are_no_stalls() -> None:
    async with watched() as it:
        for _ in range(10):
            block(0.02)
            await asyncio.sleep(0.02)
        await until(lambda: it.asked >= 4)
    assert it.stalls == []
    assert it.watch.stalls == 0
    assert it.watch.stalled == 0.0


@on_uvloop
async def test_a_stall_that_lasts_is_told_again_with_the_frame_of_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loopwatch, "REPEAT", 500 * MILLISECOND)

    def blocked() -> None:
        sleeps()
        burns()

    async with watched() as it:
        asyncio.get_running_loop().call_soon(blocked)
        await until(lambda: it.overs)
    assert len(it.stalls) >= 3
    assert it.watch.stalls == len(it.overs) == 1
    lasting = [stall.seconds for _, stall in it.stalls]
    assert all(before < after for before, after in pairwise(lasting))
    frames = [stall.sight.stack[-1].rpartition(" in ")[2] for _, stall in it.stalls]
    assert (frames[0], frames[-1]) == ("sleeps", "burns")


@on_uvloop
async def test_what_is_done_once_a_stall_is_over_is_not_another_one_while_older_probes_are_answered() -> None:
    """The lines of the log that waited: shorter than a stall, and the oldest probes are older than one."""
    async with watched() as it:

        def drain(stall: Stall) -> None:
            block(0.3)
            it.overs.append(stall)

        it.watch._on_over = drain
        await a_task(sleeps)
        await it.over()
        await asyncio.sleep(0.3)
        assert len(it.stalls) == it.watch.stalls == 1


async def test_each_stall_is_counted_and_ended() -> None:
    async with watched() as it:
        for count in (1, 2):
            block(LONG)
            await until(lambda count=count: len(it.overs) == count)  # type: ignore[misc]
    assert it.watch.stalls == len(it.stalls) == 2


@on_uvloop
async def test_while_the_loop_stands_others_can_see_for_how_long() -> None:
    seen: list[float] = []
    async with watched() as it:
        await asyncio.sleep(0.3)
        timer = threading.Timer(LONG, lambda: seen.append(it.watch.stalled))
        timer.start()
        block(LONG + 0.3)
        timer.join()
        await it.over()
        assert it.watch.stalled == 0.0
    assert 0.5 <= seen[0] <= LONG + 0.5


# Lag.


@on_uvloop
async def test_a_single_stall_is_little_lag_and_a_loop_that_is_always_late_is_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "LAG_WINDOW", 2 * SECOND)
    async with watched() as it:
        await asyncio.sleep(0.3)
        block(0.45)
        await asyncio.sleep(0.3)
        single = it.watch.mean_lag
        for _ in range(3):
            block(0.8)
            await asyncio.sleep(0.001)
        await until(lambda: it.lags and max(it.lags) > 250 * MILLISECOND)
        await until(lambda: it.lags[-1] <= 100 * MILLISECOND)  # that it is over is told, too
    assert single < 250 * MILLISECOND


# It costs nothing while there is nothing to watch.


@on_uvloop
async def test_while_no_run_is_alive_the_loop_is_left_alone_until_work_begins() -> None:
    async with watched() as it:
        it.busy = False
        await it.resting()
        asked = it.asked
        await asyncio.sleep(1.0)
        assert it.asked == asked
        it.watch.attend()
        block(LONG)
        _, stall, _ = await it.over()
    assert stall.sight.stack[-1].startswith(f"{HERE}:")


@on_uvloop
async def test_at_rest_an_appointment_that_the_loop_misses_is_noticed() -> None:
    async with watched() as it:
        it.busy = False
        await it.resting()
        it.appointment = time.monotonic_ns() + SECOND // 4
        it.watch._wake.set()  # as if it had just looked
        block(LONG + 0.5)
        _, stall, over = await it.over()
    assert stall.began == it.appointment
    assert over.seconds >= LONG


@on_uvloop
async def test_at_rest_appointments_that_are_kept_wake_nobody() -> None:
    async with watched() as it:
        it.busy = False
        it.appointment = time.monotonic_ns()
        await it.resting()
        asked = it.asked
        for _ in range(10):
            it.appointment = time.monotonic_ns() + SECOND // 10
            await asyncio.sleep(0.1)
        assert it.asked == asked
        assert it.stalls == []


@on_uvloop
async def test_work_that_comes_again_and_again_does_not_wake_it_each_time() -> None:
    """Else a loop of short runs would be asked as fast as it could answer."""
    async with watched() as it:
        it.busy = False
        limit = time.monotonic() + 1.5
        while time.monotonic() < limit:
            it.watch.attend()
            await asyncio.sleep(0)
        assert it.asked <= 8


# Its end.


@on_both_loops
async def test_closed_at_rest_or_twice_or_before_its_start_it_leaves_no_thread() -> None:
    async with watched() as it:
        it.busy = False
        await it.resting()
        it.watch.close()
    fresh = Watched()
    fresh.watch.attend()
    fresh.watch.close()
    assert fresh.stalls == []


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_loop_that_is_closed_without_a_word_ends_it_too(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def begin() -> Watched:
        it = Watched()
        it.watch.start()
        return it

    loop = new_loop()
    it = loop.run_until_complete(begin())
    loop.close()
    assert it.watch._thread is not None
    it.watch._thread.join(10)
    assert not it.watch._thread.is_alive()
    assert it.stalls == []


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_program_that_runs_the_loop_is_no_part_of_what_blocks_it(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Without a runner, uvloop's only frame on the stack is the program's own."""

    async def main() -> Stall:
        async with watched() as it:
            asyncio.get_running_loop().call_soon(time.sleep, LONG)
            return (await it.over())[1]

    loop = new_loop()
    try:
        assert loop.run_until_complete(main()).sight.stack == ()
    finally:
        loop.close()


async def test_a_stall_that_cannot_be_told_does_not_end_the_watch() -> None:
    troubles: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: troubles.append(str(context["exception"])))
    async with watched() as it:
        told, it.watch._on_stall = it.watch._on_stall, lambda _: 1 / 0  # type: ignore[assignment]
        block(LONG)
        await until(lambda: it.overs)
        it.watch._on_stall = told
        block(LONG)
        await until(lambda: len(it.overs) == 2)
    assert len(it.stalls) == 1
    assert troubles == ["division by zero"]
