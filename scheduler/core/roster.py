"""Which tasks there are, and how they hang together; what a reload changes and what it leaves alone."""

from __future__ import annotations

from scheduler.core import events
from scheduler.core.alarms import Alarms
from scheduler.core.lifecycle import Lifecycle
from scheduler.core.market import MarketTable
from scheduler.core.memory import HEALTH, PAUSED, REFUSED
from scheduler.core.messages import Configure, Reason, Status, TaskSpec
from scheduler.core.recovery import Recovery
from scheduler.core.restarts import parking_ends_by
from scheduler.core.supervision import Health
from scheduler.core.tasks import Kind, Span, TaskState
from scheduler.core.timetable import Timetable
from scheduler.core.triggers import After, On

BROKEN_ENDS_BY = (
    "a reload once it can be imported; a restart of the scheduler if its module is loaded already"
)


class Roster:
    """The tasks of one engine, by name; one that is removed stays until its last run has ended."""

    def __init__(
        self, life: Lifecycle, timetable: Timetable[object], alarms: Alarms, recovery: Recovery
    ) -> None:
        self.tasks: dict[str, TaskState] = {}
        self.listeners: dict[str, list[TaskState]] = {}  # event -> the `on` tasks that wait for it
        self._life = life
        self._timetable = timetable
        self._alarms = alarms
        self._recovery = recovery

    def configure(self, event: Configure) -> None:
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
            else:
                known = event.history.get(spec.name)
                if known is not None and known.begun is not None and known.begun[0] != state.attempts[0]:
                    state.attempts = known.begun  # the loop has been in this stretch before
                self._redefine(state, spec, table, rank, event.refused.get(spec.name, ""))
        self._link()
        if not self._recovery.started:
            self._life.memory.begin(event.remembered, self.tasks)
            for name in event.history.keys() - names:
                self._recovery.interrupted(event.history[name])
                self._recovery.never_started(event.history[name])
        self._recovery.recall(fresh, event.history)
        for state in fresh:
            self._restore(state)
            self._mark_broken(state, event.refused.get(state.name, ""))
            self._recovery.begin(state, event.history)
            self._arm(state, anew=True)
        for state in fresh:
            self._recovery.resume_chain(state, event.history)
        self._recovery.started = True

    def _remove(self, state: TaskState) -> None:
        self._tell_end_of_trouble(state, "the task is removed")
        state.removed = True
        state.paused = False
        self._life.memory.forget(state.name)
        self._life.backfills.end(state, "the task is removed")
        self._life.restarts.give_up(state)
        self._life.queueing.give_up(state, Reason.STOPPED)
        self._life.outcomes.abandon(state)
        for timer in state.timers.values():
            self._timetable.set(timer, None)
        if state.keeps_running:
            self._life.stop_run(state, Status.CANCELLED, Reason.RELOADED)
        self.forget_removed(state)

    def _restore(self, state: TaskState) -> None:
        """Parked and paused outlive a restart, nothing else of supervision does."""
        memory, now = self._life.memory, self._life.now
        parked, paused = memory.parked(state), memory.recall(state.name, PAUSED)
        if parked is not None:
            state.supervisor.park(parked["failures"])
            self._life.announce(events.TASK_PARKED, "error", task=state.name, reason=parked["reason"],
                                failures=parked["failures"], since=parked["since"],
                                ends_by=parking_ends_by(state.name))  # fmt: skip
        else:
            memory.forget(state.name, HEALTH)
        if paused is not None and (paused["until"] is None or paused["until"] > now):
            state.paused = True
            self._timetable.set(state.timer(Kind.UNPAUSE), paused["until"])
            self._life.announce(events.TASK_PAUSED, "info", task=state.name, until=paused["until"])
        else:
            memory.forget(state.name, PAUSED)

    def _mark_broken(self, state: TaskState, error: str) -> None:
        """A task whose callable cannot be had is parked, loudly; the others are not its concern."""
        if error and error != state.broken:
            self._life.announce(events.TASK_PARKED, "error", task=state.name, reason=error,
                                ends_by=BROKEN_ENDS_BY)  # fmt: skip
            self._life.memory.keep(state.name, REFUSED, self._life.now, reason=error)
        elif not error:
            if state.broken:
                self._life.announce(events.TASK_RESUMED, "info", task=state.name, reason="it can be run now")
            self._life.memory.forget(state.name, REFUSED)
        state.broken = error

    def _redefine(
        self, state: TaskState, spec: TaskSpec, table: MarketTable, rank: int, refused: str
    ) -> None:
        state.rank = rank
        for timer in state.timers.values():
            timer.rank_as(rank)
        changed = spec != state.spec or state.removed or refused != state.broken
        state.removed = False
        self._mark_broken(state, refused)
        if not changed and table.version == state.table.version and table.last == state.table.last:
            return
        self._life.queueing.put_on_record(state)
        if spec.trigger != state.trigger:
            self._life.backfills.end(state, "the task has changed")
            self._life.outcomes.abandon(state)
        kept_running, before = state.keeps_running, state.span_at(self._life.now)
        state.keep_calendar()
        state.define(spec, table)
        if changed:
            self._life.restarts.give_up(state)
            for kind in (Kind.SPAN_END, Kind.SETTLED):
                self._life.clear(state, kind)
            self._tell_end_of_trouble(state, "its definition has changed")
            state.supervisor = type(state.supervisor)(spec.restart)
            self._life.memory.forget(state.name, HEALTH)
            if kept_running:
                self._life.stop_run(state, Status.CANCELLED, Reason.RELOADED)
        self._arm(state, anew=changed, before=before)

    def _tell_end_of_trouble(self, state: TaskState, reason: str) -> None:
        """Whoever was told of it is told of its end, though no run has succeeded."""
        if state.supervisor.health in (Health.PARKED, Health.CRASH_LOOPING) or state.broken:
            self._life.announce(events.TASK_RESUMED, "info", task=state.name, reason=reason)
        if state.stale:
            state.stale = False
            self._life.announce(events.TASK_FRESH, "info", task=state.name, reason=reason)

    def _arm(self, state: TaskState, *, anew: bool, before: Span | None = None) -> None:
        """Set the clock-driven timers by what is due after now and not yet accounted for.

        Not ``anew``, only the calendar has changed; ``before`` is the stretch that a loop was in by the
        old one. In the same stretch it goes on, and stays ended if it has ended.
        """
        now = self._life.now
        self._timetable.set(state.tick, state.next_tick(max(now, state.last_due)))
        self._alarms.arm(state, anew=anew)
        if not state.keeps_running:
            return
        span = state.span_at(now)
        self._timetable.set(state.timer(Kind.SPAN_END), None if span is None else span[1])
        if span is None:
            if anew or before is not None:
                self._life.loops.end(state)
        elif anew or before is None or before[0] != span[0]:
            self._life.loops.begin(state)

    def _link(self) -> None:
        """Who comes after whom, who restarts with whom, who waits for which event."""
        self.listeners = {}
        dependents: dict[str, list[TaskState]] = {}
        followers: dict[str, list[TaskState]] = {}
        for state in sorted(self.tasks.values(), key=lambda state: state.rank):
            if state.removed:
                continue
            if isinstance(state.trigger, After):
                dependents.setdefault(state.trigger.upstream, []).append(state)
            elif isinstance(state.trigger, On):
                for event in state.trigger.events:
                    self.listeners.setdefault(event, []).append(state)
            if state.spec.restart_with:
                followers.setdefault(state.spec.restart_with, []).append(state)
        for state in self.tasks.values():
            upstream = state.trigger.upstream if isinstance(state.trigger, After) else ""
            state.upstream = self.tasks.get(upstream)
            state.dependents = tuple(dependents.get(state.name, ()))
            state.followers = tuple(followers.get(state.name, ()))

    def forget_removed(self, state: TaskState) -> None:
        """Let go of a removed task once nothing of it runs."""
        if state.removed and state.active is None and state.lingering is None:
            del self.tasks[state.name]
