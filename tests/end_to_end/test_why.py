"""``scheduler why``: the question that a desk asks at ten in the morning, answered in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.daemon import CHECKOUT, Desk, Entry, eventually, run_script

TASKS = """
timezone: Asia/Kolkata
tasks:
  news: {command: ["true"], every: {open: 60s, closed: pause}, priority: nice-to-have}
  report: {command: ["true"], at: close+15m}
  follower: {command: ["true"], after: report}
  broken: {command: ["false"], every: 1s, restart: {policy: on-failure, burst: 2, then: park}}
  absent: {run: "no_such_module:work", every: 1h}
"""
HOLIDAY = ("--at", "2026-11-24T10:00")
NSE_ON_HOLIDAY = (
    "NSE is closed at Tue 24 November 2026 10:00 IST: Gurunanak Jayanti (layer india); "
    "it next opens Wednesday 25 November 09:15."
)
# The question in the words of the command, and the whole answer.
ANSWERS = [
    (("NSE", *HOLIDAY), NSE_ON_HOLIDAY),
    (
        ("NSE-CAS", "--at", "2026-11-23T15:20"),
        (
            "NSE-CAS is in closing-auction, which is trading time, at Mon 23 November 2026 15:20 IST, "
            "since 15:15 until 15:35: an ordinary session (layer exchange-calendars)."
        ),
    ),
    (
        ("NSE", "--at", "2024-03-02T10:30"),
        (
            "NSE is in break at Sat 2 March 2024 10:30 IST, since 10:00 until 11:30: Saturday "
            "disaster-recovery drill, a session with hours of its own (layer india); on this day post-close "
            "(15:40..16:00) does not apply on a day with its own hours; it next opens 11:30."
        ),
    ),
    (
        ("news", *HOLIDAY),
        (
            "news does not run at Tue 24 November 2026 10:00 IST: it pauses by its pace (nice-to-have: every "
            "open 1m, closed pause), as NSE is closed (Gurunanak Jayanti, layer india); it is next due "
            "Wednesday 25 November 09:15."
        ),
    ),
    (
        ("follower", "--at", "2027-01-04T12:00"),
        (
            "follower does not run at Mon 4 January 2027 12:00 IST: it waits for report to complete, which "
            "runs at close+15m of each session of NSE; report is next due 15:45 (close+15m) (assumed)."
        ),
    ),
]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, calendars: Path) -> Iterator[Desk]:
    made = Desk(tmp_path_factory.mktemp("why"), calendars)
    made.tasks(TASKS)
    yield made
    made.close()


def why(desk: Desk, *arguments: str) -> Entry:
    (row,) = desk.rows("why", *arguments)
    return row


def test_the_starter_desk_is_told_why_nse_is_closed(calendars: Path, tmp_path: Path) -> None:
    desk = Desk(tmp_path, calendars)
    answer = run_script(["why", "NSE", *HOLIDAY, "--config", CHECKOUT / "config"], desk.environment())
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, NSE_ON_HOLIDAY + "\n", "")


def test_the_answer_is_one_sentence(asked: Desk) -> None:
    answers = asked.ask_all([("why", *question) for question, _ in ANSWERS])
    assert [answer.stdout for answer in answers] == [sentence + "\n" for _, sentence in ANSWERS]


def test_as_json_it_is_one_object_with_the_facts(asked: Desk) -> None:
    market, task = why(asked, "NSE", *HOLIDAY), why(asked, "news", *HOLIDAY)
    assert {
        key: market[key]
        for key in ("name", "kind", "at", "sentence", "phase", "reason", "layer", "assumed", "next_open")
    } == {
        "name": "NSE",
        "kind": "market",
        "at": "2026-11-24T10:00:00+05:30",
        "sentence": NSE_ON_HOLIDAY,
        "phase": "closed",
        "reason": "Gurunanak Jayanti",
        "layer": "india",
        "assumed": False,
        "next_open": "2026-11-25T09:15:00+05:30",
    }
    assert (task["name"], task["kind"], task["state"], task["cause"], task["next"]) == (
        "news", "task", "waiting", "pace", "2026-11-25T09:15:00+05:30",
    )  # fmt: skip


@pytest.mark.parametrize("name,guess", [("folower", "'follower'"), ("NSEE", "'NSE'")])
def test_an_unknown_name_is_answered_with_2_and_a_suggestion(asked: Desk, name: str, guess: str) -> None:
    answer = asked.ask("why", name)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert f"no task is named {name!r}" in answer.stderr
    assert f"did you mean {guess}?" in answer.stderr


def test_a_running_daemon_is_asked_by_way_of_its_ledger_and_parking_outlives_it(desk: Desk) -> None:
    desk.tasks(TASKS)
    daemon = desk.run()
    daemon.wait_for("task.parked", task="broken")
    eventually(lambda: why(desk, "broken")["state"] == "parked", "broken is known as parked")
    row = why(desk, "broken")
    assert row["scheduler"] is True
    assert "it is parked since" in row["sentence"]
    assert "after 2 failures in a row" in row["sentence"]
    assert row["remembered"]["health"]["failures"] == 2
    absent = why(desk, "absent")
    assert absent["state"] == "refused"
    assert "no_such_module" in absent["sentence"]
    assert daemon.stop() == 0

    row = why(desk, "broken")
    assert row["state"] == "parked"
    assert row["scheduler"] is False
    assert row["sentence"].endswith(f"; no scheduler is running with {desk.state}.")
    assert why(desk, "absent")["state"] != "refused"  # the next one will try

    begun = len(attempts(desk))
    again = desk.run()
    assert again.wait_for("task.parked", task="broken")["failures"] == 2
    again.wait_for("run.skipped", task="broken", reason="parked")
    assert again.stop() == 0
    assert len(attempts(desk)) == begun


def test_a_bad_edit_does_not_keep_a_running_daemon_from_being_asked(desk: Desk) -> None:
    desk.tasks("reload: manual\n" + TASKS)
    daemon = desk.run()
    daemon.wait_for("daemon.ready")
    desk.tasks("reload: manual\n" + TASKS.replace("command", "comand", 1))
    daemon.wait_for("config.held_back")
    sentence = why(desk, "follower")["sentence"]
    assert sentence.startswith("follower does not run at ")
    assert f"the files in {desk.config} are wrong ({desk.tasks_file}:5:" in sentence
    assert sentence.endswith("unknown key 'comand'; did you mean 'command'?): this is by what is in force.")
    assert daemon.stop() == 0


def attempts(desk: Desk) -> list[Entry]:
    """The runs of the broken task that were begun."""
    return [row for row in desk.history("broken") if row["attempt"] > 0]
