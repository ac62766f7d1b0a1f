"""Moving-average crossovers. An ``async def``: it runs on the daemon's own loop and must never block it."""

from __future__ import annotations

import asyncio
from statistics import fmean
from typing import TYPE_CHECKING, Any

from scheduler.examples import feed

if TYPE_CHECKING:
    from scheduler.context import Context


async def generate(ctx: Context, url: str, fast: int = 5, slow: int = 20) -> None:
    """Log each symbol whose signal changed, with what the other tasks left in the cache: regime and news.

    ``fast`` and ``slow`` are minutes. It runs after market monitoring with the same ``due``, so the
    prices are in the cache already; only when they are not does it ask the feed, in a thread.
    """

    async def load() -> Any:
        return await asyncio.to_thread(feed.fetch, url, "prices", ctx.due)

    prices: dict[str, list[float]] = await ctx.cache["market_data"].get_or_load(feed.key(ctx), load)
    signals = {s: crossover(series, fast, slow) for s, series in prices.items() if len(series) >= slow}
    before: dict[str, str] = ctx.cache["reported"].get("signals", {})
    regime, news = ctx.cache["regime"].get("NIFTY"), ctx.cache["news"]
    for symbol, signal in signals.items():
        if signal != before.get(symbol):
            ctx.log.info("signal.changed", symbol=symbol, signal=signal, regime=regime, news=news.get(symbol))
    ctx.cache["reported"].put("signals", before | signals)


def crossover(series: list[float], fast: int, slow: int) -> str:
    """Answer "long" while the fast moving average is above the slow one, else "short"."""
    return "long" if fmean(series[-fast:]) > fmean(series[-slow:]) else "short"
