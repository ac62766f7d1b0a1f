"""What is remembered of tasks beyond this scheduler's life.

The shell is told whenever it changes, keeps it, and gives it back to the next scheduler. Parked and
paused outlive a restart; the rest is there for those who ask while the scheduler runs (``why``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from scheduler.core.definition import fingerprint
from scheduler.core.messages import Facts, Instant, Remember, Remembered, TaskSpec
from scheduler.core.supervision import Health

if TYPE_CHECKING:
    from scheduler.core.tasks import TaskState

HEALTH: Final = "health"  # health, since, reason, failures, until (of the next attempt)
PAUSED: Final = "paused"  # since, until
RESUMED: Final = "resumed"  # since, by, reason: the last time that an operator ended any of it
REFUSED: Final = "refused"  # since, reason: its callable cannot be had
STUCK: Final = "stuck"  # since, due: a run that timed out and cannot be ended has not returned
WAITING: Final = "waiting"  # since: for a slot, a second or longer
SHEDDING: Final = "shedding"  # since, priorities
ITSELF: Final = ""  # in the place of a task: what is true of the scheduler

_LASTING: Final = frozenset({HEALTH, PAUSED, RESUMED, REFUSED})


class Memory:
    """What is remembered at present; ``tell`` takes the changes."""

    def __init__(self, tell: Callable[[Remember], None]) -> None:
        self._tell = tell
        self._kept: dict[tuple[str, str], Facts] = {}
        self._waiting: set[str] = set()

    def begin(self, remembered: Remembered, tasks: Mapping[str, TaskState]) -> None:
        """Take over what the scheduler before knew, and forget what ended with it, or with its task."""
        self._kept = {(task, key): facts for task, keys in remembered.items() for key, facts in keys.items()}
        for task, key in list(self._kept):
            if task not in tasks or key not in _LASTING:
                self.forget(task, key)

    def recall(self, task: str, key: str) -> Facts | None:
        return self._kept.get((task, key))

    def keep(self, task: str, key: str, now: Instant, **facts: Any) -> None:
        """Remember it, since now unless ``since`` is among the facts."""
        known = {"since": now, **facts}
        if self._kept.get((task, key)) != known:
            self._kept[task, key] = known
            self._tell(Remember(task, key, known))

    def forget(self, task: str, *keys: str) -> None:
        """Forget these things about a task; without keys all."""
        for key in keys or (HEALTH, PAUSED, RESUMED, REFUSED, STUCK, WAITING):
            if self._kept.pop((task, key), None) is not None:
                self._tell(Remember(task, key, None))

    def failed(self, state: TaskState, now: Instant, reason: str, until: Instant | None) -> None:
        """What supervision thinks of a task after a failure; ``until``: when it is tried again."""
        health = state.supervisor.health
        if health is Health.HEALTHY:
            return  # it is not restarted at all, and so neither parked
        known = self.recall(state.name, HEALTH)
        facts: dict[str, Any] = {"health": health.value, "reason": reason, "until": until}
        if known is not None and known["health"] == health:
            facts["since"] = known["since"]
        if health is Health.PARKED:
            facts["definition"] = fingerprint(state.spec)
        self.keep(state.name, HEALTH, now, failures=state.supervisor.consecutive, **facts)

    def tried_again(self, task: str, until: Instant | None) -> None:
        """When it is tried again has changed; None: it is not."""
        facts = self._kept.get((task, HEALTH))
        if facts is not None:
            self.keep(task, HEALTH, facts["since"], **{**facts, "until": until})

    def parked(self, state: TaskState) -> Facts | None:
        """How a task was parked, if it is the same task by its definition."""
        facts = self.recall(state.name, HEALTH)
        return facts if facts is not None and is_parked(facts, state.spec) else None

    def waiting(self, tasks: set[str], now: Instant) -> None:
        """These tasks wait for a slot."""
        for task in self._waiting - tasks:
            self.forget(task, WAITING)
        for task in tasks - self._waiting:
            self.keep(task, WAITING, now)
        self._waiting = tasks


def is_parked(health: Facts, spec: TaskSpec) -> bool:
    """Whether what is remembered parks the task: it was parked, and by its definition is the same."""
    return health.get("health") == Health.PARKED and health.get("definition") == fingerprint(spec)
