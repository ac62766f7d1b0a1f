"""A calendar that is changed while the daemon trades by it: by an operator, and by hand."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import groupby

import pytest

from tests.end_to_end.daemon import Daemon, Desk, alive, eventually

NOW = datetime.now(UTC)
TODAY = NOW.date().isoformat()
# Wherever it is noon now, a session of this market is in the middle of its day.
MARKETS = f"""
markets:
  NOON:
    timezone: "Etc/GMT{NOW.hour - 12:+d}"
    weekdays: mon-sun
    hours: [{{phases: {{open: "06:00..18:00"}}}}]
  LIKE-NOON: {{like: NOON}}
"""
TASKS = """
tasks:
  steady: {command: ["true"], market: LIKE-NOON, every: {open: 1s, closed: 1s}}
  trading: {command: ["true"], market: NOON, every: {open: 1s, closed: pause}}
  feed: {command: [/bin/sh, -c, "echo $$ >> @/feed.pid; exec sleep 600"], market: NOON, keep_running: true}
  slow:
    command: [/bin/sh, -c, "echo $$ >> @/slow.pid; while [ ! -e @/go ]; do sleep 0.1; done"]
    market: NOON
    every: {open: 2s, closed: pause}
    priority: critical
"""


@pytest.fixture
def daemon(desk: Desk) -> Iterator[Daemon]:
    """One in whose middle of the day a run is in flight."""
    (desk.config / "markets.yaml").write_text(MARKETS, "utf-8")
    desk.tasks(TASKS)
    started = desk.run()
    started.wait_for("daemon.ready")
    eventually(lambda: desk.lines("slow.pid") and desk.lines("feed.pid"), "a run is in flight")
    started.wait_for("run.completed", task="steady")
    yield started
    assert started.stop() == 0
    assert not started.messages


def amend(desk: Desk, *options: str) -> list[str]:
    """The lines of the answer."""
    answer = desk.ask("market", "amend", "NOON", TODAY, *options)
    assert (answer.returncode, answer.stderr) == (0, "")
    return answer.stdout.splitlines()


def versions(desk: Desk, task: str) -> list[str]:
    """The calendar versions of a task's runs by due, neighbours that are the same as one."""
    query = """SELECT calendars.version FROM runs JOIN tasks ON tasks.id = runs.task
               JOIN calendars ON calendars.id = runs.calendar WHERE tasks.name = ? ORDER BY due"""
    with closing(sqlite3.connect(f"file:{desk.state}/ledger.db?mode=ro", uri=True)) as ledger:
        return [version for version, _ in groupby(row[0] for row in ledger.execute(query, [task]))]


def test_an_amendment_goes_live_with_runs_in_flight_and_is_taken_back(desk: Desk, daemon: Daemon) -> None:
    told = amend(desk, "--closed", "--name", "State funeral", "--reason", "circular 99")
    assert told[0] == f"NOON {TODAY}: closed, State funeral"
    assert f"the daemon (process {daemon.process.pid}) takes it within two seconds" in told[-1]
    assert "reaches LIKE-NOON, NOON" in told[-1]

    amended = daemon.wait_for("market.amended")
    said = {key: amended[key] for key in ("action", "market", "date", "change", "reason")}
    assert said == {
        "action": "amend", "market": "NOON", "date": TODAY, "change": "closed, State funeral",
        "reason": "circular 99",
    }  # fmt: skip
    assert f"(uid {os.getuid()}" in amended["by"]
    assert datetime.fromisoformat(amended["at"]).tzinfo is not None
    assert daemon.wait_for("market.changed")["market"] == "LIKE-NOON"
    assert daemon.wait_for("market.changed")["market"] == "NOON"
    slower, steadier, trading = (daemon.wait_for("config.difference")["runs"] for _ in range(3))
    assert re.fullmatch(rf"{TODAY} slow: -\d+ open", slower)
    assert re.fullmatch(rf"{TODAY} steady: -\d+ open, \+\d+ closed", steadier)
    assert re.fullmatch(rf"{TODAY} trading: -\d+ open", trading)
    completed = len(daemon.seen("run.completed", task="trading"))

    slow, feed = int(desk.lines("slow.pid")[0]), int(desk.lines("feed.pid")[0])
    assert alive(slow)
    assert alive(feed)
    desk.file("go").touch()
    daemon.wait_for("run.completed", task="slow")
    daemon.wait_for("run.completed", task="steady")
    daemon.wait_for("run.completed", task="steady")
    assert len(daemon.seen("run.completed", task="trading")) <= completed + 1, "the market is closed"

    told = amend(desk, "--revert")
    assert told[0].startswith(f"NOON {TODAY}: taken back: closed, State funeral (")
    assert daemon.wait_for("market.amended")["action"] == "revert"
    daemon.wait_for("run.completed", task="trading")
    daemon.wait_for("run.completed", task="steady")
    assert desk.lines("feed.pid") == [str(feed)], "the feed has run through all of it"
    eventually(lambda: len(versions(desk, "steady")) == 3, "what ran last is on record")
    first, other, last = versions(desk, "steady")
    assert first == last != other
    # Its market was closed in between; what was in flight belongs to the calendar of its due.
    assert versions(desk, "slow") == versions(desk, "trading")
    assert len(versions(desk, "slow")) == 1
    begun = desk.history("slow", "--status", "completed")[0]
    assert begun["run_id"] == daemon.seen("run.completed", task="slow")[0]["run_id"]
    assert datetime.fromisoformat(begun["started"]) < datetime.fromisoformat(amended["timestamp"])


def test_an_amendment_is_taken_at_once_where_saved_files_are_not(desk: Desk) -> None:
    """`reload: manual`: somebody's edit waits, be it good or bad; an operator's does not."""
    (desk.config / "markets.yaml").write_text(MARKETS, "utf-8")
    desk.tasks("reload: manual\n" + TASKS)
    daemon = desk.run()
    daemon.wait_for("run.completed", task="trading")
    desk.tasks("reload: manual\ntasks: {}\n")
    daemon.wait_for("config.held_back")
    amend(desk, "--closed")
    reloaded = daemon.wait_for("config.reloaded")
    assert (reloaded["added"], reloaded["changed"], reloaded["removed"]) == ([], [], [])
    daemon.wait_for("market.changed", market="NOON")
    for _ in range(2):
        daemon.wait_for("run.completed", task="steady")
    removed = [line for line in desk.ask("check", "--diff").stdout.splitlines() if "steady" in line]
    assert removed, "the edit still waits"
    daemon.send(signal.SIGHUP)
    daemon.wait_for("config.reloaded", removed=["feed", "slow", "steady", "trading"])
    assert daemon.stop() == 0


def test_an_amendment_is_taken_while_a_saved_file_is_wrong(desk: Desk, daemon: Daemon) -> None:
    desk.tasks("tasks: {a: {}}\n")
    daemon.wait_for("config.rejected")
    answer = desk.ask("market", "amend", "NOON", TODAY, "--closed")
    assert answer.returncode == 0
    assert f"warning: {desk.tasks_file}:1:" in answer.stderr
    daemon.wait_for("market.changed", market="NOON")
    daemon.wait_for("run.completed", task="steady")


CLOSE = """
tasks:
  pace: {command: ["true"], every: {open: 1s, closed: pause}}
  appointment: {command: ["true"], at: close+15m}
  flight:
    command: [/bin/sh, -c, "echo $$ >> @/flight.pid; while [ ! -e @/go ]; do sleep 0.1; done"]
    every: {open: 5m, closed: pause}
"""


def test_todays_close_moved_by_hand_at_15_17_takes_effect_with_runs_in_flight(desk: Desk) -> None:
    desk.tasks(CLOSE)
    daemon = desk.live("2026-11-23T15:14:57+05:30")
    eventually(lambda: desk.lines("flight.pid"), "the run of 15:15 is in flight")
    daemon.wait_for("run.completed", task="pace")
    moved = 'markets: {NSE: {changes: {2026-11-23: {open: ["09:15..17:00"]}}}}\n'
    (desk.config / "markets.yaml").write_text(moved, "utf-8")
    assert daemon.wait_for("market.changed")["market"] == "NSE"
    told = [daemon.wait_for("config.difference")["runs"] for _ in range(3)]
    assert told == [
        "2026-11-23 appointment: 15:45 to 17:15",
        "2026-11-23 flight: +18 open",
        "2026-11-23 pace: +5400 open",
    ]
    assert alive(int(desk.lines("flight.pid")[0]))
    desk.file("go").touch()
    daemon.wait_for("run.completed", task="flight", due="2026-11-23T15:15:00+05:30")
    daemon.wait_for("run.completed", task="pace")
    assert daemon.stop() == 0
    before, after = versions(desk, "pace")  # it has stopped, so all is on record
    assert before != after
    assert versions(desk, "flight") == [before]
    [planned] = desk.rows(
        "plan", "--from", "2026-11-23T15:30", "--until", "2026-11-24", "--task", "appointment"
    )
    assert (planned["due"], planned["trigger"]) == ("2026-11-23T17:15:00+05:30", "close+15m")


def test_a_rehearsal_goes_by_the_amendments_too(desk: Desk) -> None:
    (desk.config / "markets.yaml").write_text(MARKETS, "utf-8")
    desk.tasks('tasks: {trading: {command: ["true"], market: NOON, every: {open: 1h, closed: pause}}}\n')
    zone = f"{12 - NOW.hour:+03}:00"
    rehearsed = [f"{TODAY}T08:30:00{zone}", "--speed", "0", "--until", f"{TODAY}T10:30:00{zone}"]

    def completed() -> int:
        rehearsal = desk.rehearse(*rehearsed)
        assert rehearsal.ended() == 0
        return len(rehearsal.seen("run.completed", task="trading"))

    assert completed() == 2
    amend(desk, "--closed")
    assert completed() == 0


def test_a_template_can_be_a_markets_yaml(desk: Desk) -> None:
    desk.tasks('tasks: {a: {command: ["true"]}}\n')
    answer = desk.ask("calendar", "template", "2027")
    assert (answer.returncode, answer.stderr) == (0, "")
    markets = desk.config / "markets.yaml"
    for text in (answer.stdout, re.sub(r"^( *)#(?=\S)", r"\1", answer.stdout, flags=re.MULTILINE)):
        markets.write_text(text, "utf-8")
        assert desk.ask("check").returncode == 0
    days = desk.rows("calendar", "--from", "2027-01-26", "--until", "2027-01-27")
    assert [(day["reason"], day["layer"]) for day in days] == [("Republic Day", "desk")]


WRONG = [
    (["market", "amend", "NSEE", TODAY, "--closed"], 2, "did you mean 'NSE'"),
    (["market", "amend", "NSE", TODAY], 2, "--closed, --open and --revert"),
    (["market", "amend", "NSE", TODAY, "--closed", "--open", "ordinary"], 2, "--closed, --open and --revert"),
    (["market", "amend", "NSE", TODAY, "--revert"], 2, "there is no amendment of NSE"),
    (["market", "amend", "NSE", TODAY, "--open", "09:15..11:00,10:00..12:00"], 78, "nothing was changed"),
    (["calendar"], 2, "--from"),
    (["calendar", "template", "2026"], 2, "NSE is known until"),
    (["calendar", "template"], 2, "YEAR"),
]


def test_wrong_calls_are_answered_with_what_would_be_right(desk: Desk) -> None:
    desk.tasks('tasks: {a: {command: ["true"]}}\n')
    answers = desk.ask_all(question for question, _, _ in WRONG)
    for answer, (question, status, message) in zip(answers, WRONG, strict=True):
        assert answer.returncode == status, (question, answer.stderr)
        assert message in answer.stderr, question
        assert "Traceback" not in answer.stderr
        assert answer.stdout == ""
