"""What goes wrong with feeds, on order or every Nth time."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from itertools import cycle
from threading import Lock

FAULTS = ("error", "timeout", "malformed")


class Faults:
    """Counts requests and decides which of them go wrong; safe to use from several threads."""

    def __init__(self, every: int = 0) -> None:
        self.requests: Counter[str] = Counter()  # by path
        self.injected: Counter[str] = Counter()  # by fault
        self._every = every
        self._ordered: defaultdict[str, deque[str]] = defaultdict(deque)
        self._rotation = cycle(FAULTS)
        self._lock = Lock()

    def order(self, path: str, fault: str) -> None:
        """Let the next request of this path go wrong in this way."""
        with self._lock:
            self._ordered[path].append(fault)

    def of_request(self, path: str) -> str:
        """Count a request and name the fault it shall suffer, or ""."""
        with self._lock:
            self.requests[path] += 1
            fault = ""
            if self._ordered[path]:
                fault = self._ordered[path].popleft()
            elif self._every and self.requests.total() % self._every == 0:
                fault = next(self._rotation)
            if fault:
                self.injected[fault] += 1
            return fault

    def stats(self) -> dict[str, dict[str, int]]:
        """Count requests by path and faults by kind since the start."""
        with self._lock:
            return {"requests": dict(self.requests), "faults": dict(self.injected)}
