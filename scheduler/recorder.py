"""When the records of runs go to the ledger: late enough to be cheap, never so late that a crash lies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from scheduler.core.messages import Record, Run
from scheduler.core.tasks import TaskState


class Recorder:
    """For one event loop. An appointment is on record before it begins; a pace's run that ends at once is
    one record and not two.
    """

    def __init__(self, record: Callable[[Record], None], tasks: Mapping[str, TaskState]) -> None:
        self._record = record
        self._tasks = tasks
        self._begun: list[tuple[Run, Record]] = []  # in this turn of the loop
        self._begun_before: list[tuple[Run, Record]] = []  # in the one before

    def begun(self, run: Run, record: Record, *, durable: bool) -> None:
        """A run begins; ``durable``: it must not begin before that is on the disk."""
        if durable:
            self._record(record)
            return
        if not (self._begun or self._begun_before):
            asyncio.get_running_loop().call_soon(self._turn)
        self._begun.append((run, record))

    def _turn(self) -> None:
        """What still runs after a whole turn of the loop is put on record as running."""
        for run, record in self._begun_before:
            if self._is_active(run):
                self._record(record)
        self._begun_before, self._begun = self._begun, []
        if self._begun_before:
            asyncio.get_running_loop().call_soon(self._turn)

    def settled(self, record: Record) -> None:
        """Never a due that was skipped or missed ahead of one that runs: a crash would lose the latter."""
        if not record.attempt:
            for run, begun in (*self._begun_before, *self._begun):
                if run.task == record.task and self._is_active(run):
                    self._record(begun)
        self._record(record)

    def _is_active(self, run: Run) -> bool:
        state = self._tasks.get(run.task)
        return state is not None and state.active is run
