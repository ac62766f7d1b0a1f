"""The statements of ledger.sql by name, and what every connection to the ledger has in common."""

from __future__ import annotations

import sqlite3
from importlib.resources import files
from typing import Final

SCHEMA_VERSION: Final = 2
BUSY_SECONDS: Final = 5.0  # how long to wait for another process's lock (a checkpoint, a recovery)


def _load() -> dict[str, str]:
    text = files(__package__).joinpath("ledger.sql").read_text("utf-8")
    statements = {}
    for part in text.split("-- name: ")[1:]:
        name, _, statement = part.partition("\n")
        statements[name.strip()] = statement.strip()
    return statements


SQL: Final = _load()


def schema_version(connection: sqlite3.Connection) -> int:
    """0 for a file without a schema; sqlite3.DatabaseError when it is no database at all."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version
