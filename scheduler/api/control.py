"""What the API asks of the daemon."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from scheduler.api.models import Health, Readiness, Reloaded, Resumed


class Peer(NamedTuple):
    """Who is at the other end of a connection, by the kernel's word."""

    uid: int
    pid: int


class Control(Protocol):
    """The daemon, as the API knows it. SchedulerError says in a sentence why something cannot be done."""

    def health(self) -> Health: ...

    def readiness(self) -> Readiness: ...

    async def reload(self, by: Peer) -> Reloaded:
        """ConfigurationError, with every problem, when the files were rejected."""

    async def resume(self, task: str, by: Peer, reason: str) -> Resumed:
        """UnknownTaskError when there is no such task."""
