"""A pure stand-in for the shell: feeds the engine its own wake-ups, lets runs last and end as told.

No clock, no loop: time is where the test has driven it to.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from scheduler.core.admission import Admission
from scheduler.core.engine import Engine
from scheduler.core.market import MarketTable
from scheduler.core.messages import (
    HOUR,
    SECOND,
    Announce,
    Configure,
    Event,
    Priority,
    Record,
    Remember,
    Remembered,
    RestartPolicy,
    Run,
    RunEnded,
    StartRun,
    Status,
    StopRun,
    TaskHistory,
    TaskSpec,
    Wake,
    Work,
)
from scheduler.core.triggers import KeepRunning, Trigger
from tests.helpers import instant, iso

ALWAYS = RestartPolicy("always", burst=5, window=60 * SECOND, then="keep_trying")
ON_FAILURE = RestartPolicy("on-failure", burst=3, window=600 * SECOND, then="park")
NEVER = RestartPolicy("never")

# How a run goes: its duration, then its status, reason and error.
Script = Callable[[Run], tuple[int, Status, str, str]]


def ok(seconds: float = 0.1) -> Script:
    return lambda _: (int(seconds * SECOND), Status.COMPLETED, "", "")


def bad(seconds: float = 0.1) -> Script:
    return lambda _: (int(seconds * SECOND), Status.FAILED, "error", "ValueError: no")


def endless(_: Run) -> tuple[int, Status, str, str]:
    return (1 << 62, Status.COMPLETED, "", "")


def fails_first(times: int) -> Script:
    """Fails so many times, then succeeds."""
    left = [times]

    def script(run: Run) -> tuple[int, Status, str, str]:
        left[0] -= 1
        return bad()(run) if left[0] >= 0 else ok()(run)

    return script


def spec(name: str, trigger: Trigger, **options: Any) -> TaskSpec:
    values: dict[str, Any] = {
        "priority": Priority.IMPORTANT,
        "market": "NSE",
        "work": Work(target="desk:task"),
        "restart": ON_FAILURE,
        "timeout": None,
        "catchup": HOUR,
    } | options
    return TaskSpec(name=name, trigger=trigger, **values)


def keep(rows: dict[tuple[str, int, int], Record], record: Record) -> None:
    """As a ledger does: in the place of what it said of the run before."""
    waits = rows.get((record.task, record.due, 0))
    if record.attempt and waits is not None and waits.status is Status.QUEUED:
        del rows[record.task, record.due, 0]
    rows[record.task, record.due, record.attempt] = record


class Desk:
    """An engine and its past: what it started, wrote and announced."""

    def __init__(
        self,
        specs: Iterable[TaskSpec],
        table: MarketTable,
        at: str,
        *,
        scripts: Mapping[str, Script] | None = None,
        history: Mapping[str, TaskHistory] | None = None,
        refused: Mapping[str, str] | None = None,
        remembered: Remembered | None = None,
        admission: Admission | None = None,
    ) -> None:
        self.table = table
        self.now = self.began = instant(at)
        self.scripts = dict(scripts or {})
        self.started: list[Run] = []
        self.stopped: list[StopRun] = []
        self.said: list[Announce] = []
        self.records: list[Record] = []  # each as it was written
        self.rows: dict[tuple[str, int, int], Record] = {}  # as they are now
        self.engine = Engine(jitter=lambda: 0.0, admission=admission)
        self._ends: list[tuple[int, int, RunEnded]] = []
        self._over: set[Run] = set()
        self._order = 0
        self.remembered = {task: dict(keys) for task, keys in (remembered or {}).items()}
        self.tell(Configure(tuple(specs), {table.name: table}, refused or {}, history or {}, self.remembered))

    def tell(self, event: Event) -> None:
        for action in self.engine.handle(event, self.now):
            if isinstance(action, Record):
                self.records.append(action)
                keep(self.rows, action)
            elif isinstance(action, Announce):
                self.said.append(action)
            elif isinstance(action, Remember):
                self._remember(action)
            elif isinstance(action, StartRun):
                self.started.append(action.run)
                duration, status, reason, error = self.scripts.get(action.run.task, ok())(action.run)
                self._end_later(self.now + duration, RunEnded(action.run, status, reason, error))
            else:
                self.stopped.append(action)
                self._end_later(self.now, RunEnded(action.run, action.status, action.reason))

    def on_the_ledger_of(self, before: Desk) -> Self:
        """It goes on where that one left off."""
        known, self.rows = list(self.rows.values()), dict(before.rows)
        for record in known:
            keep(self.rows, record)
        return self

    def _remember(self, action: Remember) -> None:
        keys = self.remembered.setdefault(action.task, {})
        if action.facts is None:
            del keys[action.key]  # what was never kept is not forgotten
        else:
            keys[action.key] = action.facts

    def _end_later(self, at: int, ended: RunEnded) -> None:
        self._order += 1
        heapq.heappush(self._ends, (at, self._order, ended))

    def end(self, run: Run, ended: RunEnded) -> None:
        """A run ends now, and not as its script has it."""
        self._over.add(run)
        self.tell(ended)

    def until(self, text: str) -> Self:
        """Drive time to an instant, excluded: what is due at it is not yet done."""
        goal = instant(text)
        while True:
            wake = self.engine.wake_at()
            end = self._ends[0][0] if self._ends else None
            upcoming = min((t for t in (wake, end) if t is not None), default=goal)
            if upcoming >= goal:
                self.now = goal
                return self
            self.now = max(self.now, upcoming)
            if end is not None and end <= self.now and (wake is None or end <= wake):
                ended = heapq.heappop(self._ends)[2]
                if ended.run not in self._over:
                    self._over.add(ended.run)
                    self.tell(ended)
            else:
                self.tell(Wake())

    def sleep(self, text: str) -> Self:
        """Time passes without the engine being told: a stall, a suspend."""
        self.now = instant(text)
        return self

    def crash(self) -> dict[str, TaskHistory]:
        """What a ledger would say of each task if the process were killed now."""
        found: dict[str, TaskHistory] = {}
        for name in {task for task, _, _ in self.rows}:
            rows = sorted((r for r in self.rows.values() if r.task == name), key=lambda r: (r.due, r.attempt))
            clock = [r for r in rows if r.cause in ("tick", "catch-up", "retry")]
            newest = max((r.last_due or r.due for r in clock), default=self.began - 1)  # by its definition
            running = tuple(r for r in rows if r.status in (Status.QUEUED, Status.RUNNING))
            trigger = self.engine.tasks[name].trigger
            due = trigger.last_before(self.now + 1, self.table) if isinstance(trigger, KeepRunning) else None
            begun = None if due is None else (due, max((r.attempt for r in rows if r.due == due), default=0))
            ended = [r.ended for r in rows if r.status is Status.COMPLETED and r.ended is not None]
            found[name] = TaskHistory(newest + 1, running, rows[-1], begun, max(ended, default=None))
        return found

    # What the tests ask.

    def starts(self, task: str) -> list[str]:
        return [iso(run.due) for run in self.started if run.task == task]

    def outcomes(self, task: str) -> list[tuple[str, str, str, int]]:
        """(due, status, reason, count) of each row, by due and attempt."""
        rows = sorted((r for r in self.rows.values() if r.task == task), key=lambda r: (r.due, r.attempt))
        return [(iso(r.due)[11:19], str(r.status), str(r.reason), r.count) for r in rows]

    def events(self, *names: str) -> list[str]:
        return [action.event for action in self.said if not names or action.event in names]

    def fields(self, event: str) -> list[Mapping[str, Any]]:
        return [action.fields for action in self.said if action.event == event]

    def accounted(self, task: str) -> int:
        """How many different dues of a task have an outcome."""
        final: dict[int, int] = {}
        for record in self.rows.values():
            if record.task == task and record.status not in (Status.RUNNING, Status.QUEUED):
                final[record.due] = max(final.get(record.due, 0), record.count)
        return sum(final.values())
