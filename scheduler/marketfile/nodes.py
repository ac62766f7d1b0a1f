"""Reading YAML nodes into plain values: every mistake is noted with its place, none is raised."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

from scheduler.errors import Mark, Problem
from scheduler.yamlfile import ListNode, MapNode, Node, ScalarNode, suggest

_Parsed = TypeVar("_Parsed")


class Reader:
    """Turns nodes into values; what is wrong comes out as nothing, and is added to ``problems``."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def entries(
        self, node: Node | None, what: str, allowed: Collection[str] | None = None
    ) -> dict[str, Node]:
        """The known keys of a map; a mistake for each other key, and for what is no map."""
        if node is None:
            return {}
        if not isinstance(node, MapNode):
            if allowed is None and isinstance(node, ScalarNode) and node.value is None:
                return {}  # `changes:` with nothing below it yet
            self.wrong(node.mark, f"{what} must be a map" + (f" of {', '.join(allowed)}" if allowed else ""))
            return {}
        for key in node.items:
            if allowed is not None and key not in allowed:
                message = f"unknown key {key!r} in {what}{suggest(key, allowed)}"
                self.wrong(node.key_marks[key], message)
        return {key: value for key, value in node.items.items() if allowed is None or key in allowed}

    def list(self, node: Node | None) -> tuple[Node, ...]:
        if node is None:
            return ()
        if not isinstance(node, ListNode) or not node.items:
            self.wrong(node.mark, "a list with at least one entry is expected here")
            return ()
        return node.items

    def text(self, node: Node | None) -> str | None:
        if node is None:
            return None
        if isinstance(node, ScalarNode) and isinstance(node.value, str) and node.value.strip():
            return node.value
        self.wrong(node.mark, "text is expected here; put a number or a special word into quotes")
        return None

    def one_of(self, node: Node | None, words: tuple[Any, ...]) -> Any:
        text = self.text(node)
        if node is None or text is None or text in words:
            return text
        self.wrong(node.mark, f"{text!r} is none of {', '.join(words)}{suggest(text, words)}")
        return None

    def parsed(self, node: Node | None, parser: Callable[[str], _Parsed]) -> _Parsed | None:
        text = self.text(node)
        return self.attempt(node.mark, parser, text) if node and text else None

    def attempt(self, mark: Mark, parser: Callable[[str], _Parsed], text: str) -> _Parsed | None:
        try:
            return parser(text)
        except ValueError as error:
            self.wrong(mark, str(error))
            return None

    def wrong(self, mark: Mark | None, message: str) -> None:
        self.problems.append(Problem(mark, message))
