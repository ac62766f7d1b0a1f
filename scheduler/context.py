"""What a task sees of the scheduler: the parameter ``ctx`` of its callable."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from scheduler.core.messages import SECOND, Duration, Instant

if TYPE_CHECKING:
    from scheduler.clock import Clock
    from scheduler.core.messages import TaskSpec
    from scheduler.executors import Job, Log

NextTick = Callable[["TaskSpec", Instant], Instant | None]

_LONGEST_WAIT = 30 * SECOND  # the wall clock may step while one waits
_SHORTEST_WAIT = 0.001  # seconds; uvloop turns less into "at once", which would spin


class Context:
    """One run, as its callable sees it. Usable from the event loop and from the run's thread."""

    def __init__(self, job: Job, *, cache: Any, clock: Clock, next_tick: NextTick) -> None:
        """``next_tick(spec, after)`` is the first tick of the task's pace after an instant, if any.

        Made on the event loop's thread.
        """
        self._job = job
        self._clock = clock
        self._next_tick = next_tick
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.cache = cache
        """The cache shared by all tasks: ``ctx.cache["namespace"]``."""
        self.cancelled: threading.Event = job.cancelled
        """Set when the run is to end: ``is_set()``, ``wait(seconds)``. Sync code must look at it."""

    @property
    def task(self) -> str:
        return self._job.run.task

    @property
    def run_id(self) -> str:
        return self._job.run.run_id

    @property
    def due(self) -> datetime:
        """When the run was due, in the market's zone."""
        return self._job.due

    @property
    def phase(self) -> str:
        """The market's phase at ``due``."""
        return self._job.facts.phase

    @property
    def session(self) -> str:
        """The ISO date of the session that the run belongs to."""
        return self._job.facts.session

    @property
    def attempt(self) -> int:
        """1, and one more with each restart."""
        return self._job.run.attempt

    @property
    def priority(self) -> str:
        return self._job.spec.priority.label

    @property
    def event(self) -> str:
        """Of an `on` run: the event that made it."""
        return self._job.run.event

    @property
    def subject(self) -> str:
        """Of an `on` run: the task or market that the event was about."""
        return self._job.run.subject

    @property
    def log(self) -> Log:
        """A logger bound to the run."""
        return self._job.log

    def ticks(self) -> Ticks:
        """The ticks of the task's pace, for `async for`, and for `for` in a thread."""
        return Ticks(self._job, self._clock, self._next_tick)

    def background(self, work: Coroutine[Any, Any, Any]) -> None:
        """Start work on the scheduler's loop that ends with the run at the latest."""
        if threading.get_ident() == self._thread:
            self._job.owner.background(work)
        else:
            self._loop.call_soon_threadsafe(self._job.owner.background, work)


class Ticks:
    """Yields each tick as an aware datetime, never before its instant.

    Ticks that pass while the body is busy are skipped, as an overlapping run would be. The run's own
    due instant comes first if it is a tick and the latest one. Ends when the pace has no more ticks;
    in a thread also when the run is cancelled.
    """

    def __init__(self, job: Job, clock: Clock, next_tick: NextTick) -> None:
        self._job = job
        self._clock = clock
        self._next_tick = next_tick
        self._last: Instant | None = None

    def __aiter__(self) -> AsyncIterator[datetime]:
        return self

    async def __anext__(self) -> datetime:
        tick = self._upcoming()
        if tick is None:
            raise StopAsyncIteration
        while (remaining := tick - self._clock.now()) > 0:  # noqa: ASYNC110 - there is no event for a clock
            await asyncio.sleep(self._wait(remaining))
        return self._reached(tick)

    def __iter__(self) -> Iterator[datetime]:
        cancelled = self._job.cancelled
        while not cancelled.is_set() and (tick := self._upcoming()) is not None:
            while (remaining := tick - self._clock.now()) > 0:
                if cancelled.wait(self._wait(remaining)):
                    return
            yield self._reached(tick)

    def _upcoming(self) -> Instant | None:
        spec, now = self._job.spec, self._clock.now()
        if self._last is not None:
            return self._next_tick(spec, max(self._last, now))
        due = self._job.run.due
        if due <= now and self._next_tick(spec, due - 1) == due:
            following = self._next_tick(spec, due)
            if following is None or following > now:
                return due
        return self._next_tick(spec, now)

    def _reached(self, tick: Instant) -> datetime:
        self._last = tick
        return self._job.moment(tick)

    def _wait(self, remaining: Duration) -> float:
        return max(_SHORTEST_WAIT, self._clock.real_seconds(min(remaining, _LONGEST_WAIT)))
