"""What becomes of runs that are not started: what is said of it, what is recorded, who learns of it."""

from __future__ import annotations

from scheduler.core.admission import Admission
from scheduler.core.market import is_assumed
from scheduler.core.messages import (
    MINUTE,
    SECOND,
    Configure,
    LoopLag,
    Overlap,
    PauseRequested,
    Priority,
    ResumeRequested,
    RunNow,
    Status,
    StopRequested,
    Wake,
)
from scheduler.core.triggers import After, At, Every, KeepRunning, On, parse_anchor
from tests.core.desk import ALWAYS, Desk, bad, endless, spec
from tests.core.tables import nse_week
from tests.core.test_horizon import past_horizon
from tests.helpers import instant

TABLE = nse_week()
AMENDED = nse_week(changes={"2026-11-27": None})
TEN = "2026-11-23T10:00:00+05:30"
FIRST = instant(TEN)
PACE = Every({"*": 5 * SECOND})
UP, DOWN = spec("up", PACE), spec("down", After("up"))


def levels(desk: Desk, event: str) -> set[tuple[str, str, str]]:
    return {
        (said.fields["task"], str(said.fields["reason"]), said.level)
        for said in desk.said
        if said.event == event
    }


def test_a_skip_is_a_warning_unless_somebody_wanted_it_or_knows_of_it_already() -> None:
    tasks = [
        spec("hangs", PACE),
        spec("paused", PACE),
        spec("fails", PACE, restart=ALWAYS),
        spec("follows", After("paused")),
        spec("lesser", PACE, priority=Priority.NICE_TO_HAVE),
    ]
    desk = Desk(
        tasks, TABLE, TEN, scripts={"hangs": endless, "fails": bad(4.5)}, refused={"lesser": "no module"}
    )
    desk.tell(PauseRequested("paused"))
    desk.until("2026-11-23T10:00:06+05:30").tell(Configure(tuple(tasks), {"NSE": TABLE}))
    desk.tell(LoopLag(SECOND // 2))
    desk.until("2026-11-23T10:00:11+05:30")
    assert levels(desk, "run.skipped") == {
        ("hangs", "overlap", "warning"),
        ("paused", "paused", "info"),
        ("follows", "upstream", "info"),
        ("fails", "backing-off", "info"),
        ("fails", "overlap", "warning"),
        ("lesser", "parked", "info"),
        ("lesser", "shed", "warning"),
    }


def test_who_waits_for_skips_hears_of_those_that_no_event_has_caused() -> None:
    """Two that wait for them and skip each other would never come to an end."""
    pagers = [spec(name, On(("run.skipped",))) for name in ("one", "two")]
    desk = Desk([UP, *pagers], TABLE, TEN, scripts={"up": endless, "one": endless, "two": endless})
    desk.until("2026-11-23T10:00:16+05:30")
    assert [(run.task, run.subject) for run in desk.started if run.task != "up"] == [
        ("one", "up"),
        ("two", "up"),
    ]
    assert [said["task"] for said in desk.fields("run.skipped")] == ["up"]


def test_what_is_missed_is_a_warning_and_what_comes_after_it_is_missed_from_and_to_the_same_due() -> None:
    desk = Desk([UP, DOWN], TABLE, TEN).until("2026-11-23T10:00:01+05:30")
    desk.sleep("2026-11-23T10:00:21+05:30").tell(Wake())
    missed = [row for row in desk.rows.values() if row.status is Status.MISSED]
    assert [(row.task, row.due, row.last_due, row.count, row.cause) for row in missed] == [
        ("up", FIRST + 5 * SECOND, FIRST + 15 * SECOND, 3, "tick"),
        ("down", FIRST + 5 * SECOND, FIRST + 15 * SECOND, 3, "after"),
    ]
    assert levels(desk, "run.missed") == {("up", "downtime", "warning"), ("down", "downtime", "warning")}


def test_what_comes_after_a_retry_that_never_got_its_slot_is_skipped() -> None:
    specs = [
        spec("up", At((parse_anchor("10:00"),))),
        spec("down", After("up")),
        spec("z", At((parse_anchor("10:00"),))),
    ]
    desk = Desk(specs, TABLE, TEN, scripts={"up": bad(1), "z": endless}, admission=Admission(1, 0))
    desk.until("2026-11-23T10:00:05+05:30")  # `up` failed, `z` took the slot, the retry waits for it
    assert desk.outcomes("down") == []
    desk.tell(PauseRequested("up"))
    assert desk.outcomes("down") == [("10:00:00", "skipped", "upstream", 1)]


def test_what_waits_when_the_market_begins_to_refuse_has_an_outcome_first() -> None:
    """Behind a run of its own task, or for a slot. The last day that is known ends at midnight."""
    task = spec("a", PACE, overlap=Overlap.QUEUE_ONE)
    hog = spec("hog", On(("nothing",)), priority=Priority.CRITICAL)
    for slots, waited in (
        (64, [("23:59:50", "running", "", 1), ("23:59:55", "skipped", "overlap", 1)]),
        (1, [("23:59:50", "skipped", "no-slot", 2)]),
    ):
        desk = Desk(
            [hog, task, spec("then", After("a"))], past_horizon("refuse"), "2026-11-26T23:59:48+05:30",
            scripts={"a": endless, "hog": endless}, admission=Admission(slots, 0),
        )  # fmt: skip
        desk.tell(RunNow("hog"))
        desk.until("2026-11-27T00:00:11+05:30")
        assert desk.outcomes("a") == [*waited, ("00:00:00", "missed", "refused", 3)]
        then = desk.rows["then", instant("2026-11-27T00:00:00+05:30"), 0]
        assert (str(then.reason), then.count, then.cause) == ("refused", 3, "after")
        assert levels(desk, "run.missed") == {("a", "refused", "warning"), ("then", "refused", "warning")}


def test_what_was_missed_in_the_place_of_a_row_that_it_waits_is_missed_once() -> None:
    """Removed later, it has nothing left that it awaits."""
    tasks = [spec("up", PACE, restart=ALWAYS), DOWN]
    desk = Desk(tasks, TABLE, TEN, scripts={"up": bad(4.5)}).until("2026-11-23T10:00:05.250+05:30")
    again = Desk(tasks, TABLE, "2026-11-23T10:00:06+05:30", history=desk.crash(), scripts={"up": endless})
    again.tell(Configure((tasks[0],), {"NSE": TABLE}))
    assert [fields["reason"] for fields in again.fields("run.missed") if fields["task"] == "down"] == [
        "downtime"
    ]


def test_what_was_awaited_by_a_task_that_is_no_more_was_to_come_after_another() -> None:
    desk = Desk([UP, DOWN], TABLE, TEN, scripts={"up": endless}).until("2026-11-23T10:00:06+05:30")
    desk.tell(Configure((UP,), {"NSE": TABLE}))
    assert (desk.rows["down", FIRST, 0].reason, desk.rows["down", FIRST, 0].cause) == ("stopped", "after")


def test_what_waits_is_on_record_with_the_calendar_of_its_due() -> None:
    desk = Desk(
        [UP, DOWN], past_horizon("assume-weekdays"), "2026-11-27T10:00:00+05:30", scripts={"up": endless}
    )
    desk.until("2026-11-27T10:00:06+05:30")
    waits = desk.rows["down", instant("2026-11-27T10:00:00+05:30"), 0]
    assert waits.status is Status.QUEUED
    assert is_assumed(waits.calendar)


def test_what_comes_after_a_missed_run_belongs_to_the_calendar_of_its_due_too() -> None:
    task = spec("up", Every({"open": MINUTE}), overlap=Overlap.QUEUE_ONE)
    desk = Desk([task, DOWN], TABLE, TEN, scripts={"up": endless}).until("2026-11-23T10:01:30+05:30")
    desk.tell(Configure((task, DOWN), {"NSE": AMENDED}))
    desk.tell(StopRequested())
    (missed,) = [row for row in desk.rows.values() if row.task == "down" and row.status is Status.MISSED]
    assert missed.calendar == TABLE.version != AMENDED.version


def test_a_loop_that_is_skipped_twice_for_the_same_stretch_counts_once() -> None:
    loop = spec("loop", KeepRunning(frozenset({"open"})), restart=ALWAYS)
    desk = Desk([loop], TABLE, TEN, refused={"loop": "no module"})
    for _ in range(2):
        desk.tell(ResumeRequested("loop"))
    assert desk.outcomes("loop") == [("09:15:00", "skipped", "parked", 1)]
