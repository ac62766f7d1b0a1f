"""Tasks that are programs: what they are told, what becomes of their output, and how they end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.daemon import Daemon, Desk, alive, eventually

DUE = "2026-11-23T10:00:00+05:30"
TASKS = """
tasks:
  told:
    command: [/usr/bin/printf, "%s\\n", "{task}", "{session}", "{due}", "{phase}", "{attempt}",
              "{priority}", "{market}", "{run_id}", "{{braces}}", "$HOME; ls"]
    at: "10:00"
    priority: critical
  environment:
    command: [/bin/sh, -c, "env > @/environment; pwd > @/directory"]
    at: "10:00"
    env: {DESK: "one two"}
    working_directory: /usr
  talkative:
    command: [/bin/sh, -c, "echo to stdout; echo to stderr >&2; printf 'caf\\\\303\\\\251, no newline'"]
    at: "10:00"
  failing:
    command: [/bin/sh, -c, "echo working; echo the disk is full >&2; exit 4"]
    at: "10:00"
    restart: never
  killed:
    command: [/bin/sh, -c, "kill -KILL $$"]
    at: "10:00"
    restart: never
  absent:
    command: [/no/such/program]
    at: "10:00"
    restart: never
  hanging:
    command: [/bin/sh, -c, "trap '' TERM; sleep 600 & echo $! $$ > @/hanging.pid; while :; do sleep 1; done"]
    at: "10:00"
    timeout: 1s
    stop_grace: 1s
    restart: never
  pager:
    command: [/bin/sh, -c, 'echo "$1 $2" >> @/pages', pager, "{event}", "{task}"]
    on: [run.failed]
    overlap: queue-one
  follower:
    command: [/bin/sh, -c, 'echo "$1" >> @/follower', follower, "{due}"]
    after: environment
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, calendars: Path) -> Iterator[Desk]:
    made = Desk(tmp_path_factory.mktemp("commands"), calendars)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def daemon(desk: Desk) -> Daemon:
    """It has run all of them once, at ten, ten times as fast, and has ended."""
    desk.tasks(TASKS)
    running = desk.live("2026-11-23T09:59:55+05:30", "--speed", "10")
    for task in ("told", "environment", "talkative", "follower"):
        running.find("run.completed", task=task)
    for task in ("failing", "killed", "absent", "hanging"):
        running.find("run.failed", task=task)
    eventually(lambda: "run.failed hanging" in desk.lines("pages"), "the last failure is paged")
    assert running.stop() == 0
    return running


def output(daemon: Daemon, task: str) -> list[str]:
    return [entry["line"] for entry in daemon.seen("run.output", task=task)]


def test_templates_are_filled_in_and_nothing_goes_through_a_shell(daemon: Daemon) -> None:
    [run_id] = {entry["run_id"] for entry in daemon.seen("run.output", task="told")}
    facts = ["told", "2026-11-23", DUE, "open", "1", "critical", "NSE", run_id]
    assert output(daemon, "told") == [*facts, "{braces}", "$HOME; ls"]


def test_the_same_arrives_in_the_environment(desk: Desk, daemon: Daemon) -> None:
    variables = dict(line.split("=", 1) for line in desk.lines("environment"))
    [run] = desk.history("environment")
    expected = {
        "SCHEDULER_TASK": "environment",
        "SCHEDULER_SESSION": "2026-11-23",
        "SCHEDULER_DUE": DUE,
        "SCHEDULER_PHASE": "open",
        "SCHEDULER_ATTEMPT": "1",
        "SCHEDULER_PRIORITY": "important",
        "SCHEDULER_MARKET": "NSE",
        "SCHEDULER_RUN_ID": run["run_id"],
        "DESK": "one two",
    }
    assert {name: variables.get(name) for name in expected} == expected
    assert desk.lines("directory") == ["/usr"]


def test_output_appears_in_the_log_line_by_line(daemon: Daemon) -> None:
    assert sorted(output(daemon, "talkative")) == ["café, no newline", "to stderr", "to stdout"]


def test_a_failure_says_its_status_and_the_last_line_in_log_and_ledger(desk: Desk, daemon: Daemon) -> None:
    [failed] = daemon.seen("run.failed", task="failing")
    assert failed["error"] == "exit status 4: the disk is full"
    [row] = desk.history("failing")
    assert (row["status"], row["reason"], row["error"]) == ("failed", "error", failed["error"])
    [failed] = daemon.seen("run.failed", task="killed")
    assert failed["error"] == "killed by SIGKILL"


def test_a_program_that_is_not_there_fails_its_run_only(daemon: Daemon) -> None:
    [failed] = daemon.seen("run.failed", task="absent")
    assert "/no/such/program" in failed["error"]
    assert "No such file" in failed["error"]


def test_a_timeout_ends_the_whole_process_group(desk: Desk, daemon: Daemon) -> None:
    [failed] = daemon.seen("run.failed", task="hanging")
    assert failed["reason"] == "timeout"
    assert "timed out after 1s" in failed["error"]
    pids = [int(word) for word in desk.lines("hanging.pid")[0].split()]
    eventually(lambda: not any(map(alive, pids)), "both processes have ended")


def test_a_command_can_run_on_what_happens_to_others(desk: Desk, daemon: Daemon) -> None:
    pages = desk.lines("pages")
    assert set(pages) <= {f"run.failed {task}" for task in ("failing", "killed", "absent", "hanging")}
    assert len(pages) == len(set(pages))


def test_an_after_run_inherits_the_due_of_its_upstream(desk: Desk, daemon: Daemon) -> None:
    assert desk.lines("follower") == [DUE]
