"""Nothing is started that is not owned: the one place that creates asyncio tasks (law 6).

``BackgroundTaskManager`` starts tasks and knows each until it ends; ``RunRegistry`` remembers what
became of them. Both are for Python programs as well; ``runner.Runner`` is how the daemon uses them.
"""

from __future__ import annotations

import asyncio
import contextvars
import traceback
from collections import deque
from collections.abc import Callable, Coroutine
from inspect import iscoroutine
from typing import Any
from uuid import uuid4

from scheduler.core.messages import Duration, Instant, Status
from scheduler.errors import DuplicateRunError
from scheduler.strays import Nest, StrayWatch, current_nest

Work = Coroutine[Any, Any, Any] | Callable[[], Coroutine[Any, Any, Any]]
OnEnd = Callable[["RunEntry"], None]
OnLeak = Callable[["RunEntry", str, int, str], None]

_SWEEP = 1.0  # seconds that tasks left behind get to end once they have been cancelled


class RunEntry(Nest):
    """What is known of one run. Status, times and error stay after its end."""

    __slots__ = ("__weakref__", "begun", "ended", "error", "owner", "run_id", "started", "status", "stopping", "task")

    def __init__(self, run_id: str, owner: str) -> None:
        super().__init__()
        self.run_id = run_id
        self.owner = owner
        self.status = Status.QUEUED
        self.started: Instant | None = None
        self.ended: Instant | None = None
        self.error = ""
        self.task: asyncio.Task[None] | None = None
        self.begun = False  # its coroutine has taken its first step
        self.stopping = False

    def cancel(self) -> None:
        """Ask it to end. A task cancelled before its first step would never get to say so."""
        self.stopping = True
        if self.begun and self.task is not None:
            self.task.cancel()


class RunRegistry:
    """The runs that are alive and the latest that ended, by id."""

    def __init__(self, now: Callable[[], Instant], *, keep: int = 2_000) -> None:
        """``now`` reads the wall clock in nanoseconds; at most ``keep`` ended runs are remembered."""
        self.live: dict[str, RunEntry] = {}
        self._now = now
        self._keep = keep
        self._ended: dict[str, RunEntry] = {}
        self._order: deque[RunEntry] = deque()

    def add_run(self, run_id: str, owner: str = "") -> RunEntry:
        """A new entry; DuplicateRunError when a run with this id is alive."""
        return self.add(RunEntry(run_id, owner))

    def add(self, entry: RunEntry) -> RunEntry:
        if entry.run_id in self.live:
            raise DuplicateRunError(f"a run with the id {entry.run_id!r} is alive")
        self.live[entry.run_id] = entry
        return entry

    def get_run(self, run_id: str) -> RunEntry | None:
        return self.live.get(run_id) or self._ended.get(run_id)

    def began(self, entry: RunEntry) -> None:
        entry.status = Status.RUNNING
        entry.started = self._now()

    def finish(self, entry: RunEntry, status: Status, error: str = "") -> None:
        """The run is over. The oldest that ended makes room."""
        entry.open = False
        entry.status = status
        entry.error = error
        entry.ended = self._now()
        entry.task = None
        self.live.pop(entry.run_id, None)
        self._ended[entry.run_id] = entry
        self._order.append(entry)
        if len(self._order) > self._keep:
            self._forget(self._order.popleft())

    def cleanup_old_runs(self, older_than: Duration) -> int:
        """Forget runs that ended more than ``older_than`` nanoseconds ago; how many."""
        limit = self._now() - older_than
        before = len(self._order)
        while self._order and (self._order[0].ended or 0) < limit:
            self._forget(self._order.popleft())
        return before - len(self._order)

    def _forget(self, entry: RunEntry) -> None:
        if self._ended.get(entry.run_id) is entry:  # else a later run has the same id
            del self._ended[entry.run_id]


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
        self._on_leak = on_leak or (lambda *_: None)
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

        async def owned() -> Any:
            try:
                return await work
            except asyncio.CancelledError:
                raise
            except BaseException as problem:  # noqa: BLE001 - SystemExit must not end the daemon
                self._on_failure(entry, _error_text(problem), "".join(traceback.format_exception(problem)))

        context = self._context.copy()
        context.run(current_nest.set, entry)
        task = asyncio.Task(owned(), name=f"{entry.run_id}/background", context=context)
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

    def close(self) -> None:
        """Give the loop its own task factory back."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    async def sweep(self, entry: RunEntry) -> None:
        """End what a run has left behind, and report what it did not own to."""
        tasks = entry.alive()
        if not tasks:
            return
        strays = [task for task in tasks if not entry.owns(task)]
        if strays:
            self._on_leak(entry, "task", len(strays), entry.describe(strays))
        for task in tasks:
            task.cancel()
        try:
            await asyncio.wait(tasks, timeout=_SWEEP)
        except asyncio.CancelledError:  # whoever stops the run does not want to wait for its remains
            pass
        stuck = [task for task in tasks if not task.done()]
        if stuck:
            self._on_leak(entry, "stuck task", len(stuck), entry.describe(stuck))

    async def _run(self, entry: RunEntry, work: Work, on_end: OnEnd | None) -> None:
        current_nest.set(entry)
        entry.begun = True
        status, error = Status.CANCELLED, ""
        if not entry.stopping:
            self.registry.began(entry)
            try:
                await (work if iscoroutine(work) else work())  # type: ignore[operator]
                status = Status.COMPLETED
            except BaseException as problem:  # noqa: BLE001 - SystemExit must not end the program
                if not (entry.stopping and isinstance(problem, asyncio.CancelledError)):
                    status, error = Status.FAILED, _error_text(problem)
                    self._on_failure(entry, error, "".join(traceback.format_exception(problem)))
        elif iscoroutine(work):
            work.close()
        if entry.strays:
            await self.sweep(entry)
        self.registry.finish(entry, status, error)
        if on_end is not None:
            on_end(entry)
