"""YAML 1.2 with positions: what every configuration error points at.

PyYAML's C parser makes events; this module builds the nodes from them, so that each keeps its
place in the file, and resolves plain scalars by the core schema of YAML 1.2 (``no`` and ``16:00``
are text). The building is iterative and counts what aliases expand to, so neither deep nesting nor
an alias bomb costs more than the file's own size. Left out on purpose: tags, merge keys, several
documents in a file.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

from scheduler.errors import ConfigurationError, Mark, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

MAX_BYTES = 1024 * 1024
MAX_NODES = 100_000  # aliases count as what they expand to
MAX_DEPTH = 50

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LONGEST_NUMBER = 64  # characters; beyond it Python's int() itself becomes slow, then refuses
_LONGEST_WORD = 64  # characters that are compared to find what was meant
_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}

# What the parser says, and what helps a person. The first fragment found in its message counts.
_SENTENCES = (
    ("mapping values are not allowed",
     "a ':' is not allowed here; indent the line like its neighbours, or quote text with ': ' in it"),
    ("cannot start any token", "text cannot begin with this character; put it into quotes"),
    ("could not find expected ':'", "a ':' is missing after the key"),
    ("did not find expected key", "a key is expected here; check the indentation and the quotes"),
    ("expected <block end>", "a key or list item is expected here; check the indentation and the quotes"),
    ("did not find expected '-' indicator", "a list item ('- ...') is expected here; check the indentation"),
    ("unexpected end of stream", "this quote is never closed"),
    ("expected ',' or ']'", "a ',' or the closing ']' is missing"),
    ("expected ',' or '}'", "a ',' or the closing '}' is missing"),
    ("undefined tag handle", "tags (!name) are not allowed"),
    ("node content", "a value is expected here, or a bracket before it is not closed"),
    ("sequence entries are not allowed", "a list item ('- ...') must begin on a line of its own"),
    ("<document start>", "nothing may follow the end of the document"),
    ("unknown escape character", "this is no escape in double quotes; write \\\\ for a backslash"),
)  # fmt: skip


Scalar: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """A single value: ``value`` as YAML 1.2 resolves it, ``text`` as it was written."""

    mark: Mark
    value: Scalar
    text: str

    def plain(self) -> Scalar:
        """The plain Python value."""
        return self.value

    def at(self, path: Sequence[str | int], *, key: bool = False) -> Mark:  # noqa: ARG002 - nothing lies below
        """Where this node is."""
        return self.mark


@dataclass(frozen=True, slots=True)
class ListNode:
    """A sequence of nodes."""

    mark: Mark
    items: tuple[Node, ...]

    def plain(self) -> list[Any]:
        """The plain Python value."""
        return [item.plain() for item in self.items]

    def at(self, path: Sequence[str | int], *, key: bool = False) -> Mark:
        """Where ``path`` leads to; see ``MapNode.at``."""
        if path and isinstance(path[0], int) and 0 <= path[0] < len(self.items):
            return self.items[path[0]].at(path[1:], key=key)
        return self.mark


@dataclass(frozen=True, slots=True)
class MapNode:
    """A mapping; keys are the text of the keys as written."""

    mark: Mark
    items: dict[str, Node]
    key_marks: dict[str, Mark]

    def plain(self) -> dict[str, Any]:
        """The plain Python value."""
        return {key: node.plain() for key, node in self.items.items()}

    def at(self, path: Sequence[str | int], *, key: bool = False) -> Mark:
        """Where the deepest node on ``path`` is that exists; with ``key`` its key, if it has one."""
        if not path or path[0] not in self.items:
            return self.mark
        name = str(path[0])
        child = self.items[name]
        below = isinstance(child, MapNode | ListNode) and _has(child, path[1:])
        if key and not below:
            return self.key_marks[name]
        return child.at(path[1:], key=key)


Node: TypeAlias = ScalarNode | ListNode | MapNode


def _has(node: MapNode | ListNode, path: Sequence[str | int]) -> bool:
    if not path:
        return False
    if isinstance(node, MapNode):
        return path[0] in node.items
    return isinstance(path[0], int) and 0 <= path[0] < len(node.items)


def suggest(word: str, candidates: Iterable[str]) -> str:
    """``; did you mean 'every'?`` or nothing: the end of a sentence about an unknown word."""
    by_lower = {candidate.lower(): candidate for candidate in sorted(candidates)}
    close = get_close_matches(word[:_LONGEST_WORD].lower(), by_lower, n=1)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""


def read(path: Path, repeated: list[Problem] | None = None) -> MapNode:
    """The file's top-level map; ConfigurationError with every mistake found. See ``parse``."""
    return parse(_text(path), str(path), repeated)


def parse(text: str, filename: str, repeated: list[Problem] | None = None) -> MapNode:
    """The top-level map of ``text``; ConfigurationError with every mistake found.

    With ``repeated`` a key that is given twice is noted there instead, and the first one counts: for
    who can go on to the other mistakes of the file.
    """
    strange = _UNPRINTABLE.search(text)
    if strange is not None:
        raise _error(_mark_of(text, strange.start(), filename),
                     f"the character U+{ord(strange[0]):04X} is not allowed in YAML; write it as an "
                     "escape in double quotes")  # fmt: skip
    builder = _Builder(filename)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        builder.problems.append(_syntax_problem(error, text, filename))
    root = builder.root
    if repeated is None or builder.problems:
        builder.problems += builder.repeated
    else:
        repeated += builder.repeated
    if not builder.problems:
        if root is None or (isinstance(root, ScalarNode) and root.value is None):
            raise _error(Mark(filename, 1, 1), "the file is empty; write a map of keys and values")
        if isinstance(root, MapNode):
            return root
        builder.problems.append(Problem(root.mark, "the file must be a map (`key: value` lines)"))
    raise ConfigurationError(sorted(builder.problems, key=lambda problem: problem.mark or Mark("", 0, 0)))


def is_there(path: Path) -> bool:
    """Whether there is something to read, or to complain of: not seeing it does not make it absent."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass  # who reads it says better why it cannot be read
    return True


def _text(path: Path) -> str:
    """The file's content, if it is a regular file of decent size in UTF-8."""
    place = Mark(str(path), 1, 1)
    try:
        # Without O_NONBLOCK the opening of a named pipe would wait for somebody to write to it.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                kind = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
                raise _error(place, f"this is {kind}; a YAML file is expected here")
            content = file.read(MAX_BYTES + 1) if status.st_size <= MAX_BYTES else b""
    except FileNotFoundError:
        raise _error(place, "there is no such file") from None
    except IsADirectoryError:
        raise _error(place, "this is a directory; a YAML file is expected here") from None
    except OSError as error:
        raise _error(place, f"the file cannot be read: {error.strerror}") from error
    if status.st_size > MAX_BYTES or len(content) > MAX_BYTES:
        raise _error(place, "the file is larger than 1 MiB; split it or check what it is")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig")
        mark = _mark_of(before, len(before), str(path))
        raise _error(mark, "the file is not UTF-8 text; save it as UTF-8") from error


@dataclass(slots=True)
class _Frame:
    """A list or map whose end has not come yet."""

    mark: Mark
    anchor: str | None
    is_map: bool
    items: list[Node] = field(default_factory=list)
    entries: dict[str, Node] = field(default_factory=dict)
    key_marks: dict[str, Mark] = field(default_factory=dict)
    key: str | None = None  # of the map, waiting for its value
    key_wanted: bool = True
    size: int = 1  # nodes, aliases expanded
    height: int = 0


class _Builder:
    """Events in, the root node out, problems noted on the way."""

    def __init__(self, filename: str) -> None:
        self.problems: list[Problem] = []
        self.repeated: list[Problem] = []  # keys, of which the first was taken
        self.root: Node | None = None
        self._filename = filename
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Node, int, int] | None] = {}  # node, size, height; None: still open
        self._nodes = 0

    def take(self, event: yaml.Event) -> None:
        start = event.start_mark
        assert start is not None  # the parser gives every event its place
        mark = Mark(self._filename, start.line + 1, start.column + 1)
        if isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            raise _error(mark, "a second document begins here; write one document per file")
        if isinstance(event, yaml.AliasEvent):
            self._alias(str(event.anchor), mark)
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event, mark)
        elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
            self._check_tag(event.tag, mark)
            self._grow(mark, size=1, height=1)
            if event.anchor:
                self._anchors[event.anchor] = None
            self._stack.append(_Frame(mark, event.anchor, isinstance(event, yaml.MappingStartEvent)))
        elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            frame = self._stack.pop()
            node: Node = (
                MapNode(frame.mark, frame.entries, frame.key_marks)
                if frame.is_map
                else ListNode(frame.mark, tuple(frame.items))
            )
            self._place(node, frame.size, frame.height + 1, frame.anchor)

    def _scalar(self, event: yaml.ScalarEvent, mark: Mark) -> None:
        self._check_tag(event.tag, mark)
        self._grow(mark, size=1, height=0)
        text = event.value
        is_plain = event.implicit[0]
        if is_plain and text == "<<" and self._expects_key():
            self.problems.append(Problem(mark, "merge keys (<<) are not part of YAML 1.2; repeat the keys"))
        value: Scalar = text
        if is_plain:
            try:
                value = _resolve(text)
            except ValueError as error:
                self.problems.append(Problem(mark, str(error)))
        self._place(ScalarNode(mark, value, text), 1, 0, event.anchor)

    def _alias(self, anchor: str, mark: Mark) -> None:
        if anchor not in self._anchors:
            raise _error(mark, f"the alias *{anchor} has no anchor &{anchor} before it")
        target = self._anchors[anchor]
        if target is None:
            raise _error(mark, f"the alias *{anchor} stands inside of what it refers to")
        node, size, height = target
        self._grow(mark, size, height)
        self._place(node, size, height, None, mark)

    def _place(
        self, node: Node, size: int, height: int, anchor: str | None, mark: Mark | None = None
    ) -> None:
        """Hand a finished node to the list or map that it stands in."""
        if anchor:
            self._anchors[anchor] = (node, size, height)
        if not self._stack:
            self.root = node
            return
        frame = self._stack[-1]
        frame.size += size
        frame.height = max(frame.height, height)
        if not frame.is_map:
            frame.items.append(node)
        elif frame.key_wanted:
            frame.key = self._key(frame, node, mark or node.mark)
            frame.key_wanted = False
        else:
            if frame.key is not None:
                frame.entries[frame.key] = node
            frame.key_wanted = True

    def _key(self, frame: _Frame, node: Node, mark: Mark) -> str | None:
        """The text of a key; None when its entry cannot be kept."""
        if not isinstance(node, ScalarNode):
            self.problems.append(Problem(mark, "a key must be a single word or text, not a list or a map"))
            return None
        first = frame.key_marks.setdefault(node.text, mark)
        if first is not mark:
            place = f"line {first.line}, column {first.column}"
            self.repeated.append(Problem(mark, f"the key {node.text!r} is given twice; first at {place}"))
            return None
        return node.text

    def _expects_key(self) -> bool:
        return bool(self._stack) and self._stack[-1].is_map and self._stack[-1].key_wanted

    def _grow(self, mark: Mark, size: int, height: int) -> None:
        """Count what comes in before anything is built from it."""
        self._nodes += size
        if self._nodes > MAX_NODES:
            raise _error(mark, f"there are more than {MAX_NODES} values, aliases counted as what they repeat")
        if len(self._stack) + height > MAX_DEPTH:
            raise _error(mark, f"lists and maps are nested more than {MAX_DEPTH} deep here")

    def _check_tag(self, tag: str | None, mark: Mark) -> None:
        if tag is not None:
            message = f"tags such as {tag!r} are not allowed; to make text of a value, quote it"
            self.problems.append(Problem(mark, message))


def _resolve(text: str) -> Scalar:
    """A plain scalar by the core schema of YAML 1.2; ValueError when a number is absurdly long."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    is_int = _INT.fullmatch(text) is not None
    if not is_int and _FLOAT.fullmatch(text) is None:
        return text
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text)} characters is too long; quote it if it is text")
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10)) if is_int else float(text)


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, filename: str) -> Problem:
    """The parser's complaint in a sentence that says what would be right."""
    said = error.problem or "this is not valid YAML"
    place = error.problem_mark or error.context_mark
    if "end of stream" in said and error.context_mark is not None:
        place = error.context_mark  # where the open quote stands; the end of the file helps nobody
    mark = Mark(filename, place.line + 1, place.column + 1) if place else Mark(filename, 1, 1)
    if _character_at(text, mark) == "\t":
        return Problem(mark, "a tab cannot indent; use spaces")
    for fragment, sentence in _SENTENCES:
        if fragment in said:
            return Problem(mark, sentence)
    return Problem(mark, f"this is not valid YAML: {said}")


def _character_at(text: str, mark: Mark) -> str:
    lines = text.splitlines()
    return lines[mark.line - 1][mark.column - 1 : mark.column] if mark.line <= len(lines) else ""


def _mark_of(text: str, offset: int, filename: str) -> Mark:
    line_start = text.rfind("\n", 0, offset) + 1
    return Mark(filename, text.count("\n", 0, offset) + 1, offset - line_start + 1)


def _error(mark: Mark, message: str) -> ConfigurationError:
    return ConfigurationError([Problem(mark, message)])
