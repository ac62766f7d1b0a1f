"""The socket of one daemon, from before it starts until after it has stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from scheduler.api.app import build_app
from scheduler.api.server import Server
from scheduler.api.unixsocket import ControlSocket
from scheduler.control.whole import DaemonControl
from scheduler.daemon import Daemon

_RUN_ID: Final = "scheduler/api"  # owns the tasks of all requests


class ControlPlane:
    """Claims the socket before anything is loaded, serves once the daemon is up, ends with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: ControlSocket | None = None
        self._threads = ThreadPoolExecutor(2, "control")

    def claim(self) -> None:
        """SocketInUseError when another daemon answers there, ConfigurationError when it cannot be made."""
        self._socket = ControlSocket(self._path)

    def serve(self, daemon: Daemon) -> None:
        """From now on until the daemon stops."""
        assert self._socket is not None
        manager = daemon.manager
        control = DaemonControl(daemon, self._threads)
        server = Server(build_app(control), self._socket)

        def own(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
            return manager.background(manager.registry.live[_RUN_ID], work)

        async def serve() -> None:
            await control.begin()
            await server.serve(own)

        manager.start_task(serve(), _RUN_ID)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._threads.shutdown(wait=False)
