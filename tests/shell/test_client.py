"""What the commands make of a daemon that is not there, not theirs, or not well."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scheduler.client import Client, reload_lines, resume_line
from scheduler.directories import daemons_socket
from scheduler.errors import NotReachableError
from scheduler.settings import load_settings

NOBODY = 65534


@contextmanager
def answering(path: Path, answer: bytes | None) -> Iterator[Client]:
    """Something that takes one request and answers this; None: it holds its peace."""
    over = threading.Event()

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(1 << 16)
            if answer is None:
                over.wait(10)
            else:
                peer.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Client(path, timeout=0.2)
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"", "ended before it answered"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "ended before it answered"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", "ended before it answered"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<ht>", "is no scheduler"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n12", "is no scheduler"),
        (None, "did not answer within 0.2 s; it may still do what it was asked"),
        (b'HTTP/1.1 503 X\r\nContent-Length: 22\r\n\r\n{"detail": "stopping"}', "stopping"),
    ],
)
def test_a_daemon_that_does_not_answer_is_a_sentence(
    tmp_path: Path, answer: bytes | None, sentence: str
) -> None:
    with (
        answering(tmp_path / "sock", answer) as client,
        pytest.raises(NotReachableError, match=sentence) as error,
    ):
        client.reload()
    assert error.value.exit_code == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_who_may_not_connect_is_told_so() -> None:
    path = Path("/tmp") / f"scheduler-test-{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        try:
            path.chmod(0o600)
            listener.listen()
            os.seteuid(NOBODY)
            with pytest.raises(NotReachableError, match="is not for this user"):
                Client(path, timeout=5).reload()
        finally:
            os.seteuid(0)
            path.unlink()


def test_a_path_that_no_socket_can_have_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(NotReachableError, match="cannot be reached: AF_UNIX path too long"):
        Client(tmp_path / ("x" * 200), timeout=1).reload()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SCHEDULER_SOCKET": "/run/desk/sock"},
        {"SCHEDULER_STATE_DIR": "/var/lib/desk"},
        {"SCHEDULER_STATE_DIR": "/var/lib/desk", "XDG_RUNTIME_DIR": "/run/user/1"},
        {"XDG_RUNTIME_DIR": "/run/user/1"},
        {"RUNTIME_DIRECTORY": "/run/desk:/run/other", "STATE_DIRECTORY": "/var/lib/desk"},
        {"XDG_STATE_HOME": "/home/desk/state"},
    ],
)
def test_client_and_daemon_look_in_the_same_place(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name in ("SCHEDULER_SOCKET", "SCHEDULER_STATE_DIR", "XDG_RUNTIME_DIR", "XDG_STATE_HOME",
                 "RUNTIME_DIRECTORY", "STATE_DIRECTORY"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/desk")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert daemons_socket() == load_settings().socket


def test_without_a_daemon_of_ones_own_the_systems_service_is_meant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("scheduler.directories._SYSTEM_SOCKET", tmp_path / "system")
    for name in ("SCHEDULER_SOCKET", "SCHEDULER_STATE_DIR", "RUNTIME_DIRECTORY", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    own = tmp_path / "scheduler.sock"
    assert daemons_socket() == own
    (tmp_path / "system").touch()
    assert daemons_socket() == tmp_path / "system"
    own.touch()
    assert daemons_socket() == own


def test_answers_are_told_to_people() -> None:
    empty: dict[str, list[str]] = {
        key: [] for key in ("added", "removed", "changed", "settings", "markets", "differences")
    }
    assert list(reload_lines({**empty, "unchanged": True})) == ["nothing has changed"]
    some = {**empty, "added": ["a", "b"], "markets": ["NSE"], "differences": ["2026-11-25 a: -3"]}
    assert list(reload_lines({**some, "unchanged": False})) == [
        "added: a, b",
        "markets: NSE",
        "2026-11-25 a: -3",
    ]
    resumed = {"task": "a", "ended": ["parked", "paused"], "next": "2026-11-25T09:15:00+05:30"}
    assert resume_line(resumed) == "a was parked and paused; due next at 2026-11-25T09:15:00+05:30"
    assert resume_line({**resumed, "ended": [], "next": None}) == (
        "a was neither parked, crash-looping nor paused"
    )
