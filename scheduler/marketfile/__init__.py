"""markets.yaml: what the desk says about markets, read with the layers below and above it.

Nothing here raises for a mistake: all of them are collected, each with its place, so that they can
be shown together with those of tasks.yaml. What is wrong is left out of the result.
"""

from __future__ import annotations

from scheduler.marketfile.amendments import (
    AMENDMENTS,
    AmendmentsLock,
    Changes,
    Entry,
    amendments_file,
    amendments_text,
    read_changes,
    read_trail,
)
from scheduler.marketfile.files import (
    MARKETS_FILE,
    amended,
    markets_schema,
    parse_markets,
    read_markets,
    read_overlay,
    read_provisional,
)

__all__ = [
    "AMENDMENTS",
    "MARKETS_FILE",
    "AmendmentsLock",
    "Changes",
    "Entry",
    "amended",
    "amendments_file",
    "amendments_text",
    "markets_schema",
    "parse_markets",
    "read_changes",
    "read_markets",
    "read_overlay",
    "read_provisional",
    "read_trail",
]
