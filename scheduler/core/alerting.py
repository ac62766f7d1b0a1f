"""What a sink is told when: the first of its kind at once, repeats folded, the recovery always.

A trouble has a subject: the task or market that it is about. What is announced of it again within a window
is folded into one reminder at the window's end. Windows grow with each message, up to an hour, and begin
anew once there has been quiet for an hour; what is warned of daily is told daily at most.

That a trouble is over is told to whoever was told of it, whether or not he asked for that event. If all of
it happened within a window he hears at its end that it is over: the last word is always how things are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from scheduler.core import events
from scheduler.core.messages import DAY, HOUR, MINUTE, Announce, Cause, Duration, Instant

FIRST_WINDOW: Final = MINUTE
LONGEST_WINDOW: Final = HOUR
GROWTH: Final = 4
QUIET: Final = HOUR  # after a window in which nothing happened: then the subject is forgotten
SUBJECTS: Final = 1_000  # that are remembered; the one not heard of for longest makes room

ENDS: Final[Mapping[str, frozenset[str]]] = {
    events.TASK_RECOVERED: frozenset({events.TASK_CRASH_LOOPING, events.TASK_PARKED, events.TASK_RESTARTING}),
    events.TASK_RESUMED: frozenset({events.TASK_CRASH_LOOPING, events.TASK_PARKED, events.TASK_PAUSED}),
    events.TASK_FRESH: frozenset({events.TASK_STALE}),
    events.RUN_COMPLETED: frozenset({events.TASK_UNFINISHED}),
    events.LEDGER_RECOVERED: frozenset({events.LEDGER_DEGRADED}),
    events.LEDGER_CAUGHT_UP: frozenset({events.LEDGER_BEHIND}),
    events.LOAD_NORMAL: frozenset({events.LOAD_SHEDDING}),
    events.LOOP_RECOVERED: frozenset({events.LOOP_STALLED}),
    events.CONFIG_RELOADED: frozenset({events.CONFIG_REJECTED}),
    events.HEARTBEAT_RESUMED: frozenset({events.HEARTBEAT_WITHHELD}),
}
"""Recovery -> the troubles of the same subject that it ends."""

_TROUBLES: Final = frozenset[str]().union(*ENDS.values())
_DAILY: Final = frozenset(
    {
        events.MARKET_HORIZON_NEAR, events.MARKET_BEYOND_HORIZON, events.MARKET_UNSETTLED,
        events.CALENDAR_WARNING,
    }
)  # fmt: skip
_SUBJECT: Final = ("task", "market", "date", "detail")  # fields that tell one subject from another
_Key = tuple[str, str]


class Alert(NamedTuple):
    """A sink (webhook or command) with its events, or a URL that is called while all is well."""

    webhook: str | None
    command: tuple[str, ...]
    events: tuple[str, ...]
    heartbeat: str | None


class Message(NamedTuple):
    """What a sink is to be told."""

    announcement: Announce  # the latest of those that it stands for
    count: int  # type: ignore[assignment]  # how many it stands for
    recovered: bool  # the trouble that the sink was told of, or would have been, is over


@dataclass(slots=True)
class _Subject:
    """One event about one subject."""

    told: Instant
    window: Duration
    latest: Announce  # of what is folded
    folded: int = 0  # announcements since it was told
    open: bool = False  # the trouble was told, and not yet that it is over
    over: bool = False  # the trouble that is folded has ended since

    @property
    def due(self) -> Instant:
        return self.told + self.window

    def tell(self, now: Instant) -> Message:
        """The next window begins."""
        message = Message(self.latest, self.folded, self.over)
        self.told = now
        self.window = self.window if self.window == DAY else min(self.window * GROWTH, LONGEST_WINDOW)
        self.settle(open_=self.latest.event in _TROUBLES)  # a recovery is none
        return message

    def settle(self, *, open_: bool) -> None:
        """Nothing is folded any more."""
        self.folded, self.open, self.over = 0, open_, False


class Folding:
    """What one sink knows. ``now`` never goes back: the monotonic clock's."""

    def __init__(self, wanted: Collection[str], *, subjects: int = SUBJECTS) -> None:
        """``wanted`` are the events that the sink asks for."""
        self._limit = subjects
        self._subjects: OrderedDict[_Key, _Subject] = OrderedDict()
        self._wake: Instant | None = None  # no reminder is due before
        self.want(wanted)

    def want(self, wanted: Collection[str]) -> None:
        """Other events from now on; what is known of subjects stays, but is not told if it is not wanted."""
        self.wanted = frozenset(wanted)
        for (event, _), known in self._subjects.items():
            if event not in self.wanted:
                known.settle(open_=known.open)
        self._heeded = self.wanted.union(
            recovery for recovery, troubles in ENDS.items() if not self.wanted.isdisjoint(troubles)
        )

    def heeds(self, event: str) -> bool:
        """Whether this event may lead to a message; most do not."""
        return event in self._heeded

    def heard(self, announcement: Announce, now: Instant) -> list[Message]:
        """What to send now that this was announced."""
        if announcement.event not in self._heeded:
            return []
        told = self._recover(announcement)
        if told is None:
            told = self._tell_or_fold(announcement, now) if announcement.event in self.wanted else []
        return told

    def due(self, now: Instant) -> list[Message]:
        """The reminders whose window has ended."""
        told = [each.tell(now) for each in self._subjects.values() if each.folded and each.due <= now]
        self._wake = min((each.due for each in self._subjects.values() if each.folded), default=None)
        return told

    def wake_at(self) -> Instant | None:
        """When to ask for what is due; None while nothing is folded."""
        return self._wake

    def flush(self, now: Instant) -> list[Message]:
        """Everything that is folded, at once: there is no later."""
        self._wake = None
        return [each.tell(now) for each in self._subjects.values() if each.folded]

    def __len__(self) -> int:
        return len(self._subjects)

    def _recover(self, announcement: Announce) -> list[Message] | None:
        """None where there is no trouble that this ends."""
        subject = _subject_of(announcement)
        keys = [(trouble, subject) for trouble in ENDS.get(announcement.event, ())]
        known = [self._subjects[key] for key in keys if key in self._subjects]
        ended = [each for each in known if _ends(announcement, each.latest)]
        count = 1 + sum(each.folded for each in ended)
        if any(each.open for each in ended):
            for each in ended:
                each.settle(open_=False)
            return [Message(announcement, count, recovered=True)]
        pending = [each for each in ended if each.folded]
        if all(each.over for each in pending):
            return None
        first = min(pending, key=lambda each: each.due)
        for each in pending:
            each.settle(open_=False)
        first.folded, first.latest, first.over = count, announcement, True
        return []

    def _tell_or_fold(self, announcement: Announce, now: Instant) -> list[Message]:
        event = announcement.event
        key = (event, _subject_of(announcement))
        known = self._subjects.get(key)
        if known is None or _is_forgotten(known, now):
            window = DAY if event in _DAILY else FIRST_WINDOW
            self._subjects[key] = _Subject(now, window, announcement, open=event in _TROUBLES)
            self._subjects.move_to_end(key)
            return [*self._make_room(now), Message(announcement, 1, recovered=False)]
        self._subjects.move_to_end(key)
        known.latest, known.folded, known.over = announcement, known.folded + 1, False
        if known.due <= now:
            return [known.tell(now)]
        self._wake = known.due if self._wake is None else min(self._wake, known.due)
        return []

    def _make_room(self, now: Instant) -> list[Message]:
        """What is folded about a subject that makes room is told before it is forgotten."""
        if len(self._subjects) <= self._limit:
            return []
        _, oldest = self._subjects.popitem(last=False)
        return [oldest.tell(now)] if oldest.folded else []


def _ends(recovery: Announce, trouble: Announce) -> bool:
    """A completed run ends the trouble about its due and older ones; one of the past that is made none."""
    if recovery.event != events.RUN_COMPLETED:
        return True
    said = recovery.fields
    return said.get("cause") != Cause.BACKFILL and said["due"] >= trouble.fields["due"]


def _is_forgotten(known: _Subject, now: Instant) -> bool:
    return not (known.open or known.folded) and known.due + QUIET <= now


def _subject_of(announcement: Announce) -> str:
    fields = announcement.fields
    return " ".join(str(fields[name]) for name in _SUBJECT if fields.get(name))
