"""Market tables made by hand, for tests of the core: independent of the calendars' own builder.

A session is ``(date, [(phase, start, end), ...])`` with local times ``HH:MM``. An end not after its
start is on the next day; a time ``-HH:MM`` is on the evening before. Phases inside an `open` are
carved out of it, the rest between two `open` is `break`, and what nothing covers is `closed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256
from itertools import pairwise
from zoneinfo import ZoneInfo

from scheduler.core.market import BREAK, CLOSED, OPEN, Day, MarketTable, Piece, Session

Phase = tuple[str, str, str]
Span = tuple[str, int, int]  # phase, start, end
Hours = Sequence[Phase]

ORDINARY: Hours = [
    ("pre-open", "09:00", "09:15"),
    ("open", "09:15", "15:30"),
    ("post-close", "15:50", "16:00"),
]
SQUARE_OFF: Hours = [*ORDINARY, ("square-off", "15:10", "15:25")]
DRILL: Hours = [("pre-open", "09:00", "09:15"), ("open", "09:15", "10:00"), ("open", "11:30", "12:30")]
MUHURAT: Hours = [
    ("pre-open", "18:00", "18:15"),
    ("open", "18:15", "19:15"),
    ("post-close", "19:25", "19:35"),
]

_ONE_DAY = timedelta(days=1)


def nse_week(
    *, hours: Hours = ORDINARY, name: str = "NSE", changes: Mapping[str, Hours | None] | None = None
) -> MarketTable:
    """2026-11-20 to 2026-12-04 with a holiday on the 24th; ``changes`` replaces days (None: closed)."""
    days = [str(date(2026, 11, 20) + n * _ONE_DAY) for n in range(15)]
    by_day: dict[str, Hours | None] = {
        day: hours for day in days if date.fromisoformat(day).weekday() < 5 and day != "2026-11-24"
    }
    by_day |= changes or {}
    return table(
        "Asia/Kolkata",
        [(day, phases) for day, phases in sorted(by_day.items()) if phases is not None],
        first="2026-11-20",
        last="2026-12-04",
        name=name,
        holidays={"2026-11-24": "Gurunanak Jayanti"},
        special=frozenset(changes or ()),
    )


def square_off_week() -> MarketTable:
    """The same with `square-off` 15:10-15:25 carved out of `open`."""
    return nse_week(hours=SQUARE_OFF, name="MY-DESK")


def drill_week() -> MarketTable:
    """The same with a drill on Saturday the 28th: open 09:15-10:00, break, open 11:30-12:30."""
    return nse_week(changes={"2026-11-28": DRILL})


def muhurat_week() -> MarketTable:
    """The same with a Muhurat evening on the holiday, the 24th: open 18:15-19:15."""
    return nse_week(changes={"2026-11-24": MUHURAT})


def always(first: str, last: str, zone: str = "Asia/Kolkata") -> MarketTable:
    """A market that never closes."""
    return table(zone, [(day, [("open", "00:00", "00:00")]) for day in _dates(first, last)], name="always")


def table(
    zone: str,
    sessions: Iterable[tuple[str, Hours]],
    *,
    first: str | None = None,
    last: str | None = None,
    name: str = "TEST",
    holidays: Mapping[str, str] | None = None,
    special: Iterable[str] = (),
) -> MarketTable:
    """A market from the midnight that begins the date ``first`` to the one that ends ``last``.

    Without these, from the first session's date to the last's. ``special`` are dates whose sessions
    have hours of their own.
    """
    local = ZoneInfo(zone)
    hours = {day: list(phases) for day, phases in sessions}
    dates = _dates(first or min(hours), last or max(hours))
    spans = {
        day: sorted(spans_of(day, phases, local), key=lambda span: span[1]) for day, phases in hours.items()
    }
    made = sorted(
        (_session(day, spans[day], local, day in set(special)) for day in hours), key=lambda s: s.start
    )
    midnights = [_at(day, "00:00", local) for day in dates]
    end = _at(str(date.fromisoformat(dates[-1]) + _ONE_DAY), "00:00", local)
    reasons = {day: _reason(day, day in hours, holidays or {}) for day in dates}
    number = {session.date: index for index, session in enumerate(made)}
    days = [
        Day(day, midnight, number.get(day, -1), reasons[day], "exchange-calendars", assumed=False)
        for day, midnight in zip(dates, midnights, strict=True)
    ]
    flat = [span for day in spans.values() for span in day]
    return MarketTable(
        name=name,
        zone=local,
        pieces=_pieces(flat, made, days, end),
        sessions=made,
        days=days,
        phases=frozenset({OPEN, CLOSED, *(span[0] for span in flat)}),
        version=sha256(repr((zone, sorted(spans.items()))).encode()).hexdigest()[:12],
        known_until=end,
    )


def _dates(first: str, last: str) -> list[str]:
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    return [str(start + n * _ONE_DAY) for n in range((end - start).days + 1)]


def _at(day: str, text: str, zone: ZoneInfo) -> int:
    wall = datetime.combine(date.fromisoformat(day), time.fromisoformat(text.lstrip("-")), zone)
    if text.startswith("-"):
        wall -= _ONE_DAY
    return round(wall.astimezone(UTC).timestamp()) * 1_000_000_000


def spans_of(day: str, phases: Hours, zone: ZoneInfo) -> list[Span]:
    """The phases of a day as instants, and the breaks between its open segments."""
    found = []
    for phase, start, end in phases:
        begin, finish = _at(day, start, zone), _at(day, end, zone)
        if finish <= begin:
            finish = _at(str(date.fromisoformat(day) + _ONE_DAY), end, zone)
        found.append((phase, begin, finish))
    opens = sorted((begin, finish) for phase, begin, finish in found if phase == OPEN)
    breaks = [(BREAK, a[1], b[0]) for a, b in pairwise(opens) if a[1] < b[0]]
    return found + breaks


def _session(day: str, spans: Sequence[Span], zone: ZoneInfo, special: bool) -> Session:
    by_phase: dict[str, tuple[int, int]] = {}
    for phase, begin, finish in spans:
        low, high = by_phase.get(phase, (begin, finish))
        by_phase[phase] = (min(low, begin), max(high, finish))
    return Session(
        date=day,
        midnight=_at(day, "00:00", zone),
        start=min(begin for _, begin, _ in spans),
        end=max(finish for _, _, finish in spans),
        open=by_phase[OPEN][0],
        close=by_phase[OPEN][1],
        spans=by_phase,
        special=special,
        layer="exchange-calendars",
    )


def _reason(day: str, is_session: bool, holidays: Mapping[str, str]) -> str:
    if is_session:
        return ""
    return holidays.get(day) or ("weekend" if date.fromisoformat(day).weekday() >= 5 else "holiday")


def _pieces(flat: Sequence[Span], sessions: Sequence[Session], days: Sequence[Day], end: int) -> list[Piece]:
    first = days[0].midnight
    edges = {first, end, *(day.midnight for day in days)}
    edges |= {edge for _, begin, finish in flat for edge in (begin, finish) if first < edge < end}
    cuts = sorted(edges)
    pieces: list[Piece] = []
    for start, stop in pairwise(cuts):
        covering = [span for span in flat if span[1] <= start < span[2]]
        segment = next((span for span in covering if span[0] == OPEN), None)
        named = next((span for span in covering if span[0] != OPEN), None)
        phase = named[0] if named else OPEN if segment else CLOSED
        goes_on = bool(pieces) and pieces[-1].phase == phase
        phase_start = named[1] if named else pieces[-1].phase_start if goes_on else start
        day = max((day for day in days if day.midnight <= start), key=lambda day: day.midnight)
        index = sum(session.start <= start for session in sessions) - 1
        pieces.append(
            Piece(
                start=start,
                end=stop,
                phase=phase,
                trading=segment is not None,
                phase_start=phase_start,
                segment_start=segment[1] if segment else phase_start,
                midnight=day.midnight,
                session=index,
                reason=_closed_reason(start, day, sessions, index) if phase == CLOSED else "",
                layer="exchange-calendars",
                assumed=False,
            )
        )
    return pieces


def _closed_reason(start: int, day: Day, sessions: Sequence[Session], index: int) -> str:
    if index >= 0 and start < sessions[index].end:
        return "between phases"
    return day.reason or "overnight"
