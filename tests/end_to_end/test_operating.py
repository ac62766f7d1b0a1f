"""An operator at the command line: every live command as it is typed, what it says and exits with."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.daemon import SCHEDULER, Daemon, Desk, eventually

ME = pwd.getpwuid(os.geteuid()).pw_name
LONG = "the-order-gateway-heartbeat-of-the-primary-and-the-secondary-lin"
TASKS = f"""
timezone: Asia/Kolkata
cache: {{news: {{ttl: 60s}}}}
tasks:
  fine: {{command: ["true"], every: 12h}}
  failing: {{command: [/bin/sh, -c, "echo no feed >&2; exit 4"], every: 12h, restart: never}}
  slow: {{command: [/bin/sleep, "600"], every: 12h}}
  loop: {{command: [/bin/sleep, "600"], keep_running: true, priority: critical}}
  idle: {{command: ["true"], on: [clock.stepped], priority: nice-to-have}}
  {LONG}: {{command: ["true"], every: 12h, priority: nice-to-have}}
  off: {{command: ["true"], every: 12h, enabled: false}}
"""
LIVE = [
    ["status"], ["status", "fine"], ["status", "--json"], ["events"], ["acts"],
    ["run-now", "fine"], ["run-now", "fine", "--wait"], ["pause", "fine"], ["resume", "fine"],
    ["restart", "fine"], ["cancel", "fine"], ["cancel", "fine-20261126T034600Z"], ["reload"],
    ["backfill", "fine", "--from", "2026-11-23", "--until", "2026-11-24"],
    ["cache", "get", "news", "k"], ["cache", "put", "news", "k", "1"], ["cache", "delete", "news", "k"],
    ["cache", "stats"],
]  # fmt: skip
HEAVY = {
    "asyncio", "exchange_calendars", "numpy", "pandas", "psutil", "pydantic", "pydantic_settings", "sqlite3",
    "starlette", "structlog", "uvicorn", "uvloop", "yaml",
}  # fmt: skip


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, calendars: Path) -> Iterator[Desk]:
    made = Desk(tmp_path_factory.mktemp("operating"), calendars)
    made.tasks(TASKS)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def daemon(desk: Desk) -> Iterator[Daemon]:
    started = desk.run()
    started.wait_for("daemon.ready")
    yield started
    assert started.stop() == 0
    assert not started.messages


def said(desk: Desk, *command: str, **environment: str) -> str:
    """What a command that succeeds prints; it has no complaints."""
    answer = desk.ask(*command, **environment)
    assert (answer.returncode, answer.stderr) == (0, "")
    return answer.stdout


def refused(desk: Desk, *command: str) -> tuple[int, str]:
    """Exit status and complaint of a command that prints nothing."""
    answer = desk.ask(*command)
    assert answer.stdout == ""
    return answer.returncode, answer.stderr


# Looking.


@pytest.mark.usefixtures("daemon")
def test_status_shows_markets_health_and_every_task_in_80_columns(desk: Desk) -> None:
    lines = said(desk, "status").splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "".join(lines)
    assert lines[0].startswith("NSE  ")
    assert re.search(r"\d\d:\d\d:\d\d ready · up \S+ · 7 tasks, \d running · \d/64 slots", lines[1])
    table = lines[next(index for index, line in enumerate(lines) if line.startswith("TASK")) + 1 :]
    assert [line.split()[:3] for line in table] == [
        ["loop", "crit", "running"], ["failing", "imp", "waiting"], ["fine", "imp", "waiting"],
        ["off", "imp", "disabled"], ["slow", "imp", "waiting"], ["idle", "nice", "waiting"],
        [table[-1].split()[0], "nice", "waiting"],
    ]  # fmt: skip
    assert re.fullmatch(f"{LONG[:16]}[a-z-]*…", table[-1].split()[0])


@pytest.mark.usefixtures("daemon")
def test_status_as_json_is_all_that_the_daemon_tells(desk: Desk) -> None:
    (system,) = desk.rows("status")
    assert system["ready"]
    assert {task["task"] for task in system["tasks"]} >= {"fine", "off", LONG}
    (detail,) = desk.rows("status", "fine")
    assert detail["status"]["trigger"] == "every 12h"


@pytest.mark.usefixtures("daemon")
def test_status_of_a_task_says_all_about_it_with_its_errors(desk: Desk) -> None:
    assert desk.ask("run-now", "failing", "--wait").returncode == 1
    text = said(desk, "status", "failing")
    assert "important · NSE · every 12h" in text
    assert "failing does not run at " in re.sub(r"\s+", " ", text)
    assert re.search(r"failed +\d+ms +manual +exit status 4: no feed", text)
    assert "exit status 4: no feed" in said(desk, "status")
    assert refused(desk, "status", "fin") == (1, "no task is named 'fin'; did you mean 'fine'?\n")


@pytest.mark.usefixtures("daemon")
def test_a_terminal_that_cannot_show_a_character_gets_another(desk: Desk) -> None:
    answer = subprocess.run(
        [SCHEDULER, "status"],
        env=desk.environment(PYTHONIOENCODING="ascii"),
        capture_output=True,
        check=False,
    )
    assert (answer.returncode, answer.stderr) == (0, b"")
    assert b"the-order" in answer.stdout


# Acting.


def test_run_now_starts_a_run_and_wait_tells_how_it_ended(desk: Desk, daemon: Daemon) -> None:
    assert re.fullmatch(r"fine-\d{8}T\d{6}\.\d+Z is started\n", said(desk, "run-now", "fine"))
    started, ended = said(desk, "run-now", "fine", "--wait", "--reason", "to see it").splitlines()
    assert re.fullmatch(r"fine-\S+Z completed after \d+ms", ended)
    assert ended.split()[0] == started.split()[0]
    failed = desk.ask("run-now", "failing", "--wait")
    assert (failed.returncode, failed.stdout.count("\n")) == (1, 1)
    assert re.fullmatch(r"failing-\S+Z failed after \d+ms: exit status 4: no feed\n", failed.stderr)
    answer = desk.ask("run-now", "failing", "--wait", "--json")
    ran, run = map(json.loads, answer.stdout.splitlines())
    assert (answer.returncode, answer.stderr, run["status"], run["run_id"]) == (
        1,
        "",
        "failed",
        ran["run_id"],
    )
    acted = daemon.find("operator.acted", action="run-now", reason="to see it")
    assert (acted["by"], acted["task"]) == (ME, "fine")


@pytest.mark.usefixtures("daemon")
def test_run_now_that_starts_nothing_fails_and_says_why(desk: Desk) -> None:
    said(desk, "run-now", "slow")
    assert refused(desk, "run-now", "slow") == (1, "slow was not started: overlap\n")
    assert refused(desk, "run-now", "slow", "--wait") == (1, "slow was not started: overlap\n")
    assert refused(desk, "run-now", "loop") == (1, "loop was not started: overlap\n")
    said(desk, "cancel", "slow")
    assert refused(desk, "run-now", "off") == (1, "off is disabled (enabled: false)\n")
    assert refused(desk, "run-now", "fin")[0] == 1
    assert refused(desk, "run-now")[0] == 2


@pytest.mark.usefixtures("daemon")
def test_cancel_takes_a_run_or_the_task_whose_run_it_is(desk: Desk) -> None:
    eventually(lambda: not desk.ask("cancel", "slow").stdout, "none is left of another test")
    run_id = said(desk, "run-now", "slow").split()[0]
    assert said(desk, "cancel", "slow", "--reason", "wrong day") == f"{run_id} is being cancelled\n"
    eventually(lambda: desk.history("slow")[-1]["status"] == "cancelled", "it is cancelled")
    assert refused(desk, "cancel", "slow") == (1, "no run of slow is active\n")
    assert refused(desk, "cancel", run_id) == (1, f"{run_id} is not running: it is cancelled\n")
    assert refused(desk, "cancel", "slo") == (1, "no task is named 'slo'; did you mean 'slow'?\n")
    run_id = said(desk, "run-now", "slow").split()[0]
    assert said(desk, "cancel", run_id) == f"{run_id} is being cancelled\n"


@pytest.mark.usefixtures("daemon")
def test_restart_ends_the_run_of_a_loop_and_starts_it_again(desk: Desk) -> None:
    (before,) = [run for run in desk.rows("status")[0]["active"] if run["task"] == "loop"]
    assert said(desk, "restart", "loop") == f"loop is restarted: {before['run_id']} is being ended\n"

    def is_new() -> bool:
        return any(
            run["task"] == "loop" and run["run_id"] != before["run_id"] and run["state"] == "running"
            for run in desk.rows("status")[0]["active"]
        )

    eventually(is_new, "another run of it")
    assert said(desk, "restart", "fine") == "fine had no run to end\n"


@pytest.mark.usefixtures("daemon")
def test_pause_and_resume_are_of_tasks_a_priority_a_market_or_all(desk: Desk) -> None:
    assert (
        said(desk, "pause", "fine", "idle")
        == "fine is paused until it is resumed\nidle is paused until it is resumed\n"
    )
    assert re.search(r"^fine +is paused until it is resumed *$", said(desk, "status"), re.MULTILINE)
    resumed = said(desk, "resume", "fine")
    assert re.fullmatch(r"fine was paused; due next at \S+\n", resumed)
    (paused,) = desk.rows("pause", "--priority", "nice-to-have", "--until", "2099-01-01")
    assert (paused["tasks"], paused["until"]) == (["idle", LONG], "2099-01-01T00:00:00+05:30")
    assert [row["task"] for row in desk.rows("resume", "--market", "NSE")] == ["idle", LONG]
    nobody = desk.ask("resume", "--all")
    assert (nobody.returncode, nobody.stdout) == (0, "")
    assert nobody.stderr == "none of these tasks is parked, crash-looping or paused\n"
    (paused,) = desk.rows("pause", "--all", "--reason", "lunch")
    assert len(paused["tasks"]) == 6
    said(desk, "resume", "--all")


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (["pause"], "name tasks, or give exactly one of --priority, --market and --all"),
        (["resume", "fine", "--all"], "name tasks, or give exactly one of --priority, --market and --all"),
        (["pause", "fine", "--until", "yesterday"], "'yesterday' is not a time"),
        (["pause", "fine", "--until", "25:00"], "'25:00' is no time of day; write 15:30"),
        (["pause", "fine", "--until", "00:00"], "00:00 is over today; write the date too"),
        (["pause", "fine", "--until", "2026-01-01"], "is over already"),
        (["pause", "--priority", "urgent"], "'urgent' is not one of 'critical', 'important', 'nice-to-have'"),
        (["resume", "--market", "XYZ"], "no task goes by a market 'XYZ'"),
        (["backfill", "fine"], "both --from and --until are needed, or --stop"),
        (["backfill", "fine", "--stop", "--from", "2026-11-23"], "--stop goes without --from and --until"),
        (["backfill", "fine", "--from", "2026-11-24", "--until", "2026-11-23"], "is before"),
        (["cache", "put", "news", "k", "1", "--ttl", "5M"], "'5M' is not a duration"),
        (["events", "--event", "task.parkd"], "there is no event 'task.parkd'; did you mean 'task.parked'?"),
        (["status", "--wach"], "No such option '--wach'"),
        (["reload", "--reason", "a\x1b[2Jb"], "cannot be printed"),
    ],
)  # fmt: skip
def test_what_is_called_wrongly_is_exit_2_and_a_sentence(
    desk: Desk, command: list[str], complaint: str
) -> None:
    status, text = refused(desk, *command)
    assert status == 2
    assert complaint in text
    assert "Traceback" not in text


@pytest.mark.usefixtures("daemon")
def test_backfill_makes_the_runs_that_did_not_complete_and_counts_those_that_did(desk: Desk) -> None:
    stretch = ("backfill", "fine", "--from", "2026-11-20", "--until", "2026-11-22")
    answer = said(desk, *stretch)
    assert answer == (
        "fine: 4 runs are being made, from 2026-11-20T00:00:00+05:30 to 2026-11-21T12:00:00+05:30; "
        "none had completed before\n"
    )
    known = ("--from", "2026-11-20", "--until", "2026-11-22", "--status", "completed")
    eventually(lambda: len(desk.history("fine", *known)) == 4, "they are made")
    assert said(desk, *stretch) == "fine: there is nothing to make up for, 4 completed before\n"
    assert said(desk, "backfill", "fine", "--stop") == "fine: no more runs of the past are made\n"
    assert refused(desk, "backfill", "loop", *stretch[2:])[0] == 1


@pytest.mark.usefixtures("daemon")
def test_acts_are_who_did_what_and_why_the_newest_last(desk: Desk) -> None:
    said(desk, "pause", "idle", "--reason", "the feed is down")
    said(desk, "resume", "idle", "--reason", "it is back")
    said(desk, "reload", "--reason", "new hours")
    acts = desk.rows("acts", "--last", "3")
    assert [(act["action"], act["task"], act["by"], act["reason"]) for act in acts] == [
        ("pause", "idle", ME, "the feed is down"),
        ("resume", "idle", ME, "it is back"),
        ("reload", "", ME, "new hours"),
    ]
    table = said(desk, "acts").splitlines()
    assert max(map(len, table)) <= 80
    assert table[-1].split()[2:] == [ME, "reload", "new", "hours"]


# The cache.


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize(
    ("value", "printed", "as_json"),
    [
        ('{"a": [1, null]}', '{"a": [1, null]}', '{"a": [1, null]}'),
        ("plain words", "plain words", '"plain words"'),
        ('"quoted"', "quoted", '"quoted"'),
        ("-1.5", "-1.5", "-1.5"),
        ("NaN", "NaN", '"NaN"'),
        ("ключ …", "ключ …", '"ключ …"'),
    ],
)
def test_a_value_that_is_put_is_got(desk: Desk, value: str, printed: str, as_json: str) -> None:
    assert said(desk, "cache", "put", "news", "quotes/NIFTY 50?", value) == ""
    assert said(desk, "cache", "get", "news", "quotes/NIFTY 50?") == f"{printed}\n"
    assert said(desk, "cache", "get", "news", "quotes/NIFTY 50?", "--json") == f"{as_json}\n"


@pytest.mark.usefixtures("daemon")
def test_the_cache_reads_standard_input_counts_and_forgets(desk: Desk) -> None:
    put = subprocess.run(
        [SCHEDULER, "cache", "put", "news", "k", "-", "--string", "--ttl", "30s", "--json"],
        env=desk.environment(), input="5\n", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(put.stdout) == {"namespace": "news", "key": "k"}
    assert said(desk, "cache", "get", "news", "k", "--json") == '"5"\n'
    (row,) = desk.rows("cache", "stats")
    assert (row["namespace"], row["ttl_seconds"]) == ("news", 60.0)
    assert re.search(r"^news +1m +\d+ +10000", said(desk, "cache", "stats"), re.MULTILINE)
    said(desk, "cache", "delete", "news", "k")
    assert refused(desk, "cache", "get", "news", "k") == (1, "news has no value for 'k'\n")
    assert refused(desk, "cache", "get", "mews", "k")[0] == 1


# What happens.


def listening(desk: Desk, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [SCHEDULER, "events", *options], env=desk.environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.usefixtures("daemon")
def test_events_are_a_line_each_of_those_that_were_asked_for(desk: Desk) -> None:
    with (
        listening(desk, "--task", "fine", "--event", "task.") as people,
        listening(desk, "--json", "--runs") as all_of_it,
    ):
        heard: list[str] = []

        def something_heard() -> bool:
            """The first to connect may not be there yet."""
            desk.ask("pause", "fine")
            desk.ask("run-now", "failing")
            desk.ask("resume", "fine")
            return desk.ask("pause", "fine").returncode == 0

        eventually(something_heard, "they listen")
        assert people.stdout is not None
        assert all_of_it.stdout is not None
        heard.append(people.stdout.readline())
        objects = [json.loads(all_of_it.stdout.readline()) for _ in range(6)]
        people.send_signal(signal.SIGINT)
        all_of_it.send_signal(signal.SIGTERM)
    desk.ask("resume", "fine")
    assert re.match(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+05:30 info     task\.(paused|resumed) +task=fine", heard[0]
    )
    assert people.returncode == 0
    assert {each["event"] for each in objects} & {"run", "operator.acted"}


@pytest.mark.usefixtures("daemon")
def test_events_of_a_task_that_is_none_are_refused(desk: Desk) -> None:
    assert refused(desk, "events", "--task", "fin") == (1, "no task is named 'fin'; did you mean 'fine'?\n")
