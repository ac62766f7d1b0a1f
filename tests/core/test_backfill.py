"""Runs of the past that an operator wants made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.admission import Admission
from scheduler.core.backfill import wanted
from scheduler.core.messages import (
    MINUTE,
    SECOND,
    BackfillRequested,
    CancelRequested,
    Cause,
    ClockStepped,
    Configure,
    Past,
    PauseRequested,
    Priority,
    RestartRequested,
    ResumeRequested,
    StartRun,
    Status,
    StopRequested,
)
from scheduler.core.triggers import After, At, Every, KeepRunning, parse_anchor
from tests.core.desk import ALWAYS, NEVER, Desk, bad, endless, ok, spec
from tests.core.tables import nse_week
from tests.helpers import instant, iso

TABLE = nse_week()
TEN = "2026-11-23T10:00:00+05:30"
REPORT = At((parse_anchor("close+15m"),))
PACE = Every({"open": 10 * SECOND})


def dues(*times: str) -> tuple[int, ...]:
    """Of Monday the 23rd."""
    return tuple(instant(f"2026-11-23T{time}+05:30") for time in times)


def past_of(desk: Desk) -> dict[str, Past]:
    """What a ledger would say."""
    found = {}
    for task in desk.engine.tasks:
        rows = sorted((row for row in desk.rows.values() if row.task == task), key=lambda row: row.attempt)
        done = frozenset(row.due for row in rows if row.status is Status.COMPLETED)
        found[task] = Past({row.due: row.attempt for row in rows}, done)
    return found


def known(*times: str, completed: tuple[str, ...] = ()) -> Past:
    """Dues of which one attempt was made."""
    return Past(dict.fromkeys(dues(*times, *completed), 1), frozenset(dues(*completed)))


def test_dues_of_the_past_are_made_in_their_order_and_one_at_a_time() -> None:
    desk = Desk([spec("eod", REPORT)], TABLE, TEN, scripts={"eod": ok(7)})
    desk.tell(BackfillRequested("eod", dues("09:20:00", "09:30:00", "09:40:00")))
    desk.until("2026-11-23T10:00:08+05:30")
    assert [row[:2] for row in desk.outcomes("eod")] == [("09:20:00", "completed"), ("09:30:00", "running")]
    desk.until("2026-11-23T10:01:00+05:30")
    assert [run.cause for run in desk.started] == [Cause.BACKFILL] * 3
    assert desk.fields("backfill.started") == [{"task": "eod", "runs": 3}]
    assert desk.fields("backfill.ended") == [{"task": "eod", "completed": 3, "failed": 0, "left": 0}]


def test_a_backfilled_run_is_on_the_disk_before_it_starts_even_of_a_pace() -> None:
    desk = Desk([spec("a", PACE)], TABLE, "2026-11-23T10:00:01+05:30")
    past = {"a": Past({dues("09:20:00")[0]: 2}, frozenset())}
    actions = desk.engine.handle(BackfillRequested("a", dues("09:20:00"), past), desk.now)
    (start,) = [action for action in actions if isinstance(action, StartRun)]
    assert start.durable
    assert start.run.attempt == 3


def test_a_failing_backfill_says_nothing_about_the_tasks_health_and_is_not_tried_again() -> None:
    desk = Desk([spec("eod", REPORT)], TABLE, TEN, scripts={"eod": bad(1)})
    desk.tell(BackfillRequested("eod", dues("09:20:00", "09:30:00", "09:40:00", "09:50:00")))
    desk.until("2026-11-23T10:10:00+05:30")
    assert [row[:3] for row in desk.outcomes("eod")] == [
        (f"09:{minute}:00", "failed", "error") for minute in (20, 30, 40, 50)
    ]
    assert not desk.events("task.restarting", "task.parked", "task.crash_looping")
    assert len(desk.fields("run.failed")) == 4
    assert desk.engine.tasks["eod"].supervisor.consecutive == 0
    assert desk.fields("backfill.ended") == [{"task": "eod", "completed": 0, "failed": 4, "left": 0}]


def test_a_completed_backfill_makes_no_task_fresh_that_is_stale_now() -> None:
    desk = Desk([spec("eod", REPORT)], TABLE, TEN)
    desk.tell(BackfillRequested("eod", dues("09:20:00")))
    desk.until("2026-11-23T10:00:01+05:30")
    assert desk.engine.tasks["eod"].success is None


def test_what_comes_after_a_backfilled_run_is_made_too_but_only_if_it_completes() -> None:
    fails = lambda run: bad(1)(run) if run.due == dues("09:30:00")[0] else ok(1)(run)  # noqa: E731 - a script
    chain = [spec("up", REPORT), spec("down", After("up")), spec("last", After("down"))]
    desk = Desk(chain, TABLE, TEN, scripts={"up": fails})
    desk.tell(BackfillRequested("up", dues("09:20:00", "09:30:00", "09:40:00")))
    desk.until("2026-11-23T10:01:00+05:30")
    for task in ("down", "last"):
        assert [row[:2] for row in desk.outcomes(task)] == [
            ("09:20:00", "completed"),
            ("09:40:00", "completed"),
        ]
    assert {run.cause for run in desk.started} == {Cause.BACKFILL}


def test_ordinary_runs_go_on_between_backfilled_ones_and_each_due_has_its_outcome() -> None:
    desk = Desk([spec("a", PACE)], TABLE, "2026-11-23T10:00:01+05:30", scripts={"a": ok(4)})
    desk.tell(BackfillRequested("a", dues(*(f"09:{minute}:00" for minute in range(20, 50)))))
    desk.until("2026-11-23T10:05:01+05:30")
    ordinary = [row for row in desk.outcomes("a") if row[0] > "10:00:01"]
    assert sum(count for *_, count in ordinary) == 30
    assert len([row for row in desk.outcomes("a") if row[0] < "10:00:01" and row[1] == "completed"]) == 30


def test_a_backfill_waits_while_its_task_is_paused_and_goes_on_when_that_is_over() -> None:
    desk = Desk([spec("eod", REPORT)], TABLE, TEN)
    desk.tell(PauseRequested("eod"))
    desk.tell(BackfillRequested("eod", dues("09:20:00")))
    desk.until("2026-11-23T10:05:00+05:30")
    assert desk.started == []
    desk.tell(ResumeRequested("eod"))
    desk.until("2026-11-23T10:05:02+05:30")
    assert [run.due for run in desk.started] == [*dues("09:20:00")]


def test_a_backfill_takes_no_slot_that_is_kept_for_critical_tasks() -> None:
    specs = [spec("busy", At((parse_anchor("10:00"),))), spec("eod", REPORT, priority=Priority.CRITICAL)]
    desk = Desk(specs, TABLE, TEN, scripts={"busy": ok(30)}, admission=Admission(2, 1))
    desk.tell(BackfillRequested("eod", dues("09:20:00")))
    desk.until("2026-11-23T10:00:29+05:30")
    assert desk.starts("eod") == []
    desk.until("2026-11-23T10:00:36+05:30")
    assert desk.starts("eod") == ["2026-11-23T09:20:00+05:30"]


def test_a_backfill_that_waits_does_not_wait_longer_when_the_clock_is_set_back() -> None:
    desk = Desk([spec("eod", REPORT)], TABLE, TEN)
    desk.tell(PauseRequested("eod"))
    desk.tell(BackfillRequested("eod", dues("09:20:00")))
    desk.tell(ResumeRequested("eod"))
    desk.now = instant("2026-11-23T09:50:00+05:30")
    desk.tell(ClockStepped(-10 * MINUTE))
    desk.until("2026-11-23T09:50:02+05:30")
    assert len(desk.started) == 1


def test_a_second_request_adds_to_what_the_first_has_left_and_nothing_is_made_twice() -> None:
    desk = Desk([spec("eod", REPORT)], TABLE, TEN, scripts={"eod": ok(10)})
    desk.tell(BackfillRequested("eod", dues("09:20:00", "09:30:00")))
    desk.tell(BackfillRequested("eod", dues("09:20:00", "09:30:00", "09:40:00")))
    desk.until("2026-11-23T10:01:00+05:30")
    assert [start[11:16] for start in desk.starts("eod")] == ["09:20", "09:30", "09:40"]
    assert [fields["runs"] for fields in desk.fields("backfill.started")] == [2, 1]


def test_an_operator_ends_a_backfill_and_the_run_under_way_ends_by_itself() -> None:
    desk = Desk([spec("eod", REPORT)], TABLE, TEN, scripts={"eod": ok(10)})
    desk.tell(BackfillRequested("eod", dues("09:20:00", "09:30:00")))
    desk.tell(BackfillRequested("eod", ()))
    desk.until("2026-11-23T10:01:00+05:30")
    assert desk.starts("eod") == ["2026-11-23T09:20:00+05:30"]
    assert desk.fields("backfill.ended")[0]["reason"] == "ended by an operator"


def test_one_cancelled_run_of_a_backfill_does_not_end_the_others() -> None:
    desk = Desk([spec("eod", REPORT)], TABLE, TEN, scripts={"eod": endless})
    desk.tell(BackfillRequested("eod", dues("09:20:00", "09:30:00")))
    desk.tell(CancelRequested(desk.started[0].run_id))
    desk.until("2026-11-23T10:00:01+05:30")
    assert [row[:3] for row in desk.outcomes("eod")] == [
        ("09:20:00", "cancelled", "operator"), ("09:30:00", "running", ""),
    ]  # fmt: skip


def test_a_stop_ends_a_backfill_and_says_how_much_is_left() -> None:
    desk = Desk([spec("eod", REPORT)], TABLE, TEN, scripts={"eod": ok(5)})
    desk.tell(BackfillRequested("eod", dues("09:20:00", "09:30:00", "09:40:00")))
    desk.tell(StopRequested())
    desk.until("2026-11-23T10:01:00+05:30")
    assert len(desk.started) == 1
    (ended,) = desk.fields("backfill.ended")
    assert (ended["left"], ended["reason"]) == (2, "the scheduler stops")


def test_a_backfill_ends_with_its_task() -> None:
    desk = Desk([spec("eod", REPORT)], TABLE, TEN, scripts={"eod": ok(5)})
    desk.tell(BackfillRequested("eod", dues("09:20:00", "09:30:00")))
    desk.tell(Configure((), {"NSE": TABLE}))
    desk.until("2026-11-23T10:01:00+05:30")
    assert len(desk.started) == 1
    assert desk.fields("backfill.ended")[0]["reason"] == "the task is removed"


def test_a_backfilled_run_that_a_crash_interrupts_has_failed_and_nothing_follows_from_it() -> None:
    specs = [spec("up", REPORT, if_interrupted="retry"), spec("down", After("up"))]
    before = Desk(specs, TABLE, TEN, scripts={"up": endless})
    before.tell(BackfillRequested("up", dues("09:59:00"), {"up": known("09:59:00")}))
    before.until("2026-11-23T10:00:05+05:30")
    desk = Desk(specs, TABLE, "2026-11-23T10:00:06+05:30", history=before.crash())
    desk.until("2026-11-23T10:01:00+05:30")
    assert [row[:3] for row in desk.outcomes("up")] == [("09:59:00", "failed", "interrupted")]
    assert desk.outcomes("down") == []
    assert desk.started == []


def test_what_is_under_way_further_up_the_chain_is_not_made_ahead_of_it() -> None:
    chain = [spec("up", PACE), spec("down", After("up"))]
    desk = Desk(chain, TABLE, TEN, scripts={"up": ok(5)})
    desk.until("2026-11-23T10:00:01+05:30")
    desk.tell(BackfillRequested("down", dues("10:00:00")))
    desk.until("2026-11-23T10:00:09+05:30")
    assert [(run.due, run.attempt, run.cause) for run in desk.started if run.task == "down"] == [
        (dues("10:00:00")[0], 1, Cause.AFTER)
    ]


@pytest.mark.parametrize("order", [("up", "down"), ("down", "up")])
@pytest.mark.parametrize("lasts", [2, 5])
def test_a_chain_that_is_backfilled_from_both_ends_makes_each_due_once(
    order: tuple[str, str], lasts: int
) -> None:
    chain = [spec("up", REPORT), spec("down", After("up"))]
    desk = Desk(chain, TABLE, TEN, scripts={"up": ok(3), "down": ok(lasts)})
    for task in order:
        desk.tell(BackfillRequested(task, dues("09:20:00", "09:30:00")))
    desk.until("2026-11-23T10:02:00+05:30")
    for task in ("up", "down"):
        starts = [(run.due, run.attempt) for run in desk.started if run.task == task]
        assert starts == [(due, 1) for due in dues("09:20:00", "09:30:00")]


def test_what_comes_after_and_has_completed_before_is_not_made_again() -> None:
    chain = [spec("up", REPORT), spec("down", After("up"))]
    desk = Desk(chain, TABLE, TEN)
    past = {"up": known("09:20:00", "09:30:00"), "down": known("09:30:00", completed=("09:20:00",))}
    desk.tell(BackfillRequested("up", dues("09:20:00", "09:30:00"), past))
    desk.until("2026-11-23T10:01:00+05:30")
    assert [(run.due, run.attempt) for run in desk.started if run.task == "down"] == [
        (dues("09:30:00")[0], 2)
    ]


def test_a_tick_that_meets_a_backfilled_run_waits_for_it_and_is_not_skipped() -> None:
    critical = spec("a", PACE, priority=Priority.CRITICAL)
    desk = Desk([critical], TABLE, "2026-11-23T10:00:01+05:30", scripts={"a": ok(6)})
    desk.tell(BackfillRequested("a", dues(*(f"09:{minute}:00" for minute in range(20, 50)))))
    desk.until("2026-11-23T10:10:01+05:30")
    live = [row for row in desk.outcomes("a") if row[0] > "10:00:01"]
    assert {row[1] for row in live} <= {"completed", "running", "skipped"}
    assert sum(count for _, status, _, count in live if status == "skipped") <= 1


def test_while_there_is_no_room_between_the_ordinary_runs_a_backfill_waits() -> None:
    desk = Desk([spec("a", PACE)], TABLE, "2026-11-23T15:29:01+05:30", scripts={"a": ok(6)})
    desk.tell(BackfillRequested("a", dues("09:20:00", "09:30:00", "09:40:00")))
    desk.until("2026-11-23T15:29:50+05:30")
    assert len([run for run in desk.started if run.cause is Cause.BACKFILL]) == 1
    desk.until("2026-11-23T15:31:00+05:30")
    assert len([run for run in desk.started if run.cause is Cause.BACKFILL]) == 3


def test_a_backfill_restarts_nobody_who_restarts_with_its_task() -> None:
    feed = spec("feed", KeepRunning(None), restart_with="eod", restart=ALWAYS)
    desk = Desk([spec("eod", REPORT), feed], TABLE, TEN, scripts={"feed": endless})
    desk.tell(BackfillRequested("eod", dues("09:20:00"), {"eod": known("09:20:00")}))
    desk.until("2026-11-23T10:01:00+05:30")
    assert [run.attempt for run in desk.started if run.task == "eod"] == [2]
    assert len(desk.starts("feed")) == 1


def test_a_task_that_is_redefined_as_a_loop_runs_once_its_backfilled_run_has_ended() -> None:
    desk = Desk([spec("a", REPORT)], TABLE, TEN, scripts={"a": ok(30)})
    desk.tell(BackfillRequested("a", dues("09:20:00", "09:30:00")))
    desk.tell(Configure((spec("a", KeepRunning(None), restart=ALWAYS),), {"NSE": TABLE}))
    desk.until("2026-11-23T10:00:31+05:30")
    assert [run.cause for run in desk.started] == [Cause.BACKFILL, Cause.TICK]
    assert desk.fields("backfill.ended")[0]["reason"] == "the task has changed"


def test_once_the_scheduler_stops_no_backfill_begins() -> None:
    desk = Desk([spec("eod", REPORT)], TABLE, TEN)
    desk.tell(StopRequested())
    desk.tell(BackfillRequested("eod", dues("09:20:00")))
    assert desk.started == []


def test_a_backfill_of_the_past_ends_no_alarm_and_one_of_the_latest_due_does() -> None:
    stale = spec("eod", At((parse_anchor("09:20"), parse_anchor("09:50"))), fresh_within=5 * MINUTE)
    desk = Desk([stale], TABLE, "2026-11-23T09:40:00+05:30", scripts={"eod": bad(1)})
    desk.until("2026-11-23T10:00:00+05:30")
    assert desk.events("task.stale") == ["task.stale"]
    desk.scripts["eod"] = ok(1)
    desk.tell(BackfillRequested("eod", dues("09:20:00"), {"eod": known("09:20:00")}))
    desk.until("2026-11-23T10:01:00+05:30")
    assert desk.events("task.fresh") == []
    desk.tell(BackfillRequested("eod", dues("09:50:00"), {"eod": known("09:50:00")}))
    desk.until("2026-11-23T10:02:00+05:30")
    assert desk.events("task.fresh") == ["task.fresh"]
    assert desk.engine.tasks["eod"].success == instant("2026-11-23T10:01:01+05:30")


def test_a_backfilled_run_that_is_restarted_is_made_again() -> None:
    desk = Desk([spec("eod", REPORT)], TABLE, TEN, scripts={"eod": ok(30)})
    desk.tell(BackfillRequested("eod", dues("09:20:00")))
    desk.tell(RestartRequested("eod"))
    desk.until("2026-11-23T10:01:30+05:30")
    assert [(run.due, run.attempt) for run in desk.started] == [(dues("09:20:00")[0], n) for n in (1, 2)]


def test_a_backfill_of_a_paused_task_wakes_nobody() -> None:
    desk = Desk([spec("eod", REPORT)], TABLE, TEN)
    desk.tell(PauseRequested("eod"))
    upcoming = desk.engine.wake_at()
    desk.tell(BackfillRequested("eod", dues("09:20:00")))
    assert desk.engine.wake_at() == upcoming


# Which dues are wanted.

HOURLY = Every({"*": 60 * MINUTE})


def hours(past: Past, first: str = "06:00:00", until: str = "10:00:00") -> tuple[list[str], int]:
    start, end = dues(first, until)
    found = wanted(HOURLY, TABLE, start, end, past)
    return [iso(due)[11:16] for due in found.dues], found.completed


def test_of_a_task_that_is_new_all_dues_are_wanted_as_if_it_had_been_there() -> None:
    assert hours(Past({}, frozenset())) == (["06:00", "07:00", "08:00", "09:00"], 0)


def test_what_completed_is_not_wanted_again() -> None:
    past = known("07:00:00", completed=("08:00:00",))
    assert hours(past) == (["06:00", "07:00", "09:00"], 1)


def test_under_an_older_definition_only_what_is_on_record_was_due() -> None:
    (began,), (since,) = dues("07:00:00"), dues("09:00:00")
    past = known("08:30:00", completed=("07:30:00",))._replace(began=began, since=since)
    assert hours(past) == (["06:00", "08:30", "09:00"], 1)


def test_a_stretch_is_wanted_where_its_number_is_that_of_the_present_trigger() -> None:
    (began,), (since,) = dues("05:00:00"), dues("10:00:00")
    first, last = dues("06:00:00", "08:00:00")
    fits = Past({}, frozenset(), ((first, last, 3),), began, since)
    assert hours(fits) == (["06:00", "07:00", "08:00"], 0)
    other = Past({}, frozenset(), ((first, last, 1441),), began, since)
    assert hours(other) == ([], 0)


@given(
    st.lists(st.integers(0, 200), min_size=1, max_size=6, unique=True),
    st.lists(st.tuples(st.integers(1, 120), st.integers(0, 20)), max_size=4),
    st.integers(1, 25),
)
def test_whatever_is_backfilled_when_the_ordinary_dues_have_one_outcome_each_and_no_attempt_starts_twice(
    past: list[int], requests: list[tuple[int, int]], seconds: int
) -> None:
    chain = [spec("a", PACE, restart=NEVER), spec("b", After("a"), restart=NEVER)]
    desk = Desk(chain, TABLE, "2026-11-23T10:00:01+05:30", scripts={"a": ok(seconds), "b": ok(3)})
    oldest = instant("2026-11-23T09:20:00+05:30")
    for at, count in sorted(requests):
        desk.until(f"2026-11-23T10:{(1 + at) // 60:02}:{(1 + at) % 60:02}+05:30")
        chosen = tuple(oldest + each * 10 * SECOND for each in sorted(past))
        desk.tell(BackfillRequested("a", chosen[:count], past_of(desk)))
    desk.until("2026-11-23T10:30:00+05:30")
    first, end = instant("2026-11-23T10:00:10+05:30"), instant("2026-11-23T10:29:00+05:30")
    for task in ("a", "b"):
        rows = [row for row in desk.rows.values() if row.task == task and row.due >= first]
        stretches = [range(row.due, (row.last_due or row.due) + 1, 10 * SECOND) for row in rows]
        accounted = sorted(due for dues in stretches for due in dues if due < end)
        assert accounted == list(range(first, end, 10 * SECOND))
    assert not [row for row in desk.rows.values() if row.due < first and not row.attempt]
    starts = [(run.task, run.due, run.attempt) for run in desk.started]
    assert len(starts) == len(set(starts))
