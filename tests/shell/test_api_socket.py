"""The control socket: who may connect, and whose it is."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.api.unixsocket import ControlSocket
from scheduler.errors import ConfigurationError, SocketInUseError
from tests.shell.execution import on_uvloop
from tests.shell.serving import (
    GET,
    Desk,
    Served,
    at_socket,
    read,
)


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
    served = Served(at_socket(tmp_path), Desk())
    reader, writer = await served.connect()
    writer.write(GET)
    served.start()
    assert (await read(reader)).status == 200
    writer.close()
    await served.stop()


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
