"""What single parts cost: a question to the calendar, and a cold key that a thousand ask for."""

from __future__ import annotations

import asyncio
import json
import random
import time
from datetime import UTC
from statistics import median

from scheduler.cache import SharedCache
from scheduler.core.market import MarketTable, Piece, Session
from scheduler.core.messages import DAY, HOUR, MINUTE, SECOND, CacheSpec

YEARS = 20
ASKERS = 1_000

# An ordinary day of NSE: phase, start and end after local midnight. What is between is closed.
_PHASES = (
    ("closed", 0, 9 * HOUR),
    ("pre-open", 9 * HOUR, 9 * HOUR + 15 * MINUTE),
    ("open", 9 * HOUR + 15 * MINUTE, 15 * HOUR + 30 * MINUTE),
    ("closed", 15 * HOUR + 30 * MINUTE, 15 * HOUR + 50 * MINUTE),
    ("post-close", 15 * HOUR + 50 * MINUTE, 16 * HOUR),
    ("closed", 16 * HOUR, DAY),
)


def twenty_years() -> MarketTable:
    """A market with a session on every weekday, from 2010 on (in UTC: the zone costs nothing here)."""
    first = 14_610  # 2010-01-01, a Friday, in days since 1970-01-01
    pieces: list[Piece] = []
    sessions: list[Session] = []
    for number in range(first, first + 365 * YEARS):
        midnight = number * DAY
        if (number + 3) % 7 >= 5:
            pieces.append(_piece("closed", midnight, 0, DAY, -1))
            continue
        pieces += [_piece(phase, midnight, start, end, len(sessions)) for phase, start, end in _PHASES]
        opened, closed = midnight + _PHASES[2][1], midnight + _PHASES[2][2]
        begun, ended = midnight + 9 * HOUR, midnight + 16 * HOUR
        sessions.append(Session("", midnight, begun, ended, opened, closed, {}, special=False))
    phases = frozenset(phase for phase, _, _ in _PHASES)
    return MarketTable(
        name="NSE", zone=UTC, pieces=pieces, sessions=sessions, days=(), phases=phases, version=""
    )


def _piece(phase: str, midnight: int, start: int, end: int, session: int) -> Piece:
    begins = midnight + start
    return Piece(
        begins,
        midnight + end,
        phase,
        phase == "open",
        begins,
        begins,
        midnight,
        session,
        "",
        "",
        assumed=False,
    )


def phase_at(calls: int = 200_000, rounds: int = 5) -> dict[str, float]:
    """Nanoseconds of one ``phase_at``, the loop around it included; median of the rounds.

    In order is how a scheduler asks; at random over the twenty years hardly a look finds its data cached.
    """
    table = twenty_years()
    step = (table.last - table.first) // calls
    in_order = [table.first + number * step for number in range(calls)]
    at_random = random.Random(1).sample(in_order, calls)
    return {
        "in_order_ns": median(_phase_at_ns(table, in_order) for _ in range(rounds)),
        "at_random_ns": median(_phase_at_ns(table, at_random) for _ in range(rounds)),
    }


def _phase_at_ns(table: MarketTable, instants: list[int]) -> float:
    ask = table.phase_at
    began = time.perf_counter_ns()
    for instant in instants:
        ask(instant)
    return (time.perf_counter_ns() - began) / len(instants)


async def _cold_key() -> dict[str, float]:
    cache = SharedCache({"quotes": CacheSpec(ttl=5 * SECOND)}, time.monotonic)
    loads = 0

    async def load() -> int:
        nonlocal loads
        loads += 1
        await asyncio.sleep(0.05)
        return 42

    asking = [cache["quotes"].get_or_load("key", load) for _ in range(ASKERS)]
    answers = await asyncio.gather(*asking)
    return {"askers": ASKERS, "loads": loads, "answered": answers.count(42)}


def cold_key() -> dict[str, float]:
    """How many loads a cold key costs that 1,000 coroutines ask for at once."""
    return asyncio.run(_cold_key())


if __name__ == "__main__":
    print(json.dumps({"phase_at": phase_at(), "cold_key": cold_key()}))
