"""What reading gives (``TaskFile``) and what compiling makes of it (``Config``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

from scheduler.core.alerting import Alert
from scheduler.core.messages import CacheSpec
from scheduler.errors import ConfigurationError, Mark, Problem
from scheduler.taskfile.compiling import Compiler, Entry, PhaseUse, unknown_market
from scheduler.taskfile.defaults import DEFAULT_BUNDLES, Bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from scheduler.core.market import MarketTable
    from scheduler.core.messages import TaskSpec

DEFAULT_TIMEZONE = "Asia/Kolkata"  # of the default market


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that the files say, checked and complete."""

    timezone: ZoneInfo
    tasks: tuple[TaskSpec, ...]  # by name
    caches: Mapping[str, CacheSpec]
    reload: Literal["auto", "manual", "closed-only"]
    alerts: tuple[Alert, ...]
    sources: tuple[Path, ...]  # the files read


@dataclass(frozen=True, slots=True)
class TaskFile:
    """The files as they are, before the markets are known."""

    timezone: ZoneInfo = field(default_factory=lambda: ZoneInfo(DEFAULT_TIMEZONE))
    reload: Literal["auto", "manual", "closed-only"] = "auto"
    tasks: tuple[Entry, ...] = ()
    names: frozenset[str] = frozenset()  # of all tasks, those that are wrong included
    caches: Mapping[str, CacheSpec] = field(default_factory=dict)
    bundles: Mapping[str, Bundle] = field(default_factory=lambda: DEFAULT_BUNDLES)
    bundle_phases: tuple[PhaseUse, ...] = ()  # that `priorities` name
    alerts: tuple[Alert, ...] = ()
    alert_marks: tuple[Mark, ...] = ()  # where each of them is
    sources: tuple[Path, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def markets(self) -> frozenset[str]:
        """The markets that tasks name; the default market comes on top."""
        return frozenset(entry.model.market for entry in self.tasks if entry.model.market)

    def compile(
        self,
        markets: Mapping[str, MarketTable],
        default_market: str,
        market_problem: Callable[[str], str | None] | None = None,
    ) -> Config:
        """The configuration; ConfigurationError with every mistake of reading and compiling.

        ``market_problem`` says in a sentence why a market has no table, or None when that has been
        reported elsewhere; without it a market that is not in ``markets`` is unknown.
        """
        explain = market_problem or unknown_market(markets)
        compiler = Compiler(markets, default_market, self.timezone, self.bundles, explain)
        specs = compiler.compile(self.tasks, self.names, self.bundle_phases)
        problems = [*self.problems, *compiler.problems]
        if problems:
            raise ConfigurationError(in_order(problems))
        return Config(self.timezone, specs, self.caches, self.reload, self.alerts, self.sources)


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """By place, each once (a mistake in an anchored node is found wherever an alias repeats it)."""
    return sorted(set(problems), key=lambda problem: (problem.mark or Mark("", 0, 0), problem.message))
