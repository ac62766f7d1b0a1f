"""Where tasks come from: the files of a directory, or the keyword options of a program."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from scheduler.errors import ConfigurationError, Mark, Problem
from scheduler.taskfile.compiling import Compiler, Entry, unknown_market
from scheduler.taskfile.complaints import problems_of
from scheduler.taskfile.defaults import DEFAULT_BUNDLES
from scheduler.taskfile.merging import Merger
from scheduler.taskfile.models import FileModel, keys_at
from scheduler.taskfile.result import DEFAULT_TIMEZONE, TaskFile
from scheduler.yamlfile import read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from scheduler.core.market import MarketTable
    from scheduler.core.messages import TaskSpec


def read_tasks(directory: Path, *, guard: Callable[[Path], Problem | None] | None = None) -> TaskFile:
    """Read ``tasks.yaml`` and, after it by name, ``tasks.d/*.yaml``; never raises.

    ``guard`` may refuse a file before it is read, for instance because others can write it.
    """
    paths, problems = _paths(directory)
    merger = Merger(problems)
    for path in paths:
        refused = guard(path) if guard else None
        if refused is not None:
            merger.problems.append(refused)
            continue
        try:
            root = read(path, merger.problems)
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
    others: frozenset[str] = frozenset(),
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
    specs = compiler.compile(
        (Entry(name, model, None, target),), others if name in others else others | {name}, ()
    )
    if compiler.problems:
        raise ConfigurationError(compiler.problems)
    return specs[0]


def task_files(directory: Path) -> list[Path]:
    """The files that ``read_tasks`` reads, be they there or not."""
    return _paths(directory)[0]


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
