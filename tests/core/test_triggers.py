"""Paces, long runs and what the clock does not drive, on days that a desk knows.

The clocks of New York change on 2026-11-01 02:00-04:00 -> 01:00-05:00.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.messages import MINUTE, SECOND
from scheduler.core.triggers import After, Every, KeepRunning, On, Trigger, share_of
from scheduler.errors import OutsideTableError
from tests.core.agreement import after, anchors, at, before, enumerate_ticks, on_day
from tests.core.tables import always, drill_week, nse_week, square_off_week, table
from tests.helpers import instant, iso

NSE = nse_week()
CRITICAL = Every({"open": 5 * SECOND, "closed": 60 * SECOND})


def test_nobody_waits_out_an_off_hours_interval_into_the_open() -> None:
    trigger = Every({"open": 5 * SECOND, "closed": 7 * MINUTE})
    assert after(trigger, "23T09:14:50") == "23T09:15:00"
    assert after(trigger, "23T09:15:00") == "23T09:15:05"
    assert after(trigger, "23T15:29:55") == "23T15:31:00"  # 133 * 7 minutes from midnight


def test_a_session_pace_is_a_grid_from_the_open() -> None:
    trigger = Every({"open": 2 * 60 * MINUTE, "closed": None})
    assert on_day(trigger, "23") == ["09:15", "11:15", "13:15", "15:15"]


def test_a_day_of_a_critical_task_has_4500_runs_in_the_open_and_1065_outside() -> None:
    assert CRITICAL.count_between(at("23T09:15:00"), at("23T15:30:00"), NSE) == 4500
    assert CRITICAL.count_between(at("23T00:00:00"), at("24T00:00:00"), NSE) == 4500 + 24 * 60 - 375
    assert CRITICAL.count_between(at("24T00:00:00"), at("25T00:00:00"), NSE) == 24 * 60


def test_a_plain_pace_is_a_clock_grid_that_phases_do_not_disturb() -> None:
    trigger = Every({"*": 7 * MINUTE})
    assert after(trigger, "23T09:13:00") == "23T09:20:00"  # 80 * 7 minutes from midnight
    assert after(trigger, "23T23:55:00") == "24T00:00:00"  # each day anew


def test_a_segment_after_a_break_has_a_grid_of_its_own() -> None:
    trigger = Every({"open": 20 * MINUTE})
    assert on_day(trigger, "28", drill_week()) == ["09:15", "09:35", "09:55", "11:30", "11:50", "12:10"]


def test_a_carved_phase_goes_on_with_the_grid_of_open_unless_it_is_named() -> None:
    inherits = Every({"open": 14 * MINUTE})
    assert on_day(inherits, "23", square_off_week())[-3:] == ["14:51", "15:05", "15:19"]
    named = Every({"open": 14 * MINUTE, "square-off": 7 * MINUTE})
    assert on_day(named, "23", square_off_week())[-4:] == ["15:05", "15:10", "15:17", "15:24"]
    paused = Every({"open": 14 * MINUTE, "square-off": None})
    assert on_day(paused, "23", square_off_week())[-2:] == ["14:51", "15:05"]


def test_a_phase_outside_open_that_is_not_named_goes_by_closed_or_pauses() -> None:
    assert after(Every({"open": SECOND, "closed": 7 * MINUTE}), "23T09:00:00") == "23T09:06:00"
    assert after(Every({"open": SECOND}), "23T09:00:00") == "23T09:15:00"
    assert on_day(Every({"pre-open": 6 * MINUTE}), "23") == ["09:00", "09:06", "09:12"]


def test_offset_and_share_shift_each_grid() -> None:
    trigger = Every({"open": 60 * MINUTE, "closed": None}, offset=MINUTE, share=0.25)
    assert on_day(trigger, "23")[:2] == ["09:31", "10:31"]


def test_a_pause_over_the_holiday_is_skipped_in_one_question() -> None:
    trigger = Every({"open": 5 * SECOND, "closed": None})
    assert after(trigger, "23T15:29:55") == "25T09:15:00"
    assert before(trigger, "25T09:15:00") == "23T15:29:55"


def test_a_plain_pace_begins_anew_at_midnight_when_the_clocks_change() -> None:
    market = table("America/New_York", [("2026-10-30", [("open", "09:30", "16:00")])], last="2026-11-02")
    trigger = Every({"*": 6 * 60 * MINUTE})
    start, end = instant("2026-11-01T00:00:00-04:00"), instant("2026-11-02T00:00:00-05:00")
    ticks = [t for t in enumerate_ticks(trigger, market) if start <= t < end]
    assert [iso(t, "America/New_York")[11:] for t in ticks] == [
        "00:00:00-04:00", "05:00:00-05:00", "11:00:00-05:00", "17:00:00-05:00", "23:00:00-05:00",
    ]  # fmt: skip


@pytest.mark.parametrize("pace", [0, -SECOND])
def test_a_pace_of_nothing_is_refused(pace: int) -> None:
    with pytest.raises(ValueError, match=r"^a pace must be longer than 0$"):
        Every({"open": pace})


@pytest.mark.parametrize("offset, share", [(-1, 0.0), (0, -0.1), (0, 1.0)])
def test_a_grid_is_shifted_by_no_less_than_nothing_and_no_more_than_its_pace(
    offset: int, share: float
) -> None:
    with pytest.raises(ValueError, match=r"^an offset must not be negative, and a share must be in "):
        Every({"*": MINUTE}, offset=offset, share=share)


def test_a_pace_that_never_holds_is_never_due() -> None:
    assert Every({"open": None}).next_after(NSE.first, NSE) is None
    assert Every({"open": None}).last_before(NSE.last, NSE) is None


@given(st.text())
def test_the_share_of_a_name_is_in_0_1_and_always_the_same(name: str) -> None:
    assert 0 <= share_of(name) < 1
    assert share_of(name) == share_of(name)


def test_shares_differ_and_do_not_change_between_versions() -> None:
    assert share_of("market-monitoring") == pytest.approx(0.916522833511501)
    assert len({share_of(f"task-{n}") for n in range(1000)}) == 1000


def test_keep_running_is_due_where_its_phases_begin_and_runs_over_all_of_them() -> None:
    trigger = KeepRunning(frozenset({"pre-open", "open"}))
    assert on_day(trigger, "23", square_off_week()) == ["09:00"]
    assert trigger.span_at(at("23T12:00:00"), NSE) == (at("23T09:00:00"), at("23T15:30:00"))
    assert trigger.span_at(at("23T15:30:00"), NSE) is None
    assert on_day(trigger, "28", drill_week()) == ["09:00", "11:30"]
    assert on_day(KeepRunning(frozenset({"session"})), "28", drill_week()) == ["09:00"]


def test_keep_running_without_during_always_runs_and_is_never_due() -> None:
    assert KeepRunning().span_at(at("24T12:00:00"), NSE) == (None, None)
    assert enumerate_ticks(KeepRunning(), NSE) == []
    assert KeepRunning().last_before(NSE.last, NSE) is None
    assert KeepRunning().count_between(NSE.first, NSE.last, NSE) == 0


def test_a_stretch_that_reaches_beyond_the_table_has_no_edge_there() -> None:
    market = always("2026-11-23", "2026-11-25")
    trigger = KeepRunning(frozenset({"open"}))
    assert trigger.span_at(at("24T12:00:00"), market) == (None, None)
    assert enumerate_ticks(trigger, market) == []
    closed = KeepRunning(frozenset({"closed"}))
    assert closed.span_at(at("20T00:00:00"), NSE) == (None, at("20T09:00:00"))


def test_a_span_outside_the_table_is_an_error() -> None:
    with pytest.raises(OutsideTableError):
        KeepRunning(frozenset({"open"})).span_at(NSE.last, NSE)


@pytest.mark.parametrize("trigger", [On(("task.stale",)), After("market-monitoring")])
def test_what_the_clock_does_not_drive_has_no_ticks(trigger: Trigger) -> None:
    assert not trigger.clock_driven
    assert trigger.next_after(NSE.first, NSE) is None
    assert trigger.last_before(NSE.last, NSE) is None
    assert trigger.count_between(NSE.first, NSE.last, NSE) == 0


@pytest.mark.parametrize(
    "trigger", [CRITICAL, Every({"*": MINUTE}), anchors("close+15m"), KeepRunning(frozenset({"open"}))]
)
def test_nothing_is_known_outside_the_table(trigger: Trigger) -> None:
    first, last = trigger.next_after(NSE.first - 1, NSE), trigger.last_before(NSE.last, NSE)
    assert trigger.next_after(0, NSE) == first
    assert trigger.last_before(2 * NSE.last, NSE) == last
    assert trigger.next_after(NSE.last, NSE) is None
    assert trigger.last_before(NSE.first, NSE) is None
    assert trigger.count_between(0, 2 * NSE.last, NSE) == trigger.count_between(NSE.first, NSE.last, NSE) > 0


@pytest.mark.parametrize(
    "trigger, text, at_noon",
    [
        (CRITICAL, "every open 5s, closed 1m", "every 5s"),
        (Every({"*": 5 * MINUTE}), "every 5m", "every 5m"),
        (Every({"open": MINUTE, "closed": None}, offset=SECOND, during=frozenset({"session"})),
         "every open 1m, closed pause, offset 1s during session", "every 1m"),
        (anchors("open", "12:00"), "open, 12:00", "12:00"),
        (KeepRunning(), "keep_running", "keep_running"),
        (KeepRunning(frozenset({"pre-open", "open"})), "keep_running during open, pre-open", "keep_running"),
        (On(("task.stale", "task.parked")), "on task.stale, task.parked", "on task.stale, task.parked"),
        (After("market-monitoring"), "after market-monitoring", "after market-monitoring"),
    ],
)  # fmt: skip
def test_a_trigger_is_shown_as_a_person_would_write_it(trigger: Trigger, text: str, at_noon: str) -> None:
    assert trigger.text == text
    assert trigger.text_at(at("23T12:00:00"), NSE) == at_noon


def test_a_pace_that_pauses_is_shown_whole() -> None:
    trigger = Every({"open": 5 * SECOND, "closed": None})
    assert trigger.text_at(at("23T20:00:00"), NSE) == "every open 5s, closed pause"


def test_what_holds_from_the_first_instant_of_the_table_has_no_start_in_it() -> None:
    market = table("Asia/Kolkata", [("2026-11-23", [("open", "00:00", "12:00")])])
    trigger = KeepRunning(frozenset({"open"}))
    assert enumerate_ticks(trigger, market) == []
    assert trigger.count_between(market.first, market.last, market) == 0
    assert trigger.last_before(market.last, market) is None


def test_a_stretch_that_begins_with_the_second_piece_of_a_table_has_a_start() -> None:
    market = table("UTC", [("2026-11-23", [("open", "09:00", "12:00")])])
    assert len(market.pieces) == 3
    opening = market.pieces[1].start
    assert KeepRunning(frozenset({"open"})).span_at(opening, market) == (opening, market.pieces[2].start)
