"""The API of the running daemon over TCP: what it takes, who may, how it ends, and what load does."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.load import SYSTEM, put_load
from tests.end_to_end.daemon import Desk
from tests.end_to_end.listening import TOKEN, Listening

FEED = 'tasks:\n  feed: {command: ["true"], every: 1s}\n'
SECONDS = 5.0  # of load


@pytest.fixture
def daemon(desk: Desk) -> Iterator[Listening]:
    desk.tasks(FEED)
    started = Listening(desk)
    yield started
    assert started.process.stop() == 0
    assert not started.process.messages


def test_the_daemon_listens_at_both_and_says_where(desk: Desk, daemon: Listening) -> None:
    assert daemon.places == [str(desk.state / "scheduler.sock"), f"127.0.0.1:{daemon.port}"]
    assert daemon.ask("/api/tasks") == 200
    assert desk.ask("reload").returncode == 0


def test_over_tcp_the_token_lets_look_and_a_setting_lets_change(desk: Desk, daemon: Listening) -> None:
    assert daemon.ask("/api/tasks", token="another") == 401  # noqa: S106
    refused = daemon.process.wait_for("api.refused")
    assert (refused["level"], refused["status"], refused["why"]) == ("warning", 401, "this is not the token")
    assert daemon.ask("/api/tasks", Host="evil.example") == 421
    assert daemon.ask("/api/tasks", Origin="http://evil.example") == 403
    assert daemon.ask("/api/tasks/feed/pause", "POST") == 403
    with daemon.answer(SYSTEM) as response:
        assert json.load(response)["may_change"] is False
    assert daemon.process.stop() == 0

    writing = Listening(desk, SCHEDULER_LISTEN_WRITE="true")
    assert writing.ask("/api/tasks/feed/pause", "POST") == 200
    paused = writing.process.wait_for("task.paused")
    assert paused["by"].startswith("token@127.0.0.1:")
    assert writing.process.stop() == 0


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "SCHEDULER_LISTEN wants a token"),
        ({"SCHEDULER_TOKEN_FILE": "@/nowhere"}, "cannot be read: No such file or directory"),
        ({"SCHEDULER_TOKEN_FILE": "@/open"}, "is open to everyone (mode 0644): chmod o="),
        ({"SCHEDULER_TOKEN_FILE": "@/token", "SCHEDULER_LISTEN": "127.0.0.1:taken"}, "another program"),
        ({"SCHEDULER_LISTEN_WRITE": "perhaps"}, "_LISTEN_WRITE: must be true or false, not 'perhaps'"),
        ({"SCHEDULER_HOSTS": "a, b/c"}, "SCHEDULER_HOSTS: 'b/c' is not the name of a host"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_a_mistake_of_the_configuration(
    desk: Desk, settings: dict[str, str], told: str
) -> None:
    desk.tasks(FEED)
    for name, mode in (("token", 0o600), ("open", 0o644)):
        desk.file(name).write_text(TOKEN, "utf-8")
        desk.file(name).chmod(mode)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        given = {"SCHEDULER_LISTEN": "127.0.0.1:0"} | settings
        daemon = desk.run(
            **{
                name: value.replace("@", str(desk.files)).replace("taken", port)
                for name, value in given.items()
            }
        )
        assert daemon.ended() == 78
    assert told in "".join(daemon.messages)
    assert daemon.seen("daemon.ready") == []
    assert not (desk.state / "scheduler.sock").exists()


def test_the_service_finds_its_token_among_its_credentials(desk: Desk, tmp_path: Path) -> None:
    desk.tasks(FEED)
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "api-token").write_text(TOKEN + "\n", "utf-8")
    (credentials / "api-token").chmod(0o400)
    daemon = Listening(desk, SCHEDULER_TOKEN_FILE="", CREDENTIALS_DIRECTORY=str(credentials))
    assert daemon.ask("/api/tasks") == 200
    assert daemon.process.stop() == 0


def test_what_there_is_not_is_refused_with_what_there_is(daemon: Listening) -> None:
    for query in ("level=loud", "runs=perhaps", "leve=info", "event=&level="):
        assert daemon.ask(f"/api/events?{query}") == 422
    with daemon.answer("/api/runs/no-run", "PUT") as response:
        assert response.status == 405
        assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD", "DELETE"}


def test_who_reads_events_is_told_of_the_end_which_waits_for_nobody(desk: Desk) -> None:
    desk.tasks(FEED)
    daemon = Listening(desk)
    with daemon.answer("/api/events?runs=true") as events, daemon.answer("/api/events") as unread:
        assert unread.status == 200
        read = [events.readline()]
        while not read[-1].startswith(b"event: run"):
            read.append(events.readline())
        assert daemon.process.stop() == 0
        assert events.read().endswith(b"event: closed\ndata: {}\n\n")
    [stopped] = daemon.process.seen("daemon.stopped")
    assert stopped["left_behind"] == []
    assert daemon.process.messages == []


def test_five_hundred_probes_and_fifty_pages_a_second_do_not_hold_up_the_loop(desk: Desk) -> None:
    paces = ("critical", "important", "nice-to-have")
    lines = [
        f'  task-{n}: {{command: ["true"], every: 5s, spread: true, priority: {paces[n % 3]}}}'
        for n in range(30)
    ]
    desk.tasks("\n".join(["tasks:", *lines, ""]))
    daemon = Listening(desk)
    rates = {"/healthz": 500.0, SYSTEM: 50.0}
    load = asyncio.run(put_load(("127.0.0.1", daemon.port), token=TOKEN, seconds=SECONDS, rates=rates))
    assert load.refused == []
    assert load.answered == {path: rate * SECONDS for path, rate in rates.items()}
    assert max(load.lags) < 0.25
    assert load.shed == set()
    assert daemon.process.stop() == 0
    assert daemon.process.seen("load.shedding") == []
