"""Law 8 in the core: what happens past the horizon, and how days that are only assumed are marked.

The known calendar ends with Thursday 2026-11-26. Where a desk has stated a day since, it is known.
"""

from __future__ import annotations

import pytest

from scheduler.core.market import MarketTable, is_assumed
from scheduler.core.messages import HOUR, MINUTE, Happened, Reason, RunNow, Status, StopRequested
from scheduler.core.plan import plan
from scheduler.core.triggers import After, Cron, Every, KeepRunning, On
from tests.core.agreement import anchors
from tests.core.desk import ALWAYS, Desk, bad, endless, spec
from tests.core.tables import nse_week
from tests.helpers import instant, iso

HORIZON = instant("2026-11-27T00:00:00+05:30")
DAYS = ("2026-11-27", "2026-11-30", "2026-12-01", "2026-12-02", "2026-12-03", "2026-12-04")
PACE = Every({"open": 5 * MINUTE, "closed": HOUR})


def past_horizon(policy: str, known: tuple[str, ...] = ()) -> MarketTable:
    """The week of the other tests, known until the 26th, and on the dates ``known``."""
    closed = [] if policy == "assume-weekdays" else [day for day in DAYS if day not in known]
    week = nse_week(changes=dict.fromkeys(closed))
    return MarketTable(
        name="NSE",
        zone=week.zone,
        pieces=[
            piece._replace(assumed=piece.start >= HORIZON and iso(piece.midnight)[:10] not in known)
            for piece in week.pieces
        ],
        sessions=week.sessions,
        days=week.days,
        phases=week.phases,
        version=week.version,
        known_until=HORIZON,
        beyond_horizon=policy,
    )


REFUSING = past_horizon("refuse")


@pytest.mark.parametrize(
    "policy, time, assumed, refused",
    [
        ("refuse", "2026-11-26T23:59:59+05:30", False, False),
        ("refuse", "2026-11-27T00:00:00+05:30", True, True),
        ("refuse", "2026-11-30T23:59:59+05:30", True, True),
        ("refuse", "2026-12-01T00:00:00+05:30", False, False),
        ("refuse", "2026-12-02T00:00:00+05:30", True, True),
        ("closed", "2026-11-27T00:00:00+05:30", True, False),
        ("closed", "2026-12-01T00:00:00+05:30", False, False),
        ("assume-weekdays", "2026-11-26T23:59:59+05:30", False, False),
        ("assume-weekdays", "2026-11-27T10:00:00+05:30", True, False),
    ],
)
def test_a_table_knows_which_days_are_assumed_and_which_refused(
    policy: str, time: str, assumed: bool, refused: bool
) -> None:
    table = past_horizon(policy, known=("2026-12-01",))
    assert is_assumed(table.label_at(instant(time))) == assumed
    assert table.label_at(instant(time)).startswith(table.version)
    assert table.refuses(instant(time)) == refused


def test_a_table_knows_when_it_begins_to_refuse() -> None:
    table = past_horizon("refuse", known=("2026-11-27", "2026-12-01"))
    begins = [
        table.next_refusal(instant(f"2026-{day}T12:00:00+05:30")) for day in ("11-23", "11-27", "12-01")
    ]
    assert [iso(at)[:16] for at in begins if at] == [
        "2026-11-28T00:00",
        "2026-11-28T00:00",
        "2026-12-02T00:00",
    ]
    assert past_horizon("closed").next_refusal(HORIZON) is None
    assert nse_week().next_doubt(HORIZON) > nse_week().last


def test_nothing_is_started_where_the_market_refuses_and_all_of_it_is_recorded() -> None:
    tasks = [
        spec("pace", PACE),
        spec("plain", Every({"*": 30 * MINUTE})),
        spec("nightly", Cron("0 2 * * *", REFUSING.zone)),
        spec("between", KeepRunning(frozenset({"closed"}))),
        spec("then", After("pace")),
        spec("report", anchors("close+15m")),
    ]
    desk = Desk(tasks, REFUSING, "2026-11-26T23:00:00+05:30", scripts={"between": endless})
    desk.until("2026-11-29T00:00:00+05:30")
    late = [run for run in desk.started if run.due >= HORIZON]
    assert late == []
    refused = {name: desk.outcomes(name)[-1] for name in ("pace", "plain", "nightly", "then")}
    assert refused == {
        "pace": ("00:00:00", "missed", "refused", 48),
        "plain": ("00:00:00", "missed", "refused", 96),
        "nightly": ("02:00:00", "missed", "refused", 2),
        "then": ("00:00:00", "missed", "refused", 48),
    }
    for task in tasks[:3]:
        since = instant("2026-11-26T23:00:00+05:30")
        assert desk.accounted(task.name) == task.trigger.count_between(since, desk.now, REFUSING)
    assert [fields["task"] for fields in desk.fields("run.missed")] == ["pace", "then", "plain", "nightly"]
    assert all(is_assumed(row.calendar) for row in desk.rows.values() if row.reason == Reason.REFUSED)


def test_a_day_that_is_known_past_the_horizon_is_worked_as_any_other() -> None:
    table = past_horizon("refuse", known=("2026-12-01",))
    feed = spec("feed", KeepRunning(frozenset({"open"})))
    desk = Desk([spec("pace", PACE), feed], table, "2026-11-30T12:00:00+05:30", scripts={"feed": endless})
    desk.until("2026-12-03T00:00:00+05:30")
    assert desk.starts("feed") == ["2026-12-01T09:15:00+05:30"]
    assert {start[:10] for start in desk.starts("pace")} == {"2026-12-01"}
    assert [row for row in desk.outcomes("pace") if row[1] == "missed"] == [
        ("12:00:00", "missed", "refused", 12),
        ("00:00:00", "missed", "refused", 24),
    ]


def test_a_loop_that_always_runs_ends_at_the_horizon_and_is_not_started_past_it() -> None:
    feed = spec("feed", KeepRunning(None), restart=ALWAYS)
    desk = Desk([feed], REFUSING, "2026-11-26T23:00:00+05:30", scripts={"feed": endless})
    desk.until("2026-11-28T00:00:00+05:30")
    [stop] = desk.stopped
    assert (stop.status, stop.reason) == (Status.COMPLETED, Reason.PHASE_ENDED)
    assert desk.engine.idle()
    restarted = Desk([feed], REFUSING, "2026-11-28T12:00:00+05:30", scripts={"feed": endless})
    assert restarted.until("2026-11-29T00:00:00+05:30").started == []


def test_a_loop_that_fails_before_the_horizon_is_not_started_again_past_it() -> None:
    feed = spec("feed", KeepRunning(None), restart=ALWAYS)
    desk = Desk([feed], REFUSING, "2026-11-26T23:50:00+05:30", scripts={"feed": bad(30)})
    desk.until("2026-11-27T01:00:00+05:30")
    assert len(desk.started) > 3
    assert max(row.started or 0 for row in desk.rows.values()) < HORIZON


def test_what_was_refused_while_nobody_ran_is_no_downtime() -> None:
    pace = spec("pace", PACE)
    before = Desk([pace], REFUSING, "2026-11-26T20:00:00+05:30").until("2026-11-26T21:30:00+05:30")
    desk = Desk([pace], REFUSING, "2026-11-28T10:30:00+05:30", history=before.crash())
    desk.until("2026-11-28T12:30:00+05:30")
    assert desk.started == []
    assert desk.outcomes("pace") == [
        ("22:00:00", "missed", "downtime", 2),
        ("00:00:00", "missed", "refused", 34),  # all but the newest
        ("10:00:00", "missed", "refused", 1),
        ("11:00:00", "missed", "refused", 2),
    ]


def test_a_stretch_of_missed_runs_ends_where_days_begin_to_be_assumed() -> None:
    table = past_horizon("assume-weekdays")
    pace = spec("pace", PACE)
    before = Desk([pace], table, "2026-11-26T20:00:00+05:30").until("2026-11-26T21:30:00+05:30")
    desk = Desk([pace], table, "2026-11-27T02:30:00+05:30", history=before.crash())
    rows = [(iso(row.due)[8:13], row.count, is_assumed(row.calendar)) for row in desk.rows.values()]
    assert rows == [("26T22", 2, False), ("27T00", 2, True), ("27T02", 1, True)]


def test_a_stop_past_the_horizon_is_no_reason_where_the_market_refuses() -> None:
    desk = Desk([spec("pace", PACE)], REFUSING, "2026-11-27T10:30:00+05:30")
    desk.tell(StopRequested())
    desk.until("2026-11-27T12:30:00+05:30")
    assert desk.outcomes("pace") == [("11:00:00", "missed", "refused", 2)]


def test_what_an_operator_or_an_alarm_asks_for_is_not_refused() -> None:
    page = spec("page", On(("task.stale",)))
    desk = Desk([spec("pace", PACE), page], REFUSING, "2026-11-27T10:30:00+05:30")
    desk.tell(RunNow("pace"))
    desk.tell(Happened("task.stale", "error", {"task": "pace"}))
    assert [(run.task, run.cause) for run in desk.started] == [("pace", "manual"), ("page", "event")]


@pytest.mark.parametrize("policy", ["assume-weekdays", "closed"])
def test_runs_of_assumed_days_are_marked_in_their_records_and_in_the_plan(policy: str) -> None:
    table = past_horizon(policy)
    pace = spec("pace", PACE)
    desk = Desk([pace], table, "2026-11-26T15:00:00+05:30").until("2026-11-27T15:00:00+05:30")
    marked = {row.due: is_assumed(row.calendar) for row in desk.rows.values()}
    assert marked == {due: due >= HORIZON for due in marked}
    assert len(set(marked.values())) == 2
    planned = plan([pace], {"NSE": table}, instant("2026-11-26T15:00:00+05:30"), desk.now)
    assert {run.due: run.assumed for run in planned} == marked
    phases = {iso(run.due)[11:16]: run.phase for run in plan([pace], {"NSE": table}, HORIZON, table.last)}
    assert phases["10:00"] == ("closed" if policy == "closed" else "open")


def test_a_phase_of_an_assumed_day_is_announced_as_such() -> None:
    desk = Desk([spec("pace", PACE)], past_horizon("assume-weekdays"), "2026-11-26T15:00:00+05:30")
    desk.until("2026-11-27T10:00:00+05:30")
    changes = [action for action in desk.said if action.event == "market.phase_changed"]
    assert [(each.level, each.fields["phase"], each.fields.get("assumed")) for each in changes] == [
        ("info", "closed", None),
        ("info", "post-close", None),
        ("info", "closed", None),
        ("warning", "pre-open", True),
        ("warning", "open", True),
    ]
