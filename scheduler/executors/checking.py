"""Finding what a task executes, without executing it: for `scheduler check`, not for the daemon."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scheduler.core.messages import Isolation, Work
from scheduler.executors.runner import facts
from scheduler.executors.targets import RUNNER, TargetError, load_target

_SLOWEST_IMPORT = 60.0  # seconds; what takes longer will not make a good task either
_BY_NAME = frozenset({"POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY"})


class Parameter(NamedTuple):
    """One of a callable's, with the name of its kind as `inspect` has it."""

    name: str
    kind: str
    required: bool


class Found(NamedTuple):
    """A callable as it was found where it would run."""

    file: str | None  # of its source, if it has one
    name: str  # its __qualname__
    parameters: tuple[Parameter, ...] | None  # None: it does not tell
    wants_ctx: bool
    isolation: Isolation


class Misfit(NamedTuple):
    """An argument that does not fit the callable; ``name`` is empty when it is one that is not given."""

    name: str
    message: str


def check_target(work: Work, python_path: Sequence[str] = ()) -> Found | None:
    """Find what ``work`` executes where it would run: in its own interpreter for process isolation.

    None for a command. Blocks for as long as the import takes; TargetError says what is wrong.
    """
    if work.target is None:
        program = work.argv[0]
        if "{" not in program and shutil.which(program, path=work.env.get("PATH")) is None:
            raise TargetError(f"{program}: no such program, or it is not executable")
        return None
    if work.isolation is Isolation.PROCESS:
        return _found(_facts_elsewhere(work, work.target, python_path), Isolation.PROCESS)
    target = load_target(work.target, python_path)
    isolation = work.isolation or (Isolation.INLINE if target.is_async else Isolation.THREAD)
    return _found(facts(target.call), isolation)


def misfits(found: Found, given: Sequence[str]) -> list[Misfit]:
    """What does not fit between a callable and the names of the arguments that `with:` gives it."""
    if found.parameters is None:
        return []
    takes = {parameter.name for parameter in found.parameters if parameter.kind in _BY_NAME}
    takes_any = any(parameter.kind == "VAR_KEYWORD" for parameter in found.parameters)
    wrong = []
    for name in given:
        if name == "ctx" and found.wants_ctx:
            wrong.append(Misfit(name, "ctx is given by the scheduler; take it out, or rename the parameter"))
        elif not (takes_any or name in takes):
            known = ", ".join(sorted(takes - {"ctx"})) or "none"
            wrong.append(Misfit(name, f"{found.name} takes no argument {name!r}; it takes {known}"))
    provided = {*given, "ctx"} if found.wants_ctx else {*given}
    for parameter in found.parameters:
        if parameter.required and parameter.kind == "POSITIONAL_ONLY":
            text = f"{found.name} takes {parameter.name!r} by position only, and arguments are given by name"
            wrong.append(Misfit("", text))
        elif parameter.required and parameter.kind in _BY_NAME and parameter.name not in provided:
            text = f"the argument {parameter.name!r} is missing, without which {found.name} cannot be called"
            wrong.append(Misfit("", text))
    return wrong


def _found(told: Mapping[str, Any], isolation: Isolation) -> Found:
    parameters = told["parameters"]
    return Found(
        told["file"],
        told["name"],
        None if parameters is None else tuple(Parameter(*parameter) for parameter in parameters),
        told["wants_ctx"],
        isolation,
    )


def _facts_elsewhere(work: Work, target: str, python_path: Sequence[str]) -> dict[str, Any]:
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
    try:
        told: dict[str, Any] = json.loads(answer.stdout)
    except ValueError as problem:  # the import ended the process, as a success
        raise TargetError(f"{target}: the interpreter ended while it was imported") from problem
    return told
