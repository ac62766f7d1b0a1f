"""What became of the runs: those alive, and the latest that ended."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from scheduler.core.messages import Duration, Instant, Status
from scheduler.errors import DuplicateRunError
from scheduler.runs.strays import Nest


class RunEntry(Nest):
    """What is known of one run. Status, times and error stay after its end.

    Values that most runs never change are class attributes: making an entry is on the hot path.
    """

    status = Status.QUEUED
    started: Instant | None = None
    ended: Instant | None = None
    error = ""
    task: asyncio.Task[None] | None = None  # while it is alive
    begun = False  # its coroutine has taken its first step
    stopping = False  # it has been asked to end

    def __init__(self, run_id: str, owner: str) -> None:
        self.run_id = run_id
        self.owner = owner

    def cancel(self) -> None:
        """Ask it to end."""
        self.stopping = True
        self.interrupt()

    def interrupt(self) -> None:
        """Cancel its task. Before its first step that would keep it from ever saying that it ended."""
        if self.begun and self.task is not None:
            self.task.cancel()


class RunRegistry:
    """The runs that are alive and the latest that ended, by id."""

    def __init__(self, now: Callable[[], Instant], *, keep: int = 2_000) -> None:
        """``now`` reads the wall clock in nanoseconds; at most ``keep`` ended runs are remembered."""
        self.live: dict[str, RunEntry] = {}
        self.now = now
        self._keep = keep
        self._ended: dict[str, RunEntry] = {}
        self._order: deque[RunEntry] = deque()

    def add_run(self, run_id: str, owner: str = "") -> RunEntry:
        """A new entry; DuplicateRunError when a run with this id is alive."""
        entry = RunEntry(run_id, owner)
        self.add(entry)
        return entry

    def add(self, entry: RunEntry) -> None:
        if entry.run_id in self.live:
            raise DuplicateRunError(f"a run with the id {entry.run_id!r} is alive")
        self.live[entry.run_id] = entry

    def get_run(self, run_id: str) -> RunEntry | None:
        """The run that is alive, else the latest with this id that is remembered."""
        return self.live.get(run_id) or self._ended.get(run_id)

    def finish(self, entry: RunEntry, status: Status, error: str = "") -> None:
        """The run is over. The oldest that ended makes room."""
        entry.open = False
        entry.status = status
        entry.error = error
        entry.ended = self.now()
        entry.task = None
        self.live.pop(entry.run_id, None)
        self._ended[entry.run_id] = entry
        self._order.append(entry)
        if len(self._order) > self._keep:
            self._forget(self._order.popleft())

    def cleanup_old_runs(self, older_than: Duration) -> int:
        """Forget runs that ended more than ``older_than`` nanoseconds ago; how many."""
        limit = self.now() - older_than
        before = len(self._order)
        while self._order and (self._order[0].ended or 0) < limit:
            self._forget(self._order.popleft())
        return before - len(self._order)

    def _forget(self, entry: RunEntry) -> None:
        if self._ended.get(entry.run_id) is entry:  # else a later run has the same id
            del self._ended[entry.run_id]
