"""Reading the ledger from another thread or process, whether or not a daemon has it open."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from statistics import median_low
from typing import Any, Final, NamedTuple

from scheduler.core.market import is_assumed
from scheduler.core.messages import Duration, Facts, Instant, Record, Remembered, Status, TaskHistory, run_id
from scheduler.errors import LedgerError
from scheduler.ledger.patience import limit
from scheduler.ledger.statements import BUSY_SECONDS, SCHEMA_VERSION, SQL, schema_version

_PAGE: Final = 10_000  # rows per statement: a slow reader must not keep the daemon's log from being reset
_NEVER: Final = 1 << 62
_LAST: Final = (_NEVER, 0, 0)  # a key after every row


class HistoryRow(NamedTuple):
    """One row of the ledger; instants in nanoseconds. ``count`` > 1 is a stretch, due to last_due."""

    task: str
    due: Instant
    run_id: str
    attempt: int
    status: str
    reason: str
    started: Instant | None
    ended: Instant | None
    error: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody asks a row for
    last_due: Instant | None
    cause: str
    calendar: str

    @property
    def assumed(self) -> bool:
        """Whether what the market did on its day was only assumed."""
        return is_assumed(self.calendar)


def read_history(
    path: Path,
    *,
    tasks: Collection[str] | None = None,
    since: Instant = 0,
    until: Instant = _NEVER,
    status: Collection[str] | None = None,
    newest_first: bool = False,
    limit: int | None = None,
) -> Iterator[HistoryRow]:
    """The rows due in ``[since, until)``, and the stretches that reach into it, by due.

    LedgerError, at the first row, when there is no ledger or it cannot be read.
    """
    wanted = {
        "names": None if tasks is None else json.dumps(list(tasks)),
        "statuses": None if status is None else json.dumps([str(each) for each in status]),
        "since": since,
        "until": until,
    }
    with closing(open_for_reading(path)) as connection:
        try:
            rows = _rows(connection, wanted, newest_first=newest_first)
            for due, _, attempt, name, *rest in islice(rows, limit):
                yield HistoryRow(name, due, run_id(name, due, attempt), attempt, *rest)
        except sqlite3.Error as error:
            raise LedgerError(f"{path} cannot be read: {error}") from error


def _rows(
    connection: sqlite3.Connection, wanted: Mapping[str, Any], *, newest_first: bool
) -> Iterator[tuple[Any, ...]]:
    reaching = connection.execute(SQL["stretches_into"], wanted).fetchall()
    if newest_first:
        yield from _pages(connection, "history_newest_first", (wanted["until"], -1, 0), wanted)
        yield from reversed(reaching)
    else:
        yield from reaching
        yield from _pages(connection, "history", (wanted["since"], -1, 0), wanted)


def _pages(
    connection: sqlite3.Connection, statement: str, key: tuple[int, ...], wanted: Mapping[str, Any]
) -> Iterator[tuple[Any, ...]]:
    page = [()]
    while page:
        due, task, attempt = key
        parameters = {**wanted, "due": due, "task": task, "attempt": attempt, "page": _PAGE}
        page = connection.execute(SQL[statement], parameters).fetchall()
        yield from page
        key = page[-1][:3] if page else key


def typical_durations(path: Path, tasks: Collection[str]) -> dict[str, Duration]:
    """The median duration of each task's last completed runs; a task without one is left out."""
    with closing(open_for_reading(path)) as connection:
        try:
            return durations(connection, tasks)
        except sqlite3.Error as error:
            raise LedgerError(f"{path} cannot be read: {error}") from error


def durations(connection: sqlite3.Connection, tasks: Collection[str], runs: int = 20) -> dict[str, Duration]:
    found: dict[str, list[Duration]] = {name: [] for name in tasks}
    key: tuple[int, ...] = _LAST
    while missing := [name for name, some in found.items() if len(some) < runs]:
        # Frequent tasks drop out after the first pages, so that the rare ones are looked for alone.
        page = connection.execute(SQL["durations"], (*key, json.dumps(missing), _PAGE)).fetchall()
        for _, _, _, name, duration in page:
            found[name].append(duration)
        if len(page) < _PAGE:
            break
        key = page[-1][:3]
    return {name: median_low(some[:runs]) for name, some in found.items() if some}


def read_under_way(path: Path, task: str, at: Instant, *, is_now: bool) -> Record | None:
    """The run of a task that was under way at an instant; for now only those that still are. LedgerError."""
    with closing(open_for_reading(path)) as connection:
        try:
            rows = [row for row in connection.execute(SQL["unfinished"]) if row[0] == task]
            rows = [row for row in rows if row[3] == Status.RUNNING and row[5] is not None and row[5] <= at]
            if not rows and not is_now:
                rows = connection.execute(SQL["under_way_then"], {"task": task, "at": at}).fetchall()
        except sqlite3.Error as error:
            raise LedgerError(f"{path} cannot be read: {error}") from error
    return _record(*rows[-1]) if rows else None


def read_remembered(path: Path) -> Remembered:
    """What the scheduler remembers of its tasks. LedgerError when there is no ledger to be read."""
    with closing(open_for_reading(path)) as connection:
        try:
            return remembered(connection)
        except sqlite3.Error as error:
            raise LedgerError(f"{path} cannot be read: {error}") from error


def remembered(connection: sqlite3.Connection) -> Remembered:
    found: dict[str, dict[str, Facts]] = {}
    for task, key, facts in connection.execute(SQL["states"]):
        found.setdefault(task, {})[key] = json.loads(facts)
    return found


def task_histories(
    connection: sqlite3.Connection, names: Collection[str], now: Instant, loops: Mapping[str, Instant]
) -> dict[str, TaskHistory]:
    """What a starting daemon needs to know of its tasks; a task never heard of is expected from now on.

    Others are among the answers if a run of theirs was left unfinished. ``loops`` has the due of the
    latest stretch of each loop.
    """
    wanted = set(names)
    accounted: dict[str, Instant] = {}
    latest: dict[str, Record] = {}
    successes: dict[str, Instant | None] = {}
    for until, success, name, due, *rest in connection.execute(SQL["watermarks"]):
        if name in wanted:
            successes[name] = success
            if until is not None:
                accounted[name] = until
            if due is not None:
                latest[name] = _record(name, due, *rest)
    interrupted: dict[str, list[Record]] = {}
    for row in connection.execute(SQL["unfinished"]):
        interrupted.setdefault(row[0], []).append(_record(*row))
    expected = _expected_since(connection, now)
    return {
        name: TaskHistory(
            _expected_from(accounted.get(name), expected.get(name), now),
            tuple(interrupted.get(name, ())),
            latest.get(name),
            (loops[name], _attempts(connection, name, loops[name])) if name in loops else None,
            successes.get(name),
        )
        for name in wanted | interrupted.keys()
    }


def _attempts(connection: sqlite3.Connection, task: str, due: Instant) -> int:
    """How often a run was started."""
    attempts: int = connection.execute(SQL["attempts"], (due, task)).fetchone()[0]
    return attempts


def oldest_watermark(connection: sqlite3.Connection) -> Instant | None:
    """The earliest instant from which a task that is still defined is not accounted for."""
    ended = _NEVER
    expected = _expected_since(connection, ended)
    accounted = {row[2]: row[0] for row in connection.execute(SQL["watermarks"])}
    names = (accounted.keys() | expected.keys()) - {name for name, at in expected.items() if at == ended}
    return min(
        (
            _expected_from(accounted.get(name), expected.get(name), ended)
            for name in names
            if accounted.get(name) is not None or name in expected
        ),
        default=None,
    )


def _expected_from(accounted: Instant | None, since: Instant | None, now: Instant) -> Instant:
    if accounted is None:
        return now if since is None else since
    return accounted + 1 if since is None else max(accounted + 1, since)


def _expected_since(connection: sqlite3.Connection, now: Instant) -> dict[str, Instant]:
    """Since when each task is expected by its present definition and calendar; ``now`` where none is."""
    rows = connection.execute(SQL["definitions"])
    return {task: start if until is None else now for task, start, until, _ in rows}


def _record(name: str, due: Instant, attempt: int, status: str, *rest: Any) -> Record:
    return Record(name, due, attempt, Status(status), *rest)


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. LedgerError when there is no ledger, or none that can be read."""
    if not path.exists():
        raise LedgerError(f"there is no ledger at {path}; has a scheduler run with this state directory?")
    address = f"{path.absolute().as_uri()}?mode=ro"
    try:
        try:
            connection, version = _connect(address)
        except sqlite3.OperationalError:
            # Closed cleanly, a ledger has no log beside it; where none can be made, the file is all there is.
            if path.with_name(path.name + "-wal").exists():
                raise
            connection, version = _connect(f"{address}&immutable=1")
    except sqlite3.Error as error:
        raise LedgerError(f"{path} cannot be read: {error}") from error
    if version == SCHEMA_VERSION:
        return connection
    connection.close()
    if version > SCHEMA_VERSION:
        raise LedgerError(f"{path} was written by a newer scheduler")
    raise LedgerError(
        f"{path} is not a ledger that this scheduler can read; start the scheduler to update it"
    )


def _connect(address: str) -> tuple[sqlite3.Connection, int]:
    connection = sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    limit(connection)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # opens the log as well
        return connection, schema_version(connection)
    except BaseException:
        connection.close()
        raise


def defined(connection: sqlite3.Connection) -> dict[str, str]:
    """The fingerprints of the definitions in force, by task."""
    rows = connection.execute(SQL["definitions"])
    return {task: fingerprint for task, _, until, fingerprint in rows if until is None}
