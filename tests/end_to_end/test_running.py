"""``scheduler run``: what it says when it starts, what it runs, and how it stops."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.end_to_end.daemon import PATIENCE, Daemon, Desk, alive, eventually

TICKING = """
tasks:
  ticker: {command: [/bin/sh, -c, "echo tick >> @/ticks"], every: 1s}
"""
# A command whose grandchild would outlive it; both write down who they are.
FAMILY = """
tasks:
  family:
    command: [/bin/sh, -c, "echo $$ >> @/family.pid; sleep 600 & echo $! >> @/family.pid; wait"]
    keep_running: true
"""
STUBBORN = """
tasks:
  stubborn:
    command: [/bin/sh, -c, "trap '' TERM; echo $$ > @/stubborn.pid; while :; do sleep 1; done"]
    keep_running: true
    stop_grace: 10m
"""
FINISHING = """
tasks:
  finishing:
    command: [/bin/sh, -c, "touch @/begun; while [ ! -e @/go ]; do sleep 0.1; done; echo done > @/end"]
    every: 1s
    overlap: skip
    stop_grace: 60s
"""


def test_within_ten_seconds_it_says_what_it_loaded_the_phase_and_what_runs_next(desk: Desk) -> None:
    (desk.state / "calendars").unlink()  # not even a calendar is there yet
    desk.tasks(
        """
tasks:
  first: {command: ["true"], every: 1m}
  second: {command: ["true"], every: {open: 30s, closed: 30m}}
  off: {command: ["true"], every: 1m, enabled: false}
"""
    )
    began = datetime.now().astimezone()
    daemon = desk.run()
    loaded = daemon.wait_for("config.loaded")
    assert (loaded["tasks"], loaded["disabled"], loaded["markets"]) == (2, 1, ["NSE"])
    assert loaded["files"] == [str(desk.tasks_file)]

    ready = daemon.wait_for("daemon.ready")
    phase = re.fullmatch(r"([a-z-]+)(?: \((.+)\))? until (\S+)", ready["NSE"])
    assert phase is not None, ready["NSE"]
    name, reason, until = phase.groups()
    if name == "closed":  # whatever the day of this test: it says why
        assert reason
    assert datetime.fromisoformat(until) > datetime.fromisoformat(ready["timestamp"])
    assert datetime.fromisoformat(ready["timestamp"]) - began < timedelta(seconds=10)
    assert {line.split(" at ")[0] for line in ready["next"]} == {"first", "second"}
    for line in ready["next"]:
        due = datetime.fromisoformat(line.split(" at ")[1])
        assert due.utcoffset() == timedelta(hours=5, minutes=30)
    assert daemon.stop() == 0
    assert not daemon.messages


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_tasks_run_and_a_signal_stops_it_with_exit_0(desk: Desk, number: signal.Signals) -> None:
    desk.tasks(TICKING)
    daemon = desk.run()
    daemon.wait_for("run.completed", task="ticker")
    assert daemon.stop(number) == 0
    assert daemon.seen("daemon.stopping")
    assert daemon.log[-1]["event"] == "daemon.stopped"
    assert not daemon.messages
    rows = desk.history("ticker")
    assert {row["status"] for row in rows} == {"completed"}
    assert len(rows) == len(desk.lines("ticks")) >= 1


def test_an_ignored_sigchld_that_it_was_started_with_does_not_hide_failures(desk: Desk) -> None:
    desk.tasks('tasks:\n  bad: {command: ["false"], every: 1s}\n  good: {command: ["true"], every: 1s}\n')
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # survives execve(2)
    try:
        daemon = desk.run()
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert daemon.wait_for("run.failed", task="bad")["error"] == "exit status 1"
    daemon.find("run.completed", task="good")
    assert daemon.stop() == 0


@contextmanager
def loading(desk: Desk) -> Iterator[Daemon]:
    """A daemon that is kept in the middle of its start."""
    desk.tasks(TICKING)
    slow = desk.state / "amendments" / "amendments.log"
    slow.parent.mkdir()
    os.mkfifo(slow)
    daemon = desk.run()
    with slow.open("w"):  # waits for the reader, who then waits for the end
        yield daemon
    slow.unlink()


def test_a_stop_during_the_start_begins_nothing_and_exits_with_0(desk: Desk) -> None:
    with loading(desk) as daemon:
        daemon.send(signal.SIGTERM)
    assert daemon.ended() == 0
    assert [entry["event"] for entry in daemon.log] == ["daemon.stopping"]
    assert not daemon.messages
    assert not desk.lines("ticks")


def test_a_second_signal_during_the_start_ends_it_at_once(desk: Desk) -> None:
    with loading(desk) as daemon:
        daemon.send(signal.SIGINT)
        assert daemon.insist(signal.SIGINT) == 130
    assert not daemon.messages


def test_a_reload_asked_for_during_the_start_does_not_end_it(desk: Desk) -> None:
    with loading(desk) as daemon:
        daemon.send(signal.SIGHUP)
    daemon.wait_for("run.completed", task="ticker")
    assert daemon.stop() == 0


def test_a_stop_lets_a_running_task_finish_and_says_that_it_waited_for_it(desk: Desk) -> None:
    desk.tasks(FINISHING)
    daemon = desk.run()
    daemon.wait_for("daemon.ready")
    eventually(desk.file("begun").exists, "the task began")
    daemon.send(signal.SIGTERM)
    stopping = daemon.wait_for("daemon.stopping")
    [waiting] = stopping["waiting_for"]
    assert waiting.startswith("finishing-")
    desk.file("go").touch()
    assert daemon.ended() == 0
    [stopped] = daemon.seen("daemon.stopped")
    assert (stopped["waited_for"], stopped["left_behind"]) == ([waiting], [])
    assert desk.lines("end") == ["done"]
    [row] = desk.history("finishing", "--status", "completed")
    assert row["run_id"] == waiting


def test_a_stop_leaves_no_process_behind_not_even_grandchildren(desk: Desk) -> None:
    desk.tasks(FAMILY)
    daemon = desk.run()
    daemon.wait_for("daemon.ready")
    eventually(lambda: len(desk.lines("family.pid")) == 2, "both processes run")
    pids = [int(line) for line in desk.lines("family.pid")]
    assert all(map(alive, pids))
    assert daemon.stop() == 0
    eventually(lambda: not any(map(alive, pids)), "both processes have ended")
    [row] = desk.history("family")
    assert (row["status"], row["reason"]) == ("cancelled", "stopped")


def test_a_command_that_ends_takes_what_it_started_with_it(desk: Desk) -> None:
    desk.tasks(
        """
tasks:
  forgetful: {command: [/bin/sh, -c, "sleep 600 & echo $! > @/child.pid"], every: 1s, overlap: skip}
"""
    )
    daemon = desk.run()
    daemon.wait_for("run.completed", task="forgetful")
    daemon.stop()
    [pid] = [int(line) for line in desk.lines("child.pid")]
    assert not alive(pid)


def test_a_second_signal_ends_all_at_once_while_a_task_ignores_the_first(desk: Desk) -> None:
    """At once: within the patience of this test, not in the ten minutes of the task's grace."""
    desk.tasks(STUBBORN)
    daemon = desk.run()
    daemon.wait_for("daemon.ready")
    eventually(lambda: desk.lines("stubborn.pid"), "the task ignores SIGTERM by now")
    daemon.send(signal.SIGINT)
    daemon.wait_for("daemon.stopping")
    assert daemon.insist(signal.SIGINT) not in {0, 78}
    assert not daemon.seen("daemon.stopped")
    [pid] = [int(line) for line in desk.lines("stubborn.pid")]
    eventually(lambda: not alive(pid), "the command has ended")


def test_a_signal_while_it_still_starts_stops_it_too(desk: Desk) -> None:
    desk.tasks(TICKING)
    daemon = desk.run()
    daemon.wait_for("config.loaded")
    assert daemon.stop() == 0
    assert daemon.seen("daemon.stopped")


def test_one_failing_task_does_not_stop_another(desk: Desk) -> None:
    desk.tasks(
        """
tasks:
  failing: {command: [/bin/sh, -c, "echo the reason >&2; exit 3"], every: 1s, priority: critical}
  steady: {command: ["true"], every: 1s}
"""
    )
    daemon = desk.run()
    failed = daemon.wait_for("run.failed", task="failing")
    assert failed["error"] == "exit status 3: the reason"
    restarting = daemon.wait_for("task.restarting", task="failing")
    assert restarting["attempt"] == 2
    daemon.wait_for("run.completed", task="steady")
    assert daemon.stop() == 0


OLD_MARKET = """
markets:
  OLD:
    timezone: Asia/Kolkata
    weekdays: mon-sun
    hours: [{phases: {open: "00:00..23:59"}}]
    known_until: 2020-12-31
    beyond_horizon: refuse
"""


def test_on_a_market_that_refuses_nothing_is_started_and_systemd_is_told_so(
    desk: Desk, tmp_path: Path
) -> None:
    desk.tasks('tasks:\n  tick: {command: [touch, "@/ran"], every: 1s, market: OLD}\n')
    (desk.config / "markets.yaml").write_text(OLD_MARKET, "utf-8")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        daemon = desk.run(NOTIFY_SOCKET=str(tmp_path / "notify"))
        told = manager.recv(4096).decode()
        daemon.wait_for("run.missed", task="tick", reason="refused")
        eventually(lambda: sum(row["count"] for row in desk.history("tick")) > 1, "ticks are recorded")
        assert daemon.stop() == 0
    why = "OLD: its calendar was known until 2020-12-31; now nothing is started"
    assert told.startswith("READY=1\nSTATUS=OLD closed (beyond the known calendar) ")
    assert told.endswith(f" · not ready: {why}")
    [row] = desk.history("tick")
    assert (row["status"], row["reason"], row["assumed"]) == ("missed", "refused", True)
    assert not desk.file("ran").exists()
