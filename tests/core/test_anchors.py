"""Anchors on days that a desk knows, and how they are written.

The clocks change
  Europe/London  2027-03-28 01:00+00:00 -> 02:00+01:00    2026-10-25 02:00+01:00 -> 01:00+00:00
"""

from __future__ import annotations

import pytest

from scheduler.core.market import MarketTable
from scheduler.core.messages import MINUTE, SECOND
from scheduler.core.triggers import Anchor, Every, parse_anchor, session_of
from tests.core.agreement import after, anchors, at, enumerate_ticks, on_day
from tests.core.tables import drill_week, muhurat_week, nse_week, table
from tests.helpers import iso

NSE = nse_week()
CRITICAL = Every({"open": 5 * SECOND, "closed": 60 * SECOND})


@pytest.mark.parametrize(
    "text, expected",
    [
        ("open", ["09:15"]),
        ("close+15m", ["15:45"]),
        ("close-20m", ["15:10"]),
        ("pre-open.start", ["09:00"]),
        ("post-close.end+5m", ["16:05"]),
        ("16:00", ["16:00"]),
        ("auction.start", []),
    ],
)
def test_an_anchor_is_due_on_each_session(text: str, expected: list[str]) -> None:
    assert on_day(anchors(text), "23") == expected
    assert on_day(anchors(text), "24") == []
    assert on_day(anchors(text), "28") == []


@pytest.mark.parametrize(
    "text", ["open", "close+15m", "close-1h30m", "pre-open.start", "a-b.end-5s", "09:05", "16:00+1s"]
)
def test_an_anchor_is_written_as_it_is_read(text: str) -> None:
    assert parse_anchor(text).text == text


@pytest.mark.parametrize(
    "text",
    ["", "opening", "close + 15m", "close+", "close+15", "close+15M", "+15m", "24:00", "9:15", "09:60",
     "open.begin", ".start", "close+-5m", "close+15m+5m", "open ", "\u0661\u0661:00"],
)  # fmt: skip
def test_what_is_no_anchor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an anchor"):
        parse_anchor(text)


def test_the_phase_that_an_anchor_needs_is_known() -> None:
    assert [parse_anchor(text).phase for text in ("close+5m", "16:00", "pre-open.start-5m")] == [
        None,
        None,
        "pre-open",
    ]


def test_anchors_that_fall_together_are_one_tick() -> None:
    trigger = anchors("close+15m", "15:45", "15:00")
    assert on_day(trigger, "23") == ["15:00", "15:45"]
    assert trigger.count_between(at("23T00:00:00"), at("24T00:00:00"), NSE) == 2


def test_ticks_of_sessions_that_reach_over_each_other_come_in_order() -> None:
    trigger = anchors("close+2d", "open-1d")
    ticks = enumerate_ticks(trigger, NSE)
    assert ticks == sorted(set(ticks))
    assert after(trigger, "23T12:00:00") == "24T09:15:00"  # of the 25th
    assert after(trigger, "24T12:00:00") == "25T09:15:00"  # of the 26th
    assert after(trigger, "25T09:15:00") == "25T15:30:00"  # of the 23rd


@pytest.mark.parametrize(
    "text, day, market, expected, clamped",
    [
        ("open+1h30m", "24", muhurat_week(), "19:15", True),
        ("close-2h", "24", muhurat_week(), "18:15", True),
        ("close-30m", "24", muhurat_week(), "18:45", False),
        ("open-30m", "24", muhurat_week(), "17:45", False),
        ("close+15m", "24", muhurat_week(), "19:30", False),
        ("open+6h", "28", drill_week(), "12:30", True),
        ("open+3h15m", "28", drill_week(), "12:30", False),  # which is its close
        ("close-3h15m", "28", drill_week(), "09:15", False),
        ("close-20m", "28", drill_week(), "12:10", False),
        ("break.start", "28", drill_week(), "10:00", False),
    ],
)
def test_an_anchor_that_does_not_fit_a_special_day_is_clamped_to_it(
    text: str, day: str, market: MarketTable, expected: str, clamped: bool
) -> None:
    assert on_day(anchors(text), day, market) == [expected]
    session = next(session for session in market.sessions if session.date == f"2026-11-{day}")
    assert parse_anchor(text).clamped(session) is clamped


def test_an_ordinary_day_clamps_nothing() -> None:
    assert on_day(anchors("open+8h"), "23") == ["17:15"]
    assert not Anchor("open", 8 * 60 * MINUTE).clamped(NSE.sessions[0])


def test_a_phase_that_vanished_from_a_special_day_makes_no_tick() -> None:
    assert on_day(anchors("post-close.start"), "27", drill_week()) == ["15:50"]
    assert on_day(anchors("post-close.start"), "28", drill_week()) == []


@pytest.mark.parametrize(
    "day, text, expected",
    [
        ("2027-03-28", "01:30", "2027-03-28T02:00:00+01:00"),  # skipped: right after the jump
        ("2026-10-25", "01:30", "2026-10-25T01:30:00+01:00"),  # twice: the first
        ("2026-10-26", "01:30", "2026-10-26T01:30:00+00:00"),
    ],
)
def test_a_time_of_day_when_the_clocks_change(day: str, text: str, expected: str) -> None:
    market = table("Europe/London", [(day, [("open", "08:00", "16:30")])])
    assert [iso(t, "Europe/London") for t in enumerate_ticks(anchors(text), market)] == [expected]


def test_a_run_belongs_to_the_session_of_its_anchor() -> None:
    trigger = anchors("close+20h", "15:45")
    due = at("24T11:30:00")
    session = session_of(trigger, due, NSE)
    assert session is not None
    assert session.date == "2026-11-23"
    early = session_of(anchors("open-1h"), at("25T08:15:00"), NSE)
    assert early is not None
    assert early.date == "2026-11-25"
    assert trigger.text_at(due, NSE) == "close+20h"


def test_a_run_of_another_trigger_belongs_to_the_session_begun_latest() -> None:
    session = session_of(CRITICAL, at("25T08:15:00"), NSE)
    assert session is not None
    assert session.date == "2026-11-23"
    assert session_of(CRITICAL, at("20T08:15:00"), NSE) is None


def test_of_two_sessions_whose_anchors_fall_together_the_later_one_has_the_run() -> None:
    trigger = anchors("close+2h", "open-15h45m")  # of Wednesday and of Thursday: 17:30 on Wednesday
    due = at("25T17:30:00")
    origin = trigger.origin(due, NSE)
    assert origin is not None
    session, anchor = origin
    assert (session.date, anchor.text) == ("2026-11-26", "open-15h45m")
    assert len([tick for tick in enumerate_ticks(trigger, NSE) if tick == due]) == 1


def test_of_two_anchors_of_one_session_that_fall_together_the_first_has_the_run() -> None:
    origin = anchors("close+15m", "15:45").origin(at("23T15:45:00"), NSE)
    assert origin is not None
    assert origin[1].text == "close+15m"


def test_between_its_ticks_a_trigger_belongs_to_no_session_and_is_told_as_a_whole() -> None:
    trigger = anchors("close+15m", "16:00")
    assert trigger.origin(at("23T12:00:00"), NSE) is None
    assert trigger.text_at(at("23T12:00:00"), NSE) == "close+15m, 16:00"


def test_the_first_instant_of_a_table_may_be_a_tick_and_the_last_may_not() -> None:
    midnight = table("UTC", [("2026-11-23", [("open", "00:00", "12:00")])])
    first = anchors("open")
    assert first.next_after(midnight.first - 1, midnight) == midnight.first
    assert first.last_before(midnight.first + 1, midnight) == midnight.first
    assert first.last_before(midnight.first, midnight) is None
    end = anchors("close+12h")
    assert end.next_after(midnight.first, midnight) is None
    assert end.last_before(midnight.last + 1, midnight) is None


def test_the_last_tick_of_a_fortnight_is_found_from_its_end() -> None:
    trigger = anchors("close+15m")
    found = trigger.last_before(NSE.last, NSE)
    assert found is not None
    assert iso(found) == "2026-12-04T15:45:00+05:30"
    assert trigger.last_before(found, NSE) == found - 24 * 60 * MINUTE
