"""The calendar changes under tasks that run, wait, or have ended: by an amendment, or the daily refresh."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.core.admission import Admission
from scheduler.core.market import MarketTable
from scheduler.core.messages import (
    HOUR,
    MINUTE,
    SECOND,
    Configure,
    Overlap,
    PauseRequested,
    Reason,
    RestartPolicy,
    ResumeRequested,
    RunNow,
    StopRequested,
    TaskHistory,
    TaskSpec,
)
from scheduler.core.triggers import After, At, Every, KeepRunning, On, parse_anchor
from tests.core.desk import ALWAYS, NEVER, ON_FAILURE, Desk, bad, endless, ok, spec
from tests.core.tables import ORDINARY, nse_week, table
from tests.core.test_horizon import past_horizon
from tests.helpers import instant, iso

TABLE = nse_week()
ANOTHER_DAY = nse_week(changes={"2026-11-27": None})
AND_ANOTHER = nse_week(changes={"2026-11-26": None, "2026-11-27": None})
CLOSES_AT_11 = nse_week(changes={"2026-11-23": [("pre-open", "09:00", "09:15"), ("open", "09:15", "11:00")]})
OPENED_AT_8 = nse_week(changes={"2026-11-23": [("open", "08:00", "15:30")]})
CLOSED_TODAY = nse_week(changes={"2026-11-23": None})
OPEN = KeepRunning(frozenset({"open"}))
EVERY_MINUTE = Every({"open": MINUTE})


def at(time: str) -> str:
    return f"2026-11-23T{time}+05:30"


def amend(desk: Desk, to: MarketTable, *tasks: TaskSpec) -> None:
    specs = tasks or tuple(state.spec for state in desk.engine.tasks.values())
    desk.table = to
    desk.tell(Configure(specs, {to.name: to}))


def rows(desk: Desk, task: str) -> list[tuple[str, int, str, str]]:
    found = sorted((r for r in desk.rows.values() if r.task == task), key=lambda r: (r.due, r.attempt))
    return [(iso(r.due)[11:16], r.attempt, str(r.status), str(r.reason)) for r in found]


def calendars(desk: Desk, task: str) -> list[str]:
    found = sorted((r for r in desk.rows.values() if r.task == task), key=lambda r: (r.due, r.attempt))
    return [r.calendar for r in found]


# Loops.


def one_slot(restart: RestartPolicy = ALWAYS) -> Desk:
    """The only slot is taken until 13:10, and a loop waits for it since 09:15."""
    tasks = [spec("hog", At((parse_anchor("09:10"),))), spec("loop", OPEN, restart=restart)]
    scripts = {"hog": ok(4 * 3600), "loop": endless}
    return Desk(tasks, TABLE, at("09:05:00"), scripts=scripts, admission=Admission(1, 0))


def test_a_loop_that_waits_is_not_started_where_its_phase_was_amended_away() -> None:
    desk = one_slot().until(at("11:30:00"))
    amend(desk, CLOSES_AT_11)
    desk.until(at("14:00:00"))
    assert rows(desk, "loop") == [("09:15", 0, "skipped", "no-slot")]
    assert desk.starts("loop") == []


def test_a_loop_that_waits_is_not_started_after_its_phase_was_shortened() -> None:
    desk = one_slot().until(at("10:30:00"))
    amend(desk, CLOSES_AT_11)
    desk.until(at("14:00:00"))
    assert rows(desk, "loop") == [("09:15", 0, "skipped", "no-slot")]
    assert desk.starts("loop") == []


def test_a_loop_that_runs_ends_when_its_phase_is_amended_away() -> None:
    desk = Desk([spec("loop", OPEN, restart=ALWAYS)], TABLE, at("09:05:00"), scripts={"loop": endless})
    amend(desk.until(at("11:30:00")), CLOSES_AT_11)
    desk.until(at("14:00:00"))
    assert rows(desk, "loop") == [("09:15", 1, "completed", "phase-ended")]


def test_a_loop_that_waits_is_due_anew_when_its_stretch_begins_earlier() -> None:
    desk = one_slot().until(at("10:30:00"))
    amend(desk, OPENED_AT_8)
    desk.until(at("14:00:00"))
    assert desk.starts("loop") == [at("08:00:00")]


@pytest.mark.parametrize("policy, script", [(ON_FAILURE, ok(60)), (NEVER, bad(60))])
def test_a_loop_that_has_ended_stays_ended_when_another_day_is_amended(
    policy: RestartPolicy, script: Any
) -> None:
    tasks = [spec("loop", OPEN, restart=policy), spec("then", After("loop"))]
    desk = Desk(tasks, TABLE, at("09:10:00"), scripts={"loop": script}).until(at("10:00:00"))
    before = dict(desk.rows)
    amend(desk, ANOTHER_DAY)
    desk.until(at("10:05:00"))
    assert desk.rows == before
    assert [run.attempt for run in desk.started if run.task == "loop"] == [1]


def test_a_loop_that_has_ended_begins_again_in_a_stretch_that_an_amendment_made() -> None:
    loop = spec("loop", KeepRunning(frozenset({"post-close"})), restart=ON_FAILURE)
    desk = Desk([loop], TABLE, at("09:10:00"), scripts={"loop": ok(60)}).until(at("10:00:00"))
    amend(
        desk, nse_week(changes={"2026-11-23": [("open", "09:15", "09:45"), ("post-close", "09:50", "12:00")]})
    )
    desk.until(at("10:05:00"))
    assert desk.starts("loop") == [at("09:50:00")]


def test_a_parked_loop_says_nothing_when_another_day_is_amended() -> None:
    tasks = [spec("loop", OPEN, restart=ON_FAILURE), spec("then", After("loop"))]
    desk = Desk(tasks, TABLE, at("09:10:00"), scripts={"loop": bad()}).until(at("10:00:00"))
    said = list(desk.said)
    for calendar in (ANOTHER_DAY, AND_ANOTHER):
        amend(desk, calendar)
    assert desk.said == said


def test_a_paused_loop_says_nothing_when_another_day_is_amended_and_comes_back_when_resumed() -> None:
    desk = Desk([spec("loop", OPEN, restart=ALWAYS)], TABLE, at("09:10:00"), scripts={"loop": endless})
    desk.until(at("10:00:00")).tell(PauseRequested("loop"))
    desk.until(at("10:01:00"))
    said = list(desk.said)
    amend(desk, ANOTHER_DAY)
    assert desk.said == said
    desk.tell(ResumeRequested("loop"))
    assert rows(desk, "loop") == [("09:15", 1, "cancelled", "paused"), ("09:15", 2, "running", "")]


def test_a_loop_that_completes_twice_in_a_stretch_gives_what_comes_after_it_two_attempts() -> None:
    tasks = [spec("loop", OPEN, restart=ON_FAILURE), spec("then", After("loop"))]
    desk = Desk(tasks, TABLE, at("09:10:00"), scripts={"loop": ok(60)}).until(at("10:00:00"))
    desk.tell(RunNow("loop"))
    desk.until(at("10:05:00"))
    assert rows(desk, "then") == [("09:15", 1, "completed", ""), ("09:15", 2, "completed", "")]


def test_a_loop_by_hand_on_a_refused_day_runs_until_it_is_stopped_and_a_refresh_leaves_it_alone() -> None:
    """The market refuses what the clock makes due, not an operator."""
    refusing = past_horizon("refuse")
    loop = spec("loop", OPEN, restart=ALWAYS)
    desk = Desk([loop], refusing, "2026-11-27T10:00:00+05:30", scripts={"loop": endless})
    desk.tell(RunNow("loop"))
    desk.until("2026-11-28T10:00:00+05:30")
    amend(desk, past_horizon("refuse", known=("2026-12-02",)))
    desk.until("2026-12-01T10:00:00+05:30")
    assert [run.cause for run in desk.started] == ["manual"]
    assert desk.engine.tasks["loop"].active == desk.started[0]
    desk.until("2026-12-02T16:00:00+05:30")  # the close of the first day that is not refused
    assert [(str(r.status), str(r.reason)) for r in desk.rows.values() if r.cause == "manual"] == [
        ("completed", "phase-ended")
    ]


def test_a_loop_that_always_runs_begins_again_where_the_refusal_ends() -> None:
    known = past_horizon("refuse", known=("2026-12-01",))
    desk = Desk([spec("loop", KeepRunning(), restart=ALWAYS)], known, "2026-11-26T23:00:00+05:30",
                scripts={"loop": endless})  # fmt: skip
    desk.until("2026-12-03T00:00:00+05:30")
    assert desk.starts("loop") == ["2026-11-26T23:00:00+05:30", "2026-12-01T00:00:00+05:30"]
    assert [row.ended and iso(row.ended) for row in desk.rows.values()] == [
        "2026-11-27T00:00:00+05:30",
        "2026-12-02T00:00:00+05:30",
    ]


# What waits is on record before the ledger expects it no more.


def waiting() -> Desk:
    """The run of 09:55 goes on; that of 09:56 waits for its end."""
    task = spec("a", EVERY_MINUTE, overlap=Overlap.QUEUE_ONE)
    return Desk([task], TABLE, at("09:54:30"), scripts={"a": ok(3600)}).until(at("09:56:30"))


def after_a_crash(desk: Desk, time: str, change: str | None = None) -> Desk:
    """Another scheduler on the same ledger, which expects what is due since a change."""
    since = instant(change) if change else 0
    history = {
        name: known._replace(expected_from=max(known.expected_from, since))
        for name, known in desk.crash().items()
    }
    specs = [state.spec for state in desk.engine.tasks.values()]
    return Desk(specs, desk.table, time, history=history, scripts=desk.scripts).on_the_ledger_of(desk)


def test_a_run_that_waits_is_on_record_when_the_calendar_changes() -> None:
    desk = waiting()
    assert rows(desk, "a") == [("09:55", 1, "running", "")]
    amend(desk, ANOTHER_DAY)
    amend(desk, AND_ANOTHER)
    assert rows(desk, "a") == [("09:55", 1, "running", ""), ("09:56", 0, "queued", "")]
    assert calendars(desk, "a") == [TABLE.version, TABLE.version]


@pytest.mark.parametrize("change", ["calendar", "definition"])
def test_a_run_that_waited_when_a_change_and_then_a_crash_came_is_made_up_in_its_own_row(change: str) -> None:
    desk = waiting()
    if change == "calendar":
        amend(desk, ANOTHER_DAY)
    else:
        amend(desk, TABLE, spec("a", EVERY_MINUTE, overlap=Overlap.QUEUE_ONE, timeout=HOUR))
    again = after_a_crash(desk.until(at("09:56:40")), at("09:56:50"), at("09:56:30"))
    again.until(at("09:56:55"))
    assert rows(again, "a") == [("09:55", 1, "failed", "interrupted"), ("09:56", 1, "running", "")]
    assert [run.cause for run in again.started] == ["catch-up"]


def test_a_run_that_waited_when_a_crash_came_is_missed_where_a_newer_one_is_made_up() -> None:
    desk = waiting()
    amend(desk, ANOTHER_DAY)
    again = after_a_crash(desk.until(at("09:56:40")), at("09:57:30"), at("09:56:30"))
    assert rows(again, "a") == [
        ("09:55", 1, "failed", "interrupted"),
        ("09:56", 0, "missed", "downtime"),
        ("09:57", 1, "running", ""),
    ]


def test_a_run_that_waited_when_a_crash_came_is_missed_where_it_is_too_late() -> None:
    task = spec(
        "a", At(tuple(map(parse_anchor, ("09:55", "09:56")))), overlap=Overlap.QUEUE_ONE, catchup=MINUTE
    )
    desk = Desk([task], TABLE, at("09:54:30"), scripts={"a": ok(3600)}).until(at("09:56:30"))
    amend(desk, ANOTHER_DAY)
    again = after_a_crash(desk.until(at("09:56:40")), at("09:58:00"), at("09:56:30"))
    assert rows(again, "a") == [("09:55", 1, "failed", "interrupted"), ("09:56", 0, "missed", "downtime")]
    assert again.fields("run.missed") == [
        {"task": "a", "due": instant(at("09:56:00")), "reason": Reason.DOWNTIME, "count": 1}
    ]


def test_what_is_on_record_as_waiting_and_skipped_after_all_has_one_row() -> None:
    desk = waiting()
    amend(desk, ANOTHER_DAY)
    desk.until(at("09:58:30"))
    assert rows(desk, "a") == [
        ("09:55", 1, "running", ""),
        ("09:56", 0, "skipped", "overlap"),
        ("09:57", 0, "skipped", "overlap"),
    ]
    desk.tell(StopRequested())
    assert rows(desk, "a")[-1] == ("09:58", 0, "missed", "stopped")


def test_what_is_on_record_as_waiting_and_missed_at_a_stop_has_one_row() -> None:
    desk = waiting()
    amend(desk, ANOTHER_DAY)
    desk.tell(StopRequested())
    assert rows(desk, "a") == [("09:55", 1, "running", ""), ("09:56", 0, "missed", "stopped")]


def test_what_is_on_record_as_waiting_starts_in_its_row() -> None:
    task = spec("a", EVERY_MINUTE, overlap=Overlap.QUEUE_ONE)
    desk = Desk([task], TABLE, at("09:54:30"), scripts={"a": ok(100)}).until(at("09:56:30"))
    amend(desk, ANOTHER_DAY)
    desk.until(at("09:57:00"))
    assert rows(desk, "a") == [("09:55", 1, "completed", ""), ("09:56", 1, "running", "")]


def test_what_waited_of_a_task_that_is_no_more_is_missed() -> None:
    desk = waiting()
    amend(desk, ANOTHER_DAY)
    history = desk.crash()
    again = Desk([], ANOTHER_DAY, at("09:58:00"), history=history)
    assert rows(again, "a") == [("09:55", 1, "failed", "interrupted"), ("09:56", 0, "missed", "downtime")]


def test_what_comes_after_a_run_that_waited_and_was_missed_is_missed_too() -> None:
    tasks = [spec("a", EVERY_MINUTE, overlap=Overlap.QUEUE_ONE, catchup=SECOND), spec("then", After("a"))]
    desk = Desk(tasks, TABLE, at("09:54:30"), scripts={"a": ok(3600)}).until(at("09:56:00.5"))
    amend(desk, ANOTHER_DAY)
    history = desk.crash() | {"then": TaskHistory(instant(at("09:54:30")))}
    again = Desk(tasks, ANOTHER_DAY, at("09:56:30"), history=history)
    assert rows(again, "then") == [("09:55", 0, "skipped", "upstream"), ("09:56", 0, "missed", "downtime")]


def test_a_retry_that_waits_for_a_slot_needs_no_row_of_its_own() -> None:
    tasks = [spec("a", At((parse_anchor("10:00"),))), spec("z", At((parse_anchor("10:00"),)))]
    scripts = {"a": bad(1), "z": ok(60)}
    desk = Desk(tasks, TABLE, at("10:00:00"), scripts=scripts, admission=Admission(slots=1, reserved=0))
    amend(desk.until(at("10:00:05")), ANOTHER_DAY)
    assert rows(desk, "a") == [("10:00", 1, "failed", "error")]


def test_a_run_that_waits_is_given_up_in_time_although_it_has_no_catch_up_to_speak_of() -> None:
    task = spec("a", At(tuple(map(parse_anchor, ("10:00", "10:01")))), overlap=Overlap.QUEUE_ONE, catchup=0)
    desk = Desk([task], TABLE, at("10:00:00"), scripts={"a": ok(3600)}).until(at("10:01:02"))
    assert rows(desk, "a") == [("10:00", 1, "running", ""), ("10:01", 0, "skipped", "overlap")]


def test_a_run_that_waits_may_wait_longer_where_its_stretch_was_made_longer_but_not_for_ever() -> None:
    task = spec("a", Every({"open": HOUR}), overlap=Overlap.QUEUE_ONE, catchup=2 * HOUR)
    desk = Desk([task], TABLE, at("14:10:00"), scripts={"a": ok(9 * 3600)}).until(at("15:20:00"))
    amend(desk, nse_week(changes={"2026-11-23": [("open", "09:15", "20:00")]}), task)
    desk.until(at("15:40:00"))
    queued = desk.engine.tasks["a"].queued
    assert queued is not None
    assert iso(queued.due) == at("15:15:00")
    amend(desk, CLOSED_TODAY)  # no newer run takes its place
    desk.until(at("23:00:00"))
    assert desk.engine.tasks["a"].queued is None


# Which calendar a run belongs to.


def test_what_comes_after_a_run_belongs_to_its_calendar_although_that_has_changed() -> None:
    tasks = [spec("up", Every({"open": 5 * MINUTE})), spec("down", After("up")), spec("last", After("down"))]
    desk = Desk(tasks, TABLE, at("10:04:59"), scripts={"up": ok(60)}).until(at("10:05:30"))
    amend(desk, CLOSES_AT_11)
    desk.until(at("10:11:30"))
    for task in ("up", "down", "last"):
        assert calendars(desk, task) == [TABLE.version, CLOSES_AT_11.version], task


def test_a_run_tried_again_belongs_to_the_calendar_that_it_was_due_by() -> None:
    desk = Desk([spec("a", At((parse_anchor("10:00"),)))], TABLE, at("10:00:00"), scripts={"a": bad(1)})
    amend(desk.until(at("10:00:00.5")), ANOTHER_DAY)
    amend(desk.until(at("10:00:01.5")), AND_ANOTHER)
    desk.until(at("10:00:10"))
    assert set(calendars(desk, "a")) == {TABLE.version}
    assert len(desk.started) > 2


def test_a_loop_that_runs_for_weeks_remembers_no_old_calendars() -> None:
    desk = Desk(
        [spec("loop", KeepRunning(), restart=ALWAYS)], TABLE, at("09:05:00"), scripts={"loop": endless}
    )
    for minute in range(10, 60):
        desk.until(at(f"10:{minute}:00"))
        amend(desk, nse_week(changes={"2026-11-30": [("open", "09:15", f"12:{minute}")]}))
    assert list(desk.engine.tasks["loop"].labels.values()) == [TABLE.version]


def test_a_run_found_after_a_crash_belongs_to_the_calendar_on_its_record() -> None:
    task = spec("a", EVERY_MINUTE, overlap=Overlap.QUEUE_ONE, if_interrupted="retry")
    desk = Desk([task], TABLE, at("09:54:30"), scripts={"a": ok(3600)}).until(at("09:56:30"))
    amend(desk, ANOTHER_DAY)
    again = after_a_crash(desk, at("09:56:50"), at("09:56:30"))
    assert set(calendars(again, "a")) == {TABLE.version}


# Alarms and phases.


def days_from_20th(number: int) -> MarketTable:
    dates = [f"2026-11-{20 + n}" if n < 11 else f"2026-12-{n - 10:02}" for n in range(number)]
    return table(
        "Asia/Kolkata", [(day, ORDINARY) for day in dates], first=dates[0], last=dates[-1], name="NSE"
    )


def test_a_task_to_be_fresh_within_more_than_a_day_is_stale_although_the_calendar_is_refreshed() -> None:
    task = spec("a", Every({"*": HOUR}), fresh_within=30 * HOUR, restart=NEVER)
    desk = Desk([task], days_from_20th(20), "2026-11-20T10:30:00+05:30", scripts={"a": bad()})
    for day in range(1, 6):
        amend(desk.until(f"2026-11-{20 + day}T10:30:00+05:30"), days_from_20th(20 + day))
    assert desk.events("task.stale") == ["task.stale"]


def test_a_task_that_is_stale_is_not_announced_again_when_the_calendar_is_refreshed() -> None:
    first = instant("2026-11-20T11:30:00+05:30")
    script = lambda run: ok()(run) if run.due < first else bad()(run)  # noqa: E731 - a script in one line
    task = spec("a", Every({"*": HOUR}), fresh_within=6 * HOUR, restart=NEVER)
    desk = Desk([task], days_from_20th(20), "2026-11-20T10:30:00+05:30", scripts={"a": script})
    for day in range(1, 4):
        amend(desk.until(f"2026-11-{20 + day}T10:30:00+05:30"), days_from_20th(20 + day))
        desk.until(f"2026-11-{20 + day}T10:30:01+05:30")
    assert desk.events("task.stale") == ["task.stale"]


def test_a_session_that_is_amended_in_is_watched_for_staleness() -> None:
    """The 24th is a holiday: nothing would be wanted before the 25th."""
    task = spec("a", Every({"open": HOUR}), fresh_within=2 * HOUR, restart=NEVER)
    noon = instant("2026-11-24T00:00:00+05:30")
    script = lambda run: ok()(run) if run.due < noon else bad()(run)  # noqa: E731 - as above
    desk = Desk([task], TABLE, at("09:00:00"), scripts={"a": script}).until(at("20:00:00"))
    amend(desk, nse_week(changes={"2026-11-24": ORDINARY}))
    desk.until("2026-11-24T12:00:00+05:30")
    assert desk.events("task.stale") == ["task.stale"]


def test_finish_by_goes_by_the_new_hours() -> None:
    task = spec("a", At((parse_anchor("09:30"),)), finish_by=parse_anchor("close"), restart=NEVER)
    desk = Desk([task], TABLE, at("09:00:00"), scripts={"a": bad()}).until(at("10:00:00"))
    amend(desk, CLOSES_AT_11)
    desk.until(at("11:00:01"))
    assert desk.events("task.unfinished") == ["task.unfinished"]


def test_a_phase_that_ends_by_an_amendment_is_announced_at_once() -> None:
    bell = spec("bell", On(("market.phase_changed",)))
    desk = Desk([bell], TABLE, at("10:00:00"))
    amend(desk, ANOTHER_DAY)
    assert desk.fields("market.phase_changed") == []
    amend(desk, CLOSED_TODAY)
    (said,) = desk.fields("market.phase_changed")
    assert (said["market"], said["previous"], said["phase"]) == ("NSE", "open", "closed")
    assert said["until"] == instant("2026-11-25T09:00:00+05:30")
    assert desk.starts("bell") == [at("10:00:00")]
