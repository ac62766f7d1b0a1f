"""What the control of every subject needs of the daemon: who asks, times as text, threads, the record."""

from __future__ import annotations

import asyncio
import pwd
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from scheduler.api.control import Peer
from scheduler.control.threads import Threads
from scheduler.core import events
from scheduler.core.messages import Announce, Instant
from scheduler.core.tasks import TaskState
from scheduler.daemon import Daemon
from scheduler.errors import SchedulerError, UnknownTaskError, UsageError
from scheduler.times import parse_time, to_iso

T = TypeVar("T")

_PATIENCE: Final = 1.0  # seconds for the disk to take what is recorded
_NAMING: Final = 2.0  # seconds for a user's name to be found
_MOST_NAMES: Final = 256  # that are known
_TIME_OF_DAY = re.compile(r"\d\d:\d\d(:\d\d)?", re.ASCII)


class Access:
    """To one daemon, for the requests of one control plane."""

    def __init__(self, daemon: Daemon, threads: Threads) -> None:
        self.daemon = daemon
        self._threads = threads
        self._names: dict[int, str] = {}

    @property
    def now(self) -> Instant:
        return self.daemon.now()

    @property
    def ledger(self) -> Path:
        """The ledger's file, for reading."""
        return self.daemon.ledger.path

    def iso(self, instant: Instant) -> str:
        return to_iso(instant, self.daemon.configuration.zone)

    def iso_or_none(self, instant: Instant | None) -> str | None:
        return None if instant is None else self.iso(instant)

    def time(self, text: str) -> Instant:
        """ISO 8601, or HH:MM of today. UsageError when it is none, or one that no ledger can hold."""
        if _TIME_OF_DAY.fullmatch(text):
            text = f"{self.iso(self.now)[:10]}T{text}"
        try:
            found = parse_time(text, self.daemon.configuration.zone)
        except (OverflowError, ValueError):
            found = -1
        if not 0 <= found < 1 << 62:
            raise UsageError(f"{text!r} is out of reach; write a time between 1970 and 2100")
        return found

    def stretch(
        self, first: str | None, until: str | None, default: tuple[Instant, Instant]
    ) -> tuple[Instant, Instant]:
        """The instants of ``[from, until)``. UsageError when it ends before it begins."""
        start = default[0] if first is None else self.time(first)
        end = default[1] if until is None else self.time(until)
        if end < start:
            raise UsageError(f"until {until} is before from {first}")
        return start, end

    def state(self, task: str) -> TaskState:
        """Of an enabled task. UnknownTaskError; SchedulerError when it is disabled."""
        try:
            return self.daemon.engine.state(task)
        except UnknownTaskError:
            if any(spec.name == task for spec in self.daemon.configuration.specs):
                raise SchedulerError(f"{task} is disabled (enabled: false)") from None
            raise

    async def in_thread(self, work: Callable[[], T]) -> T:
        """What takes milliseconds. BusyError when it does not."""
        return await self._threads.read(work)

    async def read_much(self, work: Callable[[], T]) -> T:
        """What may take seconds. BusyError when it takes too long, or too many ask already."""
        return await self._threads.read_much(work)

    async def recorded(self) -> None:
        """Wait until what is recorded is on the disk, or refused, but not for a disk that hangs."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await self.daemon.durable()

    async def name(self, by: Peer) -> str:
        """Of the user; his number when that cannot be found, or not soon."""
        if by.uid is None:
            return f"token@{by.address}"
        uid: int = by.uid
        if uid not in self._names:
            try:
                async with asyncio.timeout(_NAMING):
                    user = await self._threads.ask_name(lambda: pwd.getpwuid(uid))
            except (KeyError, TimeoutError):
                return f"uid {uid}"
            if len(self._names) >= _MOST_NAMES:
                self._names.clear()
            self._names[uid] = user.pw_name
        return self._names[uid]

    def record(self, action: str, by: str, reason: str, *, task: str = "", **detail: Any) -> None:
        """What an operator did: in the log and in the ledger."""
        fields = {"action": action, "by": by, "reason": reason, **({"task": task} if task else {}), **detail}
        self.daemon.voice.report([Announce(events.OPERATOR_ACTED, "info", fields)])
        self.daemon.ledger.record_act(self.now, by, action, task, reason, detail)
