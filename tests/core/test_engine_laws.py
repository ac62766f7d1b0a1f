"""The laws hold whatever happens: random desks, and stalls, suspends, crashes, reloads at random."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.admission import Admission
from scheduler.core.messages import (
    MINUTE,
    SECOND,
    Cause,
    Configure,
    LoopLag,
    Overlap,
    PauseRequested,
    Priority,
    Reason,
    ResumeRequested,
    Run,
    RunEnded,
    RunNow,
    RunReturned,
    Status,
    StopRequested,
    TaskHistory,
    TaskSpec,
    Wake,
)
from scheduler.core.triggers import After, At, Cron, Every, KeepRunning, Trigger, parse_anchor
from tests.core.desk import ALWAYS, NEVER, ON_FAILURE, Desk, Script, bad, endless, ok, spec
from tests.core.world import TABLE, Step, World
from tests.helpers import iso

# A quarter past a second: nothing is due at the very instant at which something happens.
BEGINNINGS = [
    "2026-11-23T08:59:30.250+05:30",
    "2026-11-23T09:13:10.250+05:30",
    "2026-11-23T12:00:00.250+05:30",
    "2026-11-23T15:20:00.250+05:30",
    "2026-11-20T15:29:00.250+05:30",
    "2026-11-25T23:58:00.250+05:30",
]
TRIGGERS: dict[str, Trigger] = {
    "every 7s": Every({"*": 7 * SECOND}),
    "every open 5s, closed 20s": Every({"open": 5 * SECOND, "closed": 20 * SECOND}),
    "every open 30s offset 1s": Every({"open": 30 * SECOND, "closed": None}, offset=SECOND),
    "every open 10s, pre-open 3s, closed 1m": Every(
        {"open": 10 * SECOND, "pre-open": 3 * SECOND, "closed": MINUTE}
    ),
    "at some times": At(
        tuple(map(parse_anchor, ("open-5m", "09:20", "12:05", "15:10", "close-5s", "close+15m")))
    ),
    "at others": At(tuple(map(parse_anchor, ("pre-open.start", "open", "12:01", "close")))),
    "cron */7 9-16": Cron("*/7 9-16 * * *", TABLE.zone),
    "cron each minute of open": Cron("* * * * *", TABLE.zone, frozenset({"open"})),
    "keep_running": KeepRunning(),
    "keep_running open": KeepRunning(frozenset({"open"})),
    "keep_running pre-open, open": KeepRunning(frozenset({"pre-open", "open"})),
}
RESTARTS = {"always": ALWAYS, "on-failure": ON_FAILURE, "never": NEVER}


class Sketch(NamedTuple):
    """A task, told shortly enough to be read in a failing example."""

    trigger: str  # of TRIGGERS, or the name of the task that it comes after
    priority: Priority
    restart: str
    overlap: Overlap
    catchup: int  # seconds
    if_interrupted: str
    restart_with: str | None

    def made(self, name: str) -> TaskSpec:
        return spec(
            name,
            TRIGGERS.get(self.trigger) or After(self.trigger),
            priority=self.priority,
            restart=RESTARTS[self.restart],
            overlap=self.overlap,
            catchup=self.catchup * SECOND,
            if_interrupted=self.if_interrupted,
            restart_with=self.restart_with,
        )


seconds = st.sampled_from([1, 2, 5, 11, 30, 61, 200, 700])
hours = st.sampled_from([1, 20, 90, 600, 4000, 20_000, 90_000])
numbers = st.integers(0, 5)
steps = st.one_of(
    st.builds(Step, st.just("run"), seconds),
    st.builds(Step, st.just("run"), seconds),
    st.builds(Step, st.sampled_from(["stall", "suspend", "back", "crash"]), hours),
    st.builds(Step, st.sampled_from(["pause", "resume", "run_now"]), st.just(0), numbers),
    st.builds(Step, st.sampled_from(["remove", "restore", "promote", "pace"]), st.just(0), numbers),
    st.builds(Step, st.just("lag"), st.sampled_from([0, 1, 3, 5, 11])),
)


@st.composite
def desks(draw: st.DrawFn) -> dict[str, Sketch]:
    names = "abcdef"[: draw(st.integers(1, 6))]
    made: dict[str, Sketch] = {}
    for number, name in enumerate(names):
        # A loop that ends by itself and begins again has one due: nothing comes after it here.
        upstreams = [other for other, sketch in made.items() if not sketch.trigger.startswith("keep_running")]
        made[name] = Sketch(
            trigger=draw(st.sampled_from([*TRIGGERS, *TRIGGERS, *upstreams])),
            priority=draw(st.sampled_from(Priority)),
            restart=draw(st.sampled_from(list(RESTARTS))),
            overlap=draw(st.sampled_from(Overlap)),
            catchup=draw(st.sampled_from([1, 7, 300, 3600])),
            if_interrupted=draw(st.sampled_from(["leave", "retry"])),
            restart_with=draw(st.none() | st.sampled_from(names[:number])) if number else None,
        )
    return made


def scripts(tasks: list[TaskSpec], seed: int) -> dict[str, Script]:
    """How each run goes is drawn from its identity: the same run, asked again, goes the same."""

    def script(run: Run) -> tuple[int, Status, str, str]:
        draw = random.Random(f"{seed}/{run.task}/{run.due}/{run.attempt}")  # noqa: S311
        lasts = int(draw.choice([0, 0.1, 0.1, 0.1, 2, 12, 45, 600]) * SECOND)
        if draw.random() < 0.3:
            return lasts, Status.FAILED, "error", "ValueError: no"
        return lasts, Status.COMPLETED, "", ""

    def loop(run: Run) -> tuple[int, Status, str, str]:
        return (
            endless(run) if random.Random(f"{seed}/{run.due}/{run.attempt}").random() < 0.5 else script(run)
        )  # noqa: S311

    return {task.name: loop if isinstance(task.trigger, KeepRunning) else script for task in tasks}


@settings(max_examples=250, deadline=None)
@given(
    sketches=desks(),
    beginning=st.sampled_from(BEGINNINGS),
    program=st.lists(steps, min_size=1, max_size=12),
    slots=st.sampled_from([(64, 16), (3, 1), (1, 0)]),
    seed=st.integers(0, 1000),
)
def test_the_laws_hold_whatever_happens(
    sketches: dict[str, Sketch], beginning: str, program: list[Step], slots: tuple[int, int], seed: int
) -> None:
    tasks = [sketch.made(name) for name, sketch in sketches.items()]
    world = World(tasks, beginning, scripts(tasks, seed), slots=slots[0], reserved=slots[1])
    for step in program:
        world.happen(step)
    world.happen(Step("run", 30))
    world.audit()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), tasks=st.integers(70, 150))
def test_a_burst_fills_64_slots_and_leaves_16_of_them_to_critical(seed: int, tasks: int) -> None:
    """The witness counts: never more than 64, of them 48 that are not critical."""
    crowd = [
        spec(
            f"t{n}",
            TRIGGERS["every open 10s, pre-open 3s, closed 1m"],
            priority=Priority(n % 3),
            catchup=MINUTE,
        )
        for n in range(tasks)
    ]
    world = World(crowd, BEGINNINGS[2], scripts(crowd, seed), slots=64, reserved=16)
    world.happen(Step("run", 61))
    critical = [run for run in world.desk.started if world.tasks[run.task].priority is Priority.CRITICAL]
    assert len(critical) > 0
    assert len(world.desk.started) >= 64
    world.audit()


# One history for each thing that went wrong once.

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


def test_a_loop_that_is_removed_and_put_back_counts_on() -> None:
    task = spec("a", OPEN)
    desk = Desk([task], TABLE, "2026-11-23T10:00:00+05:30", scripts={"a": endless})
    desk.tell(Configure((), {"NSE": TABLE}))
    desk.until("2026-11-23T10:01:00+05:30").tell(Configure((task,), {"NSE": TABLE}))
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
