"""Finding the asyncio tasks that a run leaves behind.

A context variable says in whose run code executes; asyncio hands it on to every task and callback
that is made there. A task factory on the loop notes each task made under it with the place where
it was made. Nothing is looked for while runs start and end: a run without such tasks costs nothing.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Iterable, Mapping
from contextvars import ContextVar
from inspect import iscoroutine
from pathlib import Path
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

_ASYNCIO = str(Path(asyncio.__file__).parent)
_NAMED = 3  # how many of them a report names


class Nest:
    """Whatever owns the tasks made in its context: a run."""

    open = True  # what is made from now on belongs to it
    owned: frozenset[asyncio.Task[Any]] | set[asyncio.Task[Any]] = frozenset()
    strays: WeakKeyDictionary[asyncio.Task[Any], str] | None = None

    @property
    def noted(self) -> bool:
        return self.strays is not None or bool(self.owned)

    def alive(self) -> list[asyncio.Task[Any]]:
        """The tasks made here that have not ended."""
        current = asyncio.current_task()
        made = {*self.owned, *(self.strays or ())}
        return [task for task in made if not task.done() and task is not current]

    def own(self, task: asyncio.Task[Any]) -> None:
        """Hold on to a task until it ends; asyncio itself does not."""
        if not isinstance(self.owned, set):
            self.owned = set()
        self.owned.add(task)
        task.add_done_callback(self.owned.discard)

    def note(self, task: asyncio.Task[Any], place: str) -> None:
        if self.strays is None:
            self.strays = WeakKeyDictionary()
        self.strays[task] = place

    def describe(self, tasks: Iterable[asyncio.Task[Any]]) -> str:
        """``feed.poll, made at feed.py:12`` of the first few."""
        made: Mapping[asyncio.Task[Any], str] = self.strays or {}
        names = [f"{_name(task)}, made at {made.get(task, 'an unknown place')}" for task in tasks]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return "; ".join(names[:_NAMED]) + more


current_nest: ContextVar[Nest | None] = ContextVar("current_nest", default=None)


class StrayWatch:
    """The task factory of one loop; whatever factory was there before still makes the tasks."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._previous: Any = loop.get_task_factory()
        factory: Any = self._make  # typeshed's protocol is that of later Pythons
        self._factory = factory  # one object, to be recognised by
        loop.set_task_factory(self._factory)

    def close(self) -> None:
        """Put the previous factory back, unless another has been put on top."""
        if not self.loop.is_closed() and self.loop.get_task_factory() is self._factory:
            self.loop.set_task_factory(self._previous)

    def _make(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any]
        if self._previous is None:
            task = asyncio.Task(work, loop=loop, **options)
        else:
            task = self._previous(loop, work, **options)
        context = options.get("context")
        nest = current_nest.get() if context is None else context.get(current_nest)
        # asyncio finishes an abandoned async generator in a task of its own; that is not the run's doing
        if nest is not None and nest.open and iscoroutine(work):
            nest.note(task, _place(sys._getframe(1)))  # noqa: SLF001 - inspect.stack() reads source files
        return task


def waiting_at(task: asyncio.Task[Any]) -> str:
    """``file.py:12 in function``: the innermost place at which a suspended task waits."""
    waiting: Any = task.get_coro()
    frame: FrameType | None = None
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None) or frame
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    if frame is None:
        return _name(task)
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def _place(frame: FrameType | None) -> str:
    """The nearest place in the stack that is not asyncio's own."""
    while frame is not None and frame.f_code.co_filename.startswith(_ASYNCIO):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "an unknown place"


def _name(task: asyncio.Task[Any]) -> str:
    work = task.get_coro()
    return str(getattr(work, "__qualname__", work))
