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
from scheduler.core.market import MarketTable
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
    Record,
    RestartRequested,
    ResumeRequested,
    Run,
    RunEnded,
    RunNow,
    RunReturned,
    Status,
    StopRequested,
    TaskHistory,
    TaskSpec,
    Wake,
    run_id,
)
from scheduler.core.supervision import Health
from scheduler.core.tasks import DURATIONS, Kind, TaskState
from scheduler.core.timetable import Timer, Timetable
from scheduler.core.triggers import After, On
from scheduler.errors import UnknownTaskError


class _Market:
    """One market whose phases are announced."""

    __slots__ = ("table", "timer")

    def __init__(self, table: MarketTable) -> None:
        self.table = table
        self.timer: Timer[object] = Timer(self, Kind.PHASE, -1)


class Engine:
    """One scheduler's decisions. Not thread-safe: one loop owns it."""

    def __init__(
        self, *, jitter: Callable[[], float], verbose: bool = False, admission: Admission | None = None
    ) -> None:
        """``jitter`` gives floats in [0, 1) for backoffs; ``verbose`` announces completed runs too."""
        self.tasks: dict[str, TaskState] = {}
        self._markets: dict[str, _Market] = {}
        self._timetable: Timetable[object] = Timetable()
        self._admission = admission or Admission()
        self._life = Lifecycle(self._timetable, self._admission, jitter, verbose=verbose)
        self._alarms = Alarms(self._timetable, self._life)
        self._listeners: dict[str, list[TaskState]] = {}
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
            Kind.PHASE: self._phase_changed,
            Kind.SPAN_END: self._span_ended,
            Kind.STOP: lambda state, _: self._life.stop_run(
                state, Status.CANCELLED, Reason.STOPPED, CANCEL_GRACE
            ),
            Kind.RETRY: lambda state, _: self._life.retry(state),
            Kind.TICK: self._tick,
            Kind.DEADLINE: lambda state, _: self._life.give_up_queued(state, Reason.NO_SLOT),
            Kind.SETTLED: lambda state, _: self._life.proven_healthy(state),
            Kind.UNPAUSE: lambda state, _: self._resume(ResumeRequested(state.name)),
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

    def _tick(self, state: TaskState, due: Instant) -> None:
        now = self._life.now
        trigger, table = state.trigger, state.table
        cause = Cause.TICK
        upcoming = trigger.next_after(due, table)
        if upcoming is not None and upcoming <= now:
            due = self._fell_behind(state, due)
            upcoming = trigger.next_after(due, table)
            cause = Cause.CATCH_UP
        state.last_due = due
        self._timetable.set(state.tick, upcoming)
        if state.keeps_running:
            span = state.span_at(due)
            if span is not None:
                self._timetable.set(state.timer(Kind.SPAN_END), span[1])
        self._life.admit(state, Run(state.name, due, 1, cause))

    def _fell_behind(self, state: TaskState, due: Instant) -> Instant:
        """Count what was due from ``due`` until now and never looked at; the newest due of all."""
        now = self._life.now
        newest = state.trigger.last_before(now + 1, state.table)
        if newest is None or newest <= due:
            return due
        count = state.trigger.count_between(due, newest, state.table)
        last = state.trigger.last_before(newest, state.table)
        self._life.miss(state, due, self._life.why_missed(due, newest), last_due=last, count=count)
        return newest

    def _span_ended(self, state: TaskState, _: Instant) -> None:
        self._life.give_up_retry(state)
        self._life.give_up_queued(state, Reason.NO_SLOT)
        self._life.stop_run(state, Status.COMPLETED, Reason.PHASE_ENDED)

    def _phase_changed(self, market: _Market, at: Instant) -> None:
        table = market.table
        now = self._life.now
        if not table.first < at < table.last:
            return  # the table is at its end: nothing is known to have changed
        before, piece = table.phase_at(at - 1), table.phase_at(now)
        self._watch(market)
        session = table.session_at(now)
        self._life.announce(
            events.MARKET_PHASE_CHANGED, "info", market=table.name, previous=before.phase, phase=piece.phase,
            until=table.next_change(now), reason=piece.reason, session=session.date if session else "",
        )  # fmt: skip

    def _watch(self, market: _Market) -> None:
        now = self._life.now
        if market.table.first <= now < market.table.last:
            self._timetable.set(market.timer, market.table.next_change(now))

    def _start_listeners(self) -> None:
        """Give each `on` task its run for what happened; it never listens to itself."""
        while self._life.happened:
            happened, self._life.happened = self._life.happened, []
            for event, _, fields in happened:
                subject = str(fields.get("task") or fields.get("market") or "")
                for state in self._listeners.get(event, ()):
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
        self._forget_removed(state)

    def _run_returned(self, event: RunReturned) -> None:
        state = self.tasks.get(event.run.task)
        if state is not None and state.lingering == event.run:
            self._life.returned(state)
            self._forget_removed(state)

    def _forget_removed(self, state: TaskState) -> None:
        if state.removed and state.active is None and state.lingering is None:
            del self.tasks[state.name]

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
            self._life.announce(name, "warning", shed=shed, mean_lag=format_duration(event.mean))

    # What an operator asks for.

    def _state(self, task: str) -> TaskState:
        state = self.tasks.get(task)
        if state is None or state.removed:
            raise UnknownTaskError(f"no task is named {task!r}")
        return state

    def _run_now(self, event: RunNow) -> None:
        state = self._state(event.task)
        due = max(self._life.now, state.attempts[0] + 1, state.last_due + 1)  # an identity of its own
        self._life.admit(state, Run(state.name, due, 1, Cause.MANUAL))

    def _cancel(self, event: CancelRequested) -> None:
        for state in self.tasks.values():
            if state.active is not None and state.active.run_id == event.run_id:
                self._life.stop_run(state, Status.CANCELLED, Reason.OPERATOR)

    def _pause(self, event: PauseRequested) -> None:
        state = self._state(event.task)
        state.paused = True
        self._timetable.set(state.timer(Kind.UNPAUSE), event.until)
        self._life.give_up_retry(state)
        self._life.give_up_queued(state, Reason.PAUSED)
        if state.keeps_running:
            self._life.stop_run(state, Status.CANCELLED, Reason.OPERATOR)
        self._life.announce(events.TASK_PAUSED, "info", task=state.name, until=event.until)

    def _resume(self, event: ResumeRequested) -> None:
        state = self._state(event.task)
        state.paused = False
        self._timetable.set(state.timer(Kind.UNPAUSE), None)
        state.supervisor.resumed()
        self._life.announce(events.TASK_RESUMED, "info", task=state.name)
        self._life.revive(state)

    def _restart(self, event: RestartRequested) -> None:
        state = self._state(event.task)
        if state.active is not None:
            self._life.restart(state)
        elif state.retry_run is not None:
            self._timetable.set(state.timer(Kind.RETRY), None)
            self._life.retry(state)
        else:
            self._life.revive(state)

    def _stop(self, _: StopRequested) -> None:
        life = self._life
        life.stopping = True
        for state in self.tasks.values():
            life.give_up_retry(state)
            life.give_up_queued(state, Reason.STOPPED)
            if state.keeps_running:
                life.stop_run(state, Status.CANCELLED, Reason.STOPPED)
            elif state.active is not None:
                self._timetable.set(state.timer(Kind.STOP), life.now + state.spec.stop_grace)

    # Which tasks there are.

    def _configure(self, event: Configure) -> None:
        """Take new tasks and tables; what is the same keeps its state, timing and running runs."""
        ordered = sorted(event.specs, key=lambda spec: (spec.priority, spec.name))
        names = {spec.name for spec in ordered if spec.enabled}
        for name in [name for name in self.tasks if name not in names]:
            self._remove(self.tasks[name])
        fresh = []
        for rank, spec in enumerate(ordered):
            if not spec.enabled:
                continue
            table = event.tables[spec.market]
            state = self.tasks.get(spec.name)
            if state is None:
                state = self.tasks[spec.name] = TaskState(spec, table, rank, self._life.now)
                fresh.append(state)
                self._refuse(state, event.refused.get(spec.name, ""))
            else:
                self._redefine(state, spec, table, rank, event.refused.get(spec.name, ""))
        self._link()
        for name in [name for name in self._markets if name not in event.tables]:
            self._timetable.set(self._markets.pop(name).timer, None)
        for name, table in event.tables.items():
            market = self._markets.setdefault(name, _Market(table))
            market.table = table
            self._watch(market)
        for state in fresh:
            self._begin(state, event.history.get(state.name))
        for state in fresh:
            self._resume_chain(state, event.history)

    def _remove(self, state: TaskState) -> None:
        state.removed = True
        self._life.give_up_retry(state)
        self._life.give_up_queued(state, Reason.STOPPED)
        for timer in state.timers.values():
            self._timetable.set(timer, None)
        if state.keeps_running:
            self._life.stop_run(state, Status.CANCELLED, Reason.RELOADED)
        self._forget_removed(state)

    def _refuse(self, state: TaskState, error: str) -> None:
        """A task whose callable cannot be had is parked, loudly; the others are not its concern."""
        if error and error != state.refused:
            self._life.announce(events.TASK_PARKED, "error", task=state.name, reason=error,
                                ends_by="a reload once it can be imported")  # fmt: skip
        state.refused = error

    def _redefine(
        self, state: TaskState, spec: TaskSpec, table: MarketTable, rank: int, refused: str
    ) -> None:
        state.rank = rank
        for timer in state.timers.values():
            timer.rank_as(rank)
        changed = spec != state.spec or state.removed or refused != state.refused
        state.removed = False
        self._refuse(state, refused)
        if not changed and table.version == state.table.version and table.last == state.table.last:
            return
        kept_running = state.keeps_running
        state.define(spec, table)
        if changed:
            self._life.give_up_retry(state)
            state.supervisor = type(state.supervisor)(spec.restart)
            if kept_running:
                self._life.stop_run(state, Status.CANCELLED, Reason.RELOADED)
        self._arm(state)

    def _arm(self, state: TaskState) -> None:
        """Set the clock-driven timers by what is due after now and not yet accounted for."""
        now = self._life.now
        after = max(now, state.last_due)
        self._timetable.set(state.tick, state.trigger.next_after(after, state.table))
        if state.keeps_running:
            span = state.span_at(now)
            self._timetable.set(state.timer(Kind.SPAN_END), None if span is None else span[1])
            if span is None:
                self._life.stop_run(state, Status.COMPLETED, Reason.PHASE_ENDED)
            else:
                self._life.revive(state)
        self._alarms.arm(state)

    def _link(self) -> None:
        """Who comes after whom, who restarts with whom, who waits for which event."""
        self._listeners = {}
        dependents: dict[str, list[TaskState]] = {}
        followers: dict[str, list[TaskState]] = {}
        for state in sorted(self.tasks.values(), key=lambda state: state.rank):
            if state.removed:
                continue
            if isinstance(state.trigger, After):
                dependents.setdefault(state.trigger.upstream, []).append(state)
            elif isinstance(state.trigger, On):
                for event in state.trigger.events:
                    self._listeners.setdefault(event, []).append(state)
            if state.spec.restart_with:
                followers.setdefault(state.spec.restart_with, []).append(state)
        for state in self.tasks.values():
            state.dependents = tuple(dependents.get(state.name, ()))
            state.followers = tuple(followers.get(state.name, ()))

    # What the ledger remembers.

    def _begin(self, state: TaskState, history: TaskHistory | None) -> None:
        """Take up a task where the ledger left it (law 4), or for the first time."""
        life = self._life
        if history is not None:
            if history.latest is not None:
                state.attempts = (history.latest.due, history.latest.attempt)
            for record in history.interrupted:
                life.out.append(
                    record._replace(status=Status.FAILED, reason=Reason.INTERRUPTED, ended=life.now)
                )
                life.announce(
                    events.RUN_FAILED, "error", task=state.name,
                    run_id=run_id(state.name, record.due, record.attempt), due=record.due,
                    attempt=record.attempt, reason=Reason.INTERRUPTED,
                    error="the scheduler ended while it ran",
                )  # fmt: skip
            state.last_due = history.expected_from - 1
            self._catch_up(state, history)
        else:
            state.last_due = life.now - 1
        now_due = state.trigger.next_after(state.last_due, state.table)
        if now_due is not None and now_due == life.now:
            self._tick(state, now_due)
        self._arm(state)

    def _catch_up(self, state: TaskState, history: TaskHistory) -> None:
        life = self._life
        first = state.trigger.next_after(state.last_due, state.table)
        if first is not None and first <= life.now:
            newest = self._fell_behind(state, first)
            state.last_due = newest
            life.admit(state, Run(state.name, newest, 1, Cause.CATCH_UP))
        latest = history.interrupted[-1] if history.interrupted else None
        if latest is not None and state.active is None and not state.keeps_running:
            self._retry_interrupted(state, latest)

    def _retry_interrupted(self, state: TaskState, record: Record) -> None:
        """Once: what is interrupted again may itself be what ends the scheduler."""
        wanted = state.spec.if_interrupted == "retry" and record.cause != Cause.INTERRUPTED
        if wanted and state.may_start(record.due, self._life.now):
            state.retry_run = Run(state.name, record.due, record.attempt + 1, Cause.INTERRUPTED)
            self._life.retry(state)

    def _resume_chain(self, state: TaskState, history: Mapping[str, TaskHistory]) -> None:
        """An upstream run that completed just before a crash still has its dependents to start."""
        done = history[state.name].latest if state.name in history else None
        if done is None or done.status is not Status.COMPLETED:
            return
        for dependent in state.dependents:
            known = history[dependent.name].latest if dependent.name in history else None
            if known is None or known.due >= done.due:
                continue
            if self._life.now - (done.ended or done.due) <= dependent.spec.catchup:
                self._life.admit(dependent, Run(dependent.name, done.due, 1, Cause.AFTER))
            else:
                self._life.miss(dependent, done.due, Reason.DOWNTIME)

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
