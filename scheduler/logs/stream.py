"""Writing lines to standard error without ever waiting for whoever reads it.

A reader that has stalled (a paused terminal, a stuck pipe) must not stop the event loop. Setting
O_NONBLOCK would do, but it would change the stream for the shell and every child that shares it. So
each write is preceded by a poll and is small enough to fit where poll has promised room.
"""

from __future__ import annotations

import os
import select
import threading
from typing import TextIO

_CHUNK = select.PIPE_BUF  # room that a writable pipe or socket is sure to have
_BACKLOG = 1024 * 1024  # bytes kept for a reader that has stalled; later lines are dropped and counted


class StreamWriter:
    """Lines in, bytes out; may be used from any thread. Never raises."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._lock = threading.RLock()
        self._busy = False
        self._pending = bytearray()
        self._lost = 0
        self._poll = select.poll()
        try:
            self._fd = stream.fileno() if stream is not None else None
        except (OSError, ValueError):  # closed, or not a file of the system's, for example io.StringIO
            self._fd = None
        if self._fd is not None:
            self._poll.register(self._fd, select.POLLOUT)

    def write(self, line: str) -> None:
        """Write a line: now if there is room, with a later one if not."""
        with self._lock:
            if self._fd is None:
                self._write_object(line)
            elif len(self._pending) > _BACKLOG:
                self._lost += 1
                self.flush(0)
            else:
                if self._lost:
                    self._append(f"({self._lost} log lines were lost: the reader had stalled)")
                    self._lost = 0
                self._append(line)
                self.flush(0)

    def flush(self, milliseconds: int) -> None:
        """Write what is pending, waiting at most this long for room for each chunk of it."""
        with self._lock:
            # A finalizer or a signal handler may log in the middle of this: its line is taken along.
            if self._fd is None or self._busy:
                return
            self._busy = True
            try:
                self._drain(self._fd, milliseconds)
            finally:
                self._busy = False

    def _append(self, line: str) -> None:
        self._pending += line.encode("utf-8", "backslashreplace") + b"\n"

    def _drain(self, fd: int, milliseconds: int) -> None:
        try:
            while self._pending and self._poll.poll(milliseconds):
                if self._stream is None or self._stream.closed:  # its number may be another file's by now
                    self._pending.clear()
                    return
                written = os.write(fd, self._pending[:_CHUNK])
                del self._pending[:written]
        except BlockingIOError:
            return  # somebody else made the stream non-blocking, and it is full: later
        except OSError:
            self._pending.clear()  # hung up; there is nowhere to tell it

    def _write_object(self, line: str) -> None:
        try:
            if self._stream is not None:
                self._stream.write(line + "\n")
                self._stream.flush()
        except (OSError, ValueError):
            return  # closed; there is nowhere to tell it
