"""The checker catches what is planted in the scheduler: engine, triggers, supervision, ledger.

``make test`` tells for each bug the one story that is known to give it away; ``make simulate`` looks
for it again from seed 0 on.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.simulation.blows import SHORT
from tests.simulation.checker import check
from tests.simulation.planted import BUGS, Bug, plant
from tests.simulation.week import Tables, Week

SEEDS = 50


@pytest.mark.parametrize("bug", BUGS.values(), ids=list(BUGS))
def test_a_planted_bug_is_caught(
    bug: Bug, tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(bug, monkeypatch)
    seeds = range(SEEDS) if os.environ.get("SEEDS") else [bug.seed]
    assert any(check(Week(seed, tmp_path / str(seed), tables, SHORT).run()) for seed in seeds)


@pytest.mark.parametrize("told", sorted({bug.seed for bug in BUGS.values()})[:3])
def test_without_it_the_same_story_is_innocent(told: int, tables: Tables, tmp_path: Path) -> None:
    assert check(Week(told, tmp_path / "state", tables, SHORT).run()) == []


def test_a_bug_that_is_out_of_date_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    bug = next(iter(BUGS.values()))
    with pytest.raises(KeyError):
        plant(bug._replace(where="core.triggers:Every.no_such_function"), monkeypatch)
    with pytest.raises(AssertionError):
        plant(bug._replace(right="what is not there"), monkeypatch)
