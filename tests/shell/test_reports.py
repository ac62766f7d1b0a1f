"""What the daemon says of its configuration and its markets."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest

from scheduler import reports
from scheduler.configuration import Configuration
from scheduler.core.alerting import Alert
from scheduler.core.market import MarketTable
from scheduler.core.messages import DAY, SECOND, Announce, CacheSpec, Instant, TaskSpec
from scheduler.core.triggers import At, Cron, Every, parse_anchor
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
    found = reports.differences(short, configuration(), NOW).found
    assert "2026-11-23" not in {line.date for line in found}


def test_tables_of_different_reach_are_compared_where_both_know() -> None:
    task = spec("a", Every({"*": 3600 * SECOND}), market="always")
    old = Configuration((task,), {"always": always("2026-11-20", "2026-11-24")}, TABLE.zone)
    new = Configuration((), {"always": always("2026-11-20", "2026-11-30")}, TABLE.zone)
    found = reports.differences(old, new, NOW).found
    assert sum(line.open_before for line in found) == 11 + 24  # each hour after NOW, and the 24th
    assert reports.differences(old, new, instant("2026-11-26T00:00:00+05:30")).found == []


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
        assert announced[0].fields["days"] == max(0, days)
        assert announced[0].fields["market"] == "NSE"


def test_past_its_horizon_a_market_is_warned_of_with_what_goes_on_then() -> None:
    table = nse_week()
    table.known_until, table.beyond_horizon = NOW + DAY, "refuse"
    [(_, _, fields)] = reports.horizons(configuration(table=table), NOW)
    assert fields == {
        "market": "NSE", "known_until": "2026-11-24", "days": 1, "then": "refuse",
    }  # fmt: skip


def unsettled_week(reason: str = "Sunday Muhurat, times not announced") -> MarketTable:
    """2026-11-29 is announced, and not certain."""
    table = nse_week()
    table.known_until = None
    table.days = tuple(
        day._replace(assumed=True, layer="assumed", reason=reason) if day.date == "2026-11-29" else day
        for day in table.days
    )
    return table


def test_a_date_that_is_not_settled_is_warned_of_with_its_reason() -> None:
    [told] = reports.doubts(configuration(table=unsettled_week()), NOW)
    assert (told.event, told.level) == ("market.unsettled", "warning")
    assert told.fields == {
        "market": "NSE", "date": "2026-11-29", "reason": "Sunday Muhurat, times not announced",
    }  # fmt: skip
    after = instant("2026-11-30T00:00:00+05:30")
    assert list(reports.doubts(configuration(table=unsettled_week()), after)) == []


def test_a_reload_warns_only_of_what_is_new_and_the_daily_one_of_every_warning_again() -> None:
    old = configuration(table=unsettled_week(), warnings=("no calendar XTKS",))
    new = configuration(table=unsettled_week("Muhurat"), warnings=("no calendar XTKS", "no calendar XLON"))
    told = list(reports.changed(old, new, NOW, "saved"))
    assert said(told, "calendar.warning") == [{"detail": "no calendar XLON"}]
    assert [fields["reason"] for fields in said(told, "market.unsettled")] == ["Muhurat"]
    same = list(reports.changed(new, new, NOW, "saved"))
    assert said(same, "calendar.warning") + said(same, "market.unsettled") == []
    daily = list(reports.changed(new, new, NOW, reports.DAILY))
    assert len(said(daily, "calendar.warning")) == 2
    assert said(daily, "market.unsettled") == [], "the daily round has a report of its own on these"


def test_ready_says_that_a_day_is_assumed() -> None:
    table = nse_week()
    pieces = [piece._replace(assumed=True) for piece in table.pieces]
    table.pieces = tuple(pieces)
    for at, phase in (
        ("2026-11-23T12:00:00+05:30", "open (assumed) until 2026-11-23T15:30:00+05:30"),
        ("2026-11-24T12:00:00+05:30", "closed (Gurunanak Jayanti, assumed) until 2026-11-25T09:00:00+05:30"),
    ):
        assert reports.ready(configuration(table=table), [], instant(at)).fields["NSE"] == phase


def known_until(at: Instant, policy: str, *, stated: bool = False) -> MarketTable:
    """The week, assumed from then on, but for what the desk has ``stated``."""
    week = nse_week()
    pieces = [piece._replace(assumed=piece.end > at and not stated) for piece in week.pieces]
    return MarketTable(
        name="NSE", zone=week.zone, pieces=pieces, sessions=week.sessions, days=week.days,
        phases=week.phases, version="assumed", known_until=at, beyond_horizon=policy,
    )  # fmt: skip


def test_a_day_that_the_desk_stated_past_the_horizon_does_not_stand_in_the_way() -> None:
    table = known_until(NOW - DAY, "refuse", stated=True)
    state = reports.readiness(configuration(spec("a", PACE), table=table), NOW)
    assert state.ready
    assert [str(concern) for concern in state.concerns] == [
        "NSE: its calendar was known until 2026-11-22; today is stated, but else nothing is started"
    ]


@pytest.mark.parametrize(
    ("known", "read", "announced"),
    [
        ((), ("a",), ["a"]),
        (("a",), ("a", "b"), ["b"]),
        (("a",), None, []),
        (None, ("a",), []),  # which of it is new nobody can tell
    ],
)
def test_what_was_amended_since_is_announced(
    known: tuple[str, ...] | None, read: tuple[str, ...] | None, announced: list[str]
) -> None:
    old, new = (
        replace(configuration(), trail=None if names is None else tuple({"change": name} for name in names))
        for names in (known, read)
    )
    told = said(reports.changed(old, new, NOW, "the amendments changed"), "market.amended")
    assert [entry["change"] for entry in told] == announced


@pytest.mark.parametrize(
    ("policy", "days", "ready", "what"),
    [
        ("refuse", 46, True, None),
        ("refuse", 45, True, "its calendar is known until 2027-01-07; then nothing is started"),
        ("refuse", 0, False, "its calendar was known until 2026-11-23; now nothing is started"),
        ("closed", 0, True, "its calendar was known until 2026-11-23; now it is taken for closed"),
        ("assume-weekdays", -5, True,
         "its calendar was known until 2026-11-18; now weekdays are assumed to be sessions"),
    ],
)  # fmt: skip
def test_readiness_is_lost_past_the_horizon_of_a_market_that_refuses(
    policy: str, days: int, ready: bool, what: str | None
) -> None:
    table = known_until(NOW + days * DAY, policy)
    state = reports.readiness(configuration(spec("a", PACE), table=table), NOW)
    assert state.ready == ready
    assert [str(concern) for concern in state.concerns] == ([f"NSE: {what}"] if what else [])
    assert str(state) == ("ready" if ready else f"not ready: NSE: {what}")
    said_ready = reports.ready(configuration(spec("a", PACE), table=table), [], NOW)
    assert (said_ready.level, said_ready.fields["ready"]) == ("info" if ready else "warning", ready)
    assert said_ready.fields.get("concerns", []) == [str(concern) for concern in state.concerns]


def test_a_market_that_refuses_and_that_no_task_is_on_does_not_stand_in_the_way() -> None:
    table = known_until(NOW - DAY, "refuse")
    disabled = spec("a", PACE, enabled=False)
    assert reports.readiness(configuration(disabled, table=table), NOW).ready


def test_a_market_without_an_end_is_not_warned_of() -> None:
    table = always("2026-11-20", "2026-11-30")
    table.known_until = None
    assert list(reports.horizons(Configuration((), {"always": table}, TABLE.zone), NOW)) == []


LONG_DAY = [("pre-open", "09:00", "09:15"), ("open", "09:15", "11:40"), ("open", "15:45", "17:00")]


@pytest.mark.parametrize(
    ("changes", "day", "open_runs", "closed_runs"),
    [
        ({"2026-11-23": LONG_DAY}, "2026-11-23", 900 - 2519, 644 - 510),  # from NOW on
        ({"2026-11-25": None}, "2026-11-25", -4500, 375),
        ({"2026-12-03": None}, "2026-12-03", -4500, 375),  # long after the next session
    ],
)
def test_a_changed_day_is_told_in_runs_however_far_off_and_taken_back_the_other_way_round(
    changes: dict[str, list[tuple[str, str, str]] | None], day: str, open_runs: int, closed_runs: int
) -> None:
    usual = configuration(spec("a", PACE))
    changed = configuration(spec("a", PACE), table=nse_week(changes=changes))
    (there,) = reports.differences(usual, changed, NOW).found
    (back,) = reports.differences(changed, usual, NOW).found
    assert (there.date, back.date) == (day, day)
    assert there.open_after - there.open_before == -(back.open_after - back.open_before) == open_runs
    assert there.closed_after - there.closed_before == closed_runs
    assert back.closed_after - back.closed_before == -closed_runs


def test_a_reload_says_which_settings_changed_besides_tasks() -> None:
    old, new = (
        configuration(),
        replace(
            configuration(),
            caches={"prices": CacheSpec(SECOND)},
            reload="manual",
            alerts=(Alert(None, (), (), "https://heartbeat.example/"),),
        ),
    )
    (told,) = said(reports.changed(old, new, NOW, "saved"), "config.reloaded")
    assert told["settings"] == ["cache", "reload", "alerts"]
    assert said(reports.changed(old, old, NOW, "daily refresh"), "config.reloaded") == []
    assert len(said(reports.changed(old, new, NOW, "daily refresh"), "config.reloaded")) == 1


AT_CLOSE = At((parse_anchor("close-20m"),))


@pytest.mark.parametrize(
    ("close", "told"),
    [
        ("17:00", "2026-11-23 sq: 15:10 to 16:40"),
        ("12:10", "2026-11-23 sq: 15:10 to 11:50, which has passed: it does not run"),
    ],
)
def test_an_appointment_that_moves_is_told_with_its_times_and_loudly_when_it_is_lost(
    close: str, told: str
) -> None:
    moved = nse_week(changes={"2026-11-23": [("open", "09:15", close)]})
    usual, changed = configuration(spec("sq", AT_CLOSE)), configuration(spec("sq", AT_CLOSE), table=moved)
    lines = [one for one in reports.changed(usual, changed, NOW, "saved") if one.event == "config.difference"]
    assert [(line.level, line.fields["runs"]) for line in lines] == [
        ("warning" if "passed" in told else "info", told)
    ]


def test_a_task_that_no_phase_disturbs_is_not_told_of_when_a_phase_moves() -> None:
    moved = nse_week(changes={"2026-11-23": None})
    tasks = spec("clock", Every({"*": 60 * SECOND})), spec("half-past", Cron("30 * * * *", TABLE.zone))
    assert reports.differences(configuration(*tasks), configuration(*tasks, table=moved), NOW).found == []


def test_when_the_hours_of_every_day_change_a_few_days_are_told_and_the_rest_counted() -> None:
    shorter = nse_week(hours=[("open", "09:15", "15:00")])
    told = reports.differences(
        configuration(spec("a", PACE)), configuration(spec("a", PACE), table=shorter), NOW
    )
    assert len({line.date for line in told.found}) == 7
    assert told.lines()[-1] == "and 2 more days on which markets change"


def line(
    at: str, *, coming: tuple[tuple[str, str], ...] = (), table: MarketTable = TABLE, **tally: int
) -> str:
    tasks = configuration(spec("a", PACE), table=table)
    following = [(instant(due), name) for due, name in coming]
    return reports.status_line(
        tasks, {word.replace("_", "-"): n for word, n in tally.items()}, following, instant(at)
    )


def test_the_status_line_says_market_tasks_and_what_is_next() -> None:
    coming = (("2026-11-23T12:00:05+05:30", "market-monitoring"), ("2026-11-23T12:01:00+05:30", "b"))
    assert line("2026-11-23T12:00:00+05:30", coming=coming, waiting=9, running=2, backing_off=1) == (
        "NSE open until 15:30 · 12 tasks, 1 restarting · next market-monitoring 12:00:05"
    )


def test_the_status_line_counts_what_is_amiss() -> None:
    assert line(
        "2026-11-23T12:00:00+05:30", crash_looping=1, backing_off=1, parked=1, refused=1, paused=3
    ) == ("NSE open until 15:30 · 7 tasks, 2 restarting, 2 parked, 3 paused")


def test_the_status_line_dates_what_is_not_today() -> None:
    coming = (("2026-11-25T09:00:00+05:30", "a"),)
    assert line("2026-11-24T12:00:00+05:30", coming=coming, waiting=1) == (
        "NSE closed (Gurunanak Jayanti) until Wed 25 Nov 09:00 · 1 task · next a Wed 25 Nov 09:00:00"
    )


def test_the_status_line_names_each_market_in_use_and_the_one_that_never_closes_only_when_alone() -> None:
    tables = {"NSE": TABLE, "MCX": copy(TABLE), "always": always("2026-11-20", "2026-11-30")}
    tables["MCX"].name = "MCX"
    tasks = [spec(name, PACE, market=name) for name in ("MCX", "NSE", "always")]

    def markets(*used: TaskSpec) -> str:
        made = Configuration(used, tables, TABLE.zone)
        return reports.status_line(made, {"waiting": 1}, [], NOW).partition(" · ")[0]

    assert markets(*tasks) == "NSE open until 15:30, MCX open until 15:30"
    assert markets(tasks[0]) == "MCX open until 15:30"
    assert markets(tasks[2]).startswith("always ")
    assert "until" not in markets(tasks[2])
    assert markets() == "1 task"


def test_warnings_come_daily_and_at_the_very_end_of_a_known_calendar() -> None:
    table = nse_week()
    table.known_until = NOW + 5 * SECOND
    assert reports.next_doubt(configuration(table=table), NOW) == NOW + 5 * SECOND
    assert reports.next_doubt(configuration(table=table), NOW + 5 * SECOND) == NOW + 5 * SECOND + DAY
