"""From the plan of each date to a ``MarketTable``: time cut into pieces, without gap or overlap."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Final, NamedTuple

from scheduler.calendars.bases import DayPlan
from scheduler.calendars.days import Planner
from scheduler.calendars.layout import Occurrence
from scheduler.core.market import BREAK, CLOSED, OPEN, Day, MarketTable, Piece, Session
from scheduler.core.messages import Instant

BETWEEN_PHASES: Final = "between phases"
OVERNIGHT: Final = "overnight"
# Sessions this near to the table are in it as well: their anchors may reach into it, and "the session
# begun latest" has an answer at its first instant. Long enough for any run of holidays.
_MARGIN = timedelta(days=15)


class _Held(NamedTuple):
    """A session as far as those before it leave room."""

    plan: DayPlan
    occurrences: tuple[Occurrence, ...]
    open: Instant
    close: Instant
    special: bool


def build_table(planner: Planner, first: date, last: date, version: str) -> MarketTable:
    """The table from local midnight at the start of ``first`` to that at the end of ``last``."""
    count = (last - first + 2 * _MARGIN).days + 1
    dates = [first - _MARGIN + timedelta(days=number) for number in range(count)]
    plans = [planner.plan(day) for day in dates]
    midnights = [planner.midnight(day) for day in dates]
    held = _without_overlap(plans)
    index = {session.plan.date: at for at, session in enumerate(held)}
    by_date = dict(zip(dates, midnights, strict=True))
    sessions = [_session(session, by_date[session.plan.date]) for session in held]
    start, end = planner.midnight(first), planner.midnight(last + timedelta(days=1))
    market, until = planner.market, planner.known_until
    return MarketTable(
        name=market.name,
        zone=planner.zone,
        pieces=list(_Cutter(plans, midnights, held, start, end).pieces()),
        sessions=sessions,
        days=[
            Day(str(plan.date), by_date[plan.date], index.get(plan.date, -1), *plan[2:])
            for plan in plans
            if first <= plan.date <= last
        ],
        phases=market.phase_names | {OPEN, CLOSED, BREAK},
        version=version,
        known_until=planner.midnight(until + timedelta(days=1)) if until else None,
        beyond_horizon=planner.beyond_horizon,
    )


def _without_overlap(plans: Sequence[DayPlan]) -> list[_Held]:
    """A session gives way to the end of the one before; one that is left without trading is none."""
    held: list[_Held] = []
    for plan in plans:
        if plan.session is None:
            continue
        whole = plan.session.occurrences
        free = held[-1].occurrences[-1].end if held else whole[0].start
        occurrences = tuple(
            one if one.segment_start >= free else _begun_late(one, free) for one in whole if one.end > free
        )
        if any(one.trading for one in occurrences):
            open_, close, special = plan.session.open, plan.session.close, plan.session.special
            held.append(_Held(plan, occurrences, max(open_, free), close, special))
    return held


def _begun_late(one: Occurrence, free: Instant) -> Occurrence:
    return one._replace(start=max(one.start, free), segment_start=free)


def _session(held: _Held, midnight: Instant) -> Session:
    spans: dict[str, tuple[Instant, Instant]] = {}
    for one in held.occurrences:
        spans[one.phase] = (spans.get(one.phase, (one.start,))[0], one.end)
    plan = held.plan
    return Session(
        date=plan.date.isoformat(),
        midnight=midnight,
        start=held.occurrences[0].start,
        end=held.occurrences[-1].end,
        open=held.open,
        close=held.close,
        spans=spans,
        special=held.special,
        name=plan.reason,
        layer=plan.layer,
        assumed=plan.assumed,
        notes=plan.session.notes if plan.session else (),
    )


class _Cutter:
    """Walks through time once; every piece lies in one phase, one session and one local day."""

    def __init__(
        self,
        plans: Sequence[DayPlan],
        midnights: Sequence[Instant],
        held: Sequence[_Held],
        start: Instant,
        end: Instant,
    ) -> None:
        self._plans = plans
        self._midnights = midnights
        self._held = held
        self._start = start
        self._end = end

    def pieces(self) -> Iterator[Piece]:
        cursor = self._held[0].occurrences[0].start if self._held else self._midnights[0]
        cursor = min(cursor, self._start)
        for at, session in enumerate(self._held):
            for one in session.occurrences:
                if cursor < one.start:
                    between = one is not session.occurrences[0]
                    yield from self._closed(cursor, one.start, at if between else at - 1, between)
                yield from self._phase(one, at)
                cursor = one.end
        yield from self._closed(cursor, self._end, len(self._held) - 1, between=False)

    def _phase(self, one: Occurrence, session: int) -> Iterator[Piece]:
        plan = self._held[session].plan
        for start, end, midnight, _ in self._by_day(one.start, one.end):
            yield Piece(
                start, end, one.phase, one.trading, one.start, one.segment_start, midnight, session,
                reason=plan.reason, layer=plan.layer, assumed=plan.assumed,
            )  # fmt: skip

    def _closed(self, begun: Instant, until: Instant, session: int, between: bool) -> Iterator[Piece]:
        for start, end, midnight, plan in self._by_day(begun, until):
            reason = BETWEEN_PHASES if between else _closed_reason(plan)
            yield Piece(
                start, end, CLOSED, False, begun, begun, midnight, session,
                reason=reason, layer=plan.layer, assumed=plan.assumed,
            )  # fmt: skip

    def _by_day(self, start: Instant, end: Instant) -> Iterator[tuple[Instant, Instant, Instant, DayPlan]]:
        """The parts of an interval that lie in the table, one for each local day."""
        start, end = max(start, self._start), min(end, self._end)
        at = bisect_right(self._midnights, start) - 1
        while start < end:
            part_end = min(end, self._midnights[at + 1])
            yield start, part_end, self._midnights[at], self._plans[at]
            start = part_end
            at += 1


def _closed_reason(plan: DayPlan) -> str:
    """Why a market is closed on a date outside of its sessions."""
    if plan.session is None:
        return plan.reason
    return plan.reason if plan.session.special and plan.reason else OVERNIGHT
