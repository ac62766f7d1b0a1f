"""Durations as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.durations import format_duration, parse_duration
from scheduler.core.messages import DAY, HOUR, MILLISECOND, MINUTE, SECOND


@pytest.mark.parametrize(
    "text, nanoseconds",
    [
        ("250ms", 250 * MILLISECOND),
        ("5s", 5 * SECOND),
        ("5m", 5 * MINUTE),
        ("1m30s", 90 * SECOND),
        ("2h", 2 * HOUR),
        ("1d", DAY),
        ("1d2h3m4s5ms", DAY + 2 * HOUR + 3 * MINUTE + 4 * SECOND + 5 * MILLISECOND),
        ("90m", 90 * MINUTE),
        ("0s", 0),
        ("3660d", 3660 * DAY),
        ("5s".zfill(40), 5 * SECOND),  # as long as a text may be
    ],
)
def test_a_duration_is_its_parts_added_up(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "5", "5M", "5S", "1:30", "1h30", " 5s", "5s ", "5 s", "5s\n", "5s5s", "5s1m", "5ms5s", "-5s",
        "+5s", "1.5h", "1,5h", "5sec", "1w", "5min", "1e3s", "0x5s", "s", "ms", "5\u00b5s", "PT5S", "5m s",
        "\u0665s", "\uff15s",
    ],
)  # fmt: skip
def test_what_could_be_misread_is_refused_with_what_would_be_right(text: str) -> None:
    with pytest.raises(ValueError, match="write 5s, 1m30s, 2h or 1d"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["3661d", "99999999999999999999h"])
def test_more_than_ten_years_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="longer than ten years"):
        parse_duration(text)


def test_a_number_of_absurd_length_is_refused_in_a_short_message() -> None:
    with pytest.raises(ValueError, match="not a duration") as caught:
        parse_duration("9" * 1_000_000 + "s")
    assert len(str(caught.value)) < 100
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration("5s".zfill(41))


@given(st.integers(0, 3660 * DAY // MILLISECOND))
def test_what_is_written_is_read_back(milliseconds: int) -> None:
    duration = milliseconds * MILLISECOND
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    "nanoseconds, text",
    [
        (0, "0s"),
        (90 * SECOND, "1m30s"),
        (-90 * SECOND, "-1m30s"),
        (36 * HOUR, "1d12h"),
        (250_000, "0.25ms"),
        (SECOND + 1, "1s"),
    ],
)
def test_the_shortest_text_is_written(nanoseconds: int, text: str) -> None:
    assert format_duration(nanoseconds) == text
