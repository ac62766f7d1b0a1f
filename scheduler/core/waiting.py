"""Runs that wait for a slot: by priority and name, then by due."""

from __future__ import annotations

from bisect import insort
from collections import deque
from typing import NamedTuple

from scheduler.core.messages import SECOND, Instant, Run
from scheduler.core.tasks import PROMPT, TaskState

LOOK_EVERY = SECOND  # how often those are sought that have waited too long


class Waiter(NamedTuple):
    """One run in the queue; compared by the first three, of which ``order`` is unique."""

    rank: int
    due: Instant
    order: int
    state: TaskState
    run: Run
    since: Instant  # from when its lateness counts

    @property
    def left(self) -> bool:
        """Replaced, given up or started since."""
        return self.state.queued is not self.run

    def too_late(self, now: Instant) -> bool:
        """Law 4: it may not be started any more. A loop may as long as its phase holds."""
        if now - self.since <= PROMPT or self.state.keeps_running:
            return False
        return now > self.state.latest_start(self.since) or not self.state.same_stretch(self.since, now)


class WaitingRoom:
    """A sorted queue. Runs that come due together arrive in order, so that adding is appending."""

    def __init__(self) -> None:
        self._queue: deque[Waiter] = deque()
        self._order = 0

    def __bool__(self) -> bool:
        return bool(self._queue)

    def add(self, state: TaskState, run: Run, since: Instant) -> None:
        self._order += 1
        waiter = Waiter(state.rank, run.due, self._order, state, run, since)
        if not self._queue or self._queue[-1] < waiter:
            self._queue.append(waiter)
        else:
            insort(self._queue, waiter)

    def first(self) -> Waiter | None:
        """Who goes next."""
        queue = self._queue
        while queue and queue[0].left:
            queue.popleft()
        return queue[0] if queue else None

    def pop(self) -> None:
        self._queue.popleft()

    def tasks(self) -> set[str]:
        """Whose runs wait."""
        return {waiter.state.name for waiter in self._queue if not waiter.left}

    def too_late(self, now: Instant) -> list[Waiter]:
        """Those who have waited too long; they stay until they are given up."""
        self._queue = deque(waiter for waiter in self._queue if not waiter.left)
        return [waiter for waiter in self._queue if waiter.too_late(now)]
