"""What the daemon says of its configuration and its markets, as announcements. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator

from scheduler.configuration import Configuration
from scheduler.core import events
from scheduler.core.messages import DAY, Announce, Instant
from scheduler.core.plan import Difference, difference
from scheduler.times import to_iso

DAILY = "daily refresh"  # the cause of a reload that nobody asked for
HORIZON_NEAR = 45 * DAY  # from then on it is warned daily
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
    """Each market's phase, why and until when, and what runs next."""
    phases = {}
    for name, table in configuration.tables.items():
        piece = table.phase_at(now)
        why = f" ({piece.reason})" if piece.reason else ""
        phases[name] = f"{piece.phase}{why} until {to_iso(table.next_change(now), table.zone)}"
    following = [f"{name} at {to_iso(due, configuration.zone)}" for due, name in coming]
    return Announce(events.DAEMON_READY, "info", {**phases, "next": following})


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
    for name, table in new.tables.items():
        known = old.tables.get(name)
        if known is not None and known.version != table.version:
            fields = {"market": name, "calendar": table.version, "was": known.version}
            yield Announce(events.MARKET_CHANGED, "info", fields)
    yield from warnings(new)
    found = differences(old, new, now)
    for line in found[:_MOST_DIFFERENCES]:
        yield Announce(events.CONFIG_DIFFERENCE, "info", {"runs": str(line)})
    if len(found) > _MOST_DIFFERENCES:
        more = {"runs": f"and {len(found) - _MOST_DIFFERENCES} more dates and tasks"}
        yield Announce(events.CONFIG_DIFFERENCE, "info", more)


def differences(old: Configuration, new: Configuration, now: Instant) -> list[Difference]:
    """The change in runs from now to the end of the default market's next session."""
    until = now + _FARTHEST
    table = new.tables.get(new.default_market)
    if table is not None and (at := table.first_session_from(now)) < len(table.sessions):
        until = min(until, table.sessions[at].end)
    until = min([until, *(table.last for table in (*old.tables.values(), *new.tables.values()))])
    if until <= now:
        return []
    return difference((old.specs, old.tables), (new.specs, new.tables), now + 1, until)


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
