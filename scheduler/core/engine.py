"""The façade: ``handle(event, now) -> actions``.

All decisions of the scheduler are made here and in the modules beside it, as a function of what it
was told and of the instant it was told at. It never reads a clock: give it a history again and it
decides the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from scheduler.core import events
from scheduler.core.admission import Admission
from scheduler.core.alarms import Alarms
from scheduler.core.durations import format_duration
from scheduler.core.lifecycle import CANCEL_GRACE, Lifecycle
from scheduler.core.memory import HEALTH, ITSELF, PAUSED, SHEDDING
from scheduler.core.messages import (
    Action,
    CancelRequested,
    Cause,
    ClockStepped,
    Configure,
    Event,
    Happened,
    Instant,
    LoopLag,
    PauseRequested,
    Reason,
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
from scheduler.core.phases import Phases
from scheduler.core.recovery import Recovery
from scheduler.core.roster import Roster
from scheduler.core.supervision import Health
from scheduler.core.tasks import DURATIONS, Kind, TaskState
from scheduler.core.ticks import Ticks
from scheduler.core.timetable import Timetable
from scheduler.errors import UnknownTaskError


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
        self._handlers: Mapping[type, Callable[[Any], None]] = {
            Wake: lambda _: None,  # every event first does what is due
            RunEnded: self._run_ended,
            RunReturned: self._run_returned,
            Configure: self._configure,
            ClockStepped: self._clock_stepped,
            LoopLag: self._loop_lag,
            Happened: lambda it: self._life.announce(it.event, it.level, **it.fields),
            StopRequested: self._stop,
            RunNow: self._run_now,
            CancelRequested: self._cancel,
            PauseRequested: self._pause,
            ResumeRequested: self._resume,
            RestartRequested: self._restart,
        }
        self._timers: Mapping[int, Callable[[Any, Instant], None]] = {
            Kind.PHASE: self._phases.changed,
            Kind.SPAN_END: self._span_ended,
            Kind.STOP: lambda state, _: self._life.stop_run(
                state, Status.CANCELLED, Reason.STOPPED, CANCEL_GRACE
            ),
            Kind.RETRY: lambda state, _: self._life.restarts.due(state),
            Kind.TICK: ticks.tick,
            Kind.DEADLINE: lambda state, _: self._life.deadline(state),
            Kind.WAITING: lambda life, _: life.give_up_late_waiters(),
            Kind.SETTLED: lambda state, _: self._settled(state),
            Kind.UNPAUSE: lambda state, _: self._unpause(state),
            Kind.FRESH: lambda state, _: self._alarms.fresh_due(state),
            Kind.FINISH: self._alarms.finish_due,
        }

    def handle(self, event: Event, now: Instant) -> list[Action]:
        """Decide. What is due at ``now`` is done before the event, so that it stands (law 3)."""
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

    def _span_ended(self, state: TaskState, _: Instant) -> None:
        self._life.restarts.give_up(state)
        self._life.give_up_queued(state, Reason.NO_SLOT)
        self._life.stop_run(state, Status.COMPLETED, Reason.PHASE_ENDED)

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
                        state.last_due = due = max(self._life.now, state.last_due + 1)
                        self._life.admit(state, Run(state.name, due, 1, Cause.EVENT, event, subject))

    # What the shell reports.

    def _run_ended(self, event: RunEnded) -> None:
        state = self.tasks.get(event.run.task)
        if state is None or state.active != event.run:
            return  # of a task that went with a reload, or told twice
        self._life.ended(state, event)
        if event.status is Status.COMPLETED:
            self._alarms.succeeded(state)
        self._roster.forget_removed(state)

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
            self._life.jump = (now - event.by, now)
        self._timetable.shift(event.by, DURATIONS)
        for state in self.tasks.values():
            state.supervisor.clock_stepped(event.by)
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

    # What an operator asks for.

    def _state(self, task: str) -> TaskState:
        state = self.tasks.get(task)
        if state is None or state.removed:
            raise UnknownTaskError(f"no task is named {task!r}")
        return state

    def _run_now(self, event: RunNow) -> None:
        state = self._state(event.task)
        span = state.span_at(self._life.now)
        is_loop = span is not None and span[0] is not None
        if is_loop and state.active is None:  # it is the loop itself that is wanted
            state.retry_run = None
            self._timetable.set(state.timer(Kind.RETRY), None)
            due = span[0] if span and span[0] is not None else self._life.now
            self._life.admit(state, Run(state.name, due, state.next_attempt(due), Cause.MANUAL))
            return
        due = max(self._life.now, state.attempts[0] + 1, state.last_due + 1, state.by_hand + 1)
        state.by_hand = due  # an identity of its own
        run = Run(state.name, due, 1, Cause.MANUAL)
        if is_loop:  # and it runs already
            self._life.skip(state, run, Reason.OVERLAP)
        else:
            self._life.admit(state, run)

    def _cancel(self, event: CancelRequested) -> None:
        for state in self.tasks.values():
            if state.active is not None and state.active.run_id == event.run_id:
                self._life.stop_run(state, Status.CANCELLED, Reason.OPERATOR)

    def _pause(self, event: PauseRequested) -> None:
        state = self._state(event.task)
        state.paused = True
        self._timetable.set(state.timer(Kind.UNPAUSE), event.until)
        self._life.memory.keep(state.name, PAUSED, self._life.now, until=event.until)
        self._life.restarts.give_up(state)
        self._life.give_up_queued(state, Reason.PAUSED)
        if state.keeps_running:
            self._life.stop_run(state, Status.CANCELLED, Reason.PAUSED)
        self._life.announce(events.TASK_PAUSED, "info", task=state.name, until=event.until)

    def _resume(self, event: ResumeRequested) -> None:
        state = self._state(event.task)
        state.supervisor.resumed()
        self._life.memory.forget(state.name, HEALTH)
        self._unpause(state)

    def _unpause(self, state: TaskState) -> None:
        """Its time is over, or an operator says so; in the former case what is parked stays parked."""
        state.paused = False
        self._timetable.set(state.timer(Kind.UNPAUSE), None)
        self._life.memory.forget(state.name, PAUSED)
        self._life.announce(events.TASK_RESUMED, "info", task=state.name)
        self._life.revive(state)

    def _restart(self, event: RestartRequested) -> None:
        state = self._state(event.task)
        if state.active is not None:
            self._life.restart(state)
        elif state.retry_run is not None:
            self._timetable.set(state.timer(Kind.RETRY), None)
            self._life.restarts.due(state)
        else:
            self._life.revive(state)

    def _stop(self, _: StopRequested) -> None:
        life = self._life
        life.stopping = True
        for state in self.tasks.values():
            life.restarts.give_up(state)
            life.give_up_queued(state, Reason.STOPPED)
            if state.keeps_running:
                life.stop_run(state, Status.CANCELLED, Reason.STOPPED)
            elif state.active is not None:
                self._timetable.set(state.timer(Kind.STOP), life.now + state.spec.stop_grace)

    # What can be seen from outside.

    def snapshot(self) -> list[Mapping[str, Any]]:
        """Each task's state, in order of priority and name; instants in nanoseconds."""
        return [
            {
                "task": state.name,
                "priority": state.spec.priority.label,
                "market": state.spec.market,
                "state": _word(state),
                "health": state.supervisor.health.value,
                "run_id": state.active.run_id if state.active else None,
                "next": min(
                    (t for t in (state.tick.when, self._retry_time(state)) if t is not None), default=None
                ),
                "last_success": state.success,
                "consecutive_failures": state.supervisor.consecutive,
                "restarts": state.supervisor.restarts,
            }
            for state in sorted(self.tasks.values(), key=lambda state: state.rank)
        ]

    def _retry_time(self, state: TaskState) -> Instant | None:
        timer = state.timers.get(Kind.RETRY)
        return timer.when if timer else None

    def upcoming(self, count: int) -> list[tuple[Instant, str]]:
        """The next clock-driven runs of different tasks, soonest first."""
        due = [(state.tick.when, state.rank, state.name) for state in self.tasks.values() if state.tick.when]
        return [(when, name) for when, _, name in sorted(due)[:count]]

    def idle(self) -> bool:
        """Nothing runs."""
        return all(state.active is None for state in self.tasks.values())


def _word(state: TaskState) -> str:
    if state.refused:
        return "refused"
    if state.supervisor.health is Health.PARKED:
        return "parked"
    if state.paused:
        return "paused"
    if state.active is not None:
        return "running"
    if state.queued is not None:
        return "queued"
    return state.supervisor.health.value if state.retry_run is not None else "waiting"
