"""What the daemon says of its configuration and its markets, as announcements. Pure functions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, NamedTuple

from scheduler.calendars import unsettled_days
from scheduler.configuration import Configuration
from scheduler.core import events
from scheduler.core.market import REFUSE, MarketTable
from scheduler.core.messages import DAY, Announce, Instant
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
_FARTHEST = 7 * DAY  # how far ahead a difference in runs is looked for
_MOST_DIFFERENCES = 20  # lines


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
    if any(tasks.values()) or cause != DAILY:
        yield Announce(events.CONFIG_RELOADED, "info", {"cause": cause, **tasks})
    for entry in new.trail[len(old.trail) :]:
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
    found = differences(old, new, now)
    for line in found[:_MOST_DIFFERENCES]:
        yield Announce(events.CONFIG_DIFFERENCE, "info", {"runs": str(line)})
    if len(found) > _MOST_DIFFERENCES:
        more = {"runs": f"and {len(found) - _MOST_DIFFERENCES} more dates and tasks"}
        yield Announce(events.CONFIG_DIFFERENCE, "info", more)


def differences(old: Configuration, new: Configuration, now: Instant) -> list[Difference]:
    """The change in runs to the end of the day of the next session, and on later days that change."""
    last = min(table.last for table in (*old.tables.values(), *new.tables.values()))
    until = min(last, max(_day_of_next_session(old, now), _day_of_next_session(new, now)))
    later = {day for day in _changed_days(old, new) if until <= day[0] and day[1] <= last}
    found = []
    for start, end in ((now + 1, until), *sorted(later)):
        if start < end:
            found += difference((old.specs, old.tables), (new.specs, new.tables), start, end)
    return found


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
                "known_until": to_iso(end, table.zone),
                "days": (end - now) // DAY,
                "then": table.beyond_horizon,
            }
            yield Announce(event, "warning", fields)


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
            what = f"{known}; {'now' if is_past else 'then'} {_BEYOND[table.beyond_horizon]}"
            blocking = is_past and table.beyond_horizon == REFUSE and name in in_use
            concerns.append(Concern(name, what, blocking))
    return Readiness(not any(concern.blocking for concern in concerns), tuple(concerns))
