"""What happens, handed on to whoever listens: log events, and changes of runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Final

from scheduler.api.models.system import EventsQuery
from scheduler.control import rows
from scheduler.control.access import Access
from scheduler.core.messages import Announce, Record

_BACKLOG: Final = 2_000  # what may wait for a slow reader
_SILENCE: Final = 15.0  # seconds after which a sign of life is given
_LEVELS: Final = ("debug", "info", "warning", "error", "critical")

Item = tuple[str, str]  # a name, and JSON


class Reader:
    """One who listens, and to what."""

    def __init__(self, wanted: EventsQuery) -> None:
        self.queue: asyncio.Queue[Item] = asyncio.Queue()
        self.lost = False
        self.runs = wanted.runs
        self._tasks = frozenset(wanted.task)
        self._events = tuple(wanted.event)
        self._level = _LEVELS.index(wanted.level)

    def wants(self, announcement: Announce) -> bool:
        event, level, fields = announcement
        return (
            _LEVELS.index(level) >= self._level
            and (not self._events or any(_is(event, name) for name in self._events))
            and self.wants_task(fields.get("task", ""))
        )

    def wants_task(self, task: str) -> bool:
        return not self._tasks or task in self._tasks

    def give(self, item: Item) -> None:
        """A reader that is too slow loses all: it has to begin anew."""
        if self.queue.qsize() >= _BACKLOG:
            self.lost = True
        else:
            self.queue.put_nowait(item)


class Stream:
    """Costs next to nothing while nobody listens."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._readers: set[Reader] = set()

    def announced(self, announcement: Announce) -> None:
        if not self._readers:
            return
        readers = [reader for reader in self._readers if reader.wants(announcement)]
        if readers:
            event, level, fields = announcement
            said = {"timestamp": self._access.iso(self._access.now), "level": level, "event": event}
            text = json.dumps(said | self._access.daemon.voice.as_said(fields), default=str)
            for reader in readers:
                reader.give(("log", text))

    def recorded(self, record: Record) -> None:
        if not self._readers:
            return
        readers = [reader for reader in self._readers if reader.runs and reader.wants_task(record.task)]
        if readers:
            text = rows.of_record(record, self._access).model_dump_json()
            for reader in readers:
                reader.give(("run", text))

    async def events(self, wanted: EventsQuery) -> AsyncGenerator[Item]:
        """From now on. Names: ``log`` and ``run``; "" when there is nothing to tell. Ends where it lost."""
        reader = Reader(wanted)
        self._readers.add(reader)
        try:
            while not reader.lost:
                try:
                    async with asyncio.timeout(_SILENCE):
                        item = await reader.queue.get()
                except TimeoutError:
                    item = ("", "")
                yield item
        finally:
            self._readers.discard(reader)


def _is(event: str, name: str) -> bool:
    return event.startswith(name) if name.endswith(".") else event == name
