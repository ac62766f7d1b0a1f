"""What an operator asks for."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from scheduler.core import events
from scheduler.core.lifecycle import CANCEL_GRACE, Lifecycle
from scheduler.core.memory import HEALTH, PAUSED, RESUMED
from scheduler.core.messages import (
    BackfillRequested,
    CancelRequested,
    Cause,
    PauseRequested,
    Reason,
    RestartRequested,
    ResumeRequested,
    Run,
    RunNow,
    Status,
    StopRequested,
)
from scheduler.core.tasks import Kind, TaskState
from scheduler.core.timetable import Timetable
from scheduler.errors import UnknownTaskError


class Requests:
    """Each is decided at once. UnknownTaskError, with nothing done, where no task has the name."""

    def __init__(self, tasks: Mapping[str, TaskState], life: Lifecycle, timetable: Timetable[object]) -> None:
        self._tasks = tasks
        self._life = life
        self._timetable = timetable

    def state(self, task: str) -> TaskState:
        """What is known of a task."""
        state = self._tasks.get(task)
        if state is None or state.removed:
            close = get_close_matches(task, self._tasks, n=1)
            guess = f"; did you mean {close[0]!r}?" if close else ""
            raise UnknownTaskError(f"no task is named {task!r}{guess}")
        return state

    def run_now(self, event: RunNow) -> None:
        """Once, now, whatever the calendar says.

        Of a loop it is the loop itself that is wanted, in its stretch. Outside of one, as on a day that
        its market refuses, it runs until it ends, is stopped, or the stretch is over that it runs into.
        """
        state, life = self.state(event.task), self._life
        span = state.span_at(life.now)
        is_loop = span is not None and span[0] is not None
        if is_loop and state.active is None:
            state.retry_run = None
            self._timetable.set(state.timer(Kind.RETRY), None)
            due = span[0] if span and span[0] is not None else life.now
            life.admit(state, Run(state.name, due, state.next_attempt(due), Cause.MANUAL))
            return
        state.by_hand = due = state.next_due(life.now)
        run = Run(state.name, due, 1, Cause.MANUAL)
        if span is not None and state.active is not None:  # the loop runs already
            life.outcomes.skip(state, run, Reason.OVERLAP)
        else:
            life.admit(state, run)

    def cancel(self, event: CancelRequested) -> None:
        """A run that runs is ended, one that waits is not started."""
        for state in self._tasks.values():
            if state.active is not None and state.active.run_id == event.run_id:
                self._life.stop_run(state, Status.CANCELLED, Reason.OPERATOR)
            elif state.queued is not None and state.queued.run_id == event.run_id:
                self._life.queueing.cancel(state)

    def pause(self, event: PauseRequested) -> None:
        """Nothing of it is started, but by hand, until it is resumed, or ``until`` then."""
        state, life = self.state(event.task), self._life
        state.paused = True
        self._timetable.set(state.timer(Kind.UNPAUSE), event.until)
        who = {"by": event.by, "reason": event.reason} if event.by else {}
        life.memory.keep(state.name, PAUSED, life.now, until=event.until, **who)
        life.restarts.give_up(state)
        life.queueing.give_up(state, Reason.PAUSED)
        if state.keeps_running:
            life.stop_run(state, Status.CANCELLED, Reason.PAUSED)
        life.announce(events.TASK_PAUSED, "info", task=state.name, until=event.until, **who)

    def resume(self, event: ResumeRequested) -> None:
        """End whatever keeps it from being started: a pause, its being parked."""
        state, memory = self.state(event.task), self._life.memory
        state.supervisor.resumed()
        memory.forget(state.name, HEALTH)
        who = {"by": event.by, "reason": event.reason} if event.by else {}
        if who:
            memory.keep(state.name, RESUMED, self._life.now, **who)
        self.unpause(state, **who)
        self._try_now(state)

    def unpause(self, state: TaskState, **who: str) -> None:
        """Its time is over, or an operator says so; in the former case what is parked stays parked."""
        state.paused = False
        self._timetable.set(state.timer(Kind.UNPAUSE), None)
        self._life.memory.forget(state.name, PAUSED)
        self._life.backfills.next(state)
        self._life.announce(events.TASK_RESUMED, "info", task=state.name, **who)
        self._life.loops.revive(state)

    def restart(self, event: RestartRequested) -> None:
        """Its active run ends and starts again; what backs off is tried at once."""
        state = self.state(event.task)
        if state.active is not None:
            self._life.restart(state)
        elif state.retry_run is not None:
            self._try_now(state)
        else:
            self._life.loops.revive(state)

    def _try_now(self, state: TaskState) -> None:
        """What backs off, if anything does, waits no longer."""
        if state.retry_run is not None:
            self._timetable.set(state.timer(Kind.RETRY), None)
            self._life.restarts.due(state)

    def backfill(self, event: BackfillRequested) -> None:
        self._life.backfills.request(self.state(event.task), event)

    def stop(self, _: StopRequested) -> None:
        """Start nothing more; what is no loop has its ``stop_grace`` to end by itself."""
        life = self._life
        life.stopping = True
        for state in self._tasks.values():
            life.backfills.end(state, "the scheduler stops")
            life.restarts.give_up(state)
            life.queueing.give_up(state, Reason.STOPPED)
            life.clear(state, Kind.UNPAUSE)  # it stays paused until then for the next scheduler
            if state.keeps_running:
                life.stop_run(state, Status.CANCELLED, Reason.STOPPED)
            elif state.active is not None:
                self._timetable.set(state.timer(Kind.STOP), life.now + state.spec.stop_grace)

    def stop_by_force(self, state: TaskState) -> None:
        """Its grace is over."""
        self._life.stop_run(state, Status.CANCELLED, Reason.STOPPED, CANCEL_GRACE)
