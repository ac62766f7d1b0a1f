"""What it costs to build the tables of ten markets over two years: at the first start, and later ones."""

from __future__ import annotations

import json
import tempfile
import time
from datetime import date
from pathlib import Path
from statistics import median
from zoneinfo import ZoneInfo

from scheduler.calendars import Calendars, run_child
from scheduler.marketfile import parse_markets

MARKETS = ("NSE", "NSE-CAS", "NSE-FO", "BSE", "CDS", "MCX", "XNYS", "XLON", "XHKG", "XTKS")
WINDOW = date(2025, 11, 22), date(2027, 11, 21)
ROUNDS = 5
_NOTHING = "default: NSE"
_CHANGED = "markets: {NSE: {changes: {2026-12-01: {closed: true}}}}"


class _Children:
    """A runner that counts."""

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0

    def __call__(self, request: str) -> str:
        self.count += 1
        began = time.perf_counter()
        answer = run_child(request)
        self.seconds += time.perf_counter() - began
        return answer


def _build(calendars: Calendars, text: str) -> float:
    began = time.perf_counter()
    built = calendars.build(parse_markets(text), MARKETS, WINDOW, ZoneInfo("Asia/Kolkata"))
    assert set(built.tables) == set(MARKETS)
    assert not built.warnings, built.warnings
    return time.perf_counter() - began


def ten_markets() -> dict[str, float]:
    """Seconds, medians of the rounds, and how many child processes all builds of a round took.

    ``first``: nothing is known, ``child_s`` of it in the child; ``restart``: its answer is in the state
    directory; ``changed``: in memory, and markets.yaml has changed.
    """
    children = _Children()
    first, restart, changed = [], [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as state:
            first.append(_build(Calendars(Path(state), children), _NOTHING))
            calendars = Calendars(Path(state), children)
            restart.append(_build(calendars, _NOTHING))
            changed.append(_build(calendars, _CHANGED))
    return {
        "markets": len(MARKETS),
        "first_s": median(first),
        "child_s": children.seconds / ROUNDS,
        "restart_s": median(restart),
        "changed_s": median(changed),
        "children": children.count / ROUNDS,
    }


if __name__ == "__main__":
    print(json.dumps(ten_markets()))
