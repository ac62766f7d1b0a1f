"""What is due next: timers in buckets by instant, and one heap of the instants.

Grids make many tasks due at the same instant, so the heap holds each instant once and its bucket
takes a timer in constant time. Deletion is lazy: a timer that was moved or cleared stays behind in
its old bucket, recognised because its ``when`` says otherwise; when such garbage outweighs what
lives, the buckets are rebuilt, so memory stays within twice what is set.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

from scheduler.core.messages import Instant

T = TypeVar("T")

_SMALLEST_SWEEP = 64
_KINDS = 16  # more than there are


class Timer(Generic[T]):
    """An alarm of one owner; ``when`` is None while it is not set."""

    __slots__ = ("kind", "order", "owner", "when")

    def __init__(self, owner: T, kind: int, rank: int) -> None:
        self.owner = owner
        self.kind = kind
        self.when: Instant | None = None
        self.rank_as(rank)

    def rank_as(self, rank: int) -> None:
        """Who goes first among those due together: the lower rank, then the lower kind."""
        self.order = rank * _KINDS + self.kind


class Timetable(Generic[T]):
    """All timers, by instant; those due together by rank and kind."""

    def __init__(self) -> None:
        self._instants: list[Instant] = []  # a heap
        self._buckets: dict[Instant, list[Timer[T]]] = {}
        self._entries = 0  # in all buckets, garbage included
        self._live = 0

    def __len__(self) -> int:
        return self._live

    def set(self, timer: Timer[T], when: Instant | None) -> None:
        """Set, move or (with None) clear a timer."""
        was = timer.when
        if when == was:
            return
        timer.when = when
        if was is None:
            self._live += 1
        if when is None:
            self._live -= 1
            return
        bucket = self._buckets.get(when)
        if bucket is None:
            self._buckets[when] = [timer]
            heappush(self._instants, when)
        else:
            bucket.append(timer)
        self._entries += 1
        if self._entries > _SMALLEST_SWEEP + 2 * self._live:
            self._sweep()

    def next(self) -> Instant | None:
        """The instant of the earliest timer."""
        instants = self._instants
        while instants:
            when = instants[0]
            bucket = self._buckets[when]
            while bucket and bucket[-1].when != when:
                bucket.pop()
                self._entries -= 1
            if bucket:
                return when
            heappop(instants)
            del self._buckets[when]
        return None

    def pop_due(self, now: Instant) -> list[tuple[Instant, Timer[T]]]:
        """Take out all timers due at ``now`` with their instants: by rank, then kind, then instant.

        Together means now: after a stall a critical run goes before an older lesser one.
        """
        instants = self._instants
        due: list[tuple[Instant, Timer[T]]] = []
        while instants and instants[0] <= now:
            when = heappop(instants)
            bucket = self._buckets.pop(when)
            self._entries -= len(bucket)
            for timer in bucket:
                if timer.when == when:  # not moved, not cleared, and not twice in the bucket
                    timer.when = None
                    due.append((when, timer))
        self._live -= len(due)
        due.sort(key=lambda entry: entry[1].order)
        return due

    def shift(self, by: int, kinds: frozenset[int]) -> None:
        """Move all timers of these kinds: they measure durations, and the wall clock stepped."""
        moved = {timer: None for bucket in self._buckets.values() for timer in bucket if timer.kind in kinds}
        for timer in moved:
            if timer.when is not None:
                self.set(timer, timer.when + by)

    def _sweep(self) -> None:
        buckets: dict[Instant, list[Timer[T]]] = {}
        for when, bucket in self._buckets.items():
            alive = list(dict.fromkeys(timer for timer in bucket if timer.when == when))
            if alive:
                buckets[when] = alive
        self._buckets = buckets
        self._instants = list(buckets)
        heapify(self._instants)
        self._entries = self._live
