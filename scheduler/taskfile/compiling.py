"""From models to ``TaskSpec``: defaults filled in, and everything checked that concerns more than one
value: keys that do not fit together, other tasks, and what the markets know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from scheduler.core.during import SESSION
from scheduler.core.market import OPEN
from scheduler.core.triggers import PLAIN, After, Anchor, At, Cron, Every, KeepRunning, On, Trigger, share_of
from scheduler.errors import Mark, Problem
from scheduler.taskfile.defaults import Bundle, complete
from scheduler.taskfile.fit import misfits
from scheduler.yamlfile import suggest

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from scheduler.core.market import MarketTable
    from scheduler.core.messages import TaskSpec
    from scheduler.taskfile.models import TaskModel
    from scheduler.yamlfile import MapNode

_TRIES = 7  # a cron expression that came true so often while `during` never held: it never will


class PhaseUse(NamedTuple):
    """A phase that a file names, and where."""

    phase: str
    mark: Mark


class Entry(NamedTuple):
    """A task whose values are right, each by itself."""

    name: str
    model: TaskModel
    node: MapNode | None  # None: it came from a program, not from a file
    target: str | None = None  # replaces `run` and `command`
    mark: Mark | None = None  # of the name
    broken: bool = False  # what was wrong in it has been reported, and taken out of the model

    def problem(self, message: str, *path: str | int, key: bool = False) -> Problem:
        """A problem at a value of the task (``key``: at its key), or at its name without a path."""
        if self.node is None:
            return Problem(self.mark, f"task {self.name!r}: {message}")
        return Problem(self.node.at(path, key=key) if path else self.mark, message)


def unknown_market(markets: Mapping[str, MarketTable]) -> Callable[[str], str]:
    """The sentence about a market that has no table."""
    return lambda name: f"there is no market {name!r}{suggest(name, markets)}"


class Compiler:
    """Compiles tasks and collects what is wrong with them."""

    def __init__(
        self,
        markets: Mapping[str, MarketTable],
        default_market: str,
        timezone: ZoneInfo,
        bundles: Mapping[str, Bundle],
        market_problem: Callable[[str], str | None],
    ) -> None:
        self.problems: list[Problem] = []
        self._markets = markets
        self._default_market = default_market
        self._timezone = timezone
        self._bundles = bundles
        self._market_problem = market_problem

    def compile(
        self, entries: Sequence[Entry], names: frozenset[str], bundle_phases: Sequence[PhaseUse]
    ) -> tuple[TaskSpec, ...]:
        """The specs by name; not to be used when there are problems."""
        specs = [self._spec(entry) for entry in entries]
        for key in ("after", "restart_with"):
            self._check_references(key, entries, names)
        self._check_upstreams(entries)
        self._check_bundle_phases(bundle_phases)
        return tuple(sorted((spec for spec in specs if spec is not None), key=lambda spec: spec.name))

    def _spec(self, entry: Entry) -> TaskSpec | None:
        wrong = [] if entry.broken else misfits(entry.model, has_target=entry.target is not None)
        self.problems += [entry.problem(message, *path, key=True) for path, message in wrong]
        market = entry.model.market or self._default_market
        table = self._markets.get(market)
        if table is None:
            message = self._market_problem(market)
            if message is not None:
                self.problems.append(entry.problem(message, *(("market",) if entry.model.market else ())))
        if table is None or not self._phases_known(entry, table) or wrong or entry.broken:
            return None
        bundle = self._bundles[entry.model.priority]
        trigger = self._trigger(entry, bundle)
        if not _can_fire(trigger, table):
            self.problems.append(entry.problem(f"this task can never fire: {trigger.text}"))
        return complete(entry.name, entry.model, market, trigger, bundle, entry.target)

    def _trigger(self, entry: Entry, bundle: Bundle) -> Trigger:
        model = entry.model
        during = frozenset(model.during) if model.during else None
        if model.market_hours_only:
            during = frozenset({OPEN})
        if model.at is not None:
            return At(tuple(model.at))
        if model.cron is not None:
            return Cron(model.cron, self._timezone, during)
        if model.on is not None:
            return On(tuple(dict.fromkeys(model.on)))
        if model.after is not None:
            return After(model.after)
        if model.keep_running:
            return KeepRunning(during)
        pace = bundle.every if model.every is None else model.every
        offset = model.offset or 0
        smallest = min((interval for interval in pace.values() if interval is not None), default=None)
        if smallest is not None and offset >= smallest:
            message = "offset: must be less than the pace, of which it shifts the grid"
            self.problems.append(entry.problem(message, "offset"))
        return Every(pace, offset, share_of(entry.name) if model.spread else 0.0, during)

    def _phases_known(self, entry: Entry, table: MarketTable) -> bool:
        model = entry.model
        uses: list[tuple[str, tuple[str | int, ...]]] = []
        uses += [(phase, ("every", phase)) for phase in model.every or () if phase != PLAIN]
        uses += [(phase, ("during", at)) for at, phase in enumerate(model.during or ()) if phase != SESSION]
        anchors: list[tuple[Anchor | None, tuple[str | int, ...]]] = [
            (model.catchup_until, ("catchup_until",)),
            (model.finish_by, ("finish_by",)),
        ]
        anchors += [(anchor, ("at", at)) for at, anchor in enumerate(model.at or ())]
        uses += [(anchor.phase, path) for anchor, path in anchors if anchor and anchor.phase]
        unknown = [(phase, path) for phase, path in uses if phase not in table.phases]
        for phase, path in unknown:
            message = f"{table.name} has no phase {phase!r}{suggest(phase, table.phases)}"
            self.problems.append(entry.problem(message, *path, key=path[0] == "every"))
        return not unknown

    def _check_references(self, key: str, entries: Sequence[Entry], names: frozenset[str]) -> None:
        """Each named task exists, and nobody waits for himself by way of others."""
        links: dict[str, str] = {}
        for entry in entries:
            other: str | None = getattr(entry.model, key)
            if other in names:
                links[entry.name] = other
            elif other is not None:
                close = suggest(other, names - {entry.name})
                self.problems.append(entry.problem(f"{key}: there is no task {other!r}{close}", key))
        seen: set[str] = set()
        for entry in sorted(entries, key=lambda entry: entry.name):
            path: list[str] = []
            name: str | None = entry.name
            while name is not None and name not in seen:
                seen.add(name)
                path.append(name)
                name = links.get(name)
            if name in path:
                cycle = path[path.index(name) :]
                shown = " -> ".join([*cycle, cycle[0]])
                first = next(entry for entry in entries if entry.name == cycle[0])
                self.problems.append(first.problem(f"{key}: these tasks wait for each other: {shown}", key))

    def _check_upstreams(self, entries: Sequence[Entry]) -> None:
        """What waits for a task that is switched off waits for ever."""
        off = {entry.name for entry in entries if not entry.model.enabled}
        for entry in entries:
            other = entry.model.after
            if entry.model.enabled and other in off:
                message = (
                    f"after: this task can never fire: {other!r} is not enabled; "
                    "enable that one, or add `enabled: false` here, too"
                )
                self.problems.append(entry.problem(message, "after"))

    def _check_bundle_phases(self, uses: Sequence[PhaseUse]) -> None:
        """A phase that a priority names must be one of some market in use."""
        known = {phase for table in self._markets.values() for phase in table.phases} | {PLAIN}
        for phase, mark in uses:
            if self._markets and phase not in known:
                message = f"no market in use has a phase {phase!r}{suggest(phase, known)}"
                self.problems.append(Problem(mark, message))


def _can_fire(trigger: Trigger, table: MarketTable) -> bool:
    if not table.sessions:  # the calendar could not be read, which is no mistake in the task
        return True
    if isinstance(trigger, KeepRunning):
        started = trigger.span_at(table.first, table) is not None
        return started or trigger.next_after(table.first, table) is not None
    if not trigger.clock_driven or trigger.next_after(table.first - 1, table) is not None:
        return True
    if isinstance(trigger, Cron):  # a rare date may lie outside the table, or on a holiday in it
        bare = replace(trigger, during=None)
        return bare.count_between(table.first, table.last, table) < _TRIES
    return False
