"""The daemon inside a Python program's own event loop.

scheduler = Scheduler()
scheduler.register_task("monitor", monitor_loop, priority="critical", market_hours_only=True)
await scheduler.start()
...
await scheduler.stop()
"""

from __future__ import annotations

import asyncio
import inspect
import tempfile
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from scheduler.cache import SharedCache
from scheduler.calendars import Calendars
from scheduler.clock import Clock, SystemClock
from scheduler.configuration import Configuration, Window
from scheduler.core.durations import parse_duration
from scheduler.core.messages import CacheSpec, CancelRequested, Event, RunNow
from scheduler.daemon import Daemon
from scheduler.errors import ConfigurationError, SchedulerError, UnknownTaskError
from scheduler.marketfile import read_markets
from scheduler.taskfile import task_from_options

_TRIGGERS = frozenset({"every", "at", "cron", "on", "after", "keep_running"})


class Scheduler:
    """A scheduler for one event loop. Tasks are registered before the start, or while it runs."""

    def __init__(
        self,
        *,
        state_dir: Path | str | None = None,
        market: str = "NSE",
        timezone: str = "Asia/Kolkata",
        markets_dir: Path | str | None = None,
        cache: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """``state_dir`` keeps the ledger; without one nothing outlives ``stop``. ``market`` is that of
        tasks which name none, ``markets_dir`` a directory with a markets.yaml. ``cache`` maps the
        namespaces of the shared cache to their ttl: ``{"market_data": "5s"}``.
        """
        self._state = Path(state_dir) if state_dir is not None else None
        self._market = market
        self._zone = ZoneInfo(timezone)
        self._markets_dir = Path(markets_dir) if markets_dir is not None else None
        self._caches = {name: CacheSpec(ttl=parse_duration(ttl)) for name, ttl in (cache or {}).items()}
        self._clock = clock or SystemClock()
        self._options: dict[str, dict[str, Any]] = {}
        self._callables: dict[str, Callable[..., Any]] = {}
        self._daemon: Daemon | None = None
        self._changing = asyncio.Lock()  # one start or stop at a time
        self._state_dir = Path()
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def register_task(
        self,
        name: str,
        work: Callable[..., Any],
        *,
        priority: str = "important",
        market_hours_only: bool = False,
        **options: Any,
    ) -> None:
        """Add a task. ``options`` are the keys of a task in tasks.yaml (``with_`` for ``with``).

        A coroutine function without a trigger is a loop of its own (``while True: … sleep``): it is
        kept running. A plain function without one runs at the pace of its priority, in a thread.
        ConfigurationError, at the start or at once while it runs, for options that a file could not
        have either; ValueError for a name that is taken.
        """
        if name in self._options:
            raise ValueError(f"a task named {name!r} is registered already")
        given = {key.rstrip("_"): value for key, value in options.items()}
        if not given.keys() & _TRIGGERS and inspect.iscoroutinefunction(work):
            given["keep_running"] = True
        given |= {"priority": priority, "market_hours_only": market_hours_only}
        if self._daemon is not None:
            self._check(name, given, self._daemon.configuration)
        self._options[name] = given
        self._callables[name] = work
        if self._daemon is not None:
            self._daemon.register(name, work)
            self._daemon.reload_soon(f"registered {name}")

    async def start(self) -> None:
        """Start all tasks; once started, nothing happens. SchedulerError when it cannot be."""
        async with self._changing:
            if self._daemon is None:
                await self._start()

    async def _start(self) -> None:
        if self._state is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="scheduler-")
        state = self._state_dir = self._state or Path(self._scratch.name if self._scratch else "")
        calendars = Calendars(state)
        known = dict(self._callables)
        daemon = Daemon(
            lambda window: self._configuration(calendars, window),
            state=state,
            clock=self._clock,
            callables=known,
        )
        try:
            await daemon.start()
        except BaseException:
            self._clean()
            raise
        self._daemon = daemon
        for name in [name for name in self._callables if name not in known]:  # registered meanwhile
            daemon.register(name, self._callables[name])
            daemon.reload_soon(f"registered {name}")

    async def stop(self) -> None:
        """End all tasks within their grace, and everything else; when stopped, nothing happens."""
        async with self._changing:
            daemon, self._daemon = self._daemon, None
            if daemon is not None:
                await daemon.stop()
                self._clean()

    def health(self) -> dict[str, Any]:
        """Whether it runs and nothing is parked or crash-looping, with each task's state."""
        rows = self._daemon.engine.snapshot() if self._daemon is not None else []
        bad = ("parked", "crash-looping", "refused")
        troubled = [row["task"] for row in rows if row["state"] in bad or row["health"] in bad]
        return {
            "running": self._daemon is not None,
            "healthy": self._daemon is not None and not troubled,
            "troubled": troubled,
            "tasks": {row["task"]: row for row in rows},
        }

    @property
    def cache(self) -> SharedCache:
        """The cache shared by all tasks. SchedulerError before the start."""
        return self._running().cache

    def run_now(self, name: str) -> None:
        """Run a task at once, besides its trigger. UnknownTaskError."""
        self._tell(RunNow(name))

    def cancel(self, run_id: str) -> None:
        """End a run that is alive."""
        self._tell(CancelRequested(run_id))

    def _tell(self, event: Event) -> None:
        self._running().handle(event)

    def _running(self) -> Daemon:
        if self._daemon is None:
            raise SchedulerError("the scheduler has not been started")
        return self._daemon

    def _configuration(self, calendars: Calendars, window: Window) -> Configuration:
        markets = read_markets(self._markets_dir or self._state_dir)
        names = {str(options.get("market", self._market)) for options in self._options.values()} | {
            self._market
        }
        span: tuple[date, date] = (window.first, window.last)
        built = calendars.build(markets, names, span, self._zone)
        problems = list(built.problems)
        if problems:
            raise ConfigurationError(problems)
        others = frozenset(self._options)
        specs = tuple(
            task_from_options(
                name, options, markets=built.tables, default_market=self._market, timezone=self._zone,
                target=name, others=others,
            )
            for name, options in self._options.items()
        )  # fmt: skip
        return Configuration(
            specs, built.tables, self._zone, self._caches, self._market, warnings=built.warnings
        )

    def _check(self, name: str, options: Mapping[str, Any], running: Configuration) -> None:
        """Refuse a bad task by itself: with the others it would refuse the next reload as a whole."""
        if options.get("market", self._market) in running.tables:
            task_from_options(
                name, options, markets=running.tables, default_market=self._market, timezone=self._zone,
                target=name, others=frozenset(self._options),
            )  # fmt: skip

    def _clean(self) -> None:
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None


__all__ = ["Scheduler", "UnknownTaskError"]
