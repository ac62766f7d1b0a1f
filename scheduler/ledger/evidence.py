"""What an audit asks of the ledger's file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from typing import Final

from scheduler.core.accounting import Row
from scheduler.core.messages import Instant, Status
from scheduler.ledger.statements import SQL

_NEWEST: Final = (1 << 62, 0, 0)  # a key after every row
_FINAL: Final = tuple(status for status in Status if status not in (Status.QUEUED, Status.RUNNING))


class Evidence:
    """One connection's view of what is on record, for as long as it is open. sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def reach(self, since: Instant, rows: int) -> Instant:
        """The instant, not before ``since``, from which on no more than so many rows were due."""
        found = self._connection.execute(SQL["older_key"], (*_NEWEST, rows)).fetchone()
        return since if found is None else max(since, found[0] + 1)

    def expected_since(self) -> dict[str, Instant]:
        """Since when the present definition and calendar of each task hold."""
        rows = self._connection.execute(SQL["definitions"])
        return {task: since for task, since, until, _ in rows if until is None}

    def plain(self, since: Instant, until: Instant) -> dict[str, int]:
        """How many dues in ``[since, until)`` have a final outcome, by task.

        Left out are tasks with stretches, runs by hand or for an event among them: see ``rows``.
        """
        found = self._connection.execute(SQL["plain_outcomes"], {"since": since, "until": until})
        return dict(found.fetchall())

    def rows(self, tasks: Collection[str], since: Instant, until: Instant) -> dict[str, list[Row]]:
        """The final outcomes of these tasks due in ``[since, until)`` or reaching into it."""
        found: dict[str, list[Row]] = {task: [] for task in tasks}
        wanted = {
            "names": json.dumps(list(tasks)), "statuses": json.dumps(_FINAL), "since": since, "until": until
        }  # fmt: skip
        for name, due, last_due in self._connection.execute(SQL["outcomes"], wanted):
            found[name].append(Row(due, due if last_due is None else last_due))
        return found
