"""Asking the feed: one HTTP request, one JSON answer, or an error that says what was wrong."""

from __future__ import annotations

import json
from datetime import datetime
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

if TYPE_CHECKING:
    from scheduler.context import Context

TIMEOUT = 2.0  # seconds without a byte from the feed

_open = build_opener(ProxyHandler({})).open  # a feed is asked directly, whatever http_proxy says


class FeedError(Exception):
    """The feed did not answer, or not with what was asked for."""


def fetch(url: str, what: str, at: datetime) -> Any:
    """Ask for ``what`` ("prices" or "news") as of ``at``; FeedError names the address and the reason."""
    address = f"{url}/{what}?{urlencode({'at': at.isoformat()})}"
    try:
        with _open(address, timeout=TIMEOUT) as answer:
            return json.load(answer)[what]
    except HTTPError as refusal:
        with refusal:  # it holds the connection
            raise FeedError(f"{address}: HTTP {refusal.code} {refusal.reason}") from refusal
    except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
        raise FeedError(f"{address}: {type(error).__name__}: {error}") from error


def key(ctx: Context) -> str:
    """Name the prices in the cache.

    With the ``due`` in it, whatever is due together shares one request, and no tick is given the
    answer of the tick before.
    """
    return f"prices at {ctx.due.isoformat()}"


def prices(ctx: Context, url: str) -> dict[str, list[float]]:
    """Look up each symbol's prices of the last half hour, a minute apart, oldest first, in rupees.

    The first task to ask makes the request, those that ask meanwhile or later find it in the cache.
    """
    loaded: dict[str, list[float]] = ctx.cache["market_data"].get_or_load_sync(
        key(ctx), lambda: fetch(url, "prices", ctx.due)
    )
    return loaded
