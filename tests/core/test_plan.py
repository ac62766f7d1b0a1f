"""The plan of a day, its counts, and what a change does to it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.market import MarketTable
from scheduler.core.messages import HOUR, MINUTE, SECOND, Priority, RestartPolicy, TaskSpec, Work
from scheduler.core.plan import Difference, PlannedRun, counts, difference, outline, plan
from scheduler.core.triggers import After, Cron, Every, KeepRunning, On, Trigger
from scheduler.errors import OutsideTableError
from tests.core.agreement import anchors, at
from tests.core.tables import always, muhurat_week, nse_week
from tests.helpers import instant, iso

NSE = nse_week()
TABLES = {"NSE": NSE, "always": always("2026-11-20", "2026-12-04")}
CRITICAL = Every({"open": 5 * SECOND, "closed": 60 * SECOND})


def spec(
    name: str,
    trigger: Trigger,
    priority: Priority = Priority.IMPORTANT,
    market: str = "NSE",
    *,
    enabled: bool = True,
) -> TaskSpec:
    return TaskSpec(
        name=name,
        priority=priority,
        market=market,
        trigger=trigger,
        work=Work(target="desk:work"),
        restart=RestartPolicy("never"),
        timeout=None,
        catchup=0,
        enabled=enabled,
    )


DESK = [
    spec("z-watch", Every({"open": 30 * MINUTE, "closed": None}), Priority.CRITICAL),
    spec("report", anchors("close+15m", "close+20h")),
    spec("feed", KeepRunning(frozenset({"pre-open", "open"})), Priority.CRITICAL),
    spec("poll", Cron("*/30 9 * * *", NSE.zone), Priority.NICE_TO_HAVE),
    spec("host", Every({"*": 60 * MINUTE}), Priority.IMPORTANT, "always"),
    spec("signals", After("z-watch"), Priority.CRITICAL),
    spec("page", On(("task.stale",))),
    spec("off", Every({"*": MINUTE}), enabled=False),
]


def test_the_plan_of_a_morning() -> None:
    lines = [
        (iso(run.due)[11:16], run.task, run.priority.label, run.market, run.phase, run.session, run.trigger)
        for run in plan(DESK, TABLES, at("23T09:00:00"), at("23T10:00:00"))
    ]
    assert lines == [
        ("09:00", "feed", "critical", "NSE", "pre-open", "2026-11-23", "keep_running"),
        ("09:00", "host", "important", "always", "open", "2026-11-23", "every 1h"),
        ("09:00", "poll", "nice-to-have", "NSE", "pre-open", "2026-11-23", "*/30 9 * * *"),
        ("09:15", "z-watch", "critical", "NSE", "open", "2026-11-23", "every 30m"),
        ("09:30", "poll", "nice-to-have", "NSE", "open", "2026-11-23", "*/30 9 * * *"),
        ("09:45", "z-watch", "critical", "NSE", "open", "2026-11-23", "every 30m"),
    ]


def test_an_anchor_s_run_is_planned_with_its_own_session_and_text() -> None:
    runs = list(plan(DESK[1:2], TABLES, at("26T00:00:00"), at("27T00:00:00")))
    assert runs == [
        PlannedRun(at("26T11:30:00"), "report", Priority.IMPORTANT, "NSE", "open", "2026-11-25", "close+20h"),
        PlannedRun(
            at("26T15:45:00"), "report", Priority.IMPORTANT, "NSE", "closed", "2026-11-26", "close+15m"
        ),
    ]


def test_before_the_first_session_there_is_none() -> None:
    first = next(plan([spec("watch", CRITICAL)], TABLES, NSE.first, NSE.last))
    assert (first.due, first.session) == (NSE.first, None)


def test_runs_due_together_come_by_priority_then_name() -> None:
    specs = [
        spec("b", CRITICAL),
        spec("a", CRITICAL, Priority.NICE_TO_HAVE),
        spec("d", CRITICAL, Priority.CRITICAL),
        spec("c", CRITICAL, Priority.CRITICAL),
    ]
    runs = plan(specs, TABLES, at("23T09:15:00"), at("23T09:15:01"))
    assert [run.task for run in runs] == ["c", "d", "b", "a"]


def test_the_start_is_in_the_plan_and_the_end_is_not() -> None:
    def dues(start: str, until: str) -> list[str]:
        return [iso(run.due)[11:19] for run in plan([spec("watch", CRITICAL)], TABLES, at(start), at(until))]

    assert dues("23T09:15:00", "23T09:15:10") == ["09:15:00", "09:15:05"]
    assert dues("23T09:15:00", "23T09:15:00") == []


def test_the_plan_is_made_as_it_is_read() -> None:
    every_nanosecond = spec("mad", Every({"*": 1}))
    assert next(plan([every_nanosecond], TABLES, NSE.first, NSE.last)).due == NSE.first


@settings(deadline=None)
@given(
    st.integers(NSE.first, NSE.last),
    st.integers(NSE.first, NSE.last),
)
def test_counts_are_the_plan_s(start: int, until: int) -> None:
    counted = counts(DESK, TABLES, start, until)
    planned = [run.task for run in plan(DESK, TABLES, start, until)]
    assert counted == {name: planned.count(name) for name in ("z-watch", "report", "feed", "poll", "host")}


@pytest.mark.parametrize("start, until", [(NSE.first - 1, NSE.last), (NSE.first, NSE.last + 1)])
def test_a_stretch_that_the_calendar_does_not_cover_is_refused(start: int, until: int) -> None:
    for ask in (plan, counts):
        with pytest.raises(
            OutsideTableError, match="NSE: the calendar reaches from 2026-11-20 to 2026-12-04"
        ):
            ask(DESK, TABLES, start, until)


def lines(old: MarketTable, new: MarketTable, tasks: list[TaskSpec]) -> list[str]:
    found = difference((tasks, {"NSE": old}), (tasks, {"NSE": new}), at("23T12:00:00"), NSE.last)
    return [str(line) for line in found]


def test_a_new_holiday_takes_the_day_s_session_runs_and_adds_those_of_closed() -> None:
    tasks = [spec("market-monitoring", CRITICAL), spec("report", anchors("close+15m"))]
    assert lines(NSE, nse_week(changes={"2026-11-25": None}), tasks) == [
        "2026-11-25 market-monitoring: -4500 open, +375 closed",
        "2026-11-25 report: -1 closed",
    ]


def test_a_muhurat_evening_adds_its_hour() -> None:
    assert lines(NSE, muhurat_week(), [spec("market-monitoring", CRITICAL)]) == [
        "2026-11-24 market-monitoring: +720 open, -60 closed"
    ]


def test_no_change_makes_no_difference() -> None:
    assert lines(NSE, nse_week(), DESK[:4]) == []


def test_a_new_and_a_removed_task_are_counted_from_the_instant_on() -> None:
    old, new = [spec("gone", anchors("16:00"))], [spec("come", Every({"open": 60 * MINUTE}))]
    found = difference((old, TABLES), (new, TABLES), at("23T12:00:00"), at("24T00:00:00"))
    assert found == [
        Difference("2026-11-23", "come", 0, 4, 0, 0),
        Difference("2026-11-23", "gone", 0, 0, 1, 0),
    ]


def changed(trigger: Trigger, hours: tuple[str, str], start: str) -> list[str]:
    """What other hours on the 25th make of a task, from an instant of that day on."""
    specs = [spec("a", trigger)]
    tables = {"NSE": nse_week()}, {"NSE": nse_week(changes={"2026-11-25": [("open", *hours)]})}
    found = difference((specs, tables[0]), (specs, tables[1]), instant(start), at("26T00:00:00"))
    return [str(each) for each in found]


@pytest.mark.parametrize(
    "trigger, hours, start, expected",
    [
        (anchors("close+15m"), ("09:15", "17:00"), "T09:00", ["2026-11-25 a: 15:45 to 17:15"]),
        (anchors("close+15m"), ("09:15", "11:00"), "T12:00",
         ["2026-11-25 a: 15:45 to 11:15, which has passed: it does not run"]),
        (anchors("close+15m"), ("09:15", "17:00"), "T16:00", ["2026-11-25 a: +1 closed"]),
        (anchors("close+15m"), ("09:15", "17:00"), "T18:00", []),  # it was to be, and has been
        (anchors("16:00"), ("09:15", "17:00"), "T09:00", ["2026-11-25 a: +1 open, -1 closed"]),
        (Every({"*": HOUR}), ("09:15", "17:00"), "T09:00", []),  # by the clock, whatever the phases are
        (Every({"open": HOUR}), ("09:15", "17:00"), "T09:00", ["2026-11-25 a: +1 open"]),
    ],
)  # fmt: skip
def test_other_hours_move_appointments_and_change_the_number_of_a_paces_runs(
    trigger: Trigger, hours: tuple[str, str], start: str, expected: list[str]
) -> None:
    assert changed(trigger, hours, f"2026-11-25{start}:00+05:30") == expected


def test_an_outline_has_few_dues_one_by_one_and_many_as_a_stretch_of_their_phase() -> None:
    trigger = Every({"open": 15 * MINUTE, "closed": 5 * MINUTE})
    found = list(outline(trigger, NSE, at("23T08:00:00"), at("23T16:00:00")))
    told = [(iso(first)[11:16], iso(last)[11:16], count) for first, last, count in found]
    assert told[:12] == [(f"08:{minute:02}",) * 2 + (1,) for minute in range(0, 60, 5)]
    assert ("09:15", "15:15", 25) in told
    assert sum(count for *_, count in told) == trigger.count_between(
        at("23T08:00:00"), at("23T16:00:00"), NSE
    )


def test_an_outline_of_a_loop_is_when_it_runs() -> None:
    feed = KeepRunning(frozenset({"pre-open", "open"}))
    found = list(outline(feed, NSE, at("23T10:00:00"), at("25T12:00:00")))
    assert [(iso(first)[8:16], iso(last)[8:16], count) for first, last, count in found] == [
        ("23T10:00", "23T15:30", 1), ("25T09:00", "25T12:00", 1),
    ]  # fmt: skip
    always_on = list(outline(KeepRunning(None), NSE, at("23T10:00:00"), at("24T12:00:00")))
    assert always_on == [(at("23T10:00:00"), at("24T12:00:00"), 1)]
    assert list(outline(On(("task.stale",)), NSE, at("23T10:00:00"), at("24T12:00:00"))) == []
