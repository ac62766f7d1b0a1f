"""Whether the scheduler owes a critical task a run: it alone, whatever the tasks do."""

from __future__ import annotations

import pytest

from scheduler.core.admission import Admission
from scheduler.core.engine import Engine
from scheduler.core.messages import (
    HOUR,
    MILLISECOND,
    MINUTE,
    SECOND,
    Action,
    ClockStepped,
    Configure,
    Instant,
    Overlap,
    PauseRequested,
    Priority,
    Reason,
    Record,
    Run,
    RunEnded,
    RunNow,
    StartRun,
    Status,
    TaskSpec,
    Wake,
)
from scheduler.core.overdue import overdue
from scheduler.core.tasks import TaskState
from scheduler.core.triggers import Every, KeepRunning
from tests.core.desk import ALWAYS, spec
from tests.core.tables import nse_week
from tests.helpers import instant

OPEN = instant("2026-11-23T09:15:00+05:30")
PACE = Every({"open": 5 * SECOND, "closed": 60 * SECOND})
HALF_A_MINUTE = 30 * SECOND


def engine_with(*specs: TaskSpec, slots: int = 64) -> Engine:
    """Configured a second before the open."""
    engine = Engine(jitter=lambda: 0.0, admission=Admission(slots, reserved=0))
    engine.handle(Configure(specs, {"NSE": nse_week()}), OPEN - SECOND)
    return engine


def critical(name: str = "monitor", **options: object) -> TaskSpec:
    return spec(name, PACE, priority=Priority.CRITICAL, restart=ALWAYS, **options)


def started(actions: list[Action]) -> list[Run]:
    return [action.run for action in actions if isinstance(action, StartRun)]


def wake(engine: Engine, at: Instant) -> list[Run]:
    return started(engine.handle(Wake(), at))


def test_a_critical_tick_that_nobody_takes_note_of_for_half_a_minute_is_owed() -> None:
    engine = engine_with(critical())
    assert engine.overdue(OPEN + HALF_A_MINUTE - 1) == []
    assert engine.overdue(OPEN + HALF_A_MINUTE) == ["monitor"]
    wake(engine, OPEN + HALF_A_MINUTE)
    assert engine.overdue(OPEN + HALF_A_MINUTE) == []


def test_a_tick_of_lower_priority_is_not() -> None:
    engine = engine_with(spec("news", PACE, priority=Priority.IMPORTANT))
    assert engine.overdue(OPEN + 10 * HALF_A_MINUTE) == []


def test_a_task_that_hangs_is_owed_nothing_while_its_ticks_are_taken_note_of() -> None:
    engine = engine_with(critical(overlap=Overlap.QUEUE_ONE))
    for step in range(60):
        wake(engine, OPEN + step * SECOND)
    assert engine.overdue(OPEN + 59 * SECOND) == []


def test_a_retry_is_owed_half_a_minute_after_its_backoff_and_not_before() -> None:
    engine = engine_with(critical())
    [run] = wake(engine, OPEN)
    engine.handle(RunEnded(run, Status.FAILED, Reason.ERROR, "no"), OPEN)
    retry = engine.wake_at()
    assert retry is not None
    assert engine.overdue(retry + HALF_A_MINUTE - 1) == []
    assert engine.overdue(retry + HALF_A_MINUTE) == ["monitor"]


def test_who_finds_every_slot_taken_by_tasks_that_hang_is_owed_nothing() -> None:
    engine = engine_with(critical("hangs"), critical("waits"), slots=1)
    assert [run.task for run in wake(engine, OPEN)] == ["hangs"]
    for step in range(60):
        wake(engine, OPEN + step * SECOND)
    assert engine.overdue(OPEN + 59 * SECOND) == []


def test_who_waits_although_a_slot_is_free_is_owed_its_run() -> None:
    """Which no sequence of events brings about, as far as anybody knows: hence a watchdog."""
    state = TaskState(critical(), nse_week(), 0, OPEN)
    state.queued = Run("monitor", OPEN)
    assert overdue([state], Admission(), OPEN + HALF_A_MINUTE) == ["monitor"]
    assert overdue([state], Admission(slots=1, reserved=1), OPEN + HALF_A_MINUTE) == ["monitor"]
    assert overdue([state], Admission(slots=0), OPEN + HALF_A_MINUTE) == []
    state.active = Run("monitor", OPEN - 1)
    assert overdue([state], Admission(), OPEN + HALF_A_MINUTE) == []


def test_a_paused_task_is_owed_nothing() -> None:
    engine = engine_with(critical())
    engine.handle(PauseRequested("monitor", None), OPEN - 1)
    for step in range(60):
        wake(engine, OPEN + step * SECOND)
    assert engine.overdue(OPEN + 59 * SECOND) == []


def test_the_tally_counts_tasks_by_their_state() -> None:
    engine = engine_with(critical("fails"), critical("runs"), critical("waits"), critical("rests"))
    engine.handle(PauseRequested("rests", None), OPEN - SECOND)
    for name in ("fails", "runs"):
        [run] = started(engine.handle(RunNow(name), OPEN - SECOND))
        if name == "fails":
            engine.handle(RunEnded(run, Status.FAILED, Reason.ERROR, "no"), OPEN - SECOND)
    assert engine.tally() == {"backing-off": 1, "running": 1, "waiting": 1, "paused": 1}


def test_a_run_is_long_running_once_its_limit_is_over_and_a_loop_never() -> None:
    loop = spec("loop", KeepRunning(None), priority=Priority.CRITICAL)
    engine = engine_with(spec("slow", PACE), loop)
    engine.handle(Wake(), OPEN)
    assert engine.long_running(OPEN + HOUR, HOUR) == []
    assert [run.task for run in engine.long_running(OPEN + HOUR + 1, HOUR)] == ["slow"]


def stepped(engine: Engine, at: Instant, by: int) -> Instant:
    """The clock steps; the instant that it shows then."""
    engine.handle(ClockStepped(by), at + by)
    return at + by


def ended(engine: Engine, run: Run, at: Instant, began: Instant | None) -> tuple[Instant, Instant]:
    """Begun and ended, as the ledger has it."""
    (record,) = [
        action
        for action in engine.handle(RunEnded(run, Status.COMPLETED, started=began), at)
        if isinstance(action, Record) and action.ended is not None
    ]
    assert record.started is not None
    assert record.ended is not None
    return record.started, record.ended


def test_a_run_of_a_minute_does_not_take_long_because_the_host_slept_for_two_hours() -> None:
    engine = engine_with(critical())
    wake(engine, OPEN)
    now = stepped(engine, OPEN + MINUTE, 2 * HOUR)
    assert engine.long_running(now, HOUR) == []
    assert engine.long_running(now + HOUR, HOUR) != []
    now = stepped(engine, now + HOUR, -3 * HOUR)
    assert engine.long_running(now, HOUR) != []


@pytest.mark.parametrize("began", [None, OPEN + MILLISECOND])
def test_a_run_through_which_the_clock_goes_back_has_taken_as_long_as_it_ran(began: Instant | None) -> None:
    engine = engine_with(critical())
    [run] = wake(engine, OPEN)
    now = stepped(engine, OPEN + MINUTE, -HOUR) + MINUTE
    assert ended(engine, run, now, began) == (OPEN - HOUR, now)
    now += 10 * HOUR  # the next is none of it
    [run] = wake(engine, now)
    assert ended(engine, run, now + SECOND, now + 1) == (now + 1, now + SECOND)


@pytest.mark.parametrize("by", [HOUR, -30 * SECOND])
def test_a_run_through_which_the_clock_steps_has_begun_when_it_said_so_where_that_can_be(by: int) -> None:
    engine = engine_with(critical())
    [run] = wake(engine, OPEN)
    now = stepped(engine, OPEN + MINUTE, by)
    assert ended(engine, run, now, OPEN + MILLISECOND) == (OPEN + MILLISECOND, now)


@pytest.mark.parametrize("began", [None, OPEN + MILLISECOND])
def test_no_run_has_ended_before_it_began_although_the_clock_slews(began: Instant | None) -> None:
    engine = engine_with(critical())
    [run] = wake(engine, OPEN)
    assert ended(engine, run, OPEN - 1, began) == (OPEN - 1, OPEN - 1)


def test_a_run_that_cannot_be_ended_lingers_for_as_long_as_it_does() -> None:
    engine = engine_with(critical())
    [run] = wake(engine, OPEN)
    engine.handle(RunEnded(run, Status.FAILED, Reason.TIMEOUT, lingering=True), OPEN + MINUTE)
    stepped(engine, OPEN + MINUTE, HOUR)
    assert engine.tasks["monitor"].started == OPEN + HOUR
