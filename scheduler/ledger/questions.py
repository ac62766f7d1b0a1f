"""What the control plane asks of the ledger. LedgerError from each when it cannot be read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from scheduler.core.messages import Duration, Instant, Record, Status
from scheduler.errors import LedgerError
from scheduler.ledger.reader import open_for_reading
from scheduler.ledger.statements import SQL


class MergedRuns(NamedTuple):
    """Runs of one task, status and reason that began in the same stretch of time; instants in nanoseconds."""

    task: str
    status: str
    reason: str
    start: Instant  # of the first
    end: Instant | None  # of the last; None: one still runs
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody asks a row for
    due: Instant  # of the latest
    attempt: int  # likewise


class Dues(NamedTuple):
    """What became of the dues of one task."""

    attempts: Mapping[Instant, int]  # due -> its attempts so far
    completed: frozenset[Instant]


class ActRow(NamedTuple):
    """What an operator did."""

    at: Instant
    who: str
    action: str
    task: str
    reason: str
    detail: Mapping[str, Any]


def read_timeline(path: Path, since: Instant, until: Instant, width: Duration) -> list[MergedRuns]:
    """What ran or was due in ``[since, until)``, by start; ``width``: of the stretches that are merged."""
    wanted = {"since": since, "until": until, "width": width}
    with _reading(path) as connection:
        rows = connection.execute(SQL["timeline"], wanted).fetchall()
    found = []
    for task, status, reason, start, end, alive, count, latest in rows:
        due, attempt = latest.split()
        found.append(
            MergedRuns(task, status, reason, start, None if alive else end, count, int(due), int(attempt))
        )
    return found


def read_dues(path: Path, task: str, since: Instant, until: Instant) -> Dues:
    """Of the dues in ``[since, until)`` that have a row of their own."""
    with _reading(path) as connection:
        rows = connection.execute(SQL["dues_of_task"], {"task": task, "since": since, "until": until})
        found = rows.fetchall()
    return Dues({due: attempt for due, attempt, _ in found}, frozenset(due for due, _, done in found if done))


def read_latest(path: Path) -> list[Record]:
    """The row of the newest due of each task, its last attempt."""
    found: dict[str, Record] = {}
    with _reading(path) as connection:
        for _, name, due, attempt, status, *rest in connection.execute(SQL["watermarks"]):
            if due is not None and attempt is not None:
                found[name] = Record(name, due, attempt, Status(status), *rest)
    return list(found.values())


def read_acts(path: Path) -> Iterator[ActRow]:
    """What operators did, newest first."""
    with _reading(path) as connection:
        for at, who, action, task, reason, detail in connection.execute(SQL["acts"]):
            yield ActRow(at, who, action, task, reason, json.loads(detail))


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_for_reading(path)) as connection:
        try:
            yield connection
        except sqlite3.Error as error:
            raise LedgerError(f"{path} cannot be read: {error}") from error
