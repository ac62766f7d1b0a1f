"""What became last of each task, without a question to the disk."""

from __future__ import annotations

from scheduler.core.messages import Cause, Record, Status

_UNFINISHED = frozenset({Status.QUEUED, Status.RUNNING})


class Latest:
    """The outcome recorded last of each task; those of backfills are of another day."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Record] = {}

    def take(self, record: Record) -> None:
        """Of every run: it has to be cheap."""
        if record.status not in _UNFINISHED and record.cause != Cause.BACKFILL:
            self.outcomes[record.task] = record

    def begin(self, record: Record) -> None:
        """What the ledger knows from before."""
        if record.status not in _UNFINISHED:
            self.outcomes.setdefault(record.task, record)
