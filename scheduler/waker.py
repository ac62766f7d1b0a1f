"""Wakes the daemon when something is due, and distrusts the time it wakes at (law 9).

The one timer of the daemon. It never fires before its instant (uvloop rounds timers to whole
milliseconds and fires some early), it looks at the clock every 15 s even when nothing is due, so
that steps and suspends are seen, and its own lateness is the measure of the loop's lag.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from scheduler.clock import Clock
from scheduler.core.messages import MILLISECOND, SECOND, Duration, Instant

CHECK_EVERY = 15 * SECOND
STEP = 500 * MILLISECOND  # a difference between the two clocks above this is a step, below it slewing
LAG_WINDOW = 5.0  # seconds over which the lag is averaged
WORTH_TELLING = 100 * MILLISECOND  # no threshold of shedding lies below


class Waker:
    """``on_wake`` is called at the instant aimed at, ``on_step`` before it when the clock jumped."""

    def __init__(
        self,
        clock: Clock,
        *,
        on_wake: Callable[[], None],
        on_step: Callable[[Duration], None],
        on_lag: Callable[[Duration], None],
    ) -> None:
        self._clock = clock
        self._on_wake = on_wake
        self._on_step = on_step
        self._on_lag = on_lag
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self._target: Instant = 0
        self._expected = 0.0  # loop time at which the timer should fire
        self._offset = clock.now() - clock.monotonic()
        self._lags: deque[tuple[float, float]] = deque()
        self._lag_total = 0.0
        self._lagging = False
        self._closed = False

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
        return step

    def close(self) -> None:
        self._closed = True
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, seconds: float) -> None:
        self._expected = self._loop.time() + seconds
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
        self._measure_lag()
        self._on_wake()

    def _measure_lag(self) -> None:
        now = self._loop.time()
        lag = max(0.0, now - self._expected)
        lags = self._lags
        lags.append((now, lag))
        self._lag_total += lag
        while lags[0][0] < now - LAG_WINDOW:
            self._lag_total -= lags.popleft()[1]
        mean = int(self._lag_total / len(lags) * SECOND)
        if mean > WORTH_TELLING or self._lagging:
            self._lagging = mean > WORTH_TELLING
            self._on_lag(mean)
