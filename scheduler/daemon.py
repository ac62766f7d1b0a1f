"""The composition root: builds the parts, wires them, starts and stops them. It decides nothing.

    clock -> engine.handle -> actions -> executors -> RunEnded -> engine.handle -> ledger, log
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC
from functools import partial
from hashlib import sha256
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
    SECOND,
    Announce,
    ClockStepped,
    Configure,
    Event,
    Happened,
    Instant,
    Level,
    LoopLag,
    Run,
    StartRun,
    StopRequested,
    TaskSpec,
    Wake,
    Write,
)
from scheduler.core.plan import difference
from scheduler.core.triggers import session_of
from scheduler.errors import ConfigurationError, SchedulerError
from scheduler.executors import Executors, Facts, Job, Log, TargetError
from scheduler.ledger import Ledger
from scheduler.lock import StateLock
from scheduler.runs import BackgroundTaskManager, RunEntry, Runner
from scheduler.times import to_iso
from scheduler.waker import Waker

T = TypeVar("T")

FORCE = 5.0  # seconds that runs get to end once they are forced
_HORIZON_NEAR = 45 * DAY
_INSTANTS = frozenset({"due", "until", "next", "last_success"})  # fields of announcements
_MOST_DIFFERENCES = 20  # lines of a reload's difference in runs


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
        callables: Mapping[str, Callable[..., Any]] | None = None,
        watched: Path | None = None,
        seed: int | None = None,
    ) -> None:
        """``load`` reads the configuration, again at each reload; ``state`` is the state directory.

        ``simulate`` gives the seconds that a run of a task is pretended to take: nothing is executed.
        ``callables`` are targets that need no import. The YAML files in ``watched`` are loaded again
        when they are saved. ``seed`` is that of the backoffs' jitter.
        """
        self._load = load
        self._state = state
        self._clock = clock
        self._python_path = python_path
        self._simulate = simulate
        self._callables = callables or {}
        self._watched = watched
        self._hold: Callable[[], AbstractContextManager[None]] = (
            clock.hold if isinstance(clock, VirtualClock) else nullcontext
        )
        jitter = random.Random(seed).random  # noqa: S311 - spreads retries, guards nothing
        self.engine = Engine(jitter=jitter, verbose=logs.enabled("debug"))
        self.configuration = Configuration((), {}, UTC)
        self._defined: set[str] = set()
        self._reloading = asyncio.Lock()
        self._held_back = False  # a saved file waits for the market to close
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
        window = Window.around(self._clock.now(), self._ledger.oldest_watermark())
        configuration = await self._in_thread(partial(self._load, window))
        self.cache = SharedCache(configuration.caches, timer=lambda: self._clock.monotonic() / SECOND)
        self.manager = BackgroundTaskManager(self._clock.now, on_leak=self._leaked, on_failure=self._crashed)
        self._executors = Executors(
            context=self._context, log=self._task_log, on_failure=self._task_failed, cache=self.cache,
            python_path=self._python_path, hold=self._hold, simulate=self._simulate,
        )  # fmt: skip
        for name, call in self._callables.items():
            self._executors.register(name, call)
        self._runner = Runner(self.manager, self._executors, self.handle, durable=self._durable)
        self._waker = Waker(
            self._clock,
            on_wake=lambda: self.handle(Wake()),
            on_step=lambda by: self.handle(ClockStepped(by)),
            on_lag=lambda mean: self.handle(LoopLag(mean)),
        )
        self._began = self._clock.monotonic()
        self._running = True
        self._loaded(configuration)
        self._configure(configuration, first=True)
        self._ready()
        self.manager.start_task(self._maintain(), "scheduler/maintenance")
        if self._watched is not None:
            self.manager.start_task(self._watch(self._watched), "scheduler/watch")

    async def stop(self) -> None:
        """Start nothing more, let running work finish within its grace, then force it. Idempotent."""
        if not self._running:
            return
        self._running = False
        for run_id in self.manager.get_active_task_ids():
            if run_id.startswith("scheduler/"):
                self.manager.cancel_task(run_id)
        waiting = [row["run_id"] for row in self.engine.snapshot() if row["run_id"]]
        self._say(events.DAEMON_STOPPING, "info", waiting_for=waiting)
        self.handle(StopRequested())
        longest = max((state.spec.stop_grace for state in self.engine.tasks.values()), default=0)
        left = await self.manager.wait_all(2 * self._clock.real_seconds(longest) + FORCE)
        if left:
            left = await self._runner.shutdown(FORCE)
        self._waker.close()
        self._executors.close()
        self.manager.close()
        self._ledger.close()
        self._lock.release()
        uptime = format_duration((self._clock.monotonic() - self._began) // SECOND * SECOND)
        self._say(
            events.DAEMON_STOPPED, "warning" if left else "info", waited_for=waiting, left_behind=left, uptime=uptime
        )

    def register(self, name: str, call: Callable[..., Any]) -> None:
        """Let tasks whose target is ``name`` run this callable."""
        self._executors.register(name, call)

    def reload_soon(self, cause: str) -> None:
        """Reload, without waiting for it."""
        if self._running:
            self.manager.start_task(self.reload(cause), f"scheduler/reload-{self._clock.monotonic()}")

    # The way through.

    def handle(self, event: Event) -> None:
        """Tell the engine, do what it says, and wake when it wants."""
        for action in self.engine.handle(event, self._clock.now()):
            if isinstance(action, Write):
                self._ledger.record(action.record)
            elif isinstance(action, StartRun):
                self._runner.start(action, self._facts(action.run, action.spec))
            elif isinstance(action, Announce):
                self._announced(action)
            else:
                self._runner.stop(action)
        self._waker.aim(self.engine.wake_at())

    def _facts(self, run: Run, spec: TaskSpec) -> Facts:
        table = self.configuration.tables[spec.market]
        if not table.first <= run.due < table.last:
            return Facts("", "", table.zone)
        session = session_of(spec.trigger, run.due, table)
        return Facts(table.phase_at(run.due).phase, session.date if session else "", table.zone)

    async def _durable(self) -> None:
        with self._hold():
            await self._ledger.durable()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        with self._hold():
            return await asyncio.get_running_loop().run_in_executor(None, work)

    # Configuration.

    async def reload(self, cause: str) -> bool:
        """Take the files as they are now, or say what is wrong and go on as before (law 7)."""
        async with self._reloading:
            try:
                configuration = await self._in_thread(partial(self._load, Window.around(self._clock.now())))
            except ConfigurationError as error:
                for problem in error.problems:
                    self._happened(events.CONFIG_REJECTED, "error", problem=str(problem), cause=cause)
                return False
            except SchedulerError as error:
                self._happened(events.CONFIG_REJECTED, "error", problem=str(error), cause=cause)
                return False
            self._report_change(configuration, cause)
            self._configure(configuration)
            return True

    def _configure(self, configuration: Configuration, *, first: bool = False) -> None:
        now = self._clock.now()
        self.configuration = configuration
        self.cache.reconfigure(configuration.caches)
        refused = {}
        for spec in configuration.specs:
            try:
                self._executors.choose(spec)
            except TargetError as error:
                refused[spec.name] = str(error)
        enabled = [spec for spec in configuration.specs if spec.enabled]
        histories = self._ledger.task_histories([spec.name for spec in enabled], now) if first else {}
        self._define(enabled, now)
        self.handle(Configure(configuration.specs, configuration.tables, refused, histories))

    def _define(self, specs: Sequence[TaskSpec], now: Instant) -> None:
        """Tell the ledger which runs to expect from now on."""
        for spec in specs:
            text = json.dumps({"definition": repr(spec)})
            fingerprint = sha256(text.encode()).hexdigest()[:16]
            calendar = self.configuration.tables[spec.market].version
            self._ledger.definition_started(spec.name, now, fingerprint, text, calendar)
        names = {spec.name for spec in specs}
        for name in self._defined - names:
            self._ledger.definition_ended(name, now)
        self._defined = names

    def _report_change(self, new: Configuration, cause: str) -> None:
        """What a reload does: to tasks, to calendars, and in runs until the end of the next session."""
        old = self.configuration
        before = {spec.name: spec for spec in old.specs}
        after = {spec.name: spec for spec in new.specs}
        self._happened(
            events.CONFIG_RELOADED, "info", cause=cause,
            added=sorted(after.keys() - before.keys()), removed=sorted(before.keys() - after.keys()),
            changed=sorted(name for name in before.keys() & after.keys() if before[name] != after[name]),
        )  # fmt: skip
        for name, table in new.tables.items():
            known = old.tables.get(name)
            if known is not None and known.version != table.version:
                self._happened(events.MARKET_CHANGED, "info", market=name, calendar=table.version, was=known.version)
        self._report_warnings(new)
        now = self._clock.now()
        shown = {name: table for name, table in new.tables.items() if name in old.tables}
        if now < min((table.last for table in shown.values()), default=0) - 7 * DAY:
            until = min(_end_of_next_session(new, now), now + 7 * DAY)
            old_specs = [spec for spec in old.specs if spec.market in shown]
            new_specs = [spec for spec in new.specs if spec.market in shown]
            found = difference((old_specs, old.tables), (new_specs, new.tables), now + 1, until)
            for line in found[:_MOST_DIFFERENCES]:
                self._say("config.difference", "info", runs=str(line))
            if len(found) > _MOST_DIFFERENCES:
                self._say("config.difference", "info", more=len(found) - _MOST_DIFFERENCES)

    async def _watch(self, directory: Path) -> None:
        async for paths in watch.changes([directory]):
            mode = self.configuration.reload
            if mode == "auto" or (mode == "closed-only" and not self._trading()):
                await self.reload(f"saved: {', '.join(sorted(Path(path).name for path in paths))}")
            else:
                self._held_back = mode == "closed-only"
                self._say("config.held_back", "info", reload=mode, files=sorted(paths))

    def _trading(self) -> bool:
        table = self.configuration.tables.get(self.configuration.default_market)
        now = self._clock.now()
        return table is not None and table.first <= now < table.last and table.phase_at(now).trading

    async def _maintain(self) -> None:
        """Once a day: roll the calendars' horizon, prune the ledger, warn of calendars that end."""
        while True:
            self._watch_horizons()
            await asyncio.sleep(self._clock.real_seconds(DAY))
            self._ledger.prune(self._clock.now())
            await self.reload("daily refresh")

    def _watch_horizons(self) -> None:
        now = self._clock.now()
        for name, table in self.configuration.tables.items():
            end = table.known_until
            if end is None or end - now > _HORIZON_NEAR:
                continue
            event = events.MARKET_HORIZON_NEAR if now < end else events.MARKET_BEYOND_HORIZON
            self._happened(
                event, "warning", market=name, known_until=to_iso(end, table.zone), days=(end - now) // DAY,
                then=table.beyond_horizon,
            )  # fmt: skip

    # What is said.

    def _announced(self, action: Announce) -> None:
        if action.event == events.MARKET_PHASE_CHANGED:
            self.cache.phase_changed()
            if self._held_back and not self._trading():
                self._held_back = False
                self.reload_soon("the market closed")
        if logs.enabled(action.level):
            self._say(action.event, action.level, **action.fields)

    def _happened(self, event: str, level: Level, **fields: Any) -> None:
        """Say it by way of the engine, so that `on` tasks hear of it."""
        self.handle(Happened(event, level, fields))

    def _say(self, event: str, level: Level, **fields: Any) -> None:
        zone = self.configuration.zone
        for name in _INSTANTS & fields.keys():
            if isinstance(fields[name], int):
                fields[name] = to_iso(fields[name], zone)
        logs.announce(event, level, fields)

    def _loaded(self, configuration: Configuration) -> None:
        self.configuration = configuration
        enabled = [spec for spec in configuration.specs if spec.enabled]
        self._say(
            events.CONFIG_LOADED, "info", tasks=len(enabled), disabled=len(configuration.specs) - len(enabled),
            files=[str(path) for path in configuration.sources], markets=sorted(configuration.tables),
        )  # fmt: skip
        self._report_warnings(configuration)

    def _report_warnings(self, configuration: Configuration) -> None:
        for warning in configuration.warnings:
            self._say("calendar.warning", "warning", detail=warning)

    def _ready(self) -> None:
        now, zone = self._clock.now(), self.configuration.zone
        phases = {}
        for name, table in self.configuration.tables.items():
            piece = table.phase_at(now)
            why = f" ({piece.reason})" if piece.reason else ""
            phases[name] = f"{piece.phase}{why} until {to_iso(table.next_change(now), table.zone)}"
        coming = [f"{name} at {to_iso(due, zone)}" for due, name in self.engine.upcoming(3)]
        self._say(events.DAEMON_READY, "info", **phases, coming=coming)

    def _context(self, job: Job) -> Context:
        return Context(job, cache=self.cache, clock=self._clock, next_tick=self._next_tick)

    def _next_tick(self, spec: TaskSpec, after: Instant) -> Instant | None:
        return (spec.pace or spec.trigger).next_after(after, self.configuration.tables[spec.market])

    def _task_log(self, run: Run) -> Log:
        return logs.logger(task=run.task, run_id=run.run_id)

    def _task_failed(self, run: Run, error: str, details: str) -> None:
        if details:
            self._say("task.traceback", "debug", task=run.task, run_id=run.run_id, error=error, traceback=details)

    def _leaked(self, entry: RunEntry, kind: str, count: int, where: str) -> None:
        self._happened(
            events.TASK_LEAKED, "error", task=entry.owner, run_id=entry.run_id, kind=kind, count=count, where=where
        )

    def _crashed(self, entry: RunEntry, error: str, details: str) -> None:
        self._say("background.failed", "error", run_id=entry.run_id, error=error, traceback=details)

    def _ledger_trouble(self, event: str, fields: Mapping[str, object]) -> None:
        self._say(event, "warning" if event == events.LEDGER_RECOVERED else "critical", **fields)


def _end_of_next_session(configuration: Configuration, now: Instant) -> Instant:
    table = configuration.tables.get(configuration.default_market)
    if table is None:
        return now + DAY
    at = table.first_session_from(now)
    return table.sessions[at].end if at < len(table.sessions) else now + DAY
