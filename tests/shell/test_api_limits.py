"""Who is cut off: clients that hang, flood or send rubbish; and the end, which waits for nobody."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from scheduler.api import connection
from scheduler.api.models.health import Concern, Health
from tests.shell.execution import on_both_loops, on_uvloop
from tests.shell.serving import (
    CHUNKED,
    GET,
    HEAD,
    Desk,
    Served,
    assert_problem,
    at_socket,
    is_cut_off,
    read,
    serving,
    until,
)


@pytest.mark.parametrize(
    "rubbish", [b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"HELO desk\r\n\r\n", b"{}\n\n"]
)
@on_uvloop
async def test_rubbish_is_a_problem(tmp_path: Path, rubbish: bytes) -> None:
    async with serving(at_socket(tmp_path)) as served:
        assert_problem(await served.send(rubbish), 400)
        assert (await served.ask("GET", "/healthz")).status == 200


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
    async with serving(at_socket(tmp_path)) as served:
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
    async with serving(at_socket(tmp_path)) as served:
        reader, writer = await served.connect()
        writer.write(sent)
        assert await is_cut_off(reader)
        writer.close()


@on_uvloop
async def test_a_client_that_does_not_take_its_answer_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.1)
    async with serving(at_socket(tmp_path)) as served:
        served.desk.concerns = (Concern(kind="task", name="feed", what="x" * 5_000_000, blocking=False),)
        client = socket.socket(socket.AF_UNIX)
        client.connect(served.address)
        client.sendall(GET.replace(b"healthz", b"readyz"))
        await asyncio.sleep(0.5)
        client.settimeout(5)
        taken = 0
        with suppress(ConnectionError):
            while part := client.recv(1 << 20):
                taken += len(part)
        assert taken < 5_000_000
        client.close()


@on_both_loops
async def test_asking_again_buys_no_time_to_take_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.3)
    async with serving(at_socket(tmp_path)) as served:
        served.desk.concerns = (Concern(kind="task", name="feed", what="x" * 5_000_000, blocking=False),)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(served.address)
            client.sendall(GET.replace(b"healthz", b"readyz"))
            await asyncio.sleep(0.1)
            client.sendall(GET)
            await until(lambda: not served.connections)


@on_uvloop
async def test_a_slow_answer_is_no_hanging_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.1)
    async with serving(at_socket(tmp_path)) as served:
        await served.desk.reloads.acquire()
        asking = asyncio.ensure_future(served.ask("POST", "/api/reload"))
        await asyncio.sleep(0.4)
        assert not asking.done()
        served.desk.reloads.release()
        assert (await asking).status == 422


@on_uvloop
async def test_one_connection_too_many_is_refused(tmp_path: Path) -> None:
    async with serving(at_socket(tmp_path)) as served:
        many = [await served.connect() for _ in range(connection.MOST_CONNECTIONS)]
        refused, writer = await served.connect()
        assert_problem(await read(refused), 503)
        writer.close()
        for _, each in many:
            each.close()
        await asyncio.sleep(0.1)
        assert (await served.ask("GET", "/healthz")).status == 200


@on_both_loops
async def test_a_flood_of_requests_behind_one_that_waits_is_cut_off(tmp_path: Path) -> None:
    async with serving(at_socket(tmp_path)) as served:
        await served.desk.reloads.acquire()
        reader, writer = await served.connect()
        writer.write(b"POST /api/reload HTTP/1.1\r\nHost: x\r\n\r\n" + GET * 10_000)
        assert await is_cut_off(reader)
        writer.close()
        assert served.desk.owners == []
        assert [status for _, status, _, _ in served.refused] == [429]
        served.desk.reloads.release()


@on_uvloop
async def test_a_flood_of_requests_that_are_answered_at_once_is_taken_in_turn(tmp_path: Path) -> None:
    async with serving(at_socket(tmp_path)) as served:
        reader, writer = await served.connect()
        for _ in range(20):
            writer.write(GET * connection.MOST_WAITING)
            for _ in range(connection.MOST_WAITING):
                assert (await read(reader)).status == 200
        writer.close()


@on_both_loops
async def test_of_a_flood_one_request_begins_in_a_turn_of_the_loop(tmp_path: Path) -> None:
    """Between two of them whatever else is due has its turn."""
    async with serving(at_socket(tmp_path)) as served:
        loop, turn = asyncio.get_running_loop(), 0
        begun: list[int] = []
        answer = served.desk.health

        def health() -> Health:
            begun.append(turn)
            return answer()

        def count() -> None:
            nonlocal turn
            turn += 1
            if len(begun) < 30:
                loop.call_soon(count)

        served.desk.health = health  # type: ignore[method-assign]
        clients = [await served.connect() for _ in range(30)]
        count()
        for _, writer in clients:
            writer.write(GET)
        for reader, writer in clients:
            assert (await read(reader)).status == 200
            writer.close()
        assert len(set(begun)) == len(begun) == 30


async def begin_events(served: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await served.connect()
    writer.write(GET.replace(b"healthz", b"api/events"))
    async with asyncio.timeout(10):
        await reader.readuntil(b": welcome\n\n")
    return reader, writer


@on_both_loops
async def test_who_left_is_told_of_no_more_events(tmp_path: Path) -> None:
    """And leaves nothing behind that waits for the next one."""
    async with serving(at_socket(tmp_path)) as served:
        for _ in range(50):
            _, writer = await begin_events(served)
            writer.close()
        await until(lambda: not served.desk.listening)


@on_both_loops
async def test_who_does_not_read_his_events_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.2)
    async with serving(at_socket(tmp_path)) as served:
        client = socket.socket(socket.AF_UNIX)
        client.connect(served.address)
        client.sendall(GET.replace(b"healthz", b"api/events"))
        await until(lambda: served.desk.listening == 1)
        for _ in range(100):
            served.desk.happenings.put_nowait(("log", "x" * 100_000))
        await until(lambda: not served.desk.listening)
        client.close()


@on_uvloop
async def test_who_waits_for_events_is_no_hanging_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.1)
    monkeypatch.setattr(connection, "KEEP_ALIVE", 0.1)
    async with serving(at_socket(tmp_path)) as served:
        reader, writer = await begin_events(served)
        await asyncio.sleep(0.4)
        served.desk.happenings.put_nowait(("log", "{}"))
        async with asyncio.timeout(10):
            await reader.readuntil(b"event: log\ndata: {}\n\n")
        writer.close()


@on_uvloop
async def test_who_asks_for_the_head_of_the_events_gets_just_that(tmp_path: Path) -> None:
    async with serving(at_socket(tmp_path)) as served:
        reader, writer = await served.connect()
        writer.write(b"HEAD /api/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(10):
            assert b"200 OK" in await reader.read()
        writer.close()


@on_uvloop
async def test_a_client_that_leaves_in_the_middle_disturbs_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(at_socket(tmp_path)) as served:
        for sent in (b"GET /he", CHUNKED + b"5\r\nab", GET):
            _, writer = await served.connect()
            writer.write(sent)
            await writer.drain()
            writer.close()
        await asyncio.sleep(0.05)
        assert (await served.ask("GET", "/healthz")).status == 200
    assert caplog.records == []


@on_both_loops
async def test_stopping_waits_for_nobody_and_removes_the_socket(tmp_path: Path) -> None:
    served = Served(at_socket(tmp_path), Desk())
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
    with pytest.raises(FileNotFoundError):
        await served.connect()


@on_uvloop
async def test_who_does_not_take_the_answer_does_not_delay_the_end(tmp_path: Path) -> None:
    served = Served(at_socket(tmp_path), Desk())
    served.start()
    served.desk.concerns = (Concern(kind="task", name="feed", what="x" * 5_000_000, blocking=False),)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(served.address)
        client.sendall(GET.replace(b"healthz", b"readyz"))
        await asyncio.sleep(0.1)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await served.stop()
        assert loop.time() - began < 2.0


@on_both_loops
async def test_who_reads_events_is_told_of_the_end(tmp_path: Path) -> None:
    served = Served(at_socket(tmp_path), Desk())
    served.start()
    streams = [await begin_events(served) for _ in range(10)]
    await served.stop()
    for reader, writer in streams:
        async with asyncio.timeout(10):
            assert b"event: closed\ndata: {}\n\n" in await reader.read()
        writer.close()


@on_both_loops
async def test_who_does_not_read_his_events_does_not_delay_the_end(tmp_path: Path) -> None:
    served = Served(at_socket(tmp_path), Desk())
    served.start()
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.connect(served.address)
        deaf.sendall(GET.replace(b"healthz", b"api/events"))
        await until(lambda: served.desk.listening == 1)
        for _ in range(100):
            served.desk.happenings.put_nowait(("log", "x" * 100_000))
        await asyncio.sleep(0.1)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await served.stop()
        assert loop.time() - began < 2.0


@on_uvloop
async def test_signals_stay_with_the_daemon(tmp_path: Path) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    async with serving(at_socket(tmp_path)) as served:
        await served.ask("GET", "/healthz")
        assert [signal.getsignal(number) for number in numbers] == before


@on_uvloop
async def test_hundreds_of_clients_at_once_are_served(tmp_path: Path) -> None:
    async with serving(at_socket(tmp_path)) as served:
        gate = asyncio.Semaphore(connection.MOST_CONNECTIONS // 2)

        async def ask() -> int:
            async with gate:
                return (await served.ask("GET", "/healthz")).status

        assert Counter(await asyncio.gather(*(ask() for _ in range(400)))) == {200: 400}
