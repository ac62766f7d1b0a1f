"""Once a minute: are all the runs that were due on record (law 3)?

What is expected comes from the calendar, what is on record from the ledger's file, read as any other
program would. The daemon is only asked which of what is missing there it has in hand.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from scheduler.core import events
from scheduler.core.accounting import Audit, Expected, Finding, Row, examine
from scheduler.core.messages import DAY, SECOND, Announce, Instant
from scheduler.errors import LedgerError

EVERY: Final = 60.0  # seconds
GRACE: Final = 10 * SECOND  # what is due later than this before now is left to the next audit
LOOK_BACK: Final = DAY  # before the start: what was missed while no scheduler ran is in it
MOST_ROWS: Final = 1_000_000  # that the first audit goes through, a second or two; more are not kept for ever
MOST_TOLD: Final = 20  # tasks that an announcement names

Window = tuple[Instant, Instant]


class Evidence(Protocol):
    """The ledger's file."""

    def reach(self, since: Instant, rows: int) -> Instant: ...

    def expected_since(self) -> Mapping[str, Instant]: ...

    def plain(self, since: Instant, until: Instant) -> Mapping[str, int]: ...

    def rows(self, tasks: Collection[str], since: Instant, until: Instant) -> Mapping[str, Iterable[Row]]: ...


class Accounting:
    """Each audit looks at what came due since the one before, and again at what was open then."""

    def __init__(
        self,
        *,
        evidence: Callable[[], AbstractContextManager[Evidence | None]],
        tasks: Callable[[], Sequence[Expected]],
        now: Callable[[], Instant],
        in_thread: Callable[[Callable[[], bool]], Coroutine[Any, Any, bool]],
        say: Callable[[Iterable[Announce]], None],
    ) -> None:
        self.latest = Audit()
        self._evidence = evidence
        self._tasks = tasks
        self._now = now
        self._in_thread = in_thread
        self._say = say
        self._begun = now()
        self._until = self._begun - LOOK_BACK  # what is due before is accounted for, or open
        self._open: dict[str, Finding] = {}
        self._expected = 0
        self._told = False  # of something that is unaccounted for

    async def watch(self) -> None:
        """Audit for ever."""
        while True:
            await asyncio.sleep(EVERY)
            await self.audit()

    async def audit(self) -> Audit:
        """Look now. The latest stands while the disk refuses what is recorded, of which it is told anyway."""
        now, tasks = self._now(), self._tasks()  # before the ledger is asked: what ends meanwhile is in it
        before = self.latest
        if await self._in_thread(lambda: self._look(tasks, now)):
            self._tell(before.by_task.keys() & self.latest.by_task.keys())
        return self.latest

    def _tell(self, lasting: Collection[str]) -> None:
        """Of what was unaccounted for at two audits in a row: one alone may have come at a bad moment."""
        by_task = self.latest.by_task
        if lasting and not self._told:
            worst = sorted(by_task, key=lambda name: (-by_task[name], name))[:MOST_TOLD]
            runs = [f"{name}: {by_task[name]}" for name in worst]
            fields = {"unaccounted": self.latest.unaccounted, "tasks": runs}
            self._say([Announce(events.LEDGER_BEHIND, "error", fields)])
        elif self._told and not by_task:
            self._say([Announce(events.LEDGER_CAUGHT_UP, "info", {})])
        self._told = bool(by_task) and (self._told or bool(lasting))

    # In a thread.

    def _look(self, tasks: Sequence[Expected], now: Instant) -> bool:
        try:
            with self._evidence() as evidence:
                if evidence is not None:
                    self._compare(evidence, tasks, now - GRACE)
                return evidence is not None
        except LedgerError:  # replaced or gone: whoever writes it tells
            return False

    def _compare(self, evidence: Evidence, tasks: Sequence[Expected], now: Instant) -> None:
        known_since = self._until if self.latest.at else evidence.reach(self._until, MOST_ROWS)
        until = max(known_since, now)
        since, plain = evidence.expected_since(), evidence.plain(known_since, until)
        windows: dict[Window, list[Expected]] = defaultdict(list)  # what has to be looked at row by row
        open_still: dict[str, Finding] = {}
        expected = self._expected - sum(each.open for each in self._open.values())
        for task in tasks:
            # A change begins a task anew; what is due at that very instant is of before.
            # Of a ledger that was replaced nobody knows what it expected before.
            begun = max(since.get(name, self._begun) + 1 for name in task.chain)
            first = max(known_since, begun)
            due = task.trigger.count_between(first, until, task.table) if first < until else 0
            expected += due
            if due and (first != known_since or plain.get(task.name) != due):
                windows[first, until].append(task)
            known = self._open.get(task.name)
            if known is not None and begun <= known.since:
                expected += known.open
                if known.since < task.table.first:  # too long ago to be looked at again
                    open_still[task.name] = known
                else:
                    windows[known.since, known.until].append(task)
        self._open = _examine(evidence, windows, open_still)
        self._until, self._expected = until, expected
        self.latest = self._sum_up()

    def _sum_up(self) -> Audit:
        in_flight = sum(finding.in_flight for finding in self._open.values())
        by_task = {name: each.unaccounted for name, each in self._open.items() if each.unaccounted}
        unaccounted = sum(by_task.values())
        accounted = self._expected - in_flight - unaccounted
        return Audit(self._until, self._expected, accounted, in_flight, unaccounted, by_task)


def _examine(
    evidence: Evidence, windows: Mapping[Window, Sequence[Expected]], known: Mapping[str, Finding]
) -> dict[str, Finding]:
    """What is open in the windows, besides what is known to be; by task."""
    found = dict(known)
    for (since, until), tasks in windows.items():
        rows = evidence.rows([task.name for task in tasks], since, until)
        for task in tasks:
            finding = examine(task, since, until, rows[task.name])
            if finding.open:
                other = found.get(task.name)
                found[task.name] = finding if other is None else finding.joined(other)
    return found
