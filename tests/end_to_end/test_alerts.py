"""The real daemon tells a real server of a crash loop and its end, and of its own start and stop."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.end_to_end.daemon import Desk, eventually
from tests.receiver import Receiver, status

FEED = """
tasks:
  feed:
    command: [/bin/sh, -c, "test -e @/good"]
    every: 1s
    priority: critical
    restart: {policy: always, burst: 2, window: 60s, then: keep_trying}
"""
QUIET = """
tasks:
  quiet: {command: ["true"], cron: "0 2 1 1 *"}
"""
DAEMON = "daemon.ready, daemon.stopping, daemon.stopped"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def webhook(receiver: Receiver, wanted: str) -> str:
    return f"alerts:\n  - {{webhook: '{receiver.url}', events: [{wanted}]}}\n"


def told(receiver: Receiver) -> list[str]:
    return [letter["event"] for letter in receiver.letters]


def test_a_crash_loop_and_its_end_are_told(desk: Desk, receiver: Receiver) -> None:
    desk.tasks(FEED + webhook(receiver, f"task.crash_looping, {DAEMON}"))
    daemon = desk.run()
    eventually(lambda: "task.crash_looping" in told(receiver), "the crash loop is told")
    desk.file("good").touch()
    eventually(lambda: "task.recovered" in told(receiver), "the recovery is told")
    assert daemon.stop() == 0
    assert told(receiver) == [
        "daemon.ready", "task.crash_looping", "task.recovered", "daemon.stopping", "daemon.stopped",
    ]  # fmt: skip
    looping, recovered = receiver.letters[1:3]
    assert (looping["task"], looping["recovered"], recovered["recovered"]) == ("feed", False, True)
    assert "feed fails again and again" in looping["summary"]
    assert looping["fields"]["priority"] == "critical"
    assert not daemon.seen("alert.failed")


def test_a_restart_is_told_also_after_a_kill(desk: Desk, receiver: Receiver) -> None:
    desk.tasks(QUIET + webhook(receiver, DAEMON))
    killed = desk.run()
    eventually(lambda: told(receiver) == ["daemon.ready"], "the start is told")
    killed.kill()
    again = desk.run()
    eventually(lambda: told(receiver) == ["daemon.ready"] * 2, "the restart is told")
    assert again.stop() == 0


def test_heartbeats_come_while_the_daemon_is_healthy(desk: Desk, receiver: Receiver) -> None:
    desk.tasks(QUIET + f"alerts: [{{heartbeat: '{receiver.url}'}}]\n")
    daemon = desk.run()
    eventually(lambda: receiver.got, "a heartbeat comes")
    assert daemon.stop() == 0
    assert [(method, path) for method, path, _, _ in receiver.got] == [("GET", "/hook?token=secret")]


def test_heartbeats_are_withheld_while_what_is_due_is_not_started(desk: Desk, receiver: Receiver) -> None:
    (desk.config / "markets.yaml").write_text(
        "markets: {DESK: {timezone: Asia/Kolkata, weekdays: mon-sun,"
        " hours: [{phases: {open: '00:00..23:59'}}], known_until: 2024-12-31, beyond_horizon: refuse}}\n",
        "utf-8",
    )
    desk.tasks(
        'tasks: {tick: {command: ["true"], every: 1m, market: DESK}}\n'
        + webhook(receiver, "heartbeat.withheld")
        + f"  - {{heartbeat: '{receiver.url}'}}\n"
    )
    daemon = desk.run()
    assert "DESK" in daemon.wait_for("heartbeat.withheld")["reason"]
    eventually(lambda: told(receiver) == ["heartbeat.withheld"], "that is told")
    assert daemon.stop() == 0
    assert [method for method, _, _, _ in receiver.got] == ["POST"]


def test_a_sink_that_hangs_delays_neither_the_work_nor_the_stop_beyond_its_grace(
    desk: Desk, receiver: Receiver
) -> None:
    receiver.answer = receiver.hang
    desk.tasks(
        'tasks:\n  tick: {command: [/bin/sh, -c, "echo x >> @/ticks"], every: 1s}\n'
        + webhook(receiver, DAEMON)
    )
    daemon = desk.run()
    eventually(lambda: receiver.got, "the sink is called, and hangs")
    seen = len(desk.lines("ticks"))
    eventually(lambda: len(desk.lines("ticks")) > seen + 1, "the task goes on")
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 30
    dropped = daemon.find("alert.dropped")
    assert (dropped["count"], dropped["reason"]) == (3, "the scheduler stopped")


def test_an_outage_is_said_once_and_without_what_the_url_holds(desk: Desk, receiver: Receiver) -> None:
    receiver.answer = status(500)
    desk.tasks(FEED + webhook(receiver, f"task.crash_looping, {DAEMON}"))
    daemon = desk.run()
    eventually(lambda: len(receiver.got) >= 3, "it is tried again")
    receiver.answer = status(200)
    daemon.wait_for("alert.recovered")
    assert daemon.stop() == 0
    [failed] = daemon.seen("alert.failed")
    assert (failed["sink"], failed["error"]) == (f"127.0.0.1:{receiver.port}", "it answers 500")
    assert "secret" not in repr(daemon.log) + repr(daemon.messages)
    assert {"daemon.ready", "task.crash_looping", "daemon.stopped"} <= set(told(receiver))


def test_a_reload_takes_changed_alerts(desk: Desk, receiver: Receiver) -> None:
    desk.tasks(QUIET)
    daemon = desk.run()
    daemon.wait_for("daemon.ready")
    desk.tasks(QUIET + webhook(receiver, "config.reloaded, config.rejected"))
    assert daemon.wait_for("config.reloaded")["settings"] == ["alerts"]
    eventually(lambda: told(receiver) == ["config.reloaded"], "the new sink is told of its own coming")
    desk.tasks("tasks: {quiet: {}}")
    eventually(lambda: told(receiver)[1:] == ["config.rejected"], "the mistake is told")
    assert daemon.stop() == 0


def test_a_command_is_told(desk: Desk) -> None:
    page = "{command: [/bin/sh, -c, 'cat > \"$0\"; echo \"$1\" >> @/pages', '@/json', '{event} {summary}']"
    desk.tasks(QUIET + f"alerts:\n  - {page}, events: daemon.ready}}\n")
    daemon = desk.run()
    eventually(lambda: desk.lines("pages"), "the command is started")
    assert daemon.stop() == 0
    assert desk.lines("pages") == ["daemon.ready the scheduler has started"]
    assert '"event": "daemon.ready"' in desk.file("json").read_text("utf-8")


def test_a_rehearsal_tells_nobody_and_says_so(desk: Desk, receiver: Receiver) -> None:
    heartbeat = f"  - {{heartbeat: '{receiver.url}'}}\n"
    desk.tasks(FEED + webhook(receiver, f"task.crash_looping, {DAEMON}") + heartbeat)
    rehearsal = desk.live("2026-11-23T10:00", "--until", "2026-11-23T10:00:20", "--speed", "10")
    assert rehearsal.ended() == 0
    assert rehearsal.seen("task.crash_looping")
    [withheld] = rehearsal.seen("alert.withheld")
    assert (withheld["alerts"], withheld["rehearsal"]) == (2, True)
    assert receiver.got == []


def test_check_finds_a_command_that_is_not_there(desk: Desk) -> None:
    desk.tasks(QUIET + "alerts:\n  - {command: [/no/such/pager, '{task}'], events: task.stale}\n")
    answer = desk.ask("check")
    assert answer.returncode == 78
    assert f"{desk.tasks_file}:5:15: command: /no/such/pager: no such program" in answer.stderr
