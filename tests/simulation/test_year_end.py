"""The whole daemon on its own files and calendars, while its tables roll over the end of what is known."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from scheduler.clock import VirtualClock, VirtualTimeLoop
from scheduler.configuration import FileLoader
from scheduler.core.messages import DAY, SECOND
from scheduler.core.plan import plan
from scheduler.daemon import Daemon
from scheduler.ledger import HistoryRow, read_history
from scheduler.settings import Settings
from tests.helpers import instant, iso

TASKS = """
timezone: Asia/Kolkata
tasks:
  pace: {command: ["true"], every: {open: 30m, closed: 4h}}
  report: {command: ["true"], at: close+15m}
  feed: {command: ["true"], keep_running: true, during: [pre-open, open]}
"""
REFUSING = "markets: {NSE: {beyond_horizon: refuse}}"

Story = Callable[[Daemon, VirtualClock], Awaitable[None]]


def live(home: Path, begin: str, story: Story) -> list[HistoryRow]:
    """A daemon on virtual time from an instant on, as the story has it; its ledger."""
    config, state = home / "config", home / "state"
    clock = VirtualClock(instant(begin))

    async def main() -> None:
        loader = FileLoader(Settings(config_dir=config, state_dir=state))
        daemon = Daemon(
            loader, state=state, clock=clock, simulate=lambda spec: 1e9 * (spec.name == "feed"), seed=0
        )
        await daemon.start()
        try:
            await story(daemon, clock)
        finally:
            await daemon.stop()

    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(clock)) as runner:
        runner.run(main())
    return list(read_history(state / "ledger.db"))


async def until(clock: VirtualClock, text: str) -> None:
    await asyncio.sleep((instant(text) - clock.now()) / SECOND)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "tasks.yaml").write_text(TASKS, "utf-8")
    return tmp_path


def test_the_tables_roll_past_the_known_year_without_touching_what_is_due(home: Path) -> None:
    """A year ahead of the horizon: from a table that ends within the known year to one that does not."""
    ends, versions = [], set()

    async def story(daemon: Daemon, clock: VirtualClock) -> None:
        await until(clock, "2025-11-23T13:00:00+05:30")  # an hour after each refresh
        for _ in range(6):
            table = daemon.configuration.tables["NSE"]
            ends.append((iso(table.last - 1)[:10], table.pieces[-1].assumed))
            versions.add(table.version)
            await asyncio.sleep(DAY / SECOND)
        planned.extend(
            (run.due, run.task)
            for run in plan(daemon.configuration.specs, daemon.configuration.tables, begin, clock.now())
        )

    begin = instant("2025-11-23T12:00:01+05:30")
    planned: list[tuple[int, str]] = []
    rows = live(home, "2025-11-23T12:00:01+05:30", story)
    assert ends == [
        ("2026-12-28", False),
        ("2026-12-29", False),
        ("2026-12-30", False),
        ("2026-12-31", False),
        ("2027-01-01", True),
        ("2027-01-02", True),
    ]
    assert len(versions) == 1, "a table that reaches further is the same calendar"
    assert [(row.due, row.task) for row in rows] == planned
    assert not any(row.assumed for row in rows)


def test_past_the_horizon_a_market_that_refuses_is_not_ready_until_the_year_is_announced(home: Path) -> None:
    """The desk states the first days of January on the 5th, in the files of the running daemon."""
    markets = home / "config" / "markets.yaml"
    markets.write_text(REFUSING, "utf-8")
    ready = []

    async def story(daemon: Daemon, clock: VirtualClock) -> None:
        for day in ("2026-12-31", "2027-01-01", "2027-01-04"):
            await until(clock, f"{day}T12:00:00+05:30")
            ready.append((day, str(daemon.readiness())))
        await until(clock, "2027-01-05T10:00:00+05:30")
        markets.write_text(REFUSING.replace("refuse", "refuse, known_until: 2027-12-31"), "utf-8")
        await daemon.reload("saved")
        ready.append(("2027-01-05", str(daemon.readiness())))
        await until(clock, "2027-01-05T18:00:00+05:30")

    rows = live(home, "2026-12-31T08:00:00+05:30", story)
    refusal = "not ready: NSE: its calendar was known until 2026-12-31; now nothing is started"
    assert ready == [
        ("2026-12-31", "ready"),
        ("2027-01-01", refusal),
        ("2027-01-04", refusal),
        ("2027-01-05", "ready"),
    ]
    past = [row for row in rows if row.due >= instant("2027-01-01T00:00:00+05:30")]
    assert [(iso(row.due)[:16], row.status, row.reason, row.count, row.assumed) for row in past[:1]] == [
        ("2027-01-01T00:00", "missed", "refused", 27, True)  # every four hours
    ]
    told = [(row.task, iso(row.due)[:16], row.status, row.assumed) for row in past[1:] if row.task != "pace"]
    assert told == [
        ("feed", "2027-01-05T09:00", "completed", False),  # it holds already when the year is announced
        ("report", "2027-01-05T15:45", "completed", False),
    ]
    assert {(row.status, row.assumed) for row in past[1:]} == {("completed", False)}
    assert iso(min(row.due for row in past[1:] if row.task == "pace"))[:16] == "2027-01-05T10:15"
