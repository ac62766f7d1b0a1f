"""Everything that is configured, read and validated as one: files and calendars -> specs and tables.

A configuration is good as a whole or refused as a whole (law 7), with every problem of every file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from typing import Final

from scheduler.calendars import Calendars
from scheduler.core.market import MarketTable
from scheduler.core.messages import SECOND, CacheSpec, Instant, TaskSpec
from scheduler.errors import ConfigurationError, Problem, UsageError
from scheduler.marketfile import MARKETS_FILE, read_markets
from scheduler.ownership import check_writable_by_others
from scheduler.settings import Settings
from scheduler.taskfile import TaskFile, in_order, read_tasks

ACCEPTED: Final = "accepted"  # in the state directory: a copy of the files the daemon runs by

_AHEAD = timedelta(days=400)  # how far the tables of a running daemon reach; rebuilt daily
_BEHIND = timedelta(days=10)


@dataclass(frozen=True, slots=True)
class Window:
    """The dates, both included, that the markets' tables are to cover."""

    first: date
    last: date
    today: date | None = None  # to be told what is not settled in the weeks from here on

    @classmethod
    def around(cls, now: Instant, since: Instant | None = None) -> Window:
        """Of a running daemon: from the oldest instant it answers for to more than a year ahead."""
        first = _date(now) - _BEHIND
        if since is not None:
            first = min(first, _date(since) - timedelta(days=3))
        return cls(first, _date(now) + _AHEAD, _date(now))

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


Loader = Callable[[Window], Configuration]


def file_zone(directory: Path) -> tzinfo:
    """The time zone of tasks.yaml, or its default where the file cannot be read."""
    return read_tasks(directory).timezone


class FileLoader:
    """Loads a configuration directory; call it again to load it as it is then.

    ConfigurationError with every problem found.
    """

    def __init__(
        self, settings: Settings, *, directory: Path | None = None, markets_only: frozenset[str] | None = None
    ) -> None:
        """``directory`` instead of the settings' own. ``markets_only``: only these markets, no tasks."""
        self._settings = settings
        self._directory = directory or settings.config_dir
        self._markets_only = markets_only
        self._calendars = Calendars(settings.state_dir)
        self._tasks = TaskFile()

    def __call__(self, window: Window) -> Configuration:
        directory = self._directory
        if not directory.is_dir():
            raise ConfigurationError(
                f"{directory} is not a directory; `scheduler init {directory}` writes a starter"
            )
        guard = partial(check_writable_by_others, allowed_gids=self._settings.config_gids)
        markets = read_markets(directory, self._settings.state_dir)
        problems: list[Problem] = []
        distrusted = guard(directory / MARKETS_FILE) if (directory / MARKETS_FILE).exists() else None
        if distrusted:
            problems.append(distrusted)
        tasks = read_tasks(directory, guard=guard)
        self._tasks = tasks
        names = tasks.markets if self._markets_only is None else self._markets_only
        built = self._calendars.build(
            markets, names | {markets.default}, (window.first, window.last), tasks.timezone, window.today
        )
        problems += built.problems
        if self._markets_only is not None:
            if problems:
                raise ConfigurationError(problems)
            for name in sorted(names - built.tables.keys()):
                raise UsageError(built.market_problem(name))
            return Configuration((), built.tables, tasks.timezone, default_market=markets.default)
        try:
            config = tasks.compile(built.tables, markets.default, built.market_problem)
        except ConfigurationError as error:
            raise ConfigurationError(in_order([*problems, *error.problems])) from None
        if problems:
            raise ConfigurationError(problems)
        return Configuration(
            config.tasks, built.tables, config.timezone, config.caches, markets.default, config.reload,
            config.sources, built.warnings,
        )  # fmt: skip

    def problem(self, task: str, key: str, message: str) -> Problem:
        """A problem with a key of a task, at its place in the files as of the last load."""
        entry = next(entry for entry in self._tasks.tasks if entry.name == task)
        return entry.problem(message, key)

    def keep_accepted(self) -> None:
        """Keep a copy of the files that are now in force, for ``check --diff``. OSError."""
        state = self._settings.state_dir
        copy, fresh = state / ACCEPTED, state / f"{ACCEPTED}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        markets = self._directory / MARKETS_FILE
        for path in (*self._tasks.sources, *([markets] if markets.is_file() else [])):
            target = fresh / path.relative_to(self._directory)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
        shutil.rmtree(copy, ignore_errors=True)
        fresh.rename(copy)
