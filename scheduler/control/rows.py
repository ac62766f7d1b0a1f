"""Runs as the API shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.api.models.runs import ActiveRun, RunRow
from scheduler.core.market import is_assumed
from scheduler.core.messages import SECOND, Record, Run, Status, run_id

if TYPE_CHECKING:
    from scheduler.control.access import Access
    from scheduler.core.messages import Duration
    from scheduler.core.tasks import TaskState
    from scheduler.ledger import HistoryRow


def of_history(row: HistoryRow, access: Access) -> RunRow:
    return of_record(
        Record(
            row.task, row.due, row.attempt, Status(row.status), row.reason, row.started, row.ended, row.error,
            row.count, row.last_due, row.cause, row.calendar,
        ),
        access,
    )  # fmt: skip


def of_record(record: Record, access: Access) -> RunRow:
    return RunRow(
        task=record.task,
        due=access.iso(record.due),
        run_id=run_id(record.task, record.due, record.attempt),
        attempt=record.attempt,
        status=str(record.status),  # type: ignore[arg-type]  # its words are the model's
        reason=str(record.reason),
        started=access.iso_or_none(record.started),
        ended=access.iso_or_none(record.ended),
        error=record.error,
        count=record.count,
        last_due=access.iso_or_none(record.last_due),
        cause=str(record.cause),
        assumed=is_assumed(record.calendar),
    )


def active(state: TaskState, access: Access, long: Duration) -> list[ActiveRun]:
    """The run of a task that runs, the one that cannot be ended, and the one that waits."""
    found = []
    if state.active is not None:
        entry = access.daemon.manager.registry.live.get(state.active.run_id)
        word = "ending" if entry is not None and entry.stopping else "running"
        found.append(_active(state, state.active, word, access, long))
    if state.lingering is not None:
        found.append(_active(state, state.lingering, "lingering", access, long))
    if state.queued is not None:
        found.append(_active(state, state.queued, "queued", access, long))
    return found


def _active(state: TaskState, run: Run, word: str, access: Access, long: Duration) -> ActiveRun:
    started = None if word == "queued" else state.started
    since = None if started is None else max(0, access.now - started)
    return ActiveRun(
        run_id=run.run_id,
        task=run.task,
        priority=state.spec.priority.label,
        due=access.iso(run.due),
        attempt=run.attempt,
        cause=str(run.cause),
        state=word,  # type: ignore[arg-type]  # one of the model's
        started=access.iso_or_none(started),
        running_seconds=None if since is None else round(since / SECOND, 3),
        long_running=since is not None and since >= long and not state.keeps_running,
    )


def unfinished_records(state: TaskState) -> list[Record]:
    """The active run, and the one that waits, as the ledger would have them."""
    running, waiting = running_record(state), state.queued
    found = [] if running is None else [running]
    if waiting is not None:
        calendar = state.calendar_of(waiting.due)
        found.append(
            Record(
                waiting.task, waiting.due, waiting.attempt, Status.QUEUED, cause=waiting.cause,
                calendar=calendar,
            )
        )  # fmt: skip
    return found


def running_record(state: TaskState) -> Record | None:
    """The active run as the ledger would have it."""
    run = state.active
    if run is None:
        return None
    return Record(
        run.task, run.due, run.attempt, Status.RUNNING, started=state.started, cause=run.cause,
        calendar=state.label,
    )  # fmt: skip
