"""For how long reads of the ledger are made: whoever waits for one may have gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from scheduler.errors import LedgerError

if TYPE_CHECKING:
    import sqlite3

_STEPS: Final = 10_000  # of SQLite between two looks, about a millisecond
_given_up: ContextVar[Callable[[], bool] | None] = ContextVar("given_up", default=None)


@contextmanager
def reading_until(given_up: Callable[[], bool]) -> Iterator[None]:
    """What this thread reads meanwhile ends with a LedgerError once ``given_up()``."""
    token = _given_up.set(given_up)
    try:
        yield
    finally:
        _given_up.reset(token)


def limit(connection: sqlite3.Connection) -> None:
    """Have a connection heed ``reading_until``."""
    given_up = _given_up.get()
    if given_up is not None:
        connection.set_progress_handler(given_up, _STEPS)


def check_wanted() -> None:
    """For work on what was read. LedgerError once it is given up."""
    given_up = _given_up.get()
    if given_up is not None and given_up():
        raise LedgerError("nobody waits for this any more")
