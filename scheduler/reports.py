"""What the daemon says of its configuration and its markets, as announcements. Pure functions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from datetime import tzinfo
from typing import Any, NamedTuple

from scheduler.calendars import unsettled_days
from scheduler.configuration import Configuration
from scheduler.core import events
from scheduler.core.market import REFUSE, MarketTable
from scheduler.core.marketspec import ALWAYS
from scheduler.core.messages import DAY, Announce, Instant, Level
from scheduler.core.plan import Difference, difference
from scheduler.core.walltime import to_wall
from scheduler.times import to_iso

DAILY = "daily refresh"  # the cause of a reload that nobody asked for
HORIZON_NEAR = 45 * DAY  # from then on it is warned daily
_BEYOND = {
    "assume-weekdays": "weekdays are assumed to be sessions",
    "closed": "it is taken for closed",
    REFUSE: "nothing is started",
}
_AMISS = {  # in the status line: what is worth saying of tasks, and the words of the engine for it
    "restarting": ("backing-off", "crash-looping"),
    "parked": ("parked", "refused"),
    "paused": ("paused",),
}
_MOST_MARKETS = 3  # in the status line
_SETTINGS = {  # of the files besides tasks and calendars; as they are called there
    "zone": "timezone",
    "caches": "cache",
    "default_market": "default",
    "reload": "reload",
    "alerts": "alerts",
}
_FARTHEST = 7 * DAY  # how far ahead a difference in runs is looked for
_MOST_DIFFERENCES = 20  # lines
_MOST_DAYS = 5  # days after the next session that are compared; a change of hours touches every day


class Reloaded(NamedTuple):
    """What came of a reload, and what was said of it."""

    accepted: bool
    problems: tuple[str, ...] = ()
    told: tuple[Announce, ...] = ()
    again: bool = False  # whether the same files may be accepted another time

    def __bool__(self) -> bool:
        return self.accepted

    def fields(self, event: str) -> list[Mapping[str, Any]]:
        """The fields of what was said under this name."""
        return [announcement.fields for announcement in self.told if announcement.event == event]


def loaded(configuration: Configuration) -> Iterator[Announce]:
    """What was read."""
    enabled = sum(spec.enabled for spec in configuration.specs)
    yield Announce(
        events.CONFIG_LOADED,
        "info",
        {
            "tasks": enabled,
            "disabled": len(configuration.specs) - enabled,
            "markets": sorted(configuration.tables),
            "files": [str(path) for path in configuration.sources],
        },
    )
    yield from warnings(configuration)


def warnings(configuration: Configuration) -> Iterator[Announce]:
    """What the calendars rest on although it is not certain."""
    for warning in configuration.warnings:
        yield Announce(events.CALENDAR_WARNING, "warning", {"detail": warning})


def ready(configuration: Configuration, coming: list[tuple[Instant, str]], now: Instant) -> Announce:
    """Each market's phase, why and until when, what runs next, and what stands in the way."""
    phases = {}
    for name, table in configuration.tables.items():
        piece = table.phase_at(now)
        why = ", ".join(part for part in (piece.reason, "assumed" if piece.assumed else "") if part)
        why = f" ({why})" if why else ""
        phases[name] = f"{piece.phase}{why} until {to_iso(table.next_change(now), table.zone)}"
    following = [f"{name} at {to_iso(due, configuration.zone)}" for due, name in coming]
    state = readiness(configuration, now)
    fields: dict[str, Any] = {**phases, "next": following, "ready": state.ready}
    if state.concerns:
        fields["concerns"] = [str(concern) for concern in state.concerns]
    return Announce(events.DAEMON_READY, "info" if state.ready else "warning", fields)


def changed(old: Configuration, new: Configuration, now: Instant, cause: str) -> Iterator[Announce]:
    """What a reload does to tasks and calendars, and what that is in runs."""
    before = {spec.name: spec for spec in old.specs}
    after = {spec.name: spec for spec in new.specs}
    tasks = {
        "added": sorted(after.keys() - before.keys()),
        "removed": sorted(before.keys() - after.keys()),
        "changed": sorted(name for name in before.keys() & after.keys() if before[name] != after[name]),
    }
    others = [word for name, word in _SETTINGS.items() if getattr(old, name) != getattr(new, name)]
    if any(tasks.values()) or others or cause != DAILY:
        settings = {"settings": others} if others else {}
        yield Announce(events.CONFIG_RELOADED, "info", {"cause": cause, **tasks, **settings})
    told_of = len(new.trail or () if old.trail is None else old.trail)
    for entry in (new.trail or ())[told_of:]:
        yield Announce(events.MARKET_AMENDED, "info", dict(entry))
    for name, table in new.tables.items():
        known = old.tables.get(name)
        if known is not None and known.version != table.version:
            fields = {"market": name, "calendar": table.version, "was": known.version}
            yield Announce(events.MARKET_CHANGED, "info", fields)
    if cause == DAILY:
        yield from warnings(new)  # and what is in doubt is told daily anyway
    else:
        told = [*warnings(old), *doubts(old, now)]
        yield from (warning for warning in (*warnings(new), *doubts(new, now)) if warning not in told)
    comparison = differences(old, new, now)
    for line in comparison.found[:_MOST_DIFFERENCES]:
        level: Level = "warning" if line.too_late else "info"
        yield Announce(events.CONFIG_DIFFERENCE, level, {"runs": str(line)})
    more = comparison.more(_MOST_DIFFERENCES)
    if more:
        yield Announce(events.CONFIG_DIFFERENCE, "info", {"runs": more})


class Comparison(NamedTuple):
    """What a change does to the coming runs."""

    found: list[Difference]
    days_left_out: int  # on which markets change as well

    def more(self, shown: int = 1 << 30) -> str:
        """What is not among the first ``shown``, in words; "" for nothing."""
        rest = len(self.found) - shown
        parts = [f"{rest} more dates and tasks"] if rest > 0 else []
        parts += [f"{self.days_left_out} more days on which markets change"] if self.days_left_out else []
        return f"and {', '.join(parts)}" if parts else ""

    def lines(self) -> list[str]:
        return [*map(str, self.found), *filter(None, [self.more()])]


def differences(old: Configuration, new: Configuration, now: Instant) -> Comparison:
    """The change in runs to the end of the day of the next session, and on the next days that change."""
    last = min(table.last for table in (*old.tables.values(), *new.tables.values()))
    until = min(last, max(_day_of_next_session(old, now), _day_of_next_session(new, now)))
    changing = {day for day in _changed_days(old, new) if until <= day[0] and day[1] <= last}
    later = sorted(changing)[:_MOST_DAYS]
    found = []
    for start, end in ((now + 1, until), *later):
        if start < end:
            found += difference((old.specs, old.tables), (new.specs, new.tables), start, end)
    return Comparison(found, len(changing) - len(later))


def _day_of_next_session(configuration: Configuration, now: Instant) -> Instant:
    """The midnight at the end of the date of the default market's next session."""
    table = configuration.tables.get(configuration.default_market)
    if table is None or (at := table.first_session_from(now)) == len(table.sessions):
        return now + _FARTHEST
    return min(_day_end(table, table.sessions[at].end - 1), now + _FARTHEST)


def _changed_days(old: Configuration, new: Configuration) -> Iterator[tuple[Instant, Instant]]:
    """The days, from midnight to midnight, on which a market does not do what it did."""
    for name in old.tables.keys() & new.tables.keys():
        before, after = old.tables[name], new.tables[name]
        if before.version == after.version:
            continue
        first, last = max(before.first, after.first), min(before.last, after.last)
        was, will = (
            {(piece.midnight, *piece[:4]) for piece in table.pieces if first <= piece.start < last}
            for table in (before, after)
        )
        for midnight in {piece[0] for piece in was ^ will}:
            yield midnight, _day_end(after, midnight)


def _day_end(table: MarketTable, t: Instant) -> Instant:
    """The midnight after an instant."""
    following = bisect_right(table.days, t, key=lambda day: day.midnight)
    return table.days[following].midnight if following < len(table.days) else table.last


def doubts(configuration: Configuration, now: Instant) -> Iterator[Announce]:
    """What is warned of daily."""
    yield from horizons(configuration, now)
    yield from unsettled(configuration, now)


def next_doubt(configuration: Configuration, now: Instant) -> Instant:
    """When to warn again: a day later, or as soon as a known calendar ends."""
    ends = (table.known_until for table in configuration.tables.values())
    return min([now + DAY, *(end for end in ends if end is not None and end > now)])


def unsettled(configuration: Configuration, now: Instant) -> Iterator[Announce]:
    """The coming dates of which something was announced that is not certain."""
    for name, table in configuration.tables.items():
        for day in unsettled_days(table, to_wall(now, table.zone).date()):
            fields = {"market": name, "date": day.date, "reason": day.reason}
            yield Announce(events.MARKET_UNSETTLED, "warning", fields)


def horizons(configuration: Configuration, now: Instant) -> Iterator[Announce]:
    """The markets whose known calendar ends soon, or has ended."""
    for name, table in configuration.tables.items():
        end = table.known_until
        if end is not None and end - now <= HORIZON_NEAR:
            event = events.MARKET_HORIZON_NEAR if now < end else events.MARKET_BEYOND_HORIZON
            fields = {
                "market": name,
                "known_until": str(to_wall(end - 1, table.zone).date()),
                "days": max(0, (end - now) // DAY),
                "then": table.beyond_horizon,
            }
            yield Announce(event, "warning", fields)


def status_line(
    configuration: Configuration, tally: Mapping[str, int], coming: list[tuple[Instant, str]], now: Instant
) -> str:
    """``NSE open until 15:30 · 12 tasks, 1 restarting · next market-monitoring 09:15:05``.

    ``tally`` and ``coming`` are of the engine: how many tasks are in which state, and what runs next.
    """
    parts = [", ".join(_in_short(table, now) for table in _in_use(configuration)[:_MOST_MARKETS])]
    total = sum(tally.values())
    tasks = [f"{total} task{'' if total == 1 else 's'}"]
    for word, states in _AMISS.items():
        count = sum(tally.get(state, 0) for state in states)
        tasks += [f"{count} {word}"] if count else []
    parts.append(", ".join(tasks))
    parts += [f"next {name} {_hour(due, now, configuration.zone)}" for due, name in coming[:1]]
    state = readiness(configuration, now)
    if not state.ready:
        parts.append(str(state))
    return " · ".join(part for part in parts if part)


def _in_use(configuration: Configuration) -> list[MarketTable]:
    """The markets that tasks go by, the default first; not the one that never closes, unless it is alone."""
    used = {spec.market for spec in configuration.specs if spec.enabled}
    default = configuration.default_market
    names = sorted(used & configuration.tables.keys(), key=lambda name: (name != default, name))
    names = [name for name in names if name != ALWAYS] or names
    return [configuration.tables[name] for name in names]


def _in_short(table: MarketTable, now: Instant) -> str:
    """``NSE closed (weekend) until Mon 23 Nov 09:00``."""
    if not table.first <= now < table.last:
        return f"{table.name} unknown"
    piece = table.phase_at(now)
    why = f" ({piece.reason})" if piece.reason else ""
    until = "" if table.name == ALWAYS else f" until {_hour(table.next_change(now), now, table.zone)}"
    return f"{table.name} {piece.phase}{why}{until.removesuffix(':00')}"


def _hour(t: Instant, now: Instant, zone: tzinfo) -> str:
    wall = to_wall(t, zone)
    day = "" if wall.date() == to_wall(now, zone).date() else f"{wall:%a} {wall.day} {wall:%b} "
    return f"{day}{wall:%H:%M:%S}"


class Concern(NamedTuple):
    """Something about a market that an operator should know."""

    market: str
    what: str
    blocking: bool  # its tasks are not started

    def __str__(self) -> str:
        return f"{self.market}: {self.what}"


class Readiness(NamedTuple):
    """Whether the scheduler starts what is due, and what speaks or will speak against it."""

    ready: bool
    concerns: tuple[Concern, ...]

    def __str__(self) -> str:
        """``ready``, or ``not ready`` and why."""
        problems = [str(concern) for concern in self.concerns if concern.blocking]
        return f"not ready: {'; '.join(problems)}" if problems else "ready"


def readiness(configuration: Configuration, now: Instant) -> Readiness:
    """Not ready while a market with tasks is past its horizon and set to refuse."""
    in_use = {spec.market for spec in configuration.specs if spec.enabled}
    concerns = []
    for name, table in configuration.tables.items():
        end = table.known_until
        if end is not None and end - now <= HORIZON_NEAR:
            is_past = now >= end
            known = (
                f"its calendar {'was' if is_past else 'is'} known until {to_wall(end - 1, table.zone).date()}"
            )
            refuses = table.refuses(now)
            when = "now" if is_past else "then"
            if is_past and table.beyond_horizon == REFUSE and not refuses:
                when = "today is stated, but else"
            what = f"{known}; {when} {_BEYOND[table.beyond_horizon]}"
            concerns.append(Concern(name, what, refuses and name in in_use))
    return Readiness(not any(concern.blocking for concern in concerns), tuple(concerns))
