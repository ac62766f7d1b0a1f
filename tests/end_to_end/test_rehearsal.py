"""``scheduler rehearse``: the whole daemon on another clock; without --live nothing is executed."""

from __future__ import annotations

import json
from datetime import datetime

from tests.end_to_end.daemon import Desk

# Each would leave a file behind: by being run, or by being imported.
TRACES = """
tasks:
  command: {command: [/bin/sh, -c, "echo run >> @/command"], every: 30m}
  appointment: {command: [touch, "@/appointment"], at: open+1m}
  callable: {run: traces:work, every: 30m}
  isolated: {run: traces:work, every: 30m, isolation: process}
  loop: {command: [touch, "@/loop"], keep_running: true, during: [open]}
  page: {command: [touch, "@/page"], on: [run.completed]}
  missing: {run: no_such_module:work, every: 30m}
"""
MODULE = """
from pathlib import Path
Path("@/imported").touch()
def work():
    Path("@/called").touch()
"""


def test_without_live_nothing_is_executed_nor_imported(desk: Desk) -> None:
    """From Friday's close over a weekend into Monday's open, from event to event."""
    desk.module("traces", MODULE)
    desk.tasks(TRACES)
    before = sorted(path.name for path in desk.state.iterdir())
    daemon = desk.rehearse("2026-11-20T15:20", "--until", "2026-11-23T09:20", "--speed", "0")
    assert daemon.ended() == 0
    assert not daemon.messages
    assert list(desk.files.iterdir()) == []
    assert all(entry["rehearsal"] is True for entry in daemon.log)
    assert not daemon.seen("run.failed")
    # And needs nothing of the real state, nor leaves anything in it.
    assert sorted(path.name for path in desk.state.iterdir()) == before

    phases = [(entry["timestamp"][:16], entry["phase"]) for entry in daemon.seen("market.phase_changed")]
    assert phases == [
        ("2026-11-20T15:30", "closed"),
        ("2026-11-20T15:50", "post-close"),
        ("2026-11-20T16:00", "closed"),
        ("2026-11-23T09:00", "pre-open"),
        ("2026-11-23T09:15", "open"),
    ]
    times = [datetime.fromisoformat(entry["timestamp"]) for entry in daemon.log]
    assert times == sorted(times)


def test_a_rehearsal_completes_exactly_the_runs_of_the_plan(desk: Desk) -> None:
    desk.tasks(
        """
tasks:
  paced: {command: ["true"], every: {open: 5m, closed: 1h}}
  at: {command: ["true"], at: [open+1m, close-5m]}
  cron: {command: ["true"], cron: "30 */6 * * *"}
"""
    )
    span = "2026-11-20T15:00:01", "2026-11-23T09:31"
    state = desk.file("rehearsed")
    daemon = desk.rehearse(span[0], "--until", span[1], "--speed", "0", "--state", state)
    assert daemon.ended() == 0
    planned = [(row["due"], row["task"]) for row in desk.rows("plan", "--from", span[0], "--until", span[1])]
    completed = [(entry["due"], entry["task"]) for entry in daemon.seen("run.completed")]
    assert sorted(completed) == sorted(planned)
    answer = desk.ask("history", "--status", "completed", SCHEDULER_STATE_DIR=str(state))
    assert len(answer.stdout.splitlines()) == len(planned)


NEW_YEAR = """
tasks:
  pace: {command: ["true"], every: {open: 30m, closed: 2h}}
  report: {command: ["true"], at: close+15m}
  feed: {command: ["true"], keep_running: true, during: [pre-open, open], priority: critical}
  bullion: {command: ["true"], every: {open: 1h, closed: 6h}, market: MCX}
  currency: {command: ["true"], every: {open: 1h, closed: 3h}, market: CDS}
  convert: {command: ["true"], after: currency}
"""
NEW_YEAR_MARKETS = """
markets:
  MCX: {beyond_horizon: closed}
  CDS: {beyond_horizon: refuse}
"""


def test_the_end_of_the_year_is_survived(desk: Desk) -> None:
    """The exchange has announced nothing after 2026-12-31; each market goes on as it is told to."""
    desk.tasks(NEW_YEAR)
    (desk.config / "markets.yaml").write_text(NEW_YEAR_MARKETS, "utf-8")
    span = "2026-12-31T15:00:00+05:30", "2027-01-05T10:00:00+05:30"
    state = desk.file("rehearsed")
    daemon = desk.rehearse(span[0], "--until", span[1], "--speed", "0", "--state", state)
    assert daemon.ended() == 0
    assert not daemon.messages
    assert not daemon.seen("run.failed")
    history = desk.ask("history", "--json", SCHEDULER_STATE_DIR=str(state)).stdout
    rows = [json.loads(line) for line in history.splitlines()]

    # By the assumed weekdays of NSE and the closed days of MCX everything runs that is planned.
    planned = desk.rows("plan", "--from", span[0], "--until", span[1])
    for task in ("pace", "report", "bullion"):
        completed = [row["due"] for row in rows if row["task"] == task and row["status"] == "completed"]
        assert completed == [row["due"] for row in planned if row["task"] == task]
    dues = {name: [row["due"][:16] for row in rows if row["task"] == name] for name in ("report", "feed")}
    assert dues == {
        "report": ["2026-12-31T15:45", "2027-01-01T15:45", "2027-01-04T15:45"],
        "feed": ["2026-12-31T09:00", "2027-01-01T09:00", "2027-01-04T09:00", "2027-01-05T09:00"],
    }
    assert {row["phase"] for row in planned if row["task"] == "bullion" and row["due"] > "2027"} == {"closed"}

    # CDS refuses: nothing is started, and what was due is one row each.
    refused = [row for row in rows if row["task"] in ("currency", "convert") and row["due"] > "2027"]
    assert [
        (row["task"], row["due"][:16], row["status"], row["reason"], row["count"]) for row in refused
    ] == [
        ("currency", "2027-01-01T00:00", "missed", "refused", 36),
        ("convert", "2027-01-01T00:00", "missed", "refused", 36),
    ]

    # What is only assumed is marked as such: in the plan, in the ledger, in the log.
    for row in (*planned, *rows):
        assert row.get("assumed") == (True if row["due"] > "2027" else None)
    ready = daemon.seen("daemon.ready")[0]
    assert ready["ready"] is True
    assert "CDS: its calendar is known until 2026-12-31; then nothing is started" in ready["concerns"]
    changes = daemon.seen("market.phase_changed", market="NSE")
    marks = {(entry["level"], entry.get("assumed"), entry.get("layer")) for entry in changes}
    assert marks == {("info", None, None), ("warning", True, "assumed")}
    assert all((entry["timestamp"] > "2027") == entry.get("assumed", False) for entry in changes)
    warned = [
        (entry["event"][7:], entry["timestamp"][:10]) for entry in daemon.log if entry.get("then") == "refuse"
    ]
    assert warned == [
        ("horizon_near", "2026-12-31"),
        ("beyond_horizon", "2027-01-01"),
        ("beyond_horizon", "2027-01-02"),
        ("beyond_horizon", "2027-01-03"),
        ("beyond_horizon", "2027-01-04"),
        ("beyond_horizon", "2027-01-05"),
    ]


def test_a_daemon_that_starts_past_the_horizon_of_a_market_that_refuses_says_it_is_not_ready(
    desk: Desk,
) -> None:
    desk.tasks(NEW_YEAR)
    (desk.config / "markets.yaml").write_text(NEW_YEAR_MARKETS, "utf-8")
    daemon = desk.rehearse("2027-01-04T10:00", "--until", "2027-01-04T10:16", "--speed", "0")
    assert daemon.ended() == 0
    [ready] = daemon.seen("daemon.ready")
    assert (ready["ready"], ready["level"]) == (False, "warning")
    assert ready["NSE"] == "open (assumed) until 2027-01-04T15:30:00+05:30"
    assert ready["CDS"].startswith("closed (beyond the known calendar, assumed) until ")
    assert daemon.seen("run.completed", task="pace")


def test_a_date_that_is_not_settled_is_warned_of_daily(desk: Desk) -> None:
    desk.tasks('tasks:\n  tick: {command: ["true"], at: open}\n')
    daemon = desk.rehearse("2026-11-05T12:00", "--until", "2026-11-10T10:00", "--speed", "0")
    assert daemon.ended() == 0
    told = daemon.seen("market.unsettled")
    assert [entry["timestamp"][:10] for entry in told] == [
        f"2026-11-{day}" for day in ("05", "06", "07", "08")
    ]
    assert {(entry["market"], entry["date"], entry["reason"]) for entry in told} == {
        ("NSE", "2026-11-08", "Sunday Muhurat, times not announced")
    }
    assert [entry["due"][:10] for entry in daemon.seen("run.completed")] == ["2026-11-06", "2026-11-09"]


def test_live_really_runs_tasks_on_the_shifted_clock(desk: Desk) -> None:
    """The open, ten times as fast, whatever the time is for whoever reads this."""
    desk.module(
        "opening",
        "def work(ctx):\n    ctx.log.info('seen', phase=ctx.phase, session=ctx.session, due=str(ctx.due))\n",
    )
    desk.tasks(
        """
tasks:
  command: {command: [/bin/sh, -c, "echo {due} {phase} >> @/command"], every: {open: 5s, closed: pause}}
  callable: {run: opening:work, at: open}
"""
    )
    daemon = desk.rehearse(
        "2026-11-23T09:14:55+05:30", "--until", "2026-11-23T09:15:12+05:30", "--speed", "10", "--live"
    )
    assert daemon.ended() == 0
    assert all(entry["rehearsal"] is True for entry in daemon.log)
    assert desk.lines("command") == [f"2026-11-23T09:15:{at}+05:30 open" for at in ("00", "05", "10")]
    [seen] = daemon.seen("seen", task="callable")
    assert (seen["phase"], seen["session"]) == ("open", "2026-11-23")
    assert seen["timestamp"].startswith("2026-11-23T09:15:")


def test_a_rehearsal_runs_beside_the_real_daemon(desk: Desk) -> None:
    desk.tasks('tasks:\n  tick: {command: ["true"], every: 1s}\n')
    real = desk.run()
    real.wait_for("daemon.ready")
    rehearsal = desk.rehearse("2026-11-23T10:00", "--until", "2026-11-23T10:00:30", "--speed", "0")
    assert rehearsal.ended() == 0
    assert rehearsal.seen("run.completed", task="tick")
    real.wait_for("run.completed")
    assert real.stop() == 0
    assert all("rehearsal" not in entry for entry in real.log)
    assert {row["due"][:4] for row in desk.history("tick")} == {real.log[0]["timestamp"][:4]}
