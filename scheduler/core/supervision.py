"""When a failed task is tried again: a transition table, a backoff, a burst window (law 5).

    healthy --failed--> backing-off --failed (burst)--> crash-looping, or parked

``SUCCEEDED`` is proven health: a run that completed, or a ``keep_running`` task that has stayed up
for a minute. A table, so that it can be read, drawn and checked for completeness.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, StrEnum
from types import MappingProxyType

from scheduler.core.messages import MINUTE, SECOND, Duration, Instant, RestartPolicy


class Health(StrEnum):
    """What supervision thinks of a task."""

    HEALTHY = "healthy"
    BACKING_OFF = "backing-off"
    CRASH_LOOPING = "crash-looping"  # the burst is exceeded, and its policy says keep_trying
    PARKED = "parked"  # the burst is exceeded: not tried again until resumed or redefined


class Signal(Enum):
    """What supervision is told."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    BURST_KEEP_TRYING = "failed, burst exceeded, keep_trying"
    BURST_PARK = "failed, burst exceeded, park"
    GAVE_UP = "failed, restart policy says no"
    RESUMED = "resumed"


class Verdict(Enum):
    """What supervision asks for."""

    NOTHING = "nothing"
    RETRY = "retry after the backoff"
    ALARM_AND_RETRY = "announce the crash loop, retry"
    PARK = "announce, park"
    RECOVER = "announce the recovery"
    UNPARK = "announce that it was resumed"


_H, _S, _V = Health, Signal, Verdict

TRANSITIONS = MappingProxyType(
    {
        (_H.HEALTHY, _S.SUCCEEDED): (_H.HEALTHY, _V.NOTHING),
        (_H.HEALTHY, _S.FAILED): (_H.BACKING_OFF, _V.RETRY),
        (_H.HEALTHY, _S.BURST_KEEP_TRYING): (_H.CRASH_LOOPING, _V.ALARM_AND_RETRY),
        (_H.HEALTHY, _S.BURST_PARK): (_H.PARKED, _V.PARK),
        (_H.HEALTHY, _S.GAVE_UP): (_H.HEALTHY, _V.NOTHING),
        (_H.HEALTHY, _S.RESUMED): (_H.HEALTHY, _V.NOTHING),
        (_H.BACKING_OFF, _S.SUCCEEDED): (_H.HEALTHY, _V.RECOVER),
        (_H.BACKING_OFF, _S.FAILED): (_H.BACKING_OFF, _V.RETRY),
        (_H.BACKING_OFF, _S.BURST_KEEP_TRYING): (_H.CRASH_LOOPING, _V.ALARM_AND_RETRY),
        (_H.BACKING_OFF, _S.BURST_PARK): (_H.PARKED, _V.PARK),
        (_H.BACKING_OFF, _S.GAVE_UP): (_H.BACKING_OFF, _V.NOTHING),
        (_H.BACKING_OFF, _S.RESUMED): (_H.HEALTHY, _V.NOTHING),
        (_H.CRASH_LOOPING, _S.SUCCEEDED): (_H.HEALTHY, _V.RECOVER),
        (_H.CRASH_LOOPING, _S.FAILED): (_H.CRASH_LOOPING, _V.RETRY),
        (_H.CRASH_LOOPING, _S.BURST_KEEP_TRYING): (_H.CRASH_LOOPING, _V.RETRY),
        (_H.CRASH_LOOPING, _S.BURST_PARK): (_H.PARKED, _V.PARK),
        (_H.CRASH_LOOPING, _S.GAVE_UP): (_H.CRASH_LOOPING, _V.NOTHING),
        (_H.CRASH_LOOPING, _S.RESUMED): (_H.HEALTHY, _V.UNPARK),
        (_H.PARKED, _S.SUCCEEDED): (_H.HEALTHY, _V.RECOVER),  # a run made by hand
        (_H.PARKED, _S.FAILED): (_H.PARKED, _V.NOTHING),
        (_H.PARKED, _S.BURST_KEEP_TRYING): (_H.PARKED, _V.NOTHING),
        (_H.PARKED, _S.BURST_PARK): (_H.PARKED, _V.NOTHING),
        (_H.PARKED, _S.GAVE_UP): (_H.PARKED, _V.NOTHING),
        (_H.PARKED, _S.RESUMED): (_H.HEALTHY, _V.UNPARK),
    }
)

FIRST_DELAY = SECOND
LONGEST_DELAY_TRADING = 30 * SECOND
LONGEST_DELAY_RESTING = 5 * MINUTE
SETTLED_AFTER = 60 * SECOND  # how long a keep_running task must stay up to be healthy again


class Supervisor:
    """One task's restart history; ``decide`` is its only verb."""

    __slots__ = ("_recent", "consecutive", "health", "policy", "restarts")

    def __init__(self, policy: RestartPolicy) -> None:
        self.policy = policy
        self.health = Health.HEALTHY
        self.consecutive = 0  # failures since health was last proven
        self.restarts = 0
        self._recent: tuple[Instant, ...] = ()  # failures within the burst window

    def succeeded(self) -> Verdict:
        if self.consecutive == 0 and self.health is Health.HEALTHY:  # nearly always
            return Verdict.NOTHING
        self.consecutive = 0
        self._recent = ()
        return self._apply(Signal.SUCCEEDED)

    def failed(self, now: Instant) -> Verdict:
        self.consecutive += 1
        if self.policy.policy == "never":
            return self._apply(Signal.GAVE_UP)
        recent = (*(at for at in self._recent if at > now - self.policy.window), now)
        self._recent = recent[-self.policy.burst :]  # bounded
        if len(recent) < self.policy.burst:
            return self._apply(Signal.FAILED)
        return self._apply(Signal.BURST_PARK if self.policy.then == "park" else Signal.BURST_KEEP_TRYING)

    def resumed(self) -> Verdict:
        self.consecutive = 0
        self._recent = ()
        return self._apply(Signal.RESUMED)

    def park(self, failures: int) -> None:
        """Go on from where the scheduler before left it: parked, after so many failures in a row."""
        self.consecutive = failures
        self.health = Health.PARKED

    def clock_stepped(self, by: Duration) -> None:
        """Failures keep their distance to now when the wall clock steps."""
        self._recent = tuple(at + by for at in self._recent)

    def _apply(self, signal: Signal) -> Verdict:
        self.health, verdict = TRANSITIONS[self.health, signal]
        return verdict


def backoff(consecutive: int, *, trading: bool, jitter: Callable[[], float]) -> Duration:
    """How long to wait after this many failures in a row: 1 s doubling to a cap.

    ``jitter`` gives floats in [0, 1); up to a quarter of the delay is taken off, never added, so
    that the cap holds.
    """
    cap = LONGEST_DELAY_TRADING if trading else LONGEST_DELAY_RESTING
    delay = min(cap, FIRST_DELAY << min(consecutive - 1, 32))
    return delay - int(delay * jitter() / 4)


def diagram() -> str:
    """The transition table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", f"    [*] --> {Health.HEALTHY.name}"]
    for (health, signal), (after, verdict) in TRANSITIONS.items():
        if (health, verdict) != (after, Verdict.NOTHING):
            lines.append(f"    {health.name} --> {after.name}: {signal.value} / {verdict.value}")
    return "\n".join(lines) + "\n"
