"""Once a minute: are all the runs that were due on record (law 3)?

What is expected comes from the calendar, what is on record from the ledger's file, read as any other
program would. The daemon is only asked which of what is missing there it has in hand.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
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
_Key = tuple[str, Instant, int]  # a task, since when it is as it is, and its table


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
        self._open: dict[_Key, tuple[Expected, Finding]] = {}  # each with what held when it was found
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
        windows: dict[Window, list[_Key]] = defaultdict(list)  # what has to be looked at row by row
        examined = {key: task for key, (task, _) in self._open.items()}
        open_still: dict[_Key, Finding] = {}
        for key, (
            task,
            known,
        ) in self._open.items():  # what was due before a change stands, by what held then
            if known.since < task.table.first:  # too long ago to be looked at again
                open_still[key] = known
            else:
                windows[known.since, known.until].append(key)
        expected = self._expected
        for task in tasks:
            # A change begins a task anew; what is due at that very instant is of before.
            # Of a ledger that was replaced nobody knows what it expected before.
            begun = max(since.get(name, self._begun) + 1 for name in task.chain)
            first = max(known_since, begun)
            if not task.goes_on or first >= until:
                continue
            due = task.trigger.count_between(first, until, task.table)
            expected += due
            if due and (first != known_since or plain.get(task.name) != due):
                key = task.name, begun, id(task.table)
                examined[key] = task
                windows[first, until].append(key)
        in_flight = {task.name: task.in_flight for task in tasks}
        by_now = {
            key: task._replace(in_flight=in_flight.get(task.name, ())) for key, task in examined.items()
        }
        found = _examine(evidence, windows, by_now, open_still)
        self._open = {key: (by_now[key], finding) for key, finding in found.items()}
        self._until, self._expected = until, expected
        self.latest = self._sum_up()

    def _sum_up(self) -> Audit:
        in_flight = 0
        by_task: Counter[str] = Counter()
        for task, finding in self._open.values():
            in_flight += finding.in_flight
            if finding.unaccounted:
                by_task[task.name] += finding.unaccounted
        unaccounted = by_task.total()
        accounted = self._expected - in_flight - unaccounted
        return Audit(self._until, self._expected, accounted, in_flight, unaccounted, dict(by_task))


def _examine(
    evidence: Evidence,
    windows: Mapping[Window, Sequence[_Key]],
    tasks: Mapping[_Key, Expected],
    known: Mapping[_Key, Finding],
) -> dict[_Key, Finding]:
    """What is open in the windows, besides what is known to be."""
    found = dict(known)
    for (since, until), keys in windows.items():
        rows = evidence.rows([tasks[key].name for key in keys], since, until)
        for key in keys:
            finding = examine(tasks[key], since, until, rows[tasks[key].name])
            if finding.open:
                other = found.get(key)
                found[key] = finding if other is None else finding.joined(other)
    return found
