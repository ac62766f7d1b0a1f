"""Timeouts of thousands of short runs, almost none of which is ever reached.

A timer per run costs more than the run. All runs with the same timeout come due in the order in
which they began, so they stand in one queue (a dict, for removal at once) with one timer, for the
first of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from scheduler.core.messages import SECOND, Duration

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Calls ``expired(item)`` for each item that is still here when its timeout is over."""

    def __init__(self, expired: Callable[[T], None]) -> None:
        self._expired = expired
        self._queues: dict[Duration, dict[T, float]] = {}  # timeout -> item -> loop time
        self._timers: dict[Duration, asyncio.TimerHandle] = {}

    def add(self, item: T, timeout: Duration, loop: asyncio.AbstractEventLoop) -> None:
        queue = self._queues.get(timeout)
        if queue is None:
            queue = self._queues[timeout] = {}
        queue[item] = deadline = loop.time() + timeout / SECOND
        if timeout not in self._timers:
            self._timers[timeout] = loop.call_at(deadline, self._look, timeout, loop)

    def discard(self, item: T, timeout: Duration) -> None:
        queue = self._queues.get(timeout)
        if queue is not None:
            queue.pop(item, None)

    def close(self) -> None:
        while self._timers:
            self._timers.popitem()[1].cancel()
        self._queues.clear()

    def _look(self, timeout: Duration, loop: asyncio.AbstractEventLoop) -> None:
        """The first has timed out, or has gone and the timer is for the next one."""
        del self._timers[timeout]
        queue = self._queues[timeout]
        now = loop.time()
        expired = []
        for item, deadline in queue.items():
            if deadline > now:
                self._timers[timeout] = loop.call_at(deadline, self._look, timeout, loop)
                break
            expired.append(item)
        for item in expired:
            del queue[item]
        for item in expired:
            try:
                self._expired(item)
            except Exception as problem:  # noqa: BLE001 - the others have timed out as well
                loop.call_exception_handler({"message": "a timeout failed", "exception": problem})
        if not queue:
            self._queues.pop(timeout, None)
