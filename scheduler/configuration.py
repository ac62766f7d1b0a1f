"""Everything that is configured, read and validated as one: files and calendars -> specs and tables.

A configuration is good as a whole or refused as a whole (law 7), with every problem of every file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Final, NamedTuple

from scheduler.calendars import Built, Calendars
from scheduler.core.alerting import Alert
from scheduler.core.market import MarketTable
from scheduler.core.marketspec import MarketsFile
from scheduler.core.messages import SECOND, CacheSpec, Instant, TaskSpec
from scheduler.errors import ConfigurationError, Problem, UsageError
from scheduler.marketfile import (
    AMENDMENTS,
    MARKETS_FILE,
    Entry,
    amended,
    amendments_file,
    read_markets,
    read_trail,
)
from scheduler.ownership import check_writable_by_others
from scheduler.settings import Settings
from scheduler.taskfile import TaskFile, in_order, read_tasks, task_files

ACCEPTED: Final = "accepted"  # in the state directory: a copy of the files the daemon runs by

_AHEAD = timedelta(days=400)  # how far the tables of a running daemon reach; rebuilt daily
_BEHIND = timedelta(days=10)


@dataclass(frozen=True, slots=True)
class Window:
    """The dates, both included, that the markets' tables are to cover."""

    first: date
    last: date

    @classmethod
    def around(cls, now: Instant, since: Instant | None = None) -> Window:
        """Of a running daemon: from the oldest instant it answers for to more than a year ahead."""
        first = _date(now) - _BEHIND
        if since is not None:
            first = min(first, _date(since) - timedelta(days=3))
        return cls(first, _date(now) + _AHEAD)

    @classmethod
    def of(cls, start: Instant, until: Instant) -> Window:
        """Enough for every question between two instants, whatever the zone."""
        return cls(_date(start) - _BEHIND, _date(until) + _BEHIND)


def _date(instant: Instant) -> date:
    return datetime.fromtimestamp(instant / SECOND, UTC).date()


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the daemon runs by until the next one."""

    specs: tuple[TaskSpec, ...]
    tables: Mapping[str, MarketTable]
    zone: tzinfo
    caches: Mapping[str, CacheSpec] = field(default_factory=dict)
    default_market: str = "NSE"
    reload: str = "auto"  # auto, manual, closed-only
    sources: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()
    trail: tuple[Entry, ...] | None = ()  # of the amendments: what operators changed so far; None: unknown
    alerts: tuple[Alert, ...] = ()


Loader = Callable[[Window], Configuration]


def differing_files(directory: Path, other: Path) -> list[str]:
    """The configuration files that two directories do not both have with the same content."""
    names = {
        path.relative_to(place).as_posix()
        for place in (directory, other)
        for path in (place / MARKETS_FILE, *task_files(place))
    }
    return sorted(name for name in names if _content(directory / name) != _content(other / name))


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def file_zone(directory: Path) -> tzinfo:
    """The time zone of tasks.yaml, or its default where the file cannot be read."""
    return read_tasks(directory).timezone


class _Files(NamedTuple):
    """What the files say, before any calendar is asked. The amendments are read anew each time."""

    tasks: TaskFile
    markets: MarketsFile
    problems: tuple[Problem, ...] = ()  # besides those that the two have themselves


class FileLoader:
    """Loads a configuration directory; call it again to load it as it is then.

    ConfigurationError with every problem found.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        directory: Path | None = None,
        amendments: Path | None = None,
        markets_only: frozenset[str] | None = None,
        also: frozenset[str] = frozenset(),
    ) -> None:
        """``directory`` instead of the settings' own, ``amendments`` of another state directory.

        ``markets_only``: only these markets, no tasks. ``also``: markets besides those of the tasks.
        UsageError from a load for one of them that does not exist.
        """
        self._settings = settings
        self._directory = directory or settings.config_dir
        self._amendments = amendments or settings.state_dir
        self._markets_only = markets_only
        self._asked_for = also if markets_only is None else markets_only
        self._calendars = Calendars(settings.state_dir)
        self._files = self._good = _Files(TaskFile(), MarketsFile(()))
        self._saved_since = False  # the files on the disk may be others than those of the last load
        self._trail: tuple[Entry, ...] | None = None  # as last read

    def __call__(self, window: Window) -> Configuration:
        try:
            is_there = self._directory.is_dir()
        except OSError as error:
            raise ConfigurationError(f"{self._directory} cannot be read: {error.strerror}") from None
        if not is_there:
            raise ConfigurationError(
                f"{self._directory} is not a directory; `scheduler init {self._directory}` writes a starter"
            )
        files = self._files = self._read()
        configuration = self._build(files, window)
        self._good, self._saved_since = files, False
        return configuration

    def in_force(self, window: Window, amendments: str | None = None) -> Configuration:
        """The files of the last good load, whatever was saved since, with the amendments of now.

        ``amendments`` is a text to have instead of those in the state directory.
        """
        configuration = self._build(self._good, window, amendments)
        self._saved_since = True
        return configuration

    def _read(self) -> _Files:
        distrusted = self._guard(self._directory / MARKETS_FILE)
        tasks = read_tasks(self._directory, guard=self._guard)
        return _Files(tasks, read_markets(self._directory), (distrusted,) if distrusted else ())

    def _build(self, files: _Files, window: Window, amendments: str | None = None) -> Configuration:
        # First: what is amended from here on, while the calendars are built, is of the next load.
        unread = self._read_trail()
        tasks, markets = files.tasks, amended(files.markets, self._amendments, amendments)
        distrusted = self._guard(amendments_file(self._amendments))
        names = self._asked_for | (tasks.markets if self._markets_only is None else frozenset())
        built = self._calendars.build(
            markets, names | {markets.default}, (window.first, window.last), tasks.timezone
        )
        problems = [*files.problems, *((distrusted,) if distrusted else ()), *built.problems]
        if self._markets_only is not None:
            if problems:
                raise ConfigurationError(problems)
            self._check_existence(built)
            return Configuration((), built.tables, tasks.timezone, default_market=markets.default)
        try:
            config = tasks.compile(built.tables, markets.default, built.market_problem)
        except ConfigurationError as error:
            raise ConfigurationError(in_order([*problems, *error.problems])) from None
        if problems:
            raise ConfigurationError(problems)
        self._check_existence(built)
        return Configuration(
            config.tasks, built.tables, config.timezone, config.caches, markets.default, config.reload,
            config.sources, (*built.warnings, *unread), self._trail, config.alerts,
        )  # fmt: skip

    def _read_trail(self) -> tuple[str, ...]:
        """A warning when the trail cannot be read: it tells of changes, and is none."""
        try:
            self._trail = read_trail(self._amendments)
        except OSError as error:
            return (f"{error.filename}: {error.strerror}; what is amended applies, but is not announced",)
        return ()

    def _check_existence(self, built: Built) -> None:
        for name in sorted(self._asked_for - (built.tables.keys() - built.unread.keys())):
            raise UsageError(built.market_problem(name))

    def _guard(self, path: Path) -> Problem | None:
        """What lies in the state directory may also be its owner's: root asks about others' daemons."""
        state, uids = self._settings.state_dir, {os.geteuid()}
        if path.is_relative_to(state):
            with suppress(OSError):  # it is not there, or not ours to see: then its owner does not matter
                uids.add(state.stat().st_uid)
        return check_writable_by_others(path, uids, self._settings.config_gids)

    def problem(self, task: str, message: str, *path: str, key: bool = False) -> Problem:
        """A problem with a value of a task (``key``: its key), at its place in the files as last loaded."""
        entry = next(entry for entry in self._files.tasks.tasks if entry.name == task)
        return entry.problem(message, *path, key=key)

    def alert_problem(self, at: int, message: str) -> Problem:
        """A problem with what the alert at this position sends to."""
        return Problem(self._files.tasks.alert_marks[at], message)

    def keep_accepted(self) -> None:
        """Keep a copy of the files that are now in force, for ``check --diff``. OSError."""
        state = self._settings.state_dir
        copy, fresh = state / ACCEPTED, state / f"{ACCEPTED}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        if self._saved_since and copy.is_dir():
            shutil.copytree(copy, fresh, ignore=shutil.ignore_patterns(AMENDMENTS))
        else:
            self._copy_files(fresh)
        amendments = amendments_file(state)
        if amendments.exists():
            target = amendments_file(fresh)
            target.parent.mkdir()
            shutil.copyfile(amendments, target)
        shutil.rmtree(copy, ignore_errors=True)
        fresh.rename(copy)

    def _copy_files(self, target: Path) -> None:
        target.mkdir(parents=True)
        markets = self._directory / MARKETS_FILE
        for path in (*self._good.tasks.sources, *([markets] if markets.is_file() else [])):
            place = target / path.relative_to(self._directory)
            place.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, place)
