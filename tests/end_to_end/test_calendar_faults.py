"""The calendars' child process fails under a running daemon, and under one that starts."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.end_to_end.daemon import Desk

TASKS = """
tasks:
  india: {{command: ["true"], every: {pace}}}
  york: {{command: ["true"], every: {pace}, market: XNYS}}
  close: {{command: ["true"], at: close+15m, market: XNYS}}
"""
LONDON = '  london: {command: ["true"], every: 1s, market: XLON}\n'
# Imported by the child in the place of the real one, which is farther down the path.
BROKEN = "raise SystemExit('no such library')\n"
RUBBISH = "import os\nos.write(1, b'{\"format\": 1}')\nos._exit(0)\n"


@pytest.fixture
def library(desk: Desk, tmp_path: Path) -> Path:
    """Where a test may put an `exchange_calendars` of its own; what others' children said is not there."""
    (desk.state / "calendars").unlink()
    directory = tmp_path / "library"
    directory.mkdir()
    return directory / "exchange_calendars.py"


def test_a_reload_whose_child_fails_keeps_the_last_calendars_and_says_so(desk: Desk, library: Path) -> None:
    desk.tasks(TASKS.format(pace="1s"))
    daemon = desk.run(PYTHONPATH=str(library.parent))
    daemon.wait_for("run.completed", task="york")
    assert not daemon.seen("calendar.warning")
    library.write_text(RUBBISH, "utf-8")
    desk.tasks(TASKS.format(pace="1s") + LONDON)
    daemon.wait_for("config.reloaded", added=["london"])
    daemon.wait_for("run.completed", task="london")
    daemon.send(signal.SIGHUP)
    daemon.wait_for("config.reloaded", cause="SIGHUP")
    details = [entry["detail"] for entry in daemon.seen("calendar.warning")]
    for name in ("XBOM", "XNYS"):
        [kept] = {detail for detail in details if detail.startswith(f"calendar {name}: ")}
        assert "printed rubbish" in kept
        assert "the last good one is used" in kept
    assert any(detail.startswith("XLON has no known hours") for detail in details)
    assert not daemon.seen("market.changed")
    library.unlink()
    daemon.send(signal.SIGHUP)
    assert daemon.wait_for("market.changed")["market"] == "XLON"
    assert daemon.stop() == 0


def test_a_daemon_whose_child_fails_at_the_first_start_goes_by_what_is_known(
    desk: Desk, library: Path
) -> None:
    library.write_text(BROKEN, "utf-8")
    desk.tasks(TASKS.format(pace="1s"))
    daemon = desk.run(PYTHONPATH=str(library.parent))
    daemon.wait_for("daemon.ready")
    daemon.wait_for("run.completed", task="india")
    daemon.wait_for("run.completed", task="york")
    details = [entry["detail"] for entry in daemon.seen("calendar.warning")]
    assert any("the calendar process failed with status 1: no such library" in detail for detail in details)
    assert any(detail.startswith("NSE: no calendar XBOM") for detail in details)
    assert any(detail.startswith("XNYS has no known hours") for detail in details)
    days = ("--from", "2026-11-23", "--until", "2026-11-26")
    path = {"PYTHONPATH": str(library.parent)}
    india = desk.ask("calendar", "NSE", *days, "--json", **path).stdout
    assert [line.count('"open": true') for line in india.splitlines()] == [1, 0, 1]
    york = desk.ask("calendar", "XNYS", *days, **path)
    assert (york.returncode, york.stdout) == (2, "")
    assert "XNYS has no known hours" in york.stderr
    assert daemon.stop() == 0
