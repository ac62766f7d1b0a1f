"""What the API asks of the daemon, by subject. SchedulerError says in a sentence why something cannot be."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import NamedTuple, Protocol

from pydantic import JsonValue

from scheduler.api.models.files import Reloaded
from scheduler.api.models.health import Health, Readiness
from scheduler.api.models.runs import (
    ActiveRuns,
    Cancelled,
    Plan,
    PlanQuery,
    RunRow,
    Runs,
    RunsQuery,
    TimelineQuery,
)
from scheduler.api.models.system import (
    Caches,
    CacheValue,
    EventsQuery,
    Markets,
    MarketsQuery,
)
from scheduler.api.models.tasks import (
    Acts,
    Backfilled,
    BackfillEnded,
    BackfillRequest,
    Paused,
    PauseSelection,
    RanNow,
    Restarted,
    ResumedAll,
    Selection,
    TaskDetail,
)


class Peer(NamedTuple):
    """Who is at the other end of a connection: by the kernel's word a process, else an address."""

    uid: int | None
    pid: int
    address: str = ""  # of a TCP connection
    may_change: bool = True


class TaskControl(Protocol):
    """UnknownTaskError where no task has the name, UsageError where a time is none."""

    async def all(self) -> bytes:
        """The JSON of ``Tasks``."""

    async def detail(self, task: str) -> TaskDetail: ...

    async def run_now(self, task: str, by: Peer, reason: str) -> RanNow: ...

    async def pause(self, wanted: PauseSelection, by: Peer) -> Paused: ...

    async def resume(self, wanted: Selection, by: Peer) -> ResumedAll: ...

    async def restart(self, task: str, by: Peer, reason: str) -> Restarted: ...

    async def backfill(self, task: str, wanted: BackfillRequest, by: Peer) -> Backfilled: ...

    async def end_backfill(self, task: str, by: Peer, reason: str) -> BackfillEnded: ...

    async def acts(self, limit: int) -> Acts: ...


class RunControl(Protocol):
    """UnknownRunError where no run has the id."""

    def active(self) -> ActiveRuns: ...

    async def rows(self, wanted: RunsQuery) -> Runs: ...

    async def row(self, run_id: str) -> RunRow: ...

    async def cancel(self, run_id: str, by: Peer, reason: str) -> Cancelled: ...

    async def timeline(self, wanted: TimelineQuery) -> bytes:
        """The JSON of a ``Timeline``."""

    async def plan(self, wanted: PlanQuery) -> Plan: ...


class CacheControl(Protocol):
    """UnknownNamespaceError where there is none of the name, UnknownKeyError where the key has no value."""

    def stats(self) -> Caches: ...

    def get(self, namespace: str, key: str) -> CacheValue: ...

    async def put(self, namespace: str, key: str, value: JsonValue, ttl: str | None, by: Peer) -> None: ...

    async def delete(self, namespace: str, key: str, by: Peer) -> None: ...


class Control(Protocol):
    """The daemon, as the API knows it."""

    @property
    def tasks(self) -> TaskControl: ...

    @property
    def runs(self) -> RunControl: ...

    @property
    def cache(self) -> CacheControl: ...

    def health(self) -> Health: ...

    def readiness(self) -> Readiness: ...

    def timestamp(self) -> str:
        """Now, as all times are shown."""

    async def system(self, by: Peer) -> bytes:
        """The JSON of a ``System``."""

    def markets(self, wanted: MarketsQuery) -> Markets: ...

    async def metrics(self) -> tuple[bytes, str]:
        """The text, and its content type."""

    async def reload(self, by: Peer, reason: str) -> Reloaded:
        """ConfigurationError, with every problem, when the files were rejected."""

    def events(self, wanted: EventsQuery) -> AsyncGenerator[tuple[str, str]]:
        """What happens from now on, as a name and a JSON text. It ends when the reader is too slow."""
