"""The composition root: builds the parts, wires them, starts and stops them. It decides nothing.

clock -> engine.handle -> actions -> executors -> RunEnded -> engine.handle -> ledger, log
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from scheduler import logs, reports
from scheduler.accounting import Accounting
from scheduler.cache import SharedCache
from scheduler.clock import Clock, ScaledClock, VirtualClock
from scheduler.configuration import Configuration, Loader, Window
from scheduler.context import Context
from scheduler.core import events
from scheduler.core.accounting import expectations
from scheduler.core.definition import definition_text, fingerprint
from scheduler.core.durations import format_duration
from scheduler.core.engine import Engine
from scheduler.core.messages import (
    HOUR,
    MINUTE,
    SECOND,
    Action,
    Announce,
    ClockStepped,
    Configure,
    Duration,
    Event,
    Happened,
    Instant,
    Level,
    LoopLag,
    Priority,
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
from scheduler.core.overdue import LIMIT as OVERDUE
from scheduler.core.triggers import KeepRunning, session_of
from scheduler.errors import ConfigurationError, SchedulerError
from scheduler.executors import Executors, Facts, Job, Log, TargetError, kill_all
from scheduler.ledger import Ledger
from scheduler.lock import StateLock
from scheduler.loopwatch import LoopWatch, Stall
from scheduler.marketfile import AMENDMENTS
from scheduler.reloading import Reloading
from scheduler.runs import BackgroundTaskManager, RunEntry, Runner
from scheduler.times import to_iso
from scheduler.waker import Waker

T = TypeVar("T")

_TELL = "scheduler/tell "  # and a run id: begins the id of what waits for the disk to tell of that run's end
_LOOK_EVERY = MINUTE  # for runs that take long
FORCE = 5.0  # seconds that runs get to end once they are forced
_INSTANTS = frozenset({"due", "since", "until", "last_success"})  # fields of announcements
_SAID = frozenset(  # by the thread that met it, before the loop came to it
    {
        events.LOOP_STALLED, events.LEDGER_DEGRADED, events.LEDGER_RECOVERED, events.LEDGER_REPLACED,
        events.LEDGER_LOST,
    }
)  # fmt: skip


class StartAbandoned(Exception):  # noqa: N818 - it is no error
    """the daemon was asked to stop while it still loaded"""


class _Known(NamedTuple):
    """What is found out before a configuration takes effect."""

    refused: Mapping[str, str]  # task -> why its callable cannot be imported
    defined: Mapping[str, str]  # task -> fingerprint
    histories: Mapping[str, TaskHistory]  # of all tasks at the start, of loops for a reload


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
        claim: Callable[[], None] | None = None,
        long_running_after: Duration = HOUR,
        seed: int | None = None,
    ) -> None:
        """``load`` reads the configuration, again at each reload; ``state`` is the state directory.

        ``load_in_force`` gives the configuration of the last load anew, with the amendments of now.
        ``simulate`` gives the seconds that a run of a task is pretended to take: nothing is executed.
        ``callables`` are targets that need no import. The YAML files in ``watched`` are loaded again
        when they are saved; ``accepted`` is called when a configuration is in force,
        ``claim`` when the state directory is this daemon's and nothing is loaded yet: its errors are
        those of the start. A run that is active for longer than ``long_running_after`` is
        told of. ``seed`` is that of the backoffs' jitter.
        """
        self._load = load
        self._load_in_force = load_in_force or load
        self._state = state
        self._clock = clock
        self._python_path = python_path
        self._simulate = simulate
        self._callables = callables or {}
        self._watched = watched
        self._accepted = accepted or (lambda: None)
        self.long_running_after = long_running_after
        self._claim = claim or (lambda: None)
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
        self._early: list[Announce] | None = []  # told once there are tasks to hear of it; None: there are
        self._over = False
        self._reloads = 0
        self._running = False
        self._abandoned = False
        self.on_change: Callable[[], None] = lambda: None  # called whenever the engine was told something
        # Told, on the loop, of all that is announced (at any level) and of all that becomes of runs.
        self.announcement_listeners: list[Callable[[Announce], None]] = []
        self.record_listeners: list[Callable[[Record], None]] = []

    # Life.

    async def start(self) -> None:
        """Everything up, then the tasks. ConfigurationError or SchedulerError leaves nothing behind,
        nor does StartAbandoned.
        """
        self._loop = asyncio.get_running_loop()
        self._lock = StateLock(self._state)
        try:
            self._claim()
            self._ledger = Ledger(
                self._state / "ledger.db",
                on_trouble=self._ledger_trouble,
                timer=lambda: self._clock.monotonic() / SECOND,
            )
            try:
                await self._start()
            except BaseException:
                self._ledger.close()
                raise
        except BaseException as error:
            self._lock.release()
            if isinstance(error, OSError):  # nearly always a file that is another user's
                place = error.filename or self._state
                raise ConfigurationError(f"{place} cannot be used: {error.strerror or error}") from error
            raise

    async def _start(self) -> None:
        self._saves = self._make_reloading()
        seen = self._saves.snapshot()
        window = Window.around(self._clock.now(), self._ledger.oldest_watermark())
        configuration = await self._in_thread(partial(self._load, window))
        if self._abandoned:
            raise StartAbandoned
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
        self.accounting = Accounting(
            evidence=self._ledger.evidence,
            tasks=lambda: expectations(self.engine.tasks.values()),
            now=self._clock.now,
            in_thread=self._in_thread,
            say=self._report,
        )
        if isinstance(self._clock, ScaledClock):
            self._clock.begin()  # loading takes seconds, which at a hundred times the speed are minutes
        self._began = self._clock.monotonic()
        self.started = self._clock.now()
        self._seen = seen  # the files as the configuration in force was loaded from them
        self._running = True
        self.configuration = configuration
        self._report(reports.loaded(configuration))
        self._configure(configuration)
        early, self._early = self._early or [], None
        self._report(early)
        await self._durable()  # that it answers for what is due from now on, whatever becomes of it
        self._report([reports.ready(configuration, self.engine.upcoming(3), self._clock.now())])
        self.manager.start_task(self._maintain(), "scheduler/maintenance")
        self.manager.start_task(self._look_for_long_runs(), "scheduler/long-runs")
        if self._watched is not None:
            self.manager.start_task(self._saves.watch(), "scheduler/watch")
        if not isinstance(self._clock, VirtualClock):  # whose loop jumps: real time means nothing there
            self.loop_watch.start()
            self.manager.start_task(self.accounting.watch(), "scheduler/accounting")

    def abandon_start(self) -> None:
        """Let a ``start`` that still loads end with StartAbandoned, before anything is due."""
        self._abandoned = True

    def _make_reloading(self) -> Reloading:
        return Reloading(
            self._watched,
            self._state / AMENDMENTS,
            python_path=self._python_path if self._simulate is None else None,
            reload=self.reload,
            in_force=lambda: (self.configuration, self._seen),
            now=self._clock.now,
            running=lambda: {name for name, state in self.engine.tasks.items() if state.active is not None},
            say=self._report,
            in_thread=self._in_thread,
            later=lambda work, name: self.manager.start_task(work, name),  # noqa: PLW0108 - made later
        )

    async def stop(self) -> None:
        """Start nothing more, let running work finish within its grace, then force it. Idempotent."""
        if not self._running:
            return
        self._running = False
        for run_id in self.manager.get_active_task_ids():
            if run_id.startswith("scheduler/") and not run_id.startswith(_TELL):
                self.manager.cancel_task(run_id)
        waiting = [row["run_id"] for row in self.engine.snapshot() if row["run_id"]]
        self._announced(Announce(events.DAEMON_STOPPING, "info", {"waiting_for": waiting}))
        self.handle(StopRequested())
        left = await self.manager.wait_all(self._patience())
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
        told = {"waited_for": waiting, "left_behind": left, "uptime": uptime}
        self._announced(Announce(events.DAEMON_STOPPED, "warning" if left else "info", told))

    @property
    def stop_limit(self) -> float:
        """Seconds that ``stop`` takes at most, even if runs, the disk and a thread do not let go."""
        return self._patience() + 4 * FORCE

    def _patience(self) -> float:
        """Seconds that runs get to end, by the longest `stop_grace` of all."""
        longest = max((state.spec.stop_grace for state in self.engine.tasks.values()), default=0)
        return 2 * self._clock.real_seconds(longest) + FORCE

    def kill(self) -> None:
        """End every process of every run at once, whether or not the start is through."""
        kill_all()

    def register(self, name: str, call: Callable[..., Any]) -> None:
        """Let tasks whose target is ``name`` run this callable."""
        self._executors.register(name, call)

    def readiness(self) -> reports.Readiness:
        """Whether what is due is started; if not, why not."""
        return reports.readiness(self.configuration, self._clock.now())

    def status_line(self) -> str:
        """The state of markets and tasks, on one line for people."""
        coming = self.engine.upcoming(1)
        return reports.status_line(self.configuration, self.engine.tally(), coming, self._clock.now())

    def overdue(self) -> list[str]:
        """The critical tasks that the daemon has owed a run for half a minute: something in it is stuck."""
        now = self._clock.now()
        live = self.manager.registry.live
        unbegun = [
            state.name
            for state in self.engine.tasks.values()
            if state.spec.priority is Priority.CRITICAL
            and state.active is not None
            and state.started <= now - OVERDUE
            and (entry := live.get(state.active.run_id)) is not None
            and entry.status is Status.QUEUED
            and not entry.stopping
        ]
        return self.engine.overdue(now) + unbegun

    @property
    def ledger(self) -> Ledger:
        """For what is not recorded by the engine's word, and for questions."""
        return self._ledger

    def now(self) -> Instant:
        """By the clock that the daemon goes by."""
        return self._clock.now()

    @property
    def uptime(self) -> Duration:
        """Nanoseconds since the daemon began to work."""
        return self._clock.monotonic() - self._began

    def report(self, announcements: Iterable[Announce]) -> None:
        """Say it, and let `on` tasks hear of it; once the daemon has ended it is only said."""
        self._report(announcements)

    async def durable(self) -> None:
        """Wait until all that is recorded is on the disk, unless that refuses it."""
        await self._durable()

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
                _tell(self.record_listeners, action)
                if action.status is Status.RUNNING:
                    begun = action
                else:
                    self._record(action)
            elif isinstance(action, StartRun):
                self._start_run(action, begun)
            elif isinstance(action, Announce):
                self._announced(action)
            elif isinstance(action, Remember):
                self._ledger.remember(*action)
            else:
                self._runner.stop(action)
        self._waker.aim(self.engine.wake_at())
        self.on_change()

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

    def _record(self, record: Record) -> None:
        """Never a due that was skipped or missed ahead of one that runs: a crash would lose the latter."""
        if not record.attempt:
            state = self.engine.tasks.get(record.task)
            for run, begun in (*self._begun_before, *self._begun):
                if state is not None and state.active is run:
                    self._ledger.record(begun)
        self._ledger.record(record)

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
        self.manager.start_task(tell(), _TELL + run.run_id)
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

    async def reload(self, cause: str, *, in_force: bool = False) -> reports.Reloaded:
        """Take the files as they are now, or say what is wrong and go on as before (law 7).

        One at a time: who asks meanwhile waits. ``in_force``: the files as they were, with the calendars
        and amendments of now.
        """
        load = self._load_in_force if in_force else self._load
        async with self._reloading:
            seen = self._seen if in_force else self._saves.snapshot()
            try:
                configuration = await self._in_thread(partial(load, Window.around(self._clock.now())))
                old, now = self.configuration, self._clock.now()
                # In a thread: counting the runs of ten thousand tasks takes a second.
                told = await self._in_thread(lambda: list(reports.changed(old, configuration, now, cause)))
                known = await self._in_thread(lambda: self._find_out(configuration, now))
                self._configure(configuration, known)
            except ConfigurationError as error:
                return self._reject([str(problem) for problem in error.problems], cause)
            except (SchedulerError, OSError) as error:
                return self._reject([str(error)], cause, again=True)
            except Exception as error:  # noqa: BLE001 - who watches the files must outlive any of them
                return self._reject([f"{type(error).__name__}: {error}"], cause, again=True)
            self._seen = seen
            self._report(told)
            return reports.Reloaded(accepted=True, told=tuple(told))

    def _reject(self, problems: Sequence[str], cause: str, *, again: bool = False) -> reports.Reloaded:
        for problem in problems:
            self._happened(events.CONFIG_REJECTED, "error", problem=problem, cause=cause)
        return reports.Reloaded(accepted=False, problems=tuple(problems), again=again)

    def _find_out(self, configuration: Configuration, now: Instant, *, first: bool = False) -> _Known:
        """What it takes a while to know: imports, and questions to the ledger. In any thread."""
        refused = {}
        for spec in configuration.specs:
            try:
                self._executors.choose(spec)
            except TargetError as error:
                refused[spec.name] = str(error)
        enabled = [spec for spec in configuration.specs if spec.enabled]
        loops = _stretches(configuration, enabled, now)
        asked = [spec.name for spec in enabled] if first else list(loops)
        histories = self._ledger.task_histories(asked, now, loops) if first or loops else {}
        return _Known(refused, self._ledger.defined(), histories)

    def _configure(self, configuration: Configuration, known: _Known | None = None) -> None:
        """``known`` is what a reload has found out; at the start nothing runs yet that could not wait."""
        self.loop_watch.attend()  # ten thousand tasks take a while
        now = self._clock.now()
        refused, defined, found = known or self._find_out(configuration, now, first=True)
        enabled = [spec for spec in configuration.specs if spec.enabled]
        if known is None:
            histories = dict(found)
            for spec in enabled:  # what was due before a change is not the new task's
                if defined.get(spec.name) != fingerprint(spec):
                    histories[spec.name] = histories[spec.name]._replace(expected_from=now)
        else:  # new ones are expected from now on, but may have been here before
            tasks = self.engine.tasks
            asked = [s for s in enabled if s.name not in tasks or isinstance(s.trigger, KeepRunning)]
            histories = {spec.name: TaskHistory(now + 1) for spec in asked}
            for name, due in _stretches(configuration, asked, now).items():
                begun = found[name].begun if name in found else None
                if begun is not None and begun[0] == due:  # else the stretch has begun since it was asked for
                    histories[name] = TaskHistory(now + 1, begun=begun)
        remembered = self._ledger.remembered() if known is None else {}
        before, self.configuration = self.configuration, configuration  # what now begins asks it
        try:
            self.cache.reconfigure(configuration.caches)
            self.handle(Configure(configuration.specs, configuration.tables, refused, histories, remembered))
            self._define(enabled, defined.keys(), now)  # after what was due before is accounted for
        except BaseException:
            self.configuration = before
            raise
        try:
            self._accepted()
        except Exception as error:  # noqa: BLE001 - mostly a full disk; it is in force all the same
            self._happened(events.CONFIG_NOT_KEPT, "warning", error=str(error))

    def _define(self, specs: Sequence[TaskSpec], defined: Collection[str], now: Instant) -> None:
        """Tell the ledger which runs to expect from now on."""
        for spec in specs:
            calendar = self.configuration.tables[spec.market].version
            self._ledger.definition_started(
                spec.name, now, fingerprint(spec), definition_text(spec), calendar
            )
        for name in set(defined) - {spec.name for spec in specs}:
            self._ledger.definition_ended(name, now)

    async def _maintain(self) -> None:
        """Once a day, and when a known calendar ends: warn of what is not known, prune, roll the window."""
        while True:
            now = self._clock.now()
            self._report(reports.doubts(self.configuration, now))
            await asyncio.sleep(self._clock.real_seconds(reports.next_doubt(self.configuration, now) - now))
            self._ledger.prune(self._clock.now())
            await self._saves.refresh()

    async def _look_for_long_runs(self) -> None:
        """Say of each run, once, that it takes long."""
        told: set[str] = set()
        while True:
            await asyncio.sleep(self._clock.real_seconds(_LOOK_EVERY))
            now, limit = self._clock.now(), self.long_running_after
            found = {run.run_id: run for run in self.engine.long_running(now, limit)}
            for run_id in found.keys() - told:
                fields = {"task": found[run_id].task, "run_id": run_id, "longer_than": format_duration(limit)}
                self._happened(events.RUN_LONG, "warning", **fields)
            told = set(found)

    # What is said.

    def _announced(self, action: Announce) -> None:
        if action.event == events.MARKET_PHASE_CHANGED:
            self.cache.phase_changed()
            if self._saves.is_due():
                self.reload_soon("the market closed")
        _tell(self.announcement_listeners, action)
        if logs.enabled(action.level) and action.event not in _SAID:
            self._say(action.event, action.level, **action.fields)

    def _report(self, announcements: Iterable[Announce]) -> None:
        for event, level, fields in announcements:
            self._happened(event, level, **fields)

    def _happened(self, event: str, level: Level, **fields: Any) -> None:
        """Say it by way of the engine, so that `on` tasks hear of it."""
        if not self._over:
            self.handle(Happened(event, level, fields))
        elif event not in _SAID:  # there is nobody left to hear of it
            self._say(event, level, **fields)

    def _say(self, event: str, level: Level, **fields: Any) -> None:
        logs.announce(event, level, self.as_said(fields))

    def as_said(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of an announcement as the log has them: instants in ISO 8601, the task's priority."""
        said, zone = dict(fields), self.configuration.zone
        for name in _INSTANTS & said.keys():
            if isinstance(said[name], int):
                said[name] = to_iso(said[name], zone)
        state = self.engine.tasks.get(said.get("task", ""))
        if state is not None:
            said.setdefault("priority", state.spec.priority.label)
        return said

    def _context(self, job: Job) -> Context:
        return Context(job, cache=self.cache, clock=self._clock, next_tick=self._next_tick)

    def _next_tick(self, spec: TaskSpec, after: Instant) -> Instant | None:
        return (spec.pace or spec.trigger).next_after(after, self.configuration.tables[spec.market])

    def _task_log(self, run: Run) -> Log:
        state = self.engine.tasks.get(run.task)
        more = {} if state is None else {"priority": state.spec.priority.label}
        return logs.logger(task=run.task, run_id=run.run_id, **more)

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
        whose = {"task": entry.owner} if entry.owner else {}
        self._happened(
            events.BACKGROUND_FAILED, "error", **whose, run_id=entry.run_id, error=error, exception=details
        )

    def _ledger_trouble(self, event: str, fields: Mapping[str, object]) -> None:
        """Mostly from the writer's thread: said at once, and heard of when the loop comes to it."""
        level: Level = "warning" if event == events.LEDGER_RECOVERED else "critical"
        self._say(event, level, **fields)
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._heard, Announce(event, level, fields))

    def _heard(self, announcement: Announce) -> None:
        if self._early is not None:
            self._early.append(announcement)
        elif not self._over:
            self._report([announcement])


def _tell(listeners: Iterable[Callable[[T], None]], what: T) -> None:
    """One that fails is reported; what is decided and the other listeners go on."""
    for listener in listeners:
        try:
            listener(what)
        except Exception as error:  # noqa: BLE001 - whoever only looks on must not end what is done
            logs.announce(events.BACKGROUND_FAILED, "error", {"error": repr(error), "exc_info": error})


def _stretches(configuration: Configuration, specs: Iterable[TaskSpec], now: Instant) -> dict[str, Instant]:
    """When the latest stretch of each loop among these began."""
    loops = {}
    for spec in specs:
        if isinstance(spec.trigger, KeepRunning):
            begun = spec.trigger.last_before(now + 1, configuration.tables[spec.market])
            if begun is not None:
                loops[spec.name] = begun
    return loops
