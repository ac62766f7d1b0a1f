"""What the control plane asks of a ledger that a daemon has open."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.core.messages import DAY, HOUR, MINUTE, SECOND, Cause, Past, Reason, Record, Status
from scheduler.errors import LedgerError
from scheduler.ledger import Ledger, MergedRuns, read_acts, read_latest, read_past, read_timeline
from tests.helpers import instant

NINE = instant("2026-11-23T09:00:00+05:30")
NOON = NINE + 3 * HOUR


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "ledger.db", on_trouble=lambda *_: None)
    yield made
    made.close()


def ran(
    task: str, due: int, *, took: int = SECOND, status: Status = Status.COMPLETED, attempt: int = 1
) -> Record:
    return Record(task, due, attempt, status, started=due, ended=due + took)


def timeline(ledger: Ledger, task: str = "a", width: int = MINUTE) -> list[MergedRuns]:
    assert ledger.flush()
    return read_timeline(ledger.path, NINE, NOON, width).get(task, [])


def test_runs_that_began_in_the_same_part_and_ended_alike_are_one_mark(ledger: Ledger) -> None:
    for second in (0, 20, 40, 70):
        ledger.record(ran("a", NINE + second * SECOND))
    ledger.record(ran("a", NINE + 30 * SECOND, status=Status.FAILED))
    assert timeline(ledger) == [
        MergedRuns("completed", "", NINE, NINE + 41 * SECOND, 3, NINE + 40 * SECOND, 1),
        MergedRuns("failed", "", NINE + 30 * SECOND, NINE + 31 * SECOND, 1, NINE + 30 * SECOND, 1),
        MergedRuns("completed", "", NINE + 70 * SECOND, NINE + 71 * SECOND, 1, NINE + 70 * SECOND, 1),
    ]


def test_a_run_from_the_day_before_that_reaches_into_the_time_is_seen_and_one_that_ended_is_not(
    ledger: Ledger,
) -> None:
    ledger.record(ran("long", NINE - 10 * HOUR, took=11 * HOUR))
    ledger.record(ran("over", NINE - HOUR))
    ledger.record(Record("loop", NINE - 2 * HOUR, 1, Status.RUNNING, started=NINE - 2 * HOUR))
    ledger.record(ran("later", NOON))
    assert [row.end for row in timeline(ledger, "long")] == [NINE + HOUR]
    assert [row.end for row in timeline(ledger, "loop")] == [None]
    assert timeline(ledger, "over") == timeline(ledger, "later") == []


def test_a_stretch_of_missed_runs_is_one_mark_from_its_first_due_to_its_last(ledger: Ledger) -> None:
    ledger.record(Record("a", NINE, 0, Status.MISSED, Reason.DOWNTIME, count=12, last_due=NINE + 55 * SECOND))
    ledger.record(Record("a", NINE + MINUTE - SECOND, 0, Status.MISSED, Reason.DOWNTIME))
    assert [(row.start, row.end, row.count) for row in timeline(ledger)] == [
        (NINE, NINE + 55 * SECOND, 12),
        (NINE + 59 * SECOND, NINE + 59 * SECOND, 1),
    ]


def test_what_began_days_ago_is_seen_if_it_runs_on_or_reaches_into_the_time(ledger: Ledger) -> None:
    friday = NINE - 3 * DAY
    ledger.record(Record("loop", friday, 1, Status.RUNNING, started=friday + SECOND))
    away = Record("away", friday, 0, Status.MISSED, Reason.DOWNTIME, count=9, last_due=NINE + HOUR)
    ledger.record(away)
    ledger.record(away._replace(task="back", last_due=NINE - HOUR))
    ledger.record(ran("over", friday))
    ledger.record(ran("loop", NINE))
    assert [(row.status, row.start, row.end) for row in timeline(ledger, "loop")] == [
        ("running", friday + SECOND, None), ("completed", NINE, NINE + SECOND),
    ]  # fmt: skip
    assert [(row.start, row.end, row.count) for row in timeline(ledger, "away")] == [(friday, NINE + HOUR, 9)]
    assert timeline(ledger, "back") == timeline(ledger, "over") == []


def test_the_latest_attempt_of_a_mark_is_named(ledger: Ledger) -> None:
    ledger.record(ran("a", NINE, status=Status.FAILED))
    ledger.record(ran("a", NINE, status=Status.FAILED, attempt=11))
    (mark,) = timeline(ledger)
    assert (mark.due, mark.attempt, mark.count) == (NINE, 11, 2)


def test_of_each_due_the_attempts_are_known_and_whether_one_completed(ledger: Ledger) -> None:
    ledger.record(ran("a", NINE, status=Status.FAILED))
    ledger.record(ran("a", NINE, attempt=2))
    ledger.record(Record("a", NINE - HOUR, 0, Status.MISSED, Reason.DOWNTIME, count=2, last_due=NINE - 1))
    ledger.record(
        Record("a", NINE - HOUR + 1, 0, Status.MISSED, Reason.DOWNTIME, count=3, last_due=NINE + 3 * HOUR)
    )
    ledger.record(ran("a", NINE + 7)._replace(cause=Cause.MANUAL))
    ledger.record(ran("b", NINE + HOUR))
    ledger.record(ran("a", NOON))
    ledger.definition_started("a", NINE - DAY, "old", "{}")
    ledger.definition_started("a", NINE - HOUR, "new", "{}")
    assert ledger.flush()
    found = read_past(ledger.path, ["a", "unheard"], NINE, NOON)
    assert found["a"] == Past(
        {NINE: 2}, frozenset([NINE]), ((NINE - HOUR + 1, NINE + 3 * HOUR, 3),), NINE - DAY, NINE - HOUR
    )
    assert found["unheard"] == Past({}, frozenset())


def test_the_latest_run_of_each_task_is_the_last_attempt_of_its_newest_due(ledger: Ledger) -> None:
    ledger.record(ran("a", NINE))
    ledger.record(ran("a", NINE + HOUR, status=Status.FAILED))
    ledger.record(ran("a", NINE + HOUR, attempt=2)._replace(cause=Cause.RETRY))
    ledger.record(ran("b", NINE))
    assert ledger.flush()
    found = {record.task: (record.due, record.attempt) for record in read_latest(ledger.path)}
    assert found == {"a": (NINE + HOUR, 2), "b": (NINE, 1)}


def test_what_operators_did_is_read_newest_first_and_pruned_with_the_rest(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db", on_trouble=lambda *_: None, keep_for=DAY)
    ledger.record_act(NINE, "asha", "pause", "a", "drill", {"until": "noon"})
    ledger.record_act(NINE + 2 * DAY, "ravi", "resume", "a", "", {})
    for hour in range(60):
        ledger.record(ran("a", NINE + hour * HOUR))
    assert ledger.flush()
    assert [act.who for act in read_acts(ledger.path)] == ["ravi", "asha"]
    ledger.prune(NINE + 60 * HOUR)
    for _ in range(1_000):  # a slice at a time, by its own thread
        if [act.who for act in read_acts(ledger.path)] == ["ravi"]:
            break
        threading.Event().wait(0.01)
    else:
        pytest.fail("what asha did is still there")
    ledger.close()


def test_without_a_ledger_each_question_says_so(tmp_path: Path) -> None:
    for ask in (read_latest, lambda path: list(read_acts(path)), lambda path: read_timeline(path, 0, 1, 1)):
        with pytest.raises(LedgerError, match="there is no ledger"):
            ask(tmp_path / "none.db")
