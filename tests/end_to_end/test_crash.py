"""kill -9: what a power cut does, and what the next daemon makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.end_to_end.daemon import Daemon, Desk, Entry, eventually

TEN = "2026-11-23T10:00:00+05:30"
# A run that writes down that it began, then hangs until @/go exists.
HANG = """[/bin/sh, -c, 'echo $SCHEDULER_ATTEMPT >> @/$SCHEDULER_TASK; echo $$ >> @/$SCHEDULER_TASK.pid;
                    while [ ! -e @/go ]; do sleep 0.1; done']"""
REPORTS = f"""
tasks:
  by-at: {{at: "10:00", command: {HANG}}}
  by-cron: {{cron: "0 10 * * *", command: {HANG}}}
  retried: {{at: "10:00", if_interrupted: retry, stop_grace: 1s, command: {HANG}}}
  pace: {{command: [/bin/sh, -c, "echo {{due}} >> @/pace"], every: 1s, priority: critical}}
"""
QUICK = """
tasks:
  minutely: {command: ["true"], cron: "* * * * *"}
  pace: {command: ["true"], every: 6s, priority: critical}
"""
EVERY_SECOND = """
tasks:
  pace: {command: ["true"], every: 1s}
"""


class Aftermath(NamedTuple):
    """What is there after a crash in the middle of the runs of 10:00 and a second daemon."""

    desk: Desk
    before: Daemon
    after: Daemon
    rows: list[Entry]  # of the ledger in the end

    def outcomes(self, task: str) -> list[tuple[object, ...]]:
        rows = [row for row in self.rows if row["task"] == task]
        return [(row["due"], row["attempt"], row["status"], row["reason"]) for row in rows]


def wait_until_begun(desk: Desk, task: str, times: int) -> None:
    eventually(lambda: len(desk.lines(f"{task}.pid")) == times, f"{task} has begun {times} times")


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory, calendars: Path) -> Iterator[Aftermath]:
    """Ten times as fast: a second of the pace is a tenth of one. The second daemon comes a minute later."""
    desk = Desk(tmp_path_factory.mktemp("crash"), calendars)
    try:
        desk.tasks(REPORTS)
        before = desk.live("2026-11-23T09:59:50+05:30", "--speed", "10")
        before.wait_for("daemon.ready")
        for task in ("by-at", "by-cron", "retried"):
            wait_until_begun(desk, task, 1)
        before.kill()
        running = {row["task"] for row in desk.rows("history", "--status", "running")}
        assert running >= {"by-at", "by-cron", "retried"}
        desk.file("go").touch()

        after = desk.live("2026-11-23T10:01:40+05:30", "--speed", "10")
        after.wait_for("run.completed", task="retried")
        for _ in range(5):
            after.wait_for("run.completed", task="pace")
        assert after.stop() == 0
        yield Aftermath(desk, before, after, desk.rows("history"))
    finally:
        desk.close()


@pytest.mark.parametrize("task", ["by-at", "by-cron"])
def test_a_run_killed_in_the_middle_has_failed_and_is_not_run_twice(aftermath: Aftermath, task: str) -> None:
    assert aftermath.outcomes(task) == [(TEN, 1, "failed", "interrupted")]
    assert aftermath.desk.lines(task) == ["1"]


@pytest.mark.parametrize("task", ["by-at", "by-cron", "retried"])
def test_the_next_daemon_says_so_as_of_every_failed_run(aftermath: Aftermath, task: str) -> None:
    [failed] = aftermath.after.seen("run.failed", task=task)
    assert (failed["due"], failed["attempt"], failed["reason"]) == (TEN, 1, "interrupted")
    assert failed["run_id"] in {row["run_id"] for row in aftermath.rows}


def test_with_if_interrupted_retry_it_is_tried_once_more(aftermath: Aftermath) -> None:
    assert aftermath.outcomes("retried") == [(TEN, 1, "failed", "interrupted"), (TEN, 2, "completed", "")]
    assert aftermath.desk.lines("retried") == ["1", "2"]


def test_every_due_run_of_a_pace_has_one_outcome_across_a_crash(aftermath: Aftermath) -> None:
    rows = [row for row in aftermath.rows if row["task"] == "pace"]
    assert not [row for row in rows if row["status"] == "running"]
    first, last = rows[0]["due"], rows[-1]["due"]
    [planned] = aftermath.desk.rows("plan", "--from", first, "--until", last, "--task", "pace", "--count")
    outcomes = sum(row["count"] for row in rows if row["attempt"] <= 1)
    assert outcomes == planned["count"] + 1  # the interval of a plan is half-open
    assert {row["reason"] for row in rows if row["status"] == "missed"} == {"downtime"}


def test_no_run_of_a_pace_is_executed_twice(aftermath: Aftermath) -> None:
    ran = aftermath.desk.lines("pace")
    assert len(ran) == len(set(ran))


def test_what_an_appointment_reported_as_completed_is_in_the_ledger(desk: Desk) -> None:
    """Killed as soon as the log says so: nothing that was reported as done may be lost, or be run again."""
    desk.tasks(QUICK)
    daemon = desk.live("2026-11-23T10:00:30+05:30", "--speed", "60")
    for _ in range(2):
        daemon.wait_for("run.completed", task="minutely")
    daemon.kill()
    rows = desk.rows("history", "--status", "completed")
    recorded = {row["run_id"] for row in rows}
    reported = [entry["run_id"] for entry in daemon.seen("run.completed", task="minutely")]
    assert len(reported) >= 2
    assert recorded >= set(reported)
    # Of a pace the last run, whose commit was under way, may be missing; that window is documented.
    paced = [entry["run_id"] for entry in daemon.seen("run.completed", task="pace")]
    assert len(paced) > 2
    assert recorded >= set(paced[:-1])


def test_a_daemon_that_says_it_is_ready_answers_for_what_is_due_from_then_on(desk: Desk) -> None:
    """Killed with its very first word: the next one knows that it was expected to run things."""
    desk.tasks(EVERY_SECOND)
    first = desk.live("2026-11-23T10:00:00+05:30")
    first.wait_for("daemon.ready")
    first.kill()
    second = desk.live("2026-11-23T10:05:00+05:30")
    second.wait_for("daemon.ready")
    assert second.stop() == 0
    assert sum(row["count"] for row in desk.history("pace") if row["reason"] == "downtime") > 290


def test_a_run_that_is_interrupted_again_is_not_tried_for_ever(desk: Desk) -> None:
    """A report that takes its host down with it: the second daemon dies of it as well, the third does not."""
    desk.tasks(REPORTS)
    for begun, start in enumerate(["2026-11-23T09:59:59+05:30", "2026-11-23T10:00:20+05:30"], 1):
        daemon = desk.live(start)
        wait_until_begun(desk, "retried", begun)
        daemon.kill()
    third = desk.live("2026-11-23T10:00:40+05:30")
    third.find("daemon.ready")
    third.stop()
    assert [(row["attempt"], row["reason"]) for row in desk.history("retried")] == [
        (1, "interrupted"),
        (2, "interrupted"),
    ]
    assert desk.lines("retried") == ["1", "2"]


def test_a_second_daemon_on_the_same_state_is_refused_until_the_first_is_gone(desk: Desk) -> None:
    """The lock dies with its process: kill -9 leaves nothing to clean up."""
    desk.tasks(EVERY_SECOND)
    first = desk.run()
    first.wait_for("daemon.ready")

    second = desk.run()
    assert second.ended() == 1
    assert second.log == []
    [message] = second.messages
    assert f"process {first.process.pid}" in message
    assert str(desk.state) in message

    run_id = first.wait_for("run.completed", task="pace")["run_id"]  # it is not disturbed
    assert run_id in {row["run_id"] for row in desk.history("pace")}  # and its ledger can be read
    first.kill()
    third = desk.run()
    third.wait_for("daemon.ready")
    assert third.stop() == 0
