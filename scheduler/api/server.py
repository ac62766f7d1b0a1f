"""Serving the API on the running loop.

uvicorn's connections without its server, which polls ten times a second and takes over the signals.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Final, Protocol

from starlette.types import ASGIApp, Scope
from uvicorn.config import Config
from uvicorn.server import ServerState

from scheduler.api.connection import KEEP_ALIVE, Connection, Own
from scheduler.api.control import Peer
from scheduler.api.guard import Door, guarded
from scheduler.api.refusals import Refusals, Tell
from scheduler.api.unixsocket import BACKLOG
from scheduler.api.wrappers import in_turn, says_that_it_stops

_LAST_WORDS: Final = 0.2  # seconds for what is still to be sent at the end
_LOOK: Final = 0.01  # seconds between looks at whether it is


class Listener(Protocol):
    """Sockets that listen, and what they ask of clients."""

    @property
    def sockets(self) -> Sequence[socket.socket]: ...

    @property
    def door(self) -> Door: ...

    def remove(self) -> None:
        """Let nobody find it any more."""


class Server:
    """Serves one application at one listener, whose clients share its limits and no other's."""

    def __init__(self, app: ASGIApp, listener: Listener, tell: Tell) -> None:
        """``tell`` is told of clients that were turned away."""
        self._listener = listener
        self._refusals = Refusals(tell)
        self._state = ServerState()
        self._config = Config(
            says_that_it_stops(in_turn(guarded(app, listener.door, self._note))),
            http=Connection, ws="none", lifespan="off", interface="asgi3", workers=1, proxy_headers=False,
            forwarded_allow_ips="", server_header=False, date_header=False, timeout_keep_alive=KEEP_ALIVE,
            access_log=False, log_config=None,
            log_level="error",  # anybody can send rubbish as fast as he likes; Refusals tells of it
        )  # fmt: skip
        self._config.load()

    async def serve(self, own: Own) -> None:
        """Until it is cancelled; the sockets are removed then. Each request is a task that ``own`` starts."""
        loop = asyncio.get_running_loop()

        def connected() -> Connection:
            may_change = self._listener.door.may_change
            return Connection(self._config, self._state, own, self._turned_away, may_change=may_change)

        listening: list[asyncio.Server] = []
        try:
            for each in self._listener.sockets:
                create = loop.create_unix_server if each.family == socket.AF_UNIX else loop.create_server
                listening.append(await create(connected, sock=each, backlog=BACKLOG))
            await loop.create_future()
        finally:
            self._listener.remove()
            for server in listening:
                server.close()  # and with it the socket
            self._refusals.close()
            await self._end()

    def _note(self, scope: Scope, status: int, why: str) -> None:
        self._turned_away(scope["state"]["peer"], status, why)

    def _turned_away(self, peer: Peer, status: int, why: str) -> None:
        self._refusals.note(peer.address or f"uid {peer.uid}", status, why)

    async def _end(self) -> None:
        """Requests are told that it ends; who does not take the answer is cut off."""
        for connection in list(self._state.connections):
            connection.shutdown()
        tasks = list(self._state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_LAST_WORDS)
        for _ in range(round(_LAST_WORDS / _LOOK)):
            if not self._state.connections:
                return
            await asyncio.sleep(_LOOK)
        for connection in list(self._state.connections):
            connection.transport.abort()
