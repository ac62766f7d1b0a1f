"""The threads of a control plane: acts never wait for those who look, and nobody looks without end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from threading import Event
from typing import Final, TypeVar

from scheduler.errors import BusyError, LedgerError
from scheduler.ledger import reading_until

T = TypeVar("T")

_AT_ONCE: Final = 2  # heavy reads
_MOST_WAITING: Final = 8  # of them
_LONGEST: Final = 10.0  # seconds that a question to the ledger may take


class Threads:
    """Of one control plane; tasks may hang in those of the loop."""

    def __init__(self, longest: float = _LONGEST) -> None:
        """``longest``: seconds that a question to the ledger may take."""
        self.light: Executor = ThreadPoolExecutor(2, "control")
        self._names = ThreadPoolExecutor(1, "control-names")
        self._heavy = ThreadPoolExecutor(_AT_ONCE, "control-reads")
        self._reads = 0  # heavy ones that are made or wait
        self._longest = longest

    async def ask_name(self, work: Callable[[], T]) -> T:
        """Who somebody is; that may be a question to another host."""
        return await asyncio.get_running_loop().run_in_executor(self._names, work)

    async def read(self, work: Callable[[], T]) -> T:
        """What takes milliseconds. BusyError when it does not."""
        return await self._read(self.light, work)

    async def read_much(self, work: Callable[[], T]) -> T:
        """What may take seconds. BusyError when it takes too long, or too many ask already."""
        if self._reads >= _AT_ONCE + _MOST_WAITING:
            raise BusyError(f"{self._reads} such questions are being answered or wait; ask again later")
        self._reads += 1
        try:
            return await self._read(self._heavy, work)
        finally:
            self._reads -= 1

    async def _read(self, threads: Executor, work: Callable[[], T]) -> T:
        """Given up when it takes too long, or when who asks has gone."""
        loop, given_up = asyncio.get_running_loop(), Event()

        def read() -> T:
            with reading_until(given_up.is_set):
                return work()

        limit = loop.call_later(self._longest, given_up.set)
        try:
            return await loop.run_in_executor(threads, read)
        except LedgerError:
            if given_up.is_set():
                raise BusyError(f"the ledger took longer than {self._longest:g} s; ask for less") from None
            raise
        finally:
            limit.cancel()
            given_up.set()

    def close(self) -> None:
        """What still waits is not begun."""
        for threads in (self.light, self._names, self._heavy):
            threads.shutdown(wait=False, cancel_futures=True)
