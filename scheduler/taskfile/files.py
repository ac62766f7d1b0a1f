"""tasks.yaml and tasks.d/*.yaml: read, validated each by itself, merged; then compiled.

Reading needs nothing but the files and never raises: what is wrong is in ``TaskFile.problems``, and
what is right goes on, so that a desk sees all its mistakes at once. ``TaskFile.compile`` adds what
only the markets can tell and makes the ``Config`` that the daemon runs by.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from scheduler.core.messages import CacheSpec
from scheduler.errors import ConfigurationError, Mark, Problem
from scheduler.taskfile.compiling import Compiler, Entry, PhaseUse, unknown_market
from scheduler.taskfile.complaints import problems_of
from scheduler.taskfile.defaults import DEFAULT_BUNDLES, Bundle
from scheduler.taskfile.models import AlertModel, FileModel, keys_at
from scheduler.yamlfile import MapNode, read

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from scheduler.core.market import MarketTable
    from scheduler.core.messages import TaskSpec

DEFAULT_TIMEZONE = "Asia/Kolkata"  # of the default market
_NAMED = ("tasks", "cache", "priorities")
_ONCE = ("timezone", "reload")


class Alert(NamedTuple):
    """A sink (webhook or command) with its events, or a URL that is called while all is well."""

    webhook: str | None
    command: tuple[str, ...]
    events: tuple[str, ...]
    heartbeat: str | None


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


def read_tasks(directory: Path, *, guard: Callable[[Path], Problem | None] | None = None) -> TaskFile:
    """Read ``tasks.yaml`` and, after it by name, ``tasks.d/*.yaml``; never raises.

    ``guard`` may refuse a file before it is read, for instance because others can write it.
    """
    paths, problems = _paths(directory)
    merger = _Merger(problems)
    for path in paths:
        refused = guard(path) if guard else None
        if refused is not None:
            merger.problems.append(refused)
            continue
        try:
            root = read(path)
        except ConfigurationError as error:
            merger.problems += error.problems
        else:
            merger.add(path, root)
    return merger.result()


def task_from_options(
    name: str,
    options: Mapping[str, object],
    *,
    markets: Mapping[str, MarketTable],
    default_market: str,
    timezone: ZoneInfo | None = None,
    target: str | None = None,
    others: Collection[str] = (),
) -> TaskSpec:
    """One task from keyword options, by the same rules as a file; ConfigurationError without places.

    ``target`` replaces ``run`` or ``command`` when the program hands over a callable of its own;
    ``others`` are the tasks that ``after`` and ``restart_with`` may name.
    """
    try:
        model = FileModel.model_validate({"tasks": {name: dict(options)}}).tasks[name]
    except ValidationError as error:
        found = problems_of(error, None, keys_at)
        raise ConfigurationError(
            [Problem(None, f"task {name!r}: {problem.message}") for problem in found]
        ) from None
    zone = timezone or ZoneInfo(DEFAULT_TIMEZONE)
    compiler = Compiler(markets, default_market, zone, DEFAULT_BUNDLES, unknown_market(markets))
    specs = compiler.compile((Entry(name, model, None, target),), frozenset({name, *others}), ())
    if compiler.problems:
        raise ConfigurationError(compiler.problems)
    return specs[0]


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """By place, each once (a mistake in an anchored node is found wherever an alias repeats it)."""
    return sorted(set(problems), key=lambda problem: (problem.mark or Mark("", 0, 0), problem.message))


def _paths(directory: Path) -> tuple[list[Path], list[Problem]]:
    paths, problems = [directory / "tasks.yaml"], []
    more = directory / "tasks.d"
    try:
        names = sorted(path.name for path in more.iterdir())
    except FileNotFoundError:
        names = []
    except OSError as error:
        names = []
        problems.append(Problem(Mark(str(more), 1, 1), f"the directory cannot be read: {error.strerror}"))
    for name in names:
        if name.startswith("."):
            continue  # what editors leave behind while they save
        if name.endswith(".yaml"):
            paths.append(more / name)
        elif name.endswith(".yml"):
            mark = Mark(str(more / name), 1, 1)
            message = "only *.yaml is read; rename the file, or hide it with a leading dot"
            problems.append(Problem(mark, message))
    return paths, problems


class _Merger:
    """Puts the files together, in the order in which they are added."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        self._file = TaskFile()
        self._places: dict[tuple[str, str], Mark] = {}
        self._has_tasks = False

    def add(self, path: Path, root: MapNode) -> None:
        model = self._validated(root)
        self._has_tasks |= "tasks" in root.items
        again = self._given_before(root)
        file = self._file
        entries = [
            Entry(name, task, _map_at(root, "tasks", name), None, root.at(("tasks", name), key=True))
            for name, task in model.tasks.items()
            if ("tasks", name) not in again
        ]
        caches = {
            name: CacheSpec(cache.ttl, cache.max_entries, cache.expire_at, cache.stale_on_error)
            for name, cache in model.cache.items()
        }
        bundles = dict(file.bundles)
        phases = list(file.bundle_phases)
        for priority, bundle in model.priorities.items():
            bundles[priority] = bundles[priority].changed_by(bundle)
            phases += [
                PhaseUse(phase, root.at(("priorities", priority, "every", phase), key=True))
                for phase in bundle.every or ()
            ]
        self._file = replace(
            file,
            timezone=model.timezone or file.timezone,
            reload=model.reload or file.reload,
            tasks=(*file.tasks, *entries),
            names=file.names | set(_names(root, "tasks")),
            caches={**file.caches, **caches},
            bundles=bundles,
            bundle_phases=tuple(phases),
            alerts=(*file.alerts, *self._alerts(model.alerts, root)),
            sources=(*file.sources, path),
        )

    def result(self) -> TaskFile:
        if not self._has_tasks and not self.problems:
            mark = Mark(str(self._file.sources[0]), 1, 1)
            self.problems.append(Problem(mark, "no task is defined; add them under `tasks:`"))
        return replace(self._file, problems=tuple(in_order(self.problems)))

    def _validated(self, root: MapNode) -> FileModel:
        """The model of what is right in the file; the rest becomes problems."""
        plain = root.plain()
        try:
            return FileModel.model_validate(plain)
        except ValidationError as error:
            self.problems += problems_of(error, root, keys_at)
            for details in error.errors(include_url=False, include_context=False, include_input=False):
                first, *rest = (str(step) for step in details["loc"])
                part = plain.get(first)
                if first in _NAMED and rest and isinstance(part, dict):
                    part.pop(rest[0], None)
                else:
                    plain.pop(first, None)
        return FileModel.model_validate(plain)

    def _given_before(self, root: MapNode) -> set[tuple[str, str]]:
        """What this file defines although an earlier one has."""
        again = set()
        defined = [(part, name) for part in _NAMED for name in _names(root, part)]
        defined += [(key, "") for key in _ONCE if key in root.items]
        for part, name in defined:
            mark = root.at((part, name) if name else (part,), key=True)
            first = self._places.setdefault((part, name), mark)
            if first is not mark:
                again.add((part, name))
                what = f"{part} {name!r}".replace("tasks", "the task") if name else repr(part)
                self.problems.append(Problem(mark, f"{what} is defined twice; first at {first}"))
        return again

    def _alerts(self, models: list[AlertModel], root: MapNode) -> list[Alert]:
        for at, model in enumerate(models):
            sinks = [key for key in ("webhook", "command", "heartbeat") if getattr(model, key) is not None]
            mark = root.at(("alerts", at))
            if len(sinks) != 1:
                message = "an alert has exactly one of webhook, command and heartbeat"
                self.problems.append(Problem(mark, message))
            elif sinks == ["heartbeat"] and model.events:
                message = "a heartbeat has no events: it is called while all is well"
                self.problems.append(Problem(mark, message))
            elif sinks != ["heartbeat"] and not model.events:
                message = "the key 'events' is missing: a list such as [task.stale]"
                self.problems.append(Problem(mark, message))
        return [
            Alert(model.webhook, tuple(model.command or ()), tuple(model.events or ()), model.heartbeat)
            for model in models
        ]


def _map_at(root: MapNode, *path: str) -> MapNode | None:
    node: object = root
    for key in path:
        node = node.items.get(key) if isinstance(node, MapNode) else None
    return node if isinstance(node, MapNode) else None


def _names(root: MapNode, part: str) -> Iterable[str]:
    node = _map_at(root, part)
    return node.items if node else ()
