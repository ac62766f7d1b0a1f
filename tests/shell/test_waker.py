"""The one timer of the daemon: never early, and distrustful of the time it wakes at (law 9)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from scheduler.clock import Clock, ScaledClock, SystemClock, VirtualClock, VirtualTimeLoop
from scheduler.core.messages import HOUR, MILLISECOND, MINUTE, SECOND
from scheduler.waker import Waker
from tests.helpers import instant
from tests.shell.execution import on_both_loops

START = instant("2026-11-23T09:15:00+05:30")


class Owner:
    """Aims anew at each wake, as the daemon does, and notes what it is told."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.targets: list[int] = []  # still to come, the next one last
        self.told: list[str] = []
        self.wakes: list[tuple[int, int]] = []  # now, monotonic
        self.steps: list[tuple[int, int]] = []  # monotonic, by
        self.waker = Waker(clock, on_wake=self._wake, on_step=self._step)

    def aim(self) -> None:
        self.waker.aim(self.targets[-1] if self.targets else None)

    def _wake(self) -> None:
        self.told.append("wake")
        self.wakes.append((self.clock.now(), self.clock.monotonic()))
        while self.targets and self.targets[-1] <= self.clock.now():
            self.targets.pop()
        self.aim()

    def _step(self, by: int) -> None:
        self.told.append("step")
        self.steps.append((self.clock.monotonic(), by))
        self.aim()


def virtually(work: Callable[[VirtualClock, Owner], Coroutine[Any, Any, None]]) -> Owner:
    """Run it on virtual time with a waker that has been aimed at nothing."""
    clock = VirtualClock(START)

    async def run() -> Owner:
        owner = Owner(clock)
        owner.aim()
        await work(clock, owner)
        owner.waker.close()
        return owner

    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(clock)) as runner:
        return runner.run(run())


@on_both_loops
async def test_it_never_wakes_before_its_instant() -> None:
    """uvloop fires a third of short timers early; hundreds of them leave no room for luck."""
    clock = SystemClock()
    draw = random.Random(0)  # noqa: S311
    woken: list[tuple[int, int]] = []
    aimed = 0

    def wake() -> None:
        nonlocal aimed
        woken.append((aimed, clock.now()))
        if len(woken) < 300:
            aimed = clock.now() + draw.randrange(0, 5_000_000)
            waker.aim(aimed)
        else:
            done.set()

    done = asyncio.Event()
    waker = Waker(clock, on_wake=wake, on_step=lambda _: None)
    aimed = clock.now() + MILLISECOND
    waker.aim(aimed)
    async with asyncio.timeout(60):
        await done.wait()
    waker.close()
    assert [(target, at) for target, at in woken if at < target] == []


@on_both_loops
async def test_an_instant_that_has_passed_wakes_it_at_once() -> None:
    clock = SystemClock()
    woken = asyncio.Event()
    waker = Waker(clock, on_wake=woken.set, on_step=lambda _: None)
    waker.aim(clock.now() - HOUR)
    async with asyncio.timeout(10):
        await woken.wait()
    waker.close()


@on_both_loops
async def test_it_waits_by_the_scale_of_its_clock() -> None:
    clock = ScaledClock(START, 200.0)
    clock.begin()
    woken: list[int] = []
    done = asyncio.Event()

    def wake() -> None:
        woken.append(clock.now())
        if clock.now() >= START + 2 * MINUTE:
            done.set()
        waker.aim(START + 2 * MINUTE)

    waker = Waker(clock, on_wake=wake, on_step=lambda _: None)
    waker.aim(START + 2 * MINUTE)
    async with asyncio.timeout(30):
        await done.wait()
    waker.close()
    assert woken[-1] >= START + 2 * MINUTE


def test_it_looks_at_the_clock_every_15_seconds_when_nothing_is_due() -> None:
    owner = virtually(lambda _clock, _owner: asyncio.sleep(3601))
    assert len(owner.wakes) == 240
    assert owner.steps == []


def test_it_sleeps_no_longer_than_that_towards_a_distant_instant() -> None:
    async def work(_: VirtualClock, owner: Owner) -> None:
        owner.targets = [START + HOUR + 100 * SECOND]
        owner.aim()
        await asyncio.sleep(3601)

    assert len(virtually(work).wakes) == 240


def test_an_earlier_instant_comes_first_and_a_later_one_waits_for_its_turn() -> None:
    async def work(_: VirtualClock, owner: Owner) -> None:
        owner.targets = [START + 10 * SECOND]
        owner.aim()
        owner.targets = [START + 10 * SECOND, START + 3 * SECOND]
        owner.aim()
        owner.waker.aim(START + 12 * SECOND)  # not before what is nearer
        await asyncio.sleep(11)

    owner = virtually(work)
    assert [(now - START) // SECOND for now, _ in owner.wakes] == [3, 10]
    assert all((now - START) % SECOND < MILLISECOND for now, _ in owner.wakes)


@pytest.mark.parametrize("by", [HOUR, -HOUR, 3 * SECOND, -3 * SECOND, 100 * 24 * HOUR])
@pytest.mark.parametrize("target", [None, START + 8 * SECOND, START + 30 * MINUTE])
def test_a_step_is_noticed_within_15_seconds_and_told_before_anything_is_done(
    by: int, target: int | None
) -> None:
    async def work(clock: VirtualClock, owner: Owner) -> None:
        owner.targets = [] if target is None else [target]
        owner.aim()
        await asyncio.sleep(1)
        clock.step(by)
        owner.told.clear()
        await asyncio.sleep(40)

    owner = virtually(work)
    assert [step for _, step in owner.steps] == [by]
    assert owner.steps[0][0] <= 16 * SECOND
    assert owner.told[:2] == ["step", "wake"]


def test_an_instant_that_a_step_back_has_moved_away_is_waited_for_again() -> None:
    async def work(clock: VirtualClock, owner: Owner) -> None:
        owner.targets = [START + 10 * SECOND]
        owner.aim()
        await asyncio.sleep(1)
        clock.step(-MINUTE)
        await asyncio.sleep(100)

    owner = virtually(work)
    reached = [monotonic for now, monotonic in owner.wakes if now >= START + 10 * SECOND]
    assert reached[0] == pytest.approx(70 * SECOND, abs=MILLISECOND)


def test_every_step_is_told_once() -> None:
    async def work(clock: VirtualClock, _: Owner) -> None:
        for by in (HOUR, -HOUR, MINUTE):
            clock.step(by)
            await asyncio.sleep(60)

    assert [by for _, by in virtually(work).steps] == [HOUR, -HOUR, MINUTE]


def test_slewing_is_no_step_however_long_it_lasts() -> None:
    async def work(clock: VirtualClock, _: Owner) -> None:
        for _check in range(100):
            clock.step(200 * MILLISECOND)
            await asyncio.sleep(15)

    assert virtually(work).steps == []


def test_it_says_when_the_loop_will_wake_by_itself() -> None:
    """For whoever watches the loop: in real monotonic time, and no later than the next look at the clock."""
    now = SystemClock().monotonic

    async def work(clock: VirtualClock, owner: Owner) -> None:
        waker, before = owner.waker, now()
        assert waker.expected is not None
        assert 0 < waker.expected - before <= 15 * SECOND
        waker.aim(clock.now() + 3 * SECOND)
        assert before <= waker.expected - 3 * SECOND <= now()
        waker.close()
        assert waker.expected is None

    virtually(work)


def test_closed_it_stays_closed() -> None:
    """What comes back late, a thread for instance, still tells the daemon when it wants to be woken."""

    async def work(clock: VirtualClock, owner: Owner) -> None:
        owner.waker.close()
        owner.waker.aim(clock.now() + SECOND)
        await asyncio.sleep(60)

    assert virtually(work).wakes == []


def test_it_may_be_closed_twice_and_before_it_was_aimed() -> None:
    async def work(clock: VirtualClock, owner: Owner) -> None:
        owner.waker.close()
        owner.waker.close()
        Waker(clock, on_wake=owner.aim, on_step=print).close()
        await asyncio.sleep(30)

    assert virtually(work).wakes == []


def test_a_step_that_was_seen_between_wakes_does_not_delay_the_next_wake() -> None:
    """The timer that was set would wake 15 s later, however near the target is by the new time."""

    async def work(clock: VirtualClock, owner: Owner) -> None:
        clock.step(HOUR)
        assert owner.waker.stepped() == HOUR
        owner.targets = [clock.now() + SECOND]
        owner.aim()
        await asyncio.sleep(2)

    owner = virtually(work)
    assert owner.wakes[0] == (START + HOUR + SECOND, SECOND)
