"""Ledger: what the daemon sees. Going in costs the event loop an append; coming out reads the file."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from scheduler.core.messages import DAY, Duration, Facts, Instant, Record, Remembered, TaskHistory
from scheduler.errors import LedgerError
from scheduler.ledger import reader
from scheduler.ledger.evidence import Evidence
from scheduler.ledger.store import Job
from scheduler.ledger.writer import OnTrouble, Writer

T = TypeVar("T")

_NONE: Mapping[str, Instant] = {}
_AUDIT_PATIENCE = 10.0  # seconds that an audit waits for the disk


class Ledger:
    """One ledger file with its writer thread.

    ``on_trouble(event, fields)`` is called from whichever thread meets the trouble, mostly the writer's:
    ``ledger.degraded`` and ``ledger.recovered`` (once each), ``ledger.replaced`` (a corrupt file was
    moved aside and a fresh one begun), ``ledger.lost`` (records given up).
    """

    def __init__(
        self,
        path: Path,
        *,
        on_trouble: OnTrouble,
        timer: Callable[[], float] = lambda: 0.0,
        linger: float = 0.02,
        retry: float = 1.0,
        backlog: int = 100_000,
        keep_for: Duration = 400 * DAY,
        keep_rows: int = 5_000_000,
    ) -> None:
        """LedgerError if the file cannot be used; a full disk degrades instead.

        ``linger`` and ``retry`` are seconds, ``timer`` counts them (to measure commits). ``backlog`` is
        how many records may wait for the disk. ``keep_for`` and ``keep_rows`` are what pruning leaves.
        """
        self.path = path
        self._keep_for = keep_for
        self._keep_rows = keep_rows
        self._writer = Writer(
            path, on_trouble=on_trouble, timer=timer, linger=linger, retry=retry, backlog=backlog
        )
        self.record: Callable[[Record], None] = self._writer.record
        """Take up a record, in place of an earlier one of its run. Never blocks; LedgerError once closed."""

    async def durable(self) -> bool:
        """Wait until all recorded so far is on the disk; False, at once, while the ledger is degraded."""
        return await asyncio.wrap_future(self._writer.promise())

    def flush(self, timeout: float | None = None) -> bool:
        """``durable`` for threads; False also when ``timeout`` seconds have passed."""
        try:
            return self._writer.promise().result(timeout)
        except FutureTimeoutError:
            return False

    def close(self, timeout: float = 5.0) -> bool:
        """Write everything, then let go of the file; False if the disk did not answer in time (seconds)."""
        return self._writer.close(timeout)

    def prune(self, now: Instant) -> None:
        """Have what retention does not keep deleted, a slice at a time between commits."""
        self._writer.prune(now - self._keep_for, self._keep_rows)

    def definition_started(
        self, task: str, at: Instant, fingerprint: str, text: str, calendar: str = ""
    ) -> None:
        """From ``at`` on, runs of the task are expected by this definition; ``text`` is its JSON.

        Nothing happens if the same is in force already; a different one ends at ``at``.
        """
        values = {"task": task, "at": at, "fingerprint": fingerprint, "calendar": calendar, "text": text}
        self._writer.submit(
            ("keep_definition_text", values), ("end_other_definition", values), ("begin_definition", values)
        )

    def definition_ended(self, task: str, at: Instant) -> None:
        """From ``at`` on, no runs of the task are expected."""
        self._writer.submit(("end_definition", {"task": task, "at": at}))

    def defined(self) -> dict[str, str]:
        """The tasks whose runs are expected at present, with the fingerprints of their definitions."""
        return self._read(reader.defined, {})

    def remember(self, task: str, key: str, facts: Facts | None) -> None:
        """Keep something about a task across restarts; None forgets it."""
        known = (task, key)
        job: Job = ("delete_state", known) if facts is None else ("set_state", (*known, json.dumps(facts)))
        self._writer.submit(job)

    def record_act(
        self, at: Instant, who: str, action: str, task: str, reason: str, detail: Mapping[str, object]
    ) -> None:
        """Keep what an operator did; ``detail`` is JSON."""
        values = {"at": at, "who": who, "action": action, "task": task, "reason": reason}
        self._writer.submit(("add_act", {**values, "detail": json.dumps(detail)}))

    def remembered(self) -> Remembered:
        """What ``remember`` was told."""
        return self._read(reader.remembered, {})

    def task_histories(
        self, names: Collection[str], now: Instant, loops: Mapping[str, Instant] = _NONE
    ) -> dict[str, TaskHistory]:
        """What a starting daemon needs to know of these tasks; ``loops``: dues of their latest stretches."""
        unknown = {name: TaskHistory(now) for name in names}
        return self._read(lambda connection: reader.task_histories(connection, names, now, loops), unknown)

    def oldest_watermark(self) -> Instant | None:
        """The earliest instant from which a task that is still defined is not accounted for."""
        return self._read(reader.oldest_watermark, None)

    def typical_duration(self, task: str) -> Duration | None:
        """The median of the last completed runs; None without one."""
        return self._read(lambda connection: reader.durations(connection, [task]).get(task), None)

    @contextmanager
    def evidence(self) -> Iterator[Evidence | None]:
        """What is on record of all that was recorded so far; None while the disk does not take it all.

        For threads: it blocks. LedgerError.
        """
        if not self.flush(_AUDIT_PATIENCE) or self._writer.store is None:
            yield None
            return
        with closing(reader.open_for_reading(self.path)) as connection:
            try:
                yield Evidence(connection)
            except sqlite3.Error as error:
                raise LedgerError(f"{self.path} cannot be read: {error}") from error

    def _read(self, read: Callable[[sqlite3.Connection], T], without_file: T) -> T:
        """Ask the file, once what was recorded so far is in it. Blocks: for starting and for threads."""
        self.flush()
        if self._writer.store is None:  # the disk was full from the start
            return without_file
        with closing(reader.open_for_reading(self.path)) as connection:
            try:
                return read(connection)
            except sqlite3.Error as error:
                raise LedgerError(f"{self.path} cannot be read: {error}") from error

    # For the metrics.

    @property
    def unfinished(self) -> int:
        """How many runs are on the disk as queued or running."""
        store = self._writer.store
        return len(store.unfinished) if store else 0

    @property
    def degraded(self) -> bool:
        """Whether the disk refuses what is recorded."""
        return self._writer.degraded

    @property
    def queued(self) -> int:
        """Records on their way to the disk."""
        return self._writer.queued

    @property
    def dropped(self) -> int:
        """Records given up since the start."""
        return self._writer.dropped

    @property
    def commits(self) -> int:
        return self._writer.commits

    @property
    def commit_seconds(self) -> float:
        """In all commits together."""
        return self._writer.commit_seconds

    @property
    def last_commit_seconds(self) -> float:
        return self._writer.last_commit_seconds
