"""Importing the callables that tasks name."""

from __future__ import annotations

import importlib
import inspect
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scheduler.core.messages import Isolation, Work
from scheduler.errors import SchedulerError

RUNNER = Path(__file__).with_name("runner.py")
_SLOWEST_IMPORT = 60.0  # seconds; what takes longer will not make a good task either


class TargetError(SchedulerError):
    """the callable cannot be imported"""


class Target(NamedTuple):
    """An imported callable and what was found out about it."""

    call: Callable[..., Any]
    is_async: bool
    wants_ctx: bool  # it has a parameter named `ctx`


def load_target(name: str, python_path: Sequence[str] = ()) -> Target:
    """Import ``package.module:callable``; TargetError carries the import's own message."""
    module_name, _, path = name.partition(":")
    if not module_name or not path:
        raise TargetError(f"{name!r} is not of the form package.module:callable")
    for entry in reversed(python_path):
        if entry not in sys.path:
            sys.path.insert(0, entry)
    try:
        found: Any = importlib.import_module(module_name)
    except KeyboardInterrupt:  # someone at the terminal while `check` imports
        raise
    except BaseException as problem:  # a module may raise anything, SystemExit included
        raise TargetError(f"{name}: {_import_error(problem)}") from problem
    for attribute in path.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError as problem:
            raise TargetError(f"{name}: {problem}") from problem
    if not callable(found):
        raise TargetError(f"{name}: {type(found).__name__} is not callable")
    return inspect_target(found)


def inspect_target(call: Callable[..., Any]) -> Target:
    """What has to be known to call it."""
    function = call if inspect.isroutine(call) or inspect.isclass(call) else getattr(call, "__call__", call)  # noqa: B004
    is_async = inspect.iscoroutinefunction(inspect.unwrap(_plain(function)))
    try:
        wants_ctx = "ctx" in inspect.signature(call).parameters
    except (ValueError, TypeError):  # some builtins have no signature: they want no context either
        wants_ctx = False
    return Target(call, is_async, wants_ctx)


def check_target(work: Work, python_path: Sequence[str] = ()) -> None:
    """Find what ``work`` executes where it would run: in its own interpreter for process isolation.

    Blocks for as long as the import takes; TargetError says what is wrong.
    """
    if work.target is None:
        program = work.argv[0]
        if "{" not in program and shutil.which(program, path=work.env.get("PATH")) is None:
            raise TargetError(f"{program}: no such program, or it is not executable")
    elif work.isolation is Isolation.PROCESS:
        _check_elsewhere(work, work.target, python_path)
    else:
        load_target(work.target, python_path)


def _check_elsewhere(work: Work, target: str, python_path: Sequence[str]) -> None:
    command = [work.python or sys.executable, str(RUNNER), "--check", target, *python_path]
    try:
        answer = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            errors="replace",
            timeout=_SLOWEST_IMPORT,
            cwd=work.working_directory,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise TargetError(f"{target}: {problem}") from problem
    if answer.returncode != 0:
        lines = answer.stderr.strip().splitlines() or [f"exit status {answer.returncode}"]
        raise TargetError(f"{target}: {lines[-1]}")


def _plain(function: Any) -> Any:
    """The function under bound methods and functools.partial."""
    while True:
        inner = getattr(function, "__func__", None) or getattr(function, "func", None)
        if not callable(inner):
            return function
        function = inner


def _import_error(problem: BaseException) -> str:
    """The import's own words; for an error inside the module also where it is."""
    text = f"{type(problem).__name__}: {problem}"
    if isinstance(problem, (ImportError, SyntaxError)):
        return text
    place = traceback.extract_tb(problem.__traceback__)[-1]
    return f"{text} ({place.filename}:{place.lineno})"
