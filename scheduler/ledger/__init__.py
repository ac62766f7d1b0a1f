"""The ledger: what became of every due run, in SQLite, durable by group commit."""

from __future__ import annotations

from scheduler.ledger.reader import HistoryRow, read_history, typical_durations
from scheduler.ledger.writer import Ledger

__all__ = ["HistoryRow", "Ledger", "read_history", "typical_durations"]
