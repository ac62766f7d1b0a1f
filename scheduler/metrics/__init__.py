"""What Prometheus is told, from counts kept while things happen and from the state at a scrape."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Final

from prometheus_client import ProcessCollector, generate_latest

from scheduler.daemon import Daemon
from scheduler.metrics.counts import Counts
from scheduler.metrics.families import Scrape
from scheduler.metrics.labels import Labels
from scheduler.metrics.state import State, state_of

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Of one daemon. Made before it starts, so that what it finds missed then is counted too."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._counts = Counts(daemon.engine.tasks)
        self._labels = Labels()
        self._process = ProcessCollector(registry=None)
        daemon.record_listeners.append(self._counts.record)
        daemon.voice.listeners.append(self._counts.announcement)

    async def exposition(self, threads: Executor) -> bytes:
        """The text, of ``CONTENT_TYPE``; of a daemon that has started.

        The state is taken on the loop, a few tasks at a time; the text, which is more work, in a thread.
        """
        state = await state_of(self._daemon, self._counts, self._labels)
        return await asyncio.get_running_loop().run_in_executor(threads, self._text, state)

    def _text(self, state: State) -> bytes:
        return generate_latest(Scrape(state, self._process))
