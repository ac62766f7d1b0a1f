"""The whole daemon through a trading week of virtual time, with everything that may befall it.

Real are the engine, the ledger on its disk, the runner and its executors, the cache and the calendar;
virtual are the clock and the loop that jumps from timer to timer. Everything random comes from the seed.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from scheduler.clock import VirtualClock, VirtualTimeLoop
from scheduler.configuration import Configuration
from scheduler.core.accounting import Audit
from scheduler.core.market import MarketTable
from scheduler.core.messages import (
    MILLISECOND,
    SECOND,
    CacheSpec,
    CancelRequested,
    Event,
    LoopLag,
    PauseRequested,
    RestartRequested,
    ResumeRequested,
    RunNow,
)
from scheduler.core.supervision import Health
from scheduler.daemon import Daemon
from scheduler.ledger import read_history
from tests.simulation.blows import WEEK, Blow, Span, blows
from tests.simulation.desk import DESK, Plan, reloaded
from tests.simulation.exchange import Exchange
from tests.simulation.story import Act, Epoch, Key, Lag, Life, Start, Story
from tests.simulation.work import Workers, spec_of

Tables = Callable[[frozenset[str]], MarketTable]  # by the amendments in force

_ACTS: dict[str, Callable[[str], Event]] = {
    "pause": PauseRequested, "resume": ResumeRequested, "run-now": RunNow, "restart": RestartRequested,
}  # fmt: skip
_LOST = 30 * MILLISECOND  # at most what a kill takes with it: what no commit has reached yet
_TOO_MANY = 200_000  # starts; a story that has so many will never end


@dataclass
class Week:
    """One daemon after the other on one state directory."""

    seed: int
    state: Path
    tables: Tables
    span: Span = WEEK
    starts: list[Start] = field(default_factory=list)
    ends: dict[Key, int] = field(default_factory=dict)
    lives: list[Life] = field(default_factory=list)
    steps: list[tuple[int, int]] = field(default_factory=list)  # passed, by
    epochs: list[Epoch] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    lags: list[Lag] = field(default_factory=list)
    audit: Audit = field(default_factory=Audit)  # the last daemon's own, at the end

    def __post_init__(self) -> None:
        self.clock = VirtualClock(self.span.begin)
        self._desk: dict[str, Plan] = dict(DESK)
        self._amendments: frozenset[str] = frozenset()
        self._full = False
        self._workers = Workers(self.seed, self.clock, self._began, self._ended)
        self._blows: dict[str, Callable[[Daemon, Blow], Any]] = {
            "step": self._step, "suspend": self._step, "reload": self._reload, "amend": self._amend,
            "lag": self._lag, "full": self._fill, "room": self._make_room, "cancel": self._cancel,
            "round": self._come_round, **dict.fromkeys(_ACTS, self._act),
        }  # fmt: skip

    def run(self, happenings: Sequence[Blow] | None = None) -> Story:
        """Live through it; what the ledger says and what really happened."""
        happenings = blows(self.seed, self.span) if happenings is None else happenings
        with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(self.clock)) as runner:
            runner.run(self._live(happenings))
        rows = list(read_history(self.state / "ledger.db"))
        return Story(
            self.seed, self.span.begin, self.starts, self.ends, self.lives, self.steps, rows, self.epochs,
            self.acts, self.lags,
        )  # fmt: skip

    async def _live(self, happenings: Sequence[Blow]) -> None:
        self.epochs.append(Epoch(0, dict(self._desk), Exchange()))
        daemon = await self._start()
        for blow in happenings:
            await self._until(blow.at)
            await asyncio.sleep(0.001)  # what comes late comes one after the other
            if blow.kind in ("stop", "crash"):
                await self._make_room(daemon, blow)  # what a full disk has not taken would be lost
                await (self._stop(daemon) if blow.kind == "stop" else self._crash(daemon))
                await asyncio.sleep(blow.seconds)
                daemon = await self._start()
            else:
                moved = self._blows[blow.kind](daemon, blow)
                if moved is not None:
                    await moved
        await self._until(self.span.end)
        await self._make_room(daemon, None)
        self.audit = await daemon.accounting.audit()
        await self._stop(daemon)

    async def _until(self, at: int) -> None:
        left = at - self.span.begin - self.clock.monotonic()
        if left > 0:
            await asyncio.sleep(left / SECOND)

    # The daemon's life.

    async def _start(self) -> Daemon:
        daemon = Daemon(
            lambda _: self._configuration(),
            state=self.state,
            clock=self.clock,
            callables=self._workers.callables,
            seed=self.seed,
        )
        await daemon.start()
        # Commits only when one is waited for: when the others would be made, real time would decide.
        daemon._ledger._writer._linger = 3600.0
        daemon._ledger._writer._retry = 0.05
        self.lives.append(Life(self.clock.monotonic(), None, crashed=False))
        return daemon

    def _configuration(self) -> Configuration:
        table = self.tables(self._amendments)
        tasks = tuple(spec_of(name, plan, table) for name, plan in self._desk.items())
        return Configuration(tasks, {"NSE": table}, table.zone, {"market_data": CacheSpec(ttl=5 * SECOND)})

    async def _stop(self, daemon: Daemon) -> None:
        self._over()
        await daemon.stop()

    async def _crash(self, daemon: Daemon) -> None:
        """Killed: what the last commit before it left on the disk is what the next one finds."""
        await daemon._durable()
        recorded = self.clock.monotonic()
        with _Disk(daemon, self.state) as disk:
            lost = random.Random(f"{self.seed}/{recorded}").random() * _LOST  # noqa: S311
            await asyncio.sleep(lost / SECOND)
        self._over(crashed=True, recorded=recorded)
        starts, ends = len(self.starts), dict(self.ends)
        await daemon.stop()  # its runs end, but nobody will ever read what it has to say of them
        del self.starts[starts:]
        self.ends = ends
        shutil.rmtree(self.state)
        disk.kept.rename(self.state)

    def _over(self, **how: Any) -> None:
        now = self.clock.monotonic()
        self.lives[-1] = self.lives[-1]._replace(ended=now, **how)
        self._end_lag()

    # What befalls it.

    def _step(self, _: Daemon, blow: Blow) -> None:
        passed = self.clock.monotonic()
        # A daemon that is not up yet does not see it, nor two of them at once.
        if passed - max([self.lives[-1].began, *(at for at, _ in self.steps)]) > 60 * SECOND:
            self.steps.append((passed, int(blow.seconds * SECOND)))
            self.clock.step(int(blow.seconds * SECOND))

    async def _reload(self, daemon: Daemon, blow: Blow) -> None:
        await self._configure(daemon, reloaded(self._desk, random.Random(blow.what)), self._amendments)  # noqa: S311

    async def _amend(self, daemon: Daemon, blow: Blow) -> None:
        """What is in force already is taken back."""
        await self._configure(daemon, self._desk, self._amendments ^ {blow.what})

    async def _configure(self, daemon: Daemon, desk: dict[str, Plan], amendments: frozenset[str]) -> None:
        if self._repeats():
            return  # what "due after the change" is would have two meanings
        self._desk, self._amendments = desk, amendments
        assert await daemon.reload("the simulation")
        self.epochs.append(Epoch(self.clock.monotonic(), dict(desk), Exchange(amendments)))

    def _repeats(self) -> bool:
        """Whether the wall clock shows again what it has shown before."""
        now, story = self.clock.monotonic(), Story(0, self.span.begin, (), {}, (), self.steps, (), ())
        return story.wall(now) < story.latest(now)

    def _lag(self, daemon: Daemon, blow: Blow) -> None:
        self._end_lag()
        if blow.seconds:
            self.lags.append(Lag(self.clock.monotonic(), 1 << 62, blow.seconds))
        daemon.handle(LoopLag(int(blow.seconds * SECOND)))

    def _end_lag(self) -> None:
        now = self.clock.monotonic()
        self.lags = [lag._replace(until=min(lag.until, now)) for lag in self.lags]

    async def _fill(self, daemon: Daemon, _: Blow) -> None:
        """No page more for the ledger: SQLite itself says that the disk is full."""
        await daemon._durable()
        connection = daemon._ledger._writer.store._connection  # type: ignore[union-attr]
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        self._full = True

    async def _make_room(self, daemon: Daemon, _: Blow | None) -> None:
        if not self._full:
            return
        self._full = False
        writer = daemon._ledger._writer
        writer.store._connection.execute("PRAGMA max_page_count = 1000000")  # type: ignore[union-attr]
        with self.clock.hold():
            while writer.degraded:  # noqa: ASYNC110 - its thread tries again; virtual time stands still
                await asyncio.sleep(0)
        await daemon._durable()

    def _act(self, daemon: Daemon, blow: Blow) -> None:
        if blow.what in self._desk:
            self.acts.append(Act(self.clock.monotonic(), blow.kind, blow.what))
            daemon.handle(_ACTS[blow.kind](blow.what))

    def _come_round(self, daemon: Daemon, blow: Blow) -> None:
        for name, state in list(daemon.engine.tasks.items()):
            if state.supervisor.health is Health.PARKED:
                self._act(daemon, blow._replace(kind="resume", what=name))

    def _cancel(self, daemon: Daemon, blow: Blow) -> None:
        state = daemon.engine.tasks.get(blow.what)
        if state is not None and state.active is not None:
            self.acts.append(Act(self.clock.monotonic(), blow.kind, blow.what))
            daemon.handle(CancelRequested(state.active.run_id))

    def _began(self, key: Key) -> None:
        assert len(self.starts) < _TOO_MANY, "there is no end of starts"
        self.starts.append(Start(*key, self.clock.now(), self.clock.monotonic()))

    def _ended(self, key: Key) -> None:
        self.ends[key] = self.clock.monotonic()


class _Disk:
    """Keeps a copy of the ledger's files as each commit leaves them."""

    def __init__(self, daemon: Daemon, state: Path) -> None:
        self._store = daemon._ledger._writer.store
        self._state = state
        self._lock = threading.Lock()
        self.kept = state.with_name(state.name + ".kept")

    def __enter__(self) -> Self:
        store, write = self._store, self._store.write  # type: ignore[union-attr]

        def write_and_keep(*args: Any) -> None:
            write(*args)
            self._keep()

        self._keep()
        store.write = write_and_keep  # type: ignore[method-assign,union-attr]
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._store = None

    def _keep(self) -> None:
        with self._lock:
            if self._store is None:
                return  # killed
            shutil.rmtree(self.kept, ignore_errors=True)
            self.kept.mkdir()
            for path in self._state.glob("ledger.db*"):
                if not path.name.endswith("-shm"):
                    shutil.copyfile(path, self.kept / path.name)
