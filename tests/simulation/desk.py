"""A desk in plain data, for the checker, and how each of its runs is fated to go.

Nothing of the scheduler is imported here: what a task is, is said in seconds and words.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal, NamedTuple

Fate = Literal["ok", "slow", "raise", "key-error", "exit", "hang", "stubborn", "stray"]


@dataclass(frozen=True)
class Plan:
    """A task. Exactly one of the triggers is given; durations are in seconds."""

    priority: str
    every: dict[str, int | None] | None = None  # phase or "*" -> pace
    offset: int = 0
    at: tuple[tuple[str, int], ...] = ()  # ("close", 900), ("15:10", 0)
    cron: tuple[str, frozenset[int], frozenset[int]] | None = None  # expression, its minutes, its hours
    after: str | None = None
    on: tuple[str, ...] = ()
    keep_running: frozenset[str] = frozenset()
    restart: str = "on-failure"
    timeout: int | None = 20
    catchup: int = 60
    overlap: str = "skip"
    sync: bool = False
    faults: float = 0.03  # of its runs


class Ordeal(NamedTuple):
    """What a run goes through: its fate, and the seconds that it takes before or until then."""

    fate: Fate
    seconds: float


DESK: dict[str, Plan] = {
    "monitor": Plan("critical", every={"open": 30, "closed": 240}, restart="always", catchup=30),
    "signals": Plan("critical", after="monitor", restart="always"),
    "pulse": Plan("critical", every={"*": 300}, restart="always", catchup=300, faults=0.0),
    "regime": Plan("important", every={"open": 60, "closed": 900}, faults=0.1),
    "news": Plan("nice-to-have", every={"open": 90, "closed": None}, restart="never", faults=0.2),
    "risk": Plan("important", every={"pre-open": 45, "open": 120}, offset=7, overlap="queue-one", faults=0.2),
    "sweep": Plan("important", every={"open": 100, "closed": None}, overlap="cancel-previous", faults=0.2),
    "audit": Plan("important", every={"*": 1800}, sync=True, catchup=600),
    "square-off": Plan(
        "critical", at=(("15:10", 0), ("close", -60)), restart="always", catchup=900, faults=0.5
    ),
    "report": Plan("important", at=(("close", 900), ("open", -600)), catchup=3600, timeout=600, faults=0.3),
    "quarter": Plan(
        "important",
        cron=("*/15 9-15 * * *", frozenset({0, 15, 30, 45}), frozenset(range(9, 16))),
        catchup=3600,
        faults=0.1,
    ),
    "nightly": Plan("important", cron=("30 2 * * *", frozenset({30}), frozenset({2})), catchup=3600),
    "feed": Plan(
        "critical", keep_running=frozenset({"pre-open", "open"}), restart="always", timeout=None, faults=0.5
    ),
    "page": Plan("important", on=("task.crash_looping", "task.parked"), faults=0.0),
}


def ordeal(seed: int, task: str, due: int, attempt: int) -> Ordeal:
    """The same for whoever asks: the run that goes through it, and the checker."""
    plan = DESK[task]
    draw = random.Random(f"{seed}/{task}/{due}/{attempt}")  # noqa: S311
    if plan.keep_running:
        lasting = draw.random() > plan.faults
        return Ordeal("ok" if lasting else "raise", 1e6 if lasting else draw.choice([0.0, 3.0, 90.0, 4000.0]))
    if draw.random() >= plan.faults:
        return Ordeal("ok", draw.choice([0.0, 0.05, 0.4]))
    fates: list[Fate] = ["raise", "key-error", "exit"]
    if not plan.sync:  # a thread that hangs cannot be ended, which is another story
        fates += ["slow", "hang", "stubborn", "stray"]
    fate = draw.choice(fates)
    if fate == "slow":  # longer than most paces, shorter than its timeout
        return Ordeal(fate, draw.uniform(0.3, 0.9) * (plan.timeout or 20))
    return Ordeal(fate, draw.choice([0.0, 0.5]))
