"""The audit of a real ledger by the daemon that writes it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from scheduler.clock import SystemClock
from scheduler.configuration import Configuration
from scheduler.context import Context
from scheduler.core.accounting import Audit
from scheduler.core.messages import MINUTE, SECOND, Announce, PauseRequested
from scheduler.core.triggers import After, Every, KeepRunning, On
from scheduler.daemon import Daemon
from scheduler.ledger.statements import SQL
from tests.core.tables import always, nse_week
from tests.helpers import instant
from tests.shell.execution import on_both_loops, until
from tests.shell.test_daemon import NOON, PACE, Host, on_virtual_time, task

OTHER_PACE = Every({"open": 15 * SECOND, "closed": MINUTE})


def ledger(host: Host, statement: str, *values: Any) -> list[Any]:
    """Behind the daemon's back."""
    with closing(sqlite3.connect(host.state / "ledger.db", isolation_level=None)) as connection:
        return connection.execute(statement, values).fetchall()


def put_back(host: Host, *rows: Any) -> None:
    for row in rows:
        ledger(host, "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", *row)


def heard(daemon: Daemon) -> list[Announce]:
    found: list[Announce] = []
    daemon.voice.listeners.append(
        lambda said: found.append(said) if said.event in {"ledger.behind", "ledger.caught_up"} else None
    )
    return found


def totals(audit: Audit) -> tuple[int, int, int, int]:
    return audit.expected, audit.accounted, audit.in_flight, audit.unaccounted


@on_virtual_time(NOON)
async def test_after_a_run_all_that_was_due_is_accounted_for(host: Host) -> None:
    async with host.up(task("a", PACE), task("b", After("a")), task("c", On(("task.stale",)))) as daemon:
        assert daemon.accounting.latest == Audit()
        await host.until("2026-11-23T12:01:15+05:30")
        audit = await daemon.accounting.audit()
        # At the instant of the start, and within the last ten seconds, nothing is expected yet.
        assert totals(audit) == (12, 12, 0, 0)
        assert audit.at == instant("2026-11-23T12:01:05+05:30")
        await host.until("2026-11-23T12:02:15+05:30")
        assert totals(await daemon.accounting.audit()) == (24, 24, 0, 0)


@on_virtual_time(NOON)
async def test_a_row_that_goes_from_the_ledger_is_told_of_once_until_it_is_back(
    host: Host,
) -> None:
    async with host.up(task("a", PACE), task("b", PACE)) as daemon:
        said = heard(daemon)
        await host.until("2026-11-23T12:01:15+05:30")
        await daemon._durable()
        lost = instant("2026-11-23T12:00:30+05:30")
        (row, _) = ledger(host, "SELECT * FROM runs WHERE due = ? ORDER BY task", lost)
        ledger(host, "DELETE FROM runs WHERE due = ? AND task = ?", lost, row[1])

        audit = await daemon.accounting.audit()
        assert (totals(audit), audit.by_task) == ((12, 11, 0, 1), {"a": 1})
        assert said == []  # it may have come at a bad moment
        await host.until("2026-11-23T12:02:15+05:30")
        assert totals(await daemon.accounting.audit()) == (24, 23, 0, 1)
        assert said == [Announce("ledger.behind", "error", {"unaccounted": 1, "tasks": ["a: 1"]})]
        await daemon.accounting.audit()
        assert len(said) == 1

        put_back(host, row)
        assert totals(await daemon.accounting.audit()) == (24, 24, 0, 0)
        assert said[1:] == [Announce("ledger.caught_up", "info", {})]


@on_virtual_time(NOON)
async def test_what_is_back_before_the_second_look_is_not_told_of(host: Host) -> None:
    async with host.up(task("a", PACE)) as daemon:
        said = heard(daemon)
        await host.until("2026-11-23T12:01:15+05:30")
        await daemon._durable()
        rows = ledger(host, "SELECT * FROM runs")
        ledger(host, "DELETE FROM runs")
        assert (await daemon.accounting.audit()).unaccounted == 6
        put_back(host, *rows)
        assert (await daemon.accounting.audit()).unaccounted == 0
        assert said == []


@on_virtual_time(NOON)
async def test_a_run_that_is_under_way_is_neither_accounted_for_nor_missing(host: Host) -> None:
    async def slow(ctx: Context) -> None:
        await asyncio.sleep(45)

    async with host.up(task("a", PACE), task("b", After("a")), works={"a": slow}) as daemon:
        await host.until("2026-11-23T12:01:25+05:30")
        audit = await daemon.accounting.audit()
        # Due at 12:00:50: under way, and what comes after it with it; what it overlaps is skipped.
        assert totals(audit) == (14, 12, 2, 0)
        await host.until("2026-11-23T12:02:15+05:30")
        audit = await daemon.accounting.audit()
        assert (audit.unaccounted, audit.expected) == (0, 24)


@on_virtual_time(NOON)
async def test_stretches_and_downtime_are_accounted_for_by_arithmetic(host: Host) -> None:
    loop = task("d", KeepRunning(frozenset({"open"})))
    async with host.up(task("a", PACE), loop, works={"d": forever}) as daemon:
        daemon.handle(PauseRequested("a"))
        await host.until("2026-11-23T12:05:00+05:30")
        assert (await daemon.accounting.audit()).unaccounted == 0
    await host.until("2026-11-25T12:00:05+05:30")  # two days of downtime, a holiday among them
    async with host.up(task("a", PACE), loop, works={"d": forever}) as daemon:
        await host.until("2026-11-25T12:01:05+05:30")
        audit = await daemon.accounting.audit()
        expected = PACE.count_between(
            instant("2026-11-24T12:00:05+05:30"), instant("2026-11-25T12:00:55+05:30"), nse_week()
        )
        assert (audit.expected, audit.unaccounted) == (expected + 1, 0)  # and the loop at the open
        ledger(host, "DELETE FROM runs WHERE count > 100")
    async with host.up(task("a", PACE), loop, works={"d": forever}) as daemon:
        assert (await daemon.accounting.audit()).unaccounted > 100


@on_virtual_time(NOON)
async def test_a_changed_task_is_expected_anew_from_the_change_and_others_go_on(host: Host) -> None:
    current = [host.configured(task("a", PACE), task("b", PACE))]

    def load() -> Configuration:
        return current[0]

    daemon = host.daemon(load)
    await daemon.start()
    await host.until("2026-11-23T12:01:02+05:30")
    await daemon._durable()
    ledger(host, "DELETE FROM runs WHERE due = ?", instant("2026-11-23T12:00:30+05:30"))
    assert (await daemon.accounting.audit()).by_task == {"a": 1, "b": 1}
    current[0] = host.configured(task("a", OTHER_PACE), task("b", PACE))
    assert await daemon.reload("test")
    await host.until("2026-11-23T12:02:11+05:30")
    audit = await daemon.accounting.audit()
    assert audit.by_task == {"a": 1, "b": 1}  # what was due before stands
    assert totals(audit) == (5 + 4 + 12, 19, 0, 2)
    await daemon.stop()


@on_virtual_time(NOON)
async def test_what_is_lost_stays_lost_through_a_change_until_its_row_is_back(host: Host) -> None:
    current = [host.configured(task("a", PACE))]
    daemon = host.daemon(lambda: current[0])
    await daemon.start()
    said = heard(daemon)
    await host.until("2026-11-23T12:01:02+05:30")
    await daemon._durable()
    lost = instant("2026-11-23T12:00:30+05:30")
    (row,) = ledger(host, "SELECT * FROM runs WHERE due = ?", lost)
    ledger(host, "DELETE FROM runs WHERE due = ?", lost)
    await daemon.accounting.audit()
    await daemon.accounting.audit()
    for changed in ((task("a", OTHER_PACE),), (task("a", On(("task.stale",))),), (task("b", PACE),)):
        current[0] = host.configured(*changed)
        assert await daemon.reload("test")
        await asyncio.sleep(90)
        assert (await daemon.accounting.audit()).by_task == {"a": 1}
    assert [announcement.event for announcement in said] == ["ledger.behind"]
    put_back(host, row)
    assert (await daemon.accounting.audit()).unaccounted == 0
    assert [announcement.event for announcement in said] == ["ledger.behind", "ledger.caught_up"]
    await daemon.stop()


@on_virtual_time(NOON)
async def test_a_run_that_is_under_way_when_its_task_changes_is_accounted_for_once_it_has_ended(
    host: Host,
) -> None:
    async def slow(ctx: Context) -> None:
        if instant(ctx.due.isoformat()) == instant("2026-11-23T12:00:10+05:30"):
            await asyncio.sleep(100)

    current = [host.configured(task("a", PACE))]
    daemon = host.daemon(lambda: current[0], works={"a": slow})
    await daemon.start()
    await host.until("2026-11-23T12:00:25+05:30")
    assert totals(await daemon.accounting.audit()) == (1, 0, 1, 0)
    current[0] = host.configured(task("a", OTHER_PACE))
    assert await daemon.reload("test")
    await host.until("2026-11-23T12:00:55+05:30")
    audit = await daemon.accounting.audit()
    assert (audit.in_flight, audit.unaccounted) == (1, 0)
    await host.until("2026-11-23T12:03:00+05:30")
    audit = await daemon.accounting.audit()
    assert audit.unaccounted == 0
    assert audit.accounted + audit.in_flight == audit.expected
    await daemon.stop()


@on_virtual_time(NOON)
async def test_what_came_after_a_run_that_is_under_way_is_accounted_for_when_it_does_so_no_more(
    host: Host,
) -> None:
    async def slow(ctx: Context) -> None:
        await asyncio.sleep(45)

    current = [host.configured(task("a", PACE), task("b", After("a")))]
    daemon = host.daemon(lambda: current[0], works={"a": slow})
    await daemon.start()
    await host.until("2026-11-23T12:01:05+05:30")
    assert (await daemon.accounting.audit()).in_flight == 2
    current[0] = host.configured(task("a", PACE), task("b", OTHER_PACE))
    assert await daemon.reload("test")
    await host.until("2026-11-23T12:03:05+05:30")
    assert (await daemon.accounting.audit()).unaccounted == 0
    await daemon.stop()


@on_virtual_time(NOON)
async def test_the_first_audit_goes_through_a_bounded_number_of_rows(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with host.up(task("a", PACE)) as daemon:
        await host.until("2026-11-23T12:03:15+05:30")
        monkeypatch.setattr("scheduler.accounting.MOST_ROWS", 8)
        assert totals(await daemon.accounting.audit()) == (7, 7, 0, 0)  # the eighth is within the grace
        await host.until("2026-11-23T12:05:15+05:30")
        assert totals(await daemon.accounting.audit()) == (19, 19, 0, 0)


@on_virtual_time(NOON)
async def test_what_is_lost_stays_lost_when_the_calendar_no_longer_reaches_back_to_it(host: Host) -> None:
    host.tables = {"NSE": nse_week()}
    async with host.up(task("a", PACE)) as daemon:
        await host.until("2026-11-23T12:01:15+05:30")
        await daemon._durable()
        ledger(host, "DELETE FROM runs WHERE due = ?", instant("2026-11-23T12:00:30+05:30"))
        assert (await daemon.accounting.audit()).unaccounted == 1
        host.tables["NSE"].first = instant("2026-11-23T12:01:00+05:30")
        assert totals(await daemon.accounting.audit()) == (6, 5, 0, 1)


@on_virtual_time(NOON)
async def test_an_audit_that_cannot_read_the_ledger_leaves_its_stretch_to_the_next(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with host.up(task("a", PACE)) as daemon:
        await host.until("2026-11-23T12:01:15+05:30")
        daemon.handle(PauseRequested("a"))  # a stretch, which has to be looked at row by row
        await host.until("2026-11-23T12:02:15+05:30")
        with monkeypatch.context() as patch:
            patch.setitem(SQL, "outcomes", "SELECT no_such_column FROM runs")
            assert await daemon.accounting.audit() == Audit()
        assert totals(await daemon.accounting.audit()) == (12, 12, 0, 0)


@on_virtual_time(NOON)
async def test_while_the_disk_takes_nothing_the_latest_audit_stands(host: Host) -> None:
    async with host.up(task("a", PACE)) as daemon:
        await host.until("2026-11-23T12:01:15+05:30")
        before = await daemon.accounting.audit()
        daemon._ledger._writer.degraded = True
        await host.until("2026-11-23T12:02:15+05:30")
        assert await daemon.accounting.audit() is before
        daemon._ledger._writer.degraded = False
        assert totals(await daemon.accounting.audit()) == (12, 12, 0, 0)


@on_both_loops
async def test_the_daemon_audits_by_itself_time_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.accounting.EVERY", 0.01)
    table = always("2026-01-01", "2027-12-31")
    configured = Configuration((task("a", Every({"*": SECOND}), market="always"),), {"always": table}, UTC)
    daemon = Daemon(lambda _: configured, state=tmp_path, clock=SystemClock(), callables={"a": forever})
    await daemon.start()
    await until(lambda: daemon.accounting.latest.at is not None)
    first = daemon.accounting.latest
    await until(lambda: daemon.accounting.latest is not first)
    await daemon.stop()


async def forever(ctx: Context) -> None:
    await asyncio.Event().wait()
