"""The API at a TCP port: where it listens, the token, and what goes on at the Unix socket meanwhile."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from scheduler.api import connection, refusals
from scheduler.api.control import Peer
from scheduler.api.tcpsocket import TcpSockets
from scheduler.api.token import read_token
from scheduler.errors import ConfigurationError, SchedulerError
from tests.shell.execution import on_both_loops, on_uvloop
from tests.shell.serving import TOKEN, Desk, Served, assert_problem, at_port, at_socket, read, serving

BEARER = f"Bearer {TOKEN}"


@on_both_loops
async def test_who_has_the_token_is_answered(tmp_path: Path) -> None:
    async with serving(at_port(tmp_path)) as served:
        answer = await served.ask("GET", "/readyz", Authorization=BEARER)
        assert (answer.status, answer.body["ready"]) == (200, True)


@on_both_loops
async def test_who_has_not_is_told_what_is_wanted(tmp_path: Path) -> None:
    async with serving(at_port(tmp_path)) as served:
        answer = await served.ask("GET", "/readyz")
        assert_problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
        answer = await served.ask("GET", "/readyz", Authorization="Bearer wrong")
        assert_problem(answer, 401)
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        assert (await served.ask("GET", "/healthz")).status == 200


@on_uvloop
async def test_over_tcp_one_may_only_look_unless_writing_is_allowed(tmp_path: Path) -> None:
    async with serving(at_port(tmp_path)) as served:
        answer = await served.ask("POST", "/api/tasks/feed/resume", Authorization=BEARER)
        assert_problem(answer, 403)
        assert answer.body["detail"] == "this connection may only look"
        assert served.desk.resumed == []
    async with serving(at_port(tmp_path, may_change=True)) as served:
        reader, writer = await served.connect()
        host, port = writer.get_extra_info("sockname")
        head = f"POST /api/tasks/feed/resume HTTP/1.1\r\nHost: localhost\r\nAuthorization: {BEARER}\r\n\r\n"
        writer.write(head.encode())
        assert (await read(reader)).status == 200
        assert served.desk.resumed == [("feed", Peer(None, 0, f"{host}:{port}"), "")]
        writer.close()


@on_both_loops
async def test_version_6_of_ip_is_spoken_too(tmp_path: Path) -> None:
    listener = at_port(tmp_path, "::1")
    async with serving(listener) as served:
        assert listener.places == [f"[::1]:{served.address[1]}"]
        answer = await served.ask("GET", "/readyz", Authorization=BEARER, Host=listener.places[0])
        assert answer.status == 200


@on_uvloop
async def test_a_name_is_listened_at_with_all_of_its_addresses(tmp_path: Path) -> None:
    listener = at_port(tmp_path, "localhost")
    ports = {each.getsockname()[1] for each in listener.sockets}
    assert len(ports) == 1
    async with serving(listener) as served:
        for each in listener.sockets:
            reader, writer = await asyncio.open_connection(*each.getsockname()[:2])
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await read(reader)).status == 200
            writer.close()
        assert served.refused == []


@pytest.mark.parametrize("status", [421, 403], ids=["a rebound name", "another web site"])
@on_uvloop
async def test_browsers_are_not_used_against_us(tmp_path: Path, status: int) -> None:
    wrong = {"Host": "evil.example"} if status == 421 else {"Origin": "http://evil.example"}
    async with serving(at_port(tmp_path)) as served:
        assert_problem(await served.ask("GET", "/readyz", Authorization=BEARER, **wrong), status)
    async with serving(at_socket(tmp_path)) as served:
        assert_problem(await served.ask("POST", "/api/reload", **wrong), status)


@on_uvloop
async def test_a_flood_of_refusals_is_one_line_and_later_one_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "QUIET", 0.3)
    async with serving(at_port(tmp_path)) as served:
        for _ in range(20):
            await served.ask("GET", "/readyz")
        assert [(status, more) for _, status, _, more in served.refused][:1] == [(401, 0)]
        await asyncio.sleep(0.5)
        told = [more for _, _, _, more in served.refused]
        assert len(told) < 10
        assert sum(more + 1 for more in told) == 20
        assert served.refused[0][0].startswith("127.0.0.1:")


@on_uvloop
async def test_who_fills_the_port_does_not_keep_others_from_the_socket(tmp_path: Path) -> None:
    desk = Desk()
    port, unix = Served(at_port(tmp_path), desk), Served(at_socket(tmp_path), desk)
    port.start("port")
    unix.start()
    many = [await port.connect() for _ in range(connection.MOST_CONNECTIONS)]
    refused, writer = await port.connect()
    assert_problem(await read(refused), 503)
    assert (await unix.ask("GET", "/healthz")).status == 200
    for _, each in (*many, (refused, writer)):
        each.close()
    desk.manager.cancel_task("port")
    await unix.stop()


def test_clients_that_are_gone_without_a_word_are_noticed(tmp_path: Path) -> None:
    """What it takes the network to show is the kernel's part; here, that it is told."""
    listener = at_port(tmp_path)
    with socket.create_connection(listener.sockets[0].getsockname()):
        listener.sockets[0].setblocking(True)
        accepted, _ = listener.sockets[0].accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
    listener.close()


def test_a_port_in_use_is_a_mistake_of_the_configuration() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        wanted = f"^SCHEDULER_LISTEN=127.0.0.1:{port}: another program listens there; choose another port$"
        with pytest.raises(ConfigurationError, match=wanted):
            TcpSockets("127.0.0.1", port, names=frozenset(), token=TOKEN, may_change=False)


def test_what_cannot_be_a_host_is_a_mistake_of_the_configuration() -> None:
    with pytest.raises(ConfigurationError, match=r"^SCHEDULER_LISTEN=no\.\.name:80: this is not"):
        TcpSockets("no..name", 80, names=frozenset(), token=TOKEN, may_change=False)


def test_an_address_that_is_not_there_may_come_up_yet() -> None:
    with pytest.raises(SchedulerError, match=r"^SCHEDULER_LISTEN=192\.0\.2\.1:8080: ") as caught:
        TcpSockets("192.0.2.1", 8080, names=frozenset(), token=TOKEN, may_change=False)
    assert caught.value.exit_code == 1  # which systemd tries again


def test_a_port_is_free_again_at_once(tmp_path: Path) -> None:
    listener = at_port(tmp_path)
    address = listener.sockets[0].getsockname()
    with socket.create_connection(address):
        listener.close()
        again = TcpSockets(*address, names=frozenset(), token=TOKEN, may_change=False)
        again.close()


# The token.


def token_file(directory: Path, text: str, mode: int = 0o640) -> Path:
    path = directory / "api-token"
    path.write_text(text, "utf-8")
    path.chmod(mode)
    return path


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_token_is_the_line_of_its_file(tmp_path: Path, end: str) -> None:
    assert read_token(token_file(tmp_path, "abcdefgh-1234567" + end)) == "abcdefgh-1234567"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "a" * 15,
        "with a space in it",
        "tab\tin-a-token",
        "two-lines\nof-a-token",
        "é" * 16,
        "x" * 5000,
    ],
)
def test_what_is_no_secret_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="at least 16 letters, digits and signs"):
        read_token(token_file(tmp_path, text))


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o666])
def test_a_token_that_everyone_can_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = token_file(tmp_path, "a" * 32, mode)
    with pytest.raises(ConfigurationError, match=f"is open to everyone .mode 0{mode:o}.: chmod o= {path}"):
        read_token(path)


def test_a_token_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="api-token, the token's file, cannot be read: No such file"):
        read_token(tmp_path / "api-token")


def test_without_a_token_it_is_said_what_to_do() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_token(None)
    assert "SCHEDULER_TOKEN_FILE" in str(caught.value)
    assert "LoadCredential=api-token:" in str(caught.value)
