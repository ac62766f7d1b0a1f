"""Puts the files together: each validated by itself, what is defined twice refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from scheduler.core.alerting import Alert
from scheduler.core.messages import CacheSpec
from scheduler.errors import Mark, Problem
from scheduler.taskfile.compiling import Entry, PhaseUse
from scheduler.taskfile.complaints import problems_of
from scheduler.taskfile.models import AlertModel, FileModel, keys_at
from scheduler.taskfile.result import TaskFile, in_order
from scheduler.yamlfile import MapNode

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_NAMED = ("tasks", "cache", "priorities")
_ONCE = ("timezone", "reload")


class Merger:
    """Takes the files in their order and makes one ``TaskFile`` of them."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        self._file = TaskFile()
        self._places: dict[tuple[str, str], Mark] = {}
        self._has_tasks = False

    def add(self, path: Path, root: MapNode) -> None:
        model, broken = self._validated(root)
        self._has_tasks |= "tasks" in root.items
        again = self._given_before(root)
        file = self._file
        entries = [
            Entry(
                name,
                task,
                _map_at(root, "tasks", name),
                None,
                root.at(("tasks", name), key=True),
                broken=name in broken,
            )
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
            alert_marks=(*file.alert_marks, *_alert_marks(model.alerts, root)),
            sources=(*file.sources, path),
        )

    def result(self) -> TaskFile:
        if not self._has_tasks and not self.problems:
            mark = Mark(str(self._file.sources[0]), 1, 1)
            self.problems.append(Problem(mark, "no task is defined; add them under `tasks:`"))
        return replace(self._file, problems=tuple(in_order(self.problems)))

    def _validated(self, root: MapNode) -> tuple[FileModel, set[str]]:
        """The model of what is right in the file, and the names under which something was not."""
        plain = root.plain()
        try:
            return FileModel.model_validate(plain), set()
        except ValidationError as error:
            self.problems += problems_of(error, root, keys_at)
            wrong = error
        broken = {str(details["loc"][1]) for details in wrong.errors() if len(details["loc"]) > 1}
        while True:  # each round takes something out, so this ends
            for details in wrong.errors():
                _take_out(plain, details["loc"])
            try:
                return FileModel.model_validate(plain), broken
            except ValidationError as error:  # a key that is now missing: the next round takes out the rest
                wrong = error

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


def _alert_marks(models: list[AlertModel], root: MapNode) -> Iterable[Mark]:
    for at, model in enumerate(models):
        yield root.at(("alerts", at, "command") if model.command else ("alerts", at))


def _map_at(root: MapNode, *path: str) -> MapNode | None:
    node: object = root
    for key in path:
        node = node.items.get(key) if isinstance(node, MapNode) else None
    return node if isinstance(node, MapNode) else None


def _take_out(plain: dict[str, Any], path: tuple[str | int, ...]) -> None:
    """Remove what is wrong: one key of a task (or the like), else the task, else the whole part."""
    part, name, key = [*map(str, path), "", ""][:3]
    named = plain.get(part)
    if part not in _NAMED or not name or not isinstance(named, dict):
        plain.pop(part, None)
    elif isinstance(named.get(name), dict) and key in named[name]:
        del named[name][key]
    else:
        named.pop(name, None)


def _names(root: MapNode, part: str) -> Iterable[str]:
    node = _map_at(root, part)
    return node.items if node else ()
