"""The clocks, and the loop of virtual time: it jumps only where it would only wait."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from scheduler import clock
from scheduler.clock import ClockSetWatch, ScaledClock, SystemClock, VirtualClock, VirtualTimeLoop
from scheduler.core.messages import DAY, MILLISECOND, SECOND
from tests.helpers import instant

START = instant("2026-11-23T09:15:00+05:30")
YEAR = 365 * 24 * 3600


def virtually(work: Callable[[VirtualClock], Coroutine[Any, Any, Any]]) -> VirtualClock:
    """Run it on virtual time; a loop that spins is stopped after a while, and fails the test."""
    clock = VirtualClock(START)
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(clock)) as runner:
        loop = runner.get_loop()
        watchdog = threading.Timer(20, loop.call_soon_threadsafe, (loop.stop,))
        watchdog.start()
        try:
            runner.run(work(clock))
        finally:
            watchdog.cancel()
            watchdog.join()
    return clock


def test_the_system_clock_tells_the_time_and_does_not_go_back() -> None:
    clock = SystemClock()
    readings = [clock.monotonic() for _ in range(100)]
    assert readings == sorted(readings)
    assert abs(clock.now() - time.time_ns()) < 60 * SECOND
    assert clock.real_seconds(1500 * MILLISECOND) == 1.5


def test_a_scaled_clock_stands_until_it_is_begun() -> None:
    clock = ScaledClock(START, 1000.0)
    assert (clock.now(), clock.monotonic()) == (START, 0)
    clock.begin()
    time.sleep(0.01)
    assert clock.now() >= START + 10 * SECOND
    assert clock.now() - START <= clock.monotonic()


def test_to_begin_a_scaled_clock_again_changes_nothing() -> None:
    clock = ScaledClock(START, 1000.0)
    clock.begin()
    time.sleep(0.01)
    clock.begin()
    assert clock.monotonic() >= 10 * SECOND


def test_a_scaled_clock_knows_how_long_the_loop_must_really_wait() -> None:
    assert ScaledClock(START, 20.0).real_seconds(10 * SECOND) == 0.5


@pytest.mark.parametrize("speed", [0.0, -1.0])
def test_a_clock_cannot_stand_still_or_run_backwards(speed: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        ScaledClock(START, speed)


def test_a_step_moves_the_wall_clock_alone() -> None:
    clock = VirtualClock(START)
    clock.advance(3 * SECOND)
    clock.step(-DAY)
    assert clock.monotonic() == 3 * SECOND
    assert clock.now() == START + 3 * SECOND - DAY


def test_a_year_passes_at_once() -> None:
    assert virtually(lambda _: asyncio.sleep(YEAR)).monotonic() == pytest.approx(YEAR * SECOND, abs=1000)


def test_a_year_of_hours_passes_as_well() -> None:
    async def work(_: VirtualClock) -> None:
        for _hour in range(365 * 24):
            await asyncio.sleep(3600)

    assert virtually(work).monotonic() == pytest.approx(YEAR * SECOND, abs=100_000)


def test_timers_go_off_in_order_and_never_early() -> None:
    gone_off: list[tuple[float, float]] = []

    async def work(clock: VirtualClock) -> None:
        loop = asyncio.get_running_loop()
        for delay in (5.0, 0.25, 3600.0, 0.0, 1e-9, 86_400.0 * 30, 5.0000001):
            due = loop.time() + delay
            loop.call_at(due, lambda due=due: gone_off.append((due, loop.time())))  # type: ignore[misc]
        await asyncio.sleep(86_400 * 31)

    virtually(work)
    assert [due for due, _ in gone_off] == sorted(due for due, _ in gone_off)
    assert len(gone_off) == 7
    assert all(due - 2e-9 <= at < due + 1e-6 for due, at in gone_off)


def test_timers_of_the_same_instant_go_off_in_the_order_they_were_set() -> None:
    order: list[int] = []

    async def work(_: VirtualClock) -> None:
        loop = asyncio.get_running_loop()
        when = loop.time() + 10
        for number in range(20):
            loop.call_at(when + number * 1e-9, order.append, number)
        await asyncio.sleep(11)

    virtually(work)
    assert order == list(range(20))


def test_time_stands_while_there_is_work() -> None:
    async def work(clock: VirtualClock) -> None:
        before = clock.monotonic()
        for _ in range(1000):
            await asyncio.sleep(0)
        assert clock.monotonic() == before

    virtually(work)


def test_time_stands_while_something_outside_the_loop_is_held_for() -> None:
    async def work(clock: VirtualClock) -> None:
        loop = asyncio.get_running_loop()
        rival = loop.create_task(asyncio.sleep(3600))
        with clock.hold():
            await loop.run_in_executor(None, time.sleep, 0.05)
        assert clock.monotonic() == 0
        assert not rival.done()
        await rival
        assert clock.monotonic() >= 3600 * SECOND

    virtually(work)


def test_holds_add_up() -> None:
    clock = VirtualClock(START)
    with clock.hold():
        with clock.hold():
            pass
        assert clock.held
    assert not clock.held


def test_a_hold_is_let_go_when_its_work_fails() -> None:
    clock = VirtualClock(START)
    with pytest.raises(ValueError, match="no"), clock.hold():
        raise ValueError("no")
    assert not clock.held


def test_timers_that_are_due_already_go_off_while_time_is_held() -> None:
    async def work(clock: VirtualClock) -> None:
        with clock.hold():
            await asyncio.wait_for(asyncio.sleep(0), 10)
            await asyncio.sleep(-1)

    assert virtually(work).monotonic() == 0


def test_what_a_thread_hands_over_is_taken_up_although_nothing_is_scheduled() -> None:
    async def work(clock: VirtualClock) -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        thread = threading.Timer(0.02, loop.call_soon_threadsafe, (done.set_result, 42))
        thread.start()
        assert await done == 42
        thread.join()
        assert clock.monotonic() == 0

    virtually(work)


def test_a_socket_that_is_ready_is_served_before_time_jumps() -> None:
    async def work(clock: VirtualClock) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.send(b"x")
            async with asyncio.timeout(3600):
                assert await asyncio.get_running_loop().sock_recv(ours, 1) == b"x"
        assert clock.monotonic() == 0

    virtually(work)


def test_a_timeout_is_virtual_as_well() -> None:
    async def work(_: VirtualClock) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(DAY / SECOND):
                await asyncio.Event().wait()

    assert virtually(work).monotonic() >= DAY


CLOCK_SET = """
import asyncio, os, sys, types

package = types.ModuleType("scheduler")  # this Python has none of what the package itself imports
package.__path__ = [sys.argv[1]]
sys.modules["scheduler"] = package
from scheduler.clock import ClockSetWatch, SystemClock
from scheduler.waker import Waker

def timers():
    links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    found = [link for link in links if os.path.lexists(link) and "timerfd" in os.readlink(link)]
    return [open(link.replace("/fd/", "/fdinfo/")).read() for link in found]

async def main():
    told = asyncio.Event()
    watch = ClockSetWatch(told.set)
    assert watch.is_active
    [info] = timers()
    assert "clockid: 0" in info and "settime flags: 03" in info, info  # absolute, cancelled when it is set
    # Let it go off, since the clock of this machine is not ours to set.
    os.timerfd_settime(watch._timer, flags=os.TFD_TIMER_ABSTIME, initial=1.0)
    await asyncio.wait_for(told.wait(), 10)
    [info] = timers()
    assert "settime flags: 03" in info, info  # armed anew
    watch.close()
    watch.close()
    assert timers() == []
    steps = []
    waker = Waker(SystemClock(), on_wake=lambda: None, on_step=steps.append)
    assert len(timers()) == 1
    waker._clock_set()
    assert steps == []  # it has not moved
    waker._offset -= 3600 * 10**9
    waker._clock_set()
    assert [round(step / 10**9) for step in steps] == [3600]
    waker.close()
    assert timers() == []

asyncio.run(main())
print("done")
"""


def python_3_13() -> str | None:
    """This Python, or one on the path, if it is new enough."""
    wanted = "import sys; sys.exit(sys.version_info < (3, 13))"
    pyenv = Path("~/.pyenv/versions").expanduser()  # its own `python3.13` may be an empty shim
    for name in (sys.executable, "python3.14", "python3.13", *map(str, pyenv.glob("3.1[3-9]*/bin/python3"))):
        found = shutil.which(name)
        if found and subprocess.run([found, "-c", wanted], check=False, capture_output=True).returncode == 0:
            return found
    return None


def test_from_python_3_13_on_the_kernel_tells_when_the_clock_is_set() -> None:
    """All but the kernel's own part: that the timer is made, armed, heard, armed again and closed."""
    python = python_3_13()
    if python is None:
        pytest.skip("there is no Python 3.13")
    done = subprocess.run(
        [python, "-c", CLOCK_SET, str(Path(clock.__file__).parent)],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("done\n", "")


async def test_without_such_a_timer_the_watch_is_idle_and_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_timer_on_the_wall_clock", lambda: None)
    watch = ClockSetWatch(lambda: None)
    assert not watch.is_active
    watch.close()
