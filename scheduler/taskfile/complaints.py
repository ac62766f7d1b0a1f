"""Pydantic's errors as sentences for the person who wrote the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scheduler.core.triggers import PLAIN
from scheduler.errors import Mark, Problem
from scheduler.taskfile.values import kind
from scheduler.yamlfile import suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from scheduler.yamlfile import MapNode

_OF_A_KEY = "[key]"  # what pydantic ends the path with when the key itself is wrong
_AT_KEY = frozenset({"extra_forbidden", "missing"})
_MAP = "must be a map (`key: value`), not {given}"
_WHOLE = "must be a whole number, not {given}"
_SENTENCES = {
    "model_type": _MAP,
    "dict_type": _MAP,
    "list_type": "must be a list ([a, b]), not {given}",
    "string_type": "must be text, not {given}",
    "bool_type": "must be true or false, not {given}",
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "greater_than_equal": "must be at least {ge}, not {given}",
    "less_than_equal": "must be at most {le}, not {given}",
    "too_short": "must not be empty",
}


def problems_of(
    error: ValidationError, root: MapNode | None, keys_at: Callable[[Sequence[str | int]], frozenset[str]]
) -> list[Problem]:
    """One problem for each of pydantic's errors, at its place in ``root`` (none: without a place)."""
    return [_problem(details, root, keys_at) for details in error.errors(include_url=False)]


def _problem(
    details: ErrorDetails, root: MapNode | None, keys_at: Callable[[Sequence[str | int]], frozenset[str]]
) -> Problem:
    path = details["loc"]
    is_key = bool(path) and path[-1] == _OF_A_KEY
    if is_key:
        path = path[:-1]
    mark: Mark | None = None
    if root is not None:
        mark = root.at(path, key=is_key or details["type"] in _AT_KEY)
    label = next((part for part in reversed(path) if isinstance(part, str) and part != PLAIN), "")
    sentence = _sentence(details, path, keys_at)
    if details["type"] in _AT_KEY or is_key or not label:
        return Problem(mark, sentence)
    return Problem(mark, f"{label}: {sentence}")


def _sentence(
    details: ErrorDetails,
    path: Sequence[str | int],
    keys_at: Callable[[Sequence[str | int]], frozenset[str]],
) -> str:
    given = details["input"]
    context: dict[str, Any] = details.get("ctx", {})
    match details["type"]:
        case "value_error":  # ours: it is a sentence already
            return str(context["error"])
        case "extra_forbidden":
            word = str(path[-1])
            return f"unknown key {word!r}{suggest(word, keys_at(path[:-1]))}"
        case "missing":
            return f"the key {path[-1]!r} is missing"
        case "literal_error":
            choices = context["expected"].replace("'", "").replace(" or ", ", ")
            close = suggest(given, choices.split(", ")) if isinstance(given, str) else ""
            expected = f"one of {choices}" if "," in choices else choices
            return f"must be {expected}, not {kind(given)}{close}"
        case other:
            return _SENTENCES.get(other, "{given} is not allowed here").format(given=kind(given), **context)
