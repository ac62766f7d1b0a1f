"""Serving the API on the running loop.

uvicorn's connections without its server, which polls ten times a second and takes over the signals.
"""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from scheduler.api.connection import KEEP_ALIVE, Connection, Own
from scheduler.api.unixsocket import BACKLOG, ControlSocket

_LAST_WORDS: Final = 0.2  # seconds for what is still to be sent at the end
_LOOK: Final = 0.01  # seconds between looks at whether it is


class Server:
    """Serves one application at one socket."""

    def __init__(self, app: ASGIApp, listener: ControlSocket) -> None:
        self._listener = listener
        self._state = ServerState()
        self._config = Config(
            app, http=Connection, ws="none", lifespan="off", interface="asgi3", workers=1,
            proxy_headers=False, forwarded_allow_ips="", server_header=False, date_header=False,
            timeout_keep_alive=KEEP_ALIVE, access_log=False, log_config=None,
        )  # fmt: skip
        self._config.load()

    async def serve(self, own: Own) -> None:
        """Until it is cancelled; the socket is removed then. Each request is a task that ``own`` starts."""
        loop = asyncio.get_running_loop()
        listening = await loop.create_unix_server(
            lambda: Connection(self._config, self._state, own), sock=self._listener.socket, backlog=BACKLOG
        )
        try:
            await loop.create_future()
        finally:
            self._listener.remove()
            listening.close()  # and with it the socket
            await self._end()

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
