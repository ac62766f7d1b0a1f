"""Ledgers with a past, written by the ledger's own code."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from scheduler.core.messages import MILLISECOND, SECOND, Instant, Record, Status
from scheduler.ledger import Ledger

_OUTCOMES = (
    [(Status.COMPLETED, "", "")] * 94
    + [(Status.FAILED, "error", "ConnectionError: the feed refused the connection")] * 2
    + [(Status.SKIPPED, "overlap", "")] * 2
    + [(Status.CANCELLED, "operator", ""), (Status.MISSED, "downtime", "")]
)


def write_ledger(path: Path, records: Iterable[Record]) -> int:
    """How many there are, on the disk when this returns."""
    count = 0
    ledger = Ledger(path, on_trouble=lambda _, __: None)
    for record in records:
        ledger.record(record)
        count += 1
        if count % 20_000 == 0:
            ledger.flush()
    ledger.flush()
    assert not ledger.dropped
    ledger.close()
    return count


def eventful(tasks: Sequence[str], start: Instant, until: Instant, each: int) -> Iterable[Record]:
    """``each`` evenly spaced runs of each task, with a share of every outcome; always the same."""
    chance = random.Random(7)  # noqa: S311 - guards nothing
    pace = (until - start) // each
    for k in range(each):
        for number, task in enumerate(tasks):
            due = start + k * pace + number % 60 * SECOND
            yield run(task, due, *chance.choice(_OUTCOMES), took=chance.randint(5, 4000) * MILLISECOND)


def run(
    task: str,
    due: Instant,
    status: Status = Status.COMPLETED,
    reason: str = "",
    error: str = "",
    *,
    took: int = 50 * MILLISECOND,
    attempt: int = 1,
) -> Record:
    """A run that started 2 ms after its due and took so many nanoseconds; or one that never started."""
    if status in {Status.SKIPPED, Status.MISSED}:
        return Record(task, due, 0, status, reason)
    started = due + 2 * MILLISECOND
    cause = "tick" if attempt == 1 else "retry"
    return Record(task, due, attempt, status, reason, started, started + took, error, cause=cause)
