"""``scheduler rehearse``: the whole daemon on another clock; without --live nothing is executed."""

from __future__ import annotations

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
