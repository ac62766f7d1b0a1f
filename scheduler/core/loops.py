"""Tasks that are kept running: they come and go with the stretches of their `during`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.core.messages import Cause, Reason, Run, Status
from scheduler.core.supervision import Health
from scheduler.core.tasks import TaskState

if TYPE_CHECKING:
    from scheduler.core.lifecycle import Lifecycle


class Loops:
    """Asked about any task; of one that is no loop no stretch ever holds."""

    def __init__(self, life: Lifecycle) -> None:
        self._life = life

    def revive(self, state: TaskState) -> None:
        """Start a loop whose `during` holds: at boot, after a resume, by a new definition."""
        life = self._life
        span = state.span_at(life.now)
        if span is None or life.stopping or state.active or state.queued or state.retry_run:
            return
        due = life.now if span[0] is None else span[0]
        life.admit(state, Run(state.name, due, state.next_attempt(due)))

    def begin(self, state: TaskState) -> None:
        """By another definition or calendar a stretch holds; what was to start in another one is not."""
        life = self._life
        life.restarts.give_up(state)
        if state.queued is not None and not state.may_retry(state.queued.due, life.now):
            life.queueing.give_up(state, Reason.NO_SLOT)
        self.revive(state)

    def end(self, state: TaskState) -> None:
        """The stretch is over: nothing of the task goes on, nor begins any more."""
        life = self._life
        life.restarts.give_up(state)
        life.queueing.give_up(state, Reason.OVERLAP if state.active else Reason.NO_SLOT)
        life.stop_run(state, Status.COMPLETED, Reason.PHASE_ENDED)

    def ended(self, state: TaskState, run: Run) -> None:
        """Perhaps not the loop that is due now: a run by hand, of an older stretch or definition."""
        span = state.span_at(self._life.now)
        if span is None:
            return
        other = run.cause is Cause.MANUAL if span[0] is None else run.due != span[0]
        barred = state.paused or state.broken or state.supervisor.health is Health.PARKED
        if (other or not state.looping) and not barred:
            self.revive(state)
