"""What the tests of the API share: a desk that answers, a server of it, and clients that misbehave."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

from scheduler.api.app import build_app
from scheduler.api.control import Control, Peer
from scheduler.api.models.files import Reloaded
from scheduler.api.models.health import Concern, Health, Readiness
from scheduler.api.models.system import EventsQuery
from scheduler.api.models.tasks import Resumed, ResumedAll, Selection
from scheduler.api.server import Server
from scheduler.api.tcpsocket import TcpSockets
from scheduler.api.unixsocket import ControlSocket
from scheduler.errors import ConfigurationError, Mark, Problem, UnknownTaskError
from scheduler.runs import BackgroundTaskManager

GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = GET.removesuffix(b"\r\n")
CHUNKED = b"POST /api/tasks/feed/resume HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKEN = "the token of this desk"  # noqa: S105 - of a test


class Desk:
    """What of a ``Control`` is asked here."""

    def __init__(self) -> None:
        self.concerns: tuple[Concern, ...] = ()
        self.resumed: list[tuple[str, Peer, str]] = []
        self.reloads = asyncio.Semaphore(1)  # none left: a reload takes as long as it takes
        self.happenings: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.listening = 0  # streams of events that are open
        self.owners: list[str] = []
        self.failures: list[str] = []
        self.manager = BackgroundTaskManager(
            lambda: 0, on_failure=lambda _, error, __: self.failures.append(error)
        )
        self.tasks = SimpleNamespace(resume=self._resume)
        self.runs = self.cache = SimpleNamespace()

    def health(self) -> Health:
        owner = self.manager.owner_of(asyncio.current_task())  # type: ignore[arg-type]
        self.owners.append("" if owner is None else owner.run_id)
        return Health(version="1", pid=os.getpid())

    def readiness(self) -> Readiness:
        ready = not any(concern.blocking for concern in self.concerns)
        return Readiness(ready=ready, concerns=self.concerns)

    async def reload(self, _: Peer, __: str) -> Reloaded:
        await self.reloads.acquire()
        raise ConfigurationError(
            [Problem(Mark("tasks.yaml", 2, 3), "unknown key"), Problem(None, "and more")]
        )

    async def events(self, _: EventsQuery) -> AsyncGenerator[tuple[str, str]]:
        self.listening += 1
        try:
            while True:
                yield await self.happenings.get()
        finally:
            self.listening -= 1

    async def _resume(self, wanted: Selection, by: Peer) -> ResumedAll:
        (task,) = wanted.tasks
        if task == "faulty":
            raise ZeroDivisionError(task)
        if task != "feed":
            raise UnknownTaskError(f"no task is named {task!r}; did you mean 'feed'?")
        self.resumed.append((task, by, wanted.reason))
        return ResumedAll(tasks=(Resumed(task=task, ended=("parked",), next=None, by="desk"),), by="desk")


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: Any


class Served:
    """A server of a desk, at a Unix socket or at a port."""

    def __init__(self, listener: ControlSocket | TcpSockets, desk: Desk) -> None:
        self.address = listener.sockets[0].getsockname()
        self.desk = desk
        self.refused: list[tuple[str, int, str, int]] = []
        tell = lambda *refusal: self.refused.append(refusal)  # noqa: E731 - shorter
        self._server = Server(build_app(cast("Control", desk)), listener, tell)

    def start(self, run_id: str = "api") -> None:
        manager = self.desk.manager
        serving = self._server.serve(lambda work: manager.background(manager.registry.live[run_id], work))
        manager.start_task(serving, run_id)

    async def stop(self) -> None:
        """As a stopping daemon does it."""
        self.desk.manager.cancel_task("api")
        assert await self.desk.manager.wait_all(5.0) == []
        assert self.desk.failures == []
        self.desk.manager.close()
        for _ in range(3):  # connections that were closed are lost in the turns that follow
            await asyncio.sleep(0)

    @property
    def connections(self) -> int:
        return len(self._server._state.connections)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.address, str):
            return await asyncio.open_unix_connection(self.address)
        return await asyncio.open_connection(*self.address[:2])

    async def send(self, *parts: bytes) -> Answer:
        """Send this and read one answer."""
        reader, writer = await self.connect()
        try:
            with suppress(ConnectionError):  # whoever is refused need not be read to the end
                for part in parts:
                    writer.write(part)
                    await writer.drain()
            return await read(reader)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def ask(
        self, method: str, path: str, body: str = "", kind: str = "application/json", **headers: str
    ) -> Answer:
        """A header's name is written with _ for -."""
        lines = {"Host": "localhost"} | {name.replace("_", "-"): value for name, value in headers.items()}
        if body:
            lines |= {"Content-Type": kind, "Content-Length": str(len(body.encode()))}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return await self.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n{body}".encode())


async def read(reader: asyncio.StreamReader) -> Answer:
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
    return Answer(int(first.split()[1]), headers, json.loads(body or b"null"))


async def is_cut_off(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(10):
        with suppress(ConnectionError):
            while await reader.read(1 << 16):
                pass
    return True


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what it waits for happens elsewhere
            await asyncio.sleep(0.01)


def at_socket(directory: Path) -> ControlSocket:
    return ControlSocket(directory / "sock")


def at_port(_: Path, host: str = "127.0.0.1", *, may_change: bool = False) -> TcpSockets:
    return TcpSockets(host, 0, names=frozenset({"desk.example"}), token=TOKEN, may_change=may_change)


@asynccontextmanager
async def serving(listener: ControlSocket | TcpSockets) -> AsyncIterator[Served]:
    served = Served(listener, Desk())
    served.start()
    try:
        yield served
    finally:
        await served.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}


def assert_problem(answer: Answer, status: int) -> None:
    assert (answer.status, answer.body["status"]) == (status, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.body["title"]
    assert answer.body["detail"]
