"""The whole daemon through a trading week of virtual time, with everything that may befall it.

Real are the engine, the ledger on its disk, the runner and its executors, the cache and the calendar;
virtual are the clock and the loop that jumps from timer to timer. Everything random comes from the seed.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from scheduler.clock import VirtualClock, VirtualTimeLoop
from scheduler.configuration import Configuration
from scheduler.context import Context
from scheduler.core.market import MarketTable
from scheduler.core.messages import SECOND, CacheSpec, Overlap, Priority, RestartPolicy, TaskSpec, Work
from scheduler.core.triggers import After, At, Cron, Every, KeepRunning, On, Trigger, parse_anchor
from scheduler.daemon import Daemon
from scheduler.ledger import read_history
from tests.helpers import instant
from tests.simulation.checker import Life, Start, Story
from tests.simulation.desk import DESK, Plan, ordeal

BEGIN = instant("2026-11-20T14:50:00.400+05:30")
END = instant("2026-11-27T16:40:00.400+05:30")
_POLICIES = {
    "always": RestartPolicy("always", burst=5, window=60 * SECOND, then="keep_trying"),
    "on-failure": RestartPolicy("on-failure", burst=3, window=600 * SECOND, then="park"),
    "never": RestartPolicy("never"),
}
# When something is worth doing: round the edges of phases, in their midst, and when nothing trades.
_MOMENTS = ["09:00", "09:15", "11:00", "15:09", "15:28", "15:30", "15:46", "20:00", "02:30", "23:59"]


class Blow(NamedTuple):
    """What befalls the daemon at an instant of true time: ``seconds`` of downtime, or of a step."""

    at: int
    kind: str  # stop, crash, step
    seconds: int


def blows(seed: int) -> list[Blow]:
    """About two restarts, one of them a crash, and two steps of the wall clock, in order."""
    draw = random.Random(f"blows/{seed}")  # noqa: S311
    found = []
    for kind in ("stop", "crash", "step", "step", draw.choice(["stop", "crash", "step"])):
        day = draw.choice(["20", "21", "23", "24", "25", "26", "27"])
        moment = instant(f"2026-11-{day}T{draw.choice(_MOMENTS)}:00+05:30")
        at = moment + int(draw.uniform(-90, 90) * SECOND)
        steps = [3, 40, 700, 7200, -2, -50, -900, -4000]
        seconds = draw.choice(steps if kind == "step" else [1, 20, 300, 2500, 60_000])
        if BEGIN < at < END - 100_000 * SECOND:
            found.append(Blow(at, kind, seconds))
    return sorted(found)


def trigger_of(plan: Plan, table: MarketTable) -> Trigger:
    if plan.every is not None:
        pace = {phase: None if pace is None else pace * SECOND for phase, pace in plan.every.items()}
        return Every(pace, plan.offset * SECOND)
    if plan.at:
        return At(tuple(parse_anchor(f"{base}{shift:+}s" if shift else base) for base, shift in plan.at))
    if plan.cron is not None:
        return Cron(plan.cron[0], table.zone)
    if plan.after is not None:
        return After(plan.after)
    return On(plan.on) if plan.on else KeepRunning(plan.keep_running)


def spec_of(name: str, plan: Plan, table: MarketTable) -> TaskSpec:
    return TaskSpec(
        name=name,
        priority=Priority[plan.priority.upper().replace("-", "_")],
        market="NSE",
        trigger=trigger_of(plan, table),
        work=Work(target=name),
        restart=_POLICIES[plan.restart],
        timeout=None if plan.timeout is None else plan.timeout * SECOND,
        catchup=plan.catchup * SECOND,
        overlap=Overlap(plan.overlap),
        stop_grace=5 * SECOND,
        pace=Every({"*": 60 * SECOND}) if plan.keep_running else None,
    )


@dataclass
class Week:
    """One daemon after the other on one state directory."""

    seed: int
    state: Path
    table: MarketTable
    clock: VirtualClock = field(default_factory=lambda: VirtualClock(BEGIN))
    starts: list[Start] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    steps: list[tuple[int, int]] = field(default_factory=list)  # passed, by
    loads: int = 0

    def run(self, happenings: Sequence[Blow] | None = None, end: int = END) -> Story:
        """Live through it; what the ledger says and what really happened."""
        happenings = blows(self.seed) if happenings is None else happenings
        with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(self.clock)) as runner:
            runner.run(self._live(happenings, end))
        rows = list(read_history(self.state / "ledger.db"))
        return Story(self.seed, BEGIN, self.starts, self.lives, self.steps, rows)

    @property
    def true(self) -> int:
        """The instant that the clock would show had it never been stepped."""
        return BEGIN + self.clock.monotonic()

    async def _live(self, happenings: Sequence[Blow], end: int) -> None:
        daemon = await self._start()
        for blow in happenings:
            if blow.kind == "step" and blow.at < self.true + 60 * SECOND:
                continue  # a daemon that is not up yet does not see it
            await self._until(blow.at)
            if blow.kind == "step":
                self.steps.append((self.clock.monotonic(), blow.seconds * SECOND))
                self.clock.step(blow.seconds * SECOND)
            else:
                await (self._stop(daemon) if blow.kind == "stop" else self._crash(daemon))
                await asyncio.sleep(blow.seconds)
                daemon = await self._start()
        await self._until(end)
        await self._stop(daemon)

    async def _until(self, at: int) -> None:
        if at > self.true:
            await asyncio.sleep((at - self.true) / SECOND)

    async def _start(self) -> Daemon:
        tasks = tuple(spec_of(name, plan, self.table) for name, plan in DESK.items())
        caches = {"market_data": CacheSpec(ttl=5 * SECOND)}
        configuration = Configuration(tasks, {"NSE": self.table}, self.table.zone, caches)
        daemon = Daemon(
            lambda _: configuration,
            state=self.state,
            clock=self.clock,
            callables={name: self._callable(plan) for name, plan in DESK.items()},
            seed=self.seed,
        )
        await daemon.start()
        self.lives.append(Life(self.clock.monotonic(), None, crashed=False))
        return daemon

    async def _stop(self, daemon: Daemon) -> None:
        self.lives[-1] = self.lives[-1]._replace(ended=self.clock.monotonic())
        await daemon.stop()

    async def _crash(self, daemon: Daemon) -> None:
        """As if killed between two commits: what was on the disk then is what the next one finds.

        Not within the milliseconds in which a pace's run is under way and not yet on record: those
        are the one window in which a kill may repeat it.
        """
        await asyncio.sleep(0.05)
        await daemon._durable()
        self.lives[-1] = self.lives[-1]._replace(ended=self.clock.monotonic(), crashed=True)
        kept = self.state.with_name(self.state.name + ".kept")
        kept.mkdir()
        for path in self.state.glob("ledger.db*"):
            if not path.name.endswith("-shm"):
                shutil.copyfile(path, kept / path.name)
        await daemon.stop()  # its runs end, but nobody will ever read what it has to say of them
        shutil.rmtree(self.state)
        kept.rename(self.state)

    # What the tasks do.

    def _callable(self, plan: Plan) -> Callable[..., Any]:
        if plan.sync:
            return self._sync
        return self._feed if plan.keep_running else self._work

    def _note(self, ctx: Context) -> int:
        due = ctx._job.run.due  # `ctx.due` leaves out the nanoseconds that an event's run may have
        self.starts.append(Start(ctx.task, due, ctx.attempt, self.clock.now(), self.clock.monotonic()))
        return due

    def _sync(self, ctx: Context) -> None:
        fate, _ = ordeal(self.seed, ctx.task, self._note(ctx), ctx.attempt)
        if fate == "exit":
            raise SystemExit(3)
        if fate != "ok":
            raise ValueError(fate)

    async def _work(self, ctx: Context) -> None:
        fate, seconds = ordeal(self.seed, ctx.task, self._note(ctx), ctx.attempt)
        await asyncio.sleep(seconds)
        if ctx.task == "monitor":
            await ctx.cache["market_data"].get_or_load("quotes", self._load_quotes)
        if fate == "raise":
            raise ValueError(fate)
        if fate == "key-error":
            raise KeyError("the quote")
        if fate == "exit":
            raise SystemExit(3)
        if fate == "stray":
            asyncio.ensure_future(asyncio.sleep(1e5))  # noqa: RUF006 - what authors forget
        if fate in ("hang", "stubborn"):
            await self._hang(patience=fate == "stubborn")

    async def _hang(self, *, patience: bool) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not patience:
                raise
            await asyncio.sleep(0.5)  # as if there were something to tidy up, and no word of cancellation

    async def _feed(self, ctx: Context) -> None:
        fate, seconds = ordeal(self.seed, ctx.task, self._note(ctx), ctx.attempt)
        began = self.clock.monotonic()
        async for _ in ctx.ticks():
            if fate == "raise" and self.clock.monotonic() - began >= seconds * SECOND:
                raise ConnectionError("the feed broke off")

    async def _load_quotes(self) -> int:
        self.loads += 1
        await asyncio.sleep(0.01)
        return self.loads
