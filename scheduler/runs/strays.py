"""Finding the asyncio tasks and the threads that a run leaves behind.

A context variable says in whose run code executes; asyncio hands it on to every task and callback
that is made there. A task factory on the loop notes each task made under it with the place where
it was made, and ThreadWatch does so with threads. Nothing is looked for while runs start and end: a run
without such tasks costs nothing.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Iterable, Mapping
from concurrent.futures.thread import _threads_queues, _worker  # the only place that tells a pool's threads
from contextvars import ContextVar
from inspect import iscoroutine
from pathlib import Path
from threading import Thread, main_thread
from threading import enumerate as enumerate_threads
from types import FrameType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from scheduler.executors.base import named
from scheduler.executors.places import is_library, is_ours, place, place_of_thread

if TYPE_CHECKING:
    from scheduler.executors.output import OutputLines

_ASYNCIO = str(Path(asyncio.__file__).parent)


class Nest:
    """Whatever owns the tasks made in its context: a run."""

    open = True  # what is made from now on belongs to it
    owned: frozenset[asyncio.Task[Any]] | set[asyncio.Task[Any]] = frozenset()
    strays: WeakKeyDictionary[asyncio.Task[Any], str] | None = None
    threads: list[tuple[Thread, str]] | None = None

    @property
    def noted(self) -> bool:
        return self.strays is not None or self.threads is not None or bool(self.owned)

    @property
    def output(self) -> OutputLines | None:
        """Where what it prints goes, if that is known."""
        return None

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

    def note_thread(self, thread: Thread, place: str) -> None:
        if self.threads is None:
            self.threads = []
        self.threads.append((thread, place))

    def describe(self, tasks: Iterable[asyncio.Task[Any]]) -> str:
        """``feed.poll, made at feed.py:12`` of the first few."""
        made: Mapping[asyncio.Task[Any], str] = self.strays or {}
        return named(f"{_name(task)}, made at {made.get(task, 'an unknown place')}" for task in tasks)

    def living_threads(self) -> list[str]:
        """``poller, started at feed.py:12, now at feed.py:40 in poll`` of those that go on.

        Those of a pool (concurrent.futures) outlive the run that makes them by design.
        """
        return [
            f"{thread.name}, started at {started}, now at {place_of_thread(thread.ident)}"
            for thread, started in self.threads or ()
            if thread.is_alive() and not _is_pooled(thread)
        ]


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
        context = options.get("context")
        nest = current_nest.get() if context is None else context.get(current_nest)
        # asyncio finishes an abandoned async generator in a task of its own; that is not the run's doing
        noted = nest is not None and nest.open and iscoroutine(work)
        if noted:
            work = _Contained(work)
        task: asyncio.Task[Any]
        if self._previous is None:
            task = asyncio.Task(work, loop=loop, **options)
        else:
            task = self._previous(loop, work, **options)
        if noted:
            assert nest is not None
            nest.note(task, _place(sys._getframe(1)))  # noqa: SLF001 - inspect.stack() reads source files
        return task


class _Contained(Coroutine[Any, Any, Any]):
    """A coroutine for a task of its own. SystemExit in one would end the loop, and with it the daemon."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self._work = work

    def send(self, value: Any) -> Any:
        try:
            return self._work.send(value)
        except (SystemExit, KeyboardInterrupt) as problem:
            raise _no_exit(problem) from problem

    def throw(self, *problem: Any) -> Any:
        try:
            return self._work.throw(*problem)
        except (SystemExit, KeyboardInterrupt) as exit_:
            raise _no_exit(exit_) from exit_

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Any:
        return self._work.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)  # its name, and where it waits


class ThreadWatch:
    """Notes the threads that are started in a run, from here to ``close``; they are in that run, too.

    What a library starts without ``threading`` is not seen.
    """

    def __init__(self) -> None:
        self._start = start = Thread.start

        def noting(thread: Thread) -> None:
            nest = current_nest.get()
            if nest is not None and not _is_made_for_a_pool(thread):
                _nested(thread, nest)
            start(thread)
            if nest is not None and nest.open:
                nest.note_thread(thread, _place(sys._getframe(1)))  # noqa: SLF001 - see StrayWatch

        self._noting = noting
        setattr(Thread, "start", noting)  # noqa: B010 - mypy takes it for an assignment to a method

    def close(self) -> None:
        """Put the original back, unless another has been put on top."""
        if Thread.start is self._noting:
            setattr(Thread, "start", self._start)  # noqa: B010 - as above


def _nested(thread: Thread, nest: Nest) -> None:
    """What it prints and raises is to be put down to a run. A thread has a context of its own."""
    run = thread.run

    def named() -> None:
        del thread.run  # the instance's: back to the class's own
        current_nest.set(nest)
        run()

    thread.run = named  # type: ignore[method-assign]


def _is_made_for_a_pool(thread: Thread) -> bool:
    """Of the standard library: it will work for others, too, and is not yet known to be of a pool."""
    return getattr(thread, "_target", None) is _worker


def _is_pooled(thread: Thread) -> bool:
    """Whether it waits in a pool for more work, as those of the standard library and of anyio do."""
    return thread in _threads_queues or type(thread).__module__.startswith("anyio.")


def threads_in_the_way() -> list[str]:
    """The threads that would keep the interpreter from ending, but for idle ones of a pool, which do not."""
    frames = sys._current_frames()  # noqa: SLF001 - the one way to see where threads are
    found = []
    for thread in enumerate_threads():
        frame = frames.get(thread.ident or 0)
        idle = frame is not None and frame.f_code.co_name == "_worker" and thread in _threads_queues
        if not thread.daemon and thread is not main_thread() and not idle:
            found.append(f"{thread.name}, now at {place_of_thread(thread.ident)}")
    return found


def waiting_at(task: asyncio.Task[Any]) -> str:
    """``file.py:12 in function``: the innermost place outside the library where a suspended task waits.

    "" when that is an executor, which waits for a thread or a process.
    """
    waiting: Any = task.get_coro()
    shown: FrameType | None = None
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        if frame is not None and (shown is None or not is_library(frame)):
            shown = frame
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    if shown is None:
        return _name(task)
    return "" if is_ours(shown) else place(shown)


def _no_exit(problem: BaseException) -> Exception:
    return RuntimeError(f"{type(problem).__name__}: {problem} in a task of its own")


def _place(frame: FrameType | None) -> str:
    """The nearest place in the stack that is not asyncio's own."""
    while frame is not None and frame.f_code.co_filename.startswith(_ASYNCIO):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "an unknown place"


def _name(task: asyncio.Task[Any]) -> str:
    work = task.get_coro()
    return str(getattr(work, "__qualname__", work))
