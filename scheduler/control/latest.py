"""The latest outcome of each task, without a question to the disk."""

from __future__ import annotations

from scheduler.core.messages import Cause, Record, Status

_UNFINISHED = frozenset({Status.QUEUED, Status.RUNNING})


class Latest:
    """Told of every record; in the hot path, so it does next to nothing."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Record] = {}

    def take(self, record: Record) -> None:
        if record.status not in _UNFINISHED and record.cause != Cause.BACKFILL:
            known = self.outcomes.get(record.task)
            if (
                known is None
                or (known.due, known.attempt) <= (record.due, record.attempt)
                or record.due > known.due
            ):
                self.outcomes[record.task] = record

    def begin(self, record: Record) -> None:
        """What the ledger knows from before."""
        if record.status not in _UNFINISHED:
            self.outcomes.setdefault(record.task, record)
