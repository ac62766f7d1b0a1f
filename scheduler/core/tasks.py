"""What the engine remembers of one task, and what law 4 lets it start late."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.core.market import MarketTable, Piece
from scheduler.core.messages import SECOND, Instant, Priority, Record, Run, TaskSpec
from scheduler.core.supervision import Supervisor
from scheduler.core.timetable import Timer
from scheduler.core.triggers import At, Cron, Every, KeepRunning, Trigger, session_of

if TYPE_CHECKING:
    from scheduler.core.messages import Duration

# A start within a second of its due is on time; later it is a catch-up, and law 4 decides.
PROMPT: Duration = SECOND


class Kind:
    """The kinds of timers; of those due together for one task the lower goes first."""

    # TICK before RETRY: a tick that comes due when the backoff is over goes instead of the retry.
    PHASE, SPAN_END, STOP, TICK, RETRY, DEADLINE, SETTLED, UNPAUSE, FRESH, FINISH, WAITING = range(11)


# Timers that measure durations: they move along when the wall clock steps.
DURATIONS = frozenset({Kind.STOP, Kind.RETRY, Kind.SETTLED, Kind.FRESH})


class TaskState:
    """One task under the engine. Timers are made when first needed: most tasks use two."""

    __slots__ = (
        "active", "attempts", "by_hand", "dependents", "fold", "followers", "is_appointment", "is_pace",
        "keeps_running", "last_due", "lingering", "looping", "name", "past", "paused", "queued", "rank",
        "refused", "removed", "retry_run", "since", "slot", "spec", "stale", "started", "success",
        "supervisor", "table", "tick", "timers", "trigger", "upstream",
    )  # fmt: skip

    def __init__(self, spec: TaskSpec, table: MarketTable, rank: int, since: Instant) -> None:
        self.name = spec.name
        self.past: tuple[tuple[Instant, MarketTable], ...] = ()  # calendars that unfinished runs belong to
        self.define(spec, table)
        self.rank = rank
        self.since = since  # the engine answers for what is due from here on
        self.tick: Timer[object] = Timer(self, Kind.TICK, rank)
        self.timers: dict[int, Timer[object]] = {Kind.TICK: self.tick}
        self.supervisor = Supervisor(spec.restart)
        self.active: Run | None = None
        self.started: Instant = 0  # of the active run
        self.slot: Priority | None = None  # that the active or lingering run has taken
        self.queued: Run | None = None  # behind the active run, or waiting for a slot
        self.retry_run: Run | None = None  # what the RETRY timer will start
        self.lingering: Run | None = None  # ended by timeout, but its thread has not returned
        self.last_due: Instant = since - 1  # newest clock-driven due that is accounted for
        self.attempts: tuple[Instant, int] = (-1, 0)  # the due started last, and how often
        self.by_hand: Instant = -1  # the due of the latest run that was asked for
        self.fold: Record | None = None  # the stretch of skips under way
        self.success: Instant | None = None
        self.paused = False
        self.stale = False
        self.removed = False
        self.refused = ""  # why the callable cannot be run at all
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

    def keep_calendar(self, now: Instant) -> None:
        """Before a change: what is due by now and has not finished goes on under the calendar of now."""
        dues = [run.due for run in (self.active, self.queued, self.retry_run) if run is not None]
        past = (*self.past, (now, self.table))
        self.past = tuple(entry for entry in past if dues and min(dues) <= entry[0])

    def calendar_of(self, due: Instant) -> str:
        """The calendar that a run belongs to (law 3): that of its due, whatever changed since."""
        table = self.table
        if self.past:
            table = next((table for until, table in self.past if due <= until), table)
        return table.label_at(due)

    def timer(self, kind: int) -> Timer[object]:
        timer = self.timers.get(kind)
        if timer is None:
            timer = self.timers[kind] = Timer(self, kind, self.rank)
        return timer

    def piece_at(self, t: Instant) -> Piece | None:
        """The market's piece at ``t``; None where the table has none."""
        return self.table.phase_at(t) if self.table.first <= t < self.table.last else None

    def span_at(self, t: Instant) -> tuple[Instant | None, Instant | None] | None:
        """Of a keep_running task: the stretch of its `during` that holds ``t``, as far as it may run."""
        trigger, table = self.trigger, self.table
        if not isinstance(trigger, KeepRunning) or table.refuses(t):
            return None
        covered = trigger.during is None or table.first <= t < table.last
        span = trigger.span_at(t, table) if covered else None
        refusal = table.next_refusal(t)
        if span is None or refusal is None or (span[1] is not None and span[1] <= refusal):
            return span
        return span[0], refusal

    def next_attempt(self, due: Instant) -> int:
        return self.attempts[1] + 1 if self.attempts[0] == due else 1

    @property
    def source(self) -> Trigger:
        """The trigger at the head of its chain: what makes it due in the end."""
        head = self
        while head.upstream is not None:
            head = head.upstream
        return head.trigger

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
