"""The engine decides, given histories as ISO literals. The market is NSE's: open 09:15-15:30."""

from __future__ import annotations

import pytest

from scheduler.core.admission import Admission
from scheduler.core.messages import (
    HOUR,
    MILLISECOND,
    MINUTE,
    SECOND,
    Cause,
    ClockStepped,
    Configure,
    Happened,
    LoopLag,
    Overlap,
    PauseRequested,
    Priority,
    RestartRequested,
    ResumeRequested,
    RunEnded,
    RunNow,
    RunReturned,
    Status,
    StopRequested,
    TaskHistory,
    Wake,
)
from scheduler.core.triggers import After, At, Cron, Every, KeepRunning, On, parse_anchor
from scheduler.errors import UnknownTaskError
from tests.core.desk import ALWAYS, NEVER, Desk, bad, endless, fails_first, ok, spec
from tests.core.tables import always, nse_week
from tests.helpers import instant, iso

TABLE = nse_week()
CRITICAL = {"priority": Priority.CRITICAL, "restart": ALWAYS}
PACE = Every({"open": 5 * SECOND, "closed": 60 * SECOND})


def at(*texts: str) -> At:
    return At(tuple(parse_anchor(text) for text in texts))


def test_a_pace_is_a_grid_from_the_open_and_nobody_waits_out_an_off_hours_interval() -> None:
    desk = Desk([spec("a", PACE)], TABLE, "2026-11-23T09:13:30+05:30").until("2026-11-23T09:15:11+05:30")
    assert desk.starts("a") == [
        "2026-11-23T09:14:00+05:30",
        "2026-11-23T09:15:00+05:30",
        "2026-11-23T09:15:05+05:30",
        "2026-11-23T09:15:10+05:30",
    ]


def test_a_restart_in_mid_interval_does_not_move_the_grid() -> None:
    desk = Desk([spec("a", PACE)], TABLE, "2026-11-23T10:00:03+05:30").until("2026-11-23T10:00:06+05:30")
    assert desk.starts("a") == ["2026-11-23T10:00:05+05:30"]


def test_a_run_due_at_the_very_instant_of_the_start_is_started() -> None:
    desk = Desk([spec("a", PACE)], TABLE, "2026-11-23T10:00:00+05:30")
    assert desk.starts("a") == ["2026-11-23T10:00:00+05:30"]


def test_due_together_go_by_priority_then_name() -> None:
    specs = [
        spec("b", PACE),
        spec("a", PACE),
        spec("z", PACE, **CRITICAL),
        spec("n", PACE, priority=Priority.NICE_TO_HAVE),
    ]
    desk = Desk(specs, TABLE, "2026-11-23T10:00:01+05:30").until("2026-11-23T10:00:06+05:30")
    assert [run.task for run in desk.started] == ["z", "a", "b", "n"]


def test_a_slow_run_makes_the_next_due_runs_skipped_as_overlap_in_one_row() -> None:
    desk = Desk([spec("a", PACE)], TABLE, "2026-11-23T10:00:01+05:30", scripts={"a": ok(17)})
    desk.until("2026-11-23T10:00:24+05:30")
    assert desk.outcomes("a") == [
        ("10:00:05", "completed", "", 1),
        ("10:00:10", "skipped", "overlap", 3),
    ]


def test_queue_one_runs_the_newest_that_came_due_meanwhile() -> None:
    task = spec("a", PACE, overlap=Overlap.QUEUE_ONE)
    desk = Desk([task], TABLE, "2026-11-23T10:00:01+05:30", scripts={"a": ok(12)})
    desk.until("2026-11-23T10:00:18+05:30")
    assert desk.starts("a") == ["2026-11-23T10:00:05+05:30", "2026-11-23T10:00:15+05:30"]
    assert ("10:00:10", "skipped", "overlap", 1) in desk.outcomes("a")


def test_cancel_previous_ends_the_old_run_and_starts_the_new() -> None:
    task = spec("a", PACE, overlap=Overlap.CANCEL_PREVIOUS)
    desk = Desk([task], TABLE, "2026-11-23T10:00:01+05:30", scripts={"a": endless})
    desk.until("2026-11-23T10:00:11+05:30")
    assert desk.outcomes("a") == [
        ("10:00:05", "cancelled", "superseded", 1),
        ("10:00:10", "running", "", 1),
    ]


def test_a_failed_run_is_tried_again_as_the_same_due_with_doubling_delays() -> None:
    task = spec("a", at("10:00"), **CRITICAL)
    desk = Desk([task], TABLE, "2026-11-23T09:59:00+05:30", scripts={"a": fails_first(3)})
    desk.until("2026-11-23T10:10:00+05:30")
    assert [run.attempt for run in desk.started] == [1, 2, 3, 4]
    assert {run.due for run in desk.started} == {instant("2026-11-23T10:00:00+05:30")}
    assert [fields["delay"] for fields in desk.fields("task.restarting")] == ["1s", "2s", "4s"]
    assert desk.events("task.recovered") == ["task.recovered"]


def test_what_comes_due_while_backing_off_is_skipped_and_says_so() -> None:
    desk = Desk([spec("a", PACE, **CRITICAL)], TABLE, "2026-11-23T10:00:01+05:30", scripts={"a": bad()})
    desk.until("2026-11-23T10:00:33+05:30")
    assert ("10:00:10", "skipped", "backing-off", 1) in desk.outcomes("a")


def test_an_important_task_is_parked_by_its_third_failure_in_ten_minutes() -> None:
    desk = Desk([spec("a", PACE)], TABLE, "2026-11-23T10:00:01+05:30", scripts={"a": bad()})
    desk.until("2026-11-23T10:01:00+05:30")
    assert len(desk.started) == 3
    assert desk.events("task.parked") == ["task.parked"]
    assert desk.outcomes("a")[-1][1:3] == ("skipped", "parked")
    desk.scripts["a"] = ok()
    desk.tell(ResumeRequested("a"))
    desk.until("2026-11-23T10:01:07+05:30")
    assert desk.outcomes("a")[-1] == ("10:01:05", "completed", "", 1)


def test_who_resumed_a_task_and_why_is_said_and_remembered() -> None:
    desk = Desk([spec("a", PACE)], TABLE, "2026-11-23T10:00:01+05:30", scripts={"a": bad()})
    desk.until("2026-11-23T10:01:00+05:30").tell(ResumeRequested("a", "asha", "the feed is back"))
    (said,) = desk.fields("task.resumed")
    assert said == {"task": "a", "by": "asha", "reason": "the feed is back"}
    assert desk.remembered["a"]["resumed"] == {
        "since": desk.now,
        "by": "asha",
        "reason": "the feed is back",
    }
    desk.tell(Configure((), {"NSE": TABLE}))
    assert desk.remembered["a"] == {}


def test_a_request_about_an_unknown_task_is_refused_before_what_is_due_is_taken_out() -> None:
    desk = Desk([spec("market-watch", PACE)], TABLE, "2026-11-23T10:00:01+05:30")
    desk.now = instant("2026-11-23T10:00:05+05:30")
    with pytest.raises(
        UnknownTaskError, match=r"no task is named 'market-wach'; did you mean 'market-watch'\?"
    ):
        desk.tell(ResumeRequested("market-wach"))
    desk.tell(Wake())
    assert desk.starts("market-watch") == ["2026-11-23T10:00:05+05:30"]


def test_a_critical_task_in_a_crash_loop_is_announced_once_and_tried_on() -> None:
    desk = Desk([spec("a", PACE, **CRITICAL)], TABLE, "2026-11-23T10:00:01+05:30", scripts={"a": bad(0)})
    desk.until("2026-11-23T10:05:00+05:30")
    assert desk.events("task.crash_looping") == ["task.crash_looping"]
    assert len(desk.started) > 8


def test_a_critical_task_is_tried_at_the_open_whatever_its_backoff() -> None:
    desk = Desk([spec("a", PACE, **CRITICAL)], TABLE, "2026-11-23T08:00:00+05:30", scripts={"a": bad(0)})
    desk.until("2026-11-23T09:15:00.5+05:30")
    assert desk.starts("a")[-1] == "2026-11-23T09:15:00+05:30"
    assert desk.started[-1].attempt == 1


def test_a_failed_square_off_is_not_tried_again_after_the_close() -> None:
    task = spec("square-off", at("close-5s"), **CRITICAL)
    desk = Desk([task], TABLE, "2026-11-23T15:00:00+05:30", scripts={"square-off": bad(0)})
    desk.until("2026-11-23T15:45:00+05:30")
    assert [run.attempt for run in desk.started] == [1, 2, 3]  # at 15:29:55, :56 and :58


def test_nice_to_have_with_restart_never_waits_for_its_next_tick() -> None:
    desk = Desk([spec("a", PACE, restart=NEVER)], TABLE, "2026-11-23T10:00:01+05:30", scripts={"a": bad()})
    desk.until("2026-11-23T10:00:11+05:30")
    assert desk.outcomes("a") == [("10:00:05", "failed", "error", 1), ("10:00:10", "failed", "error", 1)]


def test_after_a_stall_the_newest_run_is_made_up_and_the_older_are_one_missed_row() -> None:
    desk = Desk([spec("a", PACE, catchup=5 * SECOND)], TABLE, "2026-11-23T10:00:01+05:30")
    desk.sleep("2026-11-23T10:00:31+05:30").until("2026-11-23T10:00:31.2+05:30")
    assert desk.outcomes("a") == [
        ("10:00:05", "missed", "downtime", 5),
        ("10:00:30", "completed", "", 1),
    ]
    assert desk.started[0].cause is Cause.CATCH_UP


def test_a_suspend_is_a_clock_jump_and_its_runs_are_missed_as_such() -> None:
    desk = Desk([spec("a", PACE, catchup=SECOND)], TABLE, "2026-11-23T10:00:01+05:30")
    desk.sleep("2026-11-23T11:00:03+05:30").tell(ClockStepped(HOUR))
    assert desk.events("clock.stepped") == ["clock.stepped"]
    assert desk.outcomes("a") == [
        ("10:00:05", "missed", "clock-jump", 719),
        ("11:00:00", "missed", "clock-jump", 1),
    ]


def test_no_run_fires_twice_because_the_clock_went_back() -> None:
    desk = Desk([spec("a", PACE)], TABLE, "2026-11-23T10:00:01+05:30").until("2026-11-23T10:00:31+05:30")
    desk.sleep("2026-11-23T10:00:11+05:30").tell(ClockStepped(-20 * SECOND))
    desk.until("2026-11-23T10:00:36+05:30")
    assert len(desk.starts("a")) == len(set(desk.starts("a"))) == 7


def test_a_backoff_keeps_its_length_when_the_clock_goes_back() -> None:
    task = spec("a", at("10:00"), **CRITICAL)
    desk = Desk([task], TABLE, "2026-11-23T09:59:00+05:30", scripts={"a": fails_first(1)})
    desk.until("2026-11-23T10:00:00.5+05:30").sleep("2026-11-23T09:30:00.5+05:30")
    desk.tell(ClockStepped(-30 * MINUTE))
    desk.until("2026-11-23T09:30:02+05:30")
    assert [run.attempt for run in desk.started] == [1, 2]


@pytest.mark.parametrize(
    ("anchor", "back", "started"),
    [
        ("15:10", "2026-11-23T15:20:00+05:30", True),
        ("15:10", "2026-11-23T16:00:00+05:30", False),  # the close lies between
        ("15:45", "2026-11-23T16:30:00+05:30", True),
        ("15:45", "2026-11-23T16:50:00+05:30", False),  # older than its catchup of 1h
    ],
)
def test_after_downtime_a_run_is_made_up_within_its_catchup_and_its_stretch_of_the_day(
    anchor: str, back: str, started: bool
) -> None:
    task = spec("a", at(anchor))
    before = Desk([task], TABLE, "2026-11-23T15:00:00+05:30")
    desk = Desk([task], TABLE, back, history={"a": TaskHistory(before.now)})
    desk.until("2026-11-23T17:00:00+05:30")
    assert bool(desk.started) is started
    assert desk.accounted("a") == 1


def test_a_run_found_running_after_a_crash_is_failed_and_left_alone() -> None:
    task = spec("a", at("10:00"))
    before = Desk([task], TABLE, "2026-11-23T09:59:00+05:30", scripts={"a": endless})
    before.until("2026-11-23T10:05:00+05:30")
    desk = Desk([task], TABLE, "2026-11-23T10:06:00+05:30", history=before.crash())
    desk.until("2026-11-23T10:30:00+05:30")
    assert desk.started == []
    assert desk.outcomes("a") == [("10:00:00", "failed", "interrupted", 1)]


def test_if_interrupted_retry_makes_one_more_attempt() -> None:
    task = spec("a", at("10:00"), if_interrupted="retry")
    before = Desk([task], TABLE, "2026-11-23T09:59:00+05:30", scripts={"a": endless})
    before.until("2026-11-23T10:05:00+05:30")
    desk = Desk([task], TABLE, "2026-11-23T10:06:00+05:30", history=before.crash())
    assert [run.attempt for run in desk.started] == [2]


def test_keep_running_starts_and_stops_with_its_phases() -> None:
    task = spec("feed", KeepRunning(frozenset({"pre-open", "open"})))
    desk = Desk([task], TABLE, "2026-11-23T08:00:00+05:30", scripts={"feed": endless})
    desk.until("2026-11-23T20:00:00+05:30")
    assert desk.starts("feed") == ["2026-11-23T09:00:00+05:30"]
    assert desk.outcomes("feed") == [("09:00:00", "completed", "phase-ended", 1)]


def test_keep_running_is_taken_up_in_mid_phase_and_again_after_a_crash() -> None:
    task = spec("feed", KeepRunning(frozenset({"open"})))
    desk = Desk([task], TABLE, "2026-11-23T12:00:00+05:30", scripts={"feed": endless})
    assert desk.starts("feed") == ["2026-11-23T09:15:00+05:30"]
    again = Desk([task], TABLE, "2026-11-23T12:05:00+05:30", history=desk.crash())
    assert [(run.attempt, run.due) for run in again.started] == [(2, instant("2026-11-23T09:15:00+05:30"))]


def test_keep_running_that_ends_by_itself_is_started_again_by_policy_always() -> None:
    task = spec("feed", KeepRunning(), **CRITICAL)
    desk = Desk([task], TABLE, "2026-11-23T12:00:00+05:30", scripts={"feed": ok(1)})
    desk.until("2026-11-23T12:00:12+05:30")
    assert [run.attempt for run in desk.started] == [1, 2, 3, 4]  # at 0, 2, 5 and 10 s


def test_keep_running_up_for_a_minute_is_healthy_again() -> None:
    task = spec("feed", KeepRunning(), **CRITICAL)
    desk = Desk([task], TABLE, "2026-11-23T12:00:00+05:30", scripts={"feed": bad(61)})
    desk.until("2026-11-23T12:05:00+05:30")
    assert {fields["delay"] for fields in desk.fields("task.restarting")} == {"1s"}


def test_an_after_run_inherits_the_due_of_its_upstream() -> None:
    specs = [spec("up", at("10:00")), spec("down", After("up"))]
    desk = Desk(specs, TABLE, "2026-11-23T09:59:00+05:30", scripts={"up": ok(7)})
    desk.until("2026-11-23T10:01:00+05:30")
    assert desk.starts("down") == ["2026-11-23T10:00:00+05:30"]
    assert desk.outcomes("down") == [("10:00:00", "completed", "", 1)]


def test_an_after_run_is_skipped_when_its_upstream_failed_for_good() -> None:
    specs = [spec("up", at("10:00"), restart=NEVER), spec("down", After("up")), spec("last", After("down"))]
    desk = Desk(specs, TABLE, "2026-11-23T09:59:00+05:30", scripts={"up": bad()})
    desk.until("2026-11-23T10:01:00+05:30")
    assert desk.outcomes("down") == desk.outcomes("last") == [("10:00:00", "skipped", "upstream", 1)]


def test_an_after_run_waits_for_the_retries_of_its_upstream() -> None:
    specs = [spec("up", at("10:00")), spec("down", After("up"))]
    desk = Desk(specs, TABLE, "2026-11-23T09:59:00+05:30", scripts={"up": fails_first(2)})
    desk.until("2026-11-23T10:01:00+05:30")
    assert desk.outcomes("down") == [("10:00:00", "completed", "", 1)]


def test_missed_runs_of_an_upstream_are_missed_by_what_comes_after() -> None:
    specs = [spec("up", PACE, catchup=SECOND), spec("down", After("up"))]
    desk = Desk(specs, TABLE, "2026-11-23T10:00:01+05:30").sleep("2026-11-23T10:00:33+05:30")
    desk.until("2026-11-23T10:00:34+05:30")
    assert desk.outcomes("down") == desk.outcomes("up")
    assert desk.accounted("down") == 6


def test_an_upstream_that_completed_just_before_a_crash_still_starts_what_comes_after() -> None:
    specs = [spec("up", at("10:00", "11:00")), spec("down", After("up"))]
    before = Desk(specs, TABLE, "2026-11-23T09:59:00+05:30").until("2026-11-23T11:01:00+05:30")
    history = before.crash()
    rows = [r for r in before.rows.values() if r.task == "down"]
    history["down"] = history["down"]._replace(latest=min(rows, key=lambda r: r.due))
    desk = Desk(specs, TABLE, "2026-11-23T11:02:00+05:30", history=history)
    assert desk.starts("down") == ["2026-11-23T11:00:00+05:30"]


def test_an_on_task_runs_at_the_instant_of_its_cause_and_knows_it() -> None:
    specs = [spec("a", PACE), spec("page", On(("task.parked",)))]
    desk = Desk(specs, TABLE, "2026-11-23T10:00:01+05:30", scripts={"a": bad(0)})
    desk.until("2026-11-23T10:00:20+05:30")
    page = [run for run in desk.started if run.task == "page"]
    assert [(run.event, run.subject, run.due) for run in page] == [
        ("task.parked", "a", instant("2026-11-23T10:00:08+05:30"))
    ]


def test_an_on_task_never_listens_to_itself() -> None:
    desk = Desk(
        [spec("page", On(("run.failed",)))], TABLE, "2026-11-23T10:00:00+05:30", scripts={"page": bad()}
    )
    desk.tell(Happened("run.failed", "error", {"task": "other"}))
    desk.until("2026-11-23T10:30:00+05:30")
    assert {run.subject for run in desk.started} == {"other"}


def test_two_on_tasks_that_skip_each_other_come_to_rest() -> None:
    specs = [spec("a", On(("run.skipped",))), spec("b", On(("run.skipped",)))]
    desk = Desk(specs, TABLE, "2026-11-23T10:00:00+05:30", scripts={"a": endless, "b": endless})
    for _ in range(3):
        desk.tell(Happened("run.skipped", "info", {"task": "other"}))
    assert len(desk.started) == 2


def test_the_slots_reserved_for_critical_are_not_given_to_others() -> None:
    others = [spec(f"o{n}", at("10:00")) for n in range(4)]
    specs = [*others, spec("z", at("10:01"), **CRITICAL)]
    desk = Desk(
        specs, TABLE, "2026-11-23T09:59:00+05:30",
        scripts=dict.fromkeys(["o0", "o1", "o2", "o3"], ok(600)), admission=Admission(slots=3, reserved=1),
    )  # fmt: skip
    desk.until("2026-11-23T10:02:00+05:30")
    assert [run.task for run in desk.started] == ["o0", "o1", "z"]
    desk.until("2026-11-23T10:15:00+05:30")
    assert [run.task for run in desk.started] == ["o0", "o1", "z", "o2", "o3"]


def test_a_run_that_gets_no_slot_in_its_time_is_skipped_for_it() -> None:
    specs = [spec("a", at("10:00")), spec("b", at("10:00"), catchup=MINUTE)]
    desk = Desk(
        specs, TABLE, "2026-11-23T09:59:00+05:30", scripts={"a": endless}, admission=Admission(1, 0)
    ).until("2026-11-23T10:05:00+05:30")
    assert desk.outcomes("b") == [("10:00:00", "skipped", "no-slot", 1)]


def test_under_load_the_lesser_are_shed_first_and_critical_never() -> None:
    specs = [
        spec("c", PACE, **CRITICAL),
        spec("i", PACE),
        spec("n", PACE, priority=Priority.NICE_TO_HAVE),
    ]
    desk = Desk(specs, TABLE, "2026-11-23T10:00:01+05:30")
    desk.tell(LoopLag(300 * MILLISECOND))
    desk.until("2026-11-23T10:00:06+05:30").tell(LoopLag(1100 * MILLISECOND))
    desk.until("2026-11-23T10:00:11+05:30").tell(LoopLag(400 * MILLISECOND))  # below half of a second
    desk.until("2026-11-23T10:00:16+05:30").tell(LoopLag(100 * MILLISECOND))
    desk.until("2026-11-23T10:00:21+05:30")
    assert [len(desk.starts(task)) for task in "cin"] == [4, 3, 1]
    assert ("10:00:05", "skipped", "shed", 3) in desk.outcomes("n")
    assert desk.events("load.normal", "load.shedding") == ["load.shedding"] * 3 + ["load.normal"]


def test_a_thread_that_timed_out_keeps_its_slot_and_bars_its_task_until_it_returns() -> None:
    desk = Desk(
        [spec("a", PACE, restart=NEVER), spec("b", at("10:00"))], TABLE, "2026-11-23T10:00:01+05:30",
        scripts={"a": endless}, admission=Admission(1, 0),
    )  # fmt: skip
    desk.until("2026-11-23T10:00:07+05:30")
    run = desk.started[0]
    desk.tell(RunEnded(run, Status.FAILED, "timeout", "timed out", lingering=True))
    desk.until("2026-11-23T10:00:12+05:30")
    assert desk.outcomes("a")[-1] == ("10:00:10", "skipped", "overlap", 1)
    assert desk.events("task.leaked") == ["task.leaked"]
    desk.tell(RunReturned(run))
    desk.until("2026-11-23T10:00:16+05:30")
    assert desk.outcomes("a")[-1] == ("10:00:15", "running", "", 1)


def test_a_task_whose_callable_cannot_be_imported_is_parked_and_its_runs_accounted() -> None:
    specs = [spec("a", PACE), spec("b", PACE)]
    desk = Desk(specs, TABLE, "2026-11-23T10:00:01+05:30", refused={"a": "No module named 'desk'"})
    desk.until("2026-11-23T10:00:11+05:30")
    assert desk.outcomes("a") == [("10:00:05", "skipped", "parked", 2)]
    assert len(desk.starts("b")) == 2
    assert desk.fields("task.parked")[0]["reason"] == "No module named 'desk'"


def test_a_pause_ends_by_itself_and_its_runs_are_one_row() -> None:
    desk = Desk([spec("a", PACE)], TABLE, "2026-11-23T10:00:01+05:30")
    desk.tell(PauseRequested("a", until=instant("2026-11-23T10:00:22+05:30")))
    desk.until("2026-11-23T10:00:26+05:30")
    assert desk.outcomes("a") == [("10:00:05", "skipped", "paused", 4), ("10:00:25", "completed", "", 1)]


def test_a_manual_run_is_due_at_its_instant_even_when_the_task_is_paused() -> None:
    desk = Desk([spec("a", PACE)], TABLE, "2026-11-23T10:00:01+05:30")
    desk.tell(PauseRequested("a"))
    desk.tell(RunNow("a"))
    assert [(run.cause, run.due) for run in desk.started] == [
        (Cause.MANUAL, instant("2026-11-23T10:00:01+05:30"))
    ]
    with pytest.raises(UnknownTaskError):
        desk.tell(RunNow("nobody"))


def test_restart_with_restarts_the_consumer_when_its_feed_restarts() -> None:
    specs = [
        spec("feed", KeepRunning(), **CRITICAL),
        spec("consumer", KeepRunning(), restart_with="feed"),
    ]
    feed = lambda run: bad()(run) if run.attempt == 1 else endless(run)  # noqa: E731 - a script in one line
    desk = Desk(specs, TABLE, "2026-11-23T12:00:00+05:30", scripts={"feed": feed, "consumer": endless})
    desk.until("2026-11-23T12:00:05+05:30")
    assert [(run.task, run.attempt) for run in desk.started] == [
        ("feed", 1), ("consumer", 1), ("feed", 2), ("consumer", 2),
    ]  # fmt: skip


def test_an_operator_restarts_a_running_task_at_once() -> None:
    desk = Desk([spec("feed", KeepRunning())], TABLE, "2026-11-23T12:00:00+05:30", scripts={"feed": endless})
    desk.tell(RestartRequested("feed"))
    desk.until("2026-11-23T12:00:00.001+05:30")
    assert [run.attempt for run in desk.started] == [1, 2]


def test_stopping_cancels_loops_at_once_and_others_after_their_grace() -> None:
    specs = [spec("feed", KeepRunning()), spec("report", at("12:00"))]
    desk = Desk(specs, TABLE, "2026-11-23T12:00:00+05:30", scripts={"feed": endless, "report": endless})
    desk.tell(StopRequested())
    assert [stop.run.task for stop in desk.stopped] == ["feed"]
    desk.until("2026-11-23T12:00:11+05:30")
    assert [stop.run.task for stop in desk.stopped] == ["feed", "report"]
    assert desk.outcomes("report") == [("12:00:00", "cancelled", "stopped", 1)]


def test_what_comes_due_while_stopping_is_missed() -> None:
    specs = [spec("a", PACE), spec("slow", at("10:00"))]
    desk = Desk(specs, TABLE, "2026-11-23T10:00:00+05:30", scripts={"slow": endless})
    desk.tell(StopRequested())
    desk.until("2026-11-23T10:00:06+05:30")
    assert desk.outcomes("a")[-1] == ("10:00:05", "missed", "stopped", 1)


def test_a_reload_touches_only_what_changed() -> None:
    same, changed, gone = spec("same", PACE), spec("changed", PACE), spec("gone", PACE)
    desk = Desk([same, changed, gone], TABLE, "2026-11-23T10:00:01+05:30", scripts={"same": ok(20)})
    desk.until("2026-11-23T10:00:07+05:30")
    slower = spec("changed", Every({"open": 10 * SECOND}))
    desk.tell(Configure((same, slower, spec("new", PACE)), {"NSE": TABLE}))
    desk.until("2026-11-23T10:00:21+05:30")
    assert desk.outcomes("same") == [("10:00:05", "running", "", 1), ("10:00:10", "skipped", "overlap", 3)]
    assert desk.starts("changed")[1:] == ["2026-11-23T10:00:10+05:30", "2026-11-23T10:00:20+05:30"]
    assert desk.starts("gone") == ["2026-11-23T10:00:05+05:30"]
    assert desk.starts("new")[0] == "2026-11-23T10:00:10+05:30"


def test_a_changed_keep_running_task_is_restarted_with_its_new_definition() -> None:
    desk = Desk([spec("feed", KeepRunning())], TABLE, "2026-11-23T12:00:00+05:30", scripts={"feed": endless})
    desk.tell(Configure((spec("feed", KeepRunning(), timeout=HOUR),), {"NSE": TABLE}))
    desk.until("2026-11-23T12:00:01+05:30")
    assert [run.attempt for run in desk.started] == [1, 2]
    assert desk.outcomes("feed")[0][1:3] == ("cancelled", "reloaded")


def test_a_changed_definition_ends_the_parking() -> None:
    desk = Desk([spec("a", PACE)], TABLE, "2026-11-23T10:00:01+05:30", scripts={"a": bad(0)})
    desk.until("2026-11-23T10:01:01+05:30")
    desk.scripts["a"] = ok()
    desk.tell(Configure((spec("a", PACE, timeout=HOUR),), {"NSE": TABLE}))
    desk.until("2026-11-23T10:01:06+05:30")
    assert desk.outcomes("a")[-1] == ("10:01:05", "completed", "", 1)


def test_a_changed_calendar_holds_for_what_is_due_after_the_change() -> None:
    task = spec("a", PACE)
    desk = Desk([task], TABLE, "2026-11-25T09:59:56+05:30").until("2026-11-25T10:00:02+05:30")
    closed = nse_week(changes={"2026-11-25": None})
    desk.tell(Configure((task,), {"NSE": closed}))
    desk.until("2026-11-25T10:03:00+05:30")
    assert desk.starts("a") == [
        "2026-11-25T10:00:00+05:30", "2026-11-25T10:01:00+05:30", "2026-11-25T10:02:00+05:30",
    ]  # fmt: skip
    versions = [row.calendar for _, row in sorted(desk.rows.items())]
    assert versions == [TABLE.version, closed.version, closed.version]


def test_a_run_in_flight_keeps_its_calendar_whatever_changes_meanwhile() -> None:
    task = spec("a", PACE, overlap=Overlap.QUEUE_ONE)
    desk = Desk([task], TABLE, "2026-11-25T09:59:56+05:30", scripts={"a": ok(30)})
    desk.until("2026-11-25T10:00:06+05:30")
    longer = nse_week(changes={"2026-11-26": None})
    desk.tell(Configure((task,), {"NSE": longer}))
    desk.until("2026-11-25T10:00:12+05:30")
    longest = nse_week(changes={"2026-11-26": None, "2026-11-27": None})
    desk.tell(Configure((task,), {"NSE": longest}))
    desk.until("2026-11-25T10:01:02+05:30")
    ran = {iso(row.due)[11:19]: row.calendar for row in desk.rows.values() if row.status == "completed"}
    assert ran["10:00:00"] == TABLE.version
    assert ran["10:00:30"] == longest.version
    skipped = {iso(row.due)[11:19]: row.calendar for row in desk.rows.values() if row.status == "skipped"}
    assert skipped["10:00:05"] == TABLE.version, "it was queued before the first change"
    assert skipped["10:00:10"] == longer.version, "and this one between the two"


def test_phase_changes_are_announced_with_their_end() -> None:
    desk = Desk([spec("a", at("10:00"))], TABLE, "2026-11-23T08:59:00+05:30")
    desk.until("2026-11-23T09:15:01+05:30")
    assert [(f["previous"], f["phase"], f["until"]) for f in desk.fields("market.phase_changed")] == [
        ("closed", "pre-open", instant("2026-11-23T09:15:00+05:30")),
        ("pre-open", "open", instant("2026-11-23T15:30:00+05:30")),
    ]


def test_fresh_within_alarms_while_runs_are_wanted_and_until_one_succeeds() -> None:
    task = spec("a", PACE, restart=NEVER, fresh_within=30 * SECOND)
    desk = Desk([task], TABLE, "2026-11-23T10:00:01+05:30", scripts={"a": bad()})
    desk.until("2026-11-23T10:01:00+05:30")
    assert desk.events("task.stale", "task.fresh") == ["task.stale"]
    desk.scripts["a"] = ok()
    desk.until("2026-11-23T10:01:02+05:30")
    assert desk.events("task.stale", "task.fresh") == ["task.stale", "task.fresh"]


def test_fresh_within_is_silent_where_the_pace_pauses() -> None:
    task = spec("a", Every({"open": 5 * SECOND, "closed": None}), fresh_within=30 * SECOND)
    desk = Desk([task], TABLE, "2026-11-23T15:29:00+05:30").until("2026-11-23T23:00:00+05:30")
    assert desk.events("task.stale") == []


def test_finish_by_alarms_when_the_run_is_not_done() -> None:
    task = spec("report", at("close+15m"), finish_by=parse_anchor("close+1h"))
    desk = Desk([task], TABLE, "2026-11-23T15:00:00+05:30", scripts={"report": endless})
    desk.until("2026-11-23T17:00:00+05:30")
    assert len(desk.fields("task.unfinished")) == 1
    done = Desk([task], TABLE, "2026-11-23T15:00:00+05:30").until("2026-11-23T17:00:00+05:30")
    assert done.fields("task.unfinished") == []


def test_every_due_run_of_a_bad_day_is_accounted_for() -> None:
    specs = [
        spec("pace", PACE, **CRITICAL),
        spec("slow", Every({"open": 30 * SECOND, "closed": 300 * SECOND})),
        spec("nice", Every({"open": 60 * SECOND, "closed": None}), restart=NEVER),
        spec("cron", Cron("*/15 9-15 * * *", TABLE.zone)),
    ]
    scripts = {"pace": fails_first(40), "slow": ok(45), "nice": bad()}
    desk = Desk(specs, TABLE, "2026-11-23T08:00:00+05:30", scripts=scripts)
    desk.until("2026-11-23T11:00:00+05:30").sleep("2026-11-23T12:00:00+05:30")
    desk.until("2026-11-23T16:30:00.5+05:30")
    for task in specs:
        due = task.trigger.count_between(instant("2026-11-23T08:00:00+05:30"), desk.now, TABLE)
        running = sum(row.task == task.name and row.status is Status.RUNNING for row in desk.rows.values())
        assert due == desk.accounted(task.name) + running, task.name


def test_on_a_market_that_never_closes_a_loop_is_not_restarted_at_midnight() -> None:
    table = always("2026-11-20", "2026-11-30")
    task = spec("feed", KeepRunning(frozenset({"open"})), market="always")
    desk = Desk([task], table, "2026-11-23T12:00:00+05:30", scripts={"feed": endless})
    desk.until("2026-11-26T12:00:00+05:30")
    assert len(desk.started) == 1
