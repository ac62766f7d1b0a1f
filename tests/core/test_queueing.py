"""Runs that wait for a slot: how long they may, who goes first, and when nobody looks any more."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.core.admission import Admission
from scheduler.core.messages import (
    MILLISECOND,
    SECOND,
    PauseRequested,
    Priority,
    ResumeRequested,
    RunNow,
    Wake,
)
from scheduler.core.triggers import After, At, KeepRunning, On, parse_anchor
from tests.core.desk import ALWAYS, Desk, endless, ok, spec
from tests.core.tables import nse_week
from tests.helpers import instant

TABLE = nse_week()
TEN = "2026-11-23T10:00:00+05:30"
AT_TEN = At((parse_anchor("10:00"),))
LOOP = spec("loop", KeepRunning(frozenset({"open"})), restart=ALWAYS)


def waiting(seconds: float, **options: Any) -> Desk:
    """A run due at 10:00 that gets its slot so many seconds later."""
    tasks = [spec("hog", AT_TEN, priority=Priority.CRITICAL), spec("waits", AT_TEN, **options)]
    return Desk(tasks, TABLE, TEN, scripts={"hog": ok(seconds)}, admission=Admission(1, 0))


@pytest.mark.parametrize(
    ("catchup", "seconds", "outcome"),
    [
        (0, 0.5, ("completed", "")),
        (0, 1.0, ("completed", "")),  # within a second of its due it is on time
        (0, 1.1, ("skipped", "no-slot")),
        (1500 * MILLISECOND, 1.5, ("completed", "")),
        (1500 * MILLISECOND, 1.7, ("skipped", "no-slot")),
        (5 * SECOND, 5.0, ("completed", "")),
        (5 * SECOND, 5.1, ("skipped", "no-slot")),
    ],
)
def test_who_gets_a_slot_starts_as_late_as_law_4_lets_it(
    catchup: int, seconds: float, outcome: tuple[str, str]
) -> None:
    desk = waiting(seconds, catchup=catchup).until("2026-11-23T10:00:30+05:30")
    assert [row[1:3] for row in desk.outcomes("waits")] == [outcome]


def test_what_comes_after_a_long_run_is_as_late_as_it_has_waited_for_its_slot() -> None:
    tasks = [
        spec("up", AT_TEN, priority=Priority.CRITICAL),
        spec("down", After("up"), catchup=5 * SECOND),
        spec("other", AT_TEN),
    ]
    desk = Desk(tasks, TABLE, TEN, scripts={"up": ok(60), "other": ok(63)}, admission=Admission(2, 1))
    desk.until("2026-11-23T10:01:05+05:30")
    assert desk.outcomes("down") == [("10:00:00", "completed", "", 1)]


def test_what_the_clock_made_due_is_as_late_as_its_due_is_old_when_it_came_late_itself() -> None:
    tasks = [spec("hog", On(("nothing",))), spec("waits", AT_TEN, catchup=5 * SECOND)]
    desk = Desk(tasks, TABLE, "2026-11-23T09:59:59+05:30", scripts={"hog": ok(7)}, admission=Admission(1, 0))
    desk.tell(RunNow("hog"))
    desk.sleep("2026-11-23T10:00:04+05:30").tell(Wake())
    desk.until("2026-11-23T10:00:30+05:30")
    assert desk.outcomes("waits") == [("10:00:00", "skipped", "no-slot", 1)]


def test_a_critical_run_that_waits_takes_a_reserved_slot_that_comes_free() -> None:
    critical: dict[str, Any] = {"priority": Priority.CRITICAL}
    tasks = [spec("a", AT_TEN, **critical), spec("b", AT_TEN, **critical), spec("other", On(("nothing",)))]
    desk = Desk(
        tasks, TABLE, "2026-11-23T09:59:59+05:30", scripts={"a": ok(2), "other": endless},
        admission=Admission(slots=2, reserved=1),
    )  # fmt: skip
    desk.tell(RunNow("other"))
    desk.until("2026-11-23T10:00:03+05:30")
    assert [run.task for run in desk.started] == ["other", "a", "b"]


def test_a_loop_that_gave_up_its_place_and_takes_it_again_waits_on() -> None:
    """Both are for the stretch from 09:15, so that they are told apart by who came first."""
    hog = spec("hog", On(("nothing",)))
    desk = Desk(
        [hog, LOOP], TABLE, "2026-11-23T09:05:00+05:30", scripts={"hog": ok(3600), "loop": endless},
        admission=Admission(1, 0),
    )  # fmt: skip
    desk.tell(RunNow("hog"))
    desk.until("2026-11-23T09:15:00.500+05:30").tell(PauseRequested("loop"))
    desk.tell(ResumeRequested("loop"))
    desk.until("2026-11-23T10:30:00+05:30")
    assert desk.outcomes("loop")[-1] == ("09:15:00", "running", "", 1)


def test_a_loop_that_waits_behind_a_run_by_hand_overlaps_it_when_its_stretch_is_over() -> None:
    desk = Desk([LOOP], TABLE, "2026-11-23T09:14:00+05:30", scripts={"loop": endless})
    desk.tell(RunNow("loop"))
    desk.until("2026-11-23T15:31:00+05:30")
    assert desk.outcomes("loop")[-1] == ("09:15:00", "skipped", "overlap", 1)


def test_when_nobody_waits_any_more_nobody_looks_any_more() -> None:
    desk = waiting(1.5).until("2026-11-23T10:00:05+05:30")
    assert desk.engine.wake_at() == instant("2026-11-23T15:30:00+05:30"), "the next phase"
