"""What outlives a scheduler, and what does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from scheduler.core.admission import Admission
from scheduler.core.messages import (
    SECOND,
    Configure,
    LoopLag,
    PauseRequested,
    Priority,
    Remembered,
    ResumeRequested,
    RunEnded,
    RunNow,
    RunReturned,
    Status,
    TaskSpec,
)
from scheduler.core.triggers import At, Every, KeepRunning, parse_anchor
from tests.core.desk import ALWAYS, Desk, bad, endless, ok, spec
from tests.core.tables import nse_week
from tests.helpers import instant

TABLE = nse_week()
PACE = Every({"open": 5 * SECOND, "closed": 300 * SECOND})
TEN = "2026-11-23T10:00:01+05:30"
LATER = "2026-11-23T10:05:01+05:30"
CRITICAL: dict[str, Any] = {"priority": Priority.CRITICAL, "restart": ALWAYS}


def desk(*specs: TaskSpec, at: str = TEN, **options: Any) -> Desk:
    return Desk(specs, TABLE, at, **options)


def parked_by(task: TaskSpec) -> Remembered:
    found = desk(task, scripts={task.name: bad()}).until("2026-11-23T10:01:00+05:30").remembered
    assert found[task.name]["health"]["health"] == "parked"
    return found


def test_a_parked_task_stays_parked_in_the_next_scheduler_and_says_so() -> None:
    task = spec("a", PACE)
    again = desk(task, at=LATER, remembered=parked_by(task)).until("2026-11-23T10:06:00+05:30")
    assert again.started == []
    assert {row[1:3] for row in again.outcomes("a")} == {("skipped", "parked")}
    (said,) = again.fields("task.parked")
    assert (said["reason"], said["failures"], said["ends_by"]) == (
        "ValueError: no",
        3,
        "`scheduler resume a`, or a changed definition",
    )


def test_a_loop_that_was_parked_is_not_started_by_the_next_scheduler() -> None:
    task = spec("loop", KeepRunning(frozenset({"open"})))
    assert desk(task, at=LATER, remembered=parked_by(task)).started == []


def test_a_changed_definition_ends_parking_over_a_restart_and_by_a_reload() -> None:
    task = spec("a", PACE)
    changed = replace(task, timeout=60 * SECOND)
    again = desk(changed, at=LATER, remembered=parked_by(task)).until("2026-11-23T10:05:06+05:30")
    assert again.outcomes("a") == [("10:05:05", "completed", "", 1)]
    assert again.remembered["a"] == {}
    reloaded = desk(task, at=LATER, remembered=parked_by(task))
    reloaded.tell(Configure((changed,), {"NSE": TABLE}))
    assert reloaded.remembered["a"] == {}
    assert reloaded.until("2026-11-23T10:05:06+05:30").outcomes("a") == [("10:05:05", "completed", "", 1)]


@pytest.mark.parametrize("event", [RunNow("a"), ResumeRequested("a")])
def test_a_success_by_hand_and_a_resumption_end_parking_for_good(event: RunNow | ResumeRequested) -> None:
    task = spec("a", PACE)
    again = desk(task, at=LATER, remembered=parked_by(task))
    again.tell(event)
    again.until("2026-11-23T10:05:06+05:30")
    assert again.remembered["a"] == {}
    assert ("10:05:05", "completed", "", 1) in again.outcomes("a")


def test_a_pause_goes_on_in_the_next_scheduler_until_its_end() -> None:
    task = spec("a", PACE)
    before = desk(task)
    before.tell(PauseRequested("a", until=instant("2026-11-23T10:05:22+05:30")))
    again = desk(task, at=LATER, remembered=before.remembered).until("2026-11-23T10:05:26+05:30")
    assert again.outcomes("a") == [("10:05:05", "skipped", "paused", 4), ("10:05:25", "completed", "", 1)]
    assert again.remembered["a"] == {}


def test_a_pause_whose_end_came_while_nothing_ran_is_over() -> None:
    before = desk(spec("a", PACE))
    before.tell(PauseRequested("a", until=instant("2026-11-23T10:02:00+05:30")))
    again = desk(spec("a", PACE), at=LATER, remembered=before.remembered)
    assert again.remembered["a"] == {}
    assert again.until("2026-11-23T10:05:06+05:30").starts("a") == ["2026-11-23T10:05:05+05:30"]


def test_a_pause_without_end_outlives_a_changed_definition_and_ends_by_resumption() -> None:
    before = desk(spec("a", PACE))
    before.tell(PauseRequested("a"))
    again = desk(spec("a", PACE, timeout=SECOND), at=LATER, remembered=before.remembered)
    again.until("2026-11-23T10:05:06+05:30")
    assert again.outcomes("a") == [("10:05:05", "skipped", "paused", 1)]
    again.tell(ResumeRequested("a"))
    assert again.remembered["a"] == {}


def test_the_end_of_a_pause_does_not_end_parking() -> None:
    task = spec("a", PACE)
    again = desk(task, at=LATER, remembered=parked_by(task))
    again.tell(PauseRequested("a", until=instant("2026-11-23T10:05:07+05:30")))
    again.until("2026-11-23T10:06:00+05:30")
    assert again.started == []
    assert again.outcomes("a")[-1][1:3] == ("skipped", "parked")


def test_what_is_remembered_of_a_task_goes_with_it() -> None:
    task = spec("a", PACE)
    remembered = parked_by(task)
    assert desk(spec("b", PACE), at=LATER, remembered=remembered).remembered["a"] == {}
    disabled = replace(task, enabled=False)
    assert desk(disabled, at=LATER, remembered=remembered).remembered["a"] == {}
    reloaded = desk(task, at=LATER, remembered=remembered)
    reloaded.tell(Configure((), {"NSE": TABLE}))
    assert reloaded.remembered["a"] == {}


def test_a_paused_task_that_was_removed_and_has_come_back_while_it_ran_is_not_paused() -> None:
    task = spec("a", At((parse_anchor("10:00"), parse_anchor("10:10"))))
    running = desk(task, at="2026-11-23T09:59:00+05:30", scripts={"a": endless})
    running.until(TEN).tell(PauseRequested("a"))
    running.tell(Configure((), {"NSE": TABLE}))
    running.tell(Configure((task,), {"NSE": TABLE}))
    assert not running.engine.tasks["a"].paused
    assert running.remembered["a"] == {}


def test_a_backoff_is_remembered_until_the_task_is_healthy() -> None:
    one = desk(spec("a", PACE, **CRITICAL), scripts={"a": bad()}).until("2026-11-23T10:00:05.500+05:30")
    assert one.remembered["a"]["health"] == {
        "health": "backing-off",
        "since": instant("2026-11-23T10:00:05.100+05:30"),
        "reason": "ValueError: no",
        "failures": 1,
        "until": instant("2026-11-23T10:00:06.100+05:30"),
    }
    again = one.until("2026-11-23T10:00:07+05:30").remembered["a"]["health"]
    assert (again["failures"], again["since"]) == (2, instant("2026-11-23T10:00:05.100+05:30"))
    one.until("2026-11-23T10:01:00+05:30")
    assert one.remembered["a"]["health"]["health"] == "crash-looping"
    assert one.remembered["a"]["health"]["since"] > instant("2026-11-23T10:00:07+05:30")
    assert one.remembered["a"]["health"]["failures"] >= 5
    one.scripts["a"] = ok()
    assert one.until("2026-11-23T10:02:00+05:30").remembered["a"] == {}


def test_of_a_crash_loop_the_next_scheduler_knows_nothing() -> None:
    task = spec("a", PACE, **CRITICAL)
    before = desk(task, scripts={"a": bad()}).until("2026-11-23T10:01:00+05:30")
    again = desk(task, at=LATER, remembered=before.remembered)
    assert again.remembered["a"] == {}
    assert len(again.until("2026-11-23T10:05:06+05:30").started) == 1


def test_a_callable_that_cannot_be_had_is_remembered_until_it_can() -> None:
    one = desk(spec("a", PACE), refused={"a": "No module named 'desk'"})
    assert one.remembered["a"]["refused"]["reason"] == "No module named 'desk'"
    again = desk(spec("a", PACE), at=LATER, remembered=one.remembered)
    assert again.remembered["a"] == {}
    one.tell(Configure((spec("a", PACE),), {"NSE": TABLE}))
    assert one.remembered["a"] == {}


def test_what_waits_for_a_slot_for_a_second_is_remembered_until_it_gets_one() -> None:
    tasks = [spec(name, At((parse_anchor("10:01"),))) for name in "ab"]
    one = desk(*tasks, scripts={"a": ok(5)}, admission=Admission(slots=1, reserved=0))
    one.until("2026-11-23T10:01:03+05:30")
    assert one.remembered == {"b": {"waiting": {"since": instant("2026-11-23T10:01:01+05:30")}}}
    assert one.until("2026-11-23T10:01:10+05:30").remembered == {"b": {}}


def test_shedding_is_remembered_of_the_scheduler_itself_and_ends_with_it() -> None:
    one = desk(spec("a", PACE))
    one.tell(LoopLag(SECOND // 2))
    assert one.remembered[""]["shedding"]["priorities"] == ["nice-to-have"]
    assert desk(spec("a", PACE), at=LATER, remembered=one.remembered).remembered[""] == {}
    one.tell(LoopLag(0))
    assert one.remembered[""] == {}


def test_a_run_that_cannot_be_ended_is_remembered_until_it_returns_and_its_restart_has_a_proviso() -> None:
    stuck = desk(spec("a", PACE), scripts={"a": endless}).until("2026-11-23T10:00:06+05:30")
    run = stuck.started[-1]
    stuck.tell(RunEnded(run, Status.FAILED, "timeout", "timed out", lingering=True))
    assert stuck.remembered["a"]["stuck"] == {"since": stuck.now, "due": run.due}
    assert stuck.fields("task.restarting")[-1]["provided"] == "the run that timed out has returned by then"
    stuck.tell(RunReturned(run))
    assert "stuck" not in stuck.remembered["a"]
