"""Wakes the daemon when something is due, and distrusts the time it wakes at (law 9).

The one timer of the daemon. It never fires before its instant (uvloop rounds timers to whole
milliseconds and fires some early), and it looks at the clock every 15 s even when nothing is due, so
that steps and suspends are seen; at once, where the kernel tells of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from scheduler.clock import Clock, ClockSetWatch, SystemClock
from scheduler.core.messages import MILLISECOND, SECOND, Duration, Instant

CHECK_EVERY = 15 * SECOND
STEP = 500 * MILLISECOND  # a difference between the two clocks above this is a step, below it slewing

_real_time = SystemClock().monotonic  # what the loop waits in, whatever the daemon's clock says


class Waker:
    """``on_wake`` is called at the instant aimed at, ``on_step`` before it when the clock jumped."""

    def __init__(
        self,
        clock: Clock,
        *,
        on_wake: Callable[[], None],
        on_step: Callable[[Duration], None],
    ) -> None:
        self._clock = clock
        self._on_wake = on_wake
        self._on_step = on_step
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self._target: Instant = 0
        self.expected: Duration | None = None  # real monotonic time at which the timer should fire
        self._offset = clock.now() - clock.monotonic()
        self._closed = False
        self._set_watch = ClockSetWatch(self._clock_set) if isinstance(clock, SystemClock) else None

    def aim(self, when: Instant | None) -> None:
        """Wake at ``when``, or at the next look at the clock if that is sooner."""
        if self._closed:
            return
        if self._handle is not None:
            if when is None or self._target <= when:
                return  # it wakes early enough, and aims anew then
            self._handle.cancel()
        now = self._clock.now()
        target = now + CHECK_EVERY
        if when is not None and when < target:
            target = when
        self._target = target
        self._arm(self._clock.real_seconds(target - now) if target > now else 0.0)

    def stepped(self) -> Duration:
        """How far the wall clock has jumped since the last look; 0 when it has not."""
        step = self._clock.now() - self._clock.monotonic() - self._offset
        if -STEP < step < STEP:
            return 0
        self._offset += step
        self._target += step  # what the timer that is set will wake at, by the clock as it is now
        return step

    def close(self) -> None:
        self._closed = True
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self.expected = None
        if self._set_watch is not None:
            self._set_watch.close()

    def _clock_set(self) -> None:
        step = self.stepped()
        if step:
            self._on_step(step)

    def _arm(self, seconds: float) -> None:
        self.expected = _real_time() + int(seconds * SECOND)
        self._handle = self._loop.call_later(seconds, self._fire)

    def _fire(self) -> None:
        self._handle = None
        step = self.stepped()
        now = self._clock.now()
        self._offset = now - self._clock.monotonic()  # what is less than a step is slewing
        if step:
            self._on_step(step)
        elif now < self._target:
            # Early: wait the rest, at least a millisecond or uvloop would spin.
            self._arm(max(self._clock.real_seconds(self._target - now), 0.001))
            return
        self._on_wake()
