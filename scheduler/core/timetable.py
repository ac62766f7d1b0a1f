"""What is due next: one heap with lazy deletion and bounded garbage.

A ``Timer`` belongs to one owner and says one thing. Setting it again leaves its old heap entry
behind as garbage, recognised by its stale token; when garbage outweighs what lives the heap is
rebuilt, so memory stays within twice what is set.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

from scheduler.core.messages import Instant

T = TypeVar("T")

_SMALLEST_SWEEP = 64


class Timer(Generic[T]):
    """An alarm of one owner; ``when`` is None while it is not set."""

    __slots__ = ("kind", "owner", "rank", "token", "when")

    def __init__(self, owner: T, kind: int, rank: int) -> None:
        self.owner = owner
        self.kind = kind
        self.rank = rank  # who goes first among those due together: the lower
        self.when: Instant | None = None
        self.token = 0


class Timetable(Generic[T]):
    """All timers, by instant, then rank, then kind."""

    def __init__(self) -> None:
        self._heap: list[tuple[Instant, int, int, int, Timer[T]]] = []
        self._token = 0
        self._garbage = 0

    def __len__(self) -> int:
        return len(self._heap) - self._garbage

    def set(self, timer: Timer[T], when: Instant | None) -> None:
        """Set, move or (with None) clear a timer."""
        if timer.when is not None:
            self._garbage += 1
        timer.when = when
        self._token += 1
        timer.token = self._token
        if when is not None:
            heappush(self._heap, (when, timer.rank, timer.kind, self._token, timer))
        if self._garbage > _SMALLEST_SWEEP and self._garbage * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[3] == entry[4].token]
            heapify(self._heap)
            self._garbage = 0

    def next(self) -> Instant | None:
        """The instant of the earliest timer."""
        heap = self._heap
        while heap and heap[0][3] != heap[0][4].token:
            heappop(heap)
            self._garbage -= 1
        return heap[0][0] if heap else None

    def pop_due(self, now: Instant) -> list[tuple[Instant, Timer[T]]]:
        """Take out all timers due at ``now`` with their instants: by rank, then kind, then instant.

        Together means now: after a stall a critical run goes before an older lesser one.
        """
        heap = self._heap
        due = []
        while heap and heap[0][0] <= now:
            when, rank, kind, token, timer = heappop(heap)
            if token == timer.token:
                timer.when = None
                due.append((rank, kind, when, token, timer))
            else:
                self._garbage -= 1
        if len(due) > 1:
            due.sort()
        return [(when, timer) for _, _, when, _, timer in due]

    def shift(self, by: int, kinds: frozenset[int]) -> None:
        """Move all timers of these kinds: they measure durations, and the wall clock stepped."""
        moved = [t for *_, token, t in self._heap if token == t.token and t.kind in kinds]
        for timer in moved:
            if timer.when is not None:
                self.set(timer, timer.when + by)
