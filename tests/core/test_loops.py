"""Tasks that are kept running: what keeps them from being started, or started once too often."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.core.admission import Admission
from scheduler.core.messages import (
    Configure,
    Event,
    PauseRequested,
    ResumeRequested,
    RunEnded,
    RunNow,
    Status,
    StopRequested,
)
from scheduler.core.triggers import At, KeepRunning, parse_anchor
from tests.core.desk import ALWAYS, NEVER, ON_FAILURE, Desk, bad, endless, ok, spec
from tests.core.tables import nse_week, table

TABLE = nse_week()
TEN = "2026-11-23T10:00:00+05:30"
LOOP = spec("loop", KeepRunning(frozenset({"open"})), restart=ALWAYS)
EARLIER = nse_week(changes={"2026-11-23": [("open", "08:00", "15:30")]})


def waiting_for_a_slot() -> Desk:
    """It is due at 09:15, and the only slot is taken until 10:00."""
    hog = spec("hog", At((parse_anchor("09:10"),)))
    return Desk(
        [hog, LOOP], TABLE, "2026-11-23T09:05:00+05:30", scripts={"hog": ok(50 * 60), "loop": endless},
        admission=Admission(1, 0),
    ).until("2026-11-23T09:30:00+05:30")  # fmt: skip


def test_a_loop_that_waits_for_a_slot_and_is_resumed_goes_on_waiting() -> None:
    desk = waiting_for_a_slot()
    desk.tell(ResumeRequested("loop"))
    assert desk.outcomes("loop") == []
    desk.until("2026-11-23T10:05:00+05:30")
    assert desk.outcomes("loop") == [("09:15:00", "running", "", 1)]


def test_a_loop_that_waits_for_a_slot_goes_on_waiting_by_another_definition() -> None:
    desk = waiting_for_a_slot()
    changed = replace(LOOP, stop_grace=0)
    desk.tell(Configure((desk.engine.tasks["hog"].spec, changed), {"NSE": TABLE}))
    assert desk.outcomes("loop") == [("09:15:00", "queued", "", 1)]


def test_a_loop_that_waits_for_a_slot_in_a_stretch_that_is_none_any_more_got_no_slot() -> None:
    desk = waiting_for_a_slot()
    desk.tell(Configure((desk.engine.tasks["hog"].spec, LOOP), {"NSE": EARLIER}))
    assert desk.outcomes("loop") == [("09:15:00", "skipped", "no-slot", 1)]
    assert desk.fields("run.skipped")[-1]["reason"] == "no-slot"


def test_a_loop_that_backs_off_and_is_resumed_is_tried_at_once_and_once() -> None:
    desk = Desk([LOOP], TABLE, TEN, scripts={"loop": bad(0)}).until("2026-11-23T10:00:00.500+05:30")
    desk.tell(ResumeRequested("loop"))
    desk.until("2026-11-23T10:00:01+05:30")
    assert [row[1] for row in desk.outcomes("loop")] == ["failed", "failed"]


def test_a_loop_that_was_paused_at_its_start_and_is_resumed_while_all_stops_has_been_skipped() -> None:
    others = spec("others", At((parse_anchor("10:00"),)))
    desk = Desk([LOOP, others], TABLE, "2026-11-23T09:00:00+05:30", scripts={"others": endless})
    desk.tell(PauseRequested("loop"))
    desk.until("2026-11-23T10:00:01+05:30").tell(StopRequested())
    desk.tell(ResumeRequested("loop"))
    assert desk.outcomes("loop") == [("09:15:00", "skipped", "paused", 1)]


def test_a_loop_run_by_hand_whose_stretch_outlasts_the_table_has_had_its_run() -> None:
    to_the_end = table("Asia/Kolkata", [("2026-11-23", [("open", "09:15", "00:00")])], name="NSE")
    task = replace(LOOP, restart=ON_FAILURE)
    desk = Desk([task], to_the_end, TEN, scripts={"loop": ok(1)}).until("2026-11-23T10:00:05+05:30")
    desk.tell(RunNow("loop"))
    desk.until("2026-11-23T10:00:10+05:30")
    assert [run.attempt for run in desk.started] == [1, 2]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (PauseRequested("loop"), "paused"),
        (Configure((LOOP,), {"NSE": TABLE}, {"loop": "no module"}), "parked"),
    ],
)
def test_a_loop_that_is_barred_while_a_run_by_hand_is_in_its_place_is_skipped_once(
    event: Event, reason: str
) -> None:
    """That run was begun before the stretch, and what waited for its end has had its outcome."""
    desk = Desk([LOOP], TABLE, "2026-11-23T09:14:00+05:30", scripts={"loop": endless})
    desk.tell(RunNow("loop"))
    desk.until("2026-11-23T09:16:00+05:30").tell(event)
    desk.until("2026-11-23T09:17:00+05:30")
    assert desk.outcomes("loop")[-1] == ("09:15:00", "skipped", reason, 1)
    assert len(desk.fields("run.skipped")) == 1


def test_a_loop_that_cannot_be_imported_any_more_is_not_due_in_the_stretch_of_its_new_definition() -> None:
    desk = Desk([LOOP], TABLE, TEN, scripts={"loop": endless})
    wider = replace(LOOP, trigger=KeepRunning(frozenset({"pre-open", "open"})))
    desk.tell(Configure((wider,), {"NSE": TABLE}, {"loop": "no module"}))
    desk.until("2026-11-23T10:00:01+05:30")
    assert desk.outcomes("loop") == [("09:15:00", "cancelled", "reloaded", 1)]


def test_a_loop_that_is_parked_by_the_failure_of_a_run_by_hand_is_skipped_once() -> None:
    parking = replace(LOOP.restart, burst=1, then="park")
    desk = Desk(
        [replace(LOOP, restart=parking)], TABLE, "2026-11-23T09:14:00+05:30", scripts={"loop": endless}
    )
    desk.tell(RunNow("loop"))
    (run,) = desk.started
    desk.until("2026-11-23T09:16:00+05:30").end(run, RunEnded(run, Status.FAILED, "error", "no"))
    assert desk.outcomes("loop")[-1] == ("09:15:00", "skipped", "parked", 1)
    assert len(desk.fields("run.skipped")) == 1
    assert desk.events("task.parked") == ["task.parked"]


def test_a_loop_that_is_never_restarted_stays_ended_when_it_fails() -> None:
    desk = Desk([replace(LOOP, restart=NEVER)], TABLE, TEN, scripts={"loop": bad(1)})
    desk.until("2026-11-23T15:00:00+05:30")
    assert desk.outcomes("loop") == [("09:15:00", "failed", "error", 1)]
