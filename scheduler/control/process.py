"""What the daemon's process takes of the machine."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Final

import psutil

from scheduler.api.models.system import Process
from scheduler.core.messages import SECOND, Instant

_PATIENCE: Final = 0.5  # seconds that who asks waits, if anything is known


class OwnProcess:
    """Looked at in a thread: to count its children is to look through all processes of the machine."""

    def __init__(self, threads: Executor) -> None:
        self._threads = threads
        self._process = psutil.Process()
        self._known: Process | None = None
        self._look: asyncio.Future[Process] | None = None
        self._looked: Instant = 0  # monotonic

    async def seen(self, now: Instant) -> Process:
        """As it is or, where that takes a while, as it was seen last; ``now`` is monotonic."""
        if self._look is None or (self._look.done() and now - self._looked >= SECOND):
            self._looked = now
            self._look = asyncio.get_running_loop().run_in_executor(self._threads, self._take)
        await asyncio.wait([self._look], timeout=None if self._known is None else _PATIENCE)
        if self._look.done() or self._known is None:
            self._known = self._look.result()
        return self._known

    def _take(self) -> Process:
        with self._process.oneshot():
            times = self._process.cpu_times()
            return Process(
                pid=self._process.pid,
                cpu_percent=self._process.cpu_percent(),
                cpu_seconds=round(times.user + times.system, 3),
                memory_bytes=self._process.memory_info().rss,
                threads=self._process.num_threads(),
                open_files=self._process.num_fds(),
                children=len(self._process.children(recursive=True)),
            )
