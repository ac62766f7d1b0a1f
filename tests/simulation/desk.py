"""A desk of 32 tasks in plain data, for the checker, and how each of its runs is fated to go.

Nothing of the scheduler is imported here: what a task is, is said in seconds and words.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

Fate = Literal["ok", "slow", "raise", "key-error", "exit", "hang", "stubborn", "stray"]


class CronPlan(NamedTuple):
    """An expression, and what it means."""

    expression: str
    minutes: frozenset[int]
    hours: frozenset[int]
    weekdays: frozenset[int] = frozenset(range(7))  # Monday is 0


@dataclass(frozen=True)
class Plan:
    """A task. Exactly one of the triggers is given; durations are in seconds."""

    priority: str
    every: Mapping[str, int | None] | None = None  # phase or "*" -> pace
    offset: int = 0
    spread: bool = False
    during: frozenset[str] | None = None  # of `every` and `cron`
    at: tuple[tuple[str, int], ...] = ()  # ("close", 900), ("15:10", 0)
    cron: CronPlan | None = None
    after: str | None = None
    on: tuple[str, ...] = ()
    keep_running: frozenset[str] = frozenset()
    restart: str = "on-failure"
    restart_with: str | None = None
    timeout: int | None = 20
    catchup: int = 60
    catchup_until: tuple[str, int] | None = None
    if_interrupted: Literal["leave", "retry"] = "leave"
    overlap: str = "skip"
    finish_by: tuple[str, int] | None = None
    fresh_within: int | None = None
    sync: bool = False
    faults: float = 0.03  # of its runs

    @property
    def clock_driven(self) -> bool:
        return self.after is None and not self.on

    @property
    def durable(self) -> bool:
        """On record before it begins: everything but a pace and what comes after a run."""
        return self.every is None and self.after is None


class Ordeal(NamedTuple):
    """What a run goes through: its fate, and the seconds that it takes before or until then."""

    fate: Fate
    seconds: float


class Policy(NamedTuple):
    """So many failures within a window of seconds, and what then."""

    burst: int
    window: int
    then: str  # keep_trying, park


POLICIES = {"always": Policy(5, 60, "keep_trying"), "on-failure": Policy(3, 600, "park")}

_QUARTERS = frozenset({0, 15, 30, 45})
_TRADING = frozenset({"open"})
_FROM_PRE_OPEN = frozenset({"pre-open", "open"})

DESK: dict[str, Plan] = {
    "monitor": Plan("critical", every={"open": 60, "closed": 600}, restart="always", catchup=60),
    "signals": Plan("critical", after="monitor", restart="always"),
    "pulse": Plan("critical", every={"*": 300}, restart="always", catchup=300, faults=0.0),
    "hedge": Plan(
        "critical", every={"*": 180}, during=_TRADING, restart="always", catchup=180, if_interrupted="retry",
        faults=0.2,
    ),
    "regime": Plan("important", every={"open": 90, "closed": 1200}, faults=0.1),
    "news": Plan("nice-to-have", every={"open": 110, "closed": None}, restart="never", faults=0.2),
    "risk": Plan("important", every={"pre-open": 45, "open": 120}, offset=7, overlap="queue-one", faults=0.2),
    "sweep": Plan("important", every={"open": 130, "closed": None}, overlap="cancel-previous", faults=0.2),
    "breadth": Plan("important", every={"*": 400}, during=frozenset({"session"}), catchup=400, faults=0.1),
    "volatility": Plan("important", every={"open": 150, "closed": 1500}, spread=True, catchup=150),
    "scan": Plan("nice-to-have", every={"open": 170, "post-close": 60, "closed": None}, faults=0.2),
    "freshness": Plan("important", every={"open": 240, "closed": None}, fresh_within=900, faults=0.3),
    "audit": Plan("important", every={"*": 1800}, sync=True, catchup=600),
    "cleanup": Plan("nice-to-have", every={"*": 1800}, offset=90, restart="never", overlap="queue-one",
                    catchup=900, timeout=3000, faults=0.4),
    "batch": Plan("important", every={"*": 900}, spread=True, catchup=900, timeout=700,
                  if_interrupted="retry", faults=0.5),
    "square-off": Plan(
        "critical", at=(("15:10", 0), ("close", -60)), restart="always", catchup=900, faults=0.5
    ),
    "settle": Plan("critical", after="square-off", restart="always", faults=0.3),
    "report": Plan("important", at=(("close", 900), ("open", -600)), catchup=3600, timeout=600,
                   finish_by=("close", 3600), faults=0.3),
    "archive": Plan("important", after="report", restart="never", faults=0.2),
    "mail": Plan("important", after="archive", faults=0.2),
    "margin": Plan("important", at=(("09:05", 0), ("12:00", 0), ("close", -600)), catchup_until=("close", 0),
                   if_interrupted="retry", faults=0.2),
    "limits": Plan("critical", at=(("pre-open.start", 0), ("post-close.end", 0)), catchup=600, faults=0.2),
    "quarter": Plan(
        "important", cron=CronPlan("*/15 9-15 * * *", _QUARTERS, frozenset(range(9, 16))), catchup=3600,
        faults=0.1,
    ),
    "tape": Plan("nice-to-have", cron=CronPlan("*/20 * * * *", frozenset({0, 20, 40}), frozenset(range(24))),
                 during=_TRADING, catchup=300, faults=0.2),
    "nightly": Plan("important", cron=CronPlan("30 2 * * *", frozenset({30}), frozenset({2})), catchup=3600),
    "backup": Plan("nice-to-have", cron=CronPlan("10 18 * * 1-5", frozenset({10}), frozenset({18}),
                                                 frozenset(range(5))), catchup=7200, restart="never"),
    "feed": Plan("critical", keep_running=_FROM_PRE_OPEN, restart="always", timeout=None, faults=0.5),
    "consumer": Plan("important", keep_running=_FROM_PRE_OPEN, restart="always", restart_with="feed",
                     timeout=None, faults=0.2),
    "recorder": Plan("important", keep_running=_TRADING, timeout=None, faults=0.7),
    "page": Plan("important", on=("task.crash_looping", "task.parked"), faults=0.0),
    "resync": Plan("critical", on=("clock.stepped",), faults=0.0),
    "alarm": Plan("important", on=("task.unfinished", "task.stale"), faults=0.0),
}  # fmt: skip

# What reloads bring and change; the rest of a changed task stays as it is.
NEWCOMERS: dict[str, Plan] = {
    "newcomer": Plan("important", every={"open": 75, "closed": 700}, restart="always", faults=0.2),
    "second-feed": Plan("critical", keep_running=_TRADING, restart="always", timeout=None, faults=0.5),
    "second-square-off": Plan("critical", at=(("close", -120),), restart="always", catchup=900, faults=0.5),
}
CHANGED: dict[str, Plan] = {
    "monitor": replace(DESK["monitor"], every={"open": 40, "closed": 900}),
    "regime": replace(DESK["regime"], every={"open": 75, "pre-open": 50, "closed": 1100}),
    "risk": replace(DESK["risk"], every={"pre-open": 45, "open": 100}, offset=11),
    "sweep": replace(DESK["sweep"], overlap="skip"),
    "news": replace(DESK["news"], priority="important", restart="always"),
    "audit": replace(DESK["audit"], offset=60),
    "square-off": replace(DESK["square-off"], at=(("15:05", 0), ("close", -30))),
    "quarter": replace(DESK["quarter"], cron=CronPlan("*/15 8-16 * * *", _QUARTERS, frozenset(range(8, 17)))),
    "feed": replace(DESK["feed"], keep_running=_TRADING),
    "recorder": replace(DESK["recorder"], keep_running=_FROM_PRE_OPEN),
    "hedge": replace(DESK["hedge"], every={"*": 200}, restart="on-failure"),
    "breadth": replace(DESK["breadth"], during=None),
}
REMOVABLE = (
    "regime", "news", "breadth", "scan", "volatility", "tape", "cleanup", "batch", "recorder", "sweep",
    "quarter", "mail",
)  # fmt: skip
_RENAMED = "-renamed"


def reloaded(desk: Mapping[str, Plan], draw: random.Random) -> dict[str, Plan]:
    """What someone makes of the tasks: adds, removes, renames and changes some, or takes it all back."""
    if draw.random() < 0.2:
        return dict(DESK)
    new = dict(desk)
    for kind in draw.choices(("add", "remove", "rename", "change", "change"), k=draw.randint(1, 4)):
        removable = sorted(name for name in new if name.removesuffix(_RENAMED) in REMOVABLE)
        if kind == "add":
            new.update([draw.choice([*NEWCOMERS.items(), *DESK.items()])])
        elif kind == "change":
            new.update([draw.choice(list(CHANGED.items()))])
        elif removable:
            name = draw.choice(removable)
            plan = new.pop(name)
            if kind == "rename" and not name.endswith(_RENAMED):
                new[name + _RENAMED] = plan
    return new


def ordeal(seed: int, task: str, due: int, attempt: int) -> Ordeal:
    """The same for whoever asks: the run that goes through it, and the checker."""
    plan = (DESK | NEWCOMERS)[task.removesuffix(_RENAMED)]
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
