"""What is answered without a daemon: plan, calendar, history, check, schema; and the exit statuses."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.daemon import SCHEDULER, Desk

TASKS = """
timezone: Asia/Kolkata
tasks:
  quick: {command: ["true"], every: {open: 10m, closed: 30m}, priority: critical}
  slow: {command: ["true"], every: 30m, priority: nice-to-have}
  another: {command: ["true"], every: 30m, priority: nice-to-have}
  report: {command: ["true"], at: close+15m}
  nightly: {command: ["true"], cron: "0 2 * * *"}
  follower: {command: ["true"], after: report}
  failing: {command: ["false"], at: "09:30", restart: never}
"""
PLAN_KEYS = ["due", "task", "priority", "market", "phase", "session", "trigger"]
HISTORY_KEYS = ["task", "due", "run_id", "attempt", "status", "reason", "started", "ended", "error", "count"]
RANK = {"critical": 0, "important": 1, "nice-to-have": 2}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, calendars: Path) -> Iterator[Desk]:
    """With the ledger of a rehearsed half hour that begins before the open."""
    made = Desk(tmp_path_factory.mktemp("questions"), calendars)
    made.tasks(TASKS)
    try:
        rehearsal = made.live("2026-11-23T09:14", "--until", "2026-11-23T09:40", "--speed", "600")
        assert rehearsal.ended() == 0
        yield made
    finally:
        made.close()


def test_a_plan_has_the_keys_of_the_contract_and_is_ordered(desk: Desk) -> None:
    rows = desk.rows("plan", "--from", "2026-11-23", "--until", "2026-11-24")
    assert all(list(row) == PLAN_KEYS for row in rows)
    order = [(row["due"], RANK[row["priority"]], row["task"]) for row in rows]
    assert order == sorted(order)
    assert {row["task"] for row in rows} == {"quick", "slow", "another", "report", "nightly", "failing"}
    [report] = [row for row in rows if row["task"] == "report"]
    assert list(report.values()) == [
        "2026-11-23T15:45:00+05:30", "report", "important", "NSE", "closed", "2026-11-23", "close+15m",
    ]  # fmt: skip
    [nightly] = [row for row in rows if row["task"] == "nightly"]
    assert (nightly["due"], nightly["session"]) == ("2026-11-23T02:00:00+05:30", "2026-11-20")


def test_a_plan_counts_as_many_as_it_lists_and_can_be_of_some_tasks(desk: Desk) -> None:
    span = ["--from", "2026-11-20", "--until", "2026-11-25T12:00"]
    listed = desk.rows("plan", *span)
    counted = {row["task"]: row["count"] for row in desk.rows("plan", *span, "--count")}
    assert counted == {task: len([r for r in listed if r["task"] == task]) for task in counted}
    assert sum(counted.values()) == len(listed)
    some = desk.rows("plan", *span, "--task", "slow", "--task", "report")
    assert some == [row for row in listed if row["task"] in {"slow", "report"}]


def test_the_interval_of_a_plan_is_half_open_and_times_are_in_the_zone_of_the_file(desk: Desk) -> None:
    without_offset = desk.rows(
        "plan", "--from", "2026-11-23T10:00", "--until", "2026-11-23T10:30", "--task", "slow"
    )
    assert [row["due"] for row in without_offset] == ["2026-11-23T10:00:00+05:30"]
    in_utc = desk.rows(
        "plan", "--from", "2026-11-23T04:30Z", "--until", "2026-11-23T05:00+00:00", "--task", "slow"
    )
    assert in_utc == without_offset


def test_a_plan_can_be_piped_into_head(desk: Desk) -> None:
    year = ["--from", "2026-01-01", "--until", "2026-12-31"]
    plan = subprocess.Popen(
        [SCHEDULER, "plan", "--config", desk.config, "--json", *year],
        env=desk.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert plan.stdout is not None
    first = json.loads(plan.stdout.readline())
    plan.stdout.close()
    assert plan.stderr is not None
    with plan.stderr:
        assert plan.stderr.read() == ""
    assert plan.wait() == 0
    assert first["due"] == "2026-01-01T00:00:00+05:30"


def test_a_calendar_has_the_keys_of_the_contract(desk: Desk) -> None:
    rows = desk.rows("calendar", "NSE", "--from", "2026-11-21", "--until", "2026-11-25")
    assert all(list(row) == ["date", "market", "open", "reason", "layer", "phases"] for row in rows)
    assert [(row["date"], row["open"]) for row in rows] == [
        ("2026-11-21", False),
        ("2026-11-22", False),
        ("2026-11-23", True),
        ("2026-11-24", False),  # Guru Nanak Jayanti
    ]
    monday, holiday = rows[2:]
    assert [(p["phase"], p["start"], p["end"]) for p in monday["phases"]] == [
        ("pre-open", "2026-11-23T09:00:00+05:30", "2026-11-23T09:15:00+05:30"),
        ("open", "2026-11-23T09:15:00+05:30", "2026-11-23T15:30:00+05:30"),
        ("post-close", "2026-11-23T15:50:00+05:30", "2026-11-23T16:00:00+05:30"),
    ]
    assert rows[0]["reason"] == "weekend"
    assert holiday["reason"] not in {"", "weekend"}
    assert (holiday["phases"], {row["market"] for row in rows}) == ([], {"NSE"})


def test_a_calendar_shows_any_market_in_its_own_zone(desk: Desk) -> None:
    [day] = desk.rows("calendar", "NYSE", "--from", "2026-11-27", "--until", "2026-11-28")
    [session] = [phase for phase in day["phases"] if phase["phase"] == "open"]
    assert (session["start"], session["end"]) == ("2026-11-27T09:30:00-05:00", "2026-11-27T13:00:00-05:00")


def test_a_history_has_the_keys_of_the_contract_and_filters(desk: Desk) -> None:
    rows = desk.rows("history")
    assert all(list(row) == HISTORY_KEYS for row in rows)
    assert [row["due"] for row in rows] == sorted(row["due"] for row in rows)
    [failed] = desk.rows("history", "--status", "failed")
    assert (failed["task"], failed["reason"], failed["error"]) == ("failing", "error", "exit status 1")
    assert desk.rows("history", "--task", "quick", "--task", "slow") == [
        row for row in rows if row["task"] in {"quick", "slow"}
    ]
    quick = desk.rows(
        "history", "--task", "quick", "--from", "2026-11-23T09:15", "--until", "2026-11-23T09:35"
    )
    assert [row["due"][11:16] for row in quick] == ["09:15", "09:25"]
    assert {row["status"] for row in quick} == {"completed"}


def test_the_answers_for_people_have_no_braces(desk: Desk) -> None:
    days = ["--from", "2026-11-23", "--until", "2026-11-25"]
    for answer in desk.ask_all([["plan", *days], ["calendar", *days], ["history"]]):
        assert (answer.returncode, answer.stderr) == (0, "")
        assert "2026-11-23" in answer.stdout
        assert "{" not in answer.stdout


def test_check_says_that_a_good_configuration_is_good(desk: Desk) -> None:
    answer = desk.ask("check")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "7 tasks" in answer.stdout


@pytest.mark.parametrize("which", ["tasks", "markets"])
def test_a_schema_is_printed_for_editors(desk: Desk, which: str) -> None:
    answer = subprocess.run(
        [SCHEDULER, "schema", which], env=desk.environment(), capture_output=True, text=True, check=True
    )
    assert json.loads(answer.stdout)["$schema"].startswith("https://json-schema.org/")


DAY = ["--from", "2026-11-23", "--until", "2026-11-24"]
REHEARSE = ["rehearse", "--speed", "0", "--at", "2026-11-23T09:00"]
WRONG_CALLS = [  # and a part of what is said about them
    (["plan", "--from", "yesterday", "--until", "2026-11-24"], "'yesterday' is not a time"),
    (["plan", "--from", "2026-11-24", "--until", "2026-11-23"], "is before"),
    (["plan", "--from", "2026-11-24"], "--until"),
    (["plan", *DAY, "--task", "slwo"], "'slwo'"),
    (["calendar", "NSEE", *DAY], "'NSE'"),
    (["calendar", "--from", "2026-13-01", "--until", "2026-11-24"], "'2026-13-01' is not a date"),
    (["history", "--status", "complete"], "completed"),
    (["history", "--from", "yesterday"], "'yesterday' is not a time"),
    ([*REHEARSE, "--live"], "--speed"),
    ([*REHEARSE, "--until", "2026-11-23T08:00"], "before"),
    (["rehearse"], "--at"),
    (["pln"], "pln"),
]


def test_a_wrong_call_is_answered_with_2(desk: Desk) -> None:
    answers = desk.ask_all(question for question, _ in WRONG_CALLS)
    wrong = [
        (question, answer.returncode, answer.stdout, answer.stderr)
        for (question, complaint), answer in zip(WRONG_CALLS, answers, strict=True)
        if answer.returncode != 2 or complaint not in answer.stderr or answer.stdout
    ]
    assert wrong == []
    assert "Traceback" not in "".join(answer.stderr for answer in answers)


def test_a_history_without_a_ledger_is_answered_with_1(desk: Desk, tmp_path: Path) -> None:
    answer = desk.ask("history", SCHEDULER_STATE_DIR=str(tmp_path))
    assert answer.returncode == 1
    assert f"there is no ledger at {tmp_path}" in answer.stderr
    assert answer.stdout == ""


def test_questions_about_a_bad_configuration_are_answered_with_78(tmp_path: Path, calendars: Path) -> None:
    bad = Desk(tmp_path, calendars)
    bad.tasks("tasks: {a: {}}\n")
    for answer in bad.ask_all([["check"], ["plan", *DAY], REHEARSE]):
        assert answer.returncode == 78
        assert answer.stderr.startswith(f"{bad.tasks_file}:1:")
        assert answer.stdout == ""
