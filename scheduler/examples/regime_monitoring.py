"""How turbulent the market is: the realised volatility of an index, classified."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import stdev
from typing import TYPE_CHECKING

from scheduler.examples import feed

if TYPE_CHECKING:
    from scheduler.context import Context

MINUTES_PER_YEAR = 252 * 375  # sessions a year, minutes a session
FEWEST = 10  # prices; fewer say nothing about volatility


def classify(ctx: Context, url: str, index: str = "NIFTY", calm: float = 12, turbulent: float = 24) -> None:
    """Keep the index's regime in the cache, where it expires with the phase; log it when it changes.

    Below ``calm`` per cent a year it is calm, from ``turbulent`` on turbulent, between them normal.
    """
    series = feed.prices(ctx, url)[index]
    if len(series) < FEWEST:
        return
    volatility = realised_volatility(series)
    regime = "calm" if volatility < calm else "turbulent" if volatility >= turbulent else "normal"
    ctx.cache["regime"].put(index, regime)
    if regime != ctx.cache["reported"].get("regime"):
        ctx.log.info("regime.changed", index=index, regime=regime, volatility=round(volatility, 1))
        ctx.cache["reported"].put("regime", regime)


def realised_volatility(series: list[float]) -> float:
    """Per cent a year, from prices a minute apart."""
    returns = [math.log(after / before) for before, after in pairwise(series)]
    return stdev(returns) * math.sqrt(MINUTES_PER_YEAR) * 100
