"""The running daemon does as it is told over its control socket, and says what came of it."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from scheduler.client import Client
from scheduler.core.messages import DAY, SECOND
from tests.end_to_end.daemon import Daemon, Desk, eventually
from tests.end_to_end.ledgers import eventful, write_ledger
from tests.end_to_end.test_reload import settle, ticking, wait_for_line

ME = pwd.getpwuid(os.geteuid()).pw_name
PARKED = """
tasks:
  broken:
    command: [/bin/sh, -c, "test -e @/mended && echo ran >> @/broken"]
    every: 1s
    restart: {policy: on-failure, burst: 1, then: park}
  fine: {command: ["true"], every: 1s}
  off: {command: ["true"], every: 1s, enabled: false}
"""


def manual(**words: str) -> str:
    """A file whose changes go live when told."""
    return "reload: manual\n" + ticking(**words)


@pytest.fixture
def daemon(desk: Desk) -> Iterator[Daemon]:
    """One that runs `kept`, `edited` and `dropped`, and reloads when told."""
    desk.tasks(manual(kept="same", edited="old", dropped="old"))
    started = desk.run()
    started.wait_for("daemon.ready")
    yield started
    assert started.stop() == 0
    assert not started.messages


def socket_of(desk: Desk) -> Path:
    return desk.state / "scheduler.sock"


def readiness(desk: Desk) -> dict[str, Any]:
    return dict(Client(socket_of(desk), timeout=10)._ask("GET", "/readyz"))


def test_reload_returns_when_the_files_are_in_force_and_says_what_changed(desk: Desk, daemon: Daemon) -> None:
    settle(desk, "kept")
    desk.tasks(manual(kept="same", edited="new", fresh="new"))
    answer = desk.ask("reload")
    assert (answer.returncode, answer.stderr) == (0, "")
    first, second, third, *differences = answer.stdout.splitlines()
    assert (first, second, third) == ("added: fresh", "removed: dropped", "changed: edited")
    assert any(re.search(r"\d{4}-\d\d-\d\d dropped: -\d+", line) for line in differences)
    reloaded = daemon.wait_for("config.reloaded")
    assert (reloaded["cause"], reloaded["changed"]) == (f"asked for by {ME}", ["edited"])
    wait_for_line(desk, "edited", "new")

    assert desk.ask("reload").stdout == "nothing has changed\n"
    desk.tasks("cache: {prices: {ttl: 5s}}\n" + manual(kept="same", edited="new"))
    [row] = desk.rows("reload")
    assert (row["accepted"], row["unchanged"]) == (True, False)
    assert (row["removed"], row["settings"], row["added"]) == (["fresh"], ["cache"], [])


def test_rejected_files_are_exit_78_with_every_place_and_the_old_ones_go_on(
    desk: Desk, daemon: Daemon
) -> None:
    desk.tasks('tasks:\n  kept: {comand: ["true"]}\n  edited: {command: ["true"], every: 5M}\n')
    answer = desk.ask("reload", "--json")
    assert (answer.returncode, answer.stdout) == (78, "")
    first, second = answer.stderr.splitlines()
    assert first.startswith(f"{desk.tasks_file}:2:10: ")
    assert "did you mean 'command'?" in first
    assert second.startswith(f"{desk.tasks_file}:3:")
    assert daemon.wait_for("config.rejected")["problem"] == first
    ticks = len(desk.lines("kept"))
    eventually(lambda: len(desk.lines("kept")) >= ticks + 2, "the old tasks go on")


def test_reload_waits_for_a_calendar_that_takes_its_time(desk: Desk, daemon: Daemon) -> None:
    tokyo = '  tokyo: {command: ["true"], at: close, market: TOKYO}\n'
    (desk.config / "markets.yaml").write_text("markets: {TOKYO: {calendar: XTKS}}\n", "utf-8")
    desk.tasks(manual(kept="same") + tokyo)
    impatient = desk.ask("reload", "--timeout", "0.05")
    assert impatient.returncode == 3
    assert "did not answer within 0.05 s" in impatient.stderr
    patient = desk.ask("reload")  # has its turn after the first
    assert (patient.returncode, patient.stdout) == (0, "nothing has changed\n")
    reloaded = daemon.wait_for("config.reloaded")
    assert reloaded["added"] == ["tokyo"]


@pytest.mark.parametrize("command", [["reload"], ["resume", "kept"]], ids=["reload", "resume"])
def test_without_a_daemon_a_command_says_where_it_looked(desk: Desk, command: list[str]) -> None:
    answer = desk.ask(*command)
    assert (answer.returncode, answer.stdout) == (3, "")
    assert answer.stderr.startswith(f"no scheduler answers at {socket_of(desk)}")
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(socket_of(desk)))
    assert desk.ask(*command).returncode == 3


def test_resume_ends_parking_and_the_log_knows_who_and_why(desk: Desk) -> None:
    desk.tasks(PARKED)
    daemon = desk.run()
    parked = daemon.wait_for("task.parked", task="broken")
    assert parked["ends_by"] == "`scheduler resume broken`, or a changed definition"
    state = readiness(desk)
    assert state["ready"]
    [concern] = [concern for concern in state["concerns"] if concern["kind"] == "task"]
    assert (concern["name"], concern["what"]) == ("broken", "is parked after 1 failures in a row")

    desk.file("mended").touch()
    answer = desk.ask("resume", "broken", "--reason", "the feed is back")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert re.fullmatch(r"broken was parked; due next at \S+\n", answer.stdout)
    resumed = daemon.wait_for("task.resumed")
    assert (resumed["task"], resumed["by"], resumed["reason"]) == ("broken", ME, "the feed is back")
    daemon.wait_for("run.completed", task="broken")
    assert [concern for concern in readiness(desk)["concerns"] if concern["kind"] == "task"] == []
    assert daemon.stop() == 0
    again = desk.run()
    again.wait_for("run.completed", task="broken")
    assert again.seen("task.parked") == []
    assert again.stop() == 0


def test_resume_says_what_it_cannot_do(desk: Desk) -> None:
    desk.tasks(PARKED + "  absent: {run: 'nowhere.to:be', every: 1s}\n")
    daemon = desk.run()
    daemon.wait_for("daemon.ready")
    answers = {name: desk.ask("resume", name) for name in ("brokn", "off", "absent", "fine")}
    assert {name: answer.returncode for name, answer in answers.items()} == {
        "brokn": 1,
        "off": 1,
        "absent": 1,
        "fine": 0,
    }
    assert answers["brokn"].stderr == "no task is named 'brokn'; did you mean 'broken'?\n"
    assert answers["off"].stderr == "off is disabled (enabled: false)\n"
    assert "absent cannot be run at all (" in answers["absent"].stderr
    assert answers["fine"].stdout.startswith("fine was neither parked, crash-looping nor paused; due next at")
    answer = desk.ask("resume", "broken", "--reason", "a\x1b[2Jb")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "cannot be printed" in answer.stderr
    assert daemon.stop() == 0


def test_the_socket_is_the_daemons_as_long_as_it_lives(desk: Desk, daemon: Daemon) -> None:
    assert stat.S_IMODE(socket_of(desk).stat().st_mode) == 0o660
    other = desk.state.with_name("other")
    shutil.copytree(desk.state / "calendars", other / "calendars")
    rival = desk.run(SCHEDULER_STATE_DIR=str(other), SCHEDULER_SOCKET=str(socket_of(desk)))
    assert rival.ended() == 1
    assert f"another scheduler answers at {socket_of(desk)}" in "".join(rival.messages)
    assert rival.seen("daemon.ready") == []
    assert desk.ask("reload").returncode == 0


def test_the_socket_of_a_killed_daemon_is_replaced_and_a_stopped_one_removes_its_own(desk: Desk) -> None:
    desk.tasks(manual(kept="same"))
    killed = desk.run()
    killed.wait_for("daemon.ready")
    killed.kill()
    assert socket_of(desk).exists()
    assert desk.ask("reload").returncode == 3
    daemon = desk.run()
    daemon.wait_for("daemon.ready")
    assert desk.ask("reload").returncode == 0
    assert daemon.stop() == 0
    assert not socket_of(desk).exists()


def test_a_client_that_hangs_does_not_hold_up_the_stop(desk: Desk, daemon: Daemon) -> None:
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.connect(str(socket_of(desk)))
        hanging.sendall(b"POST /api/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
        desk.ask("reload")
        daemon.send(signal.SIGTERM)
        daemon.wait_for("daemon.stopping")
        assert daemon.ended() == 0
    (stopped,) = daemon.seen("daemon.stopped")
    assert stopped["left_behind"] == []


def test_a_rehearsal_has_no_socket(desk: Desk) -> None:
    desk.tasks(ticking(kept="same"))
    rehearsal = desk.rehearse("2026-11-23T09:14:58+05:30", "--state", desk.state)
    rehearsal.wait_for("run.completed", task="kept")
    assert not socket_of(desk).exists()
    assert rehearsal.stop() == 0


def test_files_that_are_not_in_force_are_a_concern_until_they_are_mended(desk: Desk, daemon: Daemon) -> None:
    good = desk.tasks_file.read_text("utf-8")
    desk.tasks(good + "  kept: {}\n")
    assert desk.ask("reload").returncode == 78
    (concern,) = [each for each in readiness(desk)["concerns"] if each["kind"] == "files"]
    assert "tasks.yaml" in concern["what"]
    desk.tasks(good)
    assert desk.ask("reload").returncode == 0
    assert not [each for each in readiness(desk)["concerns"] if each["kind"] == "files"]


def test_a_reload_warns_of_a_task_that_cannot_be_run(desk: Desk, daemon: Daemon) -> None:
    desk.tasks(desk.tasks_file.read_text("utf-8") + "  nowhere: {run: 'no_such_module:work', every: 1m}\n")
    answer = desk.ask("reload")
    assert answer.returncode == 0
    assert "warning: nowhere cannot be run: " in answer.stderr


def test_at_its_end_nobody_is_waited_for_who_looks(desk: Desk) -> None:
    until = time.time_ns()
    records = eventful([f"task-{number}" for number in range(100)], until - 7 * DAY, until, 4_000)
    assert write_ledger(desk.state / "ledger.db", records) == 400_000
    desk.tasks("tasks: {fine: {command: ['true'], every: 12h}}\n")
    daemon = desk.run()
    daemon.wait_for("daemon.ready")
    since, now = (datetime.fromtimestamp(t / SECOND, UTC).date() for t in (until - 7 * DAY, until + DAY))
    path = f"/api/timeline?from={since}&until={now}&buckets=4000"
    asked = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with ExitStack() as stack:
        for _ in range(10):
            client = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
            client.connect(str(socket_of(desk)))
            client.sendall(asked)
        time.sleep(0.2)  # they are being answered
        assert daemon.stop() == 0
    assert daemon.seen("daemon.threads_left") == []
