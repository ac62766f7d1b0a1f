"""The only reader of time.

A clock answers three questions: what time it is (for what is due), how much time has passed (for
durations), and how long the event loop must really wait for a stretch of the clock's time.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import ceil
from typing import Any, Protocol

from scheduler.core.messages import SECOND, Duration, Instant

_FAR_FUTURE = 2.0**33  # seconds of the wall clock: the year 2242


class Clock(Protocol):
    """Nanoseconds throughout; seconds only where the event loop wants them."""

    def now(self) -> Instant:
        """The wall clock. It may step; nothing is measured with it."""
        ...

    def monotonic(self) -> Duration:
        """Time since some fixed moment; it never steps and stands still in a suspend."""
        ...

    def real_seconds(self, duration: Duration) -> float:
        """How long the event loop must wait until ``duration`` of this clock has passed."""
        ...


class SystemClock:
    """The host's clock."""

    def now(self) -> Instant:
        return time.time_ns()

    def monotonic(self) -> Duration:
        return time.monotonic_ns()

    def real_seconds(self, duration: Duration) -> float:
        return duration / SECOND


class ClockSetWatch:
    """Has the kernel tell at once that the host's clock was set, or that the host woke from a suspend.

    A timer on the wall clock that is cancelled by that (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET), which
    Python can make from 3.13 on; before, and where the kernel refuses, it is idle.
    """

    def __init__(self, on_set: Callable[[], None]) -> None:
        """``on_set`` is called on the running loop; how far the clock was moved is for it to find out."""
        self._on_set = on_set
        self._loop = asyncio.get_running_loop()
        self._timer = _timer_on_the_wall_clock()
        if self._timer is not None:
            self._arm(self._timer)
            self._loop.add_reader(self._timer, self._told, self._timer)

    @property
    def is_active(self) -> bool:
        return self._timer is not None

    def close(self) -> None:
        """Idempotent."""
        if self._timer is not None:
            self._loop.remove_reader(self._timer)
            os.close(self._timer)
            self._timer = None

    def _arm(self, timer: int) -> None:
        if sys.version_info >= (3, 13):
            flags = os.TFD_TIMER_ABSTIME | os.TFD_TIMER_CANCEL_ON_SET
            os.timerfd_settime(timer, flags=flags, initial=_FAR_FUTURE)

    def _told(self, timer: int) -> None:
        with suppress(OSError):  # ECANCELED is what it is there for
            os.read(timer, 8)
        self._arm(timer)
        self._on_set()


def _timer_on_the_wall_clock() -> int | None:
    if sys.version_info >= (3, 13):
        with suppress(OSError):  # seccomp forbids it, or no descriptor is left: the waker looks anyway
            return os.timerfd_create(time.CLOCK_REALTIME, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)
    return None


class ScaledClock:
    """A clock that stands at an instant until ``begin``, then runs ``speed`` times as fast."""

    def __init__(self, start: Instant, speed: float = 1.0) -> None:
        if speed <= 0:
            raise ValueError("a clock's speed must be above 0")
        self._start = start
        self._speed = speed
        self._began: int | None = None

    def begin(self) -> None:
        """Let time pass from now on."""
        if self._began is None:
            self._began = time.monotonic_ns()

    def now(self) -> Instant:
        return self._start + self.monotonic()

    def monotonic(self) -> Duration:
        return 0 if self._began is None else int((time.monotonic_ns() - self._began) * self._speed)

    def real_seconds(self, duration: Duration) -> float:
        return duration / SECOND / self._speed


class VirtualClock:
    """A clock that jumps to the next timer whenever its event loop would only wait.

    Work that the loop cannot see (a thread, a subprocess, a commit under way) is announced by
    ``hold``: while any is, the loop waits for it in real time instead of jumping past it.
    """

    def __init__(self, start: Instant) -> None:
        self._start = start
        self._passed = 0
        self._stepped = 0
        self._holds = 0

    def now(self) -> Instant:
        return self._start + self._passed + self._stepped

    def monotonic(self) -> Duration:
        return self._passed

    def real_seconds(self, duration: Duration) -> float:
        return duration / SECOND

    def advance(self, duration: Duration) -> None:
        self._passed += duration

    def step(self, by: Duration) -> None:
        """Move the wall clock alone, as an operator or a suspend would."""
        self._stepped += by

    @property
    def held(self) -> bool:
        return self._holds > 0

    @contextmanager
    def hold(self) -> Iterator[None]:
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1


class _JumpingSelector(selectors.DefaultSelector):
    """Where the loop would sleep, the clock jumps."""

    clock: VirtualClock
    loop: Any

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is not None and timeout <= 0:
            if not self.loop._ready:  # noqa: SLF001 - a timer is due, but for the last bit of a float
                self.clock.advance(1)
            return ready
        if timeout is None or self.clock.held:
            # Nothing is scheduled, or something outside the loop is under way: really wait a little.
            return super().select(0.002 if timeout is None else min(timeout, 0.002))
        self.clock.advance(max(1, ceil(timeout * SECOND)))
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is a VirtualClock's: a year passes as fast as its events are handled."""

    def __init__(self, clock: VirtualClock) -> None:
        selector = _JumpingSelector()
        selector.clock = clock
        selector.loop = self
        super().__init__(selector)
        self._virtual = clock

    def time(self) -> float:
        return self._virtual.monotonic() / SECOND
