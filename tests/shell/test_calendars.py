from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.calendars import Built, Calendars, CalendarSource, calendar_rows, run_child, unsettled_days
from scheduler.calendars.raw import parse_answer
from scheduler.core.market import MarketTable
from scheduler.errors import CalendarError, OutsideTableError
from scheduler.marketfile import parse_markets
from tests.helpers import instant, iso
from tests.shell.markets import (
    CODES,
    INDIA,
    NOTHING,
    answered,
    assert_partition,
    broken,
    build,
    by_heart,
    row_of,
    shown,
)

ROOT = Path(__file__).parents[2]
FACTS_FILE = ROOT / "tests" / "data" / "nse_sessions.csv"
FACTS = list(csv.DictReader(FACTS_FILE.read_text(encoding="utf-8").splitlines()))
INDIAN = ("NSE", "NSE-CAS", "NSE-FO", "BSE", "CDS", "MCX")


@pytest.fixture(scope="module")
def india(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """All Indian markets for the years of the facts."""
    return build(tmp_path_factory.mktemp("state"), NOTHING, INDIAN, ("2018-12-20", "2027-03-31"))


@pytest.fixture(scope="module")
def abroad(tmp_path_factory: pytest.TempPathFactory) -> Built:
    names = ("NYSE", "XNYS", "XLON", "XHKG", "XTKS", "XASX", "CMES", "24/7", "always")
    return build(tmp_path_factory.mktemp("state"), NOTHING, names, ("2024-10-15", "2027-03-31"))


# The facts.


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact["date"])
def test_every_checked_date_comes_out_as_the_exchange_had_it(fact: dict[str, str], india: Built) -> None:
    row = row_of(india.tables["NSE"], fact["date"])
    opens = [f"{one['start'][11:16]}-{one['end'][11:16]}" for one in row["phases"] if one["phase"] == "open"]
    assert ";".join(opens) == fact["open_segments_ist"]
    assert row["open"] == bool(fact["open_segments_ist"])
    assert row["layer"] == ("india" if fact["confidence"] == "high" else "assumed")
    name = re.split(r" \(|; |: |, ", fact["note"])[0].replace("Unscheduled", "NSE outage")
    assert row["reason"].startswith(name)


def test_what_the_facts_do_not_mention_are_ordinary_weekdays(india: Built) -> None:
    special = {fact["date"] for fact in FACTS}
    for row in calendar_rows(india.tables["NSE"], date(2019, 1, 1), date(2026, 12, 31)):
        if row["date"] not in special:
            is_weekday = date.fromisoformat(row["date"]).weekday() < 5
            assert row["open"] == is_weekday, row
            assert row["layer"] == "exchange-calendars"
            assert row["reason"] == ("" if is_weekday else "weekend")


MORNING = "pre-open 09:00-09:15, open 09:15-11:40"
ORDINARY_2026 = "pre-open 09:00-09:15, open 09:15-15:30, post-close 15:40-16:00"
DRILL = "open 09:15-10:00, break 10:00-11:30, open 11:30-12:30"


@pytest.mark.parametrize(
    "market,day,phases",
    [
        ("NSE", "2026-11-23", "pre-open 09:00-09:15, open 09:15-15:30, post-close 15:50-16:00"),
        (
            "NSE-CAS",
            "2026-11-23",
            "pre-open 09:00-09:15, open 09:15-15:15, closing-auction 15:15-15:35, post-close 15:50-16:00",
        ),
        ("NSE-FO", "2026-11-23", "pre-open 09:00-09:15, open 09:15-15:40"),
        ("NSE", "2026-02-01", ORDINARY_2026),
        ("NSE-CAS", "2026-02-01", ORDINARY_2026),
        ("NSE-FO", "2026-02-01", "pre-open 09:00-09:15, open 09:15-15:30"),
        ("NSE", "2025-10-21", "pre-open 13:30-13:45, open 13:45-14:45"),
        ("NSE-CAS", "2025-10-21", "pre-open 13:30-13:45, open 13:45-14:45"),
        ("NSE-FO", "2025-10-21", "open 13:45-14:45"),
        ("NSE", "2024-03-02", f"pre-open 09:00-09:08, {DRILL}"),
        ("NSE-CAS", "2024-03-02", f"pre-open 09:00-09:08, {DRILL}"),
        ("NSE-FO", "2024-03-02", DRILL),
        # The dates from which the phases of a segment changed, and the days before.
        ("NSE", "2026-07-31", ORDINARY_2026),
        ("NSE", "2026-08-03", "pre-open 09:00-09:15, open 09:15-15:30, post-close 15:50-16:00"),
        ("NSE-CAS", "2026-07-31", ORDINARY_2026),
        (
            "NSE-CAS",
            "2026-08-03",
            "pre-open 09:00-09:15, open 09:15-15:15, closing-auction 15:15-15:35, post-close 15:50-16:00",
        ),
        ("NSE-FO", "2025-12-05", "open 09:15-15:30"),
        ("NSE-FO", "2025-12-08", "pre-open 09:00-09:15, open 09:15-15:30"),
        ("NSE-FO", "2026-08-03", "pre-open 09:00-09:15, open 09:15-15:40"),
        # Days of their own.
        ("NSE", "2021-02-24", "pre-open 09:00-09:15, open 09:15-11:40, break 11:40-15:45, open 15:45-17:00"),
        ("BSE", "2021-02-24", "pre-open 09:00-09:15, open 09:15-17:00"),
        ("NSE-FO", "2021-02-24", "open 09:15-11:40, break 11:40-15:45, open 15:45-17:00"),
        ("NSE", "2020-11-14", "pre-open 18:00-18:08, open 18:15-19:15, post-close 19:25-19:35"),
        ("NSE-FO", "2020-11-14", "open 18:15-19:15"),
        ("NSE-FO", "2024-05-18", "open 09:15-10:00, break 10:00-11:45, open 11:45-12:40"),
        ("CDS", "2026-11-23", "open 09:00-17:00"),
        ("CDS", "2026-02-19", "closed: Currency derivatives holiday"),
        ("NSE", "2026-02-19", ORDINARY_2026),
        ("CDS", "2026-11-24", "closed: Gurunanak Jayanti"),
        # MCX ends with New York, which has summer time from 2026-03-08 to 2026-11-01.
        ("MCX", "2026-03-06", "open 09:00-23:55"),
        ("MCX", "2026-03-09", "open 09:00-23:30"),
        ("MCX", "2026-10-30", "open 09:00-23:30"),
        ("MCX", "2026-11-02", "open 09:00-23:55"),
        ("MCX", "2026-01-01", "open 09:00-17:00"),
        ("MCX", "2026-02-01", "open 09:00-17:00"),
        ("MCX", "2026-01-26", "closed: Republic Day"),
        ("MCX", "2026-03-03", "open 17:00-23:55"),
        ("MCX", "2026-06-26", "open 17:00-23:30"),
        ("MCX", "2026-12-25", "closed: Christmas"),
    ],
)
def test_the_worked_table_and_the_dates_of_each_segment(
    market: str, day: str, phases: str, india: Built
) -> None:
    assert shown(india.tables[market], day) == phases


def test_the_holidays_of_the_stock_exchanges_leave_mcx_its_evening_or_nothing(india: Built) -> None:
    closed = {"2026-01-26", "2026-04-03", "2026-10-02", "2026-12-25"}
    for fact in FACTS:
        if fact["kind"] == "holiday" and fact["date"] >= "2026":
            row = row_of(india.tables["MCX"], fact["date"])
            assert row["open"] == (fact["date"] not in closed)
            assert [one["start"][11:16] for one in row["phases"]] == (["17:00"] if row["open"] else [])


def test_a_muhurat_day_is_closed_under_its_name_until_its_session(india: Built) -> None:
    table = india.tables["NSE"]
    morning = table.phase_at(instant("2025-10-21T10:00:00+05:30"))
    assert (morning.phase, morning.reason) == ("closed", "Tuesday Muhurat in the afternoon")
    assert iso(table.next_change(morning.start)) == "2025-10-21T13:30:00+05:30"
    assert table.phase_at(instant("2025-10-21T14:00:00+05:30")).trading


def test_every_closed_instant_has_its_reason(india: Built) -> None:
    table = india.tables["NSE"]
    reasons = {
        "2026-11-23T08:59:59+05:30": "overnight",
        "2026-11-23T15:45:00+05:30": "between phases",
        "2026-11-23T16:00:00+05:30": "overnight",
        "2026-11-24T00:00:00+05:30": "Gurunanak Jayanti",
        "2026-11-24T10:00:00+05:30": "Gurunanak Jayanti",
        "2026-11-25T00:00:00+05:30": "overnight",
        "2026-11-28T12:00:00+05:30": "weekend",
        "2026-11-08T18:30:00+05:30": "Sunday Muhurat, times not announced",
        "2024-03-02T15:00:00+05:30": "Saturday disaster-recovery drill",
    }
    assert {at: table.phase_at(instant(at)).reason for at in reasons} == reasons


def test_the_closing_auction_is_trading_and_keeps_the_grid_of_its_open_segment(india: Built) -> None:
    piece = india.tables["NSE-CAS"].phase_at(instant("2026-11-23T15:20:00+05:30"))
    assert (piece.phase, piece.trading) == ("closing-auction", True)
    assert iso(piece.phase_start) == "2026-11-23T15:15:00+05:30"
    assert iso(piece.segment_start) == "2026-11-23T09:15:00+05:30"
    session = india.tables["NSE-CAS"].session_at(piece.start)
    assert session is not None
    assert iso(session.close) == "2026-11-23T15:35:00+05:30"
    assert {phase: (iso(start)[11:16], iso(end)[11:16]) for phase, (start, end) in session.spans.items()} == {
        "pre-open": ("09:00", "09:15"),
        "open": ("09:15", "15:15"),
        "closing-auction": ("15:15", "15:35"),
        "post-close": ("15:50", "16:00"),
    }


def test_a_session_whose_times_are_not_known_is_not_open_and_unsettled_in_the_weeks_before(
    india: Built,
) -> None:
    found = {}
    for today in ("2026-09-24", "2026-09-25", "2026-11-08", "2026-11-09"):
        days = unsettled_days(india.tables["NSE"], date.fromisoformat(today))
        found[today] = [(day.date, day.session, day.reason) for day in days]
    muhurat = [("2026-11-08", -1, "Sunday Muhurat, times not announced")]
    assert found == {"2026-09-24": [], "2026-09-25": muhurat, "2026-11-08": muhurat, "2026-11-09": []}
    assert row_of(india.tables["NSE"], "2026-11-08")["layer"] == "assumed"


@pytest.mark.parametrize(
    "market,day,reason",
    [
        ("NSE", "2024-05-18", "Saturday disaster-recovery drill"),
        ("NSE-FO", "2024-05-18", "Saturday disaster-recovery drill"),
        ("CDS", "2026-08-26", "Currency derivatives holiday"),
    ],
)
def test_a_row_of_medium_confidence_is_unsettled_too(
    market: str, day: str, reason: str, india: Built
) -> None:
    [found] = unsettled_days(india.tables[market], date.fromisoformat(day) - timedelta(days=30))
    assert (found.date, found.reason, found.layer) == (day, reason, "assumed")


def test_the_assumed_weekdays_of_a_new_year_are_no_unsettled_days(india: Built) -> None:
    for table in india.tables.values():
        assert [day.date for day in unsettled_days(table, date(2026, 12, 20))] == []


def test_an_unsettled_date_is_assumed_and_those_beside_it_are_not(india: Built) -> None:
    layers = {
        day: row_of(india.tables["NSE"], day)["layer"] for day in ("2024-05-17", "2024-05-18", "2024-05-20")
    }
    assert layers == {"2024-05-17": "exchange-calendars", "2024-05-18": "assumed", "2024-05-20": "india"}
    session = india.tables["NSE"].session_at(instant("2024-05-18T10:30:00+05:30"))
    assert session is not None
    assert session.assumed


def test_the_years_before_a_market_is_known_are_assumed(india: Built) -> None:
    assert row_of(india.tables["NSE"], "2018-12-28")["layer"] == "assumed"
    assert row_of(india.tables["CDS"], "2025-12-24")["layer"] == "assumed"
    assert row_of(india.tables["CDS"], "2025-12-25")["layer"] == "assumed"
    assert row_of(india.tables["CDS"], "2026-01-26")["layer"] == "india"


# The horizon.


def test_past_the_known_year_indian_weekdays_are_assumed(india: Built) -> None:
    table = india.tables["NSE"]
    assert table.known_until == instant("2027-01-01T00:00:00+05:30")
    assert table.beyond_horizon == "assume-weekdays"
    assert row_of(table, "2026-12-31")["layer"] == "exchange-calendars"
    assert row_of(table, "2027-01-01")["layer"] == "assumed"
    assert shown(table, "2027-01-01") == "pre-open 09:00-09:15, open 09:15-15:30, post-close 15:50-16:00"
    assert shown(table, "2027-01-26").startswith("pre-open"), "no provisional holiday is shipped as a fact"
    assert shown(table, "2027-01-02") == "closed: weekend"
    assert all(piece.assumed for piece in table.pieces if piece.start >= instant("2027-01-01T00:00:00+05:30"))


@pytest.mark.parametrize("policy", ["closed", "refuse"])
def test_a_market_may_be_closed_past_its_horizon(policy: str, tmp_path: Path) -> None:
    text = f"markets: {{NSE: {{beyond_horizon: {policy}, changes: {{2027-01-05: {{open: ordinary}}}}}}}}"
    table = build(tmp_path, text, window=("2026-12-28", "2027-01-10")).tables["NSE"]
    assert table.beyond_horizon == policy
    assert shown(table, "2027-01-04") == "closed: beyond the known calendar"
    assert row_of(table, "2027-01-04")["layer"] == "assumed"
    assert row_of(table, "2027-01-05")["layer"] == "desk"
    assert row_of(table, "2027-01-05")["open"]


def test_the_desk_can_say_that_the_new_year_is_known(tmp_path: Path) -> None:
    text = (
        "markets: {NSE: {known_until: 2027-12-31, changes: {2027-01-26: {name: Republic Day, closed: true}}}}"
    )
    built = build(tmp_path, text, ("NSE", "NSE-FO"), ("2026-12-28", "2027-02-10"))
    for table in built.tables.values():
        assert table.known_until == instant("2028-01-01T00:00:00+05:30")
        assert shown(table, "2027-01-26") == "closed: Republic Day"
        for day in ("2027-01-26", "2027-01-27", "2027-01-30"):  # a holiday, a Wednesday, a Saturday
            assert row_of(table, day)["layer"] == "desk"
        assert row_of(table, "2027-01-27")["open"]


def test_calendars_that_go_by_rules_have_no_horizon_and_others_their_own(abroad: Built) -> None:
    assert abroad.tables["XNYS"].known_until is None
    assert abroad.tables["XHKG"].known_until == instant("2050-01-01T00:00:00+08:00")


# Other exchanges.


def test_an_early_close_and_summer_time_in_new_york(abroad: Built) -> None:
    table = abroad.tables["XNYS"]
    assert shown(table, "2024-11-29") == "open 09:30-13:00"
    assert table.sessions[table.days[45].session].special
    assert row_of(table, "2026-03-06")["phases"][0]["start"] == "2026-03-06T09:30:00-05:00"
    assert row_of(table, "2026-03-09")["phases"][0]["start"] == "2026-03-09T09:30:00-04:00"
    assert shown(table, "2026-07-03") == "closed: July 4th"
    assert shown(table, "2026-01-19") == "closed: Dr. Martin Luther King Jr. Day"
    assert row_of(table, "2026-01-19")["layer"] == "exchange-calendars"
    assert abroad.tables["NYSE"].pieces == table.pieces


def test_a_lunch_break_and_the_half_day_without_one_in_hong_kong(abroad: Built) -> None:
    table = abroad.tables["XHKG"]
    assert shown(table, "2026-11-23") == "open 09:30-12:00, break 12:00-13:00, open 13:00-16:00"
    assert shown(table, "2026-12-24") == "open 09:30-12:00"
    piece = table.phase_at(instant("2026-11-23T14:00:00+08:00"))
    assert iso(piece.segment_start, "Asia/Hong_Kong") == "2026-11-23T13:00:00+08:00"


def test_a_session_that_begins_the_evening_before_belongs_to_its_trading_date(abroad: Built) -> None:
    table = abroad.tables["CMES"]
    assert shown(table, "2026-11-23") == "open 17:00-1-17:00"
    evening = table.phase_at(instant("2026-11-22T18:00:00-06:00"))
    assert table.sessions[evening.session].date == "2026-11-23"
    assert iso(evening.midnight, "America/Chicago") == "2026-11-22T00:00:00-06:00"


def test_always_is_open_from_midnight_to_midnight_every_day(abroad: Built) -> None:
    table = abroad.tables["always"]
    assert {shown(table, day) for day in ("2026-11-22", "2026-12-25")} == {"open 00:00-00:00+1"}
    assert {piece.phase for piece in table.pieces} == {"open"}
    assert all(piece.start == piece.midnight == piece.segment_start for piece in table.pieces)
    assert table.next_change(table.first) == table.last


def test_always_has_the_days_of_a_zone_whose_clocks_change(tmp_path: Path) -> None:
    zone = ZoneInfo("Europe/Berlin")
    window = date(2026, 3, 28), date(2026, 3, 30)
    table = (
        Calendars(tmp_path, broken).build(parse_markets(NOTHING), ["always"], window, zone).tables["always"]
    )
    assert [(piece.end - piece.start) // 3_600_000_000_000 for piece in table.pieces] == [24, 23, 24]
    assert_partition(table)


@pytest.mark.parametrize("name", ["NYSE", "XNYS", "XLON", "XHKG", "XTKS", "XASX", "CMES", "24/7", "always"])
def test_the_phases_of_every_market_partition_time(name: str, abroad: Built) -> None:
    assert_partition(abroad.tables[name])


@pytest.mark.parametrize("name", INDIAN)
def test_the_phases_of_every_indian_market_partition_time(name: str, india: Built) -> None:
    assert_partition(india.tables[name])


# What a desk writes.

DESK = """
markets:
  NSE:
    changes:
      2026-12-01: {name: State funeral, closed: true}
      2026-12-02: {name: Cut short, open: ["09:15..11:40", "15:45..17:00"]}
      2026-12-05: {name: Test Saturday, open: ordinary}
      2026-12-07..2026-12-13: {name: Short week, open: ["10:00..close"]}
      2026-12-09:
        name: Half day
        open: "09:15..12:30"
        phases: {pre-open: "09:05..09:15", party: "12:30..13:00"}
      2026-12-15: {phases: {post-close: "15:50..17:00"}}
      2026-12-16: {name: Tiny, open: "09:15..09:25"}
  MY-DESK:
    like: NSE
    hours:
      - since: 2026-01-01
        phases: {pre-open: "open-15m..open", open: "09:15..15:30", square-off: "close-20m..close-5m"}
  ADDED: {like: NSE-FO, phases: {square-off: "close-20m..close-5m"}}
  TOKYO: {calendar: XTKS, phases: {pre-open: "open-30m..open", late: "close+10m..19:00"}}
  INDIA: {any_of: [NSE, NSE-FO, MCX], phases: {before: "open-5m..open"}}
  DESK-DAY:
    timezone: Asia/Kolkata
    weekdays: mon-sat
    hours: [{phases: {open: "08:00..20:00", tea: "16:00..16:15"}}]
  NIGHT:
    timezone: America/New_York
    weekdays: sun-thu
    hours: [{phases: {open: "20:00..03:00", late: "close-1h..close"}}]
  XNYS: {changes: {2026-12-01: {name: Outage, open: "09:30..12:00"}, 2026-11-28: {open: ordinary}}}
"""
DESK_MARKETS = (*INDIAN, "MY-DESK", "ADDED", "TOKYO", "INDIA", "DESK-DAY", "NIGHT", "XNYS")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("state"), DESK, DESK_MARKETS, ("2026-11-20", "2026-12-31"))


@pytest.mark.parametrize(
    "market,day,phases",
    [
        # One change under NSE reaches every segment that is like it, each with its own ordinary hours.
        *(
            (name, "2026-12-01", "closed: State funeral")
            for name in ("NSE", "NSE-CAS", "NSE-FO", "BSE", "CDS")
        ),
        ("MY-DESK", "2026-12-01", "closed: State funeral"),
        ("MCX", "2026-12-01", "open 09:00-23:55"),
        ("NSE", "2026-12-05", "pre-open 09:00-09:15, open 09:15-15:30, post-close 15:50-16:00"),
        ("NSE-FO", "2026-12-05", "pre-open 09:00-09:15, open 09:15-15:40"),
        ("CDS", "2026-12-05", "open 09:00-17:00"),
        (
            "NSE-CAS",
            "2026-12-02",
            "pre-open 09:00-09:15, open 09:15-11:40, break 11:40-15:45, open 15:45-17:00",
        ),
        (
            "MY-DESK",
            "2026-12-02",
            f"{MORNING}, break 11:40-15:45, open 15:45-16:40, square-off 16:40-16:55, open 16:55-17:00",
        ),
        # A range speaks of sessions only, `close` is that of the ordinary hours, a date inside of it wins.
        ("NSE", "2026-12-07", "pre-open 09:45-10:00, open 10:00-15:30"),
        ("NSE-FO", "2026-12-07", "pre-open 09:45-10:00, open 10:00-15:40"),
        ("NSE", "2026-12-12", "closed: weekend"),
        ("NSE", "2026-12-09", "pre-open 09:05-09:15, open 09:15-12:30, party 12:30-13:00"),
        ("NSE-FO", "2026-12-09", "pre-open 09:05-09:15, open 09:15-12:30"),
        (
            "MY-DESK",
            "2026-12-09",
            "pre-open 09:05-09:15, open 09:15-12:10, square-off 12:10-12:25, open 12:25-12:30",
        ),
        ("NSE", "2026-12-15", "pre-open 09:00-09:15, open 09:15-15:30, post-close 15:50-17:00"),
        ("MY-DESK", "2026-12-16", "pre-open 09:00-09:15, square-off 09:15-09:20, open 09:20-09:25"),
        (
            "ADDED",
            "2026-11-23",
            "pre-open 09:00-09:15, open 09:15-15:20, square-off 15:20-15:35, open 15:35-15:40",
        ),
        (
            "TOKYO",
            "2026-11-24",
            "pre-open 08:30-09:00, open 09:00-11:30, break 11:30-12:30, open 12:30-15:30, late 15:40-19:00",
        ),
        ("TOKYO", "2026-11-23", "closed: Labor Thanksgiving Day"),
        ("INDIA", "2026-11-23", "before 08:55-09:00, open 09:00-23:55"),
        ("INDIA", "2026-11-24", "before 16:55-17:00, open 17:00-23:55"),
        ("INDIA", "2026-12-25", "closed: Christmas"),
        ("DESK-DAY", "2026-11-28", "open 08:00-16:00, tea 16:00-16:15, open 16:15-20:00"),
        ("DESK-DAY", "2026-11-29", "closed: weekend"),
        ("NIGHT", "2026-11-22", "open 20:00-02:00+1, late 02:00+1-03:00+1"),
        ("XNYS", "2026-12-01", "open 09:30-12:00"),
        ("XNYS", "2026-11-28", "open 09:30-16:00"),
    ],
)
def test_what_a_desk_writes_comes_out(market: str, day: str, phases: str, desk: Built) -> None:
    assert shown(desk.tables[market], day) == phases


def test_a_desks_markets_partition_time(desk: Built) -> None:
    assert desk.problems == ()
    for table in desk.tables.values():
        assert_partition(table)


def test_the_layer_of_each_date_is_the_last_that_spoke_of_it(tmp_path: Path) -> None:
    amendments = (
        'markets: {NSE: {changes: {2026-12-02: {open: ["09:15..15:00"], by: asha, at: "2026-12-01T18:00Z"}}}}'
    )
    built = build(tmp_path, DESK, ("NSE", "NSE-FO"), amendments=amendments)
    rows = {
        day: row_of(built.tables["NSE"], day)
        for day in ("2026-11-23", "2026-11-24", "2026-12-01", "2026-12-02")
    }
    layers = {day: row["layer"] for day, row in rows.items()}
    assert list(layers.values()) == ["exchange-calendars", "india", "desk", "amendment"]
    assert rows["2026-12-02"]["reason"] == "Cut short", "a change without a name keeps the one before it"
    assert shown(built.tables["NSE-FO"], "2026-12-02") == "pre-open 09:00-09:15, open 09:15-15:00"


def test_a_change_changes_the_version_of_each_market_that_it_reaches_and_a_comment_none(
    tmp_path: Path,
) -> None:
    def versions(text: str) -> dict[str, str]:
        built = build(tmp_path, text, ("NSE", "NSE-FO", "MCX", "XNYS"))
        return {name: table.version for name, table in built.tables.items()}

    before = versions("markets: {NSE: {changes: {2026-12-01: {closed: true}}}}")
    same = versions("# Announced today.\nmarkets:\n  NSE: {changes: {2026-12-01: {closed: true}}}")
    after = versions("markets: {NSE: {changes: {2026-12-02: {closed: true}}}}")
    assert before == same
    assert {name for name in before if before[name] != after[name]} == {"NSE", "NSE-FO"}


def test_the_window_may_move_without_a_new_version(tmp_path: Path) -> None:
    one, other = (build(tmp_path, window=(first, "2026-12-31")) for first in ("2026-01-01", "2026-03-01"))
    assert one.tables["NSE"].version == other.tables["NSE"].version


def test_a_date_outside_of_the_table_has_no_row(india: Built) -> None:
    with pytest.raises(OutsideTableError, match="2018-12-19 to 2018-12-19 is outside"):
        row_of(india.tables["NSE"], "2018-12-19")


def test_a_row_has_the_keys_of_the_contract_and_times_with_offsets(india: Built) -> None:
    assert row_of(india.tables["NSE-FO"], "2026-11-23") == {
        "date": "2026-11-23",
        "market": "NSE-FO",
        "open": True,
        "reason": "",
        "layer": "exchange-calendars",
        "phases": [
            {"phase": "pre-open", "start": "2026-11-23T09:00:00+05:30", "end": "2026-11-23T09:15:00+05:30"},
            {"phase": "open", "start": "2026-11-23T09:15:00+05:30", "end": "2026-11-23T15:40:00+05:30"},
        ],
    }


_TIMES = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.sampled_from([0, 15, 30, 59]))
_EDGES = st.one_of(
    _TIMES,
    st.builds(
        "{}{}{}m".format,
        st.sampled_from(["open", "close", "a.start", "a.end", "b.end", "break.start"]),
        st.sampled_from("+-"),
        st.integers(0, 600),
    ),
)
_PHASES = st.dictionaries(st.sampled_from("abc"), st.builds("{}..{}".format, _EDGES, _EDGES), max_size=3)
_OPENS = st.lists(st.builds("{}..{}".format, _TIMES, _TIMES), min_size=1, max_size=3)
_CHANGES = st.fixed_dictionaries(
    {}, optional={"open": _OPENS | st.just("ordinary"), "phases": _PHASES, "name": st.just("x")}
)
_DAYS = st.dates(date(2026, 3, 20), date(2026, 4, 10)).map(str)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    zone=st.sampled_from(["Asia/Kolkata", "Europe/London", "America/New_York", "Africa/Cairo"]),
    opens=_OPENS,
    phases=_PHASES,
    changes=st.dictionaries(_DAYS, _CHANGES, max_size=4),
)
def test_whatever_is_written_phases_partition_time(
    zone: str, opens: list[str], phases: dict[str, str], changes: dict[str, object], tmp_path: Path
) -> None:
    hours = [{"phases": {"open": opens, **phases}}]
    market = {"timezone": zone, "weekdays": "mon-sat", "hours": hours, "changes": changes}
    text = json.dumps({"default": "X", "markets": {"X": market}})
    built = build(tmp_path, text, (), ("2026-03-22", "2026-04-05"))
    assert_partition(built.tables["X"])


# The child process.


def test_the_child_reads_many_calendars_at_once_and_each_in_the_window_that_it_knows() -> None:
    raw = parse_answer(answered())
    assert set(raw.calendars) == set(CODES)
    assert raw.errors == {}
    bombay = raw.calendars["XBOM"]
    assert (str(bombay.last), str(bombay.bound)) == ("2026-12-31", "2026-12-31")
    assert date(2025, 2, 1) in bombay.sessions
    assert str(raw.calendars["XNYS"].last) == "2028-12-31"
    assert {"NYSE", "XNYS", "BSE"} <= raw.names
    assert {"NSE", "MCX"}.isdisjoint(raw.names)
    assert raw.calendars["NYSE"].code == "XNYS"


def test_the_daemons_side_imports_neither_pandas_nor_exchange_calendars() -> None:
    code = (
        "import scheduler.calendars, scheduler.marketfile, sys\n"
        "print({'pandas', 'exchange_calendars'} & {*sys.modules})"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert run.stdout.strip() == "set()"


class Child:
    """A runner that counts its runs and gives the answer it is told to."""

    def __init__(self) -> None:
        self.requests: list[dict[str, object]] = []
        self.fault: str | CalendarError | None = None

    def __call__(self, request: str) -> str:
        self.requests.append(json.loads(request))
        if isinstance(self.fault, CalendarError):
            raise self.fault
        return by_heart(request) if self.fault is None else self.fault


@pytest.fixture
def child() -> Child:
    return Child()


def test_all_calendars_come_from_one_child_and_a_changed_file_starts_none(
    tmp_path: Path, child: Child
) -> None:
    calendars = Calendars(tmp_path, child)
    window = date(2026, 2, 1), date(2027, 1, 31)
    names = ["NSE", "XNYS", "XHKG"]
    calendars.build(parse_markets(NOTHING), names, window, INDIA)
    calendars.build(parse_markets(DESK.replace("XTKS", "XHKG")), names, window, INDIA)
    calendars.build(parse_markets(NOTHING), names, (date(2026, 3, 1), date(2027, 3, 1)), INDIA)
    assert child.requests == [
        {"calendars": ["XBOM", "XHKG", "XNYS"], "first": "2026-01-01", "last": "2027-12-31"}
    ]
    Calendars(tmp_path, child).build(parse_markets(NOTHING), names, window, INDIA)
    assert len(child.requests) == 1, "a new process finds the answer in the state directory"


RUBBISH = {
    "no JSON": "Traceback (most recent call last):",
    "nothing": "",
    "a list": "[]",
    "another format": '{"format": 99}',
    "no calendars": json.dumps({"format": 1, "versions": {}, "names": [], "calendars": {}}),
}


def spoiled(change: str) -> str:
    """The real answer with one thing wrong."""
    answer = json.loads(by_heart('{"calendars": ["XBOM"]}'))
    entry = answer["calendars"]["XBOM"]
    sessions = entry["sessions"]
    if change == "order":
        sessions[0], sessions[1] = sessions[1], sessions[0]
    elif change == "twice":
        sessions[1] = sessions[0]
    elif change == "backwards":
        sessions[0][1], sessions[0][2] = sessions[0][2], sessions[0][1]
    elif change == "seconds":
        sessions[0][1:3] = [at // 1_000_000_000 for at in sessions[0][1:3]]
    elif change == "text":
        sessions[0][1] = str(sessions[0][1])
    elif change == "outside":
        entry["last"] = "2020-01-01"
    elif change == "zone":
        entry["zone"] = "Asia/Nowhere"
    return json.dumps(answer)


@pytest.mark.parametrize(
    "output",
    [
        *RUBBISH.values(),
        *(("spoiled", how) for how in ("order", "twice", "backwards", "seconds", "text", "outside", "zone")),
    ],
    ids=str,
)
def test_rubbish_from_the_child_leaves_the_last_good_table_in_use(
    output: str | tuple[str, str], tmp_path: Path, child: Child
) -> None:
    good = build(tmp_path, runner=child)
    child.fault = spoiled(output[1]) if isinstance(output, tuple) else output
    later = build(tmp_path, runner=child, window=("2026-01-01", "2027-01-31"))
    assert len(child.requests) == 2
    assert any("the last good one is used" in warning for warning in later.warnings), later.warnings
    assert later.tables["NSE"].pieces[:50] == good.tables["NSE"].pieces[:50]
    assert later.tables["NSE"].days[20].layer == good.tables["NSE"].days[20].layer


def test_without_any_calendar_india_is_built_from_the_overlay_and_weekdays(tmp_path: Path) -> None:
    built = build(tmp_path, NOTHING, (*INDIAN, "always", "XNYS"), runner=broken)
    assert not built.tables["XNYS"].sessions
    assert "no such library" in built.market_problem("XNYS")
    assert any("NSE: no calendar XBOM" in warning for warning in built.warnings)
    table = built.tables["NSE"]
    assert shown(table, "2026-11-23") == "pre-open 09:00-09:15, open 09:15-15:30, post-close 15:50-16:00"
    assert row_of(table, "2026-11-23")["layer"] == "assumed"
    assert row_of(table, "2026-11-24")["layer"] == "india"
    assert shown(table, "2026-02-01") == ORDINARY_2026
    assert row_of(built.tables["MCX"], "2026-11-23")["layer"] == "india", "it needs no calendar"
    for table in built.tables.values():
        assert_partition(table)


def test_a_damaged_copy_in_the_state_directory_is_made_anew(tmp_path: Path, child: Child) -> None:
    build(tmp_path, runner=child)
    (kept,) = (tmp_path / "calendars").iterdir()
    kept.write_text(kept.read_text()[:1000])
    assert build(tmp_path, runner=child).warnings == ()
    assert len(child.requests) == 2


def test_a_state_directory_that_cannot_be_written_costs_a_warning_only(tmp_path: Path) -> None:
    (tmp_path / "calendars").write_text("in the way")
    built = build(tmp_path)
    assert row_of(built.tables["NSE"], "2026-11-23")["layer"] == "exchange-calendars"
    assert any("cannot be kept" in warning for warning in built.warnings)


def test_only_a_few_answers_are_kept(tmp_path: Path) -> None:
    source = CalendarSource(tmp_path, by_heart)
    for year in range(2000, 2020):
        source.read(["XBOM"], date(year, 1, 1), date(year, 1, 1))
    assert len(list((tmp_path / "calendars").iterdir())) == 8


@pytest.fixture
def impostor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A real child process that runs a script of the test's in place of the calendars."""
    script = tmp_path / "impostor"
    monkeypatch.setattr(sys, "executable", str(script))
    return script


@pytest.mark.parametrize(
    "script,message",
    [
        ("echo 'ImportError: no pandas' >&2; exit 3", "failed with status 3: ImportError: no pandas"),
        ("kill -9 $$", "failed with status -9"),
        ("sleep 600 & sleep 600", "no answer within 0.5 s"),
    ],
    ids=["crash", "killed", "hang"],
)
def test_a_child_that_crashes_or_hangs_is_an_error_and_leaves_nothing_behind(
    script: str, message: str, impostor: Path
) -> None:
    group = impostor.with_suffix(".pid")
    impostor.write_text(f"#!/bin/sh\necho $$ > {group}\n{script}\n")
    impostor.chmod(0o755)
    with pytest.raises(CalendarError, match=re.escape(message)):
        run_child("{}", timeout=0.5)
    alive = subprocess.run(
        ["ps", "-o", "stat=", "-g", group.read_text().strip()], capture_output=True, text=True, check=False
    )
    assert [state for state in alive.stdout.split() if not state.startswith("Z")] == []


def test_a_name_that_nobody_knows_is_answered_with_what_was_meant(tmp_path: Path) -> None:
    built = build(tmp_path, NOTHING, ("NSE", "NYSEE", "nse-fo"))
    assert set(built.tables) == {"NSE"}
    assert built.market_problem("NYSEE") == "there is no market and no calendar 'NYSEE'; did you mean 'NYSE'?"
    assert built.market_problem("nse-fo").endswith("did you mean 'NSE-FO'?")
    assert built.problems == ()


def test_a_window_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalendarError, match="not from 2026-12-31 to 2026-01-01"):
        build(tmp_path, window=("2026-12-31", "2026-01-01"))


def test_a_table_is_of_the_type_that_the_core_asks(india: Built) -> None:
    table = india.tables["NSE"]
    assert isinstance(table, MarketTable)
    assert iso(table.first) == "2018-12-20T00:00:00+05:30"
    assert iso(table.last) == "2027-04-01T00:00:00+05:30"
    assert table.phases == {"pre-open", "open", "post-close", "break", "closed"}
