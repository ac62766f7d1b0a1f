"""The composition root: builds the parts, wires them, starts and stops them. It decides nothing.

clock -> engine.handle -> actions -> executors -> RunEnded -> engine.handle -> ledger, log
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from scheduler import logs, reports, watch
from scheduler.cache import SharedCache
from scheduler.clock import Clock, ScaledClock, VirtualClock
from scheduler.configuration import Configuration, Loader, Window
from scheduler.context import Context
from scheduler.core import events
from scheduler.core.definition import definition_text, fingerprint
from scheduler.core.durations import format_duration
from scheduler.core.engine import Engine
from scheduler.core.messages import (
    DAY,
    SECOND,
    Action,
    Announce,
    ClockStepped,
    Configure,
    Event,
    Happened,
    Instant,
    Level,
    LoopLag,
    Record,
    Remember,
    Run,
    RunEnded,
    StartRun,
    Status,
    StopRequested,
    TaskHistory,
    TaskSpec,
    Wake,
)
from scheduler.core.triggers import KeepRunning, session_of
from scheduler.errors import ConfigurationError, SchedulerError
from scheduler.executors import Executors, Facts, Job, Log, TargetError
from scheduler.ledger import Ledger
from scheduler.lock import StateLock
from scheduler.loopwatch import LoopWatch, Stall
from scheduler.marketfile import AMENDMENTS
from scheduler.runs import BackgroundTaskManager, RunEntry, Runner
from scheduler.times import to_iso
from scheduler.waker import Waker

T = TypeVar("T")

FORCE = 5.0  # seconds that runs get to end once they are forced
_INSTANTS = frozenset({"due", "since", "until", "last_success"})  # fields of announcements


class Daemon:
    """One scheduler in the running event loop."""

    def __init__(
        self,
        load: Loader,
        *,
        load_in_force: Loader | None = None,
        state: Path,
        clock: Clock,
        python_path: Sequence[str] = (),
        simulate: Callable[[TaskSpec], float] | None = None,
        callables: Mapping[str, Callable[..., Any]] | None = None,
        watched: Path | None = None,
        accepted: Callable[[], None] | None = None,
        seed: int | None = None,
    ) -> None:
        """``load`` reads the configuration, again at each reload; ``state`` is the state directory.

        ``load_in_force`` gives the configuration of the last load anew, with the amendments of now.
        ``simulate`` gives the seconds that a run of a task is pretended to take: nothing is executed.
        ``callables`` are targets that need no import. The YAML files in ``watched`` are loaded again
        when they are saved; ``accepted`` is called when a configuration is in force. ``seed`` is that
        of the backoffs' jitter.
        """
        self._load = load
        self._load_in_force = load_in_force or load
        self._state = state
        self._clock = clock
        self._python_path = python_path
        self._simulate = simulate
        self._callables = callables or {}
        self._watched = watched
        self._amendments = state / AMENDMENTS
        self._accepted = accepted or (lambda: None)
        self._hold: Callable[[], AbstractContextManager[None]] = (
            clock.hold if isinstance(clock, VirtualClock) else nullcontext
        )
        jitter = random.Random(seed).random  # noqa: S311 - spreads retries, guards nothing
        self.engine = Engine(jitter=jitter, verbose=logs.enabled("debug"))
        self.configuration = Configuration((), {}, UTC)
        self._begun: list[tuple[Run, Record]] = []  # in this turn of the loop
        self._begun_before: list[tuple[Run, Record]] = []  # in the one before
        self._appointments: set[Run] = set()  # alive, and on record since before they began
        self._reloading = asyncio.Lock()
        self._threads = ThreadPoolExecutor(2, "daemon")  # the loop's own may be full of what tasks hang in
        self._over = False
        self._reloads = 0
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
        seen, amendments = self._snapshot(), watch.snapshot(self._amendments)
        window = Window.around(self._clock.now(), self._ledger.oldest_watermark())
        configuration = await self._in_thread(partial(self._load, window))
        self.cache = SharedCache(configuration.caches, timer=lambda: self._clock.monotonic() / SECOND)
        self.manager = BackgroundTaskManager(self._clock.now, on_leak=self._leaked, on_failure=self._crashed)
        self._executors = Executors(
            facts=self._facts, context=self._context, log=self._task_log, on_failure=self._task_failed,
            cache=self.cache, python_path=self._python_path, hold=self._hold, simulate=self._simulate,
        )  # fmt: skip
        for name, call in self._callables.items():
            self._executors.register(name, call)
        self._runner = Runner(self.manager, self._executors, self.handle, durable=self._durable)
        self._waker = Waker(
            self._clock,
            on_wake=lambda: self.handle(Wake()),
            on_step=lambda by: self.handle(ClockStepped(by)),
        )
        self.loop_watch = LoopWatch(
            appointment=lambda: self._waker.expected,
            busy=lambda: any(entry.owner for entry in self.manager.registry.live.values()),
            whose=self._whose,
            on_stall=lambda stall: self._say(events.LOOP_STALLED, "error", **stall.fields()),
            on_over=self._recovered,
            on_lag=lambda mean: self.handle(LoopLag(mean)),
        )
        if isinstance(self._clock, ScaledClock):
            self._clock.begin()  # loading takes seconds, which at a hundred times the speed are minutes
        self._began = self._clock.monotonic()
        self._seen = seen  # the files as the configuration in force was loaded from them
        self._running = True
        self.configuration = configuration
        self._report(reports.loaded(configuration))
        self._configure(configuration, first=True)
        self._report([reports.ready(configuration, self.engine.upcoming(3), self._clock.now())])
        self.manager.start_task(self._maintain(), "scheduler/maintenance")
        if self._watched is not None:
            self._amendments.mkdir(exist_ok=True)
            places = (self._watched, self._amendments)
            self.manager.start_task(self._watch(places), "scheduler/watch")
            self.manager.start_task(self._look_again(places, seen | amendments), "scheduler/look-again")
        if not isinstance(self._clock, VirtualClock):  # whose loop jumps: real time means nothing there
            self.loop_watch.start()

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
        self._over = True
        self.loop_watch.close()
        self._waker.close()
        self._executors.close()
        self._threads.shutdown(wait=False)
        self.manager.close()
        self._ledger.close()
        self._lock.release()
        uptime = format_duration((self._clock.monotonic() - self._began) // SECOND * SECOND)
        self._say(
            events.DAEMON_STOPPED,
            "warning" if left else "info",
            waited_for=waiting,
            left_behind=left,
            uptime=uptime,
        )

    def kill(self) -> None:
        """End every process of every run at once."""
        self._executors.kill()

    def register(self, name: str, call: Callable[..., Any]) -> None:
        """Let tasks whose target is ``name`` run this callable."""
        self._executors.register(name, call)

    def readiness(self) -> reports.Readiness:
        """Whether what is due is started; if not, why not."""
        return reports.readiness(self.configuration, self._clock.now())

    def reload_soon(self, cause: str) -> None:
        """Reload, without waiting for it."""
        if self._running:
            self._reloads += 1
            self.manager.start_task(self.reload(cause), f"scheduler/reload-{self._reloads}")

    # The way through.

    def handle(self, event: Event) -> None:
        """Tell the engine, do what it says, and wake when it wants."""
        if self._over:
            return  # a thread that returned after the end
        step = self._waker.stepped()
        if step and not isinstance(event, ClockStepped):
            self.handle(ClockStepped(step))  # before anything is decided by the stepped clock
        actions: Sequence[Action] = self.engine.handle(event, self._clock.now())
        if self._appointments and isinstance(event, RunEnded) and event.run in self._appointments:
            actions = self._told_when_durable(event.run, actions)
        begun: Record | None = None  # comes right before its StartRun
        for action in actions:
            if isinstance(action, Record):
                if action.status is Status.RUNNING:
                    begun = action
                else:
                    self._ledger.record(action)
            elif isinstance(action, StartRun):
                self._start_run(action, begun)
            elif isinstance(action, Announce):
                self._announced(action)
            elif isinstance(action, Remember):
                self._ledger.remember(*action)
            else:
                self._runner.stop(action)
        self._waker.aim(self.engine.wake_at())

    def _start_run(self, action: StartRun, begun: Record | None) -> None:
        """An appointment is on record before it begins. A pace's run need not be if it ends at once."""
        assert begun is not None
        self.loop_watch.attend()
        if action.durable:
            self._appointments.add(action.run)
            self._ledger.record(begun)
        else:
            if not (self._begun or self._begun_before):
                asyncio.get_running_loop().call_soon(self._record_begun)
            self._begun.append((action.run, begun))
        self._runner.start(action)

    def _record_begun(self) -> None:
        """What still runs after a whole turn of the loop is put on record as running."""
        tasks = self.engine.tasks
        for run, record in self._begun_before:
            state = tasks.get(run.task)
            if state is not None and state.active is run:
                self._ledger.record(record)
        self._begun_before, self._begun = self._begun, []
        if self._begun_before:
            asyncio.get_running_loop().call_soon(self._record_begun)

    def _told_when_durable(self, run: Run, actions: Sequence[Action]) -> Sequence[Action]:
        """What was recorded before it started is reported as ended once that is recorded too."""
        self._appointments.discard(run)
        told = [action for action in actions if isinstance(action, Announce)]
        if not told or not self._running:
            return actions

        async def tell() -> None:
            await self._durable()
            for announcement in told:
                self._announced(announcement)

        # The record is among the other actions, which are carried out before this task begins.
        self.manager.start_task(tell(), f"scheduler/tell {run.run_id}")
        return [action for action in actions if not isinstance(action, Announce)]

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
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    # Configuration.

    async def reload(self, cause: str, *, in_force: bool = False) -> bool:
        """Take the files as they are now, or say what is wrong and go on as before (law 7).

        ``in_force``: the files as they were, with the calendars and amendments of now.
        """
        load = self._load_in_force if in_force else self._load
        async with self._reloading:
            seen = self._seen if in_force else self._snapshot()
            try:
                configuration = await self._in_thread(partial(load, Window.around(self._clock.now())))
            except ConfigurationError as error:
                return self._reject([str(problem) for problem in error.problems], cause)
            except (SchedulerError, OSError) as error:
                return self._reject([str(error)], cause)
            old, now = self.configuration, self._clock.now()
            # In a thread: counting the runs of ten thousand tasks takes a second.
            told = await self._in_thread(lambda: list(reports.changed(old, configuration, now, cause)))
            self._report(told)
            self._configure(configuration)
            self._seen = seen
            return True

    def _snapshot(self) -> frozenset[tuple[str, int, int]]:
        return watch.snapshot(self._watched) if self._watched else frozenset()

    def _reject(self, problems: Sequence[str], cause: str) -> bool:
        for problem in problems:
            self._happened(events.CONFIG_REJECTED, "error", problem=problem, cause=cause)
        return False

    def _configure(self, configuration: Configuration, *, first: bool = False) -> None:
        self.loop_watch.attend()  # ten thousand tasks take a while
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
        changed = self._define(enabled, now)
        if first:
            histories = self._histories(enabled, now)
            for name in changed & histories.keys():  # what was due before the change is not the new task's
                histories[name] = histories[name]._replace(expected_from=now)
        else:  # new ones are expected from now on, but may have been here before
            fresh = [spec for spec in enabled if spec.name not in self.engine.tasks]
            known = self._histories(fresh, now) if fresh else {}
            histories = {name: TaskHistory(now + 1, begun=past.begun) for name, past in known.items()}
        remembered = self._ledger.remembered() if first else {}
        self.handle(Configure(configuration.specs, configuration.tables, refused, histories, remembered))
        try:
            self._accepted()
        except OSError as error:  # a full disk: `check --diff` compares with older files, and that is all
            self._say(events.CONFIG_NOT_KEPT, "warning", error=str(error))

    def _histories(self, specs: Sequence[TaskSpec], now: Instant) -> dict[str, TaskHistory]:
        loops = {}
        for spec in specs:
            if isinstance(spec.trigger, KeepRunning):
                begun = spec.trigger.last_before(now + 1, self.configuration.tables[spec.market])
                if begun is not None:
                    loops[spec.name] = begun
        return self._ledger.task_histories([spec.name for spec in specs], now, loops)

    def _define(self, specs: Sequence[TaskSpec], now: Instant) -> set[str]:
        """Tell the ledger which runs to expect from now on; the tasks it knew otherwise."""
        known = self._ledger.defined()
        changed = set()
        for spec in specs:
            mark = fingerprint(spec)
            calendar = self.configuration.tables[spec.market].version
            self._ledger.definition_started(spec.name, now, mark, definition_text(spec), calendar)
            if known.pop(spec.name, mark) != mark:
                changed.add(spec.name)
        for name in known:
            self._ledger.definition_ended(name, now)
        return changed

    async def _watch(self, places: Collection[Path]) -> None:
        async for paths in watch.changes(places):
            await self._saved(paths)

    async def _look_again(self, places: Collection[Path], seen: frozenset[tuple[str, int, int]]) -> None:
        """A file that was saved while the daemon started counts too."""
        await asyncio.sleep(1.0)  # the watch is up by then; a reload too many does no harm
        changed = watch.snapshot(*places) ^ seen
        if changed:
            await self._saved({path for path, _, _ in changed})

    async def _saved(self, paths: Collection[str]) -> None:
        """By `reload:` of the file in force: take it, hold it back until the close, or until told.

        What an operator amended is taken at once, whatever else was saved and waits or is wrong.
        """
        amended = {path for path in paths if Path(path).parent.name == AMENDMENTS}
        if amended:
            await self.reload("the amendments changed", in_force=True)
            paths = set(paths) - amended
        if not paths:
            return
        mode = self.configuration.reload
        if mode == "auto" or (mode == "closed-only" and not self._trading()):
            await self.reload(f"saved: {', '.join(sorted({Path(path).name for path in paths}))}")
        else:
            self._held_back = mode == "closed-only"
            self._say(events.CONFIG_HELD_BACK, "info", reload=mode, files=sorted(paths))

    def _trading(self) -> bool:
        table = self.configuration.tables.get(self.configuration.default_market)
        now = self._clock.now()
        return table is not None and table.first <= now < table.last and table.phase_at(now).trading

    async def _maintain(self) -> None:
        """Once a day: roll the calendars' window, prune the ledger, warn of what is not known."""
        while True:
            self._report(reports.doubts(self.configuration, self._clock.now()))
            await asyncio.sleep(self._clock.real_seconds(DAY))
            self._ledger.prune(self._clock.now())
            mode = self.configuration.reload
            if mode != "auto" and self._snapshot() != self._seen:
                self._say(events.CONFIG_HELD_BACK, "info", reload=mode, cause=reports.DAILY)
                await self.reload(reports.DAILY, in_force=True)
            else:
                await self.reload(reports.DAILY)

    # What is said.

    def _announced(self, action: Announce) -> None:
        if action.event == events.MARKET_PHASE_CHANGED:
            self.cache.phase_changed()
            if self._held_back and not self._trading():
                self._held_back = False
                self.reload_soon("the market closed")
        if logs.enabled(action.level) and action.event != events.LOOP_STALLED:  # said while it was so
            self._say(action.event, action.level, **action.fields)

    def _report(self, announcements: Iterable[Announce]) -> None:
        for event, level, fields in announcements:
            self._happened(event, level, **fields)

    def _happened(self, event: str, level: Level, **fields: Any) -> None:
        """Say it by way of the engine, so that `on` tasks hear of it."""
        self.handle(Happened(event, level, fields))

    def _say(self, event: str, level: Level, **fields: Any) -> None:
        zone = self.configuration.zone
        for name in _INSTANTS & fields.keys():
            if isinstance(fields[name], int):
                fields[name] = to_iso(fields[name], zone)
        logs.announce(event, level, fields)

    def _context(self, job: Job) -> Context:
        return Context(job, cache=self.cache, clock=self._clock, next_tick=self._next_tick)

    def _next_tick(self, spec: TaskSpec, after: Instant) -> Instant | None:
        return (spec.pace or spec.trigger).next_after(after, self.configuration.tables[spec.market])

    def _task_log(self, run: Run) -> Log:
        return logs.logger(task=run.task, run_id=run.run_id)

    def _task_failed(self, run: Run, error: str, details: str) -> None:
        if details:
            self._say(
                events.TASK_TRACEBACK,
                "warning",
                task=run.task,
                run_id=run.run_id,
                error=error,
                exception=details,
            )

    def _leaked(self, entry: RunEntry, kind: str, count: int, where: str) -> None:
        self._happened(
            events.TASK_LEAKED,
            "error",
            task=entry.owner,
            run_id=entry.run_id,
            kind=kind,
            count=count,
            where=where,
        )

    def _whose(self, task: asyncio.Task[Any]) -> tuple[str, str] | None:
        entry = self.manager.owner_of(task)
        if entry is None:
            return None
        return (entry.owner, entry.run_id) if entry.owner else (entry.run_id, "")

    def _recovered(self, stall: Stall) -> None:
        """The loop is free again, and with it the `on` tasks that wait for a stall."""
        fields = stall.fields()
        self._happened(events.LOOP_STALLED, "error", **fields)
        ended = {name: fields[name] for name in ("task", "run_id", "culprit", "seconds") if name in fields}
        self._happened(events.LOOP_RECOVERED, "info", **ended)

    def _crashed(self, entry: RunEntry, error: str, details: str) -> None:
        self._say(events.BACKGROUND_FAILED, "error", run_id=entry.run_id, error=error, exception=details)

    def _ledger_trouble(self, event: str, fields: Mapping[str, object]) -> None:
        self._say(event, "warning" if event == events.LEDGER_RECOVERED else "critical", **fields)
