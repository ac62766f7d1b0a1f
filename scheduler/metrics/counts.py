"""What is counted while it happens: a few dictionary operations a run.

The engine's records are inserts and updates of rows, so one run is several of them: it may wait on
record (queued), it runs, it ends. A stretch of skips is one row whose count grows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from itertools import accumulate
from typing import Final

from scheduler.core import events
from scheduler.core.messages import SECOND, Announce, Cause, Duration, Instant, Priority, Record, Status
from scheduler.core.tasks import TaskState

LATENESS: Final = (0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 300.0)  # seconds
DURATION: Final = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0)

RunKey = tuple[str, Instant, int]  # task, due, attempt

_COMPLETED: Final = (Status.COMPLETED, "")


class Histogram:
    """How many durations lie in each bucket, up to and including its bound, and their sum."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, seconds: tuple[float, ...]) -> None:
        self._bounds = [int(bound * SECOND) for bound in seconds]
        self._counts = [0] * (len(seconds) + 1)
        self._sum: Duration = 0

    def observe(self, duration: Duration) -> None:
        self._counts[bisect_left(self._bounds, duration)] += 1
        if duration > 0:  # else the wall clock has gone back
            self._sum += duration

    def cumulative(self) -> tuple[list[tuple[str, float]], float]:
        """``(bound, values up to it)`` for each bucket, and the sum; in seconds."""
        bounds = [str(bound / SECOND) for bound in self._bounds]
        found = list(zip([*bounds, "+Inf"], accumulate(map(float, self._counts)), strict=True))
        return found, self._sum / SECOND


class OfTask:
    """The counts of one task."""

    __slots__ = ("_others", "completed", "crash_loops", "due", "queued", "restarts", "started", "stretch")

    def __init__(self) -> None:
        self.due = 0
        self.started = 0
        self.completed = 0  # without a reason: nearly all, and to hash a status takes half a microsecond
        self._others: dict[tuple[str, str], int] = {}
        self.restarts = 0
        self.crash_loops = 0
        self.queued: set[Instant] = set()  # the dues of runs that wait on record
        self.stretch: tuple[Instant, int] = (-1, 0)  # the row of skips or misses recorded last: due and count

    @property
    def outcomes(self) -> dict[tuple[str, str], int]:
        """By status and reason."""
        return {_COMPLETED: self.completed, **self._others} if self.completed else dict(self._others)

    def ended(self, status: str, reason: str, runs: int = 1) -> None:
        key = (status, reason)
        self._others[key] = self._others.get(key, 0) + runs

    def waits(self, due: Instant) -> None:
        """It is on record before it has begun."""
        self.due += 1
        self.queued.add(due)

    def has_waited(self, due: Instant) -> bool:
        """Whether it was counted when it began to wait; asked once."""
        if due not in self.queued:
            return False
        self.queued.remove(due)
        return True

    def not_started(self, record: Record) -> None:
        """Skipped or missed: of a row that was there before only what is new."""
        due, known = self.stretch
        new = record.count - (known if record.due == due else 0)
        if new > 0:
            self.due += new - self.has_waited(record.due)
            self.ended(record.status, record.reason, new)
            self.stretch = (record.due, record.count)


class Counts:
    """Since the daemon's start."""

    def __init__(self, states: Mapping[str, TaskState]) -> None:
        """``states`` are the tasks of the engine, as they come and go."""
        self.tasks: dict[str, OfTask] = {}
        self.events: Counter[str] = Counter()
        self.lateness = [Histogram(LATENESS) for _ in Priority]
        self.duration = [Histogram(DURATION) for _ in Priority]
        self._states = states
        self._stepped_over: set[RunKey] = set()  # runs of which no clock on the wall knows how long they took

    def of(self, task: str) -> OfTask:
        found = self.tasks.get(task)
        if found is None:
            found = self.tasks[task] = OfTask()
        return found

    def record(self, record: Record) -> None:
        task, due, attempt, status, reason, started, _, _, _, _, cause, _ = record
        counts = self.tasks.get(task) or self.of(task)
        if status is Status.RUNNING:
            counts.started += 1
            if attempt == 1 and cause != Cause.BACKFILL and not counts.has_waited(due):
                counts.due += 1
        elif status is Status.COMPLETED and not reason:
            counts.completed += 1
            self._measure(record)
        elif status is Status.QUEUED:
            counts.waits(due)
        elif status is Status.SKIPPED or status is Status.MISSED:
            counts.not_started(record)
        else:
            if started is None and attempt == 1 and status is Status.CANCELLED:  # while it waited
                counts.due += not counts.has_waited(due)
            counts.ended(status, reason)
            self._measure(record)

    def _measure(self, record: Record) -> None:
        """How late a run began, and how long it took unless the clock stepped meanwhile.

        Of a loop, which lasts as long as its phase, neither.
        """
        task, due, attempt, _, _, started, ended, _, _, _, cause, _ = record
        state = self._states.get(task)
        if state is None or state.keeps_running or started is None or ended is None:
            return
        priority = state.spec.priority
        if (task, due, attempt) in self._stepped_over:
            self._stepped_over.remove((task, due, attempt))
        else:
            self.duration[priority].observe(ended - started)
        if attempt == 1 and cause in (Cause.TICK, Cause.CATCH_UP):
            self.lateness[priority].observe(started - due)

    def announcement(self, announcement: Announce) -> None:
        event, _, fields = announcement
        self.events[event] += 1
        if event == events.CLOCK_STEPPED:
            self._stepped_over = {state.active[:3] for state in self._states.values() if state.active}
        if event == events.TASK_RESTARTING:
            self.of(fields["task"]).restarts += 1
        elif event == events.TASK_CRASH_LOOPING:
            self.of(fields["task"]).crash_loops += 1
