from __future__ import annotations

import asyncio
import contextvars
import gc
import time
from itertools import count
from typing import Any

import pytest

from scheduler.core.messages import (
    SECOND,
    Isolation,
    Run,
    RunEnded,
    RunReturned,
    StartRun,
    Status,
    Work,
)
from scheduler.errors import DuplicateRunError
from scheduler.runs import BackgroundTaskManager, RunEntry, RunRegistry
from scheduler.runs.deadlines import Deadlines
from tests.shell import targets
from tests.shell.execution import DUE, SOON, Desk, on_both_loops, shell, target, task, until


class Watched:
    """A manager, and lists of what it reported."""

    def __init__(self) -> None:
        self.leaks: list[tuple[str, int, str]] = []
        self.failures: list[str] = []
        self.ended: list[RunEntry] = []
        ticking = count(1)
        self.manager = BackgroundTaskManager(
            lambda: next(ticking),
            on_leak=lambda _run, kind, number, where: self.leaks.append((kind, number, where)),
            on_failure=lambda _run, error, _details: self.failures.append(error),
        )


# The manager, as any program may use it


@on_both_loops
async def test_start_task_returns_its_id_at_once_and_the_run_is_active_until_it_ends() -> None:
    watched = Watched()
    manager, gate = watched.manager, asyncio.Event()
    run_id = manager.start_task(gate.wait(), on_end=watched.ended.append, owner="desk")
    assert manager.is_task_active(run_id)
    assert (manager.get_active_task_count(), manager.get_active_task_ids()) == (1, [run_id])
    gate.set()
    assert await manager.wait_all(5) == []
    entry = manager.registry.get_run(run_id)
    assert entry is not None
    assert watched.ended == [entry]
    assert (entry.owner, entry.status, entry.started, entry.ended) == ("desk", Status.COMPLETED, 1, 2)
    assert not manager.is_task_active(run_id)
    assert manager.get_active_task_count() == 0


@on_both_loops
async def test_a_second_start_of_a_live_run_id_is_refused_and_of_an_ended_one_is_not() -> None:
    manager = Watched().manager
    manager.start_task(targets.forever, "one")
    with pytest.raises(DuplicateRunError, match="'one'"):
        manager.start_task(targets.forever(), "one")
    assert manager.cancel_task("one")
    await manager.wait_all(5)
    manager.start_task(targets.nothing, "one")
    assert await manager.wait_all(5) == []


@pytest.mark.parametrize(
    ("work", "error"),
    [
        (targets.fail, "ValueError: no quotes at all"),
        (targets.leave_by_system_exit, "SystemExit: 3"),
        (targets.interrupt, "KeyboardInterrupt"),
        (targets.cancel_itself, "CancelledError"),
    ],
)
@on_both_loops
async def test_a_run_keeps_its_error_and_the_loop_never_sees_it(work: Any, error: str) -> None:
    watched = Watched()
    watched.manager.start_task(work, "one")
    assert await watched.manager.wait_all(5) == []
    entry = watched.manager.registry.get_run("one")
    assert entry is not None
    assert (entry.status, entry.error) == (Status.FAILED, error)
    assert watched.failures == [error]


@on_both_loops
async def test_a_run_can_be_cancelled_at_any_time_even_before_its_first_step() -> None:
    watched = Watched()
    manager = watched.manager
    for run_id in ("early", "late"):
        manager.start_task(targets.forever(), run_id, on_end=watched.ended.append)
        if run_id == "late":
            await asyncio.sleep(0.01)
        assert manager.cancel_task(run_id)
        assert await manager.wait_all(5) == []
        assert not manager.cancel_task(run_id)
    assert [entry.status for entry in watched.ended] == [Status.CANCELLED] * 2


@on_both_loops
async def test_wait_all_gives_up_after_its_limit_and_names_who_did_not_end() -> None:
    targets.released.clear()
    manager = Watched().manager
    manager.start_task(targets.nothing, "good")
    manager.start_task(targets.swallow_cancellation, "bad")
    await asyncio.sleep(0.01)
    manager.cancel_task("bad")
    assert await manager.wait_all(0.1) == ["bad"]
    targets.released.set()
    assert await manager.wait_all(5) == []


async def test_wait_all_may_be_called_from_within_a_run() -> None:
    manager = Watched().manager
    rest: list[list[str]] = []

    async def waiter() -> None:
        rest.append(await manager.wait_all(5))

    manager.start_task(waiter)
    manager.start_task(targets.nothing)
    assert await manager.wait_all(5) == []
    assert rest == [[]]


@on_both_loops
async def test_tasks_left_behind_are_cancelled_and_named_with_their_place() -> None:
    watched = Watched()
    watched.manager.start_task(targets.leave_task_behind)
    assert await watched.manager.wait_all(5) == []
    assert targets.left_behind.pop().cancelled()
    ((kind, number, where),) = watched.leaks
    assert (kind, number) == ("task", 1)
    assert where.startswith("forever, made at ")
    assert "targets.py:" in where
    watched.manager.close()


@on_both_loops
async def test_another_owner_of_tasks_on_the_loop_changes_nothing_about_that() -> None:
    watched, other = Watched(), BackgroundTaskManager(time.time_ns)
    for first, second in ((watched.manager, other), (other, watched.manager)):
        for manager in (first, second):
            manager.start_task(targets.nothing)
            assert await manager.wait_all(5) == []
        watched.manager.start_task(targets.leave_task_behind)
        assert await watched.manager.wait_all(5) == []
        assert targets.left_behind.pop().cancelled()
        second.close()
        first.close()
        assert asyncio.get_running_loop().get_task_factory() is None
    assert [(kind, number) for kind, number, _ in watched.leaks] == [("task", 1)] * 2
    assert all("targets.py:" in where for _, _, where in watched.leaks)


@on_both_loops
async def test_tasks_that_a_run_awaits_are_no_leak() -> None:
    watched = Watched()

    async def gather() -> None:
        await asyncio.gather(*(asyncio.sleep(0) for _ in range(10)))
        async with asyncio.TaskGroup() as group:
            group.create_task(targets.nothing())
        await asyncio.wait_for(targets.nothing(), 1)

    watched.manager.start_task(gather)
    assert await watched.manager.wait_all(5) == []
    assert (watched.leaks, watched.failures) == ([], [])


async def test_a_leak_that_swallows_its_cancellation_does_not_hold_up_its_run_for_long() -> None:
    targets.released.clear()
    watched = Watched()
    left: list[asyncio.Task[None]] = []

    async def leave() -> None:
        left.append(asyncio.get_running_loop().create_task(targets.swallow_cancellation()))
        await asyncio.sleep(0.01)

    watched.manager.start_task(leave)
    assert await watched.manager.wait_all(5) == []
    assert [(kind, number) for kind, number, _ in watched.leaks] == [("task", 1), ("stuck task", 1)]
    targets.released.set()
    await left[0]


async def test_tasks_made_outside_runs_are_nobodys_business() -> None:
    watched = Watched()
    watched.manager.start_task(targets.nothing)
    mine = asyncio.get_running_loop().create_task(targets.forever())
    assert await watched.manager.wait_all(5) == []
    assert not mine.done()
    mine.cancel()
    assert watched.leaks == []


async def test_the_loop_gets_its_task_factory_back() -> None:
    loop = asyncio.get_running_loop()
    made = []

    def factory(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(work.__qualname__)
        return asyncio.Task(work, loop=loop, **options)

    loop.set_task_factory(factory)
    watched = Watched()
    watched.manager.start_task(targets.leave_task_behind)
    await watched.manager.wait_all(5)
    assert made == ["forever"]
    watched.manager.close()
    assert loop.get_task_factory() is factory
    loop.set_task_factory(None)
    assert targets.left_behind.pop().cancelled()


async def test_context_variables_do_not_leak_from_run_to_run() -> None:
    manager = Watched().manager
    variable = contextvars.ContextVar("variable", default="clean")
    seen = []

    async def look_and_set() -> None:
        seen.append(variable.get())
        variable.set("dirty")
        if len(seen) < 3:
            manager.start_task(look_and_set)

    manager.start_task(look_and_set)
    await until(lambda: len(seen) == 3)
    assert seen == ["clean"] * 3


# The registry


def test_the_registry_forgets_old_runs_and_never_grows_beyond_its_bound() -> None:
    now = 0
    registry = RunRegistry(lambda: now, keep=3)
    for number in range(5):
        now = number * 10
        registry.finish(registry.add_run(f"run-{number}"), Status.FAILED, "ValueError")
    alive = registry.add_run("alive")
    assert registry.get_run("run-1") is None
    kept = registry.get_run("run-2")
    assert kept is not None
    assert (kept.error, kept.ended) == ("ValueError", 20)
    now = 50
    assert registry.cleanup_old_runs(25) == 1
    assert registry.get_run("run-2") is None
    assert registry.get_run("run-3") is not None
    assert registry.cleanup_old_runs(0) == 2
    assert registry.get_run("alive") is alive


def test_a_later_run_of_the_same_id_outlives_the_earlier_ones_removal() -> None:
    registry = RunRegistry(lambda: 0, keep=2)
    for run_id in ("a", "a", "b"):
        registry.finish(registry.add_run(run_id), Status.COMPLETED)
    assert registry.get_run("a") is not None


# The runner


@on_both_loops
async def test_every_run_is_started_once_and_ended_once() -> None:
    async with Desk() as desk:
        spec = task(target("nothing"), timeout=SECOND)
        runs = [desk.start(spec, Run("eod-report", DUE + number)) for number in range(200)]
        await until(lambda: desk.manager.get_active_task_count() == 0)
        assert [event.run for event in desk.events if isinstance(event, RunEnded)] == runs


@pytest.mark.parametrize("work", [target("forever"), shell("sleep 60"), target("cooperative")])
@on_both_loops
async def test_a_stop_decides_what_the_outcome_is_called(work: Work) -> None:
    async with Desk() as desk:
        run = desk.start(task(work, timeout=60 * SECOND))
        await until(lambda: desk.begun(run))
        desk.stop(run, Status.COMPLETED, "phase-ended", SECOND)
        desk.stop(run, Status.CANCELLED, "operator", SECOND)
        ended = await desk.end_of(run)
        assert (ended.status, ended.reason, ended.error) == (Status.COMPLETED, "phase-ended", "")


@on_both_loops
async def test_a_run_stopped_before_its_first_step_never_starts() -> None:
    async with Desk() as desk:
        run = desk.start(task(target("fail")))
        desk.stop(run)
        ended = await desk.end_of(run)
        assert desk.events == [RunEnded(run, Status.CANCELLED, "operator")]
        assert ended.started is None


async def test_a_stop_after_the_end_changes_nothing() -> None:
    async with Desk() as desk:
        run = desk.start(task(target("fail")))
        await desk.end_of(run)
        desk.stop(run)
        await asyncio.sleep(0.01)
        assert [event.status for event in desk.events if isinstance(event, RunEnded)] == [Status.FAILED]


@on_both_loops
async def test_a_task_that_ignores_cancellation_is_given_up_named_and_heard_of_when_it_ends() -> None:
    targets.released.clear()
    async with Desk() as desk:
        run = desk.start(task(target("swallow_cancellation"), timeout=SOON, stop_grace=SOON))
        ended = await desk.end_of(run)
        assert (ended.status, ended.reason, ended.lingering) == (Status.FAILED, "timeout", True)
        assert ended.error.startswith("timed out after 150ms at ")
        ((kind, number, where),) = desk.leaks
        assert (kind, number) == ("task", 1)
        assert where.endswith("in swallow_cancellation")
        with pytest.raises(DuplicateRunError):
            desk.runner.start(StartRun(run, task(target("nothing")), durable=False))
        targets.released.set()
        await desk.heard(RunReturned, run)
        assert len([event for event in desk.events if isinstance(event, RunEnded)]) == 1
        entry = desk.manager.registry.get_run(run.run_id)
        assert entry is not None
        assert (entry.status, entry.error) == (Status.FAILED, ended.error)


async def test_a_failure_while_being_stopped_keeps_the_stops_name_and_its_own_error() -> None:
    async def clumsy() -> None:
        try:
            await targets.forever()
        finally:
            raise ValueError("while tidying up")

    async with Desk() as desk:
        desk.executors.register("clumsy", clumsy)
        run = desk.start(task(Work(target="clumsy")))
        await until(lambda: desk.begun(run))
        desk.stop(run)
        ended = await desk.end_of(run)
        assert (ended.status, ended.reason) == (Status.CANCELLED, "operator")
        assert ended.error == "ValueError: while tidying up"


@on_both_loops
async def test_a_durable_run_begins_only_once_its_record_is_on_the_disk() -> None:
    written = asyncio.Event()
    async with Desk(durable=written.wait) as desk:
        run = desk.start(task(target("nothing")), durable=True)
        other = await desk.run(task(target("nothing")), Run("eod-report", DUE + 1))
        assert other.status is Status.COMPLETED
        assert not desk.begun(run)
        written.set()
        assert (await desk.end_of(run)).status is Status.COMPLETED


async def test_a_run_that_waits_for_the_disk_can_be_stopped() -> None:
    async with Desk(durable=asyncio.Event().wait) as desk:
        run = desk.start(task(target("nothing")), durable=True)
        await asyncio.sleep(0.01)
        desk.stop(run)
        assert await desk.end_of(run) == RunEnded(run, Status.CANCELLED, "operator")


@on_both_loops
async def test_background_work_ends_with_its_run_and_is_no_leak() -> None:
    begun, ended = asyncio.Event(), []

    async def work() -> None:
        begun.set()
        try:
            await targets.forever()
        finally:
            ended.append("cancelled")

    async def parent(ctx: Any) -> None:
        ctx.background(work())
        ctx.background(targets.fail())
        await begun.wait()
        gc.collect()

    async with Desk() as desk:
        desk.executors.register("parent", parent)
        outcome = await desk.run(task(Work(target="parent")))
        assert (outcome.status, ended, desk.leaks) == (Status.COMPLETED, ["cancelled"], [])
        assert [error for error, _ in desk.failures] == ["ValueError: no quotes at all"]


@on_both_loops
async def test_background_work_may_be_started_from_a_thread() -> None:
    done = []

    async def work() -> None:
        done.append(asyncio.get_running_loop())

    def parent(ctx: Any) -> None:
        ctx.background(work())
        ctx.cancelled.wait(0.1)

    async with Desk() as desk:
        desk.executors.register("parent", parent)
        await desk.run(task(Work(target="parent")))
        assert done == [asyncio.get_running_loop()]


@on_both_loops
async def test_shutdown_asks_waits_forces_and_names_what_is_left() -> None:
    targets.released.clear()
    async with Desk() as desk:
        works = [
            target("forever"),
            target("swallow_cancellation"),
            target("stubborn_thread"),
            shell("trap '' TERM; while :; do sleep 0.05; done"),
            target("sleep_long", isolation=Isolation.PROCESS),
        ]
        runs = [desk.start(task(work), Run("eod-report", DUE + number)) for number, work in enumerate(works)]
        await asyncio.sleep(0.3)
        left = await desk.runner.shutdown(0.2)
        assert sorted(left) == sorted(runs[number].run_id for number in (1, 2))
        ended = {event.run: event for event in desk.events if isinstance(event, RunEnded)}
        assert [ended[run].lingering for run in runs] == [False, True, True, False, False]
        assert {(event.status, event.reason) for event in ended.values()} == {(Status.CANCELLED, "stopped")}
        targets.released.set()
        for number in (1, 2):
            await desk.heard(RunReturned, runs[number])


async def test_cancelling_a_daemons_run_by_its_id_is_the_operators_doing() -> None:
    async with Desk() as desk:
        run = desk.start(task(target("forever")))
        await until(lambda: desk.begun(run))
        assert desk.manager.cancel_task(run.run_id)
        ended = await desk.end_of(run)
        assert (ended.status, ended.reason) == (Status.CANCELLED, "operator")


async def test_timeouts_reach_each_run_in_its_turn_and_no_other() -> None:
    async with Desk() as desk:
        short = desk.start(task(target("forever"), timeout=SOON), Run("eod-report", DUE))
        await desk.run(task(target("nothing"), timeout=SOON), Run("eod-report", DUE + 1))
        await asyncio.sleep(0.05)
        later = desk.start(task(target("forever"), timeout=SOON), Run("eod-report", DUE + 2))
        patient = desk.start(task(target("forever"), timeout=60 * SECOND), Run("eod-report", DUE + 3))
        assert (await desk.end_of(short)).reason == "timeout"
        assert (await desk.end_of(later)).reason == "timeout"
        assert desk.manager.get_active_task_ids() == [patient.run_id]
        order = [event.run for event in desk.events if isinstance(event, RunEnded)]
        assert order.index(short) < order.index(later)


async def test_a_timeout_that_fails_does_not_keep_the_others_from_theirs() -> None:
    loop = asyncio.get_running_loop()
    troubles: list[str] = []
    loop.set_exception_handler(lambda _, context: troubles.append(str(context["exception"])))
    expired: list[int] = []
    deadlines = Deadlines[int](lambda item: expired.append(item // (item - 1)))
    for item in (1, 2, 3):
        deadlines.add(item, 0, loop)
    await asyncio.sleep(0.05)
    deadlines.close()
    assert expired == [2, 1]
    assert troubles == ["integer division or modulo by zero"]
