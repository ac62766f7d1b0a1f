"""Markets of the world, asked second by second.

What is due is worked out here from the schedules as exchange-calendars itself tells them, in a process that
knows nothing of the scheduler, and by the words of the design, with neither tables nor triggers.
"""

from __future__ import annotations

import json
import subprocess
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest

from scheduler.calendars import Calendars, run_child
from scheduler.core.market import MarketTable
from scheduler.core.messages import SECOND
from scheduler.core.plan import counts, plan
from scheduler.core.triggers import At, Cron, Every, KeepRunning, Trigger, parse_anchor
from scheduler.marketfile import parse_markets
from tests.core.desk import spec
from tests.shell.markets import assert_partition

CODES = ("XNYS", "XLON", "XHKG", "XTKS", "XASX")
LONDON = ZoneInfo("Europe/London")
OVERLAY = "markets: {HK: {calendar: XHKG, phases: {pre-open: open-30m..open, auction: close-8m..close}}}"
MARKETS = (*CODES, "HK", "always")

# The days of a market that are looked at: its first date and how many.
WINDOWS = {
    # The clocks change: 02:00 -> 03:00 on 2026-03-08, 02:00 -> 01:00 on 2026-11-01.
    "XNYS": [("2026-03-08", 2), ("2026-11-01", 2), ("2026-11-27", 1), ("2026-12-24", 1)],
    # 01:00 -> 02:00 on 2026-03-29, 02:00 -> 01:00 on 2026-10-25.
    "XLON": [("2026-03-29", 2), ("2026-10-25", 2), ("2026-12-24", 1)],
    # 03:00 -> 02:00 on 2026-04-05, before Easter Monday; 02:00 -> 03:00 on 2026-10-04.
    "XASX": [("2026-04-05", 1), ("2026-04-07", 1), ("2026-10-04", 2), ("2026-12-24", 1)],
    "XHKG": [("2026-12-24", 1)],
    "XTKS": [("2026-11-24", 1)],
    "HK": [("2026-11-23", 1), ("2026-12-24", 1)],
    "always": [("2026-03-29", 1), ("2026-10-25", 1)],  # in London's days
}

SCHEDULES = """
import json, sys, exchange_calendars
def seconds(at):
    return None if at != at else int(at.timestamp())
def told(code):
    known = exchange_calendars.get_calendar(code, start="2026-01-02", end="2027-02-26")
    special = {*known.late_opens, *known.early_closes}
    columns = (known.opens, known.break_starts, known.break_ends, known.closes)
    rows = zip(known.sessions, *columns)
    days = {str(day.date()): [[seconds(at) for at in edges], day in special] for day, *edges in rows}
    return [str(known.tz), days]
json.dump({code: told(code) for code in sys.argv[1:]}, sys.stdout)
"""


class Stretch(NamedTuple):
    """A phase, in seconds since the epoch."""

    phase: str
    start: int
    end: int


@dataclass
class Session:
    day: str
    open: list[Stretch]  # the open segments
    named: list[Stretch]  # the other phases
    special: bool

    @property
    def begins(self) -> int:
        return min(stretch.start for stretch in [*self.open, *self.named])

    @property
    def ends(self) -> int:
        return max(stretch.end for stretch in [*self.open, *self.named])


class Moment(NamedTuple):
    """One second of a market."""

    t: int
    phase: str
    trading: bool
    phase_start: int
    segment_start: int
    midnight: int
    in_session: bool


@dataclass
class Stage:
    """Some days of a market: what its exchange said, and the table that is to agree."""

    zone: ZoneInfo
    sessions: Sequence[Session]
    table: MarketTable
    first: date
    days: int

    def midnight(self, day: date) -> int:
        return int(datetime.combine(day, time(), self.zone).timestamp())

    @property
    def start(self) -> int:
        return self.midnight(self.first)

    @property
    def until(self) -> int:
        return self.midnight(self.first + timedelta(days=self.days))

    @cached_property
    def moments(self) -> list[Moment]:
        """Every second, and the one before them."""
        segments = self._painted(stretch for one in self.sessions for stretch in one.open)
        named = self._painted(stretch for one in self.sessions for stretch in one.named)
        within = self._painted(Stretch(one.day, one.begins, one.ends) for one in self.sessions)
        days = [self.first + timedelta(days=number) for number in range(-1, self.days + 1)]
        midnights = self._painted(Stretch("", *edges) for edges in pairwise(map(self.midnight, days)))
        found = []
        for t, segment, other, session, day in zip(
            range(self.start - 1, self.until), segments, named, within, midnights, strict=True
        ):
            phase = other.phase if other else "open" if segment else "closed"
            starts, begun, midnight = (one.start if one else -1 for one in (other, segment, day))
            found.append(Moment(t, phase, segment is not None, starts, begun, midnight, session is not None))
        return found

    def _painted(self, stretches: Iterable[Stretch]) -> list[Stretch | None]:
        """Which of them each second lies in."""
        first = self.start - 1
        seconds: list[Stretch | None] = [None] * (self.until - first)
        for stretch in stretches:
            low, high = max(stretch.start, first), min(stretch.end, self.until)
            if low < high:
                seconds[low - first : high - first] = [stretch] * (high - low)
        return seconds


@pytest.fixture(scope="module")
def schedules() -> dict[str, tuple[ZoneInfo, list[Session]]]:
    command = [sys.executable, "-c", SCHEDULES, *CODES]
    run = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=120)
    told = {}
    for code, (zone, days) in json.loads(run.stdout).items():
        told[code] = ZoneInfo(zone), [_session(day, edges, special) for day, (edges, special) in days.items()]
    _, hong_kong = told["XHKG"]
    told["HK"] = ZoneInfo("Asia/Hong_Kong"), [_with_phases(session) for session in hong_kong]
    dates = [date(2026, 1, 1) + timedelta(days=number) for number in range(400)]
    midnights = [int(datetime.combine(day, time(), LONDON).timestamp()) for day in dates]
    told["always"] = (
        LONDON,
        [
            Session(str(day), [Stretch("open", start, end)], [], special=False)
            for day, (start, end) in zip(dates, pairwise(midnights), strict=False)
        ],
    )
    return told


def _session(day: str, edges: Sequence[int | None], special: bool) -> Session:
    start, pause, again, end = edges
    assert start is not None
    assert end is not None
    if pause is None or again is None:
        return Session(day, [Stretch("open", start, end)], [], special)
    opens = [Stretch("open", start, pause), Stretch("open", again, end)]
    return Session(day, opens, [Stretch("break", pause, again)], special)


def _with_phases(session: Session) -> Session:
    start, end = session.open[0].start, session.open[-1].end
    phases = [Stretch("pre-open", start - 1800, start), Stretch("auction", end - 480, end)]
    return Session(session.day, session.open, [*session.named, *phases], session.special)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, MarketTable]:
    """All from one child."""
    requests = []

    def runner(request: str) -> str:
        requests.append(request)
        return run_child(request)

    window = date(2026, 2, 1), date(2027, 1, 31)
    calendars = Calendars(tmp_path_factory.mktemp("state"), runner)
    built = calendars.build(parse_markets(OVERLAY), MARKETS, window, LONDON)
    assert (len(requests), built.problems, built.warnings) == (1, (), ())
    return built.tables


Schedules = Mapping[str, tuple[ZoneInfo, list[Session]]]


@pytest.fixture(
    scope="module",
    params=[(market, *window) for market, windows in WINDOWS.items() for window in windows],
    ids=lambda param: f"{param[0]}-{param[1]}",
)
def stage(request: pytest.FixtureRequest, schedules: Schedules, tables: Mapping[str, MarketTable]) -> Stage:
    market, first, days = request.param
    return Stage(*schedules[market], tables[market], date.fromisoformat(first), days)


Due = Callable[[Moment, Moment], bool]  # whether a trigger is due at a second, the one before told as well


def _pace(pace: Mapping[str, int | None], offset: int = 0, during: frozenset[str] | None = None) -> Due:
    """Law 2."""

    def due(now: Moment, _: Moment) -> bool:
        if during is not None and not _holds(during, now):
            return False
        phase = now.phase
        if "*" in pace:
            interval, anchor = pace["*"], now.midnight
        elif phase in pace and phase not in ("open", "closed"):
            interval, anchor = pace[phase], now.phase_start
        elif now.trading:
            interval, anchor = pace.get("open"), now.segment_start
        else:
            interval, anchor = pace.get("closed"), now.midnight
        since = now.t - anchor - offset
        return interval is not None and since >= 0 and since % interval == 0

    return due


def _holds(during: frozenset[str], now: Moment) -> bool:
    return (
        now.phase in during or (now.trading and "open" in during) or (now.in_session and "session" in during)
    )


def _start_of(during: frozenset[str]) -> Due:
    return lambda now, before: _holds(during, now) and not _holds(during, before)


def _cron(minutes: range, hours: range, zone: ZoneInfo, *, fixed: bool) -> Due:
    """Debian's cron: what is fixed runs once where the clock repeats, and after the jump where it skips."""

    def matches(wall: datetime) -> bool:
        return wall.minute in minutes and wall.hour in hours

    def due(now: Moment, before: Moment) -> bool:
        if now.t % 60:
            return False
        wall = datetime.fromtimestamp(now.t, zone)
        if not fixed:
            return matches(wall)
        skipped = datetime.fromtimestamp(before.t, zone).replace(tzinfo=None) + timedelta(seconds=1)
        while skipped < wall.replace(tzinfo=None):
            if matches(skipped):
                return True
            skipped += timedelta(minutes=1)
        return matches(wall) and wall.fold == 0

    return due


def _anchors(stage: Stage, texts: Sequence[str]) -> Due:
    """Section 4 of the design."""
    instants = set()
    for session in stage.sessions:
        first, last = session.open[0].start, session.open[-1].end
        for text in texts:
            anchor = parse_anchor(text)
            offset = anchor.offset // SECOND
            if anchor.base == "open":
                at = min(first + offset, last) if session.special else first + offset
            elif anchor.base == "close":
                at = max(last + offset, first) if session.special and offset < 0 else last + offset
            elif anchor.base == "break.end":
                pauses = [one.end for one in session.named if one.phase == "break"]
                if not pauses:
                    continue
                at = pauses[0] + offset
            else:
                wall = datetime.combine(date.fromisoformat(session.day), time.fromisoformat(anchor.base))
                at = int(wall.replace(tzinfo=stage.zone).timestamp()) + offset
            instants.add(at)
    return lambda now, _: now.t in instants


ANCHORS = ("open", "open+5h30m", "close-10s", "close-4h", "close+15m", "break.end+1s", "16:00", "08:59+1m30s")


def _triggers(stage: Stage) -> dict[str, tuple[Trigger, Due]]:
    zone = stage.zone
    session, trading = frozenset({"session"}), frozenset({"open"})
    paces: list[tuple[dict[str, int | None], int, frozenset[str] | None]] = [
        ({"open": 7, "closed": 61}, 0, None),
        ({"open": 4000, "closed": None, "break": 13, "auction": 11}, 3, None),
        ({"*": 97}, 5, None),
        ({"*": 3600}, 0, session),
        ({"open": 50, "closed": 5000, "pre-open": None}, 49, trading),
    ]
    found: dict[str, tuple[Trigger, Due]] = {}
    for number, (pace, offset, during) in enumerate(paces):
        exact = {phase: None if interval is None else interval * SECOND for phase, interval in pace.items()}
        found[f"every-{number}"] = Every(exact, offset * SECOND, 0.0, during), _pace(pace, offset, during)
    found["open"] = KeepRunning(trading), _start_of(trading)
    found["session"] = KeepRunning(session), _start_of(session)
    found["at"] = At(tuple(map(parse_anchor, ANCHORS))), _anchors(stage, ANCHORS)
    stars = _cron(range(0, 60, 15), range(24), zone, fixed=False)
    found["cron"] = Cron("*/15 * * * *", zone), stars
    for hour in (1, 2):
        once = _cron(range(30, 31), range(hour, hour + 1), zone, fixed=True)
        found[f"cron-{hour}"] = Cron(f"30 {hour} * * *", zone), once
    return found


def test_every_second_is_in_the_phase_that_the_exchange_says(stage: Stage) -> None:
    phase_at = stage.table.phase_at
    for now in stage.moments:
        piece = phase_at(now.t * SECOND + SECOND // 2)
        assert (piece.phase, piece.trading, piece.midnight) == (now.phase, now.trading, now.midnight * SECOND)
        if now.trading:
            assert piece.segment_start == now.segment_start * SECOND


def test_every_tick_of_the_plan_is_found_second_by_second_and_no_other(stage: Stage) -> None:
    triggers = _triggers(stage)
    start, until = stage.start * SECOND, stage.until * SECOND
    specs = [spec(name, trigger, market="X") for name, (trigger, _) in triggers.items()]
    planned: dict[str, list[int]] = {name: [] for name in triggers}
    for run in plan(specs, {"X": stage.table}, start, until):
        planned[run.task].append(run.due)
    counted = counts(specs, {"X": stage.table}, start, until)
    for name, (trigger, due) in triggers.items():
        found = [now.t * SECOND for before, now in pairwise(stage.moments) if due(now, before)]
        assert planned[name] == found, name
        assert counted[name] == len(found), name
        assert list(_backwards(trigger, stage.table, start, until)) == found[::-1], name
        cuts = [start + (until - start) * part // 11 for part in range(12)]
        for a, b in [*pairwise(cuts), (cuts[1], cuts[-2])]:
            number = bisect_left(found, b) - bisect_left(found, a)
            assert trigger.count_between(a, b, stage.table) == number, name


def _backwards(trigger: Trigger, table: MarketTable, start: int, until: int) -> Iterator[int]:
    """From the last tick to the first; after each comes the one after it."""
    t, later = trigger.last_before(until, table), trigger.next_after(until - 1, table)
    while t is not None and t >= start:
        assert trigger.next_after(t, table) == later
        yield t
        earlier = trigger.last_before(t, table)
        assert earlier is None or earlier < t
        t, later = earlier, t


@pytest.mark.parametrize("market", MARKETS)
def test_a_year_of_every_market_is_a_partition_of_time(
    market: str, tables: Mapping[str, MarketTable], schedules: Schedules
) -> None:
    table, (_, sessions) = tables[market], schedules[market]
    assert_partition(table)
    expected = [session.day for session in sessions if "2026-02-01" <= session.day <= "2027-01-31"]
    assert [day.date for day in table.days if day.session >= 0] == expected
