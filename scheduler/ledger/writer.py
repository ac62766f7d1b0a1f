"""The writer: one thread that makes what is recorded durable, in groups, and outlives a full disk."""

from __future__ import annotations

import errno
import sqlite3
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from itertools import chain, count, islice
from pathlib import Path
from typing import Final

from scheduler.core import events
from scheduler.core.messages import Instant, Record
from scheduler.errors import LedgerError
from scheduler.ledger.store import Job, RunKey, Store, is_corrupt, is_passing, set_aside

OnTrouble = Callable[[str, Mapping[str, object]], None]

_BATCH: Final = 10_000  # rows per transaction
_STATES: Final = frozenset({"set_state", "delete_state"})
# What no retry can cure: the data, not the disk, is at fault.
_UNWRITABLE: Final = (
    AttributeError, OverflowError, TypeError, ValueError, sqlite3.DataError, sqlite3.IntegrityError,
    sqlite3.InterfaceError, sqlite3.ProgrammingError,
)  # fmt: skip


class Writer:
    """Lingers so that one commit serves many; a promise of durability ends the lingering.

    When the disk is full or fails, everything stays in a bounded backlog that is tried again; whoever
    waits is let go at once.
    """

    def __init__(
        self,
        path: Path,
        *,
        on_trouble: OnTrouble,
        timer: Callable[[], float],
        linger: float,
        retry: float,
        backlog: int,
    ) -> None:
        self.degraded = False
        self.commits = 0
        self.commit_seconds = self.last_commit_seconds = 0.0
        self._path = path
        self._on_trouble = on_trouble
        self._timer = timer
        self._linger = linger
        self._retry = retry
        self._bound = self._room = backlog
        # What others hand in. Appending is atomic; only the writer takes out.
        self._incoming: deque[Record] = deque()
        self._jobs: dict[object, tuple[Job, ...]] = {}  # under the lock of `_wake`
        self._numbers = count()  # of jobs that nothing later takes the place of
        self._promises: deque[Future[bool]] = deque()
        self._prune: tuple[Instant, int] | None = None
        self._refused = 0
        self._wake = threading.Condition()
        self._idle = self._urgent = self._closing = False
        # The writer's own.
        self._backlog: dict[RunKey, Record] = {}
        self._waiting: list[Future[bool]] = []
        self._pruning: Iterator[int] | None = None
        self._overflowed = 0
        self._reported = 0  # how many of the dropped have been told of
        self.store: Store | None = None
        self._open_first()
        self._thread = threading.Thread(target=self._write_on, name="ledger", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Records given up since the start, and jobs."""
        return self._refused + self._overflowed

    @property
    def queued(self) -> int:
        """Records on their way to the disk."""
        return len(self._incoming) + len(self._backlog)

    def record(self, record: Record) -> None:
        incoming = self._incoming
        if len(incoming) >= self._room:
            self._refuse()
            return
        incoming.append(record)
        if self._idle:
            self._rouse()

    def submit(self, *jobs: Job) -> None:
        """Statements for the next transaction, all or none of them. What is to be kept of a state takes the
        place of what was to be kept of it before; of states there are no more than tasks have.
        """
        with self._wake:
            key: object = _state_of(jobs)
            if key is None:
                if len(self._jobs) >= self._bound:
                    self._refused += 1
                    return
                key = next(self._numbers)
            self._jobs[key] = jobs
            self._rouse()

    def prune(self, before: Instant, keep_rows: int) -> None:
        self._prune = (before, keep_rows)
        self._rouse()

    def promise(self) -> Future[bool]:
        """True once all handed in so far is on the disk; False when the ledger is degraded."""
        promise: Future[bool] = Future()
        if self.degraded or self._closing:
            promise.set_result(False)
        else:
            self._promises.append(promise)
            self._rouse(urgent=True)
        return promise

    def close(self, timeout: float) -> bool:
        """Write everything and end; False, with the rest reported lost, if that takes longer (seconds)."""
        with self._wake:
            self._closing = True
            self._room = 0
            self._wake.notify()
        self._thread.join(timeout)
        left = self.queued + len(self._jobs)
        if left:
            self._tell(events.LEDGER_LOST, records=left, error="the disk did not take them before the end")
        return not left and not self._thread.is_alive()

    def _refuse(self) -> None:
        if self._closing:
            raise LedgerError("the ledger is closed")
        self._refused += 1

    def _rouse(self, *, urgent: bool = False) -> None:
        with self._wake:
            self._idle = False
            self._urgent = self._urgent or urgent
            self._wake.notify()

    # The thread.

    def _write_on(self) -> None:
        while not self._closing:
            self._wait()
            self._work()
        self._work()  # what came in before the closing was seen
        if self.store is not None:
            self.store.close()
        self._resolve(durable=False)

    def _wait(self) -> None:
        with self._wake:
            if self.degraded:
                self._wake.wait_for(lambda: self._closing, self._retry)
            else:
                self._idle = True
                self._wake.wait_for(self._has_work)
                self._idle = False
                if self._pruning is None:
                    self._wake.wait_for(lambda: self._urgent or self._closing, self._linger)
            self._urgent = False

    def _has_work(self) -> bool:
        return bool(
            self._incoming or self._jobs or self._promises or self._backlog or self._prune
            or self._pruning or self._closing
        )  # fmt: skip

    def _work(self) -> None:
        while self._promises:  # first, so that what they wait for is in the backlog below
            self._waiting.append(self._promises.popleft())
        self._gather()
        try:
            written = self._commit()
            self._prune_on()
        except Exception as error:  # noqa: BLE001 - whatever it is, the records are kept and tried again
            self._fail(error)
        else:
            if self.degraded:
                self.degraded = False
                dropped, self._reported = self.dropped - self._reported, self.dropped
                self._tell(events.LEDGER_RECOVERED, written=written, dropped=dropped)
            self._resolve(durable=True)

    def _gather(self) -> None:
        """Move what has come in to the backlog, where the records of a run become one, the newest."""
        take = self._incoming.popleft
        fresh = {record[:3]: record for record in [take() for _ in range(len(self._incoming))]}
        if len(self._backlog) + len(fresh) > self._bound:
            room = max(0, self._bound - len(self._backlog))
            new = [key for key in fresh if key not in self._backlog]
            self._overflowed += len(new[room:])
            for key in new[room:]:
                del fresh[key]
        self._backlog.update(fresh)

    def _commit(self) -> int:
        written = 0
        if self.store is None:
            self.store = Store(self._path)
        while self._backlog or self._jobs:
            batch = self._backlog
            if len(batch) > _BATCH:
                batch = dict(islice(batch.items(), _BATCH))
            with self._wake:
                taken = dict(self._jobs)
            jobs = tuple(chain.from_iterable(taken.values()))
            began = self._timer()
            self._write(self.store, batch, jobs)
            self.last_commit_seconds = self._timer() - began
            self.commit_seconds += self.last_commit_seconds
            self.commits += 1
            written += len(batch)
            self._done(taken)
            if batch is self._backlog:
                self._backlog = {}
            else:
                for key in batch:
                    del self._backlog[key]
        return written

    def _done(self, taken: dict[object, tuple[Job, ...]]) -> None:
        with self._wake:
            for key, jobs in taken.items():
                if self._jobs[key] is jobs:  # else another has taken its place meanwhile
                    del self._jobs[key]

    def _write(self, store: Store, batch: dict[RunKey, Record], jobs: tuple[Job, ...]) -> None:
        """One transaction; if something in it can never be written, find that and give it up alone."""
        try:
            store.write(batch, jobs)
        except _UNWRITABLE as error:
            size = len(batch) + len(jobs)
            if size == 1:
                self._overflowed += 1
                self._reported += 1
                self._tell(events.LEDGER_LOST, records=1, error=str(error), lost=[*batch, *jobs][0])
                return
            items = list(batch.items())
            half, rest = size // 2, max(0, size // 2 - len(items))
            self._write(store, dict(items[:half]), jobs[:rest])
            self._write(store, dict(items[half:]), jobs[rest:])

    def _prune_on(self) -> None:
        if self._prune is not None and self.store is not None:
            (before, keep_rows), self._prune = self._prune, None
            self._pruning = self.store.prune(before, keep_rows)
        if self._pruning is not None and next(self._pruning, None) is None:
            self._pruning = None

    # Trouble.

    def _open_first(self) -> None:
        try:
            self.store = Store(self._path)
        except (OSError, sqlite3.Error) as error:
            if not (is_corrupt(error) or _no_room(error)):
                raise LedgerError(f"the ledger {self._path} cannot be opened: {error}") from error
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._pruning = None
        if is_corrupt(error) and self._replace(error):
            return
        if not self.degraded:
            self.degraded = True
            self._tell(events.LEDGER_DEGRADED, error=str(error), queued=self.queued)
        self._resolve(durable=False)

    def _replace(self, error: Exception) -> bool:
        """Move a corrupt file aside; the next commit begins a fresh one."""
        try:
            if self.store is not None:
                self.store.abandon()
                self.store = None
            aside = set_aside(self._path)
        except OSError:
            return False  # reported as degraded by the caller, with the corruption as the reason
        self._tell(events.LEDGER_REPLACED, error=str(error), kept=str(aside))
        return True

    def _resolve(self, *, durable: bool) -> None:
        waiting, self._waiting = self._waiting, []
        for promise in waiting:
            if promise.set_running_or_notify_cancel():
                promise.set_result(durable)

    def _tell(self, event: str, **fields: object) -> None:
        try:
            self._on_trouble(event, fields)
        except Exception:  # noqa: BLE001 - a failing listener must not end the writer; Python shows it
            args = threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread()))
            threading.excepthook(args)


def _state_of(jobs: tuple[Job, ...]) -> tuple[object, object] | None:
    """The task and key of the state that is kept or forgotten; None where it is about something else."""
    name, values = jobs[0]
    return (values[0], values[1]) if name in _STATES and isinstance(values, tuple) else None


def _no_room(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
    return is_passing(error)
