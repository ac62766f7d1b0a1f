"""The composition root: builds the parts, wires them, starts and stops them. It decides nothing.

    clock -> engine.handle -> actions -> executors -> RunEnded -> engine.handle -> ledger, log
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from scheduler import logs, watch
from scheduler.cache import SharedCache
from scheduler.clock import Clock, VirtualClock
from scheduler.configuration import Configuration, Loader, Window
from scheduler.context import Context
from scheduler.core import events
from scheduler.core.durations import format_duration
from scheduler.core.engine import Engine
from scheduler.core.messages import (
    DAY,
    HOUR,
    SECOND,
    Announce,
    ClockStepped,
    Configure,
    Duration,
    Event,
    Happened,
    Instant,
    Level,
    LoopLag,
    Run,
    StartRun,
    StopRequested,
    StopRun,
    TaskSpec,
    Wake,
    Write,
)
from scheduler.core.triggers import session_of
from scheduler.errors import ConfigurationError, SchedulerError
from scheduler.executors import Executors, Facts, Job, TargetError, load_target
from scheduler.ledger import Ledger
from scheduler.lock import StateLock
from scheduler.notify import Notifier
from scheduler.runs import BackgroundTaskManager, Runner
from scheduler.times import to_iso
from scheduler.waker import Waker

T = TypeVar("T")

FORCE = 5.0  # seconds that runs get to end once they are forced
_HORIZON_NEAR = 45 * DAY
_INSTANTS = frozenset({"due", "until", "next", "last_success"})  # fields of announcements


class Daemon:
    """One scheduler in the running event loop."""

    def __init__(
        self,
        load: Loader,
        *,
        state: Path,
        clock: Clock,
        python_path: Sequence[str] = (),
        simulate: Callable[[TaskSpec], float] | None = None,
        targets: Mapping[str, Callable[..., Any]] | None = None,
        watched: Path | None = None,
        seed: int | None = None,
    ) -> None:
        """``load`` reads the configuration, again at each reload; ``state`` is the state directory.

        ``simulate`` gives the seconds that each run is pretended to take: nothing is executed.
        ``targets`` are callables that need no import, by task. ``watched`` is the directory whose
        YAML files are reloaded when saved.
        """
        self._load = load
        self._state = state
        self._clock = clock
        self._python_path = python_path
        self._simulate = simulate
        self._targets = dict(targets or {})
        self._watched = watched
        self._hold: Callable[[], AbstractContextManager[None]] = (
            clock.hold if isinstance(clock, VirtualClock) else nullcontext
        )
        self.engine = Engine(jitter=random.Random(seed).random, verbose=logs.enabled("debug"))  # noqa: S311 - jitter
        self.configuration = Configuration((), {}, datetime.now().astimezone().tzinfo)
        self.stop_requested = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._running = False

    # Life.

    async def start(self) -> None:
        """Everything up, then the tasks. ConfigurationError or SchedulerError leaves nothing behind."""
        self._lock = StateLock(self._state)
        try:
            self._ledger = Ledger(self._state / "ledger.db", on_trouble=self._ledger_trouble)
            try:
                await self._start()
            except BaseException:
                self._ledger.close()
                raise
        except BaseException:
            self._lock.release()
            raise

    async def _start(self) -> None:
        now = self._clock.now()
        configuration = await self._in_thread(partial(self._load, Window.around(now, self._ledger.oldest_watermark())))
        self.cache = SharedCache(configuration.caches, timer=self._seconds)
        self._manager = BackgroundTaskManager(self._clock.now, on_leak=self._leaked)
        self._executors = Executors(
            context=self._context, log=self._task_log, cache=self.cache, python_path=self._python_path,
            on_failure=self._task_traceback, simulate=self._simulate, targets=self._targets,
        )  # fmt: skip
        self._runner = Runner(self._manager, self._executors, self.handle, durable=self._durable)
        self._waker = Waker(
            self._clock,
            on_wake=lambda: self.handle(Wake()),
            on_step=lambda by: self.handle(ClockStepped(by)),
            on_lag=lambda mean: self.handle(LoopLag(mean)),
        )
        self._running = True
        self._began = self._clock.monotonic()
        self._configure(configuration, first=True)
        self._announce_ready()
        self._background(self._maintain(), "maintenance")
        if self._watched is not None:
            self._background(self._watch(self._watched), "watch")

    async def stop(self) -> None:
        """Start nothing more, let running work finish within its grace, then force it. Idempotent."""
        if not self._running:
            return
        self._running = False
        waited_for = [entry["run_id"] for entry in self.engine.snapshot() if entry["run_id"]]
        self._announce(events.DAEMON_STOPPING, "info", running=len(waited_for), waiting_for=waited_for)
        self.handle(StopRequested())
        longest = max((state.spec.stop_grace for state in self.engine.tasks.values()), default=0)
        forced = await self._runner.finish(self._clock.real_seconds(2 * longest) + FORCE)
        self._waker.close()
        left = await self._manager.wait_all(0) if forced else []
        await self._manager.shutdown()
        self._ledger.close()
        self._lock.release()
        self._announce(
            events.DAEMON_STOPPED, "warning" if left else "info", waited_for=waited_for, left_behind=left,
            uptime=format_duration(self._uptime() // SECOND * SECOND),
        )  # fmt: skip

    # The way through.

    def handle(self, event: Event) -> None:
        """Tell the engine, do what it says, and wake when it wants."""
        for action in self.engine.handle(event, self._clock.now()):
            kind = type(action)
            if kind is Write:
                self._ledger.record(action.record)
            elif kind is StartRun:
                self._runner.start(action, self._facts(action.run, action.spec))
            elif kind is Announce:
                self._announced(action)
            else:
                self._runner.stop(action)
        self._waker.aim(self.engine.wake_at())
