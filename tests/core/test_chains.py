"""What comes after another task: each due that ends there has one outcome here, in any order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.core.admission import Admission
from scheduler.core.messages import (
    SECOND,
    Configure,
    Happened,
    Overlap,
    Priority,
    RestartRequested,
    RunNow,
    StopRequested,
    TaskSpec,
    Wake,
)
from scheduler.core.triggers import After, At, Every, KeepRunning, On, parse_anchor
from tests.core.desk import ALWAYS, NEVER, Desk, Script, bad, endless, ok, spec
from tests.core.tables import nse_week
from tests.helpers import instant, iso

TABLE = nse_week()
TEN = "2026-11-23T10:00:00+05:30"
FIRST = instant(TEN)
PACE = Every({"*": 5 * SECOND})
UP, DOWN = spec("up", PACE), spec("down", After("up"))


def on_time(*scripts: Script) -> Script:
    """One script for each due from 10:00:00 on, the last for all that come later."""
    return lambda run: scripts[min((run.due - FIRST) // (5 * SECOND), len(scripts) - 1)](run)


def rows(desk: Desk, task: str) -> list[tuple[str, int, str, str, int]]:
    found = sorted((r for r in desk.rows.values() if r.task == task), key=lambda r: (r.due, r.attempt))
    return [(iso(r.due)[14:19], r.attempt, str(r.status), str(r.reason), r.count) for r in found]


def after_the_crash(tasks: list[TaskSpec], desk: Desk, at: str) -> Desk:
    """The next scheduler, on the same ledger."""
    return Desk(tasks, TABLE, at, history=desk.crash()).on_the_ledger_of(desk)


def test_a_stretch_of_skips_does_not_reach_over_a_due_that_waits_for_a_slot() -> None:
    up = spec("up", PACE, priority=Priority.CRITICAL, restart=NEVER)
    scripts = {"up": on_time(bad(0), ok(0), bad(0)), "other": ok(12)}
    other = spec("other", At((parse_anchor("10:00"),)))
    desk = Desk([up, DOWN, other], TABLE, TEN, scripts=scripts, admission=Admission(slots=2, reserved=1))
    desk.until("2026-11-23T10:00:11+05:30")
    assert rows(desk, "down") == [
        ("00:00", 0, "skipped", "upstream", 1),
        ("00:05", 0, "queued", "", 1),
        ("00:10", 0, "skipped", "upstream", 1),
    ]
    desk.until("2026-11-23T10:00:13+05:30")
    assert rows(desk, "down")[1] == ("00:05", 1, "completed", "", 1)


def test_a_stretch_of_skips_does_not_reach_over_a_due_that_waits_by_the_overlap_of_before_a_reload() -> None:
    task = spec("up", PACE, overlap=Overlap.QUEUE_ONE)
    desk = Desk([task], TABLE, TEN, scripts={"up": ok(22)}).until("2026-11-23T10:00:11+05:30")
    desk.tell(Configure((UP,), {"NSE": TABLE}))
    desk.until("2026-11-23T10:00:21+05:30")
    assert rows(desk, "up") == [
        ("00:00", 1, "running", "", 1),
        ("00:05", 0, "skipped", "overlap", 1),
        ("00:10", 0, "queued", "", 1),
        ("00:15", 0, "skipped", "overlap", 2),
    ]


def test_what_waits_behind_another_run_is_said_to_be_skipped_once_in_a_row() -> None:
    down = spec("down", After("up"), overlap=Overlap.QUEUE_ONE)
    desk = Desk([UP, down], TABLE, TEN, scripts={"up": ok(0), "down": endless})
    desk.until("2026-11-23T10:00:21+05:30")
    assert [row[:4] for row in rows(desk, "down")] == [
        ("00:00", 1, "running", ""),
        ("00:05", 0, "skipped", "overlap"),
        ("00:10", 0, "skipped", "overlap"),
        ("00:15", 0, "skipped", "overlap"),
        ("00:20", 0, "queued", ""),
    ]
    assert [fields["due"] for fields in desk.fields("run.skipped")] == [FIRST + 5 * SECOND]


def test_what_waits_for_a_slot_is_made_up_after_a_crash_although_its_upstream_has_gone_on() -> None:
    up = spec("up", PACE, priority=Priority.CRITICAL)
    other = spec("other", At((parse_anchor("10:00"),)))
    scripts = {"up": on_time(ok(0), endless), "other": endless}
    desk = Desk([up, DOWN, other], TABLE, TEN, scripts=scripts, admission=Admission(slots=2, reserved=1))
    again = after_the_crash([up, DOWN], desk.until("2026-11-23T10:00:06+05:30"), "2026-11-23T10:00:07+05:30")
    assert again.starts("down") == [TEN]
    assert rows(again, "down") == [("00:00", 1, "running", "", 1), ("00:05", 0, "skipped", "upstream", 1)]


def test_what_waits_for_an_event_that_happened_is_missed_after_a_crash() -> None:
    tasks = [spec("bell", On(("desk.bell",)), overlap=Overlap.QUEUE_ONE)]
    desk = Desk(tasks, TABLE, TEN, scripts={"bell": endless})
    desk.tell(Happened("desk.bell", "info", {}))
    desk.until("2026-11-23T10:00:01+05:30").tell(Happened("desk.bell", "info", {}))
    again = after_the_crash(tasks, desk, "2026-11-23T10:00:07+05:30")
    assert [row[1:4] for row in rows(again, "bell")] == [
        (1, "failed", "interrupted"),
        (0, "missed", "downtime"),
    ]


def test_a_due_that_was_passed_over_is_accounted_for_when_its_upstream_completed_just_before_a_crash() -> (
    None
):
    """The upstream's completion is on the disk, that it was passed on is not; and it is not the newest."""
    desk = Desk([UP, DOWN], TABLE, TEN, scripts={"up": on_time(ok(7), endless)})
    waits = desk.until("2026-11-23T10:00:06+05:30").rows["down", FIRST, 0]
    del desk.until("2026-11-23T10:00:08+05:30").rows["down", FIRST, 1]
    desk.rows["down", FIRST, 0] = waits
    again = after_the_crash([UP, DOWN], desk, "2026-11-23T10:00:09+05:30")
    assert rows(again, "down") == [
        ("00:00", 0, "missed", "downtime", 1),
        ("00:05", 0, "skipped", "upstream", 1),
    ]


def test_a_due_whose_upstream_was_to_be_tried_again_when_a_crash_came_is_missed() -> None:
    tasks = [spec("up", PACE, restart=ALWAYS), DOWN, spec("last", After("down"))]
    desk = Desk(tasks, TABLE, TEN, scripts={"up": on_time(bad(4.5), ok(0))})
    desk.until("2026-11-23T10:00:05.250+05:30")
    again = after_the_crash(tasks, desk, "2026-11-23T10:00:06+05:30")
    for task in ("down", "last"):
        assert rows(again, task) == [
            ("00:00", 0, "missed", "downtime", 1),
            ("00:05", 0, "skipped", "upstream", 1),
        ]
        assert {again.rows[task, FIRST + due * SECOND, 0].cause for due in (0, 5)} == {"after"}


def test_a_due_that_was_passed_over_waits_after_a_crash_for_what_is_tried_again_further_up() -> None:
    up = spec("up", PACE, if_interrupted="retry")
    desk = Desk([up, DOWN], TABLE, TEN, scripts={"up": endless}).until("2026-11-23T10:00:06+05:30")
    again = after_the_crash([up, DOWN], desk, "2026-11-23T10:00:07+05:30")
    assert rows(again, "down")[0] == ("00:00", 0, "queued", "", 1)
    again.until("2026-11-23T10:00:08+05:30")
    assert rows(again, "down")[0] == ("00:00", 1, "completed", "", 1)
    assert again.events("run.missed") == []


def test_what_waits_by_hand_is_missed_after_a_crash_whatever_else_is_awaited() -> None:
    down = spec("down", After("up"), overlap=Overlap.QUEUE_ONE)
    scripts = {"up": on_time(ok(0), endless), "down": endless}
    desk = Desk([UP, down], TABLE, TEN, scripts=scripts).until("2026-11-23T10:00:06+05:30")
    desk.tell(RunNow("down"))
    again = after_the_crash([UP, down], desk, "2026-11-23T10:00:07+05:30")
    assert rows(again, "down") == [
        ("00:00", 1, "failed", "interrupted", 1),
        ("00:05", 0, "skipped", "upstream", 1),
        ("00:06", 0, "missed", "downtime", 1),
    ]


def test_a_due_that_every_task_of_a_chain_passed_over_is_settled_once_after_a_crash() -> None:
    """In whatever order they are taken up: by priority, then name."""
    for name in ("a", "z"):
        for priority in Priority:
            tasks = [UP, spec(name, After("up"), priority=priority), spec("last", After(name))]
            desk = Desk(tasks, TABLE, TEN, scripts={"up": endless}).until("2026-11-23T10:00:06+05:30")
            again = after_the_crash(tasks, desk, "2026-11-23T10:00:07+05:30")
            for task in (name, "last"):
                assert rows(again, task) == [
                    ("00:00", 0, "skipped", "upstream", 1),
                    ("00:05", 0, "skipped", "upstream", 1),
                ]


def test_a_due_that_is_passed_over_by_what_is_missed_is_on_record() -> None:
    desk = Desk([UP, DOWN], TABLE, TEN, scripts={"up": endless}).until("2026-11-23T10:00:01+05:30")
    desk.sleep("2026-11-23T10:00:21+05:30").tell(Wake())
    assert rows(desk, "down")[:2] == [("00:00", 0, "queued", "", 1), ("00:05", 0, "missed", "downtime", 3)]


def test_a_due_that_was_passed_over_by_a_run_by_hand_is_accounted_for_after_a_crash() -> None:
    tasks = [spec("up", At((parse_anchor("10:00"),)), restart=ALWAYS), DOWN]
    desk = Desk(tasks, TABLE, TEN, scripts={"up": bad(0)}).until("2026-11-23T10:00:00.500+05:30")
    desk.tell(RunNow("down"))
    assert [row[:3] for row in rows(desk, "down")] == [("00:00", 0, "queued"), ("00:00", 1, "running")]
    again = after_the_crash(tasks, desk, "2026-11-23T10:00:22+05:30")
    assert rows(again, "down")[0] == ("00:00", 0, "missed", "downtime", 1)


def test_what_was_passed_over_and_comes_after_all_is_an_ordinary_run() -> None:
    desk = Desk([UP, DOWN], TABLE, TEN, scripts={"up": on_time(ok(7), ok(0))})
    desk.until("2026-11-23T10:00:11+05:30")
    assert rows(desk, "down") == [
        ("00:00", 1, "completed", "", 1),
        ("00:05", 0, "skipped", "upstream", 1),
        ("00:10", 1, "completed", "", 1),
    ]


def test_a_retry_in_whose_place_nothing_else_may_go_is_not_over_while_it_begins() -> None:
    """The restart of 10:00:00 ends what waits behind it, 10:00:05, whose end comes first."""
    up = spec("up", PACE, overlap=Overlap.QUEUE_ONE)
    desk = Desk([up, DOWN], TABLE, TEN, scripts={"up": endless}).until("2026-11-23T10:00:06+05:30")
    desk.tell(RestartRequested("up"))
    desk.until("2026-11-23T10:00:07+05:30")
    assert rows(desk, "down") == [("00:00", 0, "queued", "", 1), ("00:05", 0, "skipped", "upstream", 1)]
    assert rows(desk, "up")[-1] == ("00:05", 0, "skipped", "no-slot", 1)


def test_what_a_removed_task_awaited_is_missed() -> None:
    desk = Desk([UP, DOWN], TABLE, TEN, scripts={"up": endless}).until("2026-11-23T10:00:06+05:30")
    desk.tell(Configure((UP,), {"NSE": TABLE}))
    assert rows(desk, "down") == [
        ("00:00", 0, "missed", "stopped", 1),
        ("00:05", 0, "skipped", "upstream", 1),
    ]


def test_what_was_passed_over_and_skipped_after_all_is_awaited_no_more() -> None:
    up = spec("up", PACE, restart=NEVER)
    desk = Desk([up, DOWN], TABLE, TEN, scripts={"up": on_time(bad(7), ok(0))})
    desk.until("2026-11-23T10:00:08+05:30").tell(Configure((up,), {"NSE": TABLE}))
    assert rows(desk, "down") == [
        ("00:00", 0, "skipped", "upstream", 1),
        ("00:05", 0, "skipped", "upstream", 1),
    ]
    assert desk.events("run.missed") == []


def test_what_a_task_awaited_is_missed_when_it_comes_after_another_one_by_a_reload() -> None:
    other = spec("other", At((parse_anchor("11:00"),)))
    desk = Desk([UP, DOWN, other], TABLE, TEN, scripts={"up": endless}).until("2026-11-23T10:00:06+05:30")
    desk.tell(Configure((UP, spec("down", After("other")), other), {"NSE": TABLE}))
    desk.until("2026-11-23T10:01:00+05:30")
    assert rows(desk, "down") == [
        ("00:00", 0, "missed", "stopped", 1),
        ("00:05", 0, "skipped", "upstream", 1),
    ]


def test_what_waits_itself_goes_on_waiting_when_it_comes_after_another_one_by_a_reload() -> None:
    other = spec("other", At((parse_anchor("11:00"),)))
    down = spec("down", After("up"), overlap=Overlap.QUEUE_ONE)
    scripts = {"up": ok(0), "down": on_time(ok(7), ok(0))}
    desk = Desk([UP, down, other], TABLE, TEN, scripts=scripts).until("2026-11-23T10:00:06+05:30")
    desk.tell(Configure((UP, replace(down, trigger=After("other")), other), {"NSE": TABLE}))
    desk.until("2026-11-23T10:00:30+05:30")
    assert rows(desk, "down") == [("00:00", 1, "completed", "", 1), ("00:05", 1, "completed", "", 1)]


def test_what_is_awaited_when_all_stops_is_skipped_with_its_upstream() -> None:
    desk = Desk([UP, DOWN], TABLE, TEN, scripts={"up": endless}).until("2026-11-23T10:00:06+05:30")
    desk.tell(StopRequested())
    desk.until("2026-11-23T10:00:30+05:30")
    assert rows(desk, "down")[0] == ("00:00", 0, "skipped", "upstream", 1)


def test_a_due_that_a_loop_begins_anew_has_been_settled_and_is_not_awaited() -> None:
    """Asked for while it runs for the second time, the loop is skipped; what came after the first stands."""
    loop = spec("loop", KeepRunning(frozenset({"open"})))
    desk = Desk([loop, spec("down", After("loop"))], TABLE, TEN, scripts={"loop": ok(1)})
    desk.until("2026-11-23T10:00:02+05:30").scripts["loop"] = endless
    for _ in range(2):
        desk.tell(RunNow("loop"))
    assert [row[1:4] for row in rows(desk, "down")] == [(1, "completed", ""), (0, "skipped", "upstream")]


@pytest.mark.parametrize("now", [[UP], [UP, replace(DOWN, trigger=On(("task.stale",)))]])
@pytest.mark.parametrize("at", ["2026-11-23T10:00:02+05:30", "2026-11-23T10:00:07+05:30"])
def test_what_does_not_come_after_a_task_any_more_answers_for_all_that_is_not_over_there(
    at: str, now: list[TaskSpec]
) -> None:
    up = spec("up", PACE, overlap=Overlap.QUEUE_ONE)
    tasks = [up, DOWN, spec("last", After("down"))]
    desk = Desk(tasks, TABLE, TEN, scripts={"up": ok(12)}).until(at)
    desk.tell(Configure((up, *now[1:]), {"NSE": TABLE}))
    desk.until("2026-11-23T10:01:00+05:30")
    dues = ["00:00", "00:05"] if at > "2026-11-23T10:00:05" else ["00:00"]
    assert rows(desk, "down") == rows(desk, "last") == [(due, 0, "missed", "stopped", 1) for due in dues]


def test_what_comes_after_a_tick_that_waits_behind_a_run_is_decided_with_it_after_a_crash() -> None:
    tasks = [spec("up", PACE, overlap=Overlap.QUEUE_ONE, restart=NEVER), DOWN]
    before = Desk(tasks, TABLE, TEN, scripts={"up": ok(7), "down": endless})
    before.until("2026-11-23T10:00:06+05:30").tell(RunNow("down"))
    desk = after_the_crash(tasks, before, "2026-11-23T10:00:06.500+05:30")
    desk.until("2026-11-23T10:00:09+05:30")
    assert rows(desk, "up")[:2] == [
        ("00:00", 1, "failed", "interrupted", 1),
        ("00:05", 1, "completed", "", 1),
    ]
    assert [row for row in rows(desk, "down") if row[0] == "00:05"] == [("00:05", 1, "completed", "", 1)]


def test_a_task_that_was_away_when_its_upstream_ended_is_not_told_of_it_by_the_next_scheduler() -> None:
    desk = Desk([UP, DOWN], TABLE, TEN, scripts={"up": ok(0), "down": ok(0)})
    desk.until("2026-11-23T10:00:01+05:30").tell(Configure((UP,), {"NSE": TABLE}))
    desk.until("2026-11-23T10:00:07+05:30").tell(Configure((UP, DOWN), {"NSE": TABLE}))
    history = desk.crash()
    history["down"] = history["down"]._replace(expected_from=desk.now)  # as its definition says
    after = Desk([UP, DOWN], TABLE, "2026-11-23T10:00:08+05:30", history=history).on_the_ledger_of(desk)
    assert rows(after, "down") == [("00:00", 1, "completed", "", 1)]
