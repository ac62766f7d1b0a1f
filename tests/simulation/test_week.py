"""A trading week of the whole daemon, with faults, judged from its ledger.

``make simulate SEEDS=500`` runs many; a failure names its seed, which alone reproduces it:
``SEEDS=18 pytest tests/simulation -k seed-17-``.
"""

from __future__ import annotations

from pathlib import Path

from tests.simulation.blows import SHORT, WEEK, blows
from tests.simulation.checker import check
from tests.simulation.week import Tables, Week


def test_nothing_is_missing_nothing_is_extra_and_nothing_starts_twice(
    seed: int, tables: Tables, tmp_path: Path
) -> None:
    week = Week(seed, tmp_path / "state", tables)
    problems = check(week.run())
    audit = week.audit
    # It may expect nothing: a change in the last minutes begins every task anew.
    if audit.at is None or audit.unaccounted:
        problems.append(f"the daemon itself finds {audit}")
    told = "\n".join(f"{(blow.at - WEEK.begin) / 1e9:.0f} s: {blow}" for blow in blows(seed))
    shown = "\n".join(problems[:20])
    assert not problems, f"seed {seed}: {len(problems)} problems\n{told}\n{shown}"


def test_the_same_seed_tells_the_same_story(tables: Tables, tmp_path: Path) -> None:
    first, second = (Week(7, tmp_path / name, tables, SHORT).run() for name in ("first", "second"))
    assert sorted(first.starts) == sorted(second.starts)  # threads begin in any order
    assert [row[:8] for row in first.rows] == [row[:8] for row in second.rows]
    assert len(first.starts) > 1000
