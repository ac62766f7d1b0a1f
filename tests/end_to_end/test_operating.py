"""An operator at the command line: every live command as it is typed, what it says and exits with."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.daemon import PATIENCE, SCHEDULER, Daemon, Desk, eventually
from tests.end_to_end.terminal import ALTERNATE_SCREEN, CTRL_C, CURSOR_SHOWN, ORDINARY_SCREEN, Terminal

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
        (["pause", "fine", "--until", "25:00"], "T25:00' is not a time; write 2026-11-23T09:15"),
        (["pause", "fine", "--until", "00:00"], "until 00:00 is over already"),
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


class Listener:
    """`scheduler events` with these options, and the lines that it has printed."""

    def __init__(self, desk: Desk, *options: str) -> None:
        self.process = subprocess.Popen(
            [SCHEDULER, "events", *options], env=desk.environment(), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)

    def hears(self, poke: Callable[[], object], what: str) -> None:
        """Do something until it is heard: it may not be connected yet."""

        def heard() -> bool:
            poke()
            return any(what in line for line in self.lines)

        eventually(heard, f"{what} is heard")

    def ended(self) -> tuple[int, str]:
        """Exit status and complaints."""
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        with self.process.stdout, self.process.stderr:
            return status, self.process.stderr.read()


@pytest.mark.usefixtures("daemon")
def test_events_are_a_line_each_of_those_that_were_asked_for(desk: Desk) -> None:
    def poke() -> None:
        said(desk, "pause", "fine", "idle")
        said(desk, "resume", "fine", "idle")

    listener = Listener(desk, "--task", "fine", "--event", "task.")
    listener.hears(poke, "task.resumed")
    listener.process.send_signal(signal.SIGINT)
    assert listener.ended() == (0, "")
    line = re.compile(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+05:30 info     task\.(paused|resumed) +task=fine .*\n"
    )
    assert [each for each in listener.lines if not line.fullmatch(each)] == []


@pytest.mark.usefixtures("daemon")
def test_events_as_json_are_objects_with_the_runs_among_them_when_asked_for(desk: Desk) -> None:
    listener = Listener(desk, "--json", "--runs", "--level", "debug", "--task", "failing")
    listener.hears(lambda: desk.ask("run-now", "failing", "--wait"), '"run.failed"')
    listener.process.send_signal(signal.SIGINT)
    assert listener.ended() == (0, "")
    heard = [json.loads(line) for line in listener.lines]
    assert {each["task"] for each in heard} == {"failing"}
    runs = [each["status"] for each in heard if each["event"] == "run"]
    assert set(runs) == {"running", "failed"}
    (failed, *_) = [each for each in heard if each["event"] == "run.failed"]
    assert (failed["level"], failed["error"]) == ("error", "exit status 4: no feed")


@pytest.mark.usefixtures("daemon")
def test_events_of_a_task_that_is_none_are_refused(desk: Desk) -> None:
    assert refused(desk, "events", "--task", "fin") == (1, "no task is named 'fin'; did you mean 'fine'?\n")


# Without a daemon, and when it goes.


@pytest.fixture
def own(tmp_path: Path, calendars: Path) -> Iterator[Desk]:
    """A desk whose daemon comes and goes."""
    made = Desk(tmp_path, calendars)
    made.tasks(TASKS)
    try:
        yield made
    finally:
        made.close()


def started(desk: Desk) -> Daemon:
    daemon = desk.run()
    daemon.wait_for("daemon.ready")
    return daemon


def test_cancel_of_a_task_means_the_run_that_runs_and_then_the_one_that_waits(own: Desk) -> None:
    own.tasks("tasks: {slow: {command: [/bin/sleep, '600'], every: 12h, overlap: queue-one}}\n")
    daemon = started(own)
    first, waiting, next_ = [said(own, "run-now", "slow").split()[0] for _ in range(3)]
    assert said(own, "cancel", next_) == f"{next_} is being cancelled\n"
    later = said(own, "run-now", "slow").split()[0]
    assert said(own, "cancel", "slow") == f"{first} is being cancelled\n"
    eventually(lambda: len(cancelled(own)) == 2, "it is cancelled")
    assert said(own, "cancel", "slow") == f"{later} is being cancelled\n"
    eventually(lambda: len(cancelled(own)) == 3, "it is cancelled too")
    assert cancelled(own) == {first, next_, later}
    assert waiting not in cancelled(own)  # the next has taken its place
    assert daemon.stop() == 0


def test_what_the_daemon_has_loaded_is_not_looked_through_for_garbage_again(own: Desk) -> None:
    own.module(
        "work", "import gc\nasync def count(ctx):\n    ctx.cache['news'].put('n', gc.get_freeze_count())\n"
    )
    own.tasks("cache: {news: {ttl: 60s}}\ntasks: {count: {run: 'work:count', every: 12h}}\n")
    daemon = started(own)
    said(own, "run-now", "count", "--wait")
    assert int(said(own, "cache", "get", "news", "n")) > 10_000
    assert daemon.stop() == 0


def cancelled(desk: Desk) -> set[str]:
    return {row["run_id"] for row in desk.history("slow", "--status", "cancelled")}


def test_without_a_daemon_every_live_command_is_exit_3_and_says_where_it_looked(own: Desk) -> None:
    for answer in own.ask_all(LIVE):
        assert (answer.returncode, answer.stdout) == (3, ""), answer.args
        assert answer.stderr.startswith(f"no scheduler answers at {own.state / 'scheduler.sock'}: none runs")


def test_when_the_daemon_ends_events_end_but_for_those_that_follow(own: Desk) -> None:
    daemon = started(own)
    plain, following = Listener(own), Listener(own, "--follow")
    for listener in (plain, following):
        listener.hears(lambda: said(own, "run-now", "fine"), "operator.acted")
    assert daemon.stop() == 0
    status, complaint = plain.ended()
    assert (status, complaint.count("\n")) == (3, 1)
    assert "has ended the stream" in complaint
    daemon = started(own)
    following.hears(lambda: said(own, "run-now", "failing"), "task=failing")
    following.process.send_signal(signal.SIGINT)
    assert following.ended()[0] == 0
    assert daemon.stop() == 0


def test_whoever_waits_for_a_run_that_is_not_started_after_all_is_told(own: Desk) -> None:
    own.tasks(TASKS + '  behind: {command: [/bin/sleep, "600"], every: 12h, overlap: queue-one}\n')
    started(own)
    said(own, "run-now", "behind")
    for as_json in ([], ["--json"]):
        waiting = subprocess.Popen(
            [SCHEDULER, "run-now", "behind", "--wait", *as_json], env=own.environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert waiting.stdout is not None
        answer = waiting.stdout.readline()
        said(own, "run-now", "behind")  # takes its place
        told, complaint = waiting.communicate(timeout=PATIENCE)
        assert waiting.returncode == 1
        if as_json:
            assert (json.loads(answer)["outcome"], json.loads(told)["status"]) == ("queued", "skipped")
        else:
            assert answer.endswith(" is queued\n")
            assert complaint.endswith(" skipped (overlap)\n")


def test_when_the_daemon_is_killed_whoever_waits_for_a_run_is_told(own: Desk) -> None:
    daemon = started(own)
    waiting = subprocess.Popen(
        [SCHEDULER, "run-now", "slow", "--wait"], env=own.environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert waiting.stdout is not None
    assert waiting.stdout.readline().endswith(" is started\n")
    daemon.kill()
    _, complaint = waiting.communicate(timeout=PATIENCE)
    assert waiting.returncode == 3
    assert complaint.startswith("the scheduler at ")


# Live.


@pytest.fixture
def terminal(own: Desk) -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def open_with(*command: str) -> Terminal:
        made.append(Terminal([SCHEDULER, *command], own.environment()))
        return made[-1]

    yield open_with
    for each in made:
        each.close()


def test_the_live_view_follows_what_happens_and_outlives_the_daemon(
    own: Desk, terminal: Callable[..., Terminal]
) -> None:
    daemon = started(own)
    view = terminal("status", "--watch")
    view.wait_for("RESTARTS")
    assert ALTERNATE_SCREEN in view.written
    own.ask("run-now", "failing", "--wait")
    view.wait_for("exit status 4: no feed")
    own.ask("pause", "fine", "--reason", "to see it")
    view.wait_for("is paused until it is resumed")
    daemon.kill()
    view.wait_for("not reachable since ")
    daemon = started(own)
    view.wait_for(" ready · up ")
    view.type(CTRL_C)
    assert view.ended() == 0
    assert view.written.rindex(ORDINARY_SCREEN) > view.written.rindex("RESTARTS")
    assert CURSOR_SHOWN in view.written[view.written.rindex("RESTARTS") :]
    assert "Traceback" not in view.written
    assert daemon.stop() == 0


def test_the_live_view_of_a_task_waits_for_a_daemon_and_leaves_the_terminal_as_it_was_when_terminated(
    own: Desk, terminal: Callable[..., Terminal]
) -> None:
    view = terminal("status", "--watch", "fine")
    view.wait_for("not reachable since ")
    daemon = started(own)
    view.wait_for("important · NSE · every 12h")
    view.process.send_signal(signal.SIGTERM)
    assert view.ended() == 128 + signal.SIGTERM
    assert view.written.rstrip().endswith(CURSOR_SHOWN) or ORDINARY_SCREEN in view.written[-40:]
    assert daemon.stop() == 0


def test_there_are_colours_on_a_terminal_only_and_only_where_they_are_wanted(
    own: Desk, terminal: Callable[..., Terminal]
) -> None:
    daemon = started(own)
    coloured = terminal("status")
    coloured.ended()
    assert "\x1b[32mready" in coloured.written
    plain = Terminal([SCHEDULER, "status"], own.environment(NO_COLOR="1"))
    plain.ended()
    plain.close()
    assert " ready · up" in plain.written
    assert "\x1b[3" not in plain.written
    assert daemon.stop() == 0


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["people", "programs"])
def test_where_there_is_no_terminal_the_live_view_is_printed_again_and_again(
    desk: Desk, options: list[str]
) -> None:
    with subprocess.Popen(
        [SCHEDULER, "status", "--watch", *options], env=desk.environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        text = ""
        while text.count("TASK" if not options else '"uptime_seconds"') < 2:
            text += process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    assert "\x1b" not in text
    if options:
        assert [json.loads(line)["ready"] for line in text.splitlines()] == [True, True]


# Shells, and how long it takes to start.


def completed(desk: Desk, *words: str) -> list[str]:
    """What bash proposes for the last word."""
    script = (
        'source <(scheduler completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        '_scheduler_completion scheduler; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = f"{SCHEDULER.parent}:{os.environ['PATH']}"
    answer = subprocess.run(
        ["bash", "-c", script, "bash", "scheduler", *words], env=desk.environment(PATH=path),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert answer.stderr == ""
    return answer.stdout.split()


@pytest.mark.usefixtures("daemon")
def test_a_shell_completes_commands_tasks_runs_namespaces_and_events(desk: Desk) -> None:
    assert completed(desk, "re") == ["rehearse", "reload", "restart", "resume"]
    assert completed(desk, "pause", "f") == ["failing", "fine"]
    assert completed(desk, "history", "--task", "fi") == ["fine"]
    loop, run_id = completed(desk, "cancel", "loop")
    assert loop == "loop"
    assert run_id.startswith("loop-2")
    assert completed(desk, "cache", "get", "") == ["news"]
    assert completed(desk, "pause", "--market", "N") == ["NSE"]
    assert "task.parked" in completed(desk, "events", "--event", "task.p")


def test_without_a_daemon_a_shell_proposes_nothing(own: Desk) -> None:
    assert completed(own, "pause", "f") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(desk: Desk, shell: str) -> None:
    answer = subprocess.run(
        [SCHEDULER, "completion", shell], env=desk.environment(), capture_output=True, text=True, check=True
    )
    assert f"{shell}_complete" in answer.stdout


def loaded_by(desk: Desk, *command: str) -> set[str]:
    answer = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "scheduler", *command],
        env=desk.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    return set(re.findall(r"^import time:[^|]*\|[^|]*\|\s*(\S+)$", answer.stderr, re.MULTILINE))


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("command", [["status"], ["status", "fine"], ["cache", "stats"], ["acts"]])
def test_what_is_shown_loads_little(desk: Desk, command: list[str]) -> None:
    """What makes a command slow to start is what it imports."""
    loaded = loaded_by(desk, *command)
    assert {"http.client", "rich.table"} <= loaded
    assert HEAVY & loaded == set()


@pytest.mark.parametrize("command", LIVE, ids=" ".join)
def test_what_is_asked_loads_little(own: Desk, command: list[str]) -> None:
    loaded = loaded_by(own, *command)
    assert "http.client" in loaded
    assert (HEAVY | {"rich.console", "scheduler.core.messages"}) & loaded == set()
