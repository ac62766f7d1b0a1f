"""What a sink is told when: by examples, by random stories, and against a slow reading of the rules."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core import events
from scheduler.core.alerting import ENDS, Folding, Message
from scheduler.core.messages import DAY, HOUR, MINUTE, SECOND, Announce
from tests.helpers import instant

NINE = instant("2026-11-23T09:00:00+05:30")
LOOPING, PARKED, RECOVERED = events.TASK_CRASH_LOOPING, events.TASK_PARKED, events.TASK_RECOVERED


def said(event: str, **fields: Any) -> Announce:
    return Announce(event, "error", fields)


class Sink:
    """A folding whose reminders come when they are due, and what it has sent."""

    def __init__(self, *wanted: str, subjects: int = 1_000) -> None:
        self.folding = Folding(wanted, subjects=subjects)
        self.now = NINE
        self.sent: list[tuple[int, Message]] = []

    def hear(self, at: int, event: str, **fields: Any) -> None:
        """Something is announced ``at`` nanoseconds after nine."""
        self.until(at)
        self._send(self.folding.heard(said(event, **fields), self.now))

    def until(self, at: int) -> None:
        while (due := self.folding.wake_at()) is not None and due <= NINE + at:
            self.now = due
            self._send(self.folding.due(due))
        self.now = NINE + at

    def _send(self, messages: list[Message]) -> None:
        self.sent += [(self.now - NINE, message) for message in messages]

    @property
    def told(self) -> list[tuple[int, str, int, bool]]:
        """Seconds after nine, the event, how many, whether it is over."""
        return [
            (at // SECOND, message.announcement.event, message.count, message.recovered)
            for at, message in self.sent
        ]


def test_what_was_asked_for_is_told_at_once_and_nothing_else_is() -> None:
    sink = Sink(LOOPING)
    sink.hear(0, PARKED, task="feed")
    sink.hear(0, LOOPING, task="feed", failures=5)
    assert sink.sent == [(0, Message(said(LOOPING, task="feed", failures=5), 1, recovered=False))]
    assert sink.folding.wake_at() is None


def test_repeats_are_one_reminder_with_the_latest_and_how_many_there_were() -> None:
    sink = Sink(events.RUN_FAILED)
    for second in (0, 10, 20, 30):
        sink.hear(second * SECOND, events.RUN_FAILED, task="feed", attempt=second)
    sink.until(59 * SECOND)
    assert len(sink.sent) == 1
    sink.until(HOUR)
    assert sink.sent[1:] == [
        (MINUTE, Message(said(events.RUN_FAILED, task="feed", attempt=30), 3, recovered=False))
    ]


def test_reminders_of_what_goes_on_become_rarer_up_to_one_an_hour() -> None:
    sink = Sink(events.RUN_FAILED)
    for second in range(0, 5 * 3600, 10):
        sink.hear(second * SECOND, events.RUN_FAILED, task="feed")
    minutes = [at // MINUTE for at, _ in sink.sent]
    assert minutes == [0, 1, 5, 21, 81, 141, 201, 261]


def test_after_an_hour_of_quiet_a_subject_begins_anew() -> None:
    sink = Sink(events.RUN_FAILED)
    for second in range(0, 400, 10):
        sink.hear(second * SECOND, events.RUN_FAILED, task="feed")
    sink.until(DAY)
    before = len(sink.sent)
    sink.hear(DAY, events.RUN_FAILED, task="feed")
    sink.hear(DAY + SECOND, events.RUN_FAILED, task="feed")
    sink.until(2 * DAY)
    assert [at - DAY for at, _ in sink.sent[before:]] == [0, MINUTE]


def test_quiet_that_is_shorter_keeps_the_window_it_has_come_to() -> None:
    sink = Sink(events.RUN_FAILED)
    sink.hear(0, events.RUN_FAILED, task="feed")
    sink.hear(2 * MINUTE, events.RUN_FAILED, task="feed")  # at once: the minute was over
    sink.hear(3 * MINUTE, events.RUN_FAILED, task="feed")
    sink.until(HOUR)
    assert [at // MINUTE for at, _ in sink.sent] == [0, 2, 6]


@pytest.mark.parametrize(("pause", "reminder"), [(HOUR - 1, 4 * MINUTE), (HOUR, MINUTE)])
def test_quiet_lasts_an_hour_from_the_end_of_the_window(pause: int, reminder: int) -> None:
    sink = Sink(events.RUN_FAILED)
    again = MINUTE + pause
    for at in (0, again, again + 1):
        sink.hear(at, events.RUN_FAILED, task="feed")
    sink.until(DAY)
    assert [at for at, _ in sink.sent] == [0, again, again + reminder]


def test_a_trouble_that_is_open_is_not_forgotten_for_quiet() -> None:
    sink = Sink(PARKED)
    for at in (0, 3 * HOUR, 3 * HOUR + 1):
        sink.hear(at, PARKED, task="feed")
    sink.until(DAY)
    assert [at for at, _ in sink.sent] == [0, 3 * HOUR, 3 * HOUR + 4 * MINUTE]


def test_each_subject_is_folded_by_itself() -> None:
    sink = Sink(events.RUN_FAILED, events.MARKET_UNSETTLED, events.CALENDAR_WARNING)
    sink.hear(0, events.RUN_FAILED, task="feed")
    sink.hear(1, events.RUN_FAILED, task="report")
    sink.hear(2, events.MARKET_UNSETTLED, market="NSE", date="2026-11-24")
    sink.hear(3, events.MARKET_UNSETTLED, market="NSE", date="2026-11-25")
    sink.hear(4, events.CALENDAR_WARNING, detail="one")
    sink.hear(5, events.CALENDAR_WARNING, detail="another")
    assert [message.count for _, message in sink.sent] == [1] * 6


@pytest.mark.parametrize(
    "event",
    [
        events.MARKET_HORIZON_NEAR,
        events.MARKET_BEYOND_HORIZON,
        events.MARKET_UNSETTLED,
        events.CALENDAR_WARNING,
    ],
)
def test_a_daily_warning_is_told_daily_however_often_it_comes(event: str) -> None:
    sink = Sink(event)
    for hour in range(0, 72, 6):
        sink.hear(hour * HOUR, event, market="NSE")
    assert [at // HOUR for at, _ in sink.sent] == [0, 24, 48]


@pytest.mark.parametrize(
    ("recovery", "trouble"), [(recovery, trouble) for recovery in ENDS for trouble in sorted(ENDS[recovery])]
)
def test_the_end_of_every_trouble_is_told_to_whoever_was_told_of_it(recovery: str, trouble: str) -> None:
    sink = Sink(trouble)
    sink.hear(0, trouble, task="feed", due=NINE)
    sink.hear(SECOND, recovery, task="feed", due=NINE)
    assert sink.told == [(0, trouble, 1, False), (1, recovery, 1, True)]


def test_a_recovery_from_what_nobody_was_told_of_is_not_told() -> None:
    sink = Sink(LOOPING, events.TASK_STALE)
    sink.hear(0, LOOPING, task="feed")
    sink.hear(1, RECOVERED, task="report")
    sink.hear(2, events.TASK_FRESH, task="feed")
    assert sink.told == [(0, LOOPING, 1, False)]


def test_a_recovery_is_told_once() -> None:
    sink = Sink(LOOPING, PARKED)
    sink.hear(0, LOOPING, task="feed")
    sink.hear(SECOND, PARKED, task="feed")
    sink.hear(2 * SECOND, events.TASK_RESUMED, task="feed")
    sink.hear(3 * SECOND, RECOVERED, task="feed")
    assert sink.told == [(0, LOOPING, 1, False), (1, PARKED, 1, False), (2, events.TASK_RESUMED, 1, True)]


def test_a_recovery_takes_the_repeats_along_that_were_folded() -> None:
    sink = Sink(events.TASK_STALE)
    for second in (0, 1, 2):
        sink.hear(second * SECOND, events.TASK_STALE, task="feed")
    sink.hear(3 * SECOND, events.TASK_FRESH, task="feed")
    sink.until(DAY)
    assert sink.told == [(0, events.TASK_STALE, 1, False), (3, events.TASK_FRESH, 3, True)]


def test_who_flaps_is_told_of_at_the_windows_end_as_things_are_then() -> None:
    sink = Sink(LOOPING)
    for second in range(0, 50, 10):
        sink.hear(second * SECOND, LOOPING, task="feed")
        sink.hear((second + 5) * SECOND, RECOVERED, task="feed")
    sink.until(DAY)
    assert sink.told == [(0, LOOPING, 1, False), (5, RECOVERED, 1, True), (60, RECOVERED, 8, True)]


def test_who_flaps_and_stays_down_is_told_of_as_down_and_then_as_up() -> None:
    sink = Sink(LOOPING)
    sink.hear(0, LOOPING, task="feed")
    sink.hear(5 * SECOND, RECOVERED, task="feed")
    sink.hear(10 * SECOND, LOOPING, task="feed")
    sink.hear(90 * SECOND, RECOVERED, task="feed")
    assert sink.told == [
        (0, LOOPING, 1, False),
        (5, RECOVERED, 1, True),
        (60, LOOPING, 1, False),
        (90, RECOVERED, 1, True),
    ]


def test_what_has_ended_within_a_window_ends_once() -> None:
    sink = Sink(LOOPING)
    for at, event in enumerate((LOOPING, RECOVERED, LOOPING, events.TASK_RESUMED, RECOVERED)):
        sink.hear(at * SECOND, event, task="feed")
    sink.until(DAY)
    assert sink.told[2:] == [(60, events.TASK_RESUMED, 2, True)]


def test_a_recovery_that_waits_for_the_windows_end_is_not_told_before_although_asked_for() -> None:
    sink = Sink(LOOPING, RECOVERED)
    for at, event in enumerate((LOOPING, RECOVERED, LOOPING, RECOVERED)):
        sink.hear(at * SECOND, event, task="feed")
    sink.until(DAY)
    assert sink.told == [(0, LOOPING, 1, False), (1, RECOVERED, 1, True), (60, RECOVERED, 2, True)]


def test_two_troubles_that_are_folded_end_as_one() -> None:
    sink = Sink(LOOPING, PARKED)
    for at in (0, 10):
        sink.hear(at * SECOND, LOOPING, task="feed")
        sink.hear((at + 1) * SECOND, PARKED, task="feed")
        sink.hear((at + 2) * SECOND, events.TASK_RESUMED, task="feed")
    sink.until(DAY)
    assert sink.told[2:] == [(2, events.TASK_RESUMED, 1, True), (60, events.TASK_RESUMED, 3, True)]


def test_a_recovery_that_was_asked_for_is_told_without_a_trouble_too() -> None:
    sink = Sink(RECOVERED, LOOPING)
    sink.hear(0, RECOVERED, task="feed")
    sink.hear(SECOND, LOOPING, task="feed")
    sink.hear(2 * SECOND, RECOVERED, task="feed")
    assert sink.told == [(0, RECOVERED, 1, False), (1, LOOPING, 1, False), (2, RECOVERED, 1, True)]


def test_a_trouble_is_remembered_until_it_ends_however_long_that_takes() -> None:
    sink = Sink(PARKED)
    sink.hear(0, PARKED, task="feed")
    sink.hear(30 * DAY, events.TASK_RESUMED, task="feed")
    assert sink.told[-1] == (30 * 86_400, events.TASK_RESUMED, 1, True)


def test_what_is_folded_can_be_had_at_once() -> None:
    sink = Sink(events.RUN_FAILED)
    sink.hear(0, events.RUN_FAILED, task="feed")
    sink.hear(1, events.RUN_FAILED, task="feed")
    assert [message.count for message in sink.folding.flush(sink.now)] == [1]
    assert sink.folding.flush(sink.now) == []
    assert sink.folding.wake_at() is None


@pytest.mark.parametrize("late", [60, 90, 3 * 3600])
def test_a_reminder_that_nobody_came_for_is_told_with_the_next(late: int) -> None:
    folding = Folding([events.RUN_FAILED])
    for at in (0, 1, late):
        told = folding.heard(said(events.RUN_FAILED, task="feed"), NINE + at * SECOND)
    assert [message.count for message in told] == [2]


def test_subjects_are_bounded_and_the_one_that_makes_room_says_what_was_folded() -> None:
    sink = Sink(events.RUN_FAILED, subjects=2)
    for name in ("a", "a", "b", "a", "c", "d"):
        sink.hear(0, events.RUN_FAILED, task=name)
    assert len(sink.folding) == 2
    told = [(message.announcement.fields["task"], message.count) for _, message in sink.sent]
    assert told == [("a", 1), ("b", 1), ("c", 1), ("a", 2), ("d", 1)]


def test_a_subject_that_begins_anew_is_not_the_next_to_make_room() -> None:
    sink = Sink(events.RUN_FAILED, subjects=2)
    for at, name in ((0, "a"), (0, "b"), (DAY, "a"), (DAY, "c"), (DAY + 1, "a")):
        sink.hear(at, events.RUN_FAILED, task=name)
    assert len(sink.sent) == 4  # the last is folded: it is remembered


def test_other_events_may_be_asked_for_later() -> None:
    sink = Sink(LOOPING)
    sink.hear(0, LOOPING, task="feed")
    sink.folding.want([LOOPING, PARKED])
    sink.hear(SECOND, PARKED, task="feed")
    sink.hear(2 * SECOND, RECOVERED, task="feed")
    assert [event for _, event, _, _ in sink.told] == [LOOPING, PARKED, RECOVERED]


def test_what_was_folded_is_not_told_once_it_is_not_asked_for_any_more() -> None:
    sink = Sink(LOOPING, events.RUN_FAILED)
    for at in (0, 1, 2):
        sink.hear(at, LOOPING, task="feed")
        sink.hear(at, events.RUN_FAILED, task="feed")
    sink.folding.want([events.RUN_FAILED])
    sink.until(DAY)
    assert [(event, count) for _, event, count, _ in sink.told] == [
        (LOOPING, 1), (events.RUN_FAILED, 1), (events.RUN_FAILED, 2),
    ]  # fmt: skip
    assert sink.folding.flush(sink.now) == []


@pytest.mark.parametrize(
    ("run", "is_end"),
    [({"due": NINE}, True), ({"due": NINE + DAY, "cause": "tick"}, True), ({"due": NINE - 1}, False),
     ({"due": NINE, "cause": "backfill"}, False)],
)  # fmt: skip
def test_only_a_run_of_that_due_or_a_later_one_ends_what_was_unfinished(
    run: dict[str, Any], is_end: bool
) -> None:
    sink = Sink(events.TASK_UNFINISHED)
    sink.hear(0, events.TASK_UNFINISHED, task="report", due=NINE)
    sink.hear(SECOND, events.RUN_COMPLETED, task="report", **run)
    assert [recovered for _, _, _, recovered in sink.told] == [False, True][: 1 + is_end]


def test_an_older_run_ends_nothing_of_what_is_folded() -> None:
    sink = Sink(events.TASK_UNFINISHED)
    sink.hear(0, events.TASK_UNFINISHED, task="report", due=NINE)
    sink.hear(1, events.TASK_UNFINISHED, task="report", due=NINE + DAY)
    sink.hear(2, events.RUN_COMPLETED, task="report", due=NINE)
    sink.until(DAY)
    assert [(event, recovered) for _, event, _, recovered in sink.told] == [
        (events.TASK_UNFINISHED, False)
    ] * 2


def test_it_is_known_beforehand_what_cannot_lead_to_a_message() -> None:
    folding = Folding([LOOPING])
    heeded = {event for event in events.ALL if folding.heeds(event)}
    assert heeded == {LOOPING, RECOVERED, events.TASK_RESUMED}


def test_alerts_about_alerts_are_not_to_be_had() -> None:
    of_alerts = {event for event in events.ALL if event.startswith("alert.")}
    assert of_alerts
    assert of_alerts <= events.UNTOLD.keys()
    assert not of_alerts & {*ENDS, *(trouble for troubles in ENDS.values() for trouble in troubles)}


# Against random stories.

_EVENTS = (LOOPING, PARKED, RECOVERED, events.TASK_RESUMED, events.RUN_FAILED, events.TASK_STALE)
_HAPPENINGS = st.tuples(
    st.one_of(st.integers(0, 90), st.integers(0, 5000)), st.sampled_from(_EVENTS), st.sampled_from("ab")
)
STORIES = st.lists(_HAPPENINGS, max_size=40)
WANTED = st.frozensets(st.sampled_from((LOOPING, PARKED, events.RUN_FAILED, events.TASK_STALE)), min_size=1)


def played(
    story: list[tuple[int, str, str]], wanted: frozenset[str]
) -> tuple[Sink, list[tuple[int, Announce]]]:
    sink, at, heard = Sink(*wanted), 0, []
    for pause, event, task in story:
        at += pause * SECOND
        sink.hear(at, event, task=task)
        heard.append((at, said(event, task=task)))
    sink.until(at + DAY)
    return sink, heard


@given(STORIES, WANTED)
def test_everything_that_was_asked_for_is_in_exactly_one_message(
    story: list[tuple[int, str, str]], wanted: frozenset[str]
) -> None:
    sink, heard = played(story, wanted)
    asked = Counter(announcement.fields["task"] for _, announcement in heard if announcement.event in wanted)
    for task in "ab":
        messages = [message for _, message in sink.sent if message.announcement.fields["task"] == task]
        recoveries = sum(event in ENDS and of == task for _, event, of in story)
        assert asked[task] <= sum(message.count for message in messages) <= asked[task] + recoveries


@given(STORIES, WANTED)
def test_the_last_word_is_how_things_are(story: list[tuple[int, str, str]], wanted: frozenset[str]) -> None:
    sink, heard = played(story, wanted)
    troubles = frozenset((LOOPING, PARKED)) & wanted
    for task in "ab":
        about = [a.event for _, a in heard if a.fields["task"] == task and a.event in {*troubles, *ENDS}]
        told = [
            message
            for _, message in sink.sent
            if message.announcement.fields["task"] == task
            and message.announcement.event in {*troubles, *ENDS}
        ]
        while about and about[0] in ENDS:
            about.pop(0)  # the end of what nobody was told of
        if not about:
            assert told == []
        else:
            assert told[-1].recovered == (about[-1] in ENDS)


@given(STORIES, WANTED)
def test_a_sink_is_never_flooded(story: list[tuple[int, str, str]], wanted: frozenset[str]) -> None:
    """Of one event and subject: no two messages of trouble closer than a minute, and windows grow."""
    sink, _ = played(story, wanted)
    for event in wanted:
        for task in "ab":
            times = [
                at
                for at, message in sink.sent
                if not message.recovered and message.announcement == said(event, task=task)
            ]
            gaps = [later - earlier for earlier, later in pairwise(times)]
            assert all(gap >= MINUTE for gap in gaps)
            for before, after in pairwise(gaps):
                assert after >= 4 * MINUTE or before >= HOUR


@given(st.lists(st.integers(0, 7200), max_size=30))
def test_one_event_is_told_as_a_reading_of_the_rules_second_by_second_has_it(pauses: list[int]) -> None:
    """The slow way: look at every second whether a message is due."""
    times, at = [], 0
    for pause in pauses:
        at += pause
        times.append(at)
    expected: list[tuple[int, int]] = []
    waiting, told, window = 0, 0, 0
    comes = Counter(times)
    for second in range(at + 3601) if times else ():
        if waiting and second == told + window:
            expected.append((second, waiting))
            waiting, told, window = 0, second, min(window * 4, 3600)
        for _ in range(comes[second]):
            if not window or (not waiting and second >= told + window + 3600):
                expected.append((second, 1))
                told, window = second, 60
            elif second >= told + window:
                expected.append((second, 1))
                told, window = second, min(window * 4, 3600)
            else:
                waiting += 1
    sink = Sink(events.RUN_FAILED)
    for second in times:
        sink.hear(second * SECOND, events.RUN_FAILED, task="feed")
    sink.until((at + 3600) * SECOND)
    assert [(at // SECOND, message.count) for at, message in sink.sent] == expected
