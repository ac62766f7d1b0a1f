"""Reads the headlines and logs each once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.examples import feed

if TYPE_CHECKING:
    from scheduler.context import Context


def read(ctx: Context, url: str) -> None:
    """Put the newest headline of each symbol into the cache, under the symbol, and log the new ones."""
    news, reported = ctx.cache["news"], ctx.cache["reported"]
    for row in feed.fetch(url, "news", ctx.due):
        news.put(row["symbol"], row["headline"])
        headline = f"{ctx.session} {row['headline']}"
        if not reported.get(headline):
            ctx.log.info("news.headline", **row)
            reported.put(headline, True)
