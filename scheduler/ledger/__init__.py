"""The ledger: what became of every due run, in SQLite, durable by group commit."""

from __future__ import annotations

from scheduler.ledger.ledger import Ledger
from scheduler.ledger.patience import check_wanted, reading_until
from scheduler.ledger.questions import (
    MergedRuns,
    read_acts,
    read_latest,
    read_past,
    read_timeline,
)
from scheduler.ledger.reader import (
    HistoryRow,
    read_history,
    read_remembered,
    read_under_way,
    typical_durations,
)

__all__ = [
    "HistoryRow",
    "Ledger",
    "MergedRuns",
    "check_wanted",
    "read_acts",
    "read_history",
    "read_latest",
    "read_past",
    "read_remembered",
    "read_timeline",
    "read_under_way",
    "reading_until",
    "typical_durations",
]
