"""A trading week of the whole daemon, with faults, judged from its ledger.

``make simulate SEEDS=500`` runs many; a failure names its seed, which alone reproduces it:
``SEEDS=18 pytest tests/simulation -k seed-17-``.
"""

from __future__ import annotations

from pathlib import Path

from scheduler.core.market import MarketTable
from tests.simulation.checker import check
from tests.simulation.week import BEGIN, Week, blows


def test_nothing_is_missing_nothing_is_extra_and_nothing_starts_twice(
    seed: int, nse: MarketTable, tmp_path: Path
) -> None:
    story = Week(seed, tmp_path / "state", nse).run()
    told = "\n".join(f"{(blow.at - BEGIN) / 1e9:.0f} s: {blow.kind} {blow.seconds} s" for blow in blows(seed))
    problems = check(story)
    shown = "\n".join(problems[:20])
    assert not problems, f"seed {seed}: {len(problems)} problems\n{told}\n{shown}"


def test_the_same_seed_tells_the_same_story(nse: MarketTable, tmp_path: Path) -> None:
    end = BEGIN + 3_600_000_000_000
    first, second = (Week(7, tmp_path / name, nse).run([], end) for name in ("first", "second"))
    assert first.starts == second.starts
    assert [row[:8] for row in first.rows] == [row[:8] for row in second.rows]
    assert len(first.starts) > 100
