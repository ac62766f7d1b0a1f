"""What the scheduler owes its critical tasks: the sign that it has stopped doing its work.

It is about the scheduler alone. A task that hangs, fails, waits out a backoff, is paused, or finds every
slot taken by others that hang is owed nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from scheduler.core.admission import Admission
from scheduler.core.messages import SECOND, Duration, Instant, Priority, Run
from scheduler.core.tasks import Kind, TaskState

LIMIT: Final = 30 * SECOND


def overdue(states: Iterable[TaskState], admission: Admission, now: Instant) -> list[str]:
    """The critical tasks with a run that should have been started ``LIMIT`` ago, or longer."""
    return [
        state.name
        for state in states
        if state.spec.priority is Priority.CRITICAL
        and not state.removed
        and any(due is not None and due <= now - LIMIT for due in _owed(state, admission))
    ]


def long_running(states: Iterable[TaskState], now: Instant, limit: Duration) -> list[Run]:
    """The runs that have been active for longer than ``limit``, of tasks that are no loops."""
    return [
        state.active
        for state in states
        if state.active is not None and not state.keeps_running and now - state.started > limit
    ]


def _owed(state: TaskState, admission: Admission) -> Iterable[Instant | None]:
    """When runs that nothing stands in the way of were due; what is still to come too."""
    yield state.tick.when  # that it is taken note of does not depend on what runs
    if state.active is None and state.lingering is None:
        yield state.timer(Kind.RETRY).when
        if state.queued is not None and admission.has_slot(Priority.CRITICAL):
            yield state.queued.due
