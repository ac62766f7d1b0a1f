"""A port of 127.0.0.1 that leads to a Unix socket, as `ssh -L 8080:/run/…/scheduler.sock` makes one."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path

_PART = 1 << 16


class Proxy:
    """Connects anew for each client, so it outlives the daemon behind the socket."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as daemon:
            try:
                daemon.connect(str(self._target))
            except OSError:
                return  # what a browser sees is a connection that is closed
            self._open |= {client, daemon}
            back = threading.Thread(target=_copy, args=(daemon, client), daemon=True)
            back.start()
            _copy(client, daemon)
            back.join()
            self._open -= {client, daemon}

    def close(self) -> None:
        # Only this wakes up a thread that waits in `accept` or `recv`.
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(_PART):
            target.sendall(part)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
