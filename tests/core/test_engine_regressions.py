"""One history for each thing that went wrong once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.core.admission import Admission
from scheduler.core.messages import (
    MINUTE,
    SECOND,
    Cause,
    ClockStepped,
    Configure,
    LoopLag,
    Overlap,
    PauseRequested,
    Priority,
    Reason,
    Record,
    ResumeRequested,
    RunEnded,
    RunNow,
    RunReturned,
    Status,
    StopRequested,
    TaskHistory,
    Wake,
)
from scheduler.core.triggers import After, At, Every, KeepRunning, On, parse_anchor
from tests.core.desk import ALWAYS, NEVER, Desk, bad, endless, ok, spec
from tests.core.tables import nse_week
from tests.helpers import instant, iso

TABLE = nse_week()
CRITICAL_LOOP = {"priority": Priority.CRITICAL, "restart": ALWAYS}
PACE = Every({"open": 5 * SECOND, "closed": MINUTE})
OPEN = KeepRunning(frozenset({"open"}))


def outcomes_of(desk: Desk, task: str) -> list[tuple[str, int, str, str]]:
    rows = sorted((r for r in desk.rows.values() if r.task == task), key=lambda r: (r.due, r.attempt))
    return [(iso(r.due)[11:19], r.attempt, str(r.status), str(r.reason)) for r in rows]


def identities(desk: Desk, task: str) -> list[tuple[int, int]]:
    return [(run.due, run.attempt) for run in desk.started if run.task == task]


def test_a_run_asked_for_by_hand_is_not_counted_among_skipped_ticks() -> None:
    desk = Desk([spec("a", PACE)], TABLE, "2026-11-23T10:00:01+05:30", scripts={"a": ok(30)})
    desk.until("2026-11-23T10:00:12+05:30").tell(RunNow("a"))
    desk.until("2026-11-23T10:00:16+05:30")
    skipped = [r for r in desk.rows.values() if r.status is Status.SKIPPED and r.cause == Cause.TICK]
    assert sum(r.count for r in skipped) == 2  # at :10 and :15


def test_a_loop_that_is_paused_and_resumed_before_it_has_ended_runs_on() -> None:
    desk = Desk(
        [spec("a", OPEN, **CRITICAL_LOOP)], TABLE, "2026-11-23T10:00:00+05:30", scripts={"a": endless}
    )
    desk.tell(PauseRequested("a"))
    desk.tell(ResumeRequested("a"))
    desk.until("2026-11-23T10:01:00+05:30")
    assert desk.engine.tasks["a"].active is not None


def test_a_loop_comes_back_after_a_run_of_it_by_hand() -> None:
    task = spec("a", OPEN, **CRITICAL_LOOP)
    script = lambda run: endless(run) if run.attempt > 2 else bad(1)(run)  # noqa: E731 - a script in one line
    desk = Desk([task], TABLE, "2026-11-23T10:00:00+05:30", scripts={"a": script})
    desk.until("2026-11-23T10:00:01.5+05:30").tell(RunNow("a"))
    desk.until("2026-11-23T10:05:00+05:30")
    assert desk.engine.tasks["a"].active is not None


def test_a_loop_keeps_counting_its_attempts_across_a_run_by_hand() -> None:
    script = lambda run: ok(1)(run) if run.cause is Cause.MANUAL else bad(1)(run)  # noqa: E731 - as above
    desk = Desk([spec("a", OPEN)], TABLE, "2026-11-23T10:00:00+05:30", scripts={"a": script})
    desk.until("2026-11-23T10:01:00+05:30")
    desk.tell(RunNow("a"))
    desk.until("2026-11-23T10:01:05+05:30").tell(ResumeRequested("a"))
    desk.until("2026-11-23T10:02:00+05:30")
    assert len(identities(desk, "a")) == len(set(identities(desk, "a")))


def test_a_loop_that_ended_before_a_run_by_hand_counts_on_when_the_clock_went_back_and_it_crashed() -> None:
    desk = Desk([spec("a", OPEN)], TABLE, "2026-11-23T15:29:00+05:30", scripts={"a": endless})
    desk.until("2026-11-23T15:30:05+05:30").tell(RunNow("a"))
    desk.until("2026-11-23T15:30:06+05:30").sleep("2026-11-23T15:29:50+05:30").tell(
        ClockStepped(-16 * SECOND)
    )
    again = Desk([spec("a", OPEN)], TABLE, "2026-11-23T15:29:51+05:30", history=desk.crash())
    assert [(iso(run.due)[11:16], run.attempt) for run in again.started] == [("09:15", 2)]
    assert not set(identities(desk, "a")) & set(identities(again, "a"))


def test_a_loop_keeps_counting_its_attempts_across_a_run_by_hand_and_a_crash() -> None:
    script = lambda run: endless(run) if run.cause is Cause.MANUAL else bad(1)(run)  # noqa: E731 - as above
    desk = Desk([spec("a", OPEN)], TABLE, "2026-11-23T10:00:00+05:30", scripts={"a": script})
    desk.until("2026-11-23T10:01:00+05:30").tell(RunNow("a"))
    again = Desk([spec("a", OPEN)], TABLE, "2026-11-23T10:02:00+05:30", history=desk.crash())
    assert not set(identities(desk, "a")) & set(identities(again, "a"))


def test_a_loop_without_a_stretch_has_a_due_of_its_own_after_a_run_by_hand() -> None:
    """Both are due "now", and the run by hand may take no time at all."""
    script = lambda run: ok(0)(run) if run.cause is Cause.MANUAL else bad(1)(run)  # noqa: E731 - as above
    task = spec("a", KeepRunning(), restart=NEVER)
    desk = Desk([task], TABLE, "2026-11-23T10:00:00+05:30", scripts={"a": script})
    desk.until("2026-11-23T10:00:05+05:30").tell(RunNow("a"))
    desk.until("2026-11-23T10:00:06+05:30")
    assert len(identities(desk, "a")) == len(set(identities(desk, "a"))) == 3


def test_a_loop_asked_for_by_hand_while_it_runs_is_not_tried_again_under_the_same_identity() -> None:
    """It fails: what waited for its end begins, and so does, a second later, its retry."""
    script = lambda run: ok(0.1)(run) if run.cause is Cause.MANUAL else bad(5)(run)  # noqa: E731 - as above
    desk = Desk([spec("a", OPEN)], TABLE, "2026-11-23T10:00:00+05:30", scripts={"a": script})
    desk.until("2026-11-23T10:00:01+05:30").tell(RunNow("a"))
    desk.until("2026-11-23T10:00:10+05:30")
    assert len(identities(desk, "a")) == len(set(identities(desk, "a")))


def test_a_loop_counts_on_after_a_crash_although_a_run_by_hand_is_the_newest_row() -> None:
    desk = Desk([spec("a", OPEN)], TABLE, "2026-11-23T10:00:00+05:30", scripts={"a": endless})
    desk.until("2026-11-23T10:01:00+05:30").tell(RunNow("a"))  # skipped: it runs already
    again = Desk([spec("a", OPEN)], TABLE, "2026-11-23T10:02:00+05:30", history=desk.crash())
    assert [attempt for _, attempt in identities(again, "a")] == [2]


def test_a_loop_that_is_removed_and_put_back_counts_on() -> None:
    task = spec("a", OPEN)
    desk = Desk([task], TABLE, "2026-11-23T10:00:00+05:30", scripts={"a": endless})
    begun = desk.crash()["a"].begun
    desk.tell(Configure((), {"NSE": TABLE}))
    desk.until("2026-11-23T10:01:00+05:30")
    known = TaskHistory(desk.now + 1, begun=begun)  # as the daemon gives it with a task that is new
    desk.tell(Configure((task,), {"NSE": TABLE}, {}, {"a": known}))
    assert [attempt for _, attempt in identities(desk, "a")] == [1, 2]


@pytest.mark.parametrize(
    ("before", "after"),
    [(Priority.IMPORTANT, Priority.CRITICAL), (Priority.CRITICAL, Priority.IMPORTANT)],
)
def test_a_run_gives_back_the_slot_it_took_although_its_priority_has_changed(
    before: Priority, after: Priority
) -> None:
    desk = Desk([spec("a", PACE, priority=before)], TABLE, "2026-11-23T10:00:00+05:30", scripts={"a": ok(2)})
    desk.tell(Configure((spec("a", PACE, priority=after),), {"NSE": TABLE}))
    desk.until("2026-11-23T10:00:04+05:30")
    admission = desk.engine._admission
    assert (admission.taken, admission._others) == (0, 0)


def test_a_task_that_waits_for_a_slot_is_started_once_although_its_priority_changes() -> None:
    specs = [spec("a", PACE), spec("b", At((parse_anchor("10:00"),)), overlap=Overlap.QUEUE_ONE)]
    desk = Desk(
        specs, TABLE, "2026-11-23T10:00:00+05:30", scripts={"a": ok(8), "b": ok(60)},
        admission=Admission(slots=2, reserved=1),
    )  # fmt: skip
    assert desk.starts("b") == []
    desk.tell(Configure((specs[0], replace(specs[1], priority=Priority.CRITICAL)), {"NSE": TABLE}))
    desk.tell(RunNow("b"))
    desk.until("2026-11-23T10:00:30+05:30")
    assert len(desk.starts("b")) == 1


def test_a_retry_that_waits_for_a_slot_when_all_stops_leaves_one_outcome() -> None:
    specs = [spec("a", At((parse_anchor("10:00"),))), spec("z", At((parse_anchor("10:00"),)))]
    scripts = {"a": bad(1), "z": ok(60)}
    desk = Desk(
        specs, TABLE, "2026-11-23T10:00:00+05:30", scripts=scripts, admission=Admission(slots=1, reserved=0)
    )
    desk.until("2026-11-23T10:00:05+05:30")  # `a` failed, `z` took the slot, the retry waits for it
    desk.tell(StopRequested())
    assert outcomes_of(desk, "a") == [("10:00:00", 1, "failed", "error")]


def test_a_run_by_hand_that_never_began_is_not_recorded_as_a_tick() -> None:
    task = spec("a", PACE, overlap=Overlap.QUEUE_ONE)
    desk = Desk([task], TABLE, "2026-11-23T10:00:00+05:30", scripts={"a": ok(60)})
    desk.until("2026-11-23T10:00:01+05:30").tell(RunNow("a"))
    desk.tell(StopRequested())
    assert {str(r.cause) for r in desk.rows.values() if r.status is Status.MISSED} == {"manual"}


def test_what_waits_for_a_slot_is_shed_with_the_rest() -> None:
    specs = [spec("a", At((parse_anchor("10:00"),))), spec("b", At((parse_anchor("10:00"),)))]
    desk = Desk(
        specs, TABLE, "2026-11-23T10:00:00+05:30", scripts={"a": ok(8)},
        admission=Admission(slots=1, reserved=0),
    )  # fmt: skip
    desk.tell(LoopLag(2 * SECOND))
    desk.until("2026-11-23T10:00:30+05:30")
    assert outcomes_of(desk, "b") == [("10:00:00", 0, "skipped", "shed")]


def test_what_waits_in_a_queue_is_not_lost_by_a_crash_when_a_later_run_was_shed() -> None:
    task = spec("a", PACE, overlap=Overlap.QUEUE_ONE, catchup=MINUTE)
    desk = Desk([task], TABLE, "2026-11-23T10:00:00+05:30", scripts={"a": ok(60)})
    desk.until("2026-11-23T10:00:07+05:30")  # the run of :05 waits for that of :00
    desk.tell(LoopLag(2 * SECOND))
    desk.until("2026-11-23T10:00:11+05:30")  # that of :10 is shed
    again = Desk([task], TABLE, "2026-11-23T10:00:12+05:30", history=desk.crash())
    assert "10:00:05" in {due for due, *_ in outcomes_of(desk, "a") + outcomes_of(again, "a")}


def test_a_thread_that_has_not_returned_keeps_its_task_from_being_tried_again() -> None:
    task = spec("a", At((parse_anchor("10:00"),)), **CRITICAL_LOOP)
    desk = Desk([task], TABLE, "2026-11-23T10:00:00+05:30", scripts={"a": endless})
    run = desk.started[0]
    desk.tell(RunEnded(run, Status.FAILED, Reason.TIMEOUT, "timed out", lingering=True))
    desk.until("2026-11-23T10:05:00+05:30")
    assert desk.started == [run]
    desk.tell(RunReturned(run))
    assert desk.engine._admission.taken == 0


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
def test_a_loop_whose_thread_returns_late_begins_anew_once_it_has(status: Status) -> None:
    """Its retry came due before: no tick would start it until the next session."""
    reason = Reason.TIMEOUT if status is Status.FAILED else Reason.RESTARTED
    desk = Desk(
        [spec("a", OPEN, **CRITICAL_LOOP)], TABLE, "2026-11-23T10:00:00+05:30", scripts={"a": endless}
    )
    (run,) = desk.started
    desk.tell(RunEnded(run, status, reason, "", lingering=True))
    desk.until("2026-11-23T10:05:00+05:30")
    assert desk.started == [run]
    desk.tell(RunReturned(run))
    assert [attempt for _, attempt in identities(desk, "a")] == [1, 2]


def test_a_loop_whose_thread_returns_when_its_phase_is_over_does_not_begin_anew() -> None:
    desk = Desk(
        [spec("a", OPEN, **CRITICAL_LOOP)], TABLE, "2026-11-23T15:29:00+05:30", scripts={"a": endless}
    )
    (run,) = desk.started
    desk.tell(RunEnded(run, Status.FAILED, Reason.TIMEOUT, "timed out", lingering=True))
    desk.until("2026-11-23T15:31:00+05:30").tell(RunReturned(run))
    assert desk.started == [run]


def test_a_loop_whose_thread_returns_while_it_backs_off_is_tried_again_when_that_is_over() -> None:
    desk = Desk(
        [spec("a", OPEN, **CRITICAL_LOOP)], TABLE, "2026-11-23T10:00:00+05:30", scripts={"a": endless}
    )
    (run,) = desk.started
    desk.tell(RunEnded(run, Status.FAILED, Reason.TIMEOUT, "timed out", lingering=True))
    desk.until("2026-11-23T10:00:00.500+05:30").tell(RunReturned(run))
    assert desk.started == [run]
    desk.until("2026-11-23T10:00:01.500+05:30")
    assert [attempt for _, attempt in identities(desk, "a")] == [1, 2]


def test_a_loop_that_is_paused_does_not_begin_anew_when_its_thread_returns() -> None:
    task = spec("a", OPEN, **CRITICAL_LOOP)
    desk = Desk([task], TABLE, "2026-11-23T10:00:00+05:30", scripts={"a": endless})
    (run,) = desk.started
    desk.tell(RunEnded(run, Status.FAILED, Reason.TIMEOUT, "timed out", lingering=True))
    desk.until("2026-11-23T10:05:00+05:30").tell(PauseRequested("a"))
    desk.tell(RunReturned(run))
    assert desk.started == [run]


def test_what_was_queued_anew_is_not_given_up_at_the_deadline_of_what_it_replaced() -> None:
    """With a catch-up of one interval the next tick and the deadline of the last one come together."""
    task = spec("a", PACE, overlap=Overlap.QUEUE_ONE, catchup=5 * SECOND)
    desk = Desk([task], TABLE, "2026-11-23T10:00:00+05:30", scripts={"a": ok(12)})
    for second in (5, 10):
        desk.sleep(f"2026-11-23T10:00:{second:02}.001+05:30").tell(Wake())  # a millisecond late, as in life
    desk.until("2026-11-23T10:00:13+05:30")
    assert desk.starts("a")[-1] == "2026-11-23T10:00:10+05:30"


def test_what_comes_after_a_run_that_a_crash_interrupted_is_accounted_for() -> None:
    specs = [spec("up", At((parse_anchor("10:00"),))), spec("down", After("up"))]
    before = Desk(specs, TABLE, "2026-11-23T09:59:00+05:30", scripts={"up": endless})
    before.until("2026-11-23T10:05:00+05:30")
    history = before.crash() | {"down": TaskHistory(before.now)}
    desk = Desk(specs, TABLE, "2026-11-23T10:06:00+05:30", history=history)
    assert outcomes_of(desk, "down") == [("10:00:00", 0, "skipped", "upstream")]


def test_a_run_for_an_event_has_a_due_of_its_own_although_the_clock_went_back_before_a_restart() -> None:
    """Both came to be due at the first instant that was ever expected of the task."""
    listener = spec("resync", On(("clock.stepped",)))
    desk = Desk([listener], TABLE, "2026-11-23T10:00:00+05:30")
    desk.sleep("2026-11-22T10:00:00+05:30").tell(ClockStepped(-86_400 * SECOND))
    history = desk.crash()["resync"]._replace(expected_from=instant("2026-11-23T10:00:00+05:30"))
    again = Desk([listener], TABLE, "2026-11-22T11:00:00+05:30", history={"resync": history})
    again.sleep("2026-11-22T12:00:00+05:30").tell(ClockStepped(3600 * SECOND))
    assert len({run.due for run in desk.started + again.started}) == 2


def test_a_run_by_hand_and_one_for_an_event_are_two_although_the_clock_went_back() -> None:
    desk = Desk([spec("resync", On(("clock.stepped",)))], TABLE, "2026-11-23T10:00:00+05:30")
    desk.sleep("2026-11-22T10:00:00+05:30").tell(RunNow("resync"))
    desk.until("2026-11-22T10:00:10+05:30").tell(ClockStepped(SECOND))
    assert len({run.due for run in desk.started}) == 2


def test_a_loop_that_comes_back_to_its_stretch_by_reloads_counts_on() -> None:
    """The ledger knows the attempts of the stretch that now holds again; the engine had forgotten them."""
    wide, narrow = (
        spec("feed", KeepRunning(frozenset(during))) for during in (("pre-open", "open"), ("open",))
    )
    desk = Desk([wide], TABLE, "2026-11-23T09:30:00+05:30", scripts={"feed": endless})
    begun = (instant("2026-11-23T09:00:00+05:30"), 1)
    for task, history in (
        (narrow, TaskHistory(desk.now + 1)),
        (wide, TaskHistory(desk.now + 1, begun=begun)),
    ):
        desk.tell(Configure((task,), {"NSE": TABLE}, {}, {"feed": history}))
        desk.until(iso(desk.now + MINUTE))
    assert [(iso(run.due)[11:16], run.attempt) for run in desk.started] == [
        ("09:00", 1), ("09:15", 1), ("09:00", 2),
    ]  # fmt: skip


def test_what_ran_when_the_scheduler_was_killed_has_failed_although_its_task_is_no_more() -> None:
    ran = Record("gone", instant("2026-11-23T09:20:00+05:30"), 1, Status.RUNNING, started=1)
    history = {"gone": TaskHistory(ran.due + 1, (ran,), ran)}
    desk = Desk([], TABLE, "2026-11-23T09:30:00+05:30", history=history)
    assert desk.outcomes("gone") == [("09:20:00", "failed", "interrupted", 1)]


def test_a_pause_that_ends_while_all_stops_starts_nothing_and_says_nothing() -> None:
    tasks = [spec("loop", OPEN, **CRITICAL_LOOP), spec("a", PACE, stop_grace=20 * SECOND)]
    desk = Desk(tasks, TABLE, "2026-11-23T10:00:00+05:30", scripts={"loop": endless, "a": ok(600)})
    desk.tell(PauseRequested("loop", desk.now + 5 * SECOND))
    desk.until("2026-11-23T10:00:01+05:30").tell(StopRequested())
    desk.until("2026-11-23T10:00:10+05:30")
    assert outcomes_of(desk, "loop") == [("09:15:00", 1, "cancelled", "paused")]
    assert "paused" in desk.remembered["loop"]  # the next scheduler will see whether that is over


def test_a_loop_resumed_while_all_stops_is_not_missed_as_well() -> None:
    tasks = [spec("loop", OPEN, **CRITICAL_LOOP), spec("a", PACE, stop_grace=20 * SECOND)]
    desk = Desk(tasks, TABLE, "2026-11-23T10:00:00+05:30", scripts={"loop": endless, "a": ok(600)})
    desk.tell(PauseRequested("loop"))
    desk.until("2026-11-23T10:00:01+05:30").tell(StopRequested())
    desk.tell(ResumeRequested("loop"))
    assert outcomes_of(desk, "loop") == [("09:15:00", 1, "cancelled", "paused")]


def test_a_retry_that_a_short_pause_gave_up_is_not_remembered_as_still_to_come() -> None:
    task = spec("a", Every({"closed": 30 * MINUTE}), restart=ALWAYS)
    desk = Desk([task], TABLE, "2026-11-23T20:00:00+05:30", scripts={"a": bad()})
    desk.until("2026-11-23T20:02:30+05:30")
    assert desk.remembered["a"]["health"]["until"] > desk.now
    since = desk.remembered["a"]["health"]["since"]
    desk.tell(PauseRequested("a", desk.now + SECOND))
    desk.until("2026-11-23T20:02:32+05:30")
    health = desk.remembered["a"]["health"]
    assert (health["until"], health["since"], health["health"]) == (None, since, "crash-looping")


def test_what_is_remembered_of_a_retry_moves_with_it_when_the_clock_steps() -> None:
    task = spec("a", Every({"closed": 30 * MINUTE}), restart=ALWAYS)
    desk = Desk([task], TABLE, "2026-11-23T20:00:00+05:30", scripts={"a": bad()})
    desk.until("2026-11-23T20:02:30+05:30")
    until = desk.remembered["a"]["health"]["until"]
    desk.sleep("2026-11-23T20:12:30+05:30").tell(ClockStepped(10 * MINUTE))
    assert desk.remembered["a"]["health"]["until"] == until + 10 * MINUTE


def test_a_retry_that_finds_its_task_running_is_not_remembered_as_still_to_come() -> None:
    """The tick that comes due with the retry goes instead of it."""
    task = spec("a", PACE, restart=ALWAYS)
    desk = Desk([task], TABLE, "2026-11-23T10:00:00+05:30", scripts={"a": bad(0)})
    desk.until("2026-11-23T10:00:03.5+05:30").scripts["a"] = endless
    desk.sleep("2026-11-23T10:00:10+05:30").tell(Wake())
    health = desk.remembered["a"]["health"]
    assert health["until"] is None or health["until"] <= desk.now


def test_a_loop_by_hand_that_completes_has_had_its_run_in_this_stretch() -> None:
    desk = Desk([spec("loop", OPEN)], TABLE, "2026-11-23T10:00:00+05:30", scripts={"loop": ok(60)})
    desk.until("2026-11-23T10:05:00+05:30").tell(RunNow("loop"))
    desk.until("2026-11-23T10:10:00+05:30")
    assert [attempt for _, attempt in identities(desk, "loop")] == [1, 2]


def test_a_retry_that_waits_for_a_slot_after_a_crash_is_awaited_by_what_comes_after_it() -> None:
    specs = [
        spec("hog", At((parse_anchor("10:01"),)), priority=Priority.CRITICAL),
        spec("up", At((parse_anchor("10:00"),)), if_interrupted="retry"),
        spec("down", After("up")),
    ]
    before = Desk(specs, TABLE, "2026-11-23T09:59:00+05:30", scripts={"up": endless})
    before.until("2026-11-23T10:00:30+05:30")
    history = before.crash() | {"down": TaskHistory(before.now)}
    history["hog"] = TaskHistory(before.now)
    desk = Desk(
        specs, TABLE, "2026-11-23T10:01:00+05:30", history=history, scripts={"hog": ok(30)},
        admission=Admission(slots=1, reserved=0),
    )  # fmt: skip
    desk.until("2026-11-23T10:05:00+05:30")
    assert outcomes_of(desk, "down") == [("10:00:00", 1, "completed", "")]


def test_a_stretch_of_skips_does_not_reach_over_a_due_whose_upstream_still_runs() -> None:
    script = lambda run: bad()(run) if run.due == instant("2026-11-23T10:00:05+05:30") else ok(7)(run)  # noqa: E731 - as above
    up, middle, down = (
        spec("up", PACE, restart=NEVER),
        spec("middle", After("up")),
        spec("down", After("middle")),
    )
    desk = Desk([up, middle, down], TABLE, "2026-11-23T10:00:01+05:30", scripts={"up": script})
    desk.until("2026-11-23T10:00:19+05:30")
    for task in ("middle", "down"):
        assert [(due, status, count) for due, status, _, count in desk.outcomes(task)] == [
            ("10:00:05", "skipped", 1), ("10:00:10", "completed", 1), ("10:00:15", "skipped", 1),
        ]  # fmt: skip
