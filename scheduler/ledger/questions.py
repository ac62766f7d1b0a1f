"""What the control plane asks of the ledger. LedgerError from each when it cannot be read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from scheduler.core.messages import Duration, Instant, Past, Record, Status
from scheduler.errors import LedgerError
from scheduler.ledger.reader import open_for_reading
from scheduler.ledger.statements import SQL


class MergedRuns(NamedTuple):
    """Runs of one task, status and reason that began in the same part of the time; in nanoseconds."""

    status: str
    reason: str
    start: Instant  # of the first
    end: Instant | None  # of the last; None: one still runs
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody asks a row for
    due: Instant  # of the latest
    attempt: int  # likewise


class ActRow(NamedTuple):
    """What an operator did."""

    at: Instant
    who: str
    action: str
    task: str
    reason: str
    detail: Mapping[str, Any]


def read_timeline(path: Path, since: Instant, until: Instant, width: Duration) -> dict[str, list[MergedRuns]]:
    """By task, what ran or was due in ``[since, until)``; runs that began in the same ``width`` are merged.

    Stretches of missed or skipped runs are not: they are few.
    """
    found: dict[str, list[MergedRuns]] = {}
    latest: dict[tuple[str, str, str], tuple[int, int]] = {}  # -> part of the time, place among the marks
    with _reading(path) as connection:
        wanted = {"since": since, "until": until}
        before = connection.execute(SQL["timeline_begun_before"], wanted)
        rows = chain(before.fetchall(), connection.execute(SQL["timeline"], wanted))
        for task, due, attempt, status, reason, count, began, over in rows:
            marks = found.setdefault(task, [])
            part = (began - since) // width
            known, place = latest.get((task, status, reason), (None, 0))
            if part == known and count == 1:
                mark = marks[place]
                end = None if over is None or mark.end is None else max(mark.end, over)
                marks[place] = mark._replace(end=end, count=mark.count + 1, due=due, attempt=attempt)
                continue
            if count == 1:
                latest[task, status, reason] = part, len(marks)
            marks.append(MergedRuns(status, reason, began, over, count, due, attempt))
    return found


def read_past(path: Path, tasks: Iterable[str], since: Instant, until: Instant) -> dict[str, Past]:
    """What is on record of the dues of each task in ``[since, until)``."""
    found = {}
    with _reading(path) as connection:
        for task in tasks:
            wanted = {"task": task, "since": since, "until": until}
            rows = connection.execute(SQL["dues_of_task"], wanted).fetchall()
            began, present = connection.execute(SQL["definitions_of_task"], (task,)).fetchone()
            found[task] = Past(
                {due: attempt for due, attempt, _, count, _ in rows if count == 1},
                frozenset(due for due, _, done, _, _ in rows if done),
                tuple((due, last, count) for due, _, _, count, last in rows if count > 1),
                began,
                present or 0,
            )
    return found


def read_latest(path: Path) -> list[Record]:
    """The row of the newest due of each task, its last attempt."""
    found: dict[str, Record] = {}
    with _reading(path) as connection:
        for _, _, name, due, attempt, status, *rest in connection.execute(SQL["watermarks"]):
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
