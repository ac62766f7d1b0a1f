"""The ledger's file: opening, writing a batch in one transaction, pruning. One thread at a time.

Rows are kept in the order of their due, where new ones arrive, so that a commit touches only the last
pages. What would otherwise need an index by task, its newest rows, is kept in ``tasks``: settled for
all rows due before ``settled``, and looked up among the few rows since.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from scheduler.core.messages import Cause, Instant, Record, Status
from scheduler.core.wording import encodable
from scheduler.errors import LedgerError
from scheduler.ledger.statements import BUSY_SECONDS, SCHEMA_VERSION, SQL, schema_version

SETTLE_AFTER: Final = 200_000  # rows: what a start looks through at most, some 50 ms
SLICE: Final = 500  # rows deleted per transaction, about a millisecond
STRIDE: Final = 20_000  # rows walked per step
LONGEST_ERROR: Final = 8_000  # characters of an error that are kept
_CLOCK_DRIVEN: Final = frozenset({"tick", "catch-up", "retry"})
_UNFINISHED: Final = frozenset({"queued", "running"})
_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_NO_ROOM: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
_PLAIN: Final = Status.COMPLETED
_PLAIN_STATEMENTS: Final = {  # by how many rows one writes, falling to 1
    size: SQL["write_plain_runs"].format(rows=", ".join([SQL["plain_run"]] * size)) for size in (64, 8, 1)
}
_WAL_SIZE: Final = 64 << 20  # bytes the write-ahead log is cut back to

RunKey = tuple[str, Instant, int]  # task, due, attempt
_RowKey = tuple[Instant, int, int]  # due, task id, attempt
Job = tuple[str, Sequence[Any] | dict[str, Any]]  # a statement's name and its parameters

# One function for each version from which a file can be brought to the next: {1: add_a_column}.
MIGRATIONS: Final[dict[int, Callable[[sqlite3.Connection], object]]] = {
    1: lambda connection: [
        connection.execute(SQL[name]) for name in ("add_acts", "add_success", "find_success")
    ],
}


def is_corrupt(error: Exception) -> bool:
    return _code(error) in _CORRUPT


def is_passing(error: Exception) -> bool:
    """Whether the same might work later: no room, or the device failed."""
    return _code(error) in _NO_ROOM


def _code(error: Exception) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


class Store:
    """An open ledger file. sqlite3.Error from any method; the transaction is then undone."""

    def __init__(self, path: Path) -> None:
        """Open or create; LedgerError for a file that is not, or no longer, ours to write."""
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        self._connection = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(path)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, path: Path) -> None:
        execute = self._connection.execute
        version = schema_version(self._connection)
        if version > SCHEMA_VERSION:
            raise LedgerError(
                f"{path} was written by a newer scheduler (schema {version}, this one knows {SCHEMA_VERSION})"
            )
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute(f"PRAGMA journal_size_limit = {_WAL_SIZE}")
        if version == 0:
            if execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                raise LedgerError(f"{path} is a database, but not a ledger")
            self._transact(self._create)
            version = SCHEMA_VERSION
        for old in range(version, SCHEMA_VERSION):
            self._transact(partial(self._migrate, old))
        self._tasks: dict[str, int] = dict(execute("SELECT name, id FROM tasks"))
        self._calendars: dict[str, int | None] = dict(execute("SELECT version, id FROM calendars"))
        self._calendars[""] = None
        self._settled: Instant = execute(SQL["settled"]).fetchone()[0]
        self._unsettled = 0
        self.unfinished = {Record(*row)[:3] for row in execute(SQL["unfinished"])}

    def _create(self) -> None:
        for statement in _split(SQL["schema"] + SQL["add_acts"]):
            self._connection.execute(statement)
        self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _migrate(self, version: int) -> None:
        MIGRATIONS[version](self._connection)
        self._connection.execute(f"PRAGMA user_version = {version + 1}")

    def _transact(self, work: Callable[[], object]) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            work()
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # a full disk has already rolled back
                execute("ROLLBACK")
            raise

    def write(self, records: Mapping[RunKey, Record], jobs: Iterable[Job] = ()) -> None:
        """All of it durable, or none. ValueError, OverflowError, …: something no database can hold."""
        names, versions = len(self._tasks), len(self._calendars)
        try:
            begun = self._begun(records)
            self._transact(lambda: self._write(records.values(), jobs, begun))
        except BaseException:
            _forget(self._tasks, names)
            _forget(self._calendars, versions)
            raise
        self.unfinished.difference_update(records)
        self.unfinished.update(key for key, record in records.items() if record.status in _UNFINISHED)
        self.unfinished.difference_update(begun)
        self._unsettled += len(records)
        if self._unsettled >= SETTLE_AFTER:
            self.settle()

    def _begun(self, records: Mapping[RunKey, Record]) -> list[RunKey]:
        """The rows of what waited and has begun now."""
        waited = [key for key in self.unfinished if not key[2]]
        waited += [key for key, record in records.items() if record.status is Status.QUEUED]
        return [key for key in waited if (key[0], key[1], 1) in records]

    def _write(self, records: Iterable[Record], jobs: Iterable[Job], begun: Iterable[RunKey]) -> None:
        plain: list[Any] = []
        rows, late, settled = [], [], self._settled
        tasks, calendars = self._tasks, self._calendars
        for record in records:
            name, due, attempt, status, reason, started, ended, error, count, last, cause, version = record
            task = tasks[name] if name in tasks else self._add("add_task", tasks, name)
            if version in calendars:
                calendar = calendars[version]
            else:
                calendar = self._add("add_calendar", calendars, version)
            if due < settled:
                succeeded = status is Status.COMPLETED and cause != Cause.BACKFILL
                late.append(
                    {
                        "task": task,
                        "due": due,
                        "reach": last or due,
                        "clock_driven": cause in _CLOCK_DRIVEN,
                        "success": ended if succeeded else None,
                    }
                )
            if status is _PLAIN and attempt == 1 and not (reason or error or last) and cause == "tick":
                plain += (due, task, started, ended, calendar)
            else:
                # str(): sqlite3 takes a detour of a microsecond for each str that is an enum's
                rows.append((
                    due, task, attempt, str(status), str(reason), started, ended, _text(error), count, last,
                    str(cause), calendar,
                ))  # fmt: skip
        self._write_plain(plain)
        self._connection.executemany(SQL["write_run"], rows)
        self._connection.executemany(SQL["settle_row"], late)
        self._connection.executemany(SQL["begun"], [(due, tasks[name]) for name, due, _ in begun])
        for name, parameters in jobs:
            self._connection.execute(SQL[name], parameters)

    def _write_plain(self, values: list[Any]) -> None:
        width = SQL["plain_run"].count("?")
        start = 0
        for size, statement in _PLAIN_STATEMENTS.items():
            step = size * width
            while start + step <= len(values):
                self._connection.execute(statement, values[start : start + step])
                start += step

    def _add(self, statement: str, known: dict[str, Any], name: str) -> int:
        number = len(known) + 1
        self._connection.execute(SQL[statement], (number, name))
        known[name] = number
        return number

    def settle(self) -> None:
        """Bring ``tasks`` up to the newest row."""

        def work() -> None:
            self._connection.execute(SQL["settle_all"])
            self._connection.execute(SQL["move_settled"])

        self._transact(work)
        self._settled = self._connection.execute(SQL["settled"]).fetchone()[0]
        self._unsettled = 0

    def prune(self, before: Instant, keep_rows: int) -> Iterator[int]:
        """Delete what is due before an instant or beyond the newest ``keep_rows``, a slice at a time.

        Yields the rows deleted with each slice. Never deleted: unfinished runs, each task's newest row,
        and the row that says how far the task is accounted for.
        """
        self.settle()
        last: _RowKey | None = (1 << 62, 0, 0)
        walked = 0
        while last is not None and walked < keep_rows - 1:  # to the oldest row that is kept
            step = min(STRIDE, keep_rows - 1 - walked)
            last = self._connection.execute(SQL["older_key"], (*last, step)).fetchone()
            walked += step
            yield 0
        before = max(before, last[0]) if last else before
        before = min(before, self._settled)
        key: _RowKey = (-1, 0, 0)
        while end := self._connection.execute(SQL["newer_key"], (*key, before, SLICE)).fetchone():
            cursor = self._connection.execute(SQL["prune_slice"], (*key, *end))
            key = end
            yield cursor.rowcount
        self._connection.execute(SQL["prune_definitions"], (before,))
        self._connection.execute(SQL["prune_acts"], (before,))

    def abandon(self) -> None:
        """Let go of a file that is beyond use."""
        with suppress(sqlite3.Error):  # it has nothing more to say than what led here
            self._connection.close()

    def close(self) -> None:
        """Write what is in the log to the file itself, where that is possible, and let go of it."""
        with suppress(sqlite3.Error):  # nothing is lost: the next to open the file does the same
            self.settle()
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()


def set_aside(path: Path) -> Path:
    """Rename a corrupt ledger and its log to ``NAME.corrupt-N``, for a person to look at."""
    number = 1
    while (aside := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def _text(error: str) -> str:
    """An error as it can be kept, and not without end."""
    return encodable(error[:LONGEST_ERROR])


def _forget(known: dict[str, Any], size: int) -> None:
    """Undo what was added after the first ``size`` entries."""
    while len(known) > size:
        known.popitem()


def _split(script: str) -> Iterator[str]:
    """The statements of a script (``executescript`` would commit in between)."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
