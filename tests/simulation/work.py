"""What the tasks of the simulated desk are to the scheduler, and what their runs do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from scheduler.clock import VirtualClock
from scheduler.context import Context
from scheduler.core.market import MarketTable
from scheduler.core.messages import SECOND, Overlap, Priority, RestartPolicy, TaskSpec, Work
from scheduler.core.triggers import After, At, Cron, Every, KeepRunning, On, Trigger, parse_anchor, share_of
from tests.simulation.desk import POLICIES, Ordeal, Plan, ordeal
from tests.simulation.story import Key


def _anchor(base: str, shift: int) -> Any:
    return parse_anchor(f"{base}{shift:+}s" if shift else base)


def trigger_of(name: str, plan: Plan, table: MarketTable) -> Trigger:
    if plan.every is not None:
        pace = {phase: None if pace is None else pace * SECOND for phase, pace in plan.every.items()}
        return Every(pace, plan.offset * SECOND, share_of(name) if plan.spread else 0.0, plan.during)
    if plan.at:
        return At(tuple(_anchor(*at) for at in plan.at))
    if plan.cron is not None:
        return Cron(plan.cron.expression, table.zone, plan.during)
    if plan.after is not None:
        return After(plan.after)
    return On(plan.on) if plan.on else KeepRunning(plan.keep_running)


def spec_of(name: str, plan: Plan, table: MarketTable) -> TaskSpec:
    policy = POLICIES.get(plan.restart)
    restart = (
        RestartPolicy("never")
        if policy is None
        else RestartPolicy(plan.restart, policy.burst, policy.window * SECOND, policy.then)  # type: ignore[arg-type]
    )
    return TaskSpec(
        name=name,
        priority=Priority[plan.priority.upper().replace("-", "_")],
        market="NSE",
        trigger=trigger_of(name, plan, table),
        work=Work(target="feed" if plan.keep_running else "sync" if plan.sync else "work"),
        restart=restart,
        timeout=None if plan.timeout is None else plan.timeout * SECOND,
        catchup=plan.catchup * SECOND,
        catchup_until=None if plan.catchup_until is None else _anchor(*plan.catchup_until),
        if_interrupted=plan.if_interrupted,
        restart_with=plan.restart_with,
        finish_by=None if plan.finish_by is None else _anchor(*plan.finish_by),
        fresh_within=None if plan.fresh_within is None else plan.fresh_within * SECOND,
        overlap=Overlap(plan.overlap),
        stop_grace=5 * SECOND,
        pace=Every({"*": 60 * SECOND}) if plan.keep_running else None,
    )


class Workers:
    """The callables. Each run says that it begins, then goes through what it is fated to."""

    def __init__(
        self, seed: int, clock: VirtualClock, began: Callable[[Key], None], ended: Callable[[Key], None]
    ) -> None:
        self._seed = seed
        self._clock = clock
        self._began = began
        self._ended = ended
        self.callables: dict[str, Callable[..., Any]] = {
            "work": self._work, "feed": self._feed, "sync": self._sync,
        }  # fmt: skip
        self.loads = 0

    @contextmanager
    def _telling(self, ctx: Context) -> Iterator[Ordeal]:
        due = ctx._job.run.due  # `ctx.due` leaves out the nanoseconds that an event's run may have
        key = ctx.task, due, ctx.attempt
        self._began(key)
        try:
            yield ordeal(self._seed, *key)
        finally:
            self._ended(key)

    def _sync(self, ctx: Context) -> None:
        with self._telling(ctx) as (fate, _):
            if fate == "exit":
                raise SystemExit(3)
            if fate != "ok":
                raise ValueError(fate)

    async def _work(self, ctx: Context) -> None:
        with self._telling(ctx) as (fate, seconds):
            await asyncio.sleep(seconds)
            if ctx.task == "monitor":
                await ctx.cache["market_data"].get_or_load("quotes", self._load_quotes)
            await self._suffer(fate)

    async def _suffer(self, fate: str) -> None:
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
        with self._telling(ctx) as (fate, seconds):
            began = self._clock.monotonic()
            async for _ in ctx.ticks():
                if fate == "raise" and self._clock.monotonic() - began >= seconds * SECOND:
                    raise ConnectionError("the feed broke off")

    async def _load_quotes(self) -> int:
        self.loads += 1
        await asyncio.sleep(0.01)
        return self.loads
