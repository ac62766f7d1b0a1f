"""What ruff does not know: loops that cannot be stopped, and cancellations that go unheard."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from scheduler.codecheck.source import FunctionNode, own_nodes
from scheduler.core.messages import Isolation

ENDLESS = "SCH001"
SWALLOWED = "SCH002"

_ON_LOOP = (
    "this loop never lets go of the event loop, so every inline task stands still; await in it "
    "(`await asyncio.sleep(1)`, `async for tick in ctx.ticks()`), or give the task `isolation: process`"
)
_IN_THREAD = (
    "this loop cannot be stopped: it never looks at ctx.cancelled, and a thread cannot be killed; "
    "write `while not ctx.cancelled.wait(5)` (seconds), or `for tick in ctx.ticks()`"
)
_AWAITS_NOTHING = (
    "this loop cannot be stopped: a cancellation arrives at an await, and a thread cannot be killed; "
    "await in it, or give the task `isolation: process`"
)
_UNHEARD = (
    "a cancellation is caught here and goes no further, so the task outlives its timeout and every stop; "
    "end with `raise`"
)
_SUSPENDS = (ast.Await, ast.AsyncFor, ast.AsyncWith)
_LEAVES = (ast.Return, ast.Raise, ast.Yield, ast.YieldFrom)
_CATCHES = frozenset({"BaseException", "CancelledError"})


class Finding(NamedTuple):
    """What will hurt, and what would be right; line and column count from 1."""

    line: int
    column: int
    rule: str
    message: str
    blocks: bool = False  # the thread that runs it, no more


def read_by_us(function: FunctionNode, isolation: Isolation) -> Iterator[Finding]:
    """The findings in one function, given where it runs."""
    is_async = isinstance(function, ast.AsyncFunctionDef)
    for node in own_nodes(function.body):
        if isinstance(node, ast.While) and _is_endless(node):
            if isolation is Isolation.INLINE and not _sleeps(node.body):
                yield _finding(node, ENDLESS, _ON_LOOP)
            elif isolation is Isolation.THREAD and not _looks_at_context(node.body):
                yield _finding(node, ENDLESS, _AWAITS_NOTHING if is_async else _IN_THREAD)
        elif is_async:
            yield from _swallowed(node, function)


def _finding(node: ast.stmt | ast.ExceptHandler, rule: str, message: str) -> Finding:
    return Finding(node.lineno, node.col_offset + 1, rule, message)


def _is_endless(loop: ast.While) -> bool:
    """``while True`` that nothing in its body suspends or leaves."""
    if not (isinstance(loop.test, ast.Constant) and loop.test.value):
        return False
    if any(
        isinstance(node, _SUSPENDS + _LEAVES) or (isinstance(node, ast.comprehension) and node.is_async)
        for node in own_nodes(loop.body)
    ):
        return False
    return not _breaks(loop.body)


def _breaks(statements: Sequence[ast.AST]) -> bool:
    """Whether a `break` in them leaves the loop around them, not one of their own."""
    for node in statements:
        if isinstance(node, ast.Break):
            return True
        inner: list[ast.AST] = []
        if isinstance(node, ast.While | ast.For | ast.AsyncFor):
            inner = [*node.orelse]
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.expr):
            inner = [*ast.iter_child_nodes(node)]
        if _breaks(inner):
            return True
    return False


def _sleeps(statements: Sequence[ast.stmt]) -> bool:
    """A sleeping loop blocks, too, but that is said at its sleep."""
    return any(
        isinstance(node, ast.Call) and _last_name(node.func) == "sleep" for node in own_nodes(statements)
    )


def _looks_at_context(statements: Sequence[ast.stmt]) -> bool:
    return any(
        isinstance(node, ast.Attribute) and node.attr in {"cancelled", "ticks"}
        for node in own_nodes(statements)
    )


def _swallowed(node: ast.AST, function: FunctionNode) -> Iterator[Finding]:
    """Around an await: a handler of CancelledError that neither raises nor returns, or `suppress`."""
    match node:
        case ast.Try() | ast.TryStar() if _may_be_cancelled(node.body, function):
            for handler in node.handlers:
                if handler.type is None or _names_cancellation([handler.type]):
                    if not any(isinstance(n, ast.Raise | ast.Return) for n in own_nodes(handler.body)):
                        yield _finding(handler, SWALLOWED, _UNHEARD)
                    return  # handlers further down do not get to see it
        case ast.With() if _may_be_cancelled(node.body, function):
            for item in node.items:
                match item.context_expr:
                    case ast.Call(func=called, args=types) if _last_name(called) == "suppress":
                        if _names_cancellation(types):
                            yield _finding(node, SWALLOWED, _UNHEARD)


def _may_be_cancelled(body: Sequence[ast.stmt], function: FunctionNode) -> bool:
    """Whether something is awaited, other than a task that the function has cancelled itself."""
    suspending = [node for node in own_nodes(body) if isinstance(node, _SUSPENDS)]
    ended = {
        ast.unparse(node.func.value)
        for node in own_nodes(function.body)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "cancel"
    }
    return any(not (isinstance(node, ast.Await) and ast.unparse(node.value) in ended) for node in suspending)


def _names_cancellation(types: Sequence[ast.expr]) -> bool:
    each = [part for type_ in types for part in (type_.elts if isinstance(type_, ast.Tuple) else [type_])]
    return any(_last_name(part) in _CATCHES for part in each)


def _last_name(expression: ast.expr) -> str:
    """``CancelledError`` of ``asyncio.CancelledError``."""
    return str(getattr(expression, "attr", getattr(expression, "id", "")))
