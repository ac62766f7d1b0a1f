"""`scheduler market amend`: an operator's change of one date, checked with everything before it is kept."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from scheduler.calendars import resting_on
from scheduler.configuration import ACCEPTED, Configuration, FileLoader, Window, file_zone
from scheduler.core.marketspec import parse_interval
from scheduler.core.messages import SECOND, Instant
from scheduler.core.walltime import to_wall
from scheduler.errors import ConfigurationError, Mark, Problem, UsageError
from scheduler.lock import locked_by
from scheduler.marketfile import (
    AmendmentsLock,
    Changes,
    Entry,
    amendments_file,
    amendments_text,
    read_changes,
    read_markets,
)
from scheduler.reports import differences
from scheduler.settings import Settings
from scheduler.times import parse_date, to_iso

_FARTHEST = 366  # days; a date farther off is likelier a mistyped year
_AROUND = timedelta(days=4)  # a session over midnight, and what is anchored to its close
_AUDIT = ("by", "at", "note")


@dataclass(frozen=True, slots=True)
class Wish:
    """What an operator wants for a date: a change, its keys as in markets.yaml, or none any more."""

    market: str
    day: date
    change: Mapping[str, Any] | None
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.market} {self.day}"


@dataclass(slots=True)
class Outcome:
    """What is to be told to the operator."""

    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def amend(settings: Settings, wish: Wish, now: Instant) -> Outcome:
    """Lay a change over a date, or take back the one there is.

    UsageError for a market, date or amendment that does not exist, ConfigurationError when tasks and
    markets would not fit together with it; then nothing is changed.
    """
    zone = file_zone(settings.config_dir)
    today = to_wall(now, zone).date()
    if abs((wish.day - today).days) > _FARTHEST:
        raise UsageError(f"{wish.day} is more than a year away from today, {today}; is the year right?")
    window = Window.around(now)
    window = Window(min(window.first, wish.day - _AROUND), window.last)
    outcome = Outcome()
    with _locked(settings.state_dir) as lock:
        loader, before = _load(settings, wish.market, window, outcome)
        changes = read_changes(settings.state_dir)
        audit = {"at": to_iso(now // SECOND * SECOND, zone), "by": _operator()}
        entry = _apply(wish, changes, audit, outcome)
        text = amendments_text(changes)
        after = _checked(loader, window, text, settings.state_dir, wish)
        lock.keep(text, entry)
    if wish.day < to_wall(now, after.tables[wish.market].zone).date():
        outcome.warnings.append(f"{wish.day} is past: calendar and plan show it, no run is affected")
    elif _ends_late(after, wish):
        outcome.warnings.append(f"the session of {wish} ends on a later day; is that meant?")
    told = differences(before, after, now).lines()
    outcome.lines += told or ["no run is added, removed or moved"]
    outcome.lines.append(_fate(settings.state_dir, before, after))
    return outcome


def _apply(wish: Wish, changes: Changes, audit: Entry, outcome: Outcome) -> Entry:
    """Change the changes; the entry of the trail that says so."""
    day = str(wish.day)
    dates = changes.setdefault(wish.market, {})
    known = dates.get(day)
    reason = {"reason": wish.reason} if wish.reason else {}
    entry = {**audit, "market": wish.market, "date": day}
    if wish.change is not None:
        dates[day] = {**wish.change, **({"note": wish.reason} if wish.reason else {}), **audit}
        outcome.lines.append(f"{wish}: {describe(wish.change)}")
        if known is not None:
            outcome.lines.append(f"in the place of: {_recorded(known)}")
        return {**entry, "action": "amend", "change": describe(wish.change), **reason}
    if known is None:
        raise UsageError(f"there is no amendment of {wish.market} on {day}; {_there_are(changes)}")
    del dates[day]
    outcome.lines.append(f"{wish}: taken back: {_recorded(known)}")
    return {**entry, "action": "revert", "change": describe(known), **reason}


def amendments(settings: Settings) -> Iterator[Mapping[str, Any]]:
    """What is in force, by market and date."""
    for market, dates in sorted(read_changes(settings.state_dir).items()):
        for day, change in sorted(dates.items()):
            audit = {key: change.get(key, "") for key in _AUDIT}
            yield {"market": market, "date": day, "change": describe(change), **audit}


def wish(market: str, day: str, *, closed: bool, hours: str | None, name: str | None, reason: str) -> Wish:
    """From what stands on a command line; neither closed nor hours: a revert. UsageError."""
    wanted = parse_date(day)
    for option, text in (("--name", name or " "), ("--reason", reason or " ")):
        if not text.isprintable():
            raise UsageError(f"{option}: {text!r} has characters that cannot be printed")
    if not closed and hours is None:
        return Wish(market, wanted, None, reason)
    change: dict[str, Any] = {"closed": True} if hours is None else {"open": _opening(hours)}
    return Wish(market, wanted, change | ({"name": name} if name else {}), reason)


def _opening(text: str) -> str | list[str]:
    """What ``--open`` says, as ``open`` in markets.yaml."""
    if text in ("ordinary", "unknown"):
        return text
    intervals = [part.strip() for part in text.split(",")]
    for interval in intervals:
        try:
            parse_interval(interval, Mark("", 0, 0))
        except ValueError as error:
            raise UsageError(f"--open: {error}; or ordinary, or unknown") from None
    return intervals


def describe(change: Mapping[str, Any]) -> str:
    """``closed, State funeral`` or ``open 09:15..11:40,15:45..17:00``."""
    hours = change.get("open")
    parts = ["closed"] if change.get("closed") else []
    if hours is not None:
        parts.append(f"open {hours if isinstance(hours, str) else ','.join(hours)}")
    if "phases" in change:
        parts.append(f"phases {json.dumps(change['phases'], ensure_ascii=False)}")
    return ", ".join([*parts, *([change["name"]] if change.get("name") else [])])


def _recorded(change: Mapping[str, Any]) -> str:
    return f"{describe(change)} ({change.get('by', 'unknown')}, {change.get('at', 'unknown')})"


def _there_are(changes: Changes) -> str:
    known = [f"{market} {day}" for market, dates in sorted(changes.items()) for day in sorted(dates)]
    return f"there are {', '.join(known)}" if known else "there are none at all"


def _operator() -> str:
    """The login name and number of whoever is at the keyboard. What sudo says is believed from root only."""
    uid = os.getuid()
    name, number = os.environ.get("SUDO_USER"), os.environ.get("SUDO_UID", "")
    if uid == 0 and name and number.isdecimal():
        return f"{name} (uid {number}, by sudo)"
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


@contextmanager
def _locked(state: Path) -> Iterator[AmendmentsLock]:
    """OSError becomes a message: nearly always the directory is the daemon's user's."""
    try:
        with AmendmentsLock(state) as lock:
            yield lock
    except OSError as error:
        place = error.filename or state
        raise ConfigurationError(
            f"{place}: {error.strerror}; nothing was changed. Amend as root or as the user of the daemon, "
            "with its state directory (SCHEDULER_STATE_DIR)"
        ) from None


def _load(
    settings: Settings, market: str, window: Window, outcome: Outcome
) -> tuple[FileLoader, Configuration]:
    """The files as they are, or those in force while a mistake in them waits to be mended."""
    accepted = settings.state_dir / ACCEPTED
    also = resting_on(read_markets(settings.config_dir), market)
    loader = FileLoader(settings, also=also)
    try:
        return loader, loader(window)
    except ConfigurationError as error:
        loader = FileLoader(settings, directory=accepted, also=resting_on(read_markets(accepted), market))
        try:
            configuration = loader(window)
        except ConfigurationError:  # there are none, or the amendments themselves are wrong
            raise error from None
        outcome.warnings += [str(problem) for problem in error.problems]
        outcome.warnings.append("because of this the change was checked with the files in force")
        return loader, configuration


def _checked(loader: FileLoader, window: Window, text: str, state: Path, wish: Wish) -> Configuration:
    try:
        return loader.in_force(window, text)
    except ConfigurationError as error:
        place = str(amendments_file(state))
        problems = [
            Problem(None, f"{wish}: {problem.message}")
            if problem.mark is not None and problem.mark.file == place  # a text that nobody has seen
            else problem
            for problem in error.problems
        ]
        raise ConfigurationError([*problems, Problem(None, "nothing was changed")]) from None


def _ends_late(configuration: Configuration, wish: Wish) -> bool:
    table = configuration.tables[wish.market]
    sessions = [session for session in table.sessions if session.date == str(wish.day)]
    is_special = isinstance((wish.change or {}).get("open"), list)
    return is_special and any(to_wall(one.close - 1, table.zone).date() > wish.day for one in sessions)


def _fate(state: Path, old: Configuration, new: Configuration) -> str:
    """Which markets it reaches, where it is kept, and who takes it when."""
    reached = [name for name, table in new.tables.items() if table.version != old.tables[name].version]
    process = locked_by(state)
    who = (
        f"the daemon (process {process}) takes it within two seconds"
        if process is not None
        else f"no daemon runs with {state}; the next one to start takes it"
    )
    markets = f"reaches {', '.join(sorted(reached))}" if reached else "changes no calendar"
    return f"kept in {amendments_file(state)}, {markets}; {who}"
