"""Whether the scheduler owes a critical task a run: it alone, whatever the tasks do."""

from __future__ import annotations

from scheduler.core.admission import Admission
from scheduler.core.engine import Engine
from scheduler.core.messages import (
    HOUR,
    SECOND,
    Action,
    Configure,
    Instant,
    Overlap,
    PauseRequested,
    Priority,
    Reason,
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
