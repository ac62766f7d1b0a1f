"""JSON lines over a socket, on the event loop: how the daemon talks with a process-isolated task."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Mapping
from typing import Any

from scheduler.executors.base import describe

_CHUNK = 1 << 18
_LONGEST = 64 << 20  # bytes; a task must not fill the daemon's memory with one message


def encode(message: Mapping[str, Any]) -> bytes:
    """One line; TypeError or ValueError for what JSON cannot carry."""
    return json.dumps(message, allow_nan=True, separators=(",", ":")).encode() + b"\n"


class Channel:
    """Owns its socket. ``broken`` says why it was given up, if it was not simply closed."""

    def __init__(self, end: socket.socket, on_message: Callable[[dict[str, Any]], None]) -> None:
        self.broken = ""
        self._loop = asyncio.get_running_loop()
        self._socket = end
        self._on_message = on_message
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        end.setblocking(False)
        self._loop.add_reader(end.fileno(), self._read)

    def send(self, line: bytes) -> None:
        """Write as much as fits now and the rest when there is room."""
        if self._closed.done():
            return
        waiting = bool(self._outgoing)
        self._outgoing += line
        if not waiting:
            self._write()
            if self._outgoing and not self._closed.done():
                self._loop.add_writer(self._socket.fileno(), self._write)

    async def drain(self, limit: float) -> None:
        """Read on until the other end has closed, for ``limit`` seconds at most."""
        await asyncio.wait([self._closed], timeout=limit)

    def close(self) -> None:
        if self._closed.done():
            return
        self._closed.set_result(None)
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()

    def _write(self) -> None:
        try:
            sent = self._socket.send(self._outgoing)
        except BlockingIOError:
            return
        except OSError:  # the other end is gone; what became of it shows in its exit status
            self._outgoing.clear()
            self._loop.remove_writer(self._socket.fileno())
            return
        del self._outgoing[:sent]
        if not self._outgoing:
            self._loop.remove_writer(self._socket.fileno())

    def _read(self) -> None:
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:  # reset: it ended with messages unread
            data = b""
        if not data:
            self.close()
            return
        self._incoming += data
        if b"\n" not in data:
            if len(self._incoming) > _LONGEST:
                self._give_up(f"a message of more than {_LONGEST >> 20} MiB")
            return
        complete, _, rest = self._incoming.rpartition(b"\n")
        self._incoming = bytearray(rest)
        for line in complete.split(b"\n"):
            try:
                self._on_message(json.loads(line))
            except Exception as problem:  # noqa: BLE001 - whatever the task wrote there is its failure
                self._give_up(f"an unusable message: {describe(problem)}")
                return

    def _give_up(self, problem: str) -> None:
        self.broken = problem
        self.close()
