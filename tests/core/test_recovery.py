"""What a scheduler makes of the ledger that the one before it left."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.core.messages import (
    HOUR,
    MINUTE,
    SECOND,
    Cause,
    Configure,
    Happened,
    PauseRequested,
    Priority,
    Reason,
    Record,
    Status,
    StopRequested,
    TaskHistory,
)
from scheduler.core.triggers import After, At, Cron, Every, KeepRunning, On, parse_anchor
from tests.core.desk import ALWAYS, NEVER, Desk, bad, endless, ok, spec
from tests.core.tables import nse_week
from tests.helpers import instant, iso

TABLE = nse_week()
TEN = instant("2026-11-23T10:00:00+05:30")
EVERY_5S = Every({"*": 5 * SECOND})
PACE = Every({"open": 5 * MINUTE, "closed": HOUR})
OPEN = KeepRunning(frozenset({"open"}))


def at(*texts: str) -> At:
    return At(tuple(parse_anchor(text) for text in texts))


def row(task: str, due: str, status: Status, reason: str = "", **options: Any) -> Record:
    return Record(task, instant(due), options.pop("attempt", 1), status, reason, **options)


def after(latest: Record, **options: Any) -> TaskHistory:
    """What the ledger knows when this is the newest row."""
    return TaskHistory((latest.last_due or latest.due) + 1, latest=latest, **options)


STOPPED: dict[str, Any] = {"status": Status.MISSED, "reason": Reason.STOPPED, "attempt": 0}


def test_what_came_due_while_the_scheduler_stopped_is_made_up_by_the_next() -> None:
    task = spec("report", at("10:00"))
    latest = row("report", "2026-11-23T10:00:00+05:30", **STOPPED)
    desk = Desk([task], TABLE, "2026-11-23T10:00:30+05:30", history={"report": after(latest)})
    assert [(iso(run.due), run.attempt, run.cause) for run in desk.started] == [
        ("2026-11-23T10:00:00+05:30", 1, Cause.CATCH_UP)
    ]


def test_of_a_stretch_missed_by_stopping_the_newest_run_is_made_up() -> None:
    task = spec("a", PACE, catchup=10 * MINUTE)
    latest = row(
        "a", "2026-11-23T10:00:00+05:30", **STOPPED, count=3, last_due=instant("2026-11-23T10:10:00+05:30")
    )
    desk = Desk([task], TABLE, "2026-11-23T10:12:00+05:30", history={"a": after(latest)})
    assert desk.starts("a") == ["2026-11-23T10:10:00+05:30"]


@pytest.mark.parametrize(
    "what, back",
    [
        ({}, "2026-11-23T11:00:01+05:30"),  # an hour is its catchup
        ({"reason": Reason.DOWNTIME}, "2026-11-23T10:00:30+05:30"),  # decided already, by law 4
        ({"status": Status.COMPLETED, "reason": ""}, "2026-11-23T10:00:30+05:30"),
    ],
)
def test_what_is_too_old_or_was_missed_otherwise_is_not_made_up(what: dict[str, Any], back: str) -> None:
    latest = row("report", "2026-11-23T10:00:00+05:30", **(STOPPED | what))
    desk = Desk([spec("report", at("10:00"))], TABLE, back, history={"report": after(latest)})
    assert desk.started == []


def test_what_was_missed_by_stopping_is_not_made_up_beside_a_newer_run() -> None:
    task = spec("report", at("10:00", "10:05"))
    latest = row("report", "2026-11-23T10:00:00+05:30", **STOPPED)
    desk = Desk([task], TABLE, "2026-11-23T10:05:30+05:30", history={"report": after(latest)})
    assert desk.starts("report") == ["2026-11-23T10:05:00+05:30"]


def test_an_alarms_run_that_was_missed_by_stopping_is_not_made_up() -> None:
    """What happened has happened: the next scheduler does not page anybody for it."""
    latest = row("page", "2026-11-23T10:00:00+05:30", **STOPPED, cause="event")
    task = spec("page", On(("task.parked",)))
    desk = Desk([task], TABLE, "2026-11-23T10:00:30+05:30", history={"page": after(latest)})
    assert desk.started == []


def test_a_loop_that_was_missed_by_stopping_is_taken_up_once() -> None:
    latest = row("feed", "2026-11-23T09:15:00+05:30", **STOPPED)
    desk = Desk(
        [spec("feed", OPEN)], TABLE, "2026-11-23T10:00:00+05:30", history={"feed": after(latest)},
        scripts={"feed": endless},
    )  # fmt: skip
    assert [(iso(run.due)[11:16], run.attempt) for run in desk.started] == [("09:15", 1)]


def test_what_comes_after_a_run_that_is_tried_again_waits_for_it() -> None:
    specs = [spec("up", at("10:00"), if_interrupted="retry"), spec("down", After("up"))]
    before = Desk(specs, TABLE, "2026-11-23T09:59:00+05:30", scripts={"up": endless})
    before.until("2026-11-23T10:05:00+05:30")
    history = before.crash() | {"down": TaskHistory(before.now)}
    desk = Desk(specs, TABLE, "2026-11-23T10:06:00+05:30", history=history)
    assert desk.outcomes("down") == []
    desk.until("2026-11-23T10:07:00+05:30")
    assert desk.outcomes("down") == [("10:00:00", "completed", "", 1)]
    assert desk.started[0].cause is Cause.INTERRUPTED


def test_what_is_interrupted_a_second_time_is_left_alone() -> None:
    task = spec("a", at("10:00"), if_interrupted="retry")
    running = row("a", "2026-11-23T10:00:00+05:30", Status.RUNNING, attempt=2, cause="interrupted")
    history = {"a": TaskHistory(running.due + 1, (running,), running)}
    desk = Desk([task], TABLE, "2026-11-23T10:06:00+05:30", history=history)
    assert desk.started == []
    assert desk.outcomes("a") == [("10:00:00", "failed", "interrupted", 1)]


def test_what_was_interrupted_is_not_tried_again_after_the_close_nor_after_its_catchup() -> None:
    task = spec("square-off", at("15:10"), if_interrupted="retry")
    running = row("square-off", "2026-11-23T15:10:00+05:30", Status.RUNNING)
    history = {"square-off": TaskHistory(running.due + 1, (running,), running)}
    assert Desk([task], TABLE, "2026-11-23T15:29:00+05:30", history=history).started
    assert not Desk([task], TABLE, "2026-11-23T15:31:00+05:30", history=history).started


def test_an_interrupted_run_is_announced_as_failed_with_its_identity() -> None:
    running = row("a", "2026-11-23T10:00:00+05:30", Status.RUNNING, attempt=2)
    history = {"a": TaskHistory(running.due + 1, (running,), running)}
    desk = Desk([spec("a", at("10:00"))], TABLE, "2026-11-23T10:06:00+05:30", history=history)
    (said,) = [action for action in desk.said if action.event == "run.failed"]
    assert said.level == "error"
    assert said.fields == {
        "task": "a",
        "run_id": "a-20261123T043000Z~2",
        "due": TEN,
        "attempt": 2,
        "reason": Reason.INTERRUPTED,
        "error": "the scheduler ended while it ran",
    }
    assert desk.rows["a", TEN, 2].ended == desk.now


def test_what_a_task_that_is_no_more_left_running_has_failed() -> None:
    running = row("gone", "2026-11-23T10:00:00+05:30", Status.RUNNING)
    history = {"gone": TaskHistory(running.due + 1, (running,), running)}
    desk = Desk([spec("a", PACE)], TABLE, "2026-11-23T10:06:00+05:30", history=history)
    assert desk.outcomes("gone") == [("10:00:00", "failed", "interrupted", 1)]


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
def test_what_comes_after_a_run_that_was_to_be_tried_again_when_the_crash_came_is_skipped(
    status: Status,
) -> None:
    specs = [spec("up", at("10:00")), spec("down", After("up"))]
    history = {"up": after(row("up", "2026-11-23T10:00:00+05:30", status)), "down": TaskHistory(TEN)}
    desk = Desk(specs, TABLE, "2026-11-23T10:01:00+05:30", history=history)
    assert desk.outcomes("down") == [("10:00:00", "skipped", "upstream", 1)]
    assert desk.rows["down", TEN, 0].cause == "after"


def test_what_came_after_a_run_that_failed_is_not_skipped_twice() -> None:
    specs = [spec("up", at("10:00"), restart=NEVER), spec("down", After("up"))]
    before = Desk(specs, TABLE, "2026-11-23T09:59:00+05:30", scripts={"up": bad()})
    history = before.until("2026-11-23T10:00:30+05:30").crash()
    desk = Desk(specs, TABLE, "2026-11-23T10:01:00+05:30", history=history)
    assert before.outcomes("down") == [("10:00:00", "skipped", "upstream", 1)]
    assert desk.outcomes("down") == []


UP = row("up", "2026-11-23T10:00:00+05:30", Status.COMPLETED, ended=TEN + SECOND)
CHAIN = [spec("up", at("10:00")), spec("down", After("up"))]
DOWN_DONE = row("down", "2026-11-23T10:00:00+05:30", Status.COMPLETED, cause="after")
DOWN_STOPPED = DOWN_DONE._replace(status=Status.MISSED, reason=Reason.STOPPED, attempt=0)
DOWN_LATER = DOWN_DONE._replace(due=TEN + SECOND)


@pytest.mark.parametrize(
    "known, started",
    [
        (TaskHistory(TEN), True),  # it has never run
        (TaskHistory(TEN + 1), False),  # it is younger than that run
        (after(DOWN_DONE), False),
        (after(DOWN_LATER), False),
        (after(DOWN_STOPPED)._replace(expected_from=TEN), True),
    ],
)
def test_what_comes_after_a_completed_run_is_started_unless_it_has_been_told(
    known: TaskHistory, started: bool
) -> None:
    desk = Desk(CHAIN, TABLE, "2026-11-23T10:01:00+05:30", history={"up": after(UP), "down": known})
    assert desk.starts("down") == (["2026-11-23T10:00:00+05:30"] if started else [])


def test_what_comes_after_a_run_of_before_it_was_defined_is_not_started() -> None:
    desk = Desk(CHAIN, TABLE, "2026-11-23T10:01:00+05:30", history={"up": after(UP)})
    assert desk.outcomes("down") == []


@pytest.mark.parametrize(
    "back, outcome",
    [
        ("2026-11-23T11:00:01+05:30", ("10:00:00", "completed", "", 1)),  # an hour after the upstream ended
        ("2026-11-23T11:00:01.001+05:30", ("10:00:00", "missed", "downtime", 1)),
    ],
)
def test_what_comes_after_is_made_up_within_its_catchup_from_the_end_of_its_upstream(
    back: str, outcome: tuple[str, str, str, int]
) -> None:
    desk = Desk(CHAIN, TABLE, back, history={"up": after(UP), "down": TaskHistory(TEN)})
    desk.until("2026-11-23T11:01:00+05:30")
    assert desk.outcomes("down") == [outcome]
    assert {str(r.cause) for r in desk.rows.values() if r.task == "down"} == {"after"}


def test_a_reload_counts_from_the_instant_after_it_and_a_first_start_from_its_own() -> None:
    task = spec("a", at("10:00"))
    assert Desk([task], TABLE, "2026-11-23T10:00:00+05:30").starts("a") == ["2026-11-23T10:00:00+05:30"]
    desk = Desk([], TABLE, "2026-11-23T09:00:00+05:30").sleep("2026-11-23T10:00:00+05:30")
    desk.tell(Configure((task,), {"NSE": TABLE}))
    assert desk.outcomes("a") == []


@pytest.mark.parametrize(
    "trigger, back, started",
    [
        (at("10:00"), "2026-11-23T14:59:00+05:30", True),
        (at("10:00"), "2026-11-23T15:01:00+05:30", False),
        (Cron("0 10 * * *", TABLE.zone), "2026-11-23T15:00:00+05:30", True),  # of the session under way
        (Cron("0 10 * * *", TABLE.zone), "2026-11-23T15:00:00.001+05:30", False),
    ],
)
def test_catchup_until_is_an_anchor_of_the_session_that_the_run_belongs_to(
    trigger: At | Cron, back: str, started: bool
) -> None:
    task = spec("a", trigger, catchup=0, catchup_until=parse_anchor("close-30m"))
    desk = Desk([task], TABLE, back, history={"a": TaskHistory(TEN)})
    assert bool(desk.starts("a")) is started
    desk.until("2026-11-23T16:00:00+05:30")
    assert desk.accounted("a") == 1


def test_without_a_session_or_its_phase_catchup_until_lets_nothing_be_late() -> None:
    before_any = spec("a", Cron("0 8 20 11 *", TABLE.zone), catchup_until=parse_anchor("open"))
    known = {"a": TaskHistory(instant("2026-11-20T08:00:00+05:30"))}
    assert not Desk([before_any], TABLE, "2026-11-20T08:01:00+05:30", history=known).started
    short = nse_week(changes={"2026-11-23": [("open", "09:15", "15:30")]})
    without_phase = spec("b", at("close+5m"), catchup_until=parse_anchor("post-close.end"))
    known = {"b": TaskHistory(instant("2026-11-23T15:35:00+05:30"))}
    assert not Desk([without_phase], short, "2026-11-23T15:36:00+05:30", history=known).started
    assert Desk([without_phase], TABLE, "2026-11-23T15:36:00+05:30", history=known).started


def test_the_last_success_on_record_is_remembered_whatever_came_after_it() -> None:
    failed = row("a", "2026-11-23T10:00:00+05:30", Status.FAILED, reason="error")
    for success in (TEN - 7 * SECOND, None):
        known = {"a": after(failed)._replace(success=success)}
        desk = Desk([spec("a", PACE)], TABLE, "2026-11-23T10:01:00+05:30", history=known)
        assert desk.engine.snapshot()[0]["last_success"] == success


def test_what_is_missed_while_stopping_after_a_stall_is_missed_by_stopping() -> None:
    desk = Desk(
        [spec("a", PACE), spec("slow", at("10:00"), stop_grace=HOUR)], TABLE, "2026-11-23T10:00:00+05:30",
        scripts={"slow": endless, "a": ok(1)},
    )  # fmt: skip
    desk.until("2026-11-23T10:00:02+05:30").tell(StopRequested())
    desk.sleep("2026-11-23T10:16:00+05:30").until("2026-11-23T10:17:00+05:30")
    assert desk.outcomes("a") == [
        ("10:00:00", "completed", "", 1),
        ("10:05:00", "missed", "stopped", 2),
        ("10:15:00", "missed", "stopped", 1),
    ]


def test_what_is_settled_late_is_a_row_of_its_own_and_no_stretch_over_what_is_on_record() -> None:
    """Pausing the upstream gives up its retry of 10:00:00, when 10:00:05 to :15 have been skipped already."""
    specs = [spec("up", EVERY_5S, priority=Priority.CRITICAL, restart=ALWAYS), spec("down", After("up"))]
    desk = Desk(specs, TABLE, "2026-11-23T10:00:00+05:30", scripts={"up": bad()})
    desk.until("2026-11-23T10:00:12+05:30").tell(PauseRequested("up"))
    desk.until("2026-11-23T10:00:21+05:30")
    assert desk.outcomes("down") == [
        ("10:00:00", "skipped", "upstream", 1),
        ("10:00:05", "skipped", "upstream", 2),
        ("10:00:15", "skipped", "upstream", 2),
    ]


def test_what_a_crash_settles_late_does_not_grow_into_a_stretch_over_what_is_on_record() -> None:
    """The upstream of 10:00:00 was interrupted; its later runs have been accounted for by then."""
    specs = [spec("up", EVERY_5S), spec("down", After("up"))]
    before = Desk(specs, TABLE, "2026-11-23T10:00:00+05:30", scripts={"up": endless})
    before.until("2026-11-23T10:00:12+05:30")
    history = before.crash()
    assert before.outcomes("down") == [
        ("10:00:00", "queued", "", 1),
        ("10:00:05", "skipped", "upstream", 2),
    ]
    desk = Desk(specs, TABLE, "2026-11-23T10:00:13+05:30", history=history)
    desk.tell(PauseRequested("up"))
    desk.until("2026-11-23T10:00:21+05:30")
    assert desk.outcomes("down") == [
        ("10:00:00", "skipped", "upstream", 1),
        ("10:00:15", "skipped", "upstream", 2),
    ]


def test_what_was_skipped_at_the_end_of_a_stretch_has_been_told_of_its_upstream() -> None:
    stretch = row(
        "down", "2026-11-23T09:50:00+05:30", Status.SKIPPED, Reason.OVERLAP,
        attempt=0, cause="after", count=2, last_due=TEN,
    )  # fmt: skip
    history = {"up": after(UP), "down": after(stretch)}
    desk = Desk(CHAIN, TABLE, "2026-11-23T10:01:00+05:30", history=history)
    assert desk.outcomes("down") == []


def test_what_is_made_up_is_a_first_attempt() -> None:
    for trigger, late in (
        (at("10:00"), "2026-11-23T10:00:30+05:30"),
        (EVERY_5S, "2026-11-23T10:00:03+05:30"),
    ):
        desk = Desk([spec("a", trigger)], TABLE, late, history={"a": TaskHistory(TEN)})
        assert [(run.due, run.attempt, run.cause) for run in desk.started] == [(TEN, 1, Cause.CATCH_UP)]
    desk = Desk(
        CHAIN, TABLE, "2026-11-23T10:01:00+05:30", history={"up": after(UP), "down": TaskHistory(TEN)}
    )
    assert [run.attempt for run in desk.started] == [1]


def test_what_is_due_at_the_very_instant_of_a_restart_is_started_once() -> None:
    desk = Desk([spec("a", at("10:00"))], TABLE, "2026-11-23T10:00:00+05:30", history={"a": TaskHistory(TEN)})
    desk.until("2026-11-23T10:00:05+05:30")
    assert [(run.due, run.cause) for run in desk.started] == [(TEN, Cause.CATCH_UP)]


def test_what_was_missed_because_all_stopped_stays_so_when_it_is_too_late_to_make_it_up() -> None:
    task = spec("report", at("10:00"), catchup=MINUTE)
    latest = row("report", "2026-11-23T10:00:00+05:30", **STOPPED)
    desk = Desk([task], TABLE, "2026-11-23T10:02:00+05:30", history={"report": after(latest)})
    assert (desk.outcomes("report"), desk.events("run.missed")) == ([], [])


def test_what_comes_after_a_task_of_which_nothing_is_on_record_has_nothing_to_hear() -> None:
    history = {"up": TaskHistory(TEN + 1), "down": TaskHistory(TEN + 1)}
    desk = Desk(CHAIN, TABLE, "2026-11-23T10:01:00+05:30", history=history)
    assert desk.outcomes("down") == []


def test_what_comes_after_a_run_that_never_began_has_heard_of_it_with_all_others() -> None:
    latest = row("up", "2026-11-23T10:00:00+05:30", Status.SKIPPED, Reason.PAUSED, attempt=0)
    history = {"up": after(latest), "down": TaskHistory(TEN)}
    desk = Desk(CHAIN, TABLE, "2026-11-23T10:01:00+05:30", history=history)
    assert desk.outcomes("down") == []


def test_what_waited_of_a_task_that_is_no_more_is_announced_as_missed() -> None:
    waited = row("gone", "2026-11-23T10:00:00+05:30", Status.QUEUED, attempt=0)
    history = {"gone": TaskHistory(TEN + 1, (waited,), waited)}
    desk = Desk([spec("a", PACE)], TABLE, "2026-11-23T10:06:00+05:30", history=history)
    assert desk.outcomes("gone") == [("10:00:00", "missed", "downtime", 1)]
    (said,) = [action for action in desk.said if action.event == "run.missed"]
    assert said.level == "warning"
    assert said.fields == {"task": "gone", "due": TEN, "reason": Reason.DOWNTIME, "count": 1}


def test_what_waited_of_a_task_is_taken_up_whatever_is_unknown_of_another() -> None:
    waited = row("b", "2026-11-23T10:00:00+05:30", Status.QUEUED, attempt=0)
    history = {"b": TaskHistory(TEN + 1, (waited,), waited)}
    tasks = [spec("a", at("10:30")), spec("b", at("10:00"))]
    desk = Desk(tasks, TABLE, "2026-11-23T10:01:00+05:30", history=history)
    assert desk.starts("b") == ["2026-11-23T10:00:00+05:30"]


def test_a_run_for_an_event_is_due_after_the_end_of_the_stretch_that_was_skipped_before_a_restart() -> None:
    """The clock went back; the stretch, recorded as of its first due, reaches beyond now."""
    stretch = row(
        "bell", "2026-11-23T10:00:00+05:30", Status.SKIPPED, Reason.PAUSED, attempt=0, cause="event",
        count=3, last_due=TEN + 90 * SECOND,
    )  # fmt: skip
    task = spec("bell", On(("desk.bell",)))
    desk = Desk(
        [task], TABLE, "2026-11-23T10:01:00+05:30", history={"bell": TaskHistory(TEN, latest=stretch)}
    )
    desk.tell(Happened("desk.bell", "info", {}))
    assert [run.due for run in desk.started] == [TEN + 90 * SECOND + 1]
