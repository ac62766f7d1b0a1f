"""What became last of each task, without a question to the disk."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from scheduler.core.messages import Cause, Record, Status

_UNFINISHED = frozenset({Status.QUEUED, Status.RUNNING})


class Latest:
    """The outcome recorded last of each task, and the error of the latest failure; those of backfills
    are of another day.
    """

    def __init__(self) -> None:
        self.outcomes: dict[str, Record] = {}
        self.errors: dict[str, str] = {}

    def take(self, record: Record) -> None:
        """Of every run: it has to be cheap."""
        if record.status not in _UNFINISHED and record.cause != Cause.BACKFILL:
            self.outcomes[record.task] = record
            if record.status is Status.FAILED:
                self.errors[record.task] = record.error

    def begin(self, record: Record) -> None:
        """What the ledger knows from before."""
        if record.status not in _UNFINISHED and record.cause != Cause.BACKFILL:
            self.outcomes.setdefault(record.task, record)
            if record.status is Status.FAILED:
                self.errors.setdefault(record.task, record.error)

    def keep(self, tasks: AbstractSet[str]) -> None:
        """Forget all but these."""
        for known in (self.outcomes, self.errors):
            for task in known.keys() - tasks:
                del known[task]
