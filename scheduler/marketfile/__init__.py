"""markets.yaml: what the desk says about markets, read with the layers below and above it.

Nothing here raises for a mistake: all of them are collected, each with its place, so that they can
be shown together with those of tasks.yaml. What is wrong is left out of the result.
"""

from __future__ import annotations

from scheduler.marketfile.files import (
    AMENDMENTS_FILES,
    MARKETS_FILE,
    markets_schema,
    parse_markets,
    read_markets,
    read_overlay,
)

__all__ = [
    "AMENDMENTS_FILES",
    "MARKETS_FILE",
    "markets_schema",
    "parse_markets",
    "read_markets",
    "read_overlay",
]
