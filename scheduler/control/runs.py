"""Runs: on record, alive, and planned."""

from __future__ import annotations

import re
from datetime import UTC
from itertools import islice
from typing import Final

from scheduler.api.control import Peer
from scheduler.api.models.runs import (
    ActiveRun,
    ActiveRuns,
    Cancelled,
    Plan,
    PlannedRun,
    PlanQuery,
    RunRow,
    Runs,
    RunsQuery,
    TimelineQuery,
)
from scheduler.control import rows
from scheduler.control.access import Access
from scheduler.control.timeline import timeline_text
from scheduler.core.messages import DAY, CancelRequested, Duration, Instant
from scheduler.core.plan import plan
from scheduler.errors import SchedulerError, UnknownRunError, UsageError
from scheduler.ledger import HistoryRow, read_history
from scheduler.times import parse_time

_RUN_ID: Final = re.compile(
    r"(?P<task>.+)-(?P<day>\d{8})T(?P<time>\d{6})(?:\.(?P<fraction>\d{9}))?Z(?:~(?P<attempt>[1-9]\d{0,8}|0))?",
    re.ASCII,
)
_LONGEST_TIMELINE: Final = 8 * DAY


class RunControl:
    """Of one daemon."""

    def __init__(self, access: Access, long: Duration) -> None:
        """``long``: nanoseconds after which a run is called long-running."""
        self._access = access
        self._long = long

    def active(self) -> ActiveRuns:
        states = sorted(self._access.daemon.engine.tasks.values(), key=lambda state: state.rank)
        found: list[ActiveRun] = []
        for state in states:
            found += rows.active(state, self._access, self._long)
        return ActiveRuns(count=len(found), runs=tuple(found))

    async def rows(self, wanted: RunsQuery) -> Runs:
        access = self._access
        start, until = access.stretch(wanted.from_, wanted.until, (0, 1 << 62))

        def read() -> list[HistoryRow]:
            found = read_history(
                access.ledger, tasks=wanted.task or None, since=start, until=until,
                status=wanted.status or None, newest_first=True, limit=wanted.limit + 1,
            )  # fmt: skip
            return list(found)

        await access.recorded()
        found = await access.read_much(read)
        shown = tuple(rows.of_history(row, access) for row in found[: wanted.limit])
        return Runs(runs=shown, truncated=len(found) > wanted.limit)

    async def row(self, run_id: str) -> RunRow:
        task, due, attempt = _parsed(run_id)
        access = self._access
        state = access.daemon.engine.tasks.get(task)
        for record in [] if state is None else rows.unfinished_records(state):
            if (record.due, record.attempt) == (due, attempt):
                return rows.of_record(record, access)
        await access.recorded()
        found = await access.in_thread(
            lambda: list(read_history(access.ledger, tasks=[task], since=due, until=due + 1))
        )
        for row in found:
            if row.due == due and (row.attempt == attempt or (attempt == 1 and row.attempt == 0)):
                return rows.of_history(row, access)
        raise UnknownRunError(f"no run has the id {run_id!r}")

    async def cancel(self, run_id: str, by: Peer, reason: str) -> Cancelled:
        access, name = self._access, await self._access.name(by)
        task, _, _ = _parsed(run_id)
        state = access.daemon.engine.tasks.get(task)
        runs = () if state is None else (state.active, state.queued)
        if not any(run is not None and run.run_id == run_id for run in runs):
            row = await self.row(run_id)
            raise SchedulerError(f"{run_id} is not running: it is {row.status}")
        access.daemon.handle(CancelRequested(run_id))
        access.record("cancel", name, reason, task=task, run_id=run_id)
        return Cancelled(run_id=run_id, task=task, by=name)

    async def plan(self, wanted: PlanQuery) -> Plan:
        access = self._access
        start, until = access.stretch(wanted.from_, wanted.until, (access.now, access.now + DAY))
        configuration = access.daemon.configuration
        known = {spec.name for spec in configuration.specs}
        for name in wanted.task:
            if name not in known:
                access.state(name)  # UnknownTaskError
        specs = [spec for spec in configuration.specs if not wanted.task or spec.name in wanted.task]
        found = await access.read_much(
            lambda: list(islice(plan(specs, configuration.tables, start, until), wanted.limit + 1))
        )
        shown = tuple(
            PlannedRun(
                due=access.iso(run.due), task=run.task, priority=run.priority.label, market=run.market,
                phase=run.phase, session=run.session, trigger=run.trigger, assumed=run.assumed,
            )
            for run in found[: wanted.limit]
        )  # fmt: skip
        return Plan(runs=shown, truncated=len(found) > wanted.limit)

    async def timeline(self, wanted: TimelineQuery) -> bytes:
        access = self._access
        start, until = access.stretch(wanted.from_, wanted.until, (0, 0))
        if not start < until <= start + _LONGEST_TIMELINE:
            raise UsageError("a timeline is of some time, and of eight days at most")
        now, configuration = access.now, access.daemon.configuration
        await access.recorded()
        return await access.read_much(
            lambda: timeline_text(configuration, access.ledger, (start, until), now, wanted, access.iso)
        )


def _parsed(run_id: str) -> tuple[str, Instant, int]:
    """Task, due and attempt. UnknownRunError when it is no run's id."""
    match = _RUN_ID.fullmatch(run_id)
    try:
        if match is not None:
            seconds = parse_time(f"{match['day']}T{match['time']}Z", UTC)
            return match["task"], seconds + int(match["fraction"] or 0), int(match["attempt"] or 1)
    except UsageError:
        pass  # the 31st of some February
    raise UnknownRunError(f"{run_id!r} is no run's id; they look like eod-report-20261123T101500Z")
