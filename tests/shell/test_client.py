"""What the commands make of a daemon that is not there, not theirs, or not well."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_origin
from urllib.parse import parse_qs, unquote

import pytest
from starlette.routing import Match

from scheduler.api.app import operations
from scheduler.api.operations import routes
from scheduler.client import Client
from scheduler.directories import daemons_socket
from scheduler.errors import (
    ConfigurationError,
    NotReachableError,
    SchedulerError,
    UnknownRunError,
    UsageError,
)
from scheduler.settings import load_settings
from tests.shell.httpserver import Asked, Handler, serving

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
        client.health()
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


# What it asks is what the daemon can be asked.

CALLS: dict[str, Callable[[Client], object]] = {
    "GET /healthz": lambda client: client.health(),
    "GET /readyz": lambda client: client.readiness(),
    "GET /api/system/tasks": lambda client: client.system(),
    "POST /api/reload": lambda client: client.reload("why"),
    "GET /api/markets": lambda client: client.markets(),
    "GET /api/acts": lambda client: client.acts(3),
    "GET /api/tasks": lambda client: client.tasks(),
    "GET /api/tasks/{name}": lambda client: client.task("a.b-c"),
    "POST /api/tasks/{name}/run": lambda client: client.run_now("a", "why"),
    "POST /api/tasks/{name}/restart": lambda client: client.restart("a"),
    "POST /api/tasks/{name}/backfill": lambda client: client.backfill("a", "2026-11-23", "2026-11-24"),
    "DELETE /api/tasks/{name}/backfill": lambda client: client.end_backfill("a", "a reason, with ümlauts"),
    "POST /api/pause": lambda client: client.pause({"tasks": ["a"]}, "2026-11-23T15:30"),
    "POST /api/resume": lambda client: client.resume({"all": True}, "why"),
    "GET /api/runs/active": lambda client: client.active_runs(),
    "GET /api/runs/{id}": lambda client: client.run("a-20261123T034500Z~2"),
    "DELETE /api/runs/{id}": lambda client: client.cancel("a-20261123T034500Z", "why & how"),
    "GET /api/cache": lambda client: client.cache_stats(),
    "GET /api/cache/{namespace}/{key:path}": lambda client: client.cache_get("news", "a/b?c=d#e%f"),
    "PUT /api/cache/{namespace}/{key:path}": lambda client: client.cache_put("news", "ключ", [1, None], "5s"),
    "DELETE /api/cache/{namespace}/{key:path}": lambda client: client.cache_delete("news", " "),
    "GET /api/events": lambda client: client.events(
        tasks=["a", "b"], events=["task."], level="debug", runs=True
    ),
}
NOT_ASKED = {  # for other programs; the commands have their own ways
    "GET /metrics", "GET /api/runs", "GET /api/plan", "GET /api/timeline",
    "POST /api/tasks/{name}/pause", "POST /api/tasks/{name}/resume",
    "GET /api/tasks/all_status", "GET /api/tasks/status/{run_id}",
    "GET /tasks/active", "DELETE /tasks/{run_id}",
}  # fmt: skip
OPERATIONS = {
    f"{each.method} {each.path}": each
    for each in operations(SimpleNamespace(tasks=None, runs=None, cache=None))
}


def empty(asked: Asked, handler: Handler) -> None:
    if asked.target.startswith("/api/events"):
        handler.stream(": welcome\n\n")
    else:
        handler.json({})


def test_every_operation_has_a_method_or_is_none_of_the_commands_business() -> None:
    assert CALLS.keys() | NOT_ASKED == OPERATIONS.keys()


@pytest.mark.parametrize("name", CALLS)
def test_a_method_asks_what_its_operation_understands(tmp_path: Path, name: str) -> None:
    operation = OPERATIONS[name]
    with serving(tmp_path / "sock", empty) as server:
        answer = CALLS[name](Client(tmp_path / "sock", timeout=10))
        if isinstance(answer, Generator):
            answer.close()
        (asked,) = server.asked
    path, _, query = asked.target.partition("?")
    scope = {"type": "http", "method": asked.method, "path": unquote(path), "headers": []}
    first = next(each for each in routes(OPERATIONS.values()) if each.matches(scope)[0] is Match.FULL)
    assert (first.path, asked.method) == (operation.path, operation.method)
    if operation.body is None:
        assert asked.body is None
    else:
        operation.body.model_validate_json(json.dumps(asked.body))
    if operation.query is not None:
        given = parse_qs(query, keep_blank_values=True, strict_parsing=True)
        operation.query.model_validate(
            {
                key: values
                if get_origin(operation.query.model_fields[key].annotation) is tuple
                else values[0]
                for key, values in given.items()
            }
        )
    else:
        assert query == ""


def test_what_stands_in_a_path_arrives_as_it_was(tmp_path: Path) -> None:
    with serving(tmp_path / "sock", empty) as server:
        Client(tmp_path / "sock", timeout=10).cache_get("news", "a/b?c=d#e%f é")
        (asked,) = server.asked
    assert unquote(asked.target) == "/api/cache/news/a/b?c=d#e%f é"
    assert "?" not in asked.target


@pytest.mark.parametrize(
    ("status", "problem", "error"),
    [
        (404, {"detail": "no run"}, UnknownRunError("no run")),
        (409, {"detail": "it is over"}, SchedulerError("it is over")),
        (422, {"detail": "no time"}, UsageError("no time")),
        (422, {"detail": "x", "problems": ["a.yaml:1:2: no"]}, ConfigurationError("a.yaml:1:2: no")),
        (503, {"detail": "it stops"}, NotReachableError("it stops")),
        (500, {"title": "Internal"}, SchedulerError("Internal")),
        (400, {}, SchedulerError("400")),
    ],
)
def test_a_problem_is_the_error_it_is_here(
    tmp_path: Path, status: int, problem: dict[str, Any], error: SchedulerError
) -> None:
    with serving(tmp_path / "sock", lambda _, handler: handler.json(problem, status)):
        client = Client(tmp_path / "sock", timeout=10)
        with pytest.raises(type(error)) as raised:
            client.run("a-20261123T034500Z")
    assert (type(raised.value), str(raised.value)) == (type(error), str(error))


def test_a_daemon_that_is_not_ready_answers_all_the_same(tmp_path: Path) -> None:
    answer = {"ready": False, "concerns": []}
    with serving(tmp_path / "sock", lambda _, handler: handler.json(answer, 503)):
        assert Client(tmp_path / "sock", timeout=10).readiness() == answer


# Events.

TOLD = 'event: log\ndata: {"event": "task.parked"}\n\n'
CLOSED = "event: closed\ndata: {}\n\n"


def test_events_are_what_was_sent_and_the_end_of_the_stream_is_an_error(tmp_path: Path) -> None:
    parts = (
        ": welcome\n\n",
        TOLD[:20],
        TOLD[20:],
        ": still here\n\n",
        'event: run\ndata: {"é": 1}\n\n',
        CLOSED,
    )
    with serving(tmp_path / "sock", lambda _, handler: handler.stream(*parts)):
        happenings = Client(tmp_path / "sock", timeout=10).events()
        assert [next(happenings), next(happenings)] == [("log", {"event": "task.parked"}), ("run", {"é": 1})]
        with pytest.raises(NotReachableError, match="has ended the stream"):
            next(happenings)


def test_who_follows_hears_of_the_next_daemon_and_of_each_loss_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.client.stream._AGAIN", 0.001)
    refused = 3
    calls: list[str] = []

    def answer(_: Asked, handler: Handler) -> None:
        calls.append("asked")
        if 1 < len(calls) <= 1 + refused:
            handler.json({"detail": "it stops"}, 503)
        else:
            handler.stream(": welcome\n\n", TOLD, CLOSED)

    losses: list[str] = []
    with serving(tmp_path / "sock", answer):
        client = Client(tmp_path / "sock", timeout=10)
        happenings = client.events(on_loss=lambda error: losses.append(str(error)))
        assert next(happenings) == next(happenings) == ("log", {"event": "task.parked"})
        assert len(calls) == 2 + refused
        assert len(losses) == 1
        next(happenings)
        assert len(losses) == 2
        happenings.close()


def test_events_that_cannot_be_had_are_a_sentence(tmp_path: Path) -> None:
    with serving(tmp_path / "sock", lambda _, handler: handler.json({"detail": "level: no"}, 422)):
        client = Client(tmp_path / "sock", timeout=10)
        with pytest.raises(UsageError, match="level: no"):
            client.events(level="loud")
        with pytest.raises(UsageError):
            next(client.events(level="loud", on_loss=lambda _: None))


def test_a_stream_without_a_sign_of_life_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduler.client.stream.SILENCE", 0.05)
    over = threading.Event()

    def answer(_: Asked, handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b": welcome\n\n")
        handler.wfile.flush()
        over.wait(10)
        handler.close_connection = True

    with serving(tmp_path / "sock", answer):
        happenings = Client(tmp_path / "sock", timeout=10).events()
        with pytest.raises(NotReachableError, match="no sign of life"):
            next(happenings)
        over.set()
