from __future__ import annotations

import os
from datetime import date
from zoneinfo import ZoneInfo

import pytest

from scheduler.calendars import Calendars
from scheduler.core.market import MarketTable
from scheduler.marketfile import read_markets

DEFAULT_SEEDS = 4


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``SEEDS=500`` for the seeds 0 to 499; ``-k seed-17`` runs one of them again."""
    if "seed" in metafunc.fixturenames:
        seeds = range(int(os.environ.get("SEEDS") or DEFAULT_SEEDS))
        metafunc.parametrize("seed", seeds, ids=[f"seed-{seed}-" for seed in seeds])


@pytest.fixture(scope="session")
def nse(tmp_path_factory: pytest.TempPathFactory) -> MarketTable:
    """The real table, as the daemon would build it."""
    state = tmp_path_factory.mktemp("calendars")
    dates = date(2026, 11, 1), date(2027, 1, 10)
    built = Calendars(state).build(read_markets(state), {"NSE"}, dates, ZoneInfo("Asia/Kolkata"))
    assert not built.problems
    return built.tables["NSE"]
