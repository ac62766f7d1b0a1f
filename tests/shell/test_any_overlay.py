"""Whatever a desk writes into markets.yaml: its mistakes are told with their places, or time is partitioned.

What the pieces should be is worked out again here, instant by instant, from nothing but the sessions' phases.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from scheduler.calendars import Built, Calendars, calendar_rows, run_child
from scheduler.calendars.source import Runner
from scheduler.core.market import MarketTable, Piece
from scheduler.core.messages import HOUR, SECOND
from scheduler.marketfile import parse_markets
from tests.helpers import instant
from tests.shell.markets import INDIA, assert_partition, broken, build, shown

FIRST, LAST = date(2026, 10, 20), date(2026, 11, 10)  # clocks: London 10-25, Havana at midnight and NY 11-01
CODES = ("XBOM", "XHKG", "XLON", "XNYS")
NAMES = ("NSE", "NSE-FO", "MCX", "A", "B", "C")
ZONES = ("Asia/Kolkata", "Europe/London", "America/New_York", "America/Havana")
PHASES = ("pre-open", "auction", "post-close", "late")
PLACE = re.compile(r"(markets|india)\.yaml:\d+:\d+: .")


@pytest.fixture(scope="module")
def runner() -> Runner:
    """One real answer for all that is written here."""
    request = {"calendars": CODES, "first": "2026-01-01", "last": "2026-12-31"}
    answer = json.loads(run_child(json.dumps(request)))
    known = answer["calendars"]

    def by_heart(request: str) -> str:
        wanted = json.loads(request)["calendars"]
        unknown = {"error": "exchange-calendars does not know it"}
        return json.dumps({**answer, "calendars": {name: known.get(name, unknown) for name in wanted}})

    return by_heart


wall = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.sampled_from([0, 10, 30, 59]))
shift = st.builds("{}{}m".format, st.sampled_from("+-"), st.sampled_from([1, 5, 20, 60, 300, 1500]))
edge = st.one_of(
    wall,
    st.sampled_from(["open", "close"]),
    st.builds("{}{}".format, st.sampled_from(["open", "close", "12:00"]), shift),
    st.builds("{}.{}".format, st.sampled_from([*PHASES, "open", "break"]), st.sampled_from(["start", "end"])),
)
interval = st.builds("{}..{}".format, edge, edge)
daytime = st.sampled_from(["09:00..15:30", "09:15..12:00", "13:00..17:00", "17:30..19:00", "20:00..02:00"])
opens = (
    daytime
    | st.lists(daytime, min_size=2, max_size=2, unique=True).map(sorted)
    | st.lists(st.builds("{}..{}".format, wall, wall), min_size=1, max_size=3)
)
usual = st.fixed_dictionaries(
    {},
    optional={
        "pre-open": st.sampled_from(["open-15m..open", "open-15m..open-5m"]),
        "auction": st.sampled_from(["close-20m..close", "open..open+5m"]),
        "post-close": st.sampled_from(["close+5m..close+20m", "close..close+1h"]),
        "late": st.just("close+30m..close+9h"),
    },
)
phases = usual | st.dictionaries(st.sampled_from(PHASES), interval, max_size=2)
days = st.dates(FIRST - timedelta(days=3), LAST + timedelta(days=3))
ranges = st.builds("{}..{}".format, days, st.dates(date(2026, 11, 1), date(2026, 11, 12)))
change = st.one_of(
    st.just({"closed": True, "name": "Holiday"}),
    st.just({"open": "unknown"}),
    st.fixed_dictionaries({"open": st.just("ordinary")}, optional={"phases": phases}),
    st.fixed_dictionaries(
        {"open": opens | interval}, optional={"phases": phases, "name": st.just("Special")}
    ),
    st.fixed_dictionaries({"phases": phases}),
)
changes = st.dictionaries(days.map(str) | ranges, change, max_size=4)
hours = st.lists(
    st.fixed_dictionaries(
        {"phases": st.builds(lambda opened, more: {"open": opened, **more}, opens, phases)},
        optional={"summer_time": st.fixed_dictionaries(
            {"zone": st.sampled_from(ZONES), "phases": phases | st.builds(lambda one: {"open": one}, opens)}
        )},
    ),
    min_size=1,
    max_size=2,
).map(lambda rows: [{**row, "since": f"2026-10-{10 + 17 * at}"} for at, row in enumerate(rows)])  # fmt: skip
base = st.one_of(
    st.builds(
        lambda name: {"like": name}, st.sampled_from(["NSE", "NSE-CAS", "NSE-FO", "MCX", *CODES, "B", "C"])
    ),
    st.builds(lambda code: {"calendar": code}, st.sampled_from(CODES)),
    st.builds(
        lambda names: {"any_of": names},
        st.lists(st.sampled_from(["NSE", "MCX", "XHKG", "B", "C"]), min_size=1, max_size=3, unique=True),
    ),
    st.builds(
        lambda weekdays, zone: {"weekdays": weekdays, "timezone": zone},
        st.sampled_from(["mon-fri", "sun-thu", "mon,wed", "mon-sun"]),
        st.sampled_from(ZONES),
    ),
)
more = st.fixed_dictionaries(
    {},
    optional={
        "hours": hours,
        "phases": phases,
        "changes": changes,
        "beyond_horizon": st.sampled_from(["assume-weekdays", "closed", "refuse"]),
        "known_until": st.sampled_from(["2026-10-30", "2026-12-31"]),
        "known_since": st.just("2026-10-25"),
    },
)
market = st.builds(lambda one, other: {**one, **other}, base, more)
markets = st.fixed_dictionaries(
    {"A": market},
    optional={"B": market, "C": market, "NSE": more, "NSE-FO": more, "XNYS": more},
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=markets)
def test_what_is_written_is_refused_with_its_place_or_partitions_time(
    written: dict[str, Any], runner: Runner, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = json.dumps({"default": "NSE", "markets": written}, indent=1)
    names = [name for name in NAMES if name in written or name in ("NSE", "NSE-FO", "MCX")]
    state = tmp_path_factory.getbasetemp() / "any-overlay"
    built = Calendars(state, runner).build(parse_markets(text), names, (FIRST, LAST), INDIA)
    event("refused" if built.problems else "accepted")
    for problem in built.problems:
        assert PLACE.match(str(problem)), problem
    # What the desk wrote may not fit a date of the package's file; then a place in its own is told, too.
    assert not built.problems or any("markets.yaml" in str(problem) for problem in built.problems)
    assert set(names) <= built.tables.keys() | built.unavailable.keys()
    for name in built.unavailable:
        assert built.problems
        assert built.market_problem(name)
    for table in built.tables.values():
        assert_partition(table)
        assert_agrees_with_its_sessions(table)
    if not built.problems:
        assert_follows_the_file(written, built)


class Told(NamedTuple):
    """A phase of a session as ``scheduler calendar`` tells it."""

    start: int
    end: int
    phase: str


def assert_agrees_with_its_sessions(table: MarketTable) -> None:
    """Each piece is what the sessions, days and clocks of the market say of its first and last second."""
    assert table.first == midnight(FIRST, table.zone)
    assert table.last == midnight(LAST + timedelta(days=1), table.zone)
    told = [
        Told(instant(one["start"]), instant(one["end"]), one["phase"])
        for row in calendar_rows(table, FIRST, LAST)
        for one in row["phases"]
    ]
    assert all(before.end <= after.start for before, after in pairwise(told))
    inner = [one for one in told if table.first <= one.start and one.end <= table.last]
    for piece in table.pieces:
        assert piece.midnight == midnight(local_date(piece.start, table.zone), table.zone)
        if piece.phase == "closed":
            assert not any(one.start < piece.end and piece.start < one.end for one in inner), piece
        elif piece.phase_start >= table.first:
            session = table.sessions[piece.session]
            low, high = session.spans[piece.phase]
            assert low <= piece.phase_start <= piece.start < piece.end <= high
            assert_trading(piece, table.pieces)
    for session in table.sessions:
        assert session.start <= session.open < session.close <= session.end
        assert min(low for low, _ in session.spans.values()) == session.start
        assert max(high for _, high in session.spans.values()) == session.end


def assert_trading(piece: Piece, pieces: Sequence[Piece]) -> None:
    """A trading piece lies in a stretch without rest that begins at its open segment."""
    if not piece.trading:
        assert piece.segment_start == piece.phase_start
        return
    at = bisect_right(pieces, piece.segment_start, key=lambda one: one.start) - 1
    while at >= 0 and pieces[at].start < piece.start:
        assert pieces[at].trading or pieces[at].end <= piece.segment_start
        at += 1
    assert piece.segment_start <= piece.phase_start


def assert_follows_the_file(written: dict[str, Any], built: Built) -> None:
    """What a market itself says of single dates, which nothing written elsewhere can outdo."""
    for name, definition in written.items():
        table = built.tables.get(name)
        for key, told in definition.get("changes", {}).items() if table else ():
            day = next((day for day in table.days if day.date == key), None) if table else None
            if day is not None and (told.get("closed") or told.get("open") == "unknown"):
                assert day.session == -1
                assert day.assumed == (told.get("open") == "unknown") or day.layer == "assumed"


def midnight(day: date, zone: Any) -> int:
    """The first instant of a date, the clocks of Havana being set forward at midnight in spring only."""
    return int(datetime.combine(day, time(), zone).timestamp()) * SECOND


def local_date(t: int, zone: Any) -> date:
    return datetime.fromtimestamp(t // SECOND, zone).date()


@pytest.mark.parametrize(
    "day,phases,hours",
    [
        ("2026-10-30", "open 20:00-05:00+1, late 05:00+1-06:00+1", 9),
        ("2026-10-31", "open 20:00-05:00+1, late 05:00+1-06:00+1", 10),  # 02:00 -> 01:00 in the night
        ("2026-11-01", "open 20:00-05:00+1, late 05:00+1-06:00+1", 9),
        ("2026-03-07", "open 20:00-05:00+1, late 05:00+1-06:00+1", 8),  # 02:00 -> 03:00
    ],
)
def test_times_of_day_are_those_on_the_wall_in_the_night_in_which_the_clocks_change(
    day: str, phases: str, hours: int, tmp_path: Path
) -> None:
    night = 'hours: [{phases: {open: "20:00..05:00", late: "close..06:00"}}]'
    text = f"markets: {{X: {{timezone: America/New_York, weekdays: mon-sun, {night}}}}}"
    table = build(tmp_path, text, ("X",), ("2026-03-01", "2026-11-10"), runner=broken).tables["X"]
    assert shown(table, day) == phases
    session = next(session for session in table.sessions if session.date == day)
    assert session.close - session.open == hours * HOUR


def test_a_session_that_has_to_wait_for_the_one_before_it_begins_its_grid_when_it_begins(
    tmp_path: Path,
) -> None:
    phases = '{open: "20:00..14:00", late: "close..22:00", auction: "open+3h..open+4h"}'
    text = f"markets: {{X: {{timezone: Asia/Kolkata, weekdays: mon-sun, hours: [{{phases: {phases}}}]}}}}"
    table = build(tmp_path, text, ("X",), runner=broken).tables["X"]
    piece = table.phase_at(instant("2026-11-23T23:30:00+05:30"))
    assert (piece.phase, piece.segment_start) == ("auction", instant("2026-11-23T22:00:00+05:30"))
