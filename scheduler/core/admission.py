"""Who may start: slots, the reservation for critical tasks, shedding under load (law 10)."""

from __future__ import annotations

from collections import deque

from scheduler.core.messages import MILLISECOND, SECOND, Duration, Priority

SLOTS = 64
RESERVED_FOR_CRITICAL = 16

PROBE_EVERY = 250 * MILLISECOND  # how often the loop is asked for a sign of life while work is under way
LAG_WINDOW = 5 * SECOND
SHED_ABOVE = {Priority.NICE_TO_HAVE: 250 * MILLISECOND, Priority.IMPORTANT: SECOND}


class Admission:
    """Counts slots and watches the load; critical is never shed."""

    __slots__ = ("_others", "_taken", "reserved", "shedding", "slots")

    def __init__(self, slots: int = SLOTS, reserved: int = RESERVED_FOR_CRITICAL) -> None:
        self.slots = slots
        self.reserved = reserved
        self.shedding: frozenset[Priority] = frozenset()
        self._taken = 0
        self._others = 0  # slots taken by runs that are not critical

    @property
    def taken(self) -> int:
        return self._taken

    def has_slot(self, priority: Priority) -> bool:
        if self._taken >= self.slots:
            return False
        return priority is Priority.CRITICAL or self._others < self.slots - self.reserved

    def take(self, priority: Priority) -> None:
        self._taken += 1
        if priority is not Priority.CRITICAL:
            self._others += 1

    def release(self, priority: Priority) -> None:
        self._taken -= 1
        if priority is not Priority.CRITICAL:
            self._others -= 1

    def lag(self, mean: Duration) -> bool:
        """Take note of the loop's mean lag; whether what is shed changed.

        Shedding begins above a priority's threshold and ends at half of it.
        """
        shedding = frozenset(
            priority
            for priority, threshold in SHED_ABOVE.items()
            if mean > (threshold // 2 if priority in self.shedding else threshold)
        )
        changed = shedding != self.shedding
        self.shedding = shedding
        return changed


class LagWindow:
    """The mean lag of the event loop, by probes that are due every PROBE_EVERY.

    Every stretch of the window counts by its length: one without probes was a quiet one. So the mean
    is what a callback asked for at any moment of the last five seconds had to wait, and a single stall
    of half a second on a quiet loop is 38 ms of it.
    """

    __slots__ = ("_late",)

    def __init__(self) -> None:
        self._late: deque[tuple[Duration, Duration]] = deque()

    def note(self, due: Duration, answered: Duration) -> None:
        """A probe was due at one instant of a monotonic clock and answered at another; oldest first."""
        self._late.append((due, max(0, answered - due)))

    def mean(self, now: Duration) -> Duration:
        """Over the window that ends ``now``."""
        while self._late and self._late[0][0] <= now - LAG_WINDOW:
            self._late.popleft()
        return sum(late for _, late in self._late) * PROBE_EVERY // LAG_WINDOW
