"""Notices that the code of tasks changed on disk, and says which tasks still run the old one.

A task rests on the module of its callable and on what that imports, as far as it is the desk's: found on
its python path, or in the same package. It is found by reading the sources: nothing is imported.
"""

from __future__ import annotations

import ast
import sys
import tokenize
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import resolve_name
from os.path import isfile
from pathlib import Path
from typing import NamedTuple

from scheduler.core import events
from scheduler.core.messages import Announce, Isolation, Level, TaskSpec
from scheduler.core.triggers import KeepRunning

Locate = Callable[[str], Path | None]  # of a module's name; None also for what is not the desk's
Imports = Callable[[Path], Collection[str]]

_OURS = __name__.partition(".")[0]
_FORMS = ("/__init__.py", *EXTENSION_SUFFIXES, ".py")  # in the order of Python's finder
_RESTART_ALL = "a restart of the scheduler"
_RESTART_TASK = "a restart of the task"
_NEXT_RUN = "the next run, by itself"


class Rest(NamedTuple):
    """What the runs of a task rest on."""

    modules: Mapping[Path, str]  # by file
    is_inside: bool  # they are imported into the daemon
    keeps_running: bool


def reached(module: str, locate: Locate, imports: Imports) -> dict[Path, str]:
    """The files that an import of a module loads, each with the name of its module."""
    found: dict[Path, str] = {}
    waiting = [module]
    seen = {""}
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        above = name.rpartition(".")[0]
        waiting.append(above)  # its package is imported before it
        file = locate(name)
        if file is not None:
            found[file] = name
            package = name if file.stem == "__init__" else above
            waiting += (_absolute(each, package) for each in imports(file))
    return found


def _absolute(imported: str, package: str) -> str:
    try:
        return resolve_name(imported, package)
    except ImportError:  # beyond the top
        return ""


def imports_of(file: Path) -> tuple[str, ...]:
    """What the source of a module imports, anywhere in it; relative names with their dots."""
    if file.suffix != ".py":
        return ()
    try:
        with tokenize.open(file) as source:
            tree = ast.parse(source.read())
    except (OSError, SyntaxError, ValueError, RecursionError):  # half-written, or of another Python
        return ()
    return tuple(_names(tree))


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            yield origin
            yield from (f"{origin}{'.' if node.module else ''}{alias.name}" for alias in node.names)


class Locator:
    """Where the modules of the desk are, by name, without importing any."""

    def __init__(self, python_path: Sequence[str], package: str, others: Sequence[str] = ()) -> None:
        """``package`` is the desk's wherever it is, on the ``others`` of the interpreter's path too."""
        self._python_path = python_path
        self._package = package
        self._others = others

    def __call__(self, module: str) -> Path | None:
        names = module.split(".")
        if names[0] in sys.stdlib_module_names:
            return None
        file = _find(names, self._python_path)
        if file is None and f"{module}.".startswith(f"{self._package}."):
            file = _find(names, self._others)
        return file


def _find(names: Sequence[str], places: Sequence[str]) -> Path | None:
    """The file of a module, as Python's own finder has it (which would import the packages above)."""
    *above, last = names
    roots = [Path(place) for place in places]
    for name in above:
        package = next((root for root in roots if _is_file(root / name / "__init__.py")), None)
        # Without one it is a namespace package, which may lie in several places.
        roots = [root / name for root in (roots if package is None else [package])]
    files = (root / f"{last}{form}" for root in roots for form in _FORMS)
    return next((file for file in files if _is_file(file)), None)


def _is_file(path: Path) -> bool:
    return isfile(path)  # noqa: PTH113 - Path's raises where one may not look


class CodeWatch:
    """What the tasks in force rest on, and how it was when last told. Its methods read files."""

    def __init__(self, python_path: Sequence[str], state_of: Callable[[Path], Hashable]) -> None:
        """``state_of`` a file tells one content of it from another."""
        self._python_path = tuple(python_path)
        self._state_of = state_of
        self._specs: tuple[TaskSpec, ...] = ()
        self._rests: dict[str, Rest] = {}
        self._states: dict[Path, Hashable] = {}
        self._imports: dict[Path, tuple[Hashable, Collection[str]]] = {}
        self._old: frozenset[Path] = frozenset()  # no longer as they were when the daemon imported them
        self._told: dict[str, frozenset[Path]] = {}  # of those, by task

    @property
    def files(self) -> frozenset[Path]:
        """What the tasks rest on."""
        return frozenset(self._states)

    def configure(self, specs: tuple[TaskSpec, ...]) -> list[Announce]:
        """Take these tasks. What is returned: those that rest on code known to be old, if not yet told."""
        self._specs = specs
        known: dict[tuple[str, str | None], dict[Path, str]] = {}
        rests = {}
        for spec in specs:
            work = spec.work
            if spec.enabled and work.target is not None:
                key = (work.target.partition(":")[0], work.python)
                if key not in known:
                    known[key] = self._reached(*key)
                is_inside = work.isolation is not Isolation.PROCESS
                rests[spec.name] = Rest(known[key], is_inside, isinstance(spec.trigger, KeepRunning))
        self._rests = rests
        files = {file for modules in known.values() for file in modules}
        before = self._states
        self._states = {file: before[file] if file in before else self._state_of(file) for file in files}
        self._imports = {file: known for file, known in self._imports.items() if file in files}
        return self._inside()

    def changed(self) -> frozenset[Path]:
        """The files that are not as they were when last told."""
        return frozenset(file for file, state in self._states.items() if self._state_of(file) != state)

    def tell(self, changed: Collection[Path], running: Collection[str]) -> list[Announce]:
        """Who rests on these files. ``running``: the tasks with a live run."""
        self._states.update((file, self._state_of(file)) for file in changed)
        told = self._elsewhere(changed, running)
        inside = [rest.modules for rest in self._rests.values() if rest.is_inside]
        loaded = {file for modules in inside for file in changed if modules.get(file) in sys.modules}
        self._old |= loaded
        self._told = {name: files - loaded for name, files in self._told.items()}
        return told + self.configure(self._specs)  # they may import others now

    def _reached(self, module: str, python: str | None) -> dict[Path, str]:
        top, _, rest = module.partition(".")
        package = module.rpartition(".")[0] if top == _OURS and rest else top
        locate = Locator(self._python_path, package, () if python else sys.path)
        return reached(module, locate, self._imports_of)

    def _imports_of(self, file: Path) -> Collection[str]:
        state = self._state_of(file)
        known = self._imports.get(file)
        if known is None or known[0] != state:
            known = self._imports[file] = (state, imports_of(file))
        return known[1]

    def _inside(self) -> list[Announce]:
        tasks: set[str] = set()
        files: set[Path] = set()
        for name, rest in self._rests.items():
            old = self._old & rest.modules.keys() if rest.is_inside else frozenset()
            if new := old - self._told.get(name, frozenset()):
                self._told[name] = frozenset(old)
                tasks.add(name)
                files |= new
        return _changed("warning", tasks, files, _RESTART_ALL)

    def _elsewhere(self, changed: Collection[Path], running: Collection[str]) -> list[Announce]:
        """Of tasks with processes of their own, which import anew for each run."""
        concerned = {
            name: files
            for name, rest in self._rests.items()
            if not rest.is_inside and (files := rest.modules.keys() & set(changed))
        }
        loops = {name for name in concerned if self._rests[name].keeps_running and name in running}
        others = concerned.keys() - loops
        return [
            *_changed("warning", loops, set().union(*(concerned[name] for name in loops)), _RESTART_TASK),
            *_changed("info", others, set().union(*(concerned[name] for name in others)), _NEXT_RUN),
        ]


def _changed(level: Level, tasks: Collection[str], files: Collection[Path], applies: str) -> list[Announce]:
    if not tasks:
        return []
    fields = {"tasks": sorted(tasks), "files": sorted(map(str, files)), "applies": applies}
    return [Announce(events.CODE_CHANGED, level, fields)]
