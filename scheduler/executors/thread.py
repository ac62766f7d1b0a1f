"""Sync callables, in threads that never hold up the daemon's exit.

concurrent.futures joins its threads when the interpreter ends, so one hung task would hang the
shutdown. These are daemon threads, kept for reuse while idle. A thread cannot be killed: one that
ignores ``ctx.cancelled`` is given up, and its owner is told when it comes back.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from queue import SimpleQueue

from scheduler.executors.base import DONE, Job, Outcome, named, outlast
from scheduler.executors.places import place_of_thread

_IDLE_KEPT = 16


class _Worker(threading.Thread):
    """Calls what it is given, one after the other, until it is given None."""

    def __init__(self, number: int) -> None:
        super().__init__(name=f"task-thread-{number}", daemon=True)
        self.inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        contextvars.Context().run(self.start)  # it outlives the run that it is made for, and is no leak of it

    def run(self) -> None:
        while (work := self.inbox.get()) is not None:
            work()
            del work  # an idle thread must not keep the last run's objects alive


class _Call:
    """One call of a job's callable, made in a thread."""

    def __init__(self, job: Job) -> None:
        assert job.target is not None
        self._target = job.target
        self._arguments = job.arguments()
        self._lock = threading.Lock()
        self._task: asyncio.Task[object] | None = None
        self._cancelled = False
        self.left: list[str] = []  # tasks that the callable left behind on its own loop

    def run(self) -> BaseException | None:
        """What it raised."""
        try:
            if self._target.is_async:
                asyncio.run(self._await())
            else:
                self._target.call(**self._arguments)
        except BaseException as problem:  # noqa: BLE001 - SystemExit ends the task, not the daemon
            return problem
        return None

    def cancel(self) -> None:
        """Cancel an async callable; a sync one has only ``ctx.cancelled`` to go by."""
        with self._lock:
            self._cancelled = True
            if self._task is not None:
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    async def _await(self) -> None:
        with self._lock:
            if self._cancelled:
                raise asyncio.CancelledError
            self._task = asyncio.current_task()
        try:
            await self._target.call(**self._arguments)
        finally:
            with self._lock:
                self._task = None  # its loop is about to close, and cancels what is left on it
            left = asyncio.all_tasks() - {asyncio.current_task()}
            self.left = sorted(str(getattr(task.get_coro(), "__qualname__", task)) for task in left)


class ThreadExecutor:
    """Runs each job in a thread of its own; async callables get an event loop there."""

    def __init__(self, hold: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self._hold = hold  # VirtualClock.hold: the loop cannot see a thread's work
        self._idle: list[_Worker] = []  # touched on the loop's thread only
        self._made = 0

    async def execute(self, job: Job) -> Outcome:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[BaseException | None] = loop.create_future()
        _ = job.cancelled  # made here, before a second thread can see it
        call = _Call(job)
        worker = self._idle.pop() if self._idle else self._new_worker()

        context = contextvars.copy_context()  # says whose run it is

        def work() -> None:
            problem = context.run(call.run)
            try:
                loop.call_soon_threadsafe(self._returned, worker, ended, problem)
            except RuntimeError:  # the loop has closed meanwhile: nobody waits for the answer
                return

        job.thread = worker.ident
        worker.inbox.put(work)
        with self._hold():
            returned = await outlast(ended, job, call.cancel)
        if not returned:
            ended.add_done_callback(lambda _: job.owner.returned())
            where = place_of_thread(worker.ident)
            told = f"{worker.name} running {job.spec.work.target}, now at {where}; it cannot be ended"
            job.owner.leaked("thread", 1, told)
            return Outcome(DONE.status, error=f"its thread goes on ({worker.name})", lingering=True)
        problem = ended.result()
        if call.left:
            job.owner.leaked("task", len(call.left), named(call.left))
        return DONE if problem is None else job.failed(problem)

    def close(self) -> None:
        """Let the idle threads end."""
        while self._idle:
            self._idle.pop().inbox.put(None)

    def _new_worker(self) -> _Worker:
        self._made += 1
        return _Worker(self._made)

    def _returned(
        self, worker: _Worker, ended: asyncio.Future[BaseException | None], problem: BaseException | None
    ) -> None:
        if len(self._idle) < _IDLE_KEPT:
            self._idle.append(worker)
        else:
            worker.inbox.put(None)
        ended.set_result(problem)
