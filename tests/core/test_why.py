"""Why a market is in its phase and a task runs or does not: one sentence for every state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from scheduler.core.definition import fingerprint
from scheduler.core.market import MarketTable
from scheduler.core.messages import MINUTE, SECOND, Priority, Record, Remembered, Status, TaskSpec
from scheduler.core.reasons import Known
from scheduler.core.triggers import After, At, Cron, Every, KeepRunning, On, Trigger, parse_anchor
from scheduler.core.why import Explanation, why_market
from scheduler.core.why_task import why_task
from scheduler.core.wording import encodable
from tests.core.desk import Desk, spec
from tests.core.tables import DRILL, always, drill_week, nse_week, square_off_week
from tests.helpers import instant

INDIA = ZoneInfo("Asia/Kolkata")
TABLE = nse_week()
OPEN_ONLY = frozenset({"open"})
HOLIDAY = "2026-11-24T10:00:00+05:30"
NOON = "2026-11-23T12:00:13+05:30"
CLOSED = "NSE is closed (Gurunanak Jayanti, layer exchange-calendars)"
NEXT_OPEN = "it is next due Wednesday 25 November 09:15"


def assumed_from(table: MarketTable, at: str, policy: str) -> MarketTable:
    """The same, known until an instant and assumed from there on."""
    t = instant(at)
    return MarketTable(
        name=table.name,
        zone=table.zone,
        pieces=[piece._replace(assumed=piece.start >= t) for piece in table.pieces],
        sessions=table.sessions,
        days=table.days,
        phases=table.phases,
        version="assumed",
        known_until=t,
        beyond_horizon=policy,
    )


# Markets.


@pytest.mark.parametrize(
    "table,at,sentence",
    [
        (
            TABLE,
            HOLIDAY,
            (
                "NSE is closed at Tue 24 November 2026 10:00 IST: Gurunanak Jayanti "
                "(layer exchange-calendars); it next opens Wednesday 25 November 09:15."
            ),
        ),
        (
            TABLE,
            "2026-11-23T12:00:00+05:30",
            (
                "NSE is open at Mon 23 November 2026 12:00 IST, since 09:15 until 15:30: "
                "an ordinary session (layer exchange-calendars)."
            ),
        ),
        (
            TABLE,
            "2026-11-23T09:05:00+05:30",
            (
                "NSE is in pre-open at Mon 23 November 2026 09:05 IST, since 09:00 until 09:15: "
                "an ordinary session (layer exchange-calendars); it next opens 09:15."
            ),
        ),
        (
            TABLE,
            "2026-11-23T15:35:07+05:30",
            (
                "NSE is closed at Mon 23 November 2026 15:35:07 IST: between phases "
                "(layer exchange-calendars); it next opens Wednesday 25 November 09:15."
            ),
        ),
        (
            TABLE,
            "2026-12-04T17:00:00+05:30",
            (
                "NSE is closed at Fri 4 December 2026 17:00 IST: overnight (layer exchange-calendars); "
                "it does not open again as far as its calendar goes."
            ),
        ),
        (
            drill_week(),
            "2026-11-28T10:30:00+05:30",
            (
                "NSE is in break at Sat 28 November 2026 10:30 IST, since 10:00 until 11:30: "
                "a session with hours of its own (layer exchange-calendars); it next opens 11:30."
            ),
        ),
        (
            square_off_week(),
            "2026-11-23T15:12:00+05:30",
            (
                "MY-DESK is in square-off, which is trading time, at Mon 23 November 2026 15:12 IST, "
                "since 15:10 until 15:25: an ordinary session (layer exchange-calendars)."
            ),
        ),
        (
            always("2026-11-23", "2026-11-25"),
            "2026-11-24T12:00:00+05:30",
            (
                "always is open at Tue 24 November 2026 12:00 IST, since Monday 23 November 00:00: "
                "an ordinary session (layer exchange-calendars)."
            ),
        ),
        (
            assumed_from(TABLE, "2026-11-26T00:00:00+05:30", "assume-weekdays"),
            "2026-11-26T12:00:00+05:30",
            (
                "NSE is open at Thu 26 November 2026 12:00 IST, since 09:15 until 15:30: "
                "an ordinary session (layer exchange-calendars); this is assumed: what is known of NSE "
                "ends with Wednesday 25 November 2026 (beyond_horizon: assume-weekdays)."
            ),
        ),
        (
            assumed_from(TABLE, "2026-11-26T00:00:00+05:30", "assume-weekdays"),
            "2026-11-25T18:00:00+05:30",
            (
                "NSE is closed at Wed 25 November 2026 18:00 IST: overnight (layer exchange-calendars); "
                "it next opens Thursday 26 November 09:15 (assumed)."
            ),
        ),
    ],
)
def test_a_market_says_why_it_is_in_its_phase(table: MarketTable, at: str, sentence: str) -> None:
    assert why_market(table, instant(at)).sentence == sentence


def test_what_was_clipped_on_a_day_is_said_on_that_day() -> None:
    table = drill_week()
    notes = ("post-close (15:50..16:00) does not apply",)
    table.sessions = tuple(
        session._replace(notes=notes if session.special else ()) for session in table.sessions
    )
    for hour in ("08", "09", "14"):  # before, in and after the session
        found = why_market(table, instant(f"2026-11-28T{hour}:30:00+05:30"))
        assert "; on this day post-close (15:50..16:00) does not apply" in found.sentence
        assert found.facts["notes"] == list(notes)
    assert "on this day" not in why_market(table, instant("2026-11-27T10:00:00+05:30")).sentence


def test_the_facts_of_a_market_are_plain() -> None:
    facts = why_market(TABLE, instant(HOLIDAY)).facts
    assert {key: facts[key] for key in ("market", "phase", "reason", "layer", "assumed", "session")} == {
        "market": "NSE",
        "phase": "closed",
        "reason": "Gurunanak Jayanti",
        "layer": "exchange-calendars",
        "assumed": False,
        "session": None,
    }
    assert facts["since"] == instant("2026-11-23T16:00:00+05:30")
    assert facts["until"] == instant("2026-11-25T09:00:00+05:30")
    assert facts["next_open"] == instant("2026-11-25T09:15:00+05:30")


# Tasks, by their definition.


def asked(
    trigger: Trigger,
    at: str,
    *others: TaskSpec,
    known: Known | None = None,
    table: MarketTable = TABLE,
    **options: Any,
) -> Explanation:
    task = spec("a", trigger, **{"priority": Priority.NICE_TO_HAVE, **options})
    specs = {each.name: each for each in (task, *others)}
    return why_task(
        task,
        instant(at),
        INDIA,
        specs=specs,
        tables={"NSE": table},
        known=Known() if known is None else known,
    )


def at(*texts: str) -> At:
    return At(tuple(map(parse_anchor, texts)))


PACE = Every({"open": MINUTE, "closed": None})
REPORT = spec("report", at("close+15m"))
ON_HOLIDAY = "a does not run at Tue 24 November 2026 10:00 IST: it "
AT_NOON = "a does not run at Mon 23 November 2026 12:00:13 IST: it "


@pytest.mark.parametrize(
    "trigger,when,cause,sentence",
    [
        (
            PACE,
            HOLIDAY,
            "pace",
            (
                f"{ON_HOLIDAY}pauses by its pace (nice-to-have: every open 1m, closed pause), as {CLOSED}; "
                f"{NEXT_OPEN}."
            ),
        ),
        (
            Every({"*": 5 * SECOND}, during=OPEN_ONLY),
            HOLIDAY,
            "during",
            f"{ON_HOLIDAY}is outside of its during (open), as {CLOSED}; {NEXT_OPEN}.",
        ),
        (
            PACE,
            NOON,
            "every",
            f"{AT_NOON}runs every 1m while NSE is open and was last due 12:00; it is next due 12:01.",
        ),
        (
            Every({"*": 5 * MINUTE}),
            NOON,
            "every",
            f"{AT_NOON}runs every 5m and was last due 12:00; it is next due 12:05.",
        ),
        (
            PACE,
            "2026-11-23T12:00:00+05:30",
            "every",
            "a is due (every 1m) at Mon 23 November 2026 12:00 IST; it is next due 12:01.",
        ),
        (
            at("open+5m", "close+15m"),
            NOON,
            "at",
            f"{AT_NOON}runs at open+5m, close+15m of each session of NSE; it is next due 15:45 (close+15m).",
        ),
        (
            Cron("0 2 * * *", INDIA),
            NOON,
            "cron",
            f'{AT_NOON}runs by cron "0 2 * * *"; it is next due Tuesday 24 November 02:00.',
        ),
        (
            Cron("*/15 * * * *", INDIA, during=OPEN_ONLY),
            HOLIDAY,
            "during",
            f"{ON_HOLIDAY}is outside of its during (open), as {CLOSED}; {NEXT_OPEN}.",
        ),
        (
            KeepRunning(OPEN_ONLY),
            HOLIDAY,
            "during",
            f"{ON_HOLIDAY}is outside of its during (open), as {CLOSED}; {NEXT_OPEN}.",
        ),
        (
            KeepRunning(OPEN_ONLY),
            NOON,
            "keep-running",
            (
                "a is to be kept running since 09:15 until 15:30 at Mon 23 November 2026 12:00:13 IST; "
                f"{NEXT_OPEN}."
            ),
        ),
        (
            KeepRunning(),
            NOON,
            "keep-running",
            "a is to be kept running at Mon 23 November 2026 12:00:13 IST.",
        ),
        (
            On(("task.parked", "task.stale")),
            NOON,
            "on",
            f"{AT_NOON}waits for an event: task.parked or task.stale.",
        ),
        (
            After("report"),
            NOON,
            "after",
            (
                f"{AT_NOON}waits for report to complete, which runs at close+15m of each session of NSE; "
                "report is next due 15:45 (close+15m)."
            ),
        ),
        (
            at("close+15m"),
            "2026-12-04T17:00:00+05:30",
            "at",
            (
                "a does not run at Fri 4 December 2026 17:00 IST: it runs at close+15m of each session of "
                "NSE; it is not due again as far as the calendar goes."
            ),
        ),
    ],
)
def test_a_task_says_why_by_its_definition(trigger: Trigger, when: str, cause: str, sentence: str) -> None:
    found = asked(trigger, when, REPORT)
    assert found.sentence == sentence
    assert found.facts["cause"] == cause


def test_a_disabled_task_says_so_and_so_does_what_comes_after_it() -> None:
    assert asked(PACE, NOON, enabled=False).sentence == f"{AT_NOON}is disabled (enabled: false)."
    off = spec("report", at("close+15m"), enabled=False)
    assert asked(After("report"), NOON, off).sentence == (
        f"{AT_NOON}waits for report to complete, which is disabled (enabled: false)."
    )


def test_an_anchor_that_a_short_day_moves_or_has_not_is_said() -> None:
    table = nse_week(changes={"2026-11-28": DRILL})
    found = asked(at("open+4h", "post-close.start"), "2026-11-28T08:00:00+05:30", table=table)
    assert found.sentence.endswith(
        "; it is next due 12:30 (open+4h); open+4h does not fit the hours of Saturday 28 November 2026 and "
        "is moved to its close; there is no post-close.start on Saturday 28 November 2026, as that session "
        "has no post-close."
    )
    monday = asked(at("open+4h"), "2026-11-30T08:00:00+05:30", table=table)
    assert monday.sentence.endswith("it is next due 13:15 (open+4h).")


@pytest.mark.parametrize(
    "policy,end",
    [
        ("assume-weekdays", "it is next due Thursday 26 November 09:15 (assumed)."),
        (
            "refuse",
            (
                "it is next due Thursday 26 November 09:15 (assumed); but that is refused, as what is known "
                "of NSE ends with Wednesday 25 November 2026 (beyond_horizon: refuse)."
            ),
        ),
    ],
)
def test_a_next_run_beyond_the_known_calendar_is_marked(policy: str, end: str) -> None:
    table = assumed_from(TABLE, "2026-11-26T00:00:00+05:30", policy)
    assert asked(PACE, "2026-11-25T18:00:00+05:30", table=table).sentence.endswith(end)


# Tasks, by what the scheduler remembers.

SINCE = instant("2026-11-23T11:58:00+05:30")
FAILING: Mapping[str, Any] = {"since": SINCE, "reason": "ValueError: no", "failures": 5}
UNTIL = instant("2026-11-23T12:00:31+05:30")


@pytest.mark.parametrize(
    "remembered,state,cause,words",
    [
        (
            {"a": {"health": {**FAILING, "health": "parked", "until": None}}},
            "parked",
            "failures",
            (
                "is parked since 11:58, after 5 failures in a row (ValueError: no), "
                "until `scheduler resume a`, or a changed definition."
            ),
        ),
        (
            {"a": {"health": {**FAILING, "health": "crash-looping", "until": UNTIL}}},
            "crash-looping",
            "failures",
            (
                "is crash-looping after 5 failures in a row (ValueError: no), and is tried again 12:00:31; "
                "it is next due 12:01."
            ),
        ),
        (
            {"a": {"health": {**FAILING, "failures": 1, "health": "backing-off", "until": UNTIL}}},
            "backing-off",
            "failures",
            (
                "is backing off after 1 failure in a row (ValueError: no), and is tried again 12:00:31; "
                "it is next due 12:01."
            ),
        ),
        (
            {"a": {"paused": {"since": SINCE, "until": instant("2026-11-23T14:00:00+05:30")}}},
            "paused",
            "operator",
            "was paused by an operator, 11:58, until 14:00; it is next due 14:00.",
        ),
        (
            {"a": {"paused": {"since": SINCE, "until": None}}},
            "paused",
            "operator",
            "was paused by an operator, 11:58, until it is resumed.",
        ),
        (
            {"a": {"refused": {"since": SINCE, "reason": "No module named 'desk'"}}},
            "refused",
            "callable",
            "cannot be run at all (No module named 'desk').",
        ),
        (
            {"a": {"stuck": {"since": SINCE, "due": SINCE}}},
            "stuck",
            "timeout",
            (
                "is not started before its run due 11:58 returns, which has timed out and cannot be ended "
                "(a restart of the scheduler ends it)."
            ),
        ),
        (
            {"a": {"waiting": {"since": SINCE}}},
            "queued",
            "slot",
            "waits for a slot since 11:58, as all that it may have are taken; it is next due 12:01.",
        ),
        (
            {"": {"shedding": {"since": SINCE, "priorities": ["nice-to-have"]}}},
            "shed",
            "load",
            "is shed like all nice-to-have tasks since 11:58, as the event loop lags; it is next due 12:01.",
        ),
    ],
)
def test_a_task_says_what_holds_it_up(remembered: Remembered, state: str, cause: str, words: str) -> None:
    found = asked(PACE, NOON, known=Known(None, remembered, scheduler=True))
    assert found.sentence == AT_NOON + words
    assert (found.facts["state"], found.facts["cause"]) == (state, cause)
    ended = asked(PACE, NOON, known=Known(None, remembered, scheduler=False))
    assert ended.facts["state"] == (state if state == "paused" else "waiting")


def test_parking_outlives_the_scheduler_for_the_task_that_was_parked_only() -> None:
    """Its successor goes by the definition too."""
    task = spec("a", PACE, priority=Priority.NICE_TO_HAVE)
    health = {**FAILING, "health": "parked", "until": None, "definition": fingerprint(task)}
    known = Known(None, {"a": {"health": health}}, scheduler=False)
    assert asked(PACE, NOON, known=known).facts["state"] == "parked"
    assert asked(PACE, NOON, known=known, timeout=SECOND).facts["state"] == "waiting"


def test_a_loop_is_never_shed() -> None:
    shedding = {"": {"shedding": {"since": SINCE, "priorities": ["nice-to-have"]}}}
    found = asked(KeepRunning(OPEN_ONLY), HOLIDAY, known=Known(None, shedding, scheduler=True))
    assert found.facts["cause"] == "during"


def test_what_has_passed_holds_up_nothing() -> None:
    over = {
        "a": {
            "health": {**FAILING, "health": "backing-off", "until": SINCE},
            "paused": {"since": SINCE, "until": SINCE},
        },
        "": {"shedding": {"since": SINCE, "priorities": ["important"]}},
    }
    assert asked(PACE, NOON, known=Known(None, over, scheduler=True)).facts["state"] == "waiting"


def test_what_comes_after_a_parked_task_says_why_that_one_does_not_run() -> None:
    parked = {"report": {"health": {**FAILING, "health": "parked", "until": None}}}
    found = asked(After("report"), NOON, REPORT, known=Known(None, parked, scheduler=True))
    assert found.sentence == (
        f"{AT_NOON}waits for report to complete, which is parked since 11:58, after 5 failures in a row "
        "(ValueError: no), until `scheduler resume report`, or a changed definition."
    )


DUE = instant("2026-11-23T12:00:00+05:30")


RUNNING = "a is running since 12:00, as was due 12:00, at Mon 23 November 2026 12:00:13 IST"


def ran(status: Status, reason: str = "", error: str = "", ended: int | None = DUE + SECOND) -> Record:
    return Record("a", DUE, 1, status, reason, DUE, ended, error)


@pytest.mark.parametrize(
    "last,words",
    [
        (ran(Status.COMPLETED), "its last run, due 12:00, completed."),
        (
            ran(Status.FAILED, "error", "ValueError: no"),
            "its last run, due 12:00, failed (error: ValueError: no).",
        ),
        (
            Record("a", DUE - 60 * SECOND, 0, Status.SKIPPED, "shed", count=2, last_due=DUE),
            "its last run, due 12:00, was skipped (shed).",
        ),
    ],
)
def test_the_latest_run_is_said(last: Record, words: str) -> None:
    assert asked(PACE, NOON, known=Known(last)).sentence.endswith(f"it is next due 12:01; {words}")


@pytest.mark.parametrize("scheduler,ended", [(True, None), (None, DUE + 60 * SECOND)])
def test_what_runs_says_since_when(scheduler: bool | None, ended: int | None) -> None:
    status = Status.RUNNING if ended is None else Status.COMPLETED
    found = asked(PACE, NOON, known=Known(scheduler=scheduler, running=ran(status, ended=ended)))
    assert found.sentence == RUNNING + "; it is next due 12:01."
    assert found.facts["state"] == "running"


def test_what_ran_when_the_scheduler_ended_does_not_run() -> None:
    run = ran(Status.RUNNING, ended=None)
    found = asked(PACE, NOON, known=Known(run, scheduler=False, running=run))
    assert found.sentence.endswith("its last run, due 12:00, is on record as running.")


@pytest.mark.parametrize(
    "remembered,options,words",
    [
        (
            {"a": {"paused": {"since": SINCE, "until": None}}},
            {},
            "; but it was paused by an operator, 11:58, until it is resumed.",
        ),
        (
            {"a": {"paused": {"since": SINCE, "until": instant("2026-11-23T14:00:00+05:30")}}},
            {},
            "; but it was paused by an operator, 11:58, until 14:00; it is next due 14:00.",
        ),
        (
            {"a": {"health": {**FAILING, "health": "parked", "until": None}}},
            {},
            (
                "; but it is parked since 11:58, after 5 failures in a row (ValueError: no), until "
                "`scheduler resume a`, or a changed definition."
            ),
        ),
        ({}, {"enabled": False}, "; but it is disabled (enabled: false)."),
    ],
)
def test_what_runs_although_it_is_barred_says_both(
    remembered: Remembered, options: dict[str, Any], words: str
) -> None:
    known = Known(None, remembered, scheduler=True, running=ran(Status.RUNNING, ended=None))
    found = asked(PACE, NOON, known=known, **options)
    assert found.sentence == RUNNING + words
    assert found.facts["state"] == "running"


def test_a_run_goes_on_whatever_was_skipped_or_run_by_hand_since() -> None:
    skipped = Record("a", DUE + 5 * SECOND, 0, Status.SKIPPED, "overlap", count=2, last_due=DUE + 10 * SECOND)
    by_hand = Record("a", DUE + 5 * SECOND, 1, Status.COMPLETED, "", DUE + 5 * SECOND, DUE + 6 * SECOND)
    for last in (skipped, by_hand):
        known = Known(last, scheduler=True, running=ran(Status.RUNNING, ended=None))
        for trigger in (PACE, KeepRunning(OPEN_ONLY)):
            assert asked(trigger, NOON, known=known).facts["state"] == "running"


@pytest.mark.parametrize(
    "trigger", [PACE, at("open"), KeepRunning(OPEN_ONLY), KeepRunning(), Cron("15 9 * * *", INDIA)]
)
def test_what_the_engine_refuses_is_said_to_be_refused(trigger: Trigger) -> None:
    table = assumed_from(TABLE, "2026-11-25T00:00:00+05:30", "refuse")
    opening = "2026-11-25T09:15:00+05:30"
    desk = Desk([spec("a", trigger)], table, "2026-11-25T09:14:00+05:30").until("2026-11-25T09:15:01+05:30")
    assert desk.started == []
    found = asked(trigger, opening, table=table)
    assert (found.facts["state"], found.facts["cause"]) == ("refused", "horizon")
    assert found.sentence.startswith(
        "a does not run at Wed 25 November 2026 09:15 IST: it is refused, as what is known of NSE ends "
        "with Tuesday 24 November 2026 (beyond_horizon: refuse)"
    )
    assert "kept running" not in found.sentence


def test_a_loop_is_to_be_kept_running_as_far_as_the_market_does_not_refuse() -> None:
    table = assumed_from(TABLE, "2026-11-26T00:00:00+05:30", "refuse")
    found = asked(KeepRunning(), "2026-11-25T12:00:00+05:30", table=table)
    assert found.sentence.startswith("a is to be kept running until Thursday 26 November 00:00 at")


def test_a_loop_that_should_run_and_does_not_is_told_as_such() -> None:
    known = Known(ran(Status.FAILED, "error", "ValueError: no"), scheduler=True)
    assert asked(KeepRunning(OPEN_ONLY), NOON, known=known).sentence.startswith(
        f"{AT_NOON}should be kept running since 09:15 until 15:30, but no run of it is under way"
    )


@pytest.mark.parametrize(
    ("text", "told"), [("plain", "plain"), ("naïve", "naïve"), ("half \udcff of a pair", "half ? of a pair")]
)
def test_a_text_is_made_one_that_json_and_databases_take(text: str, told: str) -> None:
    assert encodable(text) == told
