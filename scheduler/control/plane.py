"""The sockets of one daemon, from before it starts until after it has stopped."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final

from scheduler.api.app import build_app
from scheduler.api.server import Server
from scheduler.api.tcpsocket import TcpSockets
from scheduler.api.token import read_token
from scheduler.api.unixsocket import ControlSocket
from scheduler.control.threads import Threads
from scheduler.control.whole import DaemonControl
from scheduler.core import events
from scheduler.core.messages import Announce
from scheduler.daemon import Daemon
from scheduler.settings import Settings

_RUN_ID: Final = "scheduler/api"  # owns the tasks of all requests at the control socket
_TCP_RUN_ID: Final = "scheduler/api-tcp"  # and at the port


class ControlPlane:
    """Claims the sockets before anything is loaded, serves once the daemon is up, ends with it."""

    def __init__(self, settings: Settings) -> None:
        """ConfigurationError when TCP is wanted without a token."""
        self._settings = settings
        self._token = read_token(settings.token_file) if settings.listen is not None else ""
        self._socket: ControlSocket | None = None
        self._tcp: TcpSockets | None = None
        self._threads = Threads()

    def claim(self) -> None:
        """SocketInUseError when another daemon answers there, ConfigurationError when one cannot be made."""
        wanted = self._settings
        names = frozenset(wanted.hosts)
        self._socket = ControlSocket(wanted.socket, names)
        if wanted.listen is not None:
            self._tcp = TcpSockets(
                *wanted.listen, names=names, token=self._token, may_change=wanted.listen_write
            )

    def attend(self, daemon: Daemon) -> None:
        """Hear what a daemon does, from before it starts: what it finds missed then counts too."""
        self._control = DaemonControl(daemon, self._threads)

    def serve(self, daemon: Daemon) -> None:
        """From now on until the daemon stops."""
        socket = self._socket
        assert socket is not None
        manager, control = daemon.manager, self._control
        app = build_app(control)

        def tell(whom: str, status: int, why: str, more: int) -> None:
            fields = {"whom": whom, "status": status, "why": why, "more": more}
            daemon.voice.report([Announce(events.API_REFUSED, "warning", fields)])

        def served(run_id: str, listener: ControlSocket | TcpSockets) -> Coroutine[Any, Any, None]:
            return Server(app, listener, tell).serve(
                lambda work: manager.background(manager.registry.live[run_id], work)
            )

        async def serve() -> None:
            await control.begin()
            if self._tcp is not None:
                manager.start_task(served(_TCP_RUN_ID, self._tcp), _TCP_RUN_ID)
            await served(_RUN_ID, socket)

        manager.start_task(serve(), _RUN_ID)
        places = [*socket.places, *(self._tcp.places if self._tcp is not None else ())]
        daemon.voice.report([Announce(events.API_LISTENING, "info", {"at": places})])

    def end(self) -> None:
        """Once the daemon has stopped: nothing more is looked up."""
        self._threads.close()

    def close(self) -> None:
        for listener in (self._socket, self._tcp):
            if listener is not None:
                listener.close()
        self.end()
