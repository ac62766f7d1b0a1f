"""What can stand in braces in the arguments of a command."""

from __future__ import annotations

import pytest

from scheduler.core.template import NAMES, expand, placeholders


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("--date={session}", "--date=2026-11-23"),
        ("{session}/{task}", "2026-11-23/eod"),
        ('{{"date": "{session}"}}', '{"date": "2026-11-23"}'),
        ("nothing", "nothing"),
        ("", ""),
    ],
)
def test_names_in_braces_are_filled_in_and_double_braces_are_braces(text: str, filled: str) -> None:
    assert expand(text, {"session": "2026-11-23", "task": "eod"}) == filled


def test_what_is_filled_in_is_not_looked_at_again() -> None:
    assert expand("{task}", {"task": "{session}", "session": "no"}) == "{session}"


@pytest.mark.parametrize(
    "text", ["{sesion}", "{}", "{session!r}", "{session:>9}", "{task.name}", "{task[0]}"]
)
def test_a_placeholder_stands_for_a_known_name_and_nothing_else(text: str) -> None:
    assert not set(placeholders(text)) <= NAMES
    with pytest.raises(ValueError, match="stands for nothing here; known are session, task"):
        expand(text, {"session": "2026-11-23", "task": "eod"})


@pytest.mark.parametrize("text", ["{", "}", "{session", "a } b"])
def test_a_single_brace_is_a_mistake(text: str) -> None:
    with pytest.raises(ValueError, match="has a single brace"):
        placeholders(text)
