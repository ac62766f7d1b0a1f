"""The composition root: builds the parts, wires them, starts and stops them. It decides nothing.

clock -> engine.handle -> actions -> executors -> RunEnded -> engine.handle -> ledger, log
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from scheduler import logs, reports
from scheduler.accounting import Accounting
from scheduler.cache import SharedCache
from scheduler.clock import Clock, ScaledClock, VirtualClock
from scheduler.configuration import Configuration, Loader, Window
from scheduler.context import Context
from scheduler.core import events
from scheduler.core.accounting import expectations
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
    Instant,
    LoopLag,
    Priority,
    Record,
    Remember,
    Run,
    RunEnded,
    StartRun,
    Status,
    StopRequested,
    TaskSpec,
    Wake,
)
from scheduler.core.overdue import LIMIT as OVERDUE
from scheduler.core.triggers import session_of
from scheduler.errors import ConfigurationError, SchedulerError
from scheduler.executors import Executors, Facts, Job, kill_all
from scheduler.ledger import Ledger
from scheduler.lock import StateLock
from scheduler.loopwatch import LoopWatch
from scheduler.marketfile import AMENDMENTS
from scheduler.recorder import Recorder
from scheduler.reloading import Reloading
from scheduler.runs import BackgroundTaskManager, Runner
from scheduler.takeover import Known, expect, find_out, first_histories, later_histories
from scheduler.voice import Voice, tell
from scheduler.waker import Waker

T = TypeVar("T")

_TELL = "scheduler/tell "  # and a run id: begins the id of what waits for the disk to tell of that run's end
_LOOK_EVERY = MINUTE  # for runs that take long
FORCE = 5.0  # seconds that runs get to end once they are forced


class StartAbandoned(Exception):  # noqa: N818 - it is no error
    """the daemon was asked to stop while it still loaded"""


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
        self.rejected: tuple[str, ...] = ()  # what is wrong with the files, if not in force
        self._appointments: set[Run] = set()  # alive, and on record since before they began
        self._reloading = asyncio.Lock()
        self._threads = ThreadPoolExecutor(2, "daemon")  # the loop's own may be full of what tasks hang in
        self._over = False
        self._reloads = 0
        self._running = False
        self._abandoned = False
        self.on_change: Callable[[], None] = lambda: None  # called whenever the engine was told something
        self.voice = Voice(self.engine, zone=lambda: self.configuration.zone, handle=self.handle)
        self.voice.listeners.append(self._heed)
        self.record_listeners: list[Callable[[Record], None]] = []  # of all that becomes of runs, on the loop

    # Life.

    async def start(self) -> None:
        """Everything up, then the tasks. ConfigurationError or SchedulerError leaves nothing behind,
        nor does StartAbandoned.
        """
        self.voice.begin()
        self._lock = StateLock(self._state)
        try:
            self._claim()
            self._ledger = Ledger(
                self._state / "ledger.db",
                on_trouble=self.voice.ledger_trouble,
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
        self.manager = BackgroundTaskManager(
            self._clock.now, on_leak=self.voice.leaked, on_failure=self.voice.crashed
        )
        self._executors = Executors(
            facts=self._facts, context=self._context, log=self.voice.task_log,
            on_failure=self.voice.task_failed, cache=self.cache, python_path=self._python_path,
            hold=self._hold, simulate=self._simulate,
        )  # fmt: skip
        for name, call in self._callables.items():
            self._executors.register(name, call)
        self._recorder = Recorder(self._ledger.record, self.engine.tasks)
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
            on_stall=self.voice.stalled,
            on_over=self.voice.recovered,
            on_lag=lambda mean: self.handle(LoopLag(mean)),
        )
        self.accounting = Accounting(
            evidence=self._ledger.evidence,
            tasks=lambda: expectations(self.engine.tasks.values()),
            now=self._clock.now,
            in_thread=self._in_thread,
            say=self.voice.report,
        )
        if isinstance(self._clock, ScaledClock):
            self._clock.begin()  # loading takes seconds, which at a hundred times the speed are minutes
        self._began = self._clock.monotonic()
        self.started = self._clock.now()
        self._seen = seen  # the files as the configuration in force was loaded from them
        self._running = True
        self.configuration = configuration
        self.voice.report(reports.loaded(configuration))
        self._configure(configuration)
        self.voice.tasks_listen()
        await self._durable()  # that it answers for what is due from now on, whatever becomes of it
        self.voice.report([reports.ready(configuration, self.engine.upcoming(3), self._clock.now())])
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
            say=self.voice.report,
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
        self.voice.announce(Announce(events.DAEMON_STOPPING, "info", {"waiting_for": waiting}))
        self.handle(StopRequested())
        left = await self.manager.wait_all(self._patience())
        if left:
            left = await self._runner.shutdown(FORCE)
        self._over = True
        self.voice.end()
        self.loop_watch.close()
        self._waker.close()
        self._executors.close()
        self._threads.shutdown(wait=False)
        self.manager.close()
        self._ledger.close()
        self._lock.release()
        uptime = format_duration((self._clock.monotonic() - self._began) // SECOND * SECOND)
        told = {"waited_for": waiting, "left_behind": left, "uptime": uptime}
        self.voice.announce(Announce(events.DAEMON_STOPPED, "warning" if left else "info", told))

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
                tell(self.record_listeners, action)
                if action.status is Status.RUNNING:
                    begun = action
                else:
                    self._recorder.settled(action)
            elif isinstance(action, StartRun):
                self._start_run(action, begun)
            elif isinstance(action, Announce):
                self.voice.announce(action)
            elif isinstance(action, Remember):
                self._ledger.remember(*action)
            else:
                self._runner.stop(action)
        self._waker.aim(self.engine.wake_at())
        self.on_change()

    def _start_run(self, action: StartRun, begun: Record | None) -> None:
        assert begun is not None
        self.loop_watch.attend()
        if action.durable:
            self._appointments.add(action.run)
        self._recorder.begun(action.run, begun, durable=action.durable)
        self._runner.start(action)

    def _told_when_durable(self, run: Run, actions: Sequence[Action]) -> Sequence[Action]:
        """What was recorded before it started is reported as ended once that is recorded too."""
        self._appointments.discard(run)
        told = [action for action in actions if isinstance(action, Announce)]
        if not told or not self._running:
            return actions

        async def tell_later() -> None:
            await self._durable()
            for announcement in told:
                self.voice.announce(announcement)

        # The record is among the other actions, which are carried out before this task begins.
        self.manager.start_task(tell_later(), _TELL + run.run_id)
        return [action for action in actions if not isinstance(action, Announce)]

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
                known = await self._in_thread(
                    lambda: find_out(configuration, now, self._executors, self._ledger)
                )
                self._configure(configuration, known)
            except ConfigurationError as error:
                return self._reject([str(problem) for problem in error.problems], cause)
            except (SchedulerError, OSError) as error:
                return self._reject([str(error)], cause, again=True)
            except Exception as error:  # noqa: BLE001 - who watches the files must outlive any of them
                return self._reject([f"{type(error).__name__}: {error}"], cause, again=True)
            self._seen = seen
            self.rejected = ()
            self.voice.report(told)
            return reports.Reloaded(accepted=True, told=tuple(told))

    def _reject(self, problems: Sequence[str], cause: str, *, again: bool = False) -> reports.Reloaded:
        self.rejected = tuple(problems)
        for problem in problems:
            self.voice.happened(events.CONFIG_REJECTED, "error", problem=problem, cause=cause)
        return reports.Reloaded(accepted=False, problems=tuple(problems), again=again)

    def _configure(self, configuration: Configuration, known: Known | None = None) -> None:
        """``known`` is what a reload has found out; at the start nothing runs yet that could not wait."""
        self.loop_watch.attend()  # ten thousand tasks take a while
        now = self._clock.now()
        if known is None:
            known = find_out(configuration, now, self._executors, self._ledger, first=True)
            histories, remembered = first_histories(configuration, known, now), self._ledger.remembered()
        else:
            histories, remembered = later_histories(configuration, known, self.engine.tasks, now), {}
        before, self.configuration = self.configuration, configuration  # what now begins asks it
        try:
            self.cache.reconfigure(configuration.caches)
            tables, refused = configuration.tables, known.refused
            self.handle(Configure(configuration.specs, tables, refused, histories, remembered))
            # After what was due before is accounted for.
            expect(self._ledger, configuration, known.defined, now)
        except BaseException:
            self.configuration = before
            raise
        try:
            self._accepted()
        except Exception as error:  # noqa: BLE001 - mostly a full disk; it is in force all the same
            self.voice.happened(events.CONFIG_NOT_KEPT, "warning", error=str(error))

    async def _maintain(self) -> None:
        """Once a day, and when a known calendar ends: warn of what is not known, prune, roll the window."""
        while True:
            now = self._clock.now()
            self.voice.report(reports.doubts(self.configuration, now))
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
                self.voice.happened(events.RUN_LONG, "warning", **fields)
            told = set(found)

    def _heed(self, announcement: Announce) -> None:
        """A phase has changed."""
        if announcement.event == events.MARKET_PHASE_CHANGED:
            self.cache.phase_changed()
            if self._saves.is_due():
                self.reload_soon("the market closed")

    # What runs and the watch of the loop ask.

    def _facts(self, run: Run, spec: TaskSpec) -> Facts:
        table = self.configuration.tables[spec.market]
        if not table.first <= run.due < table.last:
            return Facts("", "", table.zone)
        session = session_of(spec.trigger, run.due, table)
        return Facts(table.phase_at(run.due).phase, session.date if session else "", table.zone)

    def _context(self, job: Job) -> Context:
        return Context(job, cache=self.cache, clock=self._clock, next_tick=self._next_tick)

    def _next_tick(self, spec: TaskSpec, after: Instant) -> Instant | None:
        return (spec.pace or spec.trigger).next_after(after, self.configuration.tables[spec.market])

    def _whose(self, task: asyncio.Task[Any]) -> tuple[str, str] | None:
        entry = self.manager.owner_of(task)
        if entry is None:
            return None
        return (entry.owner, entry.run_id) if entry.owner else (entry.run_id, "")
