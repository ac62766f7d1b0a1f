"""What the daemon answered, in words; times and spans as people read them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scheduler.api.models.files import Reloaded
from scheduler.api.models.runs import RunRow
from scheduler.api.models.tasks import Backfilled, Paused, RanNow, Restarted, Resumed
from scheduler.cli import sentences
from scheduler.cli.common import PRIORITIES
from scheduler.cli.moments import ago, clock, hour, span, to_milliseconds
from scheduler.cli.offline import STATUSES
from scheduler.core.messages import Priority, Status
from tests.shell.systems import NOW, run

DUE = "2026-11-25T09:15:00+05:30"
LATER = "2026-11-25T09:20:00+05:30"


def told(model: Any) -> dict[str, Any]:
    """As it comes over the wire."""
    return dict(json.loads(model.model_dump_json()))


def test_a_reload_tells_what_it_changed_and_nothing_else() -> None:
    assert list(sentences.reloaded(told(Reloaded(unchanged=True)))) == ["nothing has changed"]
    some = Reloaded(unchanged=False, added=("a", "b"), markets=("NSE",), differences=("2026-11-25 a: -3",))
    assert list(sentences.reloaded(told(some))) == ["added: a, b", "markets: NSE", "2026-11-25 a: -3"]


def test_a_resumption_tells_what_it_ended() -> None:
    resumed = Resumed(task="a", ended=("parked", "paused"), next=DUE, by="me")
    assert sentences.resumed(told(resumed)) == f"a was parked and paused; due next at {DUE}"
    nothing = Resumed(task="a", ended=(), next=None, by="me")
    assert sentences.resumed(told(nothing)) == "a was neither parked, crash-looping nor paused"


def test_a_pause_tells_of_each_task_and_when_it_ends() -> None:
    assert list(sentences.paused(told(Paused(tasks=("a", "b"), until=DUE, by="me")))) == [
        f"a is paused until {DUE}", f"b is paused until {DUE}",
    ]  # fmt: skip
    assert list(sentences.paused(told(Paused(tasks=("a",), until=None, by="me")))) == [
        "a is paused until it is resumed"
    ]
    assert list(sentences.paused(told(Paused(tasks=(), until=None, by="me")))) == [
        "no task is meant: nothing was paused"
    ]


def test_a_run_by_hand_is_named_or_told_why_there_is_none() -> None:
    ran = RanNow(task="a", run_id="a-1", outcome="queued", by="me")
    assert sentences.ran_now(told(ran)) == "a-1 is queued"
    skipped = RanNow(task="a", run_id="a-1", outcome="skipped", reason="overlap", by="me")
    assert sentences.ran_now(told(skipped)) == "a was not started: overlap"


def test_a_restart_names_the_run_that_it_ends() -> None:
    restarted = Restarted(task="a", run_id="a-1", by="me")
    assert sentences.restarted(told(restarted)) == "a is restarted: a-1 is being ended"
    assert sentences.restarted(told(Restarted(task="a", run_id=None, by="me"))) == "a had no run to end"


@pytest.mark.parametrize(
    ("runs", "completed", "sentence"),
    [
        (12, 3, f"a: 12 runs are being made, from {DUE} to {LATER}; 3 completed before"),
        (1, 0, f"a: 1 run is being made, from {DUE} to {LATER}; none had completed before"),
        (0, 5, "a: there is nothing to make up for, 5 completed before"),
    ],
)
def test_a_backfill_tells_how_many_runs_and_how_many_are_done(
    runs: int, completed: int, sentence: str
) -> None:
    answer = Backfilled(task="a", runs=runs, first=DUE, last=LATER, completed=completed, by="me")
    assert sentences.backfilling(told(answer)) == sentence


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (run(), "feed-20261126T034600Z completed after 1.2s"),
        (run(status="failed", reason="error", error="no\x1bfeed"),
         r"feed-20261126T034600Z failed after 1.2s: no\x1bfeed"),
        (run(status="failed", reason="timeout", ended="2026-11-26T09:17:00+05:30", error="hangs"),
         "feed-20261126T034600Z failed (timeout) after 1m: hangs"),
        (run(status="skipped", reason="overlap", started=None), "feed-20261126T034600Z skipped (overlap)"),
    ],
)  # fmt: skip
def test_the_end_of_a_run_is_told_with_reason_time_and_error(row: RunRow, sentence: str) -> None:
    assert sentences.ended(told(row)) == sentence


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5.0, "0ms"),
        (0.0, "0ms"), (0.0012, "1ms"), (0.9999, "999ms"), (1.0, "1s"), (1.25, "1.2s"), (9.96, "9s"),
        (59.9, "59s"), (60, "1m"), (64, "1m4s"), (3599, "59m59s"), (3600, "1h"), (11_520.4, "3h12m"),
        (86_400, "1d"), (90_061, "1d1h"), (99 * 86_400 + 82_800, "99d23h"),
    ],
)  # fmt: skip
def test_a_span_has_two_units_at_most(seconds: float, text: str) -> None:
    assert span(seconds) == text
    assert len(text) <= 6


@pytest.mark.parametrize(
    ("time", "text"),
    [
        ("2026-11-26T09:16:04.200000+05:30", "0s"), ("2026-11-26T09:16:05+05:30", "0s"),
        ("2026-11-26T09:15:05+05:30", "59s"), ("2026-11-26T03:46:04+00:00", "0s"),
        ("2026-11-26T08:16:05+05:30", "59m"), ("2026-11-25T09:16:05+05:30", "23h"),
        ("2026-10-26T09:16:04+05:30", "31d"),
    ],
)  # fmt: skip
def test_how_long_ago_has_one_unit_and_is_never_negative(time: str, text: str) -> None:
    assert ago(time, NOW) == text


@pytest.mark.parametrize(
    ("time", "full", "short"),
    [
        ("2026-11-26T15:30:00+05:30", "15:30:00", "15:30"),
        ("2026-11-26T15:30:05+05:30", "15:30:05", "15:30:05"),
        ("2026-11-27T09:00:00+05:30", "Fri 09:00", "Fri 09:00"),
        ("2026-12-03T09:00:00+05:30", "3 Dec", "3 Dec"),
        ("2026-11-20T09:00:00+05:30", "Fri 09:00", "Fri 09:00"),
    ],
)
def test_a_time_is_as_short_as_the_day_allows(time: str, full: str, short: str) -> None:
    assert (clock(time, NOW), hour(time, NOW)) == (full, short)


def test_times_of_events_have_as_many_characters_each() -> None:
    assert to_milliseconds("2026-11-26T15:30:00+05:30") == "2026-11-26T15:30:00.000+05:30"
    assert to_milliseconds("2026-11-26T15:30:00.123456+05:30") == "2026-11-26T15:30:00.123+05:30"


def test_the_words_of_the_options_are_those_of_the_core() -> None:
    """They are written down twice, so that the commands start at once."""
    assert set(STATUSES) == {status.value for status in Status}
    assert [priority.label for priority in Priority] == list(PRIORITIES)
