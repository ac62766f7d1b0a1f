"""What an operator asks for, and what the engine answers when it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from scheduler.core.admission import Admission
from scheduler.core.engine import Engine
from scheduler.core.messages import (
    MINUTE,
    SECOND,
    Announce,
    CancelRequested,
    Cause,
    Configure,
    LoopLag,
    Overlap,
    PauseRequested,
    Priority,
    Remember,
    RestartRequested,
    ResumeRequested,
    RunEnded,
    RunNow,
    RunReturned,
    Status,
    StopRequested,
)
from scheduler.core.triggers import After, At, Every, KeepRunning, parse_anchor
from scheduler.errors import UnknownTaskError
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


def told(desk: Desk, task: str) -> Mapping[str, Any]:
    """What the snapshot says of a task."""
    (found,) = [each for each in desk.engine.snapshot() if each["task"] == task]
    return found


def attempts(desk: Desk, task: str) -> list[tuple[int, str, str]]:
    rows = sorted(((r.due, r.attempt), r) for r in desk.rows.values() if r.task == task)
    return [(r.attempt, str(r.status), str(r.reason)) for _, r in rows]


def test_an_operator_cancels_one_run_by_its_name_and_no_other() -> None:
    specs = [spec("a", at("10:00")), spec("b", at("10:00"))]
    desk = Desk(specs, TABLE, TEN, scripts={"a": endless, "b": endless})
    desk.tell(CancelRequested("a-20261123T043000Z"))
    desk.until("2026-11-23T10:00:01+05:30")
    assert attempts(desk, "a") == [(1, "cancelled", "operator")]
    assert attempts(desk, "b") == [(1, "running", "")]
    (stop,) = desk.stopped
    assert (stop.status, stop.grace) == (Status.CANCELLED, 10 * SECOND)


def test_a_run_that_is_over_cannot_be_cancelled_any_more() -> None:
    desk = Desk([spec("a", PACE)], TABLE, TEN).until("2026-11-23T10:00:06+05:30")
    desk.tell(CancelRequested("a-20261123T043000Z"))
    assert desk.stopped == []


def test_what_an_operator_cancelled_is_not_tried_again() -> None:
    desk = Desk([spec("a", at("10:00"), **CRITICAL)], TABLE, TEN, scripts={"a": endless})
    desk.tell(CancelRequested("a-20261123T043000Z"))
    desk.until("2026-11-23T10:10:00+05:30")
    assert len(desk.started) == 1


def test_a_restart_ends_the_backoff_at_once() -> None:
    task = spec("a", at("10:00"), **CRITICAL)
    desk = Desk([task], TABLE, TEN, scripts={"a": fails_first(4)}).until("2026-11-23T10:00:05+05:30")
    assert told(desk, "a")["state"] == "backing-off"
    desk.tell(RestartRequested("a"))
    assert [run.attempt for run in desk.started] == [1, 2, 3, 4]
    desk.until("2026-11-23T10:10:00+05:30")
    assert [run.attempt for run in desk.started] == [1, 2, 3, 4, 5]  # the timer of the fourth is gone


def test_a_restart_starts_a_loop_that_has_given_up() -> None:
    desk = Desk([spec("feed", OPEN, restart=NEVER)], TABLE, TEN, scripts={"feed": bad()})
    desk.until("2026-11-23T10:01:00+05:30")
    assert [run.attempt for run in desk.started] == [1]
    desk.tell(RestartRequested("feed"))
    assert [run.attempt for run in desk.started] == [1, 2]


@pytest.mark.parametrize("request_of", [RunNow, PauseRequested, ResumeRequested, RestartRequested])
def test_what_is_asked_of_nobody_is_refused_by_name(request_of: Any) -> None:
    desk = Desk([spec("eod-report", PACE)], TABLE, TEN)
    with pytest.raises(UnknownTaskError, match="no task is named 'eod-reprot'"):
        desk.tell(request_of("eod-reprot"))


def test_what_a_reload_removed_is_unknown_although_its_last_run_goes_on() -> None:
    desk = Desk([spec("a", PACE)], TABLE, TEN, scripts={"a": endless})
    desk.tell(Configure((), {"NSE": TABLE}))
    with pytest.raises(UnknownTaskError):
        desk.tell(PauseRequested("a"))
    desk.tell(RunEnded(desk.started[0], Status.COMPLETED))
    assert desk.engine.snapshot() == []


def test_the_end_of_a_run_told_twice_or_of_nobody_changes_nothing() -> None:
    desk = Desk([spec("a", PACE)], TABLE, TEN).until("2026-11-23T10:00:01+05:30")
    rows, said = dict(desk.rows), list(desk.said)
    desk.tell(RunEnded(desk.started[0], Status.FAILED, "error", "late"))
    desk.tell(RunEnded(desk.started[0]._replace(task="nobody"), Status.FAILED))
    desk.tell(RunReturned(desk.started[0]))
    desk.tell(RunReturned(desk.started[0]._replace(task="nobody")))
    assert (desk.rows, desk.said) == (rows, said)


def test_a_task_that_was_removed_is_forgotten_when_its_thread_returns() -> None:
    desk = Desk([spec("a", PACE)], TABLE, TEN, scripts={"a": endless})
    run = desk.started[0]
    desk.tell(RunEnded(run, Status.FAILED, "timeout", lingering=True))
    desk.tell(Configure((), {"NSE": TABLE}))
    assert [each["task"] for each in desk.engine.snapshot()] == ["a"]
    desk.tell(RunReturned(run))
    assert desk.engine.snapshot() == []


def test_pausing_ends_a_loop_and_what_waits_to_be_tried_again() -> None:
    specs = [spec("feed", OPEN), spec("a", at("10:00"), **CRITICAL)]
    desk = Desk(specs, TABLE, TEN, scripts={"feed": endless, "a": bad()})
    desk.until("2026-11-23T10:00:01+05:30")
    for task in ("feed", "a"):
        desk.tell(PauseRequested(task))
    desk.until("2026-11-23T10:10:00+05:30")
    assert attempts(desk, "feed") == [(1, "cancelled", "paused")]
    assert attempts(desk, "a") == [(1, "failed", "error")]
    assert [said["task"] for said in desk.fields("task.paused")] == ["feed", "a"]


def test_pausing_lets_a_run_end_in_its_own_time() -> None:
    desk = Desk([spec("a", PACE)], TABLE, TEN, scripts={"a": ok(3)})
    desk.tell(PauseRequested("a"))
    desk.until("2026-11-23T10:00:06+05:30")
    assert desk.outcomes("a") == [("10:00:00", "completed", "", 1), ("10:00:05", "skipped", "paused", 1)]


def test_a_later_pause_takes_the_place_of_an_earlier_one() -> None:
    desk = Desk([spec("a", PACE)], TABLE, TEN)
    desk.tell(PauseRequested("a", until=instant("2026-11-23T10:00:07+05:30")))
    desk.tell(PauseRequested("a"))
    desk.until("2026-11-23T10:01:00+05:30")
    assert told(desk, "a")["state"] == "paused"
    assert len(desk.started) == 1


def test_a_run_by_hand_does_not_wait_for_the_backoff_of_a_loop_and_takes_its_place() -> None:
    task = spec("feed", OPEN, **CRITICAL)
    desk = Desk([task], TABLE, TEN, scripts={"feed": fails_first(4)}).until("2026-11-23T10:00:05+05:30")
    desk.scripts["feed"] = endless
    desk.tell(RunNow("feed"))
    desk.until("2026-11-23T10:05:00+05:30")
    assert [(run.attempt, run.cause) for run in desk.started[3:]] == [(4, Cause.MANUAL)]


def test_two_runs_by_hand_in_the_same_instant_have_dues_of_their_own() -> None:
    desk = Desk([spec("a", at("12:00"))], TABLE, "2026-11-23T10:00:01+05:30", scripts={"a": ok(0)})
    for _ in range(2):
        desk.tell(RunNow("a"))
        desk.tell(RunEnded(desk.started[-1], Status.COMPLETED))
    first, second = (run.due for run in desk.started)
    assert (first, second) == (instant("2026-11-23T10:00:01+05:30"), first + 1)


def test_completed_runs_are_announced_to_those_who_want_to_hear_of_them() -> None:
    engine = Engine(jitter=lambda: 0.0, verbose=True)
    now = instant(TEN)
    engine.handle(Configure((spec("a", PACE),), {"NSE": TABLE}), now)
    run = engine.tasks["a"].active
    assert run is not None
    actions = engine.handle(RunEnded(run, Status.COMPLETED), now + 1500 * 1_000_000)
    (said,) = [action for action in actions if isinstance(action, Announce)]
    assert (said.event, said.level) == ("run.completed", "debug")
    assert said.fields == {
        "task": "a", "run_id": "a-20261123T043000Z", "due": now, "attempt": 1, "seconds": 1.5,
    }  # fmt: skip


def test_the_snapshot_goes_by_priority_and_name_and_says_what_each_task_does() -> None:
    specs = [
        spec("waits", at("11:00")),
        spec("runs", at("10:00")),
        spec("z", at("10:00"), **CRITICAL),
        spec("nice", PACE, priority=Priority.NICE_TO_HAVE),
    ]
    desk = Desk(specs, TABLE, TEN, scripts={"runs": endless, "z": bad()}).until("2026-11-23T10:00:00.5+05:30")
    assert [(each["task"], each["priority"], each["state"]) for each in desk.engine.snapshot()] == [
        ("z", "critical", "backing-off"),
        ("runs", "important", "running"),
        ("waits", "important", "waiting"),
        ("nice", "nice-to-have", "waiting"),
    ]
    z = dict(told(desk, "z"))
    assert iso(z.pop("next")) == "2026-11-23T10:00:01.100000+05:30"  # its retry, before tomorrow's tick
    assert z == {
        "task": "z", "priority": "critical", "market": "NSE", "state": "backing-off",
        "health": "backing-off", "run_id": None, "last_success": None, "consecutive_failures": 1,
        "restarts": 1,
    }  # fmt: skip
    assert told(desk, "runs")["run_id"] == "runs-20261123T043000Z"
    assert iso(told(desk, "nice")["last_success"]) == "2026-11-23T10:00:00.100000+05:30"
    assert iso(told(desk, "waits")["next"]) == "2026-11-23T11:00:00+05:30"


def test_the_snapshot_has_a_word_for_whatever_keeps_a_task() -> None:
    specs = [
        spec("refused", PACE),
        spec("parked", PACE),
        spec("paused", PACE),
        spec("queued", at("10:01")),
        spec("taker", at("10:00"), **CRITICAL),
    ]
    desk = Desk(
        specs, TABLE, "2026-11-23T09:59:59+05:30", refused={"refused": "no module"},
        scripts={"parked": bad(0), "taker": endless}, admission=Admission(2, 1),
    )  # fmt: skip
    desk.tell(PauseRequested("paused"))
    desk.until("2026-11-23T10:00:30+05:30").scripts["parked"] = endless
    desk.tell(RunNow("parked"))  # which takes the last slot
    desk.until("2026-11-23T10:01:01+05:30")
    states = {each["task"]: each["state"] for each in desk.engine.snapshot()}
    assert states == {
        "refused": "refused", "parked": "parked", "paused": "paused", "queued": "queued", "taker": "running",
    }  # fmt: skip


def test_upcoming_names_so_many_runs_of_different_tasks_soonest_first() -> None:
    specs = [
        spec("a", at("10:30")),
        spec("b", PACE),
        spec("c", PACE, **CRITICAL),
        spec("loop", KeepRunning()),
    ]
    desk = Desk(specs, TABLE, "2026-11-23T10:00:01+05:30", scripts={"loop": endless})
    found = [(iso(when)[11:19], name) for when, name in desk.engine.upcoming(10)]
    assert found == [("10:00:05", "c"), ("10:00:05", "b"), ("10:30:00", "a")]
    assert [name for _, name in desk.engine.upcoming(1)] == ["c"]


def test_it_is_idle_when_nothing_runs() -> None:
    desk = Desk([spec("a", PACE), spec("b", at("12:00"))], TABLE, TEN, scripts={"a": ok(2)})
    assert not desk.engine.idle()
    assert desk.until("2026-11-23T10:00:03+05:30").engine.idle()


def test_stopping_settles_what_waits_to_be_tried_again() -> None:
    specs = [spec("a", at("10:00"), **CRITICAL), spec("down", at("12:00"))]
    desk = Desk(specs, TABLE, TEN, scripts={"a": bad()}).until("2026-11-23T10:00:00.5+05:30")
    desk.tell(StopRequested())
    desk.until("2026-11-23T10:10:00+05:30")
    assert attempts(desk, "a") == [(1, "failed", "error")]
    assert desk.engine.idle()


def test_what_fails_while_the_scheduler_stops_is_not_tried_again() -> None:
    desk = Desk([spec("a", at("10:00"), **CRITICAL)], TABLE, TEN, scripts={"a": bad(1)})
    desk.tell(StopRequested())
    desk.until("2026-11-23T10:10:00+05:30")
    assert attempts(desk, "a") == [(1, "failed", "error")]
    assert desk.events("task.restarting") == []


def test_a_pause_told_twice_in_the_same_instant_is_remembered_once() -> None:
    engine = Engine(jitter=lambda: 0.0)
    engine.handle(Configure((spec("a", at("12:00")),), {"NSE": TABLE}), instant(TEN))
    told = [engine.handle(PauseRequested("a"), instant(TEN)) for _ in range(2)]
    assert [sum(isinstance(action, Remember) for action in actions) for actions in told] == [1, 0]


def test_a_resumption_says_and_remembers_who_wanted_it_and_why() -> None:
    desk = Desk([spec("a", PACE)], TABLE, TEN)
    desk.tell(PauseRequested("a"))
    desk.tell(ResumeRequested("a", by="asha", reason="feed is back"))
    assert desk.fields("task.resumed") == [{"task": "a", "by": "asha", "reason": "feed is back"}]
    assert desk.remembered["a"] == {
        "resumed": {"since": instant(TEN), "by": "asha", "reason": "feed is back"}
    }  # fmt: skip


def test_a_lag_that_changes_nothing_is_not_announced() -> None:
    desk = Desk([spec("a", PACE)], TABLE, TEN)
    for lag in (0, SECOND // 4, 2 * SECOND, 3 * SECOND):
        desk.tell(LoopLag(lag))
    assert desk.events("load.shedding", "load.normal") == ["load.shedding"]


def test_the_tally_counts_tasks_by_what_they_do() -> None:
    specs = [spec("a", PACE), spec("b", PACE), spec("c", at("12:00"))]
    desk = Desk(specs, TABLE, TEN, scripts={"a": endless, "b": endless})
    assert desk.engine.tally() == {"running": 2, "waiting": 1}


LIMIT = "2026-11-23T10:00:30+05:30"  # half a minute after ten


def test_a_critical_tick_that_nobody_took_note_of_for_half_a_minute_is_overdue() -> None:
    specs = [spec("z", at("10:00"), **CRITICAL), spec("a", at("10:00"))]
    desk = Desk(specs, TABLE, "2026-11-23T09:59:00+05:30")
    assert desk.engine.overdue(instant(LIMIT) - 1) == []
    assert desk.engine.overdue(instant(LIMIT)) == ["z"]


def test_a_task_that_hangs_is_owed_nothing_but_its_ticks() -> None:
    task = spec("z", at("10:00", "10:01"), **CRITICAL)
    desk = Desk([task], TABLE, TEN, scripts={"z": endless})
    assert desk.engine.overdue(instant("2026-11-23T10:01:29+05:30")) == []
    assert desk.engine.overdue(instant("2026-11-23T10:01:30+05:30")) == ["z"]


def test_a_retry_that_is_not_made_is_overdue_and_a_backoff_is_not() -> None:
    desk = Desk([spec("z", at("10:00"), **CRITICAL)], TABLE, TEN, scripts={"z": bad(0)})
    desk.until("2026-11-23T10:00:00.500+05:30")  # to be tried again at :01
    assert desk.engine.overdue(instant("2026-11-23T10:00:30+05:30")) == []
    assert desk.engine.overdue(instant("2026-11-23T10:00:31+05:30")) == ["z"]


def test_a_run_that_waits_for_a_slot_is_overdue_only_when_there_is_one() -> None:
    specs = [spec("a", at("10:00"), **CRITICAL), spec("z", at("10:00"), **CRITICAL)]
    desk = Desk(specs, TABLE, TEN, scripts={"a": endless}, admission=Admission(1, 0))
    desk.until("2026-11-23T10:00:00.500+05:30")
    assert desk.engine.snapshot()[1]["state"] == "queued"
    assert desk.engine.overdue(instant("2026-11-23T10:05:00+05:30")) == []
    desk.engine._admission.release(Priority.CRITICAL)
    assert desk.engine.overdue(instant("2026-11-23T10:05:00+05:30")) == ["z"]


def test_nothing_is_owed_to_a_task_that_was_removed_while_its_run_goes_on() -> None:
    desk = Desk([spec("z", at("10:00"), **CRITICAL)], TABLE, TEN, scripts={"z": endless})
    desk.tell(Configure((), {"NSE": TABLE}))
    assert desk.engine.overdue(instant("2026-11-25T12:00:00+05:30")) == []


def test_a_loop_without_a_stretch_that_runs_is_not_started_again_by_hand() -> None:
    desk = Desk([spec("a", KeepRunning(), restart=ALWAYS)], TABLE, TEN, scripts={"a": endless})
    desk.until(TEN).tell(RunNow("a"))
    assert [run.cause for run in desk.started] == ["tick"]
    assert desk.engine.tasks["a"].queued is None
    assert attempts(desk, "a")[-1][1:] == ("skipped", "overlap")


def test_a_task_that_is_resumed_while_it_backs_off_is_tried_at_once() -> None:
    desk = Desk([spec("a", at("10:00"), **CRITICAL)], TABLE, TEN, scripts={"a": bad()})
    desk.until("2026-11-23T10:00:40+05:30")
    before = len(desk.started)
    desk.tell(ResumeRequested("a"))
    assert len(desk.started) == before + 1


@pytest.mark.parametrize("change", [{"timeout": MINUTE}, None])
def test_a_trouble_that_ends_with_a_definition_is_told_to_have_ended(change: dict[str, Any] | None) -> None:
    task = spec("a", PACE, fresh_within=MINUTE)
    desk = Desk([task], TABLE, TEN, scripts={"a": bad()}).until("2026-11-23T10:02:00+05:30")
    assert desk.events("task.parked", "task.stale") == ["task.parked", "task.stale"]
    desk.tell(Configure(() if change is None else (replace(task, **change),), {"NSE": TABLE}))
    reason = "the task is removed" if change is None else "its definition has changed"
    assert desk.fields("task.resumed") == [{"task": "a", "reason": reason}]
    assert desk.fields("task.fresh") == [{"task": "a", "reason": reason}]


def test_a_task_that_could_not_be_imported_is_told_to_be_well_once_it_can_be() -> None:
    task = spec("a", PACE)
    desk = Desk([task], TABLE, TEN, refused={"a": "no module named 'desk'"})
    desk.tell(Configure((task,), {"NSE": TABLE}))
    assert [fields["reason"] for fields in desk.fields("task.resumed")] == ["it can be run now"]


def test_a_run_that_waits_is_cancelled_with_one_outcome_and_those_after_it_hear_of_it() -> None:
    specs = [spec("a", at("10:00", "10:01"), overlap=Overlap.QUEUE_ONE), spec("then", After("a"))]
    desk = Desk(specs, TABLE, TEN, scripts={"a": endless}).until("2026-11-23T10:01:01+05:30")
    desk.tell(CancelRequested("a-20261123T043100Z"))
    assert told(desk, "a")["state"] == "running"
    assert attempts(desk, "a") == [(1, "running", ""), (1, "cancelled", "operator")]
    assert attempts(desk, "then") == [(0, "queued", ""), (0, "skipped", "upstream")]
    (said,) = [each for each in desk.said if each.event == "run.cancelled"]
    assert said.fields["run_id"] == "a-20261123T043100Z"
    desk.end(desk.started[0], RunEnded(desk.started[0], Status.COMPLETED))
    desk.until("2026-11-23T10:10:00+05:30")
    assert desk.starts("a") == ["2026-11-23T10:00:00+05:30"]
    assert attempts(desk, "a") == [(1, "completed", ""), (1, "cancelled", "operator")]


def test_a_run_by_hand_that_waits_on_record_is_cancelled_in_its_place() -> None:
    desk = Desk([spec("a", at("10:00"), overlap=Overlap.QUEUE_ONE)], TABLE, TEN, scripts={"a": endless})
    desk.until("2026-11-23T10:00:05+05:30")
    desk.tell(RunNow("a"))
    assert attempts(desk, "a") == [(1, "running", ""), (0, "queued", "")]
    desk.tell(CancelRequested("a-20261123T043005Z"))
    assert attempts(desk, "a") == [(1, "running", ""), (1, "cancelled", "operator")]


def test_of_a_retry_that_is_cancelled_while_it_waits_the_failure_stands() -> None:
    specs = [
        spec("a", at("10:00"), restart=ALWAYS),
        spec("b", at("12:00")),
        spec("then", After("a")),
    ]
    desk = Desk(specs, TABLE, TEN, scripts={"a": bad(), "b": endless}, admission=Admission(1, 0))
    desk.until("2026-11-23T10:00:00.500+05:30").tell(RunNow("b"))
    desk.until("2026-11-23T10:00:03+05:30")
    (waiting,) = [run for run in [desk.engine.tasks["a"].queued] if run is not None]
    assert waiting.attempt > 1
    desk.tell(CancelRequested(waiting.run_id))
    assert desk.engine.tasks["a"].queued is None
    assert attempts(desk, "a")[-1] == (waiting.attempt - 1, "failed", "error")
    assert attempts(desk, "then") == [(0, "skipped", "upstream")]


def test_until_when_a_task_is_paused_and_who_takes_slots_can_be_seen() -> None:
    desk = Desk([spec("a", PACE), spec("b", PACE)], TABLE, TEN, scripts={"a": endless, "b": endless})
    assert desk.engine.tasks["a"].paused_until is None
    desk.tell(PauseRequested("a", instant("2026-11-23T11:00:00+05:30")))
    assert desk.engine.tasks["a"].paused_until == instant("2026-11-23T11:00:00+05:30")
    assert (desk.engine.slots.taken, desk.engine.slots.slots) == (2, 64)
    assert desk.engine.state("a").name == "a"
    with pytest.raises(UnknownTaskError, match="did you mean 'a'"):
        desk.engine.state("aa")
