"""Reads the code of the tasks' callables for `scheduler check`: what in it will hurt the daemon.

ruff knows what blocks in async code; ``rules`` adds what it does not know. Whether that hurts depends
on where a callable runs: blocking is what threads and processes are for. A callable is read together
with what it calls by name in its own module (``source``); other modules are other people's code.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from scheduler.codecheck.ruff import RuffError, read_by_ruff
from scheduler.codecheck.rules import Finding, read_by_us
from scheduler.codecheck.source import ASYNC, FunctionNode, Module, read_module
from scheduler.core.messages import Isolation
from scheduler.errors import Mark, Problem

__all__ = ["Code", "read_code"]


class Code(NamedTuple):
    """Where the code of a task is, and where it will run."""

    task: str
    file: str
    name: str  # its __qualname__
    isolation: Isolation


class _Read(NamedTuple):
    code: Code
    functions: list[FunctionNode]  # the callable, and what it calls in its module


def read_code(codes: Iterable[Code]) -> list[Problem]:
    """The warnings, by place; what several tasks share is told once, with their names.

    A file that cannot be read or parsed here (another Python's syntax) is left out: it did import.
    """
    by_file = defaultdict(list)
    for code in codes:
        by_file[code.file].append(code)
    tasks: dict[tuple[Mark, Finding], list[str]] = {}
    unread = ""
    for file, its_codes in sorted(by_file.items()):
        module = read_module(file)
        if module is None:
            continue
        reads = [_Read(code, module.reached(code.name)) for code in its_codes]
        try:
            by_ruff = _ask_ruff(module, reads)
        except RuffError as error:
            by_ruff, unread = [], str(error)
        for code, functions in reads:
            for finding in _of_task(module, functions, by_ruff, code.isolation):
                tasks.setdefault((Mark(file, finding.line, finding.column), finding), []).append(code.task)
    told = [
        Problem(mark, f"warning: {finding.message} ({finding.rule}, {_named(names)})")
        for (mark, finding), names in sorted(tasks.items())
    ]
    if unread:
        told.insert(0, Problem(None, f"warning: the tasks' code was not searched for what blocks: {unread}"))
    return told


def _named(tasks: list[str]) -> str:
    return f"task{'s' if len(tasks) > 1 else ''} {', '.join(tasks)}"


def _ask_ruff(module: Module, reads: list[_Read]) -> list[Finding]:
    """ruff's findings in a module. It looks for blocking calls in async functions only, so sync ones
    that the event loop will run are shown to it as async.
    """
    on_loop = [
        function
        for code, functions in reads
        if code.isolation is Isolation.INLINE
        for function in functions
        if module.is_sync(function)
    ]
    moved = {function.lineno for function in on_loop}
    return [
        finding._replace(column=finding.column - len(ASYNC)) if finding.line in moved else finding
        for finding in read_by_ruff(module.with_async(on_loop))
    ]


def _of_task(
    module: Module, functions: list[FunctionNode], by_ruff: list[Finding], isolation: Isolation
) -> Iterator[Finding]:
    spans = [(function.lineno, function.end_lineno or function.lineno) for function in functions]
    for finding in by_ruff:
        hurts = isolation is Isolation.INLINE or not finding.blocks
        if hurts and any(first <= finding.line <= last for first, last in spans):
            yield finding
    for function in functions:
        for finding in read_by_us(function, isolation):
            if not module.is_silenced(finding.line, finding.rule):
                yield finding
