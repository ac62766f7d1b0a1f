"""The laws hold whatever happens: random desks, and stalls, suspends, crashes, reloads at random."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.messages import MINUTE, SECOND, Overlap, Priority, Run, Status, TaskSpec
from scheduler.core.triggers import After, At, Cron, Every, KeepRunning, On, Trigger, parse_anchor
from tests.core.desk import ALWAYS, NEVER, ON_FAILURE, Script, endless, spec
from tests.core.world import TABLE, Step, World

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
    "on desk.bell": On(("desk.bell",)),
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
    st.builds(Step, st.sampled_from(["stall", "suspend", "back", "crash", "stop"]), hours),
    st.builds(Step, st.just("pause"), st.sampled_from([0, 0, 5, 100, 4000]), numbers),
    st.builds(Step, st.sampled_from(["resume", "run_now", "restart", "cancel"]), st.just(0), numbers),
    st.builds(Step, st.sampled_from(["bell", "linger", "return"]), st.just(0), numbers),
    st.builds(Step, st.sampled_from(["remove", "restore", "promote", "pace", "amend"]), st.just(0), numbers),
    st.builds(Step, st.just("lag"), st.sampled_from([0, 1, 3, 5, 11])),
    st.builds(Step, st.just("backfill"), st.sampled_from([60, 900, 4000]), numbers),
)
brief_steps = st.one_of(
    st.builds(Step, st.just("run"), st.sampled_from([1, 3, 8, 15, 30])),
    st.builds(Step, st.sampled_from(["crash", "stop", "stall"]), st.sampled_from([1, 5, 20])),
    st.builds(Step, st.sampled_from(["run_now", "restart", "cancel"]), st.just(0), numbers),
    st.builds(Step, st.sampled_from(["linger", "return"]), st.just(0), numbers),
    st.builds(Step, st.sampled_from(["pause", "resume", "promote"]), st.just(0), numbers),
    st.builds(Step, st.just("backfill"), st.sampled_from([20, 60, 200]), numbers),
)


@st.composite
def desks(draw: st.DrawFn, heads: Sequence[str] = (*TRIGGERS, *TRIGGERS)) -> dict[str, Sketch]:
    """Tasks that the clock drives or an event, and such as come after them; with one head: a chain."""
    names = "abcdef"[: draw(st.integers(1, 6))]
    made: dict[str, Sketch] = {}
    for number, name in enumerate(names):
        # A loop that ends by itself and begins again has one due: nothing comes after it here.
        upstreams = [other for other, sketch in made.items() if not sketch.trigger.startswith("keep_running")]
        others = heads if len(heads) > 1 or not upstreams else ()
        made[name] = Sketch(
            trigger=draw(st.sampled_from([*others, *upstreams])),
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
        lasting = random.Random(f"{seed}/{run.due}/{run.attempt}").random() < 0.5  # noqa: S311
        return endless(run) if lasting else script(run)

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
    try_out(sketches, beginning, program, slots, seed)


def try_out(
    sketches: dict[str, Sketch], beginning: str, program: list[Step], slots: tuple[int, int], seed: int
) -> None:
    tasks = [sketch.made(name) for name, sketch in sketches.items()]
    world = World(tasks, beginning, scripts(tasks, seed), slots=slots[0], reserved=slots[1])
    for step in program:
        world.happen(step)
    world.happen(Step("run", 30))
    world.audit()


@settings(max_examples=150, deadline=None)
@given(
    sketches=desks(heads=("every 7s",)),
    program=st.lists(brief_steps, min_size=3, max_size=12),
    slots=st.sampled_from([(64, 16), (3, 1), (1, 0)]),
    seed=st.integers(0, 1000),
)
def test_the_laws_hold_in_a_chain_whatever_happens(
    sketches: dict[str, Sketch], program: list[Step], slots: tuple[int, int], seed: int
) -> None:
    try_out(sketches, BEGINNINGS[2], program, slots, seed)


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
