"""Trying again, at the edges: what comes between a failure and its next attempt."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.core.admission import Admission
from scheduler.core.market import MarketTable
from scheduler.core.messages import (
    HOUR,
    MINUTE,
    SECOND,
    CancelRequested,
    ClockStepped,
    Configure,
    LoopLag,
    Overlap,
    PauseRequested,
    Priority,
    RestartPolicy,
    RestartRequested,
    ResumeRequested,
    RunEnded,
    RunNow,
    Status,
    StopRequested,
    Wake,
)
from scheduler.core.triggers import After, At, Every, KeepRunning, parse_anchor
from tests.core.desk import ALWAYS, NEVER, Desk, bad, endless, fails_first, ok, spec
from tests.core.tables import nse_week
from tests.helpers import instant, iso

TABLE = nse_week()
TEN = "2026-11-23T10:00:00+05:30"
PACE = Every({"open": 5 * SECOND, "closed": MINUTE})
OPEN = KeepRunning(frozenset({"open"}))
CRITICAL: dict[str, Any] = {"priority": Priority.CRITICAL, "restart": ALWAYS}


def at(*texts: str) -> At:
    return At(tuple(parse_anchor(text) for text in texts))


def attempts(desk: Desk, task: str) -> list[tuple[str, int, str, str]]:
    rows = sorted(((r.due, r.attempt), r) for r in desk.rows.values() if r.task == task)
    return [(iso(r.due)[11:19], r.attempt, str(r.status), str(r.reason)) for _, r in rows]


def refusing_from(day: str) -> MarketTable:
    """The week, of which nothing is known from a midnight on."""
    horizon = instant(f"{day}T00:00:00+05:30")
    return MarketTable(
        name="NSE", zone=TABLE.zone, sessions=TABLE.sessions, days=TABLE.days, phases=TABLE.phases,
        pieces=[piece._replace(assumed=piece.start >= horizon) for piece in TABLE.pieces],
        version="v", known_until=horizon, beyond_horizon="refuse",
    )  # fmt: skip


def test_a_restart_says_its_attempt_its_delay_its_reason_and_what_comes_after_the_last() -> None:
    desk = Desk([spec("a", at("10:00"))], TABLE, TEN, scripts={"a": fails_first(1)})
    desk.until("2026-11-23T10:01:00+05:30")
    (said,) = [action for action in desk.said if action.event == "task.restarting"]
    assert said.level == "warning"
    assert said.fields == {
        "task": "a",
        "due": instant(TEN),
        "run_id": "a-20261123T043000Z~2",
        "attempt": 2,
        "delay": "1s",
        "reason": "ValueError: no",
        "after_the_last": "3 failures in 10m: it is parked",
    }


def test_a_restart_of_what_is_never_parked_says_that_it_goes_on() -> None:
    desk = Desk([spec("a", at("10:00"), **CRITICAL)], TABLE, TEN, scripts={"a": fails_first(1)})
    desk.until("2026-11-23T10:01:00+05:30")
    (said,) = desk.fields("task.restarting")
    assert said["after_the_last"] == "5 failures in 1m: an alarm, and it is tried on"


def test_a_restart_at_once_is_no_warning() -> None:
    desk = Desk([spec("feed", OPEN)], TABLE, TEN, scripts={"feed": endless})
    desk.tell(RestartRequested("feed"))
    desk.until("2026-11-23T10:00:01+05:30")
    (said,) = [action for action in desk.said if action.event == "task.restarting"]
    assert (said.level, said.fields["delay"], said.fields["reason"]) == ("info", "0s", "restarted")


def test_jitter_shortens_a_delay_and_the_announcement_is_in_whole_milliseconds() -> None:
    desk = Desk([spec("a", at("10:00"))], TABLE, TEN, scripts={"a": fails_first(1)})
    desk.engine._life.restarts._jitter = lambda: 0.123_456_789
    desk.until("2026-11-23T10:01:00+05:30")
    (said,) = desk.fields("task.restarting")
    assert said["delay"] == "969ms"


def test_a_crash_loop_is_critical_and_says_how_often_it_has_failed_and_why() -> None:
    desk = Desk([spec("a", at("10:00"), **CRITICAL)], TABLE, TEN, scripts={"a": bad(0)})
    desk.until("2026-11-23T10:05:00+05:30")
    (said,) = [action for action in desk.said if action.event == "task.crash_looping"]
    assert said.level == "critical"
    assert said.fields == {"task": "a", "reason": "ValueError: no", "failures": 5}


def test_a_task_that_is_parked_says_how_often_it_has_failed_why_and_what_ends_it() -> None:
    desk = Desk([spec("a", at("10:00"))], TABLE, TEN, scripts={"a": bad(0)})
    desk.until("2026-11-23T10:05:00+05:30")
    (said,) = [action for action in desk.said if action.event == "task.parked"]
    assert said.level == "error"
    assert said.fields == {
        "task": "a",
        "reason": "ValueError: no",
        "failures": 3,
        "ends_by": "`scheduler resume a`, or a changed definition",
    }


@pytest.mark.parametrize("event", [StopRequested(), Configure((spec("down", After("up")),), {"NSE": TABLE})])
def test_what_comes_after_a_run_that_fails_when_nothing_is_tried_again_is_skipped(
    event: StopRequested | Configure,
) -> None:
    desk = Desk([spec("up", at("10:00")), spec("down", After("up"))], TABLE, TEN, scripts={"up": bad(2)})
    desk.tell(event)
    desk.until("2026-11-23T10:00:05+05:30")
    assert attempts(desk, "down") == [("10:00:00", 0, "skipped", "upstream")]


def test_what_failed_without_a_word_is_told_by_its_reason() -> None:
    timed_out = (0, Status.FAILED, "timeout", "")
    desk = Desk([spec("a", at("10:00"))], TABLE, TEN, scripts={"a": lambda _: timed_out})
    desk.until("2026-11-23T10:00:01+05:30")
    assert desk.fields("task.restarting")[0]["reason"] == "timeout"


def test_the_backoff_while_the_market_rests_grows_beyond_that_of_trading() -> None:
    policy = RestartPolicy("always", burst=50, window=HOUR, then="keep_trying")
    task = spec("a", at("17:00"), restart=policy)
    desk = Desk([task], TABLE, "2026-11-23T16:59:00+05:30", scripts={"a": fails_first(7)})
    desk.until("2026-11-23T17:05:00+05:30")
    assert [said["delay"] for said in desk.fields("task.restarting")] == [
        "1s", "2s", "4s", "8s", "16s", "32s", "1m4s",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "priority, tried",
    [(Priority.CRITICAL, "15:30:00"), (Priority.IMPORTANT, "15:30:12.500000")],  # after 16 seconds
)
def test_only_a_critical_task_is_tried_at_the_start_of_the_next_phase(priority: Priority, tried: str) -> None:
    policy = RestartPolicy("always", burst=50, window=HOUR, then="keep_trying")
    task = spec("a", Every({"*": 7 * HOUR}), priority=priority, restart=policy)
    desk = Desk([task], TABLE, "2026-11-23T15:29:41+05:30", scripts={"a": fails_first(5)})
    desk.tell(RunNow("a"))
    desk.until("2026-11-23T15:31:00+05:30")
    last = desk.started[-1]
    started = desk.rows["a", last.due, last.attempt].started
    assert started is not None
    assert (last.attempt, iso(started)[11:-6]) == (6, tried)


def test_past_the_table_nothing_is_known_of_phases_and_a_task_is_tried_at_the_pace_of_rest() -> None:
    task = spec("a", PACE, **CRITICAL)
    desk = Desk([task], TABLE, "2026-12-05T00:00:00+05:30", scripts={"a": fails_first(2)})
    desk.tell(RunNow("a"))
    desk.until("2026-12-05T00:01:00+05:30")
    assert [said["delay"] for said in desk.fields("task.restarting")] == ["1s", "2s"]


def test_a_stall_over_the_close_ends_a_loops_backoff_before_its_retry_is_due() -> None:
    desk = Desk([spec("feed", OPEN)], TABLE, "2026-11-23T15:29:50+05:30", scripts={"feed": bad(9)})
    desk.until("2026-11-23T15:29:59.5+05:30")  # it failed at :59, and may be tried again at 15:30:00
    assert desk.engine.tasks["feed"].retry_run is None, "the stretch ends with the very second"
    desk = Desk([spec("feed", OPEN)], TABLE, "2026-11-23T15:29:50+05:30", scripts={"feed": bad(8.5)})
    desk.until("2026-11-23T15:29:59+05:30")
    assert desk.engine.tasks["feed"].retry_run is not None
    desk.sleep("2026-11-23T15:30:01+05:30").tell(Wake())
    desk.until("2026-11-23T16:00:00+05:30")
    assert attempts(desk, "feed") == [("09:15:00", 1, "failed", "error")]


def test_a_tick_that_comes_due_with_the_retry_goes_in_its_place() -> None:
    task = spec("up", PACE, **CRITICAL)
    desk = Desk([task, spec("down", After("up"))], TABLE, TEN, scripts={"up": fails_first(1)})
    desk.until("2026-11-23T10:00:00.500+05:30").sleep("2026-11-23T10:00:05+05:30").tell(Wake())
    desk.until("2026-11-23T10:00:06+05:30")
    assert attempts(desk, "up") == [("10:00:00", 1, "failed", "error"), ("10:00:05", 1, "completed", "")]
    assert attempts(desk, "down")[0] == ("10:00:00", 0, "skipped", "upstream")


def test_what_is_paused_while_it_backs_off_has_failed_for_good_and_what_comes_after_learns_of_it() -> None:
    desk = Desk(
        [spec("up", at("10:00"), **CRITICAL), spec("down", After("up"))], TABLE, TEN, scripts={"up": bad()}
    )
    desk.until("2026-11-23T10:00:01+05:30")
    assert attempts(desk, "down") == []
    desk.tell(PauseRequested("up"))
    assert attempts(desk, "down") == [("10:00:00", 0, "skipped", "upstream")]
    desk.tell(ResumeRequested("up"))
    desk.until("2026-11-23T11:00:00+05:30")
    assert len(desk.started) == 1


def test_a_run_that_fails_while_its_task_is_paused_is_not_tried_again() -> None:
    desk = Desk([spec("a", at("10:00"), **CRITICAL)], TABLE, TEN, scripts={"a": bad(2)})
    desk.tell(PauseRequested("a"))
    desk.until("2026-11-23T10:10:00+05:30")
    assert attempts(desk, "a") == [("10:00:00", 1, "failed", "error")]


def test_a_run_that_fails_after_its_task_was_removed_is_not_tried_again() -> None:
    desk = Desk([spec("a", at("10:00"), **CRITICAL)], TABLE, TEN, scripts={"a": bad(2)})
    desk.tell(Configure((), {"NSE": TABLE}))
    desk.until("2026-11-23T10:10:00+05:30")
    assert attempts(desk, "a") == [("10:00:00", 1, "failed", "error")]
    assert desk.events("task.restarting") == []


def test_a_retry_that_the_clock_carried_past_the_close_is_given_up() -> None:
    task = spec("square-off", at("15:29"), **CRITICAL)
    desk = Desk([task], TABLE, "2026-11-23T15:29:00+05:30", scripts={"square-off": bad()})
    desk.until("2026-11-23T15:29:00.5+05:30")
    desk.sleep("2026-11-23T15:59:00.5+05:30").tell(ClockStepped(30 * MINUTE))
    desk.until("2026-11-23T17:00:00+05:30")
    assert len(desk.started) == 1


def test_a_loop_that_a_reload_gives_other_hours_is_started_again_by_its_new_ones() -> None:
    task = spec("feed", KeepRunning(frozenset({"pre-open", "open"})))
    desk = Desk([task], TABLE, TEN, scripts={"feed": endless})
    desk.tell(Configure((spec("feed", OPEN),), {"NSE": TABLE}))
    desk.until("2026-11-23T10:00:01+05:30")
    assert attempts(desk, "feed") == [
        ("09:00:00", 1, "cancelled", "reloaded"),
        ("09:15:00", 1, "running", ""),
    ]


def test_a_loop_that_an_operator_restarts_as_its_stretch_ends_does_not_begin_again() -> None:
    task = spec("feed", OPEN)
    desk = Desk([task], TABLE, "2026-11-23T15:29:59+05:30", scripts={"feed": endless})
    desk.tell(RestartRequested("feed"))
    desk._ends.clear()  # it takes its time
    desk.until("2026-11-23T15:30:00+05:30").sleep("2026-11-23T15:30:00.500+05:30")
    desk.tell(RunEnded(desk.started[0], Status.CANCELLED, "restarted"))
    desk.until("2026-11-23T16:00:00+05:30")
    assert len(desk.started) == 1


def test_a_loop_run_by_hand_before_its_stretch_begins_with_it_when_that_run_is_over() -> None:
    script = lambda run: ok(30)(run) if run.cause == "manual" else endless(run)  # noqa: E731 - a script in one line
    desk = Desk([spec("feed", OPEN)], TABLE, "2026-11-23T09:14:50+05:30", scripts={"feed": script})
    desk.tell(RunNow("feed"))
    desk.until("2026-11-23T09:15:19+05:30")
    assert desk.engine.snapshot()[0]["state"] == "running"
    assert len(desk.started) == 1
    desk.until("2026-11-23T12:00:00+05:30")
    assert attempts(desk, "feed")[-1] == ("09:15:00", 1, "running", "")


def test_a_loop_due_on_a_day_that_is_refused_is_not_started_and_has_no_end() -> None:
    desk = Desk(
        [spec("feed", OPEN)], refusing_from("2026-11-26"), "2026-11-25T10:00:00+05:30",
        scripts={"feed": endless},
    )  # fmt: skip
    desk.until("2026-11-26T12:00:00+05:30")
    assert attempts(desk, "feed") == [
        ("09:15:00", 1, "completed", "phase-ended"),
        ("09:15:00", 0, "missed", "refused"),
    ]


def test_what_waits_behind_a_run_gives_up_when_it_may_not_be_started_any_more() -> None:
    task = spec("a", at("10:00", "10:05"), overlap=Overlap.QUEUE_ONE, catchup=MINUTE)
    desk = Desk([task], TABLE, TEN, scripts={"a": endless}).until("2026-11-23T10:06:00+05:30")
    assert desk.outcomes("a") == [("10:00:00", "running", "", 1)]
    desk.until("2026-11-23T10:06:01+05:30")
    assert desk.outcomes("a")[1:] == [("10:05:00", "skipped", "overlap", 1)]


def test_what_came_due_later_but_goes_first_is_sorted_in() -> None:
    specs = [spec("a", at("10:00")), spec("b", at("10:01")), spec("z", at("10:02"), **CRITICAL)]
    desk = Desk(specs, TABLE, TEN, scripts={"a": ok(180), "b": ok(1), "z": ok(1)}, admission=Admission(1, 0))
    desk.until("2026-11-23T10:04:00+05:30")
    assert [run.task for run in desk.started] == ["a", "z", "b"]


def test_what_was_given_up_while_it_waited_for_a_slot_is_passed_over() -> None:
    specs = [spec("a", at("10:00")), spec("b", at("10:01")), spec("c", at("10:01"))]
    desk = Desk(specs, TABLE, TEN, scripts={"a": ok(60.7), "b": ok(1), "c": ok(1)}, admission=Admission(1, 0))
    desk.until("2026-11-23T10:01:00.500+05:30").tell(PauseRequested("b"))
    desk.until("2026-11-23T10:04:00+05:30")
    assert [run.task for run in desk.started] == ["a", "c"]
    assert desk.outcomes("b") == [("10:01:00", "skipped", "paused", 1)]


def test_a_reload_that_still_cannot_import_a_callable_says_nothing_new() -> None:
    task = spec("a", PACE)
    desk = Desk([task], TABLE, TEN, refused={"a": "no module"})
    for error in ("no module", "no attribute", ""):
        desk.tell(Configure((task,), {"NSE": TABLE}, {"a": error} if error else {}))
    assert [said["reason"] for said in desk.fields("task.parked")] == ["no module", "no attribute"]


def test_what_comes_after_a_cancelled_run_that_is_made_again_waits_for_it() -> None:
    specs = [spec("up", at("10:00")), spec("down", After("up"))]
    desk = Desk(
        specs, TABLE, TEN, scripts={"up": lambda run: endless(run) if run.attempt == 1 else ok()(run)}
    )
    desk.tell(RestartRequested("up"))
    desk.until("2026-11-23T10:00:01+05:30")
    assert attempts(desk, "down") == [("10:00:00", 1, "completed", "")]


def test_what_comes_after_a_run_that_an_operator_cancelled_is_skipped() -> None:
    specs = [spec("up", at("10:00")), spec("down", After("up"))]
    desk = Desk(specs, TABLE, TEN, scripts={"up": endless})
    desk.tell(CancelRequested("up-20261123T043000Z"))
    desk.until("2026-11-23T10:00:01+05:30")
    assert attempts(desk, "down") == [("10:00:00", 0, "skipped", "upstream")]


def test_what_comes_after_a_run_that_may_not_be_made_again_is_skipped() -> None:
    specs = [spec("up", at("15:29")), spec("down", After("up"))]
    desk = Desk(specs, TABLE, "2026-11-23T15:29:00+05:30", scripts={"up": endless})
    desk.tell(RestartRequested("up"))
    desk._ends.clear()  # it takes its time, until after the close
    desk.sleep("2026-11-23T15:30:01+05:30").tell(RunEnded(desk.started[0], Status.CANCELLED, "restarted"))
    assert attempts(desk, "down") == [("15:29:00", 0, "skipped", "upstream")]
    assert len(desk.started) == 1


@pytest.mark.parametrize("event", [StopRequested(), Configure((), {"NSE": TABLE})])
def test_what_was_to_be_restarted_is_not_when_all_stops_or_it_is_removed(
    event: StopRequested | Configure,
) -> None:
    desk = Desk([spec("feed", OPEN)], TABLE, TEN, scripts={"feed": endless})
    desk.tell(RestartRequested("feed"))
    desk._ends.clear()
    desk.tell(event)
    desk.tell(RunEnded(desk.started[0], Status.CANCELLED, "restarted"))
    desk.until("2026-11-23T10:05:00+05:30")
    assert len(desk.started) == 1


def test_the_backoff_while_the_market_trades_goes_to_half_a_minute_and_counts_its_restarts() -> None:
    policy = RestartPolicy("always", burst=50, window=HOUR, then="keep_trying")
    desk = Desk([spec("a", at("10:00"), restart=policy)], TABLE, TEN, scripts={"a": fails_first(7)})
    desk.until("2026-11-23T10:05:00+05:30")
    assert [said["delay"] for said in desk.fields("task.restarting")] == [
        "1s", "2s", "4s", "8s", "16s", "30s", "30s",
    ]  # fmt: skip
    assert desk.engine.snapshot()[0]["restarts"] == 7
    assert [str(run.cause) for run in desk.started] == ["tick", *["retry"] * 7]


def test_what_was_parked_while_its_retry_waited_is_not_tried_again() -> None:
    desk = Desk([spec("a", at("10:00"))], TABLE, TEN, scripts={"a": bad(0)})
    desk.until("2026-11-23T10:00:00.500+05:30")  # to be tried again at :01
    for millisecond in (600, 700):
        desk.tell(RunNow("a"))
        desk.until(f"2026-11-23T10:00:00.{millisecond}+05:30")
    assert desk.engine.snapshot()[0]["health"] == "parked"
    desk.until("2026-11-23T10:10:00+05:30")
    assert len(desk.started) == 3


def test_what_has_been_given_up_wakes_nobody() -> None:
    desk = Desk([spec("a", at("10:00"))], TABLE, TEN, scripts={"a": bad()})
    desk.until("2026-11-23T10:00:00.500+05:30").tell(PauseRequested("a"))
    assert desk.engine.wake_at() == instant("2026-11-23T15:30:00+05:30")  # the close


def test_what_is_remembered_of_a_task_is_not_forgotten_because_it_waited_for_a_slot() -> None:
    specs = [spec("a", at("10:00")), spec("b", at("10:00"))]
    desk = Desk(specs, TABLE, TEN, scripts={"a": ok(5), "b": ok(5)}, admission=Admission(1, 0))
    desk.tell(ResumeRequested("b", by="asha", reason="feed is back"))
    desk.until("2026-11-23T10:00:03+05:30")
    assert sorted(desk.remembered["b"]) == ["resumed", "waiting"]
    desk.until("2026-11-23T10:00:20+05:30")
    assert sorted(desk.remembered["b"]) == ["resumed"]


def test_a_stretch_that_was_missed_says_where_it_ends_and_the_run_due_this_instant_is_made_up() -> None:
    desk = Desk([spec("a", PACE)], TABLE, "2026-11-23T10:00:01+05:30")
    desk.sleep("2026-11-23T10:00:30+05:30").tell(Wake())
    assert desk.starts("a") == ["2026-11-23T10:00:30+05:30"]
    (missed,) = [row for row in desk.rows.values() if row.status is Status.MISSED]
    assert missed.last_due is not None
    assert (iso(missed.due)[11:19], iso(missed.last_due)[11:19], missed.count) == ("10:00:05", "10:00:25", 5)


@pytest.mark.parametrize("again", [RunNow("up"), RestartRequested("up")])
def test_a_retry_in_whose_place_a_later_one_comes_has_failed_and_what_comes_after_learns_of_it(
    again: RunNow | RestartRequested,
) -> None:
    """The run by hand fails too, or is itself restarted, while that of ten waits to be tried again."""
    script = lambda run: bad(0)(run) if run.attempt == 1 and run.due == instant(TEN) else ok(0.3)(run)  # noqa: E731 - a script in one line
    specs = [spec("up", at("10:00"), **CRITICAL), spec("down", After("up"))]
    desk = Desk(specs, TABLE, TEN, scripts={"up": script}).until("2026-11-23T10:00:00.500+05:30")
    if isinstance(again, RunNow):
        desk.scripts["up"] = lambda run: bad(0)(run) if run.attempt == 1 else ok(0)(run)
    else:
        desk.tell(RunNow("up"))
    desk.tell(again)
    desk.until("2026-11-23T10:10:00+05:30")
    assert [(due, status) for due, _, status, _ in attempts(desk, "down")] == [
        ("10:00:00", "skipped"),
        ("10:00:00", "completed"),  # half a second later
    ]


def test_a_loop_that_backs_off_when_its_stretch_becomes_another_is_not_tried_again_in_that_one() -> None:
    desk = Desk([spec("feed", OPEN)], TABLE, TEN, scripts={"feed": bad(1)})
    desk.until("2026-11-23T10:00:01.500+05:30").scripts["feed"] = endless
    later = nse_week(changes={"2026-11-23": [("open", "09:30", "15:30")]})
    desk.tell(Configure((spec("feed", OPEN),), {"NSE": later}))
    desk.until("2026-11-23T10:05:00+05:30")
    assert attempts(desk, "feed") == [("09:15:00", 1, "failed", "error"), ("09:30:00", 1, "running", "")]


def test_what_was_shed_out_of_its_queue_with_the_tick_that_came_has_no_deadline_any_more() -> None:
    task = spec("a", PACE, overlap=Overlap.QUEUE_ONE, catchup=4 * SECOND)
    desk = Desk([task], TABLE, TEN, scripts={"a": endless}).until("2026-11-23T10:00:06+05:30")
    desk.tell(LoopLag(2 * SECOND))
    desk.sleep("2026-11-23T10:00:10.500+05:30").tell(Wake())
    assert desk.outcomes("a") == [
        ("10:00:00", "running", "", 1),
        ("10:00:05", "skipped", "overlap", 1),
        ("10:00:10", "skipped", "shed", 1),
    ]


def test_past_the_table_a_run_by_hand_waits_behind_another_for_as_long_as_its_catchup() -> None:
    task = spec("a", PACE, overlap=Overlap.QUEUE_ONE, catchup=MINUTE)
    desk = Desk([task], TABLE, "2026-12-05T00:00:00+05:30", scripts={"a": endless})
    for _ in range(2):
        desk.tell(RunNow("a"))
    desk.until("2026-12-05T00:01:00+05:30")
    assert [status for _, _, status, _ in attempts(desk, "a")] == ["running", "queued"]
    desk.until("2026-12-05T00:01:01+05:30")
    assert [(status, why) for _, _, status, why in attempts(desk, "a")] == [
        ("running", ""),
        ("skipped", "overlap"),
    ]


def test_what_comes_after_a_loop_a_second_time_and_is_paused_keeps_its_first_outcome() -> None:
    specs = [spec("feed", OPEN, restart=NEVER), spec("down", After("feed"))]
    desk = Desk(specs, TABLE, TEN, scripts={"feed": ok(1)}).until("2026-11-23T10:00:05+05:30")
    assert attempts(desk, "down") == [("09:15:00", 1, "completed", "")]
    desk.tell(PauseRequested("down"))
    desk.tell(RunNow("feed"))
    desk.until("2026-11-23T10:00:10+05:30")
    assert attempts(desk, "feed")[-1] == ("09:15:00", 2, "completed", "")
    assert attempts(desk, "down") == [("09:15:00", 1, "completed", "")]


def test_what_comes_after_on_another_market_belongs_to_its_own_calendar_whatever_changes() -> None:
    other = nse_week(name="OTHER")
    specs = [spec("up", at("10:00")), spec("down", After("up"), market="OTHER")]
    desk = Desk([], TABLE, "2026-11-23T09:59:00+05:30", scripts={"up": ok(10)})
    desk.tell(Configure(tuple(specs), {"NSE": TABLE, "OTHER": other}))
    desk.until("2026-11-23T10:00:05+05:30")
    changed = nse_week(changes={"2026-11-26": None})
    moved = nse_week(name="OTHER", changes={"2026-11-27": None})
    desk.tell(Configure(tuple(specs), {"NSE": changed, "OTHER": moved}))
    desk.until("2026-11-23T10:01:00+05:30")
    labels = {row.task: row.calendar for row in desk.rows.values()}
    assert labels == {"up": TABLE.version, "down": moved.version}
