"""What can be seen of an engine from outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from scheduler.core.messages import Instant
from scheduler.core.supervision import Health
from scheduler.core.tasks import Kind, TaskState

WORDS: Final = (
    "refused", "parked", "paused", "running", "queued", "backing-off", "crash-looping", "waiting",
)  # fmt: skip


def snapshot(states: Iterable[TaskState]) -> list[Mapping[str, Any]]:
    """Each task's state, in order of priority and name; instants in nanoseconds."""
    return [seen(state) for state in sorted(states, key=lambda state: state.rank)]


def seen(state: TaskState) -> Mapping[str, Any]:
    """One task's state; instants in nanoseconds."""
    return {
        "task": state.name,
        "priority": state.spec.priority.label,
        "market": state.spec.market,
        "state": word(state),
        "health": state.supervisor.health.value,
        "run_id": state.active.run_id if state.active else None,
        "next": min((t for t in (state.tick.when, _retry_time(state)) if t is not None), default=None),
        "last_success": state.success,
        "consecutive_failures": state.supervisor.consecutive,
        "restarts": state.supervisor.restarts,
    }


def upcoming(states: Iterable[TaskState], count: int) -> list[tuple[Instant, str]]:
    """The next clock-driven runs of different tasks, soonest first."""
    due = [(state.tick.when, state.rank, state.name) for state in states if state.tick.when]
    return [(when, name) for when, _, name in sorted(due)[:count]]


def tally(states: Iterable[TaskState]) -> Mapping[str, int]:
    """How many tasks are in each state, by the words of the snapshot."""
    return Counter(word(state) for state in states)


def _retry_time(state: TaskState) -> Instant | None:
    timer = state.timers.get(Kind.RETRY)
    return timer.when if timer else None


def word(state: TaskState) -> str:
    """The one that says most about a task; one of ``WORDS``."""
    if state.broken:
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
