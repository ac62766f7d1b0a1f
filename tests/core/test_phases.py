"""Phases of markets are announced as they change; markets come and go with a reload."""

from __future__ import annotations

from scheduler.core.market import MarketTable
from scheduler.core.messages import Configure
from scheduler.core.triggers import At, parse_anchor
from tests.core.desk import Desk, spec
from tests.core.tables import nse_week
from tests.helpers import iso

TABLE = nse_week()
TASK = spec("a", At((parse_anchor("10:00"),)))


def changes(desk: Desk) -> list[tuple[str, str, str]]:
    return [(said["market"], said["previous"], said["phase"]) for said in desk.fields("market.phase_changed")]


def assumed_on(table: MarketTable, day: str) -> MarketTable:
    pieces = [
        piece._replace(assumed=True, layer="assumed") if iso(piece.midnight).startswith(day) else piece
        for piece in table.pieces
    ]
    return MarketTable(
        name=table.name, zone=table.zone, pieces=pieces, sessions=table.sessions, days=table.days,
        phases=table.phases, version=table.version,
    )  # fmt: skip


def test_a_market_that_a_reload_took_away_is_not_announced_any_more() -> None:
    other = nse_week(name="OTHER")
    desk = Desk([TASK], TABLE, "2026-11-23T08:00:00+05:30")
    desk.tell(Configure((TASK,), {"NSE": TABLE, "OTHER": other}))
    desk.until("2026-11-23T09:10:00+05:30")
    desk.tell(Configure((TASK,), {"NSE": TABLE}))
    desk.until("2026-11-23T09:20:00+05:30")
    assert changes(desk) == [
        ("NSE", "closed", "pre-open"),
        ("OTHER", "closed", "pre-open"),
        ("NSE", "pre-open", "open"),
    ]


def test_a_market_that_comes_back_with_a_later_reload_is_announced_again() -> None:
    desk = Desk([TASK], TABLE, "2026-11-23T08:00:00+05:30")
    desk.tell(Configure((), {}))
    desk.until("2026-11-23T09:10:00+05:30")
    desk.tell(Configure((TASK,), {"NSE": TABLE}))
    desk.until("2026-11-23T09:20:00+05:30")
    assert changes(desk) == [("NSE", "pre-open", "open")]


def test_a_new_calendar_moves_the_phases_of_the_day() -> None:
    desk = Desk([TASK], TABLE, "2026-11-23T08:00:00+05:30")
    late = nse_week(changes={"2026-11-23": [("open", "11:00", "12:00")]})
    desk.tell(Configure((TASK,), {"NSE": late}))
    desk.until("2026-11-23T11:30:00+05:30")
    assert changes(desk) == [("NSE", "closed", "open")]


def test_the_end_of_the_table_is_no_change_of_phase() -> None:
    desk = Desk([TASK], TABLE, "2026-12-04T15:55:00+05:30").until("2026-12-05T00:00:01+05:30")
    assert changes(desk) == [("NSE", "post-close", "closed")]  # at 16:00
    assert desk.engine.wake_at() is None


def test_a_market_whose_table_does_not_reach_this_instant_has_no_phases_to_announce() -> None:
    desk = Desk([TASK], TABLE, "2026-12-05T00:00:00+05:30").until("2026-12-07T12:00:00+05:30")
    assert changes(desk) == []


def test_a_change_tells_its_end_its_session_and_why_a_market_is_closed() -> None:
    desk = Desk([TASK], TABLE, "2026-11-23T15:00:00+05:30").until("2026-11-23T15:31:00+05:30")
    (said,) = desk.said
    assert said.level == "info"
    assert said.fields == {
        "market": "NSE",
        "previous": "open",
        "phase": "closed",
        "until": TABLE.next_change(desk.now),
        "reason": "between phases",
        "session": "2026-11-23",
    }


def test_before_the_first_session_of_a_table_there_is_none_to_tell() -> None:
    table = nse_week(changes={"2026-11-20": [("auction", "02:00", "03:00"), ("open", "04:00", "05:00")]})
    early = table.sessions[0].start
    shifted = MarketTable(
        name="NSE", zone=table.zone,
        pieces=[piece._replace(phase="dawn") if piece.end == early else piece for piece in table.pieces],
        sessions=table.sessions[1:], days=table.days, phases=table.phases, version=table.version,
    )  # fmt: skip
    desk = Desk([TASK], shifted, "2026-11-20T01:00:00+05:30").until("2026-11-20T02:30:00+05:30")
    (said,) = desk.fields("market.phase_changed")
    assert (said["previous"], said["phase"], said["session"]) == ("dawn", "auction", "")


def test_a_change_on_a_day_that_is_only_assumed_is_a_warning_and_says_so() -> None:
    table = assumed_on(TABLE, "2026-11-23")
    desk = Desk([TASK], table, "2026-11-23T09:10:00+05:30").until("2026-11-23T09:20:00+05:30")
    (said,) = desk.said
    assert said.level == "warning"
    assert (said.fields["assumed"], said.fields["layer"]) == (True, "assumed")


def test_after_a_stall_over_a_whole_phase_the_phase_of_now_is_announced_once() -> None:
    desk = Desk([TASK], TABLE, "2026-11-23T08:50:00+05:30").sleep("2026-11-23T09:20:00+05:30")
    desk.until("2026-11-23T09:30:00+05:30")
    assert changes(desk) == [("NSE", "closed", "open")]
