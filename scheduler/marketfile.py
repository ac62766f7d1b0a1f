"""markets.yaml: what the desk says about markets, read with the layers below and above it.

Nothing here raises for a mistake: all of them are collected, each with its place, so that they can
be shown together with those of tasks.yaml. What is wrong is left out of the result.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from datetime import date
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from scheduler.core.marketspec import (
    ALWAYS,
    AMENDMENT,
    DESK,
    INDIA,
    RESERVED_PHASES,
    SETTLED,
    BeyondHorizon,
    Change,
    Hours,
    Interval,
    MarketDef,
    MarketsFile,
    Phases,
    SummerTime,
    overlapping_ranges,
    parse_interval,
    parse_weekdays,
)
from scheduler.errors import ConfigurationError, Mark, Problem
from scheduler.yamlfile import ListNode, MapNode, Node, ScalarNode, parse, read, suggest

MARKETS_FILE: Final = "markets.yaml"
AMENDMENTS_FILES: Final = ("amendments.yaml", "amendments.json")

TOP_KEYS: Final = ("default", "markets")
MARKET_KEYS: Final = (
    "like", "calendar", "any_of", "timezone", "weekdays", "hours", "phases", "changes",
    "beyond_horizon", "known_since", "known_until",
)  # fmt: skip
BASE_KEYS: Final = ("like", "calendar", "any_of", "weekdays")
HOURS_KEYS: Final = ("since", "phases", "summer_time", "source", "settled", "note")
CHANGE_KEYS: Final = ("name", "closed", "open", "phases", "source", "settled", "note")
AUDIT_KEYS: Final = ("by", "at")  # who amended, and when

_MARKET = re.compile(r"[A-Za-z0-9][\w/.-]*", re.ASCII)
_PHASE = re.compile(r"[A-Za-z][\w-]*", re.ASCII)
_LONGEST_RANGE = 400  # days; a longer one is likelier a mistyped year
_Parsed = TypeVar("_Parsed")


def read_markets(configuration: Path, state: Path | None = None) -> MarketsFile:
    """The India overlay, ``markets.yaml`` of a directory and the amendments in a state directory.

    Files that are absent count as empty; ``problems`` has every mistake of those that are not.
    """
    desk = configuration / MARKETS_FILE
    amendments = [state / name for name in AMENDMENTS_FILES] if state else []
    return _combine(
        [
            read_overlay(),
            _Layer(DESK).read(desk) if desk.exists() or desk.is_symlink() else _Layer(DESK),
            *(_Layer(AMENDMENT).read(path) for path in amendments if path.exists()),
        ]
    )


def parse_markets(text: str, filename: str = MARKETS_FILE, amendments: str = "") -> MarketsFile:
    """The same from the text of a markets.yaml (and of an amendments file)."""
    layers = [read_overlay(), _Layer(DESK).parse(text, filename)]
    if amendments:
        layers.append(_Layer(AMENDMENT).parse(amendments, AMENDMENTS_FILES[0]))
    return _combine(layers)


def read_overlay() -> _Layer:
    """What the package knows of the Indian markets; problems only if the package is broken."""
    text = resources.files("scheduler.calendars").joinpath("india.yaml").read_text(encoding="utf-8")
    return _Layer(INDIA).parse(text, "india.yaml")


def markets_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of markets.yaml, for editors."""
    text = resources.files("scheduler.calendars").joinpath("markets.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _combine(layers: list[_Layer]) -> MarketsFile:
    default, mark = "NSE", None
    for layer in layers:
        if layer.default is not None:
            default, mark = layer.default, layer.default_mark
    problems = [problem for layer in layers for problem in layer.problems]
    return MarketsFile(tuple(layer.markets for layer in layers), default, mark, tuple(problems))


class _Layer:
    """One file: its markets, and the mistakes met on the way."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.markets: dict[str, MarketDef] = {}
        self.default: str | None = None
        self.default_mark: Mark | None = None
        self.problems: list[Problem] = []

    def read(self, path: Path) -> _Layer:
        return self._take(lambda: read(path))

    def parse(self, text: str, filename: str) -> _Layer:
        return self._take(lambda: parse(text, filename))

    def _take(self, load: Callable[[], MapNode]) -> _Layer:
        try:
            root = load()
        except ConfigurationError as error:
            self.problems += error.problems
            return self
        entries = self._entries(root, "the file", TOP_KEYS)
        if "default" in entries:
            self.default = self._text(entries["default"])
            self.default_mark = entries["default"].mark
        markets = entries.get("markets")
        for name, node in self._entries(markets, "markets").items() if markets else ():
            mark = markets.at([name], key=True) if markets else root.mark
            if not _MARKET.fullmatch(name):
                self._wrong(mark, f"{name!r} cannot be the name of a market; use letters, digits and '-'")
            elif name == ALWAYS:
                self._wrong(mark, "'always' is the market that never closes; choose another name")
            else:
                self.markets[name] = self._market(name, node)
        return self

    def _market(self, name: str, node: Node) -> MarketDef:
        entries = self._entries(node, f"the market {name}", MARKET_KEYS)
        marks = {key: node.at([key], key=True) for key in entries}
        bases = [key for key in BASE_KEYS if key in entries]
        for key in bases[1:]:
            self._wrong(marks[key], f"{bases[0]} and {key} exclude each other; a market has one of them")
        if "timezone" in entries and "like" in entries:
            self._wrong(marks["timezone"], "a market has the timezone of the one that it is like")
        hours = [self._hours(item, name) for item in self._list(entries.get("hours"))]
        for before, after in zip(hours, hours[1:], strict=False):
            if after.since <= before.since:
                self._wrong(after.mark, f"since {after.since} does not come after {before.since}, the row before")
        since, until = (self._date(entries.get(key)) for key in ("known_since", "known_until"))
        if since and until and until < since:
            self._wrong(marks["known_until"], f"known_until lies before known_since, {since}")
        return MarketDef(
            name=name,
            layer=self.name,
            mark=node.mark,
            like=self._text(entries.get("like")),
            calendar=self._text(entries.get("calendar")),
            any_of=tuple(filter(None, (self._text(item) for item in self._list(entries.get("any_of"))))),
            weekdays=self._weekdays(entries.get("weekdays")),
            timezone=self._parsed(entries.get("timezone"), _zone_name),
            hours=tuple(sorted(hours, key=lambda row: row.since)),
            phases=self._phases(entries.get("phases"), in_hours=False),
            changes=self._changes(entries.get("changes")),
            beyond_horizon=self._one_of(entries.get("beyond_horizon"), get_args(BeyondHorizon)),
            known_since=since,
            known_until=until,
            marks=marks,
        )

    def _hours(self, node: Node, market: str) -> Hours:
        entries = self._entries(node, f"a row of {market}'s hours", HOURS_KEYS)
        self._provenance(entries, node)
        if "phases" not in entries and isinstance(node, MapNode):
            self._wrong(node.mark, 'hours without phases; write phases: {open: "09:15..15:30"}')
        summer = None
        if "summer_time" in entries:
            parts = self._entries(entries["summer_time"], "summer_time", ("zone", "phases"))
            zone = self._parsed(parts.get("zone"), _zone_name)
            if zone is None or "phases" not in parts:
                self._wrong(entries["summer_time"].mark, "summer_time needs a zone and phases")
            else:
                summer = SummerTime(zone, self._phases(parts["phases"]))
        since = self._date(entries.get("since")) or date.min
        return Hours(since, self._phases(entries.get("phases")), summer, node.mark)

    def _changes(self, node: Node | None) -> tuple[Change, ...]:
        found = [
            change
            for key, value in self._entries(node, "changes").items()
            if node and (change := self._change(key, value, node.at([key], key=True)))
        ]
        for before, after in overlapping_ranges(tuple(found)):
            message = f"this range overlaps the one from {before.first} to {before.last}"
            self._wrong(after.mark, message)
        return tuple(sorted(found, key=lambda change: (not change.is_range, change.first)))

    def _change(self, key: str, node: Node, mark: Mark) -> Change | None:
        dates = self._attempt(mark, _dates, key)
        allowed = CHANGE_KEYS + (AUDIT_KEYS if self.name == AMENDMENT else ())
        entries = self._entries(node, f"the change of {key}", allowed)
        self._provenance(entries, node)
        closed = self._closed(entries)
        opened = None if closed else self._open(entries.get("open"))
        phases = self._phases(entries.get("phases"), in_hours=False)
        if not entries.keys() & {"closed", "open", "name", "phases"}:
            self._wrong(mark, f'the change of {key} says nothing; write closed: true or open: ["09:15..12:30"]')
        if phases and (closed or opened == "unknown"):
            self._wrong(entries["phases"].mark, "a day that is not open has no phases")
        if dates is None:
            return None
        settled = self._one_of(entries.get("settled"), SETTLED) or SETTLED[0]
        name = self._text(entries.get("name")) or ""
        return Change(*dates, self.name, mark, name, closed, opened, phases, settled)

    def _closed(self, entries: Mapping[str, Node]) -> bool:
        node = entries.get("closed")
        if node is None:
            return False
        if "open" in entries:
            self._wrong(node.mark, "closed and open exclude each other")
        if not (isinstance(node, ScalarNode) and node.value is True):
            self._wrong(node.mark, "closed can only be true; for the date's usual hours write open: ordinary")
        return True

    def _open(self, node: Node | None) -> Any:
        if isinstance(node, ScalarNode):
            if node.text in ("ordinary", "unknown"):
                return node.text
            if ".." not in node.text:
                guess = suggest(node.text, ("ordinary", "unknown"))
                self._wrong(node.mark, f'open is ordinary, unknown or intervals such as ["09:15..12:30"]{guess}')
                return None
        if isinstance(node, ListNode) and not node.items:
            self._wrong(node.mark, "open without an interval; for a day without trading write closed: true")
        return self._intervals(node) or None

    def _phases(self, node: Node | None, *, in_hours: bool = True) -> Phases:
        phases: dict[str, tuple[Interval, ...]] = {}
        for name, value in self._entries(node, "phases").items():
            mark = node.at([name], key=True) if node else None
            if name in RESERVED_PHASES:
                self._wrong(mark, f"{name!r} cannot be the name of a phase: it has a meaning of its own")
            elif name == "open" and not in_hours:
                self._wrong(mark, "the hours of `open` do not belong here; write them into hours or `open:`")
            elif not _PHASE.fullmatch(name):
                self._wrong(mark, f"{name!r} cannot be the name of a phase; use letters, digits and '-'")
            else:
                phases[name] = self._intervals(value)
        return phases

    def _intervals(self, node: Node | None) -> tuple[Interval, ...]:
        nodes = node.items if isinstance(node, ListNode) else (node,) if node else ()
        found = []
        for item in nodes:
            interval = self._parsed(item, partial(parse_interval, mark=item.mark))
            if interval is not None:
                found.append(interval)
        return tuple(found)

    def _provenance(self, entries: Mapping[str, Node], node: Node) -> None:
        """The package's own rows say where they come from, and how sure that is."""
        for key in ("source", "settled") if self.name == INDIA else ():
            if key not in entries:
                self._wrong(node.mark, f"this row does not name its {key}")
        for key in ("source", "note", *AUDIT_KEYS):
            self._text(entries.get(key))

    def _entries(self, node: Node | None, what: str, allowed: Collection[str] | None = None) -> dict[str, Node]:
        """The known keys of a map; a mistake for each other key, and for what is no map."""
        if node is None:
            return {}
        if not isinstance(node, MapNode):
            if allowed is None and isinstance(node, ScalarNode) and node.value is None:
                return {}  # `changes:` with nothing below it yet
            self._wrong(node.mark, f"{what} must be a map" + (f" of {', '.join(allowed)}" if allowed else ""))
            return {}
        for key in node.items:
            if allowed is not None and key not in allowed:
                message = f"unknown key {key!r} in {what}{suggest(key, allowed)}"
                self._wrong(node.key_marks[key], message)
        return {key: value for key, value in node.items.items() if allowed is None or key in allowed}

    def _list(self, node: Node | None) -> tuple[Node, ...]:
        if node is None:
            return ()
        if not isinstance(node, ListNode) or not node.items:
            self._wrong(node.mark, "a list with at least one entry is expected here")
            return ()
        return node.items

    def _text(self, node: Node | None) -> str | None:
        if node is None:
            return None
        if isinstance(node, ScalarNode) and isinstance(node.value, str) and node.value.strip():
            return node.value
        self._wrong(node.mark, "text is expected here; put a number or a special word into quotes")
        return None

    def _date(self, node: Node | None) -> date | None:
        return self._parsed(node, _one_date)

    def _weekdays(self, node: Node | None) -> frozenset[int] | None:
        if not isinstance(node, ListNode):
            return self._parsed(node, parse_weekdays)
        days = [self._parsed(item, parse_weekdays) for item in self._list(node)]
        return frozenset().union(*(found for found in days if found))

    def _one_of(self, node: Node | None, words: tuple[Any, ...]) -> Any:
        text = self._text(node)
        if node is None or text is None or text in words:
            return text
        self._wrong(node.mark, f"{text!r} is none of {', '.join(words)}{suggest(text, words)}")
        return None

    def _parsed(self, node: Node | None, parser: Callable[[str], _Parsed]) -> _Parsed | None:
        text = self._text(node)
        return self._attempt(node.mark, parser, text) if node and text else None

    def _attempt(self, mark: Mark, parser: Callable[[str], _Parsed], text: str) -> _Parsed | None:
        try:
            return parser(text)
        except ValueError as error:
            self._wrong(mark, str(error))
            return None

    def _wrong(self, mark: Mark | None, message: str) -> None:
        self.problems.append(Problem(mark, message))


def _dates(text: str) -> tuple[date, date]:
    """A date twice, or the first and last of ``A..B``; ValueError says what would be right."""
    first, dots, last = text.partition("..")
    start, end = _one_date(first), _one_date(last if dots else first)
    if end < start:
        raise ValueError(f"{text!r} ends before it begins")
    if (end - start).days > _LONGEST_RANGE:
        raise ValueError(f"{text!r} is longer than {_LONGEST_RANGE} days")
    return start, end


def _one_date(text: str) -> date:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text.strip()):
        raise ValueError(f"{text!r} is not a date; write 2027-01-26")
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is not a date: there is no such day") from None


def _zone_name(text: str) -> str:
    try:
        return ZoneInfo(text).key
    except (ZoneInfoNotFoundError, OSError, ValueError):
        raise ValueError(f"{text!r} is not a time zone; write one such as Asia/Kolkata") from None
