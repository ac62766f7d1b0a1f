"""What a markets file may say, in words: intervals, weekdays, and what follows from a definition."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from scheduler.core.anchors import parse_anchor
from scheduler.core.marketspec import (
    DESK,
    Change,
    MarketDef,
    MarketsFile,
    overlapping_ranges,
    parse_interval,
    parse_weekdays,
    wall,
)
from scheduler.core.messages import HOUR, MINUTE
from scheduler.errors import Mark

MARK = Mark("markets.yaml", 1, 1)


def change(first: str, last: str, **options: Any) -> Change:
    return Change(date.fromisoformat(first), date.fromisoformat(last), DESK, MARK, **options)


def test_an_interval_is_two_anchors_and_reads_back_as_it_was_written() -> None:
    interval = parse_interval("09:15..close-5m", MARK)
    assert (interval.start, interval.end) == (parse_anchor("09:15"), parse_anchor("close-5m"))
    assert interval.text == "09:15..close-5m"


def test_blanks_round_the_dots_of_an_interval_do_not_count() -> None:
    assert parse_interval("09:15 .. 15:30", MARK) == parse_interval("09:15..15:30", MARK)


def test_where_an_interval_was_written_does_not_make_it_another() -> None:
    assert parse_interval("open..close", MARK) == parse_interval("open..close", Mark("b.yaml", 2, 3))


@pytest.mark.parametrize("text", ["09:15", "09:15-15:30", "09:15.15:30", ""])
def test_what_is_no_interval_is_told_what_one_looks_like(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_interval(text, MARK)
    assert str(caught.value) == (
        f"{text!r} is not an interval; write A..B, such as 09:15..15:30 or open-15m..open"
    )


@pytest.mark.parametrize(
    "text, by_wall_clock",
    [
        ("09:15..15:30", True),
        ("09:15..close", True),
        ("open..15:30", True),
        ("open-15m..open", False),
    ],
)
def test_an_interval_with_a_time_of_day_does_not_move_with_the_open(text: str, by_wall_clock: bool) -> None:
    assert parse_interval(text, MARK).by_wall_clock is by_wall_clock


@pytest.mark.parametrize(
    "text, needs",
    [
        ("open..close", set()),
        ("pre-open.start..open", {"pre-open"}),
        ("lunch.end..auction.start", {"lunch", "auction"}),
    ],
)
def test_an_interval_needs_the_phases_that_its_edges_name(text: str, needs: set[str]) -> None:
    assert parse_interval(text, MARK).needs == needs


def test_only_a_time_of_day_is_on_the_wall_and_its_offset_is_not_counted() -> None:
    assert wall(parse_anchor("09:15+5m")) == 9 * HOUR + 15 * MINUTE
    assert wall(parse_anchor("open+5m")) is None


@pytest.mark.parametrize(
    "text, days",
    [
        ("mon-fri", {0, 1, 2, 3, 4}),
        ("sun-thu", {6, 0, 1, 2, 3}),
        ("sat-sun", {5, 6}),
        ("mon, wed ,fri", {0, 2, 4}),
        ("tue", {1}),
        ("mon-tue,sat", {0, 1, 5}),
    ],
)
def test_weekdays_count_from_monday_and_a_range_may_go_round_the_weekend(text: str, days: set[int]) -> None:
    assert parse_weekdays(text) == days


@pytest.mark.parametrize(
    "text, message",
    [
        ("mon-wed-fri", "'mon-wed-fri' is not a range of weekdays; write mon-fri"),
        ("monday", "'monday' is not a weekday; write mon, tue, wed, thu, fri, sat or sun"),
        ("", "'' is not a weekday; write mon, tue, wed, thu, fri, sat or sun"),
    ],
)
def test_what_is_no_weekday_is_told_the_seven(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_weekdays(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "options, assumed",
    [
        ({}, False),
        ({"settled": "high"}, False),
        ({"settled": "medium"}, True),
        ({"settled": "low"}, True),
        ({"open": "unknown"}, True),
        ({"open": "ordinary"}, False),
    ],
)
def test_a_day_with_few_sources_or_without_hours_is_assumed(options: dict[str, Any], assumed: bool) -> None:
    assert change("2026-11-08", "2026-11-08", **options).assumed is assumed


def test_ranges_overlap_when_they_have_a_date_in_common_and_single_dates_are_no_ranges() -> None:
    first, second, third = (
        change("2026-11-01", "2026-11-05"),
        change("2026-11-05", "2026-11-09"),
        change("2026-11-10", "2026-11-12"),
    )
    single = change("2026-11-02", "2026-11-02")
    assert [each.is_range for each in (first, single)] == [True, False]
    assert overlapping_ranges((third, single, second, first)) == [(first, second)]


@pytest.mark.parametrize(
    "options, has_base",
    [
        ({}, False),
        ({"like": "NSE"}, True),
        ({"calendar": "XTKS"}, True),
        ({"any_of": ("NSE", "MCX")}, True),
        ({"weekdays": frozenset()}, True),
    ],
)
def test_a_definition_has_a_base_when_it_says_on_which_days_the_market_trades(
    options: dict[str, Any], has_base: bool
) -> None:
    assert MarketDef("M", DESK, MARK, **options).has_base is has_base


def test_the_markets_of_all_layers_are_known_and_the_one_that_never_closes() -> None:
    layers = ({"NSE": MarketDef("NSE", DESK, MARK)}, {"MY-DESK": MarketDef("MY-DESK", DESK, MARK)})
    assert MarketsFile(layers).names == {"NSE", "MY-DESK", "always"}
    assert MarketsFile(()).names == {"always"}
