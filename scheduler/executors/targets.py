"""Importing the callables that tasks name."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scheduler.errors import SchedulerError

RUNNER = Path(__file__).with_name("runner.py")


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
