"""What the daemon says of its configuration and its markets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from scheduler import reports
from scheduler.configuration import Configuration
from scheduler.core.market import MarketTable
from scheduler.core.messages import DAY, SECOND, Announce, TaskSpec
from scheduler.core.triggers import At, Every, parse_anchor
from tests.core.desk import spec
from tests.core.tables import always, nse_week
from tests.helpers import instant

NOW = instant("2026-11-23T12:00:00+05:30")
TABLE = nse_week()
PACE = Every({"open": 5 * SECOND, "closed": 60 * SECOND})


def configuration(
    *tasks: TaskSpec, table: MarketTable = TABLE, warnings: tuple[str, ...] = ()
) -> Configuration:
    return Configuration(tasks, {"NSE": table}, TABLE.zone, sources=(Path("tasks.yaml"),), warnings=warnings)


def said(announcements: Iterable[Announce], event: str) -> list[dict[str, object]]:
    return [dict(fields) for name, _, fields in announcements if name == event]


def test_what_was_loaded_is_counted_and_its_files_are_named() -> None:
    tasks = spec("a", PACE), spec("b", PACE, enabled=False)
    announcements = list(reports.loaded(configuration(*tasks, warnings=("the horizon is assumed",))))
    assert said(announcements, "config.loaded") == [
        {"tasks": 1, "disabled": 1, "markets": ["NSE"], "files": ["tasks.yaml"]}
    ]
    assert said(announcements, "calendar.warning") == [{"detail": "the horizon is assumed"}]


@pytest.mark.parametrize(
    ("at", "phase"),
    [
        ("2026-11-23T12:00:00+05:30", "open until 2026-11-23T15:30:00+05:30"),
        ("2026-11-24T12:00:00+05:30", "closed (Gurunanak Jayanti) until 2026-11-25T09:00:00+05:30"),
        ("2026-11-21T12:00:00+05:30", "closed (weekend) until 2026-11-23T09:00:00+05:30"),
        ("2026-11-23T15:40:00+05:30", "closed (between phases) until 2026-11-23T15:50:00+05:30"),
    ],
)
def test_ready_says_which_phase_a_market_is_in_why_and_until_when(at: str, phase: str) -> None:
    event, level, fields = reports.ready(configuration(), [], instant(at))
    assert (event, level, fields["NSE"]) == ("daemon.ready", "info", phase)


def test_ready_says_what_runs_next() -> None:
    coming = [(NOW + 5 * SECOND, "a"), (NOW + 60 * SECOND, "b")]
    assert reports.ready(configuration(), coming, NOW).fields["next"] == [
        "a at 2026-11-23T12:00:05+05:30",
        "b at 2026-11-23T12:01:00+05:30",
    ]


def test_a_reload_names_the_tasks_that_came_went_and_changed() -> None:
    old = configuration(spec("gone", PACE), spec("changed", PACE), spec("same", PACE))
    new = configuration(spec("new", PACE), spec("changed", PACE, timeout=SECOND), spec("same", PACE))
    assert said(reports.changed(old, new, NOW, "SIGHUP"), "config.reloaded") == [
        {"cause": "SIGHUP", "added": ["new"], "removed": ["gone"], "changed": ["changed"]}
    ]


def test_a_reload_that_somebody_asked_for_answers_even_when_nothing_changed() -> None:
    same = configuration(spec("a", PACE))
    assert len(said(reports.changed(same, same, NOW, "SIGHUP"), "config.reloaded")) == 1
    assert list(reports.changed(same, same, NOW, reports.DAILY)) == []


def test_a_changed_calendar_is_told_with_both_versions() -> None:
    closed = nse_week(changes={"2026-11-25": None})
    old, new = configuration(), configuration(table=closed)
    assert said(reports.changed(old, new, NOW, "saved"), "market.changed") == [
        {"market": "NSE", "calendar": closed.version, "was": TABLE.version}
    ]


def test_the_difference_in_runs_is_told_up_to_the_end_of_the_next_session() -> None:
    task = spec("a", PACE)
    closed = nse_week(changes={"2026-11-25": None, "2026-11-26": None})
    lines = said(
        reports.changed(configuration(task), configuration(task, table=closed), NOW, "saved"),
        "config.difference",
    )
    assert [line["runs"] for line in lines] == [
        "2026-11-25 a: -4500 open, +375 closed",
        "2026-11-26 a: -4500 open, +375 closed",
    ]


def test_a_difference_of_many_tasks_is_cut_short_and_says_so() -> None:
    old = configuration(*(spec(f"t{n:02}", PACE) for n in range(30)))
    lines = said(reports.changed(old, configuration(), NOW, "saved"), "config.difference")
    assert len(lines) == 21
    assert "more dates and tasks" in str(lines[-1]["runs"])


def test_what_is_due_at_the_instant_of_a_change_is_no_difference() -> None:
    noon = spec("noon", At((parse_anchor("12:00"),)))
    short = replace(configuration(noon), tables={"NSE": nse_week()})
    found = reports.differences(short, configuration(), NOW)
    assert "2026-11-23" not in {line.date for line in found}


def test_tables_of_different_reach_are_compared_where_both_know() -> None:
    task = spec("a", Every({"*": 3600 * SECOND}), market="always")
    old = Configuration((task,), {"always": always("2026-11-20", "2026-11-24")}, TABLE.zone)
    new = Configuration((), {"always": always("2026-11-20", "2026-11-30")}, TABLE.zone)
    found = reports.differences(old, new, NOW)
    assert sum(line.open_before for line in found) == 11 + 24  # each hour after NOW, and the 24th
    assert reports.differences(old, new, instant("2026-11-26T00:00:00+05:30")) == []


@pytest.mark.parametrize(
    ("days", "event"),
    [
        (46, None),
        (45, "market.horizon_near"),
        (1, "market.horizon_near"),
        (0, "market.beyond_horizon"),
        (-3, "market.beyond_horizon"),
    ],
)
def test_a_calendar_that_ends_within_45_days_is_warned_of(days: int, event: str | None) -> None:
    table = nse_week()
    table.known_until = NOW + days * DAY
    announced = list(reports.horizons(configuration(table=table), NOW))
    assert [name for name, _, _ in announced] == ([event] if event else [])
    if announced:
        assert announced[0].level == "warning"
        assert announced[0].fields["days"] == days
        assert announced[0].fields["market"] == "NSE"


def test_a_market_without_an_end_is_not_warned_of() -> None:
    table = always("2026-11-20", "2026-11-30")
    table.known_until = None
    assert list(reports.horizons(Configuration((), {"always": table}, TABLE.zone), NOW)) == []
