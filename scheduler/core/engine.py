"""The façade: ``handle(event, now) -> actions``.

All decisions of the scheduler are made here and in the modules beside it, as a function of what it
was told and of the instant it was told at. It never reads a clock: give it a history again and it
decides the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from scheduler.core import events, view
from scheduler.core.admission import Admission
from scheduler.core.alarms import Alarms
from scheduler.core.durations import format_duration
from scheduler.core.lifecycle import Lifecycle
from scheduler.core.memory import ITSELF, SHEDDING
from scheduler.core.messages import (
    Action,
    BackfillRequested,
    CancelRequested,
    Cause,
    ClockStepped,
    Configure,
    Duration,
    Event,
    Happened,
    Instant,
    LoopLag,
    PauseRequested,
    RestartRequested,
    ResumeRequested,
    Run,
    RunEnded,
    RunNow,
    RunReturned,
    Status,
    StopRequested,
    Wake,
)
from scheduler.core.overdue import long_running, overdue
from scheduler.core.phases import Phases
from scheduler.core.recovery import Recovery
from scheduler.core.requests import Requests
from scheduler.core.roster import Roster
from scheduler.core.tasks import DURATIONS, Kind, TaskState
from scheduler.core.ticks import Ticks
from scheduler.core.timetable import Timetable

# What may name a task that does not exist.
_REQUESTS = frozenset({RunNow, PauseRequested, ResumeRequested, RestartRequested, BackfillRequested})


class Engine:
    """One scheduler's decisions. Not thread-safe: one loop owns it."""

    def __init__(
        self, *, jitter: Callable[[], float], verbose: bool = False, admission: Admission | None = None
    ) -> None:
        """``jitter`` gives floats in [0, 1) for backoffs; ``verbose`` announces completed runs too."""
        self._timetable: Timetable[object] = Timetable()
        self._admission = admission or Admission()
        self._life = Lifecycle(self._timetable, self._admission, jitter, verbose=verbose)
        self._alarms = Alarms(self._timetable, self._life)
        self._phases = Phases(self._life, self._timetable)
        ticks = Ticks(self._life, self._timetable)
        self._roster = Roster(self._life, self._timetable, self._alarms, Recovery(self._life, ticks))
        self.tasks: Mapping[str, TaskState] = self._roster.tasks
        self._requests = requests = Requests(self.tasks, self._life, self._timetable)
        self._handlers: Mapping[type, Callable[[Any], None]] = {
            Wake: lambda _: None,  # every event first does what is due
            RunEnded: self._run_ended,
            RunReturned: self._run_returned,
            Configure: self._configure,
            ClockStepped: self._clock_stepped,
            LoopLag: self._loop_lag,
            Happened: lambda it: self._life.announce(it.event, it.level, **it.fields),
            StopRequested: requests.stop,
            RunNow: requests.run_now,
            CancelRequested: requests.cancel,
            PauseRequested: requests.pause,
            ResumeRequested: requests.resume,
            RestartRequested: requests.restart,
            BackfillRequested: requests.backfill,
        }
        self._timers: Mapping[int, Callable[[Any, Instant], None]] = {
            Kind.PHASE: self._phases.changed,
            Kind.SPAN_END: lambda state, _: self._life.loops.end(state),
            Kind.STOP: lambda state, _: requests.stop_by_force(state),
            Kind.RETRY: lambda state, _: self._life.restarts.due(state),
            Kind.TICK: ticks.tick,
            Kind.DEADLINE: lambda state, _: self._life.queueing.deadline(state),
            Kind.WAITING: lambda queueing, _: queueing.give_up_late(),
            Kind.SETTLED: lambda state, _: self._settled(state),
            Kind.UNPAUSE: lambda state, _: requests.unpause(state),
            Kind.FRESH: lambda state, _: self._alarms.fresh_due(state),
            Kind.FINISH: self._alarms.finish_due,
            Kind.BACKFILL: lambda state, _: self._life.backfills.next(state),
        }

    def handle(self, event: Event, now: Instant) -> list[Action]:
        """Decide. What is due at ``now`` is done before the event, so that it stands (law 3).

        UnknownTaskError, with nothing done, when it is about a task that does not exist.
        """
        if type(event) in _REQUESTS:
            self._requests.state(event.task)  # type: ignore[union-attr]
        life = self._life
        life.now = now
        out = life.out = []
        if type(event) is ClockStepped:
            self._clock_stepped(event)
        due = self._timetable.next()
        if due is not None and due <= now:
            for when, timer in self._timetable.pop_due(now):
                self._timers[timer.kind](timer.owner, when)
        if type(event) is not ClockStepped:
            self._handlers[type(event)](event)
        if life.happened:
            self._start_listeners()
        return out

    def wake_at(self) -> Instant | None:
        """When ``Wake`` is wanted next."""
        return self._timetable.next()

    # What is due.

    def _start_listeners(self) -> None:
        """Give each `on` task its run for what happened; it never listens to itself."""
        if self._life.stopping:
            self._life.happened.clear()
        while self._life.happened:
            happened, self._life.happened = self._life.happened, []
            for event, _, fields in happened:
                subject = str(fields.get("task") or fields.get("market") or "")
                for state in self._roster.listeners.get(event, ()):
                    if state.name != subject:
                        state.last_due = due = state.next_due(self._life.now)
                        self._life.admit(state, Run(state.name, due, 1, Cause.EVENT, event, subject))

    # What the shell reports.

    def _run_ended(self, event: RunEnded) -> None:
        state = self.tasks.get(event.run.task)
        if state is None or state.active != event.run:
            return  # of a task that went with a reload, or told twice
        now = self._life.now
        state.started = min(state.started, now)  # the clock slews
        if (
            event.started is not None and event.started > now
        ):  # it has gone back: nothing ends before it began
            event = event._replace(started=state.started)
        self._life.ended(state, event)
        if event.status is Status.COMPLETED and self._is_of_now(state, event.run):
            self._alarms.succeeded(state)
        self._roster.forget_removed(state)

    def _is_of_now(self, state: TaskState, run: Run) -> bool:
        """Whether its success is one of the task at present: a backfill's is of the due that it makes up."""
        if run.cause is not Cause.BACKFILL:
            return True
        head, now = state.head, self._life.now
        is_latest = head.trigger.last_before(now + 1, head.table) == run.due
        if is_latest:
            state.success = now
        return is_latest

    def _run_returned(self, event: RunReturned) -> None:
        state = self.tasks.get(event.run.task)
        if state is not None and state.lingering == event.run:
            self._life.returned(state)
            self._roster.forget_removed(state)

    def _settled(self, state: TaskState) -> None:
        """A loop has stayed up for long enough."""
        self._life.proven_healthy(state)
        self._alarms.succeeded(state)

    def _clock_stepped(self, event: ClockStepped) -> None:
        now = self._life.now
        if event.by > 0:
            self._life.outcomes.jump = (now - event.by, now)
        self._timetable.shift(event.by, DURATIONS)
        for state in self.tasks.values():
            state.supervisor.clock_stepped(event.by)
            if state.active is not None or state.lingering is not None:
                state.started += event.by
            self._life.restarts.clock_stepped(state)
        self._life.announce(events.CLOCK_STEPPED, "warning", by=format_duration(event.by))

    def _loop_lag(self, event: LoopLag) -> None:
        if self._admission.lag(event.mean):
            shed = sorted(priority.label for priority in self._admission.shedding)
            name = events.LOAD_SHEDDING if shed else events.LOAD_NORMAL
            if shed:
                self._life.memory.keep(ITSELF, SHEDDING, self._life.now, priorities=shed)
            else:
                self._life.memory.forget(ITSELF, SHEDDING)
            self._life.announce(name, "warning", shed=shed, mean_lag=format_duration(event.mean))

    def _configure(self, event: Configure) -> None:
        self._phases.configure(event.tables)
        self._roster.configure(event)

    # What can be seen from outside.

    def state(self, task: str) -> TaskState:
        """What is known of a task. UnknownTaskError, with the name that may be meant."""
        return self._requests.state(task)

    def snapshot(self) -> list[Mapping[str, Any]]:
        """Each task's state, in order of priority and name; instants in nanoseconds."""
        return view.snapshot(self.tasks.values())

    def upcoming(self, count: int) -> list[tuple[Instant, str]]:
        """The next clock-driven runs of different tasks, soonest first."""
        return view.upcoming(self.tasks.values(), count)

    def tally(self) -> Mapping[str, int]:
        """How many tasks are in each state, by the words of the snapshot."""
        return view.tally(self.tasks.values())

    def overdue(self, now: Instant) -> list[str]:
        """The critical tasks that have not been served although nothing stands in the way."""
        return overdue(self.tasks.values(), self._admission, now)

    def backfill_left(self, task: str) -> tuple[Instant, ...]:
        """The dues of a task that a backfill has still to make, the oldest first."""
        return self._life.backfills.left(task)

    @property
    def slots(self) -> Admission:
        """Who takes slots, and what is shed."""
        return self._admission

    def long_running(self, now: Instant, limit: Duration) -> list[Run]:
        """The runs that have been active for longer than ``limit``; loops are meant to be."""
        return long_running(self.tasks.values(), now, limit)

    def idle(self) -> bool:
        """Nothing runs."""
        return all(state.active is None for state in self.tasks.values())
