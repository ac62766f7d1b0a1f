"""The functions of one module, and which of them a callable reaches by name."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

ASYNC = "async "
_LOCAL = ".<locals>."
_ELSEWHERE = frozenset({"to_thread", "run_in_executor", "submit", "Thread", "Process", "get_or_load_sync"})
_NOQA = re.compile(r"#\s*noqa(?::\s*([A-Z]+[0-9]+(?:[,\s]+[A-Z]+[0-9]+)*))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Module:
    """A source file, with its functions under the names that ``__qualname__`` gives them."""

    text: str
    functions: dict[str, FunctionNode]

    def reached(self, name: str) -> list[FunctionNode]:
        """The function of this name and those of the module that it calls by name, as do they."""
        names = [name] if name in self.functions else []
        for caller in names:  # grows meanwhile
            for call in _calls(self.functions[caller].body):
                callee = self._callee(call.func, caller)
                if callee is not None and callee not in names:
                    names.append(callee)
        return [self.functions[name] for name in names]

    def _callee(self, called: ast.expr, caller: str) -> str | None:
        """What ``f(...)``, ``self.f(...)`` or ``Class.f(...)`` calls, if it is of this module."""
        names: list[str] = []
        match called:
            case ast.Name(id=name):
                scopes = [caller + _LOCAL]
                while _LOCAL in (outer := scopes[-1].removesuffix(_LOCAL)):
                    scopes.append(outer.rpartition(_LOCAL)[0] + _LOCAL)
                names = [scope + name for scope in (*scopes, "")]
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=method):
                names = [f"{caller.partition(_LOCAL)[0].rpartition('.')[0]}.{method}"]
            case ast.Attribute(value=ast.Name(id=owner), attr=method):
                names = [f"{owner}.{method}"]
        names += [f"{name}.__init__" for name in names]
        return next((name for name in names if name in self.functions), None)

    @staticmethod
    def is_sync(function: FunctionNode) -> bool:
        return isinstance(function, ast.FunctionDef)

    def with_async(self, functions: Iterable[FunctionNode]) -> str:
        """The text with ``ASYNC`` put in front of these sync functions; every line stays where it is."""
        lines = self.text.split("\n")
        for number, column in {(function.lineno, function.col_offset) for function in functions}:
            line = lines[number - 1]
            lines[number - 1] = f"{line[:column]}{ASYNC}{line[column:]}"
        return "\n".join(lines)

    def is_silenced(self, line: int, rule: str) -> bool:
        """Whether the line has a ``# noqa`` for this rule, or for all."""
        found = _NOQA.search(self.text.split("\n")[line - 1])
        return found is not None and (found[1] is None or rule in re.split(r"[,\s]+", found[1].upper()))


def read_module(file: str) -> Module | None:
    """None for what is no source file, or is not of this Python."""
    try:
        with tokenize.open(file) as source:  # in the encoding that the file declares
            text = source.read()
        tree = ast.parse(text, file)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None
    return Module(text, dict(_functions(tree, "")))


def own_nodes(statements: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The nodes of a function's statements, without those of functions that are defined in them."""
    waiting = list(statements)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, FunctionNode]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + child.name, child
            yield from _functions(child, prefix + child.name + _LOCAL)
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield from _functions(child, prefix)


def _calls(statements: Iterable[ast.AST]) -> Iterator[ast.Call]:
    """The calls in a function, those in its lambdas too, but for what is handed to other threads."""
    waiting = list(statements)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if isinstance(node, ast.Call):
            yield node
            if getattr(node.func, "attr", getattr(node.func, "id", "")) in _ELSEWHERE:
                continue
        waiting += ast.iter_child_nodes(node)
