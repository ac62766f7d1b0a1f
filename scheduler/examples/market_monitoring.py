"""Watches the last prices and reports what moved. A plain function: it runs in a thread of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.examples import feed

if TYPE_CHECKING:
    from scheduler.context import Context


def watch(ctx: Context, url: str, threshold: float = 0.25) -> None:
    """Log the price of each symbol that moved by ``threshold`` per cent since it was last reported.

    A failing feed makes this raise; the daemon then restarts the task by its policy.
    """
    last = {symbol: series[-1] for symbol, series in feed.prices(ctx, url).items()}
    reported: dict[str, float] = ctx.cache["reported"].get("prices", {})
    moved = {name: price for name, price in last.items() if _moved(price, reported.get(name), threshold)}
    if moved:
        ctx.log.info("market.prices", **moved)
        ctx.cache["reported"].put("prices", reported | moved)
    ctx.log.debug("market.watched", symbols=len(last), moved=len(moved))


def _moved(price: float, before: float | None, threshold: float) -> bool:
    return before is None or abs(price / before - 1) * 100 >= threshold
