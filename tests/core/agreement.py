"""How tests of triggers ask: every tick, what every trigger promises, and days of November 2026."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from hypothesis import strategies as st

from scheduler.core.market import MarketTable
from scheduler.core.messages import HOUR
from scheduler.core.triggers import At, Trigger, parse_anchor
from tests.core.tables import nse_week
from tests.helpers import instant, iso

NSE = nse_week()


def enumerate_ticks(trigger: Trigger, table: MarketTable) -> list[int]:
    """Every tick of the table, one after the other."""
    found = [table.first - 1]
    while (t := trigger.next_after(found[-1], table)) is not None:
        assert t > found[-1], "a tick must be later than what it was asked to follow"
        found.append(t)
    return found[1:]


def assert_agrees(trigger: Trigger, table: MarketTable, expected: Iterable[int], data: st.DataObject) -> None:
    """The trigger has just the expected ticks, whichever way and from whichever instant it is asked."""
    ticks = sorted(expected)
    assert enumerate_ticks(trigger, table) == ticks
    instants = st.integers(table.first - 3 * HOUR, table.last + 3 * HOUR)
    if ticks:
        instants |= st.builds(int.__add__, st.sampled_from(ticks), st.integers(-1, 1))
    for a, b in data.draw(st.lists(st.tuples(instants, instants), min_size=5, max_size=5), label="a, b"):
        after, before = bisect_right(ticks, a), bisect_left(ticks, a)
        assert trigger.next_after(a, table) == (ticks[after] if after < len(ticks) else None)
        assert trigger.last_before(a, table) == (ticks[before - 1] if before else None)
        assert trigger.count_between(a, b, table) == max(0, bisect_left(ticks, b) - before)


def at(text: str) -> int:
    return instant(f"2026-11-{text}+05:30")


def after(trigger: Trigger, time: str, market: MarketTable = NSE) -> str:
    tick = trigger.next_after(at(time), market)
    assert tick is not None
    return iso(tick)[8:19]


def before(trigger: Trigger, time: str, market: MarketTable = NSE) -> str:
    tick = trigger.last_before(at(time), market)
    assert tick is not None
    return iso(tick)[8:19]


def anchors(*texts: str) -> At:
    return At(tuple(map(parse_anchor, texts)))


def on_day(trigger: Trigger, day: str, market: MarketTable = NSE) -> list[str]:
    return [iso(t)[11:16] for t in enumerate_ticks(trigger, market) if iso(t).startswith(f"2026-11-{day}")]
