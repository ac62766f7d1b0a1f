"""One sink: what it is to be told, what waits for it, and the worker that delivers that in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, Protocol

from scheduler.alerts.letters import Letter, SendError, Teller
from scheduler.clock import Clock
from scheduler.core import events
from scheduler.core.alerting import Folding, Message
from scheduler.core.messages import HOUR, SECOND, Announce, Duration, Instant, Level

WAITING = 500  # letters; of more the oldest is dropped
OLDEST = HOUR  # that a letter may get while it waits
_FIRST_DELAY = 1.0  # seconds; doubled with every failure
_LONGEST_DELAY = 60.0

Say = Callable[[str, Level, Mapping[str, Any]], None]  # event, level, fields


class Sender(Protocol):
    """How letters leave the house."""

    name: str  # for the log: a host, a program

    async def send(self, letter: Letter) -> None:
        """Deliver it; SendError when that fails. It has a deadline of its own."""


class _Waiting(NamedTuple):
    """Made a letter of when it is sent: a flood costs the loop next to nothing."""

    message: Message
    at: Instant
    since: Duration  # monotonic


class Sink:
    """``hear`` never waits; ``run`` is the worker's coroutine and ends some time after ``close``."""

    def __init__(
        self,
        sender: Sender,
        wanted: Collection[str],
        *,
        teller: Teller,
        clock: Clock,
        say: Say,
        waiting: int = WAITING,
        oldest: Duration = OLDEST,
    ) -> None:
        self.folding = Folding(wanted)
        self._sender = sender
        self._teller = teller
        self._clock = clock
        self._say = say
        self._most = waiting
        self._oldest = oldest
        self._queue: deque[_Waiting] = deque()
        self._woken = asyncio.Event()
        self._closing = asyncio.Event()
        self._reminder: asyncio.TimerHandle | None = None
        self._aimed_at: Instant | None = None
        self._failures = 0  # in a row
        self._dropped = 0  # and not said yet

    def hear(self, announcement: Announce) -> None:
        messages = self.folding.heard(announcement, self._clock.monotonic())
        if messages or announcement.event in self.folding.wanted:
            self._tell(messages)

    def close(self) -> None:
        """Nothing new is coming. What waits, and what is folded, is tried once more."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._tell(self.folding.flush(self._clock.monotonic()))
        self._woken.set()

    def drop_rest(self, why: str) -> None:
        """It ends: what is left is said to be lost."""
        self._drop(len(self._queue), why)
        self._queue.clear()

    async def run(self) -> None:
        while self._queue or not self._closing.is_set():
            if not self._queue:
                self._woken.clear()
                await self._woken.wait()
                continue
            waiting = self._queue[0]
            problem = await self._send(waiting)
            if problem is None or problem.refused:
                self._take_out(waiting)
                self._drop(int(problem is not None), str(problem))
                self._answered()
            else:
                self._failed(str(problem))
                if self._closing.is_set():
                    return
                await self._pause()

    async def _send(self, waiting: _Waiting) -> SendError | None:
        """What went wrong."""
        try:
            await self._sender.send(self._teller.letter(waiting.message, waiting.at))
        except SendError as problem:
            return problem
        except Exception as problem:  # noqa: BLE001 - whatever it is, the next letter is to be sent all the same
            return SendError(f"{type(problem).__name__}: {problem}")
        return None

    def _tell(self, messages: list[Message]) -> None:
        if messages:
            at, since = self._clock.now(), self._clock.monotonic()
            self._queue.extend(_Waiting(message, at, since) for message in messages)
            self._woken.set()
        while len(self._queue) > self._most:
            self._queue.popleft()
            self._dropped += 1
        self._aim()

    def _aim(self) -> None:
        """Wake up for the next reminder."""
        at = self.folding.wake_at()
        if at == self._aimed_at:
            return
        self._aimed_at = at
        if self._reminder is not None:
            self._reminder.cancel()
            self._reminder = None
        if at is not None and not self._closing.is_set():
            delay = max(0.001, self._clock.real_seconds(at - self._clock.monotonic()))
            self._reminder = asyncio.get_running_loop().call_later(delay, self._remind)

    def _remind(self) -> None:
        self._aimed_at = None
        self._tell(self.folding.due(self._clock.monotonic()))

    def _take_out(self, waiting: _Waiting) -> None:
        """It may have had to make room meanwhile."""
        if self._queue and self._queue[0] is waiting:
            self._queue.popleft()

    def _answered(self) -> None:
        failures, self._failures = self._failures, 0
        if failures:
            self._announce(events.ALERT_RECOVERED, "info", attempts=failures + 1)
        self._tell_dropped()

    def _failed(self, problem: str) -> None:
        """Said once per outage, with how many wait."""
        self._failures += 1
        if self._failures == 1:
            self._announce(events.ALERT_FAILED, "error", error=problem, waiting=len(self._queue))
        limit = self._clock.monotonic() - self._oldest
        old = 0
        while self._queue and self._queue[0].since <= limit:
            self._queue.popleft()
            old += 1
        if old:
            self._drop(old, f"not delivered within {self._oldest // SECOND} s: {problem}")
        self._tell_dropped()

    def _tell_dropped(self) -> None:
        dropped, self._dropped = self._dropped, 0
        self._drop(dropped, f"more than {self._most} waited")

    def _drop(self, count: int, why: str) -> None:
        if count:
            self._announce(events.ALERT_DROPPED, "error", count=count, reason=why)

    def _announce(self, event: str, level: Level, **fields: Any) -> None:
        self._say(event, level, {"sink": self._sender.name, **fields})

    async def _pause(self) -> None:
        """The backoff; it ends early when everything does."""
        delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** min(self._failures - 1, 16))
        try:
            async with asyncio.timeout(delay):
                await self._closing.wait()
        except TimeoutError:
            return
