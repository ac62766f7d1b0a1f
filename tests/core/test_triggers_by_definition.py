"""Triggers against their definition, asked step by step on random markets.

Everything random here lies on a grid of five minutes, so that asking at each step of it misses nothing
and an answer that lies elsewhere is seen as one too many. The clocks change on 2026-10-25 in London
and on 2026-11-01 in New York.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.market import MarketTable
from scheduler.core.messages import MINUTE
from scheduler.core.triggers import At, Every, KeepRunning, parse_anchor
from tests.core.agreement import assert_agrees
from tests.core.tables import Hours, Span, spans_of, table

STEP = 5 * MINUTE
FIRST_DATES = {"Asia/Kolkata": "2026-11-20", "Europe/London": "2026-10-23", "America/New_York": "2026-10-30"}
DATES = 4
PHASES = ("open", "closed", "pre-open", "auction", "break", "post-close", "night")


@dataclass(frozen=True)
class Market:
    """A random market: what it was made of, for the definition, and the table, for the code."""

    zone: ZoneInfo
    days: Sequence[tuple[str, Sequence[Span]]]
    table: MarketTable

    def covering(self, t: int) -> tuple[Span | None, Span | None]:
        """The open segment and the other phase that hold at an instant."""
        spans = [span for _, day in self.days for span in day if span[1] <= t < span[2]]
        return (
            next((span for span in spans if span[0] == "open"), None),
            next((span for span in spans if span[0] != "open"), None),
        )

    def midnight(self, t: int) -> int:
        """The local midnight that began the day of an instant."""
        day = datetime.fromtimestamp(t // 10**9, self.zone).date()
        return int(datetime.combine(day, time(), self.zone).timestamp()) * 10**9

    def holds(self, during: frozenset[str] | None, t: int) -> bool:
        segment, named = self.covering(t)
        phase = named[0] if named else "open" if segment else "closed"
        return (
            during is None
            or phase in during
            or ("open" in during and segment is not None)
            or ("session" in during and any(
                min(span[1] for span in day) <= t < max(span[2] for span in day) for _, day in self.days
            ))
        )  # fmt: skip

    def steps(self, is_tick: Callable[[int], bool]) -> list[int]:
        return [t for t in range(self.table.first, self.table.last, STEP) if is_tick(t)]


def clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


@st.composite
def hours(draw: st.DrawFn) -> Hours:
    """A day between 04:00 and 23:00: edges in order, most of them there, some not."""
    edges = sorted(draw(st.lists(st.integers(48, 276), min_size=12, max_size=12, unique=True)))
    a, b, c, d, e, f, g, h, i, j, k, end = (clock(5 * edge) for edge in edges)
    phases = [("open", c, h)]
    if draw(st.booleans()):
        phases = [("open", c, e), ("open", f, h)]
    optional = [
        ("pre-open", a, draw(st.sampled_from([b, c]))),
        ("auction", c, d) if draw(st.booleans()) else ("auction", g, h),
        ("post-close", draw(st.sampled_from([h, i])), j),
        ("post-close", k, end),
        ("night", "-23:30", "00:30"),
    ]
    return phases + [phase for phase in optional if draw(st.booleans())]


@st.composite
def markets(draw: st.DrawFn) -> Market:
    zone = draw(st.sampled_from(sorted(FIRST_DATES)))
    first = date.fromisoformat(FIRST_DATES[zone])
    dates = [str(first + timedelta(days=n)) for n in range(DATES)]
    overnight: Hours = [
        ("open", "-18:00", "16:00"),
        ("auction", "15:00", "16:00"),
        ("post-close", "17:00", "17:30"),
    ]
    days = draw(st.fixed_dictionaries({day: st.none() | hours() | st.just(overnight) for day in dates}))
    sessions = [(day, phases) for day, phases in days.items() if phases is not None]
    # "-18:00" of one day may run into the evening of the one before: keep the sessions apart.
    sessions = [
        (day, phases)
        for number, (day, phases) in enumerate(sessions)
        if phases is not overnight or number == 0 or sessions[number - 1][1] is overnight
    ]
    special = draw(st.sets(st.sampled_from(dates)))
    made = table(zone, sessions, first=dates[0], last=dates[-1], special=special)
    local = ZoneInfo(zone)
    return Market(local, [(day, spans_of(day, phases, local)) for day, phases in sessions], made)


durings = st.none() | st.frozensets(st.sampled_from([*PHASES, "session"]), min_size=1, max_size=3)
intervals = st.sampled_from([1, 2, 3, 4, 6, 12, 13, 48, 100, 288, 400]).map(lambda steps: steps * STEP)
paces = st.one_of(
    intervals.map(lambda interval: {"*": interval}),
    st.dictionaries(st.sampled_from(PHASES), intervals | st.none(), min_size=1),
)


def law_2(market: Market, trigger: Every, t: int) -> bool:
    """Whether a pace is due at an instant, as the design says it."""
    pace: Mapping[str, int | None] = trigger.pace
    segment, named = market.covering(t)
    phase = named[0] if named else "open" if segment else "closed"
    if "*" in pace:
        interval, anchor = pace["*"], market.midnight(t)
    elif phase in pace:
        interval = pace[phase]
        if phase == "closed":
            anchor = market.midnight(t)
        elif phase == "open":
            assert segment is not None
            anchor = segment[1]
        else:
            assert named is not None
            anchor = named[1]
    elif segment is not None:
        interval, anchor = pace.get("open"), segment[1]
    else:
        interval, anchor = pace.get("closed"), market.midnight(t)
    if interval is None or not market.holds(trigger.during, t):
        return False
    since = t - anchor - trigger.offset - int(trigger.share * interval)
    return since >= 0 and since % interval == 0


@settings(max_examples=60, deadline=None)
@given(market=markets(), pace=paces, offset=st.integers(0, 3), during=durings, data=st.data())
def test_a_pace_ticks_on_the_grid_of_law_2(
    market: Market,
    pace: Mapping[str, int | None],
    offset: int,
    during: frozenset[str] | None,
    data: st.DataObject,
) -> None:
    quarters = all(interval is None or interval % (4 * STEP) == 0 for interval in pace.values())
    share = data.draw(st.sampled_from([0, 0.25, 0.5, 0.75]), label="share") if quarters else 0
    trigger = Every(pace, offset * STEP, share, during)
    assert_agrees(trigger, market.table, market.steps(lambda t: law_2(market, trigger, t)), data)


@settings(max_examples=60, deadline=None)
@given(market=markets(), during=durings, data=st.data())
def test_keep_running_is_due_where_its_stretches_begin(
    market: Market, during: frozenset[str] | None, data: st.DataObject
) -> None:
    first, last = market.table.first, market.table.last
    holding = {t: market.holds(during, t) for t in range(first, last, STEP)}
    starts = [t for t, holds in holding.items() if holds and t > first and not holding[t - STEP]]
    ends = [t for t, holds in holding.items() if not holds and t > first and holding[t - STEP]]
    trigger = KeepRunning(during)
    assert_agrees(trigger, market.table, starts, data)
    t = data.draw(st.integers(first, last - 1), label="t")
    expected = None
    if holding[first + (t - first) // STEP * STEP]:
        start, end = (
            max((s for s in starts if s <= t), default=None),
            min((e for e in ends if e > t), default=None),
        )
        expected = start, end
    assert trigger.span_at(t, market.table) == expected


bases = st.sampled_from(
    [
        "open",
        "close",
        "pre-open.start",
        "auction.end",
        "post-close.start",
        "open.end",
        "04:00",
        "16:00",
        "23:55",
    ]
)
offsets = st.sampled_from(["", "+5m", "-5m", "+1h", "-1h", "+20h", "-20h", "+2d", "-2d", "+3h20m", "-3h20m"])


def section_4(market: Market, text: str, day: str, spans: Sequence[Span]) -> int | None:
    """When an anchor is on a date, as the design says it."""
    anchor = parse_anchor(text)
    opens = [span for span in spans if span[0] == "open"]
    first_open, last_close = min(span[1] for span in opens), max(span[2] for span in opens)
    special = next(session.special for session in market.table.sessions if session.date == day)
    if anchor.base == "open":
        at = first_open + anchor.offset
        return last_close if special and anchor.offset > 0 and at > last_close else at
    if anchor.base == "close":
        at = last_close + anchor.offset
        return first_open if special and anchor.offset < 0 and at < first_open else at
    if anchor.base[0].isdigit():
        wall = datetime.combine(date.fromisoformat(day), time.fromisoformat(anchor.base), market.zone)
        return int(wall.astimezone(UTC).timestamp()) * 10**9 + anchor.offset
    phase, edge = anchor.base.split(".")
    named = [span for span in spans if span[0] == phase]
    if not named:
        return None
    return (min(s[1] for s in named) if edge == "start" else max(s[2] for s in named)) + anchor.offset


@settings(max_examples=100, deadline=None)
@given(
    market=markets(),
    texts=st.lists(st.builds(str.__add__, bases, offsets), min_size=1, max_size=4),
    data=st.data(),
)
def test_anchors_are_due_once_on_each_session(market: Market, texts: list[str], data: st.DataObject) -> None:
    at = [section_4(market, text, day, spans) for day, spans in market.days for text in texts]
    within = {t for t in at if t is not None and market.table.first <= t < market.table.last}
    assert_agrees(At(tuple(map(parse_anchor, texts))), market.table, within, data)
