"""`fresh_within` and `finish_by`: what should have succeeded by now."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from scheduler.core.market import MarketTable
from scheduler.core.messages import (
    HOUR,
    MINUTE,
    SECOND,
    BackfillRequested,
    Cause,
    Configure,
    RunEnded,
    Status,
    TaskHistory,
)
from scheduler.core.triggers import After, At, Every, KeepRunning, parse_anchor
from tests.core.desk import NEVER, Desk, bad, endless, ok, spec
from tests.core.tables import nse_week
from tests.helpers import instant, iso

TABLE = nse_week()
PACE = Every({"open": 5 * SECOND, "closed": None})
TEN = "2026-11-23T10:00:01+05:30"


def at(*texts: str) -> At:
    return At(tuple(parse_anchor(text) for text in texts))


def late_week() -> MarketTable:
    """A market that opens at 18:00."""
    return nse_week(hours=[("open", "18:00", "20:00")], name="LATE")


class Watched(Desk):
    """A desk that notes when it announced what."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.times: list[int] = []
        super().__init__(*args, **options)

    def tell(self, event: Any) -> None:
        super().tell(event)
        self.times += [self.now] * (len(self.said) - len(self.times))

    def when(self, event: str) -> list[str]:
        return [iso(at)[11:19] for at, said in zip(self.times, self.said, strict=True) if said.event == event]


def test_a_task_is_stale_when_its_last_success_is_older_than_it_may_be() -> None:
    task = spec("a", PACE, restart=NEVER, fresh_within=30 * SECOND)
    desk = Watched([task], TABLE, TEN).until("2026-11-23T10:00:21+05:30")
    desk.scripts["a"] = bad()
    desk.until("2026-11-23T10:05:00+05:30")
    assert desk.when("task.stale") == ["10:00:50"]  # the last success was at 10:00:20.1
    (alarm,) = [action for action in desk.said if action.event == "task.stale"]
    said = alarm.fields
    assert (said["task"], said["fresh_within"], iso(said["last_success"])[11:19]) == ("a", "30s", "10:00:20")
    assert alarm.level == "error"


def test_a_run_that_is_due_at_the_very_instant_of_the_alarm_counts_among_those_that_were_wanted() -> None:
    task = spec("a", at("10:00"), fresh_within=30 * MINUTE)
    desk = Watched([task], TABLE, "2026-11-23T09:30:00+05:30", scripts={"a": endless})
    desk.until("2026-11-23T12:00:00+05:30")
    assert desk.when("task.stale") == ["10:00:00"]


def test_an_alarm_that_a_reload_took_away_is_silent() -> None:
    task = spec("a", at("10:01"), fresh_within=30 * SECOND, finish_by=parse_anchor("10:02"))
    desk = Desk([task], TABLE, TEN, scripts={"a": endless})
    desk.tell(Configure((replace(task, fresh_within=None, finish_by=None),), {"NSE": TABLE}))
    desk.until("2026-11-23T11:00:00+05:30")
    assert desk.events("task.stale", "task.unfinished") == []


def test_an_alarm_that_a_reload_brought_counts_from_the_reload() -> None:
    task = spec("a", PACE, restart=NEVER)
    desk = Watched([task], TABLE, TEN, scripts={"a": bad()}).until("2026-11-23T10:10:00+05:30")
    desk.tell(Configure((replace(task, fresh_within=MINUTE),), {"NSE": TABLE}))
    desk.until("2026-11-23T10:30:00+05:30")
    assert desk.when("task.stale") == ["10:11:00"]


def test_a_loop_that_runs_is_fresh_however_long_it_runs_and_stale_when_it_is_gone() -> None:
    task = spec("feed", KeepRunning(frozenset({"open"})), fresh_within=10 * MINUTE, restart=NEVER)
    desk = Watched([task], TABLE, "2026-11-23T10:00:00+05:30", scripts={"feed": endless})
    desk.until("2026-11-23T12:05:00+05:30")
    assert desk.events("task.stale") == []
    desk.tell(RunEnded(desk.started[0], Status.FAILED, "error", "gone"))
    desk.until("2026-11-23T15:00:00+05:30")
    assert desk.when("task.stale") == ["12:11:00"]  # proven healthy at 10:01, looked at every ten minutes


def test_what_has_succeeded_before_a_restart_is_not_stale_at_once() -> None:
    task = spec("a", at("09:30", "11:00"), fresh_within=2 * HOUR)
    before = Desk([task], TABLE, "2026-11-23T09:29:00+05:30").until("2026-11-23T10:00:00+05:30")
    desk = Watched([task], TABLE, TEN, history=before.crash(), scripts={"a": endless})
    desk.until("2026-11-23T15:00:00+05:30")
    assert desk.when("task.stale") == ["11:30:00"]  # two hours after 09:30


def test_a_task_that_has_never_succeeded_is_given_its_time_from_the_start() -> None:
    task = spec("a", PACE, restart=NEVER, fresh_within=MINUTE)
    desk = Watched([task], TABLE, TEN, history={"a": TaskHistory(0)}, scripts={"a": bad()})
    desk.until("2026-11-23T10:05:00+05:30")
    assert desk.when("task.stale") == ["10:01:01"]
    assert desk.fields("task.stale")[0]["last_success"] is None


def test_what_comes_after_another_is_wanted_when_the_head_of_its_chain_is() -> None:
    specs = [
        spec("up", at("10:30"), restart=NEVER),
        spec("middle", After("up")),
        spec("down", After("middle"), fresh_within=15 * MINUTE),
    ]
    desk = Watched(specs, TABLE, TEN, scripts={"up": bad()}).until("2026-11-23T15:00:00+05:30")
    assert desk.when("task.stale") == ["10:45:00"]


def test_nothing_is_wanted_overnight_and_the_alarm_rings_after_the_first_run_of_the_morning() -> None:
    task = spec("a", PACE, restart=NEVER, fresh_within=MINUTE)
    desk = Watched([task], TABLE, "2026-11-25T15:29:30+05:30").until("2026-11-25T15:30:00+05:30")
    desk.scripts["a"] = bad()
    desk.until("2026-11-26T12:00:00+05:30")
    assert desk.when("task.stale") == ["09:16:00"]


def test_a_task_that_is_never_due_again_is_not_watched_any_more() -> None:
    task = spec("a", at("10:00"), fresh_within=MINUTE)
    desk = Desk([task], TABLE, "2026-12-04T10:00:30+05:30")  # the table ends with that day
    desk.until("2026-12-04T23:00:00+05:30")
    assert desk.events("task.stale") == []
    assert desk.engine.wake_at() is not None  # the end of the table, for the phases


@pytest.mark.parametrize(
    "lasts, alarms",
    [(5 * 60, []), (2 * 3600, ["16:30:00"])],
)
def test_finish_by_rings_only_when_the_run_due_last_has_not_succeeded(lasts: int, alarms: list[str]) -> None:
    task = spec("report", at("close+15m"), finish_by=parse_anchor("close+1h"))
    desk = Watched([task], TABLE, "2026-11-25T15:00:00+05:30", scripts={"report": ok(lasts)})
    desk.until("2026-11-25T20:00:00+05:30")
    assert desk.when("task.unfinished") == alarms


def test_finish_by_rings_each_day_and_names_the_due_and_the_anchor() -> None:
    task = spec("report", at("close+15m"), finish_by=parse_anchor("close+1h"), restart=NEVER)
    desk = Watched([task], TABLE, "2026-11-25T15:00:00+05:30", scripts={"report": bad()})
    desk.until("2026-11-26T20:00:00+05:30")
    assert desk.when("task.unfinished") == ["16:30:00", "16:30:00"]
    assert {said.level for said in desk.said if said.event == "task.unfinished"} == {"error"}
    assert [(iso(f["due"]), f["finish_by"], f["task"]) for f in desk.fields("task.unfinished")] == [
        ("2026-11-25T15:45:00+05:30", "close+1h", "report"),
        ("2026-11-26T15:45:00+05:30", "close+1h", "report"),
    ]


def test_a_success_of_yesterday_does_not_count_for_todays_run() -> None:
    task = spec("report", at("close+15m"), finish_by=parse_anchor("close+1h"), restart=NEVER)
    desk = Watched([task], TABLE, "2026-11-25T15:00:00+05:30").until("2026-11-26T12:00:00+05:30")
    desk.scripts["report"] = bad()
    desk.until("2026-11-26T20:00:00+05:30")
    assert desk.when("task.unfinished") == ["16:30:00"]


def test_a_run_that_takes_no_time_at_all_is_done_by_then() -> None:
    task = spec("report", at("close+15m"), finish_by=parse_anchor("close+1h"))
    desk = Desk([task], TABLE, "2026-11-25T15:00:00+05:30", scripts={"report": ok(0)})
    desk.until("2026-11-25T20:00:00+05:30")
    assert desk.events("task.unfinished") == []


@pytest.mark.parametrize(
    ("alarm", "told"),
    [({"finish_by": parse_anchor("19:30")}, {"task.unfinished": ["19:30:00"]}),
     ({"fresh_within": HOUR}, {"task.stale": ["18:00:00"]})],
)  # fmt: skip
def test_what_comes_after_a_task_of_another_market_is_wanted_by_the_calendar_of_that_one(
    alarm: dict[str, Any], told: dict[str, list[str]]
) -> None:
    report, sums = spec("report", at("open")), spec("sums", After("report"), market="LATE", **alarm)
    desk = Watched([report], TABLE, "2026-11-23T09:00:00+05:30")
    desk.tell(Configure((report, sums), {"NSE": TABLE, "LATE": late_week()}))
    desk.until("2026-11-23T09:30:00+05:30")
    desk.scripts["sums"] = bad()
    desk.until("2026-11-23T23:00:00+05:30")
    assert {name: desk.when(name) for name in told} == {name: [] for name in told}

    turned = [replace(report, market="LATE"), replace(sums, market="NSE")]
    desk = Watched([report], TABLE, "2026-11-23T17:00:00+05:30", scripts={"sums": bad()})
    desk.tell(Configure(tuple(turned), {"NSE": TABLE, "LATE": late_week()}))
    desk.until("2026-11-23T23:00:00+05:30")
    assert {name: desk.when(name) for name in told} == told


def test_a_run_of_the_past_that_is_made_makes_nothing_fresh() -> None:
    task = spec("a", PACE, restart=NEVER, fresh_within=30 * SECOND)
    desk = Watched([task], TABLE, TEN, scripts={"a": bad()}).until("2026-11-23T10:01:00+05:30")
    desk.scripts["a"] = lambda run: (ok() if run.cause is Cause.BACKFILL else bad())(run)
    desk.tell(BackfillRequested("a", (instant("2026-11-23T09:30:00+05:30"),)))
    desk.until("2026-11-23T10:02:00+05:30")
    assert desk.outcomes("a")[0] == ("09:30:00", "completed", "", 1)
    assert (desk.when("task.stale"), desk.when("task.fresh")) == (["10:00:31"], [])
