"""One file in the format of markets.yaml, as definitions of markets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from scheduler.core.marketspec import (
    ALWAYS,
    AMENDMENT,
    INDIA,
    RESERVED_PHASES,
    SETTLED,
    BeyondHorizon,
    Change,
    Hours,
    Interval,
    MarketDef,
    Phases,
    SummerTime,
    overlapping_ranges,
    parse_interval,
    parse_weekdays,
)
from scheduler.errors import ConfigurationError, Mark
from scheduler.marketfile.nodes import Reader
from scheduler.yamlfile import ListNode, MapNode, Node, ScalarNode, parse, read, suggest

TOP_KEYS: Final = ("default", "markets")
MARKET_KEYS: Final = (
    "like", "calendar", "any_of", "timezone", "weekdays", "hours", "phases", "changes",
    "beyond_horizon", "known_since", "known_until",
)  # fmt: skip
BASE_KEYS: Final = ("like", "calendar", "any_of", "weekdays")
HOURS_KEYS: Final = ("since", "phases", "summer_time", "source", "settled", "note")
CHANGE_KEYS: Final = ("name", "closed", "open", "phases", "source", "settled", "note")
AUDIT_KEYS: Final = ("by", "at")  # who amended, and when
# An operator changes dates; what a market is, and which is the default, is for the desk to say.
AMENDED_TOP_KEYS: Final = ("markets",)
AMENDED_MARKET_KEYS: Final = ("changes",)

_MARKET = re.compile(r"[A-Za-z0-9][\w/.-]*", re.ASCII)
_PHASE = re.compile(r"[A-Za-z][\w-]*", re.ASCII)
_LONGEST_RANGE = 400  # days; a longer one is likelier a mistyped year


class Layer(Reader):
    """One file: its markets, and the mistakes met on the way."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.markets: dict[str, MarketDef] = {}
        self.default: str | None = None
        self.default_mark: Mark | None = None

    def read(self, path: Path) -> Layer:
        return self._take(lambda: read(path, self.problems))

    def parse(self, text: str, filename: str) -> Layer:
        return self._take(lambda: parse(text, filename, self.problems))

    def _take(self, load: Callable[[], MapNode]) -> Layer:
        try:
            root = load()
        except ConfigurationError as error:
            self.problems += error.problems
            return self
        amendment = self.name == AMENDMENT
        entries = self.entries(root, "the file", AMENDED_TOP_KEYS if amendment else TOP_KEYS)
        if "default" in entries:
            self.default = self.text(entries["default"])
            self.default_mark = entries["default"].mark
        markets = entries.get("markets")
        for name, node in self.entries(markets, "markets").items() if markets else ():
            mark = markets.at([name], key=True) if markets else root.mark
            if not _MARKET.fullmatch(name):
                self.wrong(mark, f"{name!r} cannot be the name of a market; use letters, digits and '-'")
            elif name == ALWAYS:
                self.wrong(mark, "'always' is the market that never closes; choose another name")
            else:
                self.markets[name] = self._market(name, node, mark)
        return self

    def _market(self, name: str, node: Node, mark: Mark) -> MarketDef:
        allowed = AMENDED_MARKET_KEYS if self.name == AMENDMENT else MARKET_KEYS
        entries = self.entries(node, f"the market {name}", allowed)
        marks = {key: node.at([key], key=True) for key in entries}
        bases = [key for key in BASE_KEYS if key in entries]
        for key in bases[1:]:
            self.wrong(marks[key], f"{bases[0]} and {key} exclude each other; a market has one of them")
        if "timezone" in entries and "like" in entries:
            self.wrong(marks["timezone"], "a market has the timezone of the one that it is like")
        hours = [self._hours(item, name) for item in self.list(entries.get("hours"))]
        for before, after in pairwise(hours):
            if after.since <= before.since:
                message = f"since {after.since} does not come after {before.since}, the row before"
                self.wrong(after.mark, message)
        since, until = (self._date(entries.get(key)) for key in ("known_since", "known_until"))
        if since and until and until < since:
            self.wrong(marks["known_until"], f"known_until lies before known_since, {since}")
        return MarketDef(
            name=name,
            layer=self.name,
            mark=mark,
            like=self.text(entries.get("like")),
            calendar=self.text(entries.get("calendar")),
            any_of=tuple(filter(None, (self.text(item) for item in self.list(entries.get("any_of"))))),
            weekdays=self._weekdays(entries.get("weekdays")),
            timezone=self.parsed(entries.get("timezone"), _zone_name),
            hours=tuple(sorted(hours, key=lambda row: row.since)),
            phases=self._phases(entries.get("phases"), in_hours=False),
            changes=self._changes(entries.get("changes")),
            beyond_horizon=self.one_of(entries.get("beyond_horizon"), get_args(BeyondHorizon)),
            known_since=since,
            known_until=until,
            marks=marks,
        )

    def _hours(self, node: Node, market: str) -> Hours:
        entries = self.entries(node, f"a row of {market}'s hours", HOURS_KEYS)
        self._provenance(entries, node)
        if "phases" not in entries and isinstance(node, MapNode):
            self.wrong(node.mark, 'hours without phases; write phases: {open: "09:15..15:30"}')
        summer = None
        if "summer_time" in entries:
            parts = self.entries(entries["summer_time"], "summer_time", ("zone", "phases"))
            zone = self.parsed(parts.get("zone"), _zone_name)
            if zone is None or "phases" not in parts:
                self.wrong(entries["summer_time"].mark, "summer_time needs a zone and phases")
            else:
                summer = SummerTime(zone, self._phases(parts["phases"]))
        since = self._date(entries.get("since")) or date.min
        return Hours(since, self._phases(entries.get("phases")), summer, node.mark)

    def _changes(self, node: Node | None) -> tuple[Change, ...]:
        found = [
            change
            for key, value in self.entries(node, "changes").items()
            if node and (change := self._change(key, value, node.at([key], key=True)))
        ]
        for before, after in overlapping_ranges(tuple(found)):
            message = f"this range overlaps the one from {before.first} to {before.last}"
            self.wrong(after.mark, message)
        return tuple(sorted(found, key=lambda change: (not change.is_range, change.first)))

    def _change(self, key: str, node: Node, mark: Mark) -> Change | None:
        dates = self.attempt(mark, _dates, key)
        allowed = CHANGE_KEYS + (AUDIT_KEYS if self.name == AMENDMENT else ())
        entries = self.entries(node, f"the change of {key}", allowed)
        self._provenance(entries, node)
        closed = self._closed(entries)
        opened = None if closed else self._open(entries.get("open"))
        phases = self._phases(entries.get("phases"), in_hours=False)
        if not entries.keys() & {"closed", "open", "name", "phases"}:
            message = 'this change says nothing; write closed: true or open: ["09:15..12:30"]'
            self.wrong(mark, message)
        if phases and (closed or opened == "unknown"):
            self.wrong(entries["phases"].mark, "a day that is not open has no phases")
        if dates is None:
            return None
        settled = self.one_of(entries.get("settled"), SETTLED) or SETTLED[0]
        name = self.text(entries.get("name")) or ""
        return Change(*dates, self.name, mark, name, closed, opened, phases, settled)

    def _closed(self, entries: Mapping[str, Node]) -> bool:
        node = entries.get("closed")
        if node is None:
            return False
        if "open" in entries:
            self.wrong(node.mark, "closed and open exclude each other")
        if not (isinstance(node, ScalarNode) and node.value is True):
            self.wrong(node.mark, "closed can only be true; for the date's usual hours write open: ordinary")
        return True

    def _open(self, node: Node | None) -> Any:
        if isinstance(node, ScalarNode):
            if node.text in ("ordinary", "unknown"):
                return node.text
            if ".." not in node.text:
                guess = suggest(node.text, ("ordinary", "unknown"))
                message = f'open is ordinary, unknown or intervals such as ["09:15..12:30"]{guess}'
                self.wrong(node.mark, message)
                return None
        if isinstance(node, ListNode) and not node.items:
            self.wrong(node.mark, "open without an interval; for a day without trading write closed: true")
        return self._intervals(node) or None

    def _phases(self, node: Node | None, *, in_hours: bool = True) -> Phases:
        phases: dict[str, tuple[Interval, ...]] = {}
        for name, value in self.entries(node, "phases").items():
            mark = node.at([name], key=True) if node else None
            if name in RESERVED_PHASES:
                self.wrong(mark, f"{name!r} cannot be the name of a phase: it has a meaning of its own")
            elif name == "open" and not in_hours:
                self.wrong(mark, "the hours of `open` do not belong here; write them into hours or `open:`")
            elif not _PHASE.fullmatch(name):
                self.wrong(mark, f"{name!r} cannot be the name of a phase; use letters, digits and '-'")
            else:
                phases[name] = self._intervals(value)
        return phases

    def _intervals(self, node: Node | None) -> tuple[Interval, ...]:
        nodes = node.items if isinstance(node, ListNode) else (node,) if node else ()
        found = []
        for item in nodes:
            interval = self.parsed(item, partial(parse_interval, mark=item.mark))
            if interval is not None:
                found.append(interval)
        return tuple(found)

    def _provenance(self, entries: Mapping[str, Node], node: Node) -> None:
        """The package's own rows say where they come from, and how sure that is."""
        for key in ("source", "settled") if self.name == INDIA else ():
            if key not in entries:
                self.wrong(node.mark, f"this row does not name its {key}")
        for key in ("source", "note", *AUDIT_KEYS):
            self.text(entries.get(key))

    def _date(self, node: Node | None) -> date | None:
        return self.parsed(node, _one_date)

    def _weekdays(self, node: Node | None) -> frozenset[int] | None:
        if not isinstance(node, ListNode):
            return self.parsed(node, parse_weekdays)
        days = [self.parsed(item, parse_weekdays) for item in self.list(node)]
        return frozenset().union(*(found for found in days if found))


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
