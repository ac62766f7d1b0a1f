"""What the engine remembers of one task, and what law 4 lets it start late."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from scheduler.core.market import MarketTable, Piece
from scheduler.core.messages import SECOND, Cause, Instant, Priority, Record, Run, TaskSpec
from scheduler.core.supervision import Supervisor
from scheduler.core.timetable import Timer
from scheduler.core.triggers import At, Cron, Every, KeepRunning, Trigger, may_run, session_of

if TYPE_CHECKING:
    from scheduler.core.messages import Duration

# A start within a second of its due is on time; later it is a catch-up, and law 4 decides.
PROMPT: Duration = SECOND

Span: TypeAlias = "tuple[Instant | None, Instant | None]"  # an edge is None where it is not known

CLOCK_DRIVEN = frozenset({Cause.TICK, Cause.CATCH_UP})  # of runs whose lateness counts from their due


class Kind:
    """The kinds of timers; of those due together for one task the lower goes first."""

    # TICK before RETRY: a tick that comes due when the backoff is over goes instead of the retry.
    PHASE, SPAN_END, STOP, TICK, RETRY, DEADLINE = range(6)
    SETTLED, UNPAUSE, FRESH, FINISH, WAITING, BACKFILL = range(6, 12)


# Timers that measure durations: they move along when the wall clock steps.
DURATIONS = frozenset({Kind.STOP, Kind.RETRY, Kind.SETTLED, Kind.FRESH, Kind.BACKFILL})


class TaskState:
    """One task under the engine. Timers are made when first needed: most tasks use two."""

    __slots__ = (
        "active", "attempts", "broken", "by_hand", "dependents", "fold", "followers", "is_appointment",
        "is_pace", "keeps_running", "label", "labels", "last_due", "lingering", "looping", "name", "newest",
        "paused", "queued", "rank", "recorded", "removed", "retry_run", "slot", "spec", "stale", "started",
        "success", "supervisor", "table", "tick", "timers", "trigger", "upstream",
    )  # fmt: skip

    def __init__(self, spec: TaskSpec, table: MarketTable, rank: int, since: Instant) -> None:
        self.name = spec.name
        self.define(spec, table)
        self.rank = rank
        self.labels: dict[Instant, str] = {}  # due -> calendar, of runs that it changed under
        self.tick: Timer[object] = Timer(self, Kind.TICK, rank)
        self.timers: dict[int, Timer[object]] = {Kind.TICK: self.tick}
        self.supervisor = Supervisor(spec.restart)
        self.active: Run | None = None
        self.started: Instant = 0  # of the active run; by the clock as it is now, wherever that has stepped
        self.label = ""  # the calendar that the active run belongs to
        self.slot: Priority | None = None  # that the active or lingering run has taken
        self.queued: Run | None = None  # behind the active run, or waiting for a slot
        self.recorded: set[Instant] = set()  # dues with a row that says that they wait
        self.retry_run: Run | None = None  # what the RETRY timer will start
        self.lingering: Run | None = None  # ended by timeout, but its thread has not returned
        # Newest clock-driven due that is accounted for; the engine answers for what is due from `since` on.
        self.last_due: Instant = since - 1
        self.attempts: tuple[Instant, int] = (-1, 0)  # the due started last, and how often
        self.by_hand: Instant = -1  # the due of the latest run that was asked for
        self.fold: Record | None = None  # the stretch of skips under way
        self.newest: Instant = -1  # due that is on record, the ends of stretches included
        self.success: Instant | None = None
        self.paused = False
        self.stale = False
        self.removed = False
        self.broken = ""  # why the callable cannot be run at all
        self.looping = False  # the active run was started as a loop
        self.upstream: TaskState | None = None  # the task that its `after` names
        self.dependents: tuple[TaskState, ...] = ()  # whose `after` names this task
        self.followers: tuple[TaskState, ...] = ()  # whose `restart_with` names this task

    def define(self, spec: TaskSpec, table: MarketTable) -> None:
        """Go by this definition and calendar from now on."""
        self.spec = spec
        self.trigger = spec.trigger
        self.table = table
        self.keeps_running = isinstance(spec.trigger, KeepRunning)
        self.is_pace = isinstance(spec.trigger, Every)
        self.is_appointment = isinstance(spec.trigger, At | Cron)  # a run for one moment of the day

    def keep_calendar(self) -> None:
        """Before a change: what has not finished goes on under the calendar of its due."""
        unfinished = (self.active, self.queued, self.retry_run)
        self.labels = {run.due: self.calendar_of(run.due) for run in unfinished if run is not None}

    def calendar_of(self, due: Instant) -> str:
        """The calendar that a run belongs to (law 3): that of its due, whatever changed since."""
        label = self.labels.get(due) if self.labels else None
        return self.table.label_at(due) if label is None else label

    def timer(self, kind: int) -> Timer[object]:
        timer = self.timers.get(kind)
        if timer is None:
            timer = self.timers[kind] = Timer(self, kind, self.rank)
        return timer

    def piece_at(self, t: Instant) -> Piece | None:
        """The market's piece at ``t``; None where the table has none."""
        return self.table.phase_at(t) if self.table.first <= t < self.table.last else None

    def span_at(self, t: Instant) -> Span | None:
        """Of a keep_running task: the stretch of its `during` that holds ``t``, as far as it may run."""
        return may_run(self.trigger, t, self.table) if isinstance(self.trigger, KeepRunning) else None

    def next_tick(self, after: Instant) -> Instant | None:
        """When the clock makes it due next; a loop that always runs is due where a refusal ends."""
        trigger, table = self.trigger, self.table
        if not isinstance(trigger, KeepRunning) or trigger.during is not None:
            return trigger.next_after(after, table)
        refused = after if table.refuses(after) else table.next_refusal(after)
        accepted = table.last if refused is None else table.next_doubt(refused)
        return accepted if accepted < table.last else None

    def next_attempt(self, due: Instant) -> int:
        return self.attempts[1] + 1 if self.attempts[0] == due else 1

    def next_due(self, now: Instant) -> Instant:
        """The due of a run for what happens now: an identity of its own, even when the clock went back."""
        return max(now, self.attempts[0] + 1, self.last_due + 1, self.by_hand + 1)

    @property
    def paused_until(self) -> Instant | None:
        """When its pause ends by itself."""
        timer = self.timers.get(Kind.UNPAUSE)
        return None if timer is None else timer.when

    @property
    def head(self) -> TaskState:
        """The task at the head of its chain: what makes it due in the end, by the calendar of that task."""
        head = self
        while head.upstream is not None:
            head = head.upstream
        return head

    @property
    def source(self) -> Trigger:
        """The trigger at the head of its chain: what makes it due in the end."""
        return self.head.trigger

    @property
    def in_hand(self) -> set[Instant]:
        """The dues that run, wait or are to be tried again, here or further up its chain."""
        runs = (self.active, self.queued, self.retry_run)
        dues = {run.due for run in runs if run is not None} | self.recorded
        return dues if self.upstream is None else dues | self.upstream.in_hand

    def awaited(self, before: Instant) -> set[Instant]:
        """The dues before one that may still come: they wait here, or are not over further up its chain."""
        queued = self.queued
        dues = {queued.due} if queued is not None and queued.due < before else set()
        return dues if self.upstream is None else dues | self.upstream.unsettled(before)

    def unsettled(self, before: Instant) -> set[Instant]:
        """The dues before one of which those that come after it have not heard."""
        if isinstance(self.source, KeepRunning):
            return set()  # a loop may come to its end more than once for a due
        runs = (self.active, self.retry_run)
        under_way = {run.due for run in runs if run is not None and run.cause is not Cause.BACKFILL}
        return {due for due in under_way if due < before} | self.awaited(before)

    def may_start(self, due: Instant, now: Instant) -> bool:
        """Law 4: whether a run due at ``due`` may still be started at ``now``."""
        if now - due <= PROMPT:
            return True
        if self.keeps_running:
            span = self.span_at(now)
            return span is not None and (span[0] is None or span[0] == due)
        return now <= self.latest_start(due) and self.same_stretch(due, now)

    def may_retry(self, due: Instant, at: Instant) -> bool:
        """A retry stays in its stretch of the day, like a catch-up: no square-off after the close."""
        if self.keeps_running:
            span = self.span_at(at)
            return span is not None and (span[0] is None or span[0] == due)
        return not self.is_appointment or self.same_stretch(due, at)

    def same_stretch(self, due: Instant, now: Instant) -> bool:
        """No boundary between trading time and the rest lies between the two."""
        return self.piece_at(due) is None or self.table.next_flip(due) > now

    def latest_start(self, due: Instant) -> Instant:
        """By `catchup`, or by the anchor that `catchup_until` names."""
        anchor = self.spec.catchup_until
        if anchor is not None:
            session = session_of(self.trigger, due, self.table)
            until = None if session is None else anchor.instants(session, self.table)
            return due if until is None else until
        return due + self.spec.catchup
