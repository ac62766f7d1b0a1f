from __future__ import annotations

import pytest

from scheduler.core import events
from scheduler.core.summary import LONGEST, summary


@pytest.mark.parametrize(
    ("event", "fields", "count", "sentence"),
    [
        (events.TASK_CRASH_LOOPING, {"task": "feed", "failures": 5, "reason": "exit status 1"}, 1,
         "feed fails again and again (5 times in a row) and is tried on (exit status 1)"),
        (events.TASK_PARKED, {"task": "feed", "ends_by": "`scheduler resume feed`", "reason": "x"}, 3,
         "feed is parked: it is not started until `scheduler resume feed` (x), 3 times"),
        (events.TASK_RECOVERED, {"task": "feed"}, 1, "feed has recovered"),
        (events.MARKET_HORIZON_NEAR, {"market": "NSE", "known_until": "2026-12-31", "days": 38}, 1,
         "the calendar of NSE ends in 38 days, with 2026-12-31"),
        (events.LOOP_STALLED, {"culprit": "feed", "seconds": 1.23456}, 1,
         "feed held up the scheduler for 1.2 s"),
        (events.LEDGER_BEHIND, {"unaccounted": 3, "tasks": ["feed: 3"]}, 1,
         "3 runs that were due are not accounted for"),
        (events.DAEMON_READY, {"NSE": "open"}, 1, "the scheduler has started"),
        (events.TASK_LEAKED, {"task": "feed"}, 1, "feed: task leaked"),
        (events.MARKET_AMENDED, {"market": "NSE"}, 1, "NSE: market amended"),
        (events.CLOCK_STEPPED, {"by": "1h"}, 1, "the scheduler: clock stepped"),
        (events.TASK_STALE, {"task": "feed"}, 1, "feed: task stale"),  # a field of the sentence is missing
        (events.RUN_FAILED, {"task": "feed", "error": "a\nb\tc", "reason": "error"}, 1,
         "feed has failed (a b c)"),
    ],
)  # fmt: skip
def test_an_announcement_is_one_sentence(
    event: str, fields: dict[str, object], count: int, sentence: str
) -> None:
    assert summary(event, fields, count) == sentence


def test_a_long_sentence_is_cut_but_for_how_often() -> None:
    text = summary(events.RUN_FAILED, {"task": "feed", "error": "x" * 1000}, 7)
    assert len(text) == LONGEST
    assert text.endswith("xx…, 7 times")


@pytest.mark.parametrize("event", sorted(events.ALL))
def test_every_event_has_a_sentence_whatever_its_fields(event: str) -> None:
    assert summary(event, {})
