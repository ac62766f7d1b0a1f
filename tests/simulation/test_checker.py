"""The checker is itself tested: an innocent ledger has no problems, and each lie is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from tests.helpers import instant, iso
from tests.simulation.blows import Span
from tests.simulation.checker import check
from tests.simulation.desk import DESK, CronPlan, Plan
from tests.simulation.exchange import SECOND, Exchange
from tests.simulation.story import Story
from tests.simulation.week import Tables, Week

HOUR = 3600 * SECOND
BEGIN = instant("2026-11-20T14:50:00.400+05:30")


@pytest.fixture(scope="module")
def honest(tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Two hours round the close of Friday."""
    span = Span(BEGIN, BEGIN + 2 * HOUR)
    return Week(3, tmp_path_factory.mktemp("honest") / "state", tables, span).run([])


def test_an_honest_story_has_no_problems(honest: Story) -> None:
    assert check(honest) == []
    assert {row.task for row in honest.rows} >= DESK.keys() - {
        "nightly", "page", "resync", "alarm", "backup", "mail",
    }  # fmt: skip


def completed(row: Any, task: str) -> bool:
    return bool(row.task == task and row.status == "completed" and row.attempt == 1)


def change(task: str, **fields: Any) -> Callable[[list[Any]], list[Any]]:
    """The last completed run of a task gets other fields; a number is added to what is there."""

    def lie(rows: list[Any]) -> list[Any]:
        row = [row for row in rows if completed(row, task)][-1]
        new = {
            k: getattr(row, k) + v if isinstance(v, int) and k != "count" else v for k, v in fields.items()
        }
        return [row._replace(**new) if other is row else other for other in rows]

    return lie


def drop(task: str) -> Callable[[list[Any]], list[Any]]:
    def lie(rows: list[Any]) -> list[Any]:
        row = [row for row in rows if completed(row, task)][-1]
        return [other for other in rows if other is not row]

    return lie


LIES = {
    "a run is missing": drop("monitor"),
    "what comes after a run is missing": drop("signals"),
    "an appointment is missing": drop("quarter"),
    "a loop is missing": lambda rows: [row for row in rows if row.task != "feed"],
    "a run was not due": change("regime", due=SECOND),
    "a run of the wrong grid": change("risk", due=-7 * SECOND),
    "a run has two outcomes": lambda rows: [
        *rows,
        *[row._replace(attempt=0, status="skipped", reason="overlap", started=None) for row in rows[-1:]],
    ],
    "a run is still running": change("monitor", status="running", ended=0),
    "a run was missed in daylight": change("pulse", status="missed", attempt=-1),
    "a run was skipped for nothing": change("news", status="skipped", reason="overlap", attempt=-1),
    "a run was parked for nothing": change("regime", status="skipped", reason="parked", attempt=-1),
    "a run was shed although nothing lagged": change("news", status="skipped", reason="shed", attempt=-1),
    "a run began before it did": change("monitor", started=-2 * SECOND),
    "a run began late": change("monitor", started=10 * SECOND),
    "a failure is told as a success": lambda rows: [
        row._replace(status="completed", reason="") if row.status == "failed" else row for row in rows
    ],
    "a success is told as a failure": change("sweep", status="failed", reason="error", error="no"),
    "a run took an hour": change("pulse", ended=HOUR),
    "a stretch counts too many": lambda rows: [
        row._replace(count=row.count + 1) if row.status == "skipped" else row for row in rows
    ],
    "an attempt is missing": lambda rows: [row for row in rows if row.attempt != 1 or row.status != "failed"],
    "a retry comes a minute late": lambda rows: [
        row._replace(started=row.started + 400 * SECOND) if row.attempt == 2 else row for row in rows
    ],
}


@pytest.mark.parametrize("lie", LIES.values(), ids=list(LIES))
def test_a_lie_in_the_ledger_is_found(honest: Story, lie: Callable[[list[Any]], list[Any]]) -> None:
    rows = lie(list(honest.rows))
    assert rows != list(honest.rows), "the lie must be one"
    assert check(replace(honest, rows=rows))


def test_a_run_that_started_twice_is_found(honest: Story) -> None:
    assert check(replace(honest, starts=[*honest.starts, honest.starts[50]]))


def test_a_start_that_the_ledger_knows_nothing_of_is_found(honest: Story) -> None:
    stranger = honest.starts[50]._replace(due=honest.starts[50].due + SECOND)
    assert check(replace(honest, starts=[*honest.starts, stranger]))


def test_a_start_before_its_due_is_found(honest: Story) -> None:
    starts = list(honest.starts)
    starts[50] = starts[50]._replace(passed=starts[50].passed - 20 * SECOND)
    assert check(replace(honest, starts=starts))


# The arithmetic of the checker, against days worked out by hand.


def on(day: str, plan: Plan, *amendments: str, name: str = "task") -> list[str]:
    since = instant(f"2026-11-{day}T00:00:00+05:30")
    return [iso(due)[11:19] for due in Exchange(amendments).dues(name, plan, since, since + 24 * HOUR)]


def test_a_pace_of_the_session_is_a_grid_from_the_open() -> None:
    plan = Plan("important", every={"open": 3600, "closed": None}, offset=60)
    assert on("23", plan) == [
        "09:16:00", "10:16:00", "11:16:00", "12:16:00", "13:16:00", "14:16:00", "15:16:00",
    ]  # fmt: skip
    assert on("24", plan) == on("22", plan) == []
    assert on("24", plan, "an evening") == ["18:01:00"]


def test_what_a_pace_does_not_name_goes_by_the_clock_of_closed() -> None:
    plan = Plan("important", every={"open": 20_000, "closed": 7200})
    assert on("24", plan) == [f"{hour:02}:00:00" for hour in range(0, 24, 2)]
    assert on("23", plan) == [
        "00:00:00", "02:00:00", "04:00:00", "06:00:00", "08:00:00", "09:15:00", "14:48:20",
        "16:00:00", "18:00:00", "20:00:00", "22:00:00",
    ]  # fmt: skip


def test_a_session_goes_from_its_first_phase_to_its_last() -> None:
    plan = Plan("important", every={"*": 3600}, offset=1800, during=frozenset({"session"}))
    assert on("23", plan) == [f"{hour:02}:30:00" for hour in range(9, 16)]
    assert on("23", plan, "an early close") == ["09:30:00", "10:30:00", "11:30:00", "12:30:00"]


def test_anchors_cron_and_loops() -> None:
    assert on("25", DESK["report"]) == ["09:05:00", "15:45:00"]
    assert on("25", DESK["limits"]) == ["09:00:00", "16:00:00"]
    assert on("24", DESK["report"]) == on("26", DESK["report"], "a holiday") == []
    assert on("24", DESK["nightly"]) == ["02:30:00"]
    assert len(on("24", DESK["quarter"])) == 28
    assert on("23", DESK["feed"]) == ["09:00:00"]
    hourly = Plan("important", cron=CronPlan("0 * * * *", frozenset({0}), frozenset(range(24))),
                  during=frozenset({"open"}))  # fmt: skip
    assert on("25", hourly) == [f"{hour}:00:00" for hour in range(10, 16)]


def test_an_amended_day_moves_what_moves_along() -> None:
    late = "a late close"
    assert on("25", DESK["report"], late) == ["09:05:00", "17:15:00"]
    assert on("25", DESK["limits"], late) == ["09:00:00"]  # it has no post-close
    assert on("25", DESK["square-off"], late) == ["15:10:00", "16:59:00"]
    long = Plan("important", at=(("close", -5 * 3600), ("open", 5 * 3600)))
    assert on("21", long, "a drill on Saturday") == ["10:00:00", "12:00:00"]


def test_a_task_is_spread_by_its_name() -> None:
    plan = Plan("important", every={"*": 7200}, spread=True)
    first, second = on("24", plan, name="a"), on("24", plan, name="b")
    assert len(first) == len(second) == 12
    assert first != second


def test_trading_begins_and_ends_with_the_open() -> None:
    nse = Exchange()
    opening, close = (instant(f"2026-11-23T{time}:00+05:30") for time in ("09:15", "15:30"))
    assert [nse.trading_at(t) for t in (opening - 1, opening, close - 1, close)] == [False, True, True, False]
    assert nse.flips_between(opening - 1, close) == 2
    assert nse.flips_between(opening, close - 1) == 0
    assert (opening - 900 * SECOND, close) in nse.spans(frozenset({"pre-open", "open"}))
    assert nse.phases(date(2026, 11, 24)) == ()
