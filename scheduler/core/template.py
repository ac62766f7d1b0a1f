"""``{name}`` in the arguments of a command: what can stand there, and its being filled in."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Final

NAMES: Final = frozenset(
    ("task", "run_id", "due", "session", "phase", "attempt", "priority", "market", "event", "subject")
)

"""In the command of a task."""

OF_ALERTS: Final = frozenset(
    ("event", "level", "subject", "task", "market", "summary", "at", "host", "count", "recovered")
)
"""In the command of an alert."""


def placeholders(text: str) -> list[str]:
    """The names in a template, as they are written; ``{{`` and ``}}`` are braces. ValueError otherwise."""
    try:
        parts = list(Formatter().parse(text))
    except ValueError:
        raise ValueError(f"{text!r} has a single brace; write {{{{ or }}}} for a brace itself") from None
    return [
        name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
        for _, name, form, conversion in parts
        if name is not None
    ]


def expand(text: str, values: Mapping[str, str]) -> str:
    """Fill in a template; ValueError for a placeholder that is not among ``values``."""
    for written in placeholders(text):
        if written not in values:
            raise ValueError(f"{{{written}}} stands for nothing here; known are {', '.join(sorted(values))}")
    return Formatter().vformat(text, (), values)
