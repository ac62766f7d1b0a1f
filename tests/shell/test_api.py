"""The control API over a real socket: who may connect, what is answered, and who is cut off."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
import stat
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from scheduler.api import connection
from scheduler.api.app import build_app
from scheduler.api.control import Peer
from scheduler.api.models import Concern, Health, Readiness, Reloaded, Resumed
from scheduler.api.server import Server
from scheduler.api.unixsocket import ControlSocket
from scheduler.errors import ConfigurationError, Mark, Problem, SocketInUseError, UnknownTaskError
from scheduler.runs import BackgroundTaskManager
from tests.shell.execution import on_both_loops, on_uvloop

GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


class Desk:
    """What the API is asked for here."""

    def __init__(self) -> None:
        self.concerns: tuple[Concern, ...] = ()
        self.resumed: list[tuple[str, Peer, str]] = []
        self.reloads = asyncio.Semaphore(1)  # none left: a reload takes as long as it takes
        self.owners: list[str] = []
        self.failures: list[str] = []
        self.manager = BackgroundTaskManager(
            lambda: 0, on_failure=lambda _, error, __: self.failures.append(error)
        )

    def health(self) -> Health:
        owner = self.manager.owner_of(asyncio.current_task())  # type: ignore[arg-type]
        self.owners.append("" if owner is None else owner.run_id)
        return Health(version="1", pid=os.getpid())

    def readiness(self) -> Readiness:
        ready = not any(concern.blocking for concern in self.concerns)
        return Readiness(ready=ready, concerns=self.concerns)

    async def reload(self, by: Peer) -> Reloaded:
        await self.reloads.acquire()
        raise ConfigurationError(
            [Problem(Mark("tasks.yaml", 2, 3), "unknown key"), Problem(None, "and more")]
        )

    async def resume(self, task: str, by: Peer, reason: str) -> Resumed:
        if task == "faulty":
            raise ZeroDivisionError(task)
        if task != "feed":
            raise UnknownTaskError(f"no task is named {task!r}; did you mean 'feed'?")
        self.resumed.append((task, by, reason))
        return Resumed(task=task, ended=("parked",), next=None, by="desk")


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: Any


class Served:
    """A server of a desk."""

    def __init__(self, path: Path, desk: Desk) -> None:
        self.path = path
        self.desk = desk
        self._server = Server(build_app(desk), ControlSocket(path))

    def start(self) -> None:
        manager = self.desk.manager
        serving = self._server.serve(lambda work: manager.background(manager.registry.live["api"], work))
        manager.start_task(serving, "api")

    async def stop(self) -> None:
        """As a stopping daemon does it."""
        self.desk.manager.cancel_task("api")
        assert await self.desk.manager.wait_all(5.0) == []
        assert self.desk.failures == []
        self.desk.manager.close()
        for _ in range(3):  # connections that were closed are lost in the turns that follow
            await asyncio.sleep(0)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(str(self.path))

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

    async def ask(self, method: str, path: str, body: str = "", kind: str = "application/json") -> Answer:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n"
        if body:
            head += f"Content-Type: {kind}\r\nContent-Length: {len(body.encode())}\r\n"
        return await self.send(f"{head}\r\n{body}".encode())


async def read(reader: asyncio.StreamReader) -> Answer:
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
    return Answer(int(first.split()[1]), headers, json.loads(body or b"null"))


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[Served]:
    served = Served(directory / "sock", Desk())
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


# The socket.


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
@pytest.mark.usefixtures("umask")
def test_the_socket_is_for_user_and_group_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    os.umask(mask)
    listener = ControlSocket(tmp_path / "sock")
    assert stat.S_IMODE((tmp_path / "sock").stat().st_mode) == 0o660
    assert os.umask(mask) == mask
    listener.close()


def test_the_socket_is_removed_at_the_end(tmp_path: Path) -> None:
    listener = ControlSocket(tmp_path / "made" / "sock")
    listener.close()
    listener.close()
    assert list((tmp_path / "made").iterdir()) == []


def dead(path: Path) -> None:
    """What a daemon that was killed leaves."""
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))


def test_the_socket_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    dead(tmp_path / "sock")
    listener = ControlSocket(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "sock"))
    listener.close()


def test_the_socket_of_a_living_daemon_is_not_taken(tmp_path: Path) -> None:
    living = ControlSocket(tmp_path / "sock")
    with pytest.raises(SocketInUseError, match="another scheduler answers at"):
        ControlSocket(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "sock"))
    living.close()


def test_a_daemon_too_busy_to_accept_is_alive(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as living, socket.socket(socket.AF_UNIX) as client:
        living.bind(str(tmp_path / "sock"))
        living.listen(0)
        client.connect(str(tmp_path / "sock"))
        with pytest.raises(SocketInUseError):
            ControlSocket(tmp_path / "sock")


def test_of_many_that_find_a_dead_socket_at_once_one_gets_it(tmp_path: Path) -> None:
    for _ in range(20):
        dead(tmp_path / "sock")
        begin = threading.Barrier(8)
        made: list[ControlSocket] = []
        refused: list[str] = []

        def claim(begin: threading.Barrier, made: list[ControlSocket], refused: list[str]) -> None:
            begin.wait()
            try:
                made.append(ControlSocket(tmp_path / "sock"))
            except SocketInUseError as error:
                refused.append(str(error))

        threads = [threading.Thread(target=claim, args=(begin, made, refused)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(made), len(refused)) == (1, 7)
        made[0].close()


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "sock").write_text("precious")
    with pytest.raises(ConfigurationError, match="in the way of the control socket"):
        ControlSocket(tmp_path / "sock")
    assert (tmp_path / "sock").read_text() == "precious"


def test_a_place_where_no_socket_can_be_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be made: File exists; name another with"):
        ControlSocket(tmp_path / "file" / "sock")


def test_a_socket_that_another_has_put_in_its_place_is_not_removed(tmp_path: Path) -> None:
    listener = ControlSocket(tmp_path / "sock")
    (tmp_path / "sock").unlink()
    dead(tmp_path / "sock")
    listener.close()
    assert (tmp_path / "sock").exists()


@on_uvloop
async def test_who_connects_before_the_daemon_is_up_is_answered_when_it_is(tmp_path: Path) -> None:
    served = Served(tmp_path / "sock", Desk())
    reader, writer = await served.connect()
    writer.write(GET)
    served.start()
    assert (await read(reader)).status == 200
    writer.close()
    await served.stop()


# What is answered.


@on_both_loops
async def test_healthz_answers_while_the_loop_turns(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        answer = await served.ask("GET", "/healthz")
        assert (answer.status, answer.body["status"]) == (200, "ok")
        assert answer.headers["content-type"] == "application/json"
        assert "server" not in answer.headers


@on_uvloop
async def test_each_request_is_a_task_that_the_api_owns(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.ask("GET", "/healthz")
        assert served.desk.owners == ["api"]


@on_uvloop
async def test_readyz_is_503_only_for_what_keeps_due_runs_from_starting(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        served.desk.concerns = (Concern(kind="task", name="feed", what="is parked", blocking=False),)
        answer = await served.ask("GET", "/readyz")
        assert (answer.status, answer.body["ready"]) == (200, True)
        assert answer.body["concerns"][0]["name"] == "feed"
        served.desk.concerns = (Concern(kind="market", name="NSE", what="refuses", blocking=True),)
        answer = await served.ask("GET", "/readyz")
        assert (answer.status, answer.body["ready"]) == (503, False)


@on_uvloop
async def test_rejected_files_are_a_problem_with_every_place(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        answer = await served.ask("POST", "/api/reload")
        assert_problem(answer, 422)
        assert answer.body["problems"] == ["tasks.yaml:2:3: unknown key", "and more"]


@on_both_loops
async def test_a_resumption_knows_who_wants_it_and_why(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        answer = await served.ask("POST", "/api/tasks/feed/resume", '{"reason": "the feed is back"}')
        assert answer == Answer(
            200, answer.headers, {"task": "feed", "ended": ["parked"], "next": None, "by": "desk"}
        )
        assert (await served.ask("POST", "/api/tasks/feed/resume")).status == 200  # nobody has to say why
        me = Peer(os.geteuid(), os.getpid())
        assert served.desk.resumed == [("feed", me, "the feed is back"), ("feed", me, "")]


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (("GET", "/nowhere"), 404, "GET /nowhere: there is no such path"),
        (("GET", "/healthz/"), 404, "no such path"),
        (("GET", "/api/reload"), 405, "the path knows other methods"),
        (("POST", "/api/tasks/fed/resume"), 404, "did you mean 'feed'?"),
        (("POST", "/api/tasks/feed/resume", "{"), 422, "Invalid JSON"),
        (("POST", "/api/tasks/feed/resume", "[]"), 422, "object"),
        (("POST", "/api/tasks/feed/resume", '{"reson": "x"}'), 422, "reson: Extra inputs"),
        (("POST", "/api/tasks/feed/resume", '{"reason": 1}'), 422, "reason: Input should be a valid string"),
        (("POST", "/api/tasks/feed/resume", '{"reason": "a\\u001bb"}'), 422, "cannot be printed"),
        (("POST", "/api/tasks/feed/resume", "reason=x", "text/plain"), 415, "application/json"),
    ],
)
@on_uvloop
async def test_every_error_is_a_problem(
    tmp_path: Path, request_: tuple[str, ...], status: int, words: str
) -> None:
    async with serving(tmp_path) as served:
        answer = await served.ask(*request_)
        assert_problem(answer, status)
        assert words in answer.body["detail"]
        assert (await served.ask("GET", "/healthz")).status == 200


@on_uvloop
async def test_a_mistake_of_ours_is_a_problem_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as served:
        answer = await served.ask("POST", "/api/tasks/faulty/resume")
        assert_problem(answer, 500)
        assert "ZeroDivisionError" in answer.body["detail"]
    assert [record.name for record in caplog.records] == ["uvicorn.error"]
    assert caplog.records[0].exc_info


@on_uvloop
async def test_pipelined_requests_are_answered_in_their_order(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        reader, writer = await served.connect()
        writer.write(GET + GET.replace(b"healthz", b"nowhere") + GET)
        assert [(await read(reader)).status for _ in range(3)] == [200, 404, 200]
        writer.close()


# Who is cut off.


async def is_cut_off(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(10):
        with suppress(ConnectionError):
            while await reader.read(1 << 16):
                pass
    return True


@pytest.mark.parametrize(
    "rubbish", [b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"HELO desk\r\n\r\n", b"{}\n\n"]
)
@on_uvloop
async def test_rubbish_is_a_problem(tmp_path: Path, rubbish: bytes) -> None:
    async with serving(tmp_path) as served:
        assert_problem(await served.send(rubbish), 400)
        assert (await served.ask("GET", "/healthz")).status == 200


HEAD = GET.removesuffix(b"\r\n")
CHUNKED = b"POST /api/tasks/feed/resume HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([HEAD + b"X: " + b"x" * 200_000], 431),
        ([HEAD, *[b"X-Y: z" * 100 + b"\r\n"] * 200], 431),
        ([b"GET /" + b"x" * 100_000], 431),
        ([CHUNKED, *[b"1000\r\n" + b"x" * 0x1000 + b"\r\n"] * 20], 413),
    ],
    ids=["a header", "headers", "a path", "a body"],
)
@on_both_loops
async def test_a_request_that_is_too_long_is_refused(tmp_path: Path, parts: list[bytes], status: int) -> None:
    async with serving(tmp_path) as served:
        assert_problem(await served.send(*parts), status)
        assert (await served.ask("GET", "/healthz")).status == 200


@pytest.mark.parametrize(
    "sent",
    [b"", b"\r\n", b"GET /heal", GET + b"GET", CHUNKED + b"5\r\nab"],
    ids=["nothing", "a line end", "half a head", "one and a half", "half a body"],
)
@on_both_loops
async def test_a_client_that_hangs_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.1)
    async with serving(tmp_path) as served:
        reader, writer = await served.connect()
        writer.write(sent)
        assert await is_cut_off(reader)
        writer.close()


@on_uvloop
async def test_a_client_that_does_not_take_its_answer_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.1)
    async with serving(tmp_path) as served:
        served.desk.concerns = (Concern(kind="task", name="feed", what="x" * 5_000_000, blocking=False),)
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(served.path))
        client.sendall(GET.replace(b"healthz", b"readyz"))
        await asyncio.sleep(0.5)
        client.settimeout(5)
        taken = 0
        with suppress(ConnectionError):
            while part := client.recv(1 << 20):
                taken += len(part)
        assert taken < 5_000_000
        client.close()


@on_uvloop
async def test_a_slow_answer_is_no_hanging_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.1)
    async with serving(tmp_path) as served:
        await served.desk.reloads.acquire()
        asking = asyncio.ensure_future(served.ask("POST", "/api/reload"))
        await asyncio.sleep(0.4)
        assert not asking.done()
        served.desk.reloads.release()
        assert (await asking).status == 422


@on_uvloop
async def test_one_connection_too_many_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        many = [await served.connect() for _ in range(connection.MOST_CONNECTIONS)]
        refused, writer = await served.connect()
        assert_problem(await read(refused), 503)
        writer.close()
        for _, each in many:
            each.close()
        await asyncio.sleep(0.1)
        assert (await served.ask("GET", "/healthz")).status == 200


@on_uvloop
async def test_a_client_that_leaves_in_the_middle_disturbs_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as served:
        for sent in (b"GET /he", CHUNKED + b"5\r\nab", GET):
            _, writer = await served.connect()
            writer.write(sent)
            await writer.drain()
            writer.close()
        await asyncio.sleep(0.05)
        assert (await served.ask("GET", "/healthz")).status == 200
    assert caplog.records == []


# The end.


@on_both_loops
async def test_stopping_waits_for_nobody_and_removes_the_socket(tmp_path: Path) -> None:
    served = Served(tmp_path / "sock", Desk())
    served.start()
    await served.desk.reloads.acquire()
    waiting = asyncio.ensure_future(served.ask("POST", "/api/reload"))
    idle, half = await served.connect(), await served.connect()
    half[1].write(b"GET /he")
    await served.ask("GET", "/healthz")
    loop = asyncio.get_running_loop()
    began = loop.time()
    await served.stop()
    assert loop.time() - began < 2.0
    answer = await waiting
    assert_problem(answer, 503)
    assert answer.body["detail"] == "the scheduler is stopping"
    for reader, writer in (idle, half):
        assert await is_cut_off(reader)
        writer.close()
    assert not served.path.exists()


@on_uvloop
async def test_who_does_not_take_the_answer_does_not_delay_the_end(tmp_path: Path) -> None:
    served = Served(tmp_path / "sock", Desk())
    served.start()
    served.desk.concerns = (Concern(kind="task", name="feed", what="x" * 5_000_000, blocking=False),)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(served.path))
        client.sendall(GET.replace(b"healthz", b"readyz"))
        await asyncio.sleep(0.1)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await served.stop()
        assert loop.time() - began < 2.0


@on_uvloop
async def test_signals_stay_with_the_daemon(tmp_path: Path) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    async with serving(tmp_path) as served:
        await served.ask("GET", "/healthz")
        assert [signal.getsignal(number) for number in numbers] == before


@on_uvloop
async def test_hundreds_of_clients_at_once_are_served(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        gate = asyncio.Semaphore(connection.MOST_CONNECTIONS // 2)

        async def ask() -> int:
            async with gate:
                return (await served.ask("GET", "/healthz")).status

        assert Counter(await asyncio.gather(*(ask() for _ in range(400)))) == {200: 400}


def test_a_directory_that_another_keeps_locked_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.api.unixsocket._TRIES", 3)
    directory = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    with pytest.raises(SocketInUseError, match="another program keeps"):
        ControlSocket(tmp_path / "sock")
    os.close(directory)
    ControlSocket(tmp_path / "sock").close()
