"""Callables in an interpreter of their own: `isolation: process`.

The child runs ``runner.py`` by path, so that the desk's interpreter needs nothing of this package.
The two talk in JSON lines over a socket pair. A request of the child (cache, ticks) carries an id
that the answer repeats. A load is single flight across the whole daemon: the cache calls a loader
here, which tells the child "you lead" and waits for what it found.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from scheduler.executors.base import DONE, Job, Outcome, describe, named
from scheduler.executors.channel import Channel, encode
from scheduler.executors.child import Child
from scheduler.executors.command import environment
from scheduler.executors.limits import with_limit
from scheduler.executors.targets import RUNNER

_LAST_WORDS = 0.25  # seconds; how long what a dead child has sent may take to arrive
_LEVELS = frozenset({"debug", "info", "warning", "error"})


class RemoteError(Exception):
    """a loader failed in the process of its task"""


class ProcessExecutor:
    """Runs ``spec.work.target`` in ``spec.work.python``, or in the daemon's own interpreter."""

    def __init__(
        self,
        cache: Any = None,
        python_path: Sequence[str] = (),
        hold: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._cache = cache  # a SharedCache
        self._python_path = list(python_path)
        self._hold = hold  # VirtualClock.hold: the loop cannot see a process work

    async def execute(self, job: Job) -> Outcome:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                start = encode(self._start(job))
                argv = [job.spec.work.python or sys.executable, str(RUNNER), str(theirs.fileno())]
                child = Child(job, argv, {"PYTHONUNBUFFERED": "1", **environment(job)}, [theirs.fileno()])
            except (OSError, TypeError, ValueError) as problem:  # no such interpreter; arguments beyond JSON
                ours.close()
                return job.failed_with(describe(problem))
        conversation = _Conversation(job, ours, self._cache, child)
        conversation.channel.send(start)
        with self._hold():
            status = await child.wait()
        with contextlib.suppress(asyncio.CancelledError):  # the process has ended, which is all one can ask
            await conversation.channel.drain(_LAST_WORDS)
        conversation.channel.close()
        return _outcome(job, conversation, child, status)

    def _start(self, job: Job) -> dict[str, Any]:
        run = job.run
        return {
            "target": job.spec.work.target,
            "arguments": dict(job.spec.work.arguments),
            "path": self._python_path,
            "context": {
                "task": run.task,
                "run_id": run.run_id,
                "due": job.due.isoformat(),
                "phase": job.facts.phase,
                "session": job.facts.session,
                "attempt": run.attempt,
                "priority": job.spec.priority.label,
                "event": run.event,
                "subject": run.subject,
            },
        }


def _outcome(job: Job, conversation: _Conversation, child: Child, status: int | None) -> Outcome:
    ended = conversation.ended
    if ended is not None:
        for kind in ("task", "thread"):
            if left := ended[f"{kind}s"]:
                job.owner.leaked(kind, len(left), named(map(str, left)))
        if not ended["error"] or (job.stopping and ended["error"] == "CancelledError"):
            return DONE
        error = with_limit(job.spec.work, str(ended["error"]), status)
        return job.failed_with(error, str(ended["traceback"]))
    if job.stopping:
        return job.stopped(conversation.at)
    if conversation.channel.broken:
        return job.failed_with(f"its process sent {conversation.channel.broken}")
    return job.failed_with(child.error() if status != 0 else "its process ended before the callable did")


class _Conversation:
    """What the daemon does with the messages of one child."""

    def __init__(self, job: Job, end: socket.socket, cache: Any, child: Child) -> None:
        self.ended: dict[str, Any] | None = None
        self.at = ""  # where the callable was when it was asked to end
        self._job = job
        self._cache = cache
        self._child = child
        self._loads: dict[int, asyncio.Future[Any]] = {}
        self._ticks: Any = None
        self.channel = Channel(end, self._hear)

    def _hear(self, message: dict[str, Any]) -> None:
        match message:
            case {"ended": dict(ended)}:
                self.ended = {
                    "error": ended["error"],
                    "traceback": ended["traceback"],
                    "tasks": ended["tasks"],
                    "threads": ended["threads"],
                }
                self._child.farewell()
            case {"at": str(place)}:
                self.at = place
            case {"log": level, "event": event, "fields": dict(fields)} if level in _LEVELS:
                getattr(self._job.log, level)(str(event), **_safe_fields(fields))
            case {"loaded": int(number), "value": value}:
                self._settle(number, value=value)
            case {"loaded": int(number), "error": error}:
                self._settle(number, error=RemoteError(str(error)))
            case {"id": int(number), "call": "get_or_load", "namespace": name, "arguments": [key]}:
                self._job.owner.background(self._load(number, name, _hashable(key)))
            case {"id": int(number), "call": "tick"}:
                self._job.owner.background(self._tick(number))
            case {"id": int(number), "call": "get" | "put" | "delete" | "clear" | "age" as call}:
                self._answer(number, lambda: self._cached(call, message))
            case _:
                raise ValueError(f"unknown message with {sorted(message)}")

    def _cached(self, call: str, message: dict[str, Any]) -> Any:
        arguments = list(message["arguments"])
        if arguments:
            arguments[0] = _hashable(arguments[0])
        return getattr(self._cache[message["namespace"]], call)(*arguments)

    async def _load(self, number: int, name: str, key: Hashable) -> None:
        async def lead() -> Any:
            self._loads[number] = asyncio.get_running_loop().create_future()
            self.channel.send(encode({"id": number, "lead": True}))
            try:
                return await self._loads[number]
            finally:
                del self._loads[number]

        try:
            value = await self._cache[name].get_or_load(key, lead)
        except Exception as problem:  # noqa: BLE001 - any failure of a load is the child's answer
            error = str(problem) if isinstance(problem, RemoteError) else describe(problem)
            self.channel.send(encode({"id": number, "error": error}))
        else:
            self._answer(number, lambda: value)

    def _settle(self, number: int, *, value: Any = None, error: Exception | None = None) -> None:
        load = self._loads.get(number)
        if load is None or load.done():
            return
        if error is None:
            load.set_result(value)
        else:
            load.set_exception(error)

    async def _tick(self, number: int) -> None:
        if self._ticks is None:
            self._ticks = aiter(self._job.context().ticks())
        try:
            tick = await anext(self._ticks)
        except StopAsyncIteration:
            self._answer(number, lambda: None)
        else:
            self._answer(number, tick.isoformat)

    def _answer(self, number: int, ask: Callable[[], Any]) -> None:
        try:
            line = encode({"id": number, "value": ask()})
        except Exception as problem:  # noqa: BLE001 - an unknown namespace, a value that JSON cannot carry
            line = encode({"id": number, "error": describe(problem)})
        self.channel.send(line)


def _hashable(key: Any) -> Hashable:
    """JSON turns tuples into lists, which cannot be keys."""
    return tuple(map(_hashable, key)) if isinstance(key, list) else key


def _safe_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Whose names are taken by the logger's own arguments get an underscore."""
    return {f"{name}_" if name in {"event", "self"} else name: value for name, value in fields.items()}
