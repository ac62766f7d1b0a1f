"""Which tasks have series of their own: labels must not grow without bound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from scheduler.core.tasks import TaskState

MOST: Final = 1_000  # tasks that are told apart, the first by priority and name
OTHER: Final = "(other)"  # all the rest together; no task can have this name


class Labels:
    """A task keeps its label for as long as it exists, so that no series goes back."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._labels: dict[str, str] = {}
        self._named = 0

    def of(self, states: Mapping[str, TaskState]) -> Mapping[str, str]:
        """The label of each of these tasks, of which there are no others."""
        labels = self._labels
        for name in labels.keys() - states.keys():
            self._named -= labels.pop(name) != OTHER
        fresh = [state for name, state in states.items() if name not in labels]
        for state in sorted(fresh, key=lambda state: state.rank):
            has_own = self._named < self._most
            self._named += has_own
            labels[state.name] = state.name if has_own else OTHER
        return labels
