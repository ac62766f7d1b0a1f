"""Runs of the past that an operator wants made."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.admission import Admission
from scheduler.core.messages import (
    MINUTE,
    SECOND,
    BackfillRequested,
    CancelRequested,
    Cause,
    ClockStepped,
    Configure,
    PauseRequested,
    Priority,
    ResumeRequested,
    StartRun,
    StopRequested,
)
from scheduler.core.triggers import After, At, Every, parse_anchor
from tests.core.desk import NEVER, Desk, bad, endless, ok, spec
from tests.core.tables import nse_week
from tests.helpers import instant

TABLE = nse_week()
TEN = "2026-11-23T10:00:00+05:30"
REPORT = At((parse_anchor("close+15m"),))
PACE = Every({"open": 10 * SECOND})


def dues(*times: str, attempt: int = 1) -> tuple[tuple[int, int], ...]:
    """Of Monday the 23rd."""
    return tuple((instant(f"2026-11-23T{time}+05:30"), attempt) for time in times)


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
    actions = desk.engine.handle(BackfillRequested("a", dues("09:20:00", attempt=3)), desk.now)
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
    fails = lambda run: bad(1)(run) if run.due == dues("09:30:00")[0][0] else ok(1)(run)  # noqa: E731 - a script
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
    assert [run.due for run in desk.started] == [dues("09:20:00")[0][0]]


def test_a_backfill_takes_no_slot_that_is_kept_for_critical_tasks() -> None:
    specs = [spec("busy", At((parse_anchor("10:00"),))), spec("eod", REPORT, priority=Priority.CRITICAL)]
    desk = Desk(specs, TABLE, TEN, scripts={"busy": ok(30)}, admission=Admission(2, 1))
    desk.tell(BackfillRequested("eod", dues("09:20:00")))
    desk.until("2026-11-23T10:00:29+05:30")
    assert desk.starts("eod") == []
    desk.until("2026-11-23T10:00:32+05:30")
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


def test_a_request_takes_the_place_of_what_an_earlier_one_has_left() -> None:
    desk = Desk([spec("eod", REPORT)], TABLE, TEN, scripts={"eod": ok(10)})
    desk.tell(BackfillRequested("eod", dues("09:20:00", "09:30:00")))
    desk.tell(BackfillRequested("eod", dues("09:40:00")))
    desk.until("2026-11-23T10:01:00+05:30")
    assert desk.starts("eod") == ["2026-11-23T09:20:00+05:30", "2026-11-23T09:40:00+05:30"]
    assert desk.fields("backfill.ended")[0] == {
        "task": "eod", "completed": 0, "failed": 0, "left": 1, "reason": "replaced",
    }  # fmt: skip


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
    before.tell(BackfillRequested("up", dues("09:59:00", attempt=2)))
    before.until("2026-11-23T10:00:05+05:30")
    desk = Desk(specs, TABLE, "2026-11-23T10:00:06+05:30", history=before.crash())
    desk.until("2026-11-23T10:01:00+05:30")
    assert [row[:3] for row in desk.outcomes("up")] == [("09:59:00", "failed", "interrupted")]
    assert desk.outcomes("down") == []
    assert desk.started == []


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
    for attempt, (at, count) in enumerate(sorted(requests), start=1):
        desk.until(f"2026-11-23T10:{(1 + at) // 60:02}:{(1 + at) % 60:02}+05:30")
        wanted = tuple((oldest + each * 10 * SECOND, attempt) for each in sorted(past))
        desk.tell(BackfillRequested("a", wanted[:count]))
    desk.until("2026-11-23T10:30:00+05:30")
    first, end = instant("2026-11-23T10:00:10+05:30"), instant("2026-11-23T10:29:00+05:30")
    for task in ("a", "b"):
        rows = [row for row in desk.rows.values() if row.task == task and row.due >= first]
        stretches = [range(row.due, (row.last_due or row.due) + 1, 10 * SECOND) for row in rows]
        accounted = sorted(due for dues in stretches for due in dues if due < end)
        assert accounted == list(range(first, end, 10 * SECOND))
    assert not [row for row in desk.rows.values() if row.due < first and not row.attempt]
    starts = [(run.task, run.due, run.attempt) for run in desk.started if run.task == "a"]
    assert len(starts) == len(set(starts))
