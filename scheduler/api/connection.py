"""One connection: uvicorn's, with limits on what a client may send and how long it may take."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final, TypeAlias, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from scheduler.api.control import Peer
from scheduler.api.problems import raw_problem

Own: TypeAlias = Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]  # starts a task that has an owner
Turned: TypeAlias = Callable[[Peer, int, str], None]  # away: whom, the status, and why

LONGEST_REQUEST: Final = 64 << 10  # bytes, head and body together
PATIENCE: Final = 10.0  # seconds that a client gets to send a request, and to take an answer
KEEP_ALIVE: Final = 15  # seconds between requests
MOST_CONNECTIONS: Final = 64  # of one listener
MOST_WAITING: Final = 16  # requests of one connection behind the one that is answered

_UCRED: Final = struct.Struct("iII")  # pid, uid, gid


class Connection(HttpToolsProtocol):
    """Made by the server for each client that connects."""

    def __init__(
        self, config: Config, state: ServerState, own: Own, turned_away: Turned, *, may_change: bool
    ) -> None:
        loop = cast("asyncio.AbstractEventLoop", _OwnedTasks(own))
        super().__init__(config, state, {}, loop)
        self._turned_away = turned_away
        self._may_change = may_change
        self._received = 0  # bytes of the request that is on its way
        self._in_head = True
        self._limit: asyncio.TimerHandle | None = None
        self._for_nobody: set[asyncio.Task[Any]] = set()  # once the client has gone

    # Beginning and end.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        super().connection_made(transport)
        self._peer = _peer(transport, may_change=self._may_change)
        self.app_state = {"peer": self._peer, "for_nobody": self._for_nobody}
        self._limit_time()
        if len(self.connections) > MOST_CONNECTIONS:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"there are {MOST_CONNECTIONS} connections already")

    def connection_lost(self, exc: Exception | None) -> None:
        self._lift_limit()
        super().connection_lost(exc)
        for task in list(self._for_nobody):
            task.cancel()

    # A request comes in.

    def data_received(self, data: bytes) -> None:
        self._limit_time()  # also for what is no request yet
        while data and not self.transport.is_closing():
            room = LONGEST_REQUEST - self._received
            if not room:
                too_long = "REQUEST_HEADER_FIELDS_TOO_LARGE" if self._in_head else "REQUEST_ENTITY_TOO_LARGE"
                self._refuse(HTTPStatus[too_long], f"a request may have {LONGEST_REQUEST} bytes")
                return
            part, data = data[:room], data[room:]
            self._received += len(part)
            super().data_received(part)

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MOST_WAITING:
            self._turned_away(
                self._peer, HTTPStatus.TOO_MANY_REQUESTS, f"{MOST_WAITING} requests wait already"
            )
            self.cut_off()  # an answer would come in the middle of another
            raise httptools.HttpParserError  # so that the rest is not even read
        self._in_head = True
        self._limit_time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        self._received = 0
        if not self.flow.write_paused:  # else it is an answer that is waited for
            self._lift_limit()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's name for: this is no HTTP."""
        if not self.transport.is_closing():
            self._refuse(HTTPStatus.BAD_REQUEST, msg)

    # An answer goes out.

    def pause_writing(self) -> None:
        super().pause_writing()
        self._limit_time()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self._received:
            self._lift_limit()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._limit_time()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._limit_time()

    # Limits.

    def _limit_time(self) -> None:
        if self._limit is None:
            self._limit = self.loop.call_later(PATIENCE, self.cut_off)

    def _lift_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def cut_off(self) -> None:
        """End the connection at once, whatever is on its way."""
        self.transport.abort()

    def _refuse(self, status: int, detail: str) -> None:
        self._turned_away(self._peer, status, detail)
        self.transport.write(raw_problem(status, detail))
        self.transport.close()  # when that is sent, or the time is over
        self._limit_time()


class _OwnedTasks:
    """What a connection needs of its loop, but for that the tasks of requests have an owner."""

    def __init__(self, own: Own) -> None:
        self._own = own
        self.call_later = asyncio.get_running_loop().call_later

    def create_task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self._own(work)


def _peer(transport: asyncio.Transport, *, may_change: bool) -> Peer:
    connected = transport.get_extra_info("socket")
    if connected.family == socket.AF_UNIX:
        pid, uid, _ = _UCRED.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        return Peer(uid, pid, may_change=may_change)
    host, port = (transport.get_extra_info("peername") or ("gone already", 0))[:2]
    return Peer(None, 0, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", may_change)
