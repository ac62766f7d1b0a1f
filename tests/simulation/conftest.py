from __future__ import annotations

import os
from datetime import date
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from scheduler.calendars import Calendars
from scheduler.core.market import MarketTable
from scheduler.marketfile import amended, read_markets
from tests.simulation.exchange import AMENDMENTS
from tests.simulation.week import Tables

DEFAULT_SEEDS = 2


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``SEEDS=500`` for the seeds 0 to 499; ``-k seed-17-`` runs one of them again."""
    if "seed" in metafunc.fixturenames:
        seeds = range(int(os.environ.get("SEEDS") or DEFAULT_SEEDS))
        metafunc.parametrize("seed", seeds, ids=[f"seed-{seed}-" for seed in seeds])


def real_tables(state: Path) -> Tables:
    """The real tables, as the daemon would build them with some amendments in force."""
    calendars, markets = Calendars(state), read_markets(state)
    dates = date(2026, 11, 1), date(2027, 1, 10)

    @cache
    def table(names: frozenset[str]) -> MarketTable:
        changes = "\n".join(f"      {AMENDMENTS[name].day}: {{{AMENDMENTS[name].yaml}}}" for name in names)
        text = f"markets:\n  NSE:\n    changes:\n{changes}\n" if names else None
        built = calendars.build(amended(markets, state, text), {"NSE"}, dates, ZoneInfo("Asia/Kolkata"))
        assert not built.problems, built.problems
        return built.tables["NSE"]

    return table


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return real_tables(tmp_path_factory.mktemp("calendars"))
