"""What exchange-calendars knows, as the child process printed it: validated, plain, without pandas."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from hashlib import sha256
from itertools import pairwise
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from scheduler.calendars.layout import Span
from scheduler.core.messages import DAY, Instant
from scheduler.core.walltime import to_instant, to_wall, wall_instant
from scheduler.errors import CalendarError

FORMAT: Final = 1  # of the child's output
_NEAR = 2 * DAY  # a session lies no farther than this from the midnight (UTC) of its date


class RawSession(NamedTuple):
    """A trading date of a calendar."""

    segments: tuple[Span, ...]  # two round a lunch break
    special: bool  # opens late or closes early


@dataclass(frozen=True)
class RawCalendar:
    """One calendar from ``first`` to ``last``, both included."""

    code: str
    zone: ZoneInfo
    first: date
    last: date
    bound: date | None  # beyond it the calendar knows nothing; None: it goes by rules for ever
    weekdays: frozenset[int]  # on which it trades at all; Monday is 0
    sessions: Mapping[date, RawSession]
    holidays: Mapping[date, str]  # those that have names
    digest: str
    _usual: list[date] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        usual = sorted(day for day, session in self.sessions.items() if not session.special)
        object.__setattr__(self, "_usual", usual)

    def covers(self, day: date) -> bool:
        return self.first <= day <= self.last

    def days_between(self, first: date, last: date) -> int:
        """How many of these days it covers; the fewer below 0, the farther it is from all of them."""
        return (min(last, self.last) - max(first, self.first)).days + 1

    def usual_hours(self, day: date) -> tuple[Span, ...]:
        """The local hours of the nearest session without hours of its own, put on a date."""
        if not self._usual:
            return ()
        nearest = self._usual[max(0, bisect_right(self._usual, day) - 1)]
        return tuple(
            Span(self._moved(span.start, nearest, day), self._moved(span.end, nearest, day))
            for span in self.sessions[nearest].segments
        )

    def _moved(self, t: Instant, origin: date, day: date) -> Instant:
        local = to_wall(t, self.zone).replace(tzinfo=None)
        return wall_instant(local + (day - origin), self.zone)


@dataclass(frozen=True, slots=True)
class RawCalendars:
    """One answer of the child process."""

    versions: Mapping[str, str]
    names: frozenset[str]  # every code and alias that exchange-calendars knows
    calendars: Mapping[str, RawCalendar]  # by the name they were asked for
    errors: Mapping[str, str]  # why a calendar that was asked for is not there

    @property
    def failed(self) -> list[str]:
        """The calendars that exist and could not be read; the next time they may be."""
        return [name for name in self.errors if not self.names or name in self.names]


def parse_answer(text: str) -> RawCalendars:
    """Check and convert the child's output; CalendarError when it is not what a child prints."""
    try:
        return _answer(json.loads(text))
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
        OSError,
    ) as error:
        message = f"the calendar process printed rubbish: {type(error).__name__}: {error}"
        raise CalendarError(message) from error


def _answer(answer: Mapping[str, Any]) -> RawCalendars:
    if answer["format"] != FORMAT:
        raise ValueError(f"format {answer['format']!r} instead of {FORMAT}")
    calendars, errors = {}, {}
    for name, entry in answer["calendars"].items():
        if "error" in entry:
            errors[str(name)] = str(entry["error"])
        else:
            calendars[str(name)] = _calendar(entry)
    return RawCalendars(
        versions={str(key): str(value) for key, value in answer["versions"].items()},
        names=frozenset(map(str, answer["names"])),
        calendars=calendars,
        errors=errors,
    )


def _calendar(entry: Mapping[str, Any]) -> RawCalendar:
    first, last = (date.fromisoformat(entry[key]) for key in ("first", "last"))
    sessions = {date.fromisoformat(row[0]): _session(*row) for row in entry["sessions"]}
    if not sessions:
        raise ValueError(f"{entry['code']} has no sessions")
    if list(sessions) != sorted(sessions) or len(sessions) != len(entry["sessions"]):
        raise ValueError(f"the sessions of {entry['code']} are not in order")
    if any(not first <= day <= last for day in sessions):
        raise ValueError(f"{entry['code']} has sessions outside of its own window")
    spans = [span for session in sessions.values() for span in session.segments]
    if any(after.start < before.end for before, after in pairwise(spans)):
        raise ValueError(f"sessions of {entry['code']} overlap")
    return RawCalendar(
        code=str(entry["code"]),
        zone=ZoneInfo(entry["zone"]),
        first=first,
        last=last,
        bound=None if entry["bound"] is None else date.fromisoformat(entry["bound"]),
        weekdays=frozenset(day for day in range(7) if entry["weekmask"][day] == "1"),
        sessions=sessions,
        holidays={date.fromisoformat(day): str(name) for day, name in entry["holidays"].items()},
        digest=sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest(),
    )


def _session(day: str, start: Any, end: Any, break_start: Any, break_end: Any, special: Any) -> RawSession:
    edges = [start, end] if break_start is None else [start, break_start, break_end, end]
    midnight = to_instant(datetime.fromisoformat(day).replace(tzinfo=UTC))
    if any(type(edge) is not int or abs(edge - midnight) > _NEAR for edge in edges):
        raise ValueError(f"{edges} are not instants of {day}")
    if any(after <= before for before, after in pairwise(edges)):
        raise ValueError(f"{edges} are not in order")
    return RawSession(tuple(Span(*pair) for pair in zip(edges[::2], edges[1::2], strict=True)), bool(special))
