"""What the control of every subject needs of the daemon: who asks, times as text, threads, the record."""

from __future__ import annotations

import asyncio
import pwd
import re
from collections.abc import Callable
from concurrent.futures import Executor
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from scheduler.api.control import Peer
from scheduler.core import events
from scheduler.core.messages import Announce, Instant
from scheduler.core.tasks import TaskState
from scheduler.daemon import Daemon
from scheduler.errors import SchedulerError, UnknownTaskError, UsageError
from scheduler.times import parse_time, to_iso

T = TypeVar("T")

_TIME_OF_DAY = re.compile(r"\d\d:\d\d(:\d\d)?", re.ASCII)


class Access:
    """To one daemon, for the requests of one control plane."""

    def __init__(self, daemon: Daemon, threads: Executor) -> None:
        """``threads`` run what may block; tasks may hang in those of the loop."""
        self.daemon = daemon
        self._threads = threads

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
        state = self.daemon.engine.tasks.get(task)
        if state is not None and not state.removed:
            return state
        specs = {spec.name: spec for spec in self.daemon.configuration.specs}
        if task in specs:
            raise SchedulerError(f"{task} is disabled (enabled: false)")
        close = get_close_matches(task, specs, n=1)
        guess = f"; did you mean {close[0]!r}?" if close else ""
        raise UnknownTaskError(f"no task is named {task!r}{guess}")

    async def in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def name(self, by: Peer) -> str:
        """Of the user; who that is may be a question to another host."""
        if by.uid is None:
            return f"token@{by.address}"
        return await self.in_thread(lambda: _user_name(by.uid))

    def record(self, action: str, by: str, reason: str, *, task: str = "", **detail: Any) -> None:
        """What an operator did: in the log and in the ledger."""
        fields = {"action": action, "by": by, "reason": reason, **({"task": task} if task else {}), **detail}
        self.daemon.voice.report([Announce(events.OPERATOR_ACTED, "info", fields)])
        self.daemon.ledger.record_act(self.now, by, action, task, reason, detail)


def _user_name(uid: int | None) -> str:
    assert uid is not None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
