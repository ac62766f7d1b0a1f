"""Starting asyncio tasks that have an owner: the one place that creates them."""

from __future__ import annotations

import asyncio
import contextvars
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from inspect import iscoroutine
from typing import Any
from uuid import uuid4

from scheduler.core.messages import Instant, Status
from scheduler.errors import DuplicateRunError
from scheduler.executors.base import named
from scheduler.runs.registry import RunEntry, RunRegistry
from scheduler.runs.strays import StrayWatch, current_nest

Work = Coroutine[Any, Any, Any] | Callable[[], Awaitable[Any]]
OnEnd = Callable[[RunEntry], None]
OnLeak = Callable[[RunEntry, str, int, str], None]

_SWEEP = 1.0  # seconds that tasks left behind get to end once they have been cancelled
_PARTING = 0.2  # seconds that threads may go on after the run that has started them


class BackgroundTaskManager:
    """Starts, owns and ends asyncio tasks. For use on one event loop's thread."""

    def __init__(
        self,
        now: Callable[[], Instant],
        *,
        on_leak: OnLeak | None = None,
        on_failure: Callable[[RunEntry, str, str], None] | None = None,
    ) -> None:
        """``on_leak(run, kind, count, where)`` hears what a run left behind; ``on_failure(run, error,
        traceback)`` of a task that raised. Every run starts in a copy of the context of this call, so
        that nothing leaks from one run into another.
        """
        self.registry = RunRegistry(now)
        self.report_leak: OnLeak = on_leak or (lambda *_: None)
        self._on_failure = on_failure or (lambda *_: None)
        self._context = contextvars.copy_context()
        self._watch: StrayWatch | None = None

    def start_task(
        self, work: Work, run_id: str | None = None, *, on_end: OnEnd | None = None, owner: str = ""
    ) -> str:
        """Start a coroutine, or a coroutine function without parameters; return the run's id at once.

        DuplicateRunError when a run with this id is alive. Whatever the work raises is kept as the
        run's error: it never reaches the loop.
        """
        try:
            entry = self.registry.add_run(run_id or uuid4().hex, owner)
        except DuplicateRunError:
            if iscoroutine(work):
                work.close()
            raise
        self.launch(entry, self._run(entry, work, on_end))
        return entry.run_id

    def launch(self, entry: RunEntry, work: Coroutine[Any, Any, None]) -> None:
        """Create the task of a registered entry. ``work`` must call ``registry.finish``."""
        loop = asyncio.get_running_loop()
        if self._watch is None or self._watch.loop is not loop:
            self.close()
            self._watch = StrayWatch(loop)
        entry.task = asyncio.Task(work, loop=loop, name=entry.run_id, context=self._context.copy())

    def background(self, entry: RunEntry, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start work that ends with the run at the latest; its failure is reported, not raised."""
        if not entry.open:
            work.close()
            raise RuntimeError(f"{entry.run_id}: the run has ended")

        async def owned() -> Any:
            try:
                return await work
            except asyncio.CancelledError:
                raise
            except BaseException as problem:  # noqa: BLE001 - SystemExit must not end the daemon
                self._on_failure(entry, error_text(problem), _details(problem))

        context = self._context.copy()
        context.run(current_nest.set, entry)
        loop = asyncio.get_running_loop()
        task = asyncio.Task(owned(), loop=loop, name=f"{entry.run_id}/background", context=context)
        entry.own(task)
        return task

    def cancel_task(self, run_id: str) -> bool:
        """Ask a run to end; False when none with this id is alive."""
        entry = self.registry.live.get(run_id)
        if entry is None:
            return False
        entry.cancel()
        return True

    async def wait_all(self, limit: float) -> list[str]:
        """Wait at most ``limit`` seconds for the runs alive now; the ids of those that did not end."""
        current = asyncio.current_task()
        entries = [entry for entry in self.registry.live.values() if entry.task is not current]
        tasks = [entry.task for entry in entries if entry.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=max(0.0, limit))
        return [entry.run_id for entry in entries if entry.task is not None and not entry.task.done()]

    def get_active_task_count(self) -> int:
        return len(self.registry.live)

    def get_active_task_ids(self) -> list[str]:
        return list(self.registry.live)

    def is_task_active(self, run_id: str) -> bool:
        return run_id in self.registry.live

    def owner_of(self, task: asyncio.Task[Any]) -> RunEntry | None:
        """The live run that an asyncio task is, or was made in. For use from any thread."""
        for entry in list(self.registry.live.values()):
            if entry.task is task or task in entry.owned or task in (entry.strays or ()):
                return entry
        return None

    def close(self) -> None:
        """Give the loop its own task factory back."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    async def sweep(self, entry: RunEntry) -> None:
        """End what a run has left behind, and report what it did not own to."""
        if entry.threads is not None:
            # Some threads end by themselves soon after the run. The others cannot be ended anyway.
            asyncio.get_running_loop().call_later(_PARTING, self._tell_threads, entry)
        # Whoever stops the run meanwhile does not want to wait for its remains.
        with suppress(asyncio.CancelledError):
            await self._end_tasks(entry)

    def _tell_threads(self, entry: RunEntry) -> None:
        threads = entry.living_threads()
        if threads:
            self.report_leak(entry, "thread", len(threads), f"{named(threads)}; threads cannot be ended")

    async def _end_tasks(self, entry: RunEntry) -> None:
        tasks = entry.alive()
        if not tasks:
            return
        strays = [task for task in tasks if task not in entry.owned]
        if strays:
            self.report_leak(entry, "task", len(strays), entry.describe(strays))
        for task in tasks:
            task.cancel()
        try:
            await asyncio.wait(tasks, timeout=_SWEEP)
        finally:
            stuck = [task for task in tasks if not task.done()]
            if stuck:
                self.report_leak(entry, "stuck task", len(stuck), entry.describe(stuck))

    async def _run(self, entry: RunEntry, work: Work, on_end: OnEnd | None) -> None:
        current_nest.set(entry)
        entry.begun = True
        status, error = Status.CANCELLED, ""
        if entry.stopping:
            if not callable(work):
                work.close()
        else:
            status, error = await self._attempt(entry, work)
        if entry.noted:
            await self.sweep(entry)
        self.registry.finish(entry, status, error)
        if on_end is not None:
            on_end(entry)

    async def _attempt(self, entry: RunEntry, work: Work) -> tuple[Status, str]:
        entry.status = Status.RUNNING
        entry.started = self.registry.now()
        try:
            await (work() if callable(work) else work)
        except BaseException as problem:  # noqa: BLE001 - SystemExit must not end the program
            if entry.stopping and isinstance(problem, asyncio.CancelledError):
                return Status.CANCELLED, ""
            error = error_text(problem)
            self._on_failure(entry, error, _details(problem))
            return Status.FAILED, error
        return Status.COMPLETED, ""


def program_task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """The task that a program is: whoever runs the loop owns it."""
    return loop.create_task(work)


def error_text(problem: BaseException) -> str:
    """``ValueError: what went wrong``, on one line."""
    text = " ".join(str(problem).split())
    name = type(problem).__name__
    return f"{name}: {text}" if text else name


def _details(problem: BaseException) -> str:
    return "".join(traceback.format_exception(problem))
