"""Cron: the times of five fields.

The clocks change
  Europe/London        2027-03-28 01:00+00:00 -> 02:00+01:00    2026-10-25 02:00+01:00 -> 01:00+00:00
  America/New_York     2026-03-08 02:00-05:00 -> 03:00-04:00    2026-11-01 02:00-04:00 -> 01:00-05:00
  Australia/Lord_Howe  2026-10-04 02:00+10:30 -> 02:30+11:00    2026-04-05 02:00+11:00 -> 01:30+10:30
  America/Nuuk         2026-03-28 23:00-02:00 -> 00:00-01:00    2026-10-25 00:00-01:00 -> 23:00-02:00
  America/Santiago     2026-09-06 00:00-04:00 -> 01:00-03:00    2026-04-05 00:00-03:00 -> 23:00-04:00
  America/St_Johns     2010-11-07 00:01-02:30 -> 23:01-03:30 of the 6th
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.market import MarketTable
from scheduler.core.triggers import Cron, can_fire
from tests.core.agreement import assert_agrees, enumerate_ticks
from tests.core.tables import nse_week, square_off_week, table
from tests.helpers import instant, iso

CHANGES = [
    ("Europe/London", "2027-03-28"), ("Europe/London", "2026-10-25"),
    ("America/New_York", "2026-03-08"), ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-10-04"), ("Australia/Lord_Howe", "2026-04-05"),
    ("America/Nuuk", "2026-03-28"), ("America/Nuuk", "2026-03-29"), ("America/Nuuk", "2026-10-24"),
    ("America/Santiago", "2026-09-06"), ("America/Santiago", "2026-04-04"),
    ("America/St_Johns", "2010-11-06"), ("America/St_Johns", "2010-11-07"),
    ("Asia/Kolkata", "2026-11-23"),
]  # fmt: skip
KOLKATA = ZoneInfo("Asia/Kolkata")
LONG = {
    zone: table(zone, [("2026-10-20", [("open", "10:00", "12:00")])], first="2026-10-20", last="2027-03-31")
    for zone in ("Europe/London", "America/New_York", "Asia/Kolkata", "UTC")
}


def one_day(zone: str, day: str) -> MarketTable:
    return table(zone, [(day, [("open", "10:00", "12:00")])])


@pytest.mark.parametrize(
    "zone, day, expression, expected",
    [
        ("Europe/London", "2027-03-28", "30 1 * * *", ["02:00+01:00"]),  # skipped: right after the jump
        ("Europe/London", "2027-03-28", "0,30 1,2 * * *", ["02:00+01:00", "02:30+01:00"]),  # but once
        ("Europe/London", "2027-03-28", "*/30 1 * * *", []),  # a star: by the clock on the wall
        ("Europe/London", "2026-10-25", "30 1 * * *", ["01:30+01:00"]),  # twice: the first
        ("Europe/London", "2026-10-25", "*/30 1 * * *",
         ["01:00+01:00", "01:30+01:00", "01:00+00:00", "01:30+00:00"]),
        ("America/New_York", "2026-03-08", "30 2 * * *", ["03:00-04:00"]),
        ("America/New_York", "2026-11-01", "30 1 * * *", ["01:30-04:00"]),
        ("Australia/Lord_Howe", "2026-10-04", "15 2 * * *", ["02:30+11:00"]),
        ("Australia/Lord_Howe", "2026-04-05", "45 1 * * *", ["01:45+11:00"]),
        ("Australia/Lord_Howe", "2026-04-05", "*/15 2 * * *",
         ["02:00+10:30", "02:15+10:30", "02:30+10:30", "02:45+10:30"]),
        ("America/Nuuk", "2026-03-28", "30 23 * * SAT", []),  # moved to the next date, where the jump ends
        ("America/Nuuk", "2026-03-29", "30 23 * * SAT", ["00:00-01:00"]),
        ("America/Santiago", "2026-09-06", "0 0 * * *", ["01:00-03:00"]),
        ("America/Santiago", "2026-09-06", "*/30 1 * * SUN", ["01:00-03:00", "01:30-03:00"]),
        ("America/Santiago", "2026-04-04", "59 23 * * *", ["23:59-03:00"]),
    ],
)  # fmt: skip
def test_when_the_clocks_change(zone: str, day: str, expression: str, expected: list[str]) -> None:
    market = one_day(zone, day)
    ticks = enumerate_ticks(Cron(expression, ZoneInfo(zone)), market)
    assert [iso(tick, zone) for tick in ticks] == [f"{day}T{time[:5]}:00{time[5:]}" for time in expected]


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        st.integers(1, 20).map(lambda step: f"*/{step}"),
        number.map(str),
        st.lists(number, min_size=1, max_size=4).map(lambda values: ",".join(map(str, values))),
        st.tuples(number, number).map(lambda ends: f"{min(ends)}-{max(ends)}"),
    )


minutes_and_hours = st.builds("{} {}".format, field(0, 59), st.one_of(field(0, 23), field(0, 3)))
day_fields = st.one_of(
    st.sampled_from(
        ["* * *", "* * SUN", "* * 1-5", "1-7 * SUN", "28,4 * SAT", "L * *", "* 2 *", "* * SUN#1"]
    ),
    st.builds("{} {} {}".format, field(1, 28), field(1, 12), field(0, 7)),
)
expressions = st.builds("{} {}".format, minutes_and_hours, day_fields)


def cronsim_fires_at(expression: str, t: int, zone: ZoneInfo) -> bool:
    """Whether cronsim, started a second before a full minute, fires at it.

    Asked so, every instant by itself, it is right also where its iteration leaves times out. The date
    and the time of day are asked for apart: on the way to a rare date cronsim walks through years.
    """
    minute, hour, days = expression.split(maxsplit=2)
    second_before = datetime.fromtimestamp(t // 10**9 - 1, zone)
    found = next(CronSim(f"{minute} {hour} * * *", second_before))
    return found.astimezone(UTC).timestamp() == t // 10**9 and matches(days, found.date())


@cache  # to a date that is rare cronsim walks through years, for each minute of the day anew
def matches(days: str, day: date) -> bool:
    """Whether cronsim finds that the day fields hold on a date."""
    noon = datetime.combine(day, time(12))
    found = next(CronSim(f"0 12 {days}", noon - timedelta(seconds=1)), None)
    return found == noon


@settings(max_examples=4, deadline=None)  # each asks cronsim 1,440 times, which walks through the day
@given(change=st.sampled_from(CHANGES), expression=expressions, data=st.data())
def test_ticks_are_those_of_cronsim_asked_minute_by_minute(
    change: tuple[str, str], expression: str, data: st.DataObject
) -> None:
    zone = ZoneInfo(change[0])
    market = one_day(*change)
    minutes = range(market.first, market.last, 60 * 10**9)
    fires = [t for t in minutes if cronsim_fires_at(expression, t, zone)]
    assert_agrees(Cron(expression, zone), market, fires, data)


def test_an_hour_that_comes_twice_across_midnight_is_counted_from_anywhere_in_it() -> None:
    zone = "America/St_Johns"
    market = table(zone, [("2010-11-06", [("open", "10:00", "12:00")])], last="2010-11-07")
    cron = Cron("*/20 * * * *", ZoneInfo(zone))
    for number, tick in enumerate(enumerate_ticks(cron, market), start=1):
        assert cron.count_between(market.first, tick + 1, market) == number
        assert cron.last_before(tick + 1, market) == tick
    assert number == 49 * 3


@settings(max_examples=15, deadline=None)
@given(
    zone=st.sampled_from(["Europe/London", "America/New_York", "Asia/Kolkata", "UTC"]),
    expression=expressions,
    data=st.data(),
)
def test_ticks_of_months_are_those_that_cronsim_enumerates(
    zone: str, expression: str, data: st.DataObject
) -> None:
    market = LONG[zone]
    start = datetime.fromtimestamp(market.first // 10**9 - 1, ZoneInfo(zone))
    ticks: set[int] = set()
    for moment in CronSim(expression, start):
        tick = round(moment.astimezone(UTC).timestamp()) * 10**9
        if tick >= market.last or len(ticks) > 20_000:
            break
        ticks.add(tick)
    cron = Cron(expression, ZoneInfo(zone))
    if len(ticks) > 2_000:  # too many to ask for each
        last = max(ticks)
        assert cron.count_between(market.first, last + 1, market) == len(ticks)
        assert cron.last_before(last + 1, market) == last
    else:
        assert_agrees(cron, market, ticks, data)


def test_during_confines_a_cron_to_its_stretches() -> None:
    ticks = enumerate_ticks(Cron("*/15 9-15 * * *", KOLKATA, frozenset({"open"})), nse_week())
    first_day = [iso(tick)[11:16] for tick in ticks if iso(tick).startswith("2026-11-20")]
    assert first_day == [
        f"{h:02}:{m:02}" for h in range(9, 16) for m in (0, 15, 30, 45) if (9, 15) <= (h, m) < (15, 30)
    ]
    assert not [tick for tick in ticks if iso(tick).startswith("2026-11-24")]


@settings(max_examples=30, deadline=None)
@given(
    during=st.frozensets(st.sampled_from(["open", "closed", "session", "square-off", "pre-open"])),
    data=st.data(),
)
def test_a_confined_cron_is_the_cron_where_during_holds(during: frozenset[str], data: st.DataObject) -> None:
    market = square_off_week()
    every = enumerate_ticks(Cron("*/20 9-16 * * *", KOLKATA), market)

    def holds(t: int) -> bool:
        piece, session = market.phase_at(t), market.session_at(t)
        return (
            piece.phase in during
            or (piece.trading and "open" in during)
            or ("session" in during and session is not None and t < session.end)
        )

    confined = Cron("*/20 9-16 * * *", KOLKATA, during)
    assert_agrees(confined, market, [t for t in every if holds(t)], data)


def test_a_cron_that_no_stretch_allows_is_never_due() -> None:
    cron = Cron("0 3 * * *", KOLKATA, frozenset({"open"}))
    assert cron.next_after(0, nse_week()) is None
    assert cron.last_before(instant("2030-01-01T00:00:00+05:30"), nse_week()) is None


def test_the_zone_is_the_file_s_and_not_the_market_s() -> None:
    tick = Cron("0 9 * * *", ZoneInfo("Europe/London")).next_after(
        instant("2026-11-23T00:00:00+05:30"), nse_week()
    )
    assert tick == instant("2026-11-23T09:00:00+00:00")


@pytest.mark.parametrize(
    "name, fields", [("@daily", "0 0 * * *"), ("@hourly", "0 * * * *"), ("@weekly", "0 0 * * 0")]
)
def test_an_alias_is_its_five_fields(name: str, fields: str) -> None:
    assert enumerate_ticks(Cron(name, KOLKATA), nse_week()) == enumerate_ticks(
        Cron(fields, KOLKATA), nse_week()
    )
    assert Cron(name, KOLKATA).text == name


@pytest.mark.parametrize(
    "expression, fires",
    [
        ("0 0 30 2 *", False),
        ("0 0 30,31 2 *", False),
        ("0 0 31 4,6 *", False),
        ("0 0 30 2 MON", True),  # a date or a weekday
        ("0 0 29 2 *", True),
        ("0 0 * 2 MON#5", True),  # once in 28 years
        ("@daily", True),
    ],
)
def test_an_expression_that_never_comes_true_is_known(expression: str, fires: bool) -> None:
    assert can_fire(expression) is fires
    if not fires:
        with pytest.raises(ValueError, match="never comes true"):
            Cron(expression, KOLKATA)


@pytest.mark.parametrize(
    "expression",
    ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "0 0 32 2 *", "0 0 30 13 *", "0 0 30 2 8",
     "@reboot", "a b c d e", "*/0 * * * *", "5-1 * * * *", "-1 * * * *", "1.5 * * * *", "0 0 30 2 *#2",
     "0 0 0 * *", "! * * * *"],
)  # fmt: skip
def test_a_malformed_expression_is_refused(expression: str) -> None:
    for ask in (can_fire, lambda text: Cron(text, KOLKATA)):
        with pytest.raises(ValueError, match="not a cron expression"):
            ask(expression)
