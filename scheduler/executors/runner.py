"""Runs one callable in a process of its own. Executed by path, never imported by the daemon.

Standard library only, Python 3.8 or later: this runs in whatever interpreter the desk names.
Usage: ``runner.py FD`` (a socket to the daemon), or ``runner.py --check TARGET [PATH...]``.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import importlib
import inspect
import itertools
import json
import os
import signal
import socket
import sys
import threading
import traceback
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from types import FrameType

    Answer = dict[str, Any]


class RemoteError(Exception):
    """The daemon's answer to a request was an error."""


class Channel:
    """JSON lines to and from the daemon; a thread hands each answer to whoever asked."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._lines = end.makefile("rb")
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, concurrent.futures.Future[Answer]] = {}

    def receive(self) -> Answer:
        line = self._lines.readline()
        if not line:
            raise EOFError("the scheduler has closed the channel")
        answer: Answer = json.loads(line)
        return answer

    def send(self, message: Answer) -> None:
        """TypeError for what JSON cannot carry."""
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            self._socket.sendall(line)

    def ask(self, call: str, **request: Any) -> concurrent.futures.Future[Answer]:
        number = next(self._numbers)
        return self._expect(number, dict(request, id=number, call=call))

    def follow_up(self, number: int, message: Answer) -> concurrent.futures.Future[Answer]:
        """Say something about an earlier request and wait for its next answer."""
        return self._expect(number, message)

    def _expect(self, number: int, message: Answer) -> concurrent.futures.Future[Answer]:
        answer: concurrent.futures.Future[Answer] = concurrent.futures.Future()
        self._waiting[number] = answer
        try:
            self.send(message)
        except BaseException:
            self._waiting.pop(number, None)
            raise
        return answer

    def listen(self) -> None:
        """Until the daemon is gone, with whom this process has no reason to live."""
        try:
            while True:
                answer = self.receive()
                waiting = self._waiting.pop(answer["id"], None)
                if waiting is not None and waiting.set_running_or_notify_cancel():
                    waiting.set_result(answer)
        except (EOFError, OSError):
            os._exit(1)


def value_of(answer: Answer) -> Any:
    if "error" in answer:
        raise RemoteError(answer["error"])
    return answer["value"]


class Namespace:
    """One namespace of the daemon's cache. Keys and values must be what JSON can carry."""

    def __init__(self, channel: Channel, name: str) -> None:
        self._channel = channel
        self._name = name

    def get(self, key: Any, default: Any = None) -> Any:
        return self._call("get", key, default)

    def put(self, key: Any, value: Any, ttl: float | None = None) -> None:
        self._call("put", key, value, ttl)

    def delete(self, key: Any) -> None:
        self._call("delete", key)

    def clear(self) -> None:
        self._call("clear")

    def age(self, key: Any) -> float | None:
        age: float | None = self._call("age", key)
        return age

    async def get_or_load(self, key: Any, loader: Callable[[], Any]) -> Any:
        answer = await asyncio.wrap_future(self._ask_load(key))
        if not answer.get("lead"):
            return value_of(answer)
        try:
            value = loader()
            if inspect.isawaitable(value):
                value = await value
            following = self._loaded(answer["id"], value)
        except BaseException as problem:
            self._load_failed(answer["id"], problem)
            raise
        return value_of(await asyncio.wrap_future(following))

    def get_or_load_sync(self, key: Any, loader: Callable[[], Any]) -> Any:
        answer = self._ask_load(key).result()
        if not answer.get("lead"):
            return value_of(answer)
        try:
            following = self._loaded(answer["id"], loader())
        except BaseException as problem:
            self._load_failed(answer["id"], problem)
            raise
        return value_of(following.result())

    def _call(self, call: str, *arguments: Any) -> Any:
        return value_of(self._channel.ask(call, namespace=self._name, arguments=arguments).result())

    def _ask_load(self, key: Any) -> concurrent.futures.Future[Answer]:
        return self._channel.ask("get_or_load", namespace=self._name, arguments=[key])

    def _loaded(self, number: int, value: Any) -> concurrent.futures.Future[Answer]:
        return self._channel.follow_up(number, {"loaded": number, "value": value})

    def _load_failed(self, number: int, problem: BaseException) -> None:
        self._channel.send({"loaded": number, "error": error_text(problem)})


class Cache:
    """``cache["news"]`` is a namespace; whether it exists shows at its first use."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __getitem__(self, name: str) -> Namespace:
        return Namespace(self._channel, name)


class Log:
    """Forwards to the daemon's log; what JSON cannot carry is shown by its repr."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def debug(self, event: str, **fields: Any) -> None:
        self._log("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._log("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._log("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._log("error", event, fields)

    def _log(self, level: str, event: str, fields: dict[str, Any]) -> None:
        carried = {name: json.loads(json.dumps(value, default=repr)) for name, value in fields.items()}
        self._channel.send({"log": level, "event": str(event), "fields": carried})


class Ticks:
    """The ticks of the task's pace, for both kinds of loop; the daemon does the waiting."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __aiter__(self) -> Ticks:
        return self

    async def __anext__(self) -> datetime:
        tick = value_of(await asyncio.wrap_future(self._channel.ask("tick")))
        if tick is None:
            raise StopAsyncIteration
        return datetime.fromisoformat(tick)

    def __iter__(self) -> Iterator[datetime]:
        while True:
            tick = value_of(self._channel.ask("tick").result())
            if tick is None:
                return
            yield datetime.fromisoformat(tick)


class Flag(threading.Event):
    """True once it is set: what a callable knows in every isolation."""

    def __bool__(self) -> bool:
        return self.is_set()


class Context:
    """What the callable sees as ``ctx``."""

    def __init__(self, channel: Channel, facts: Answer) -> None:
        self.task: str = facts["task"]
        self.run_id: str = facts["run_id"]
        self.due = datetime.fromisoformat(facts["due"])
        self.phase: str = facts["phase"]
        self.session: str = facts["session"]
        self.attempt: int = facts["attempt"]
        self.priority: str = facts["priority"]
        self.event: str = facts["event"]
        self.subject: str = facts["subject"]
        self.cache = Cache(channel)
        self.log = Log(channel)
        self.cancelled = Flag()
        self._channel = channel
        self._owned: list[asyncio.Task[Any]] = []

    def ticks(self) -> Ticks:
        return Ticks(self._channel)

    def background(self, work: Awaitable[Any]) -> None:
        """Owned by the run: cancelled when the callable returns."""

        async def owned() -> Any:
            return await work

        self._owned.append(asyncio.get_running_loop().create_task(owned()))

    async def end_background(self) -> None:
        for task in self._owned:
            task.cancel()
        for answer in await asyncio.gather(*self._owned, return_exceptions=True):
            if isinstance(answer, Exception):
                traceback.print_exception(type(answer), answer, answer.__traceback__)


def load(target: str, path: list[str]) -> Callable[..., Any]:
    own = Path(__file__).resolve().parent  # put there by Python: our modules are not the desk's
    sys.path[:] = path + [entry for entry in sys.path if Path(entry).resolve() != own]
    module, _, name = target.partition(":")
    found: Any = importlib.import_module(module)
    for attribute in name.split("."):
        found = getattr(found, attribute)
    if not callable(found):
        raise TypeError(f"{target} is not callable")
    call: Callable[..., Any] = found
    return call


def wants_context(call: Callable[..., Any]) -> bool:
    try:
        return "ctx" in inspect.signature(call).parameters
    except (TypeError, ValueError):  # some builtins have no signature
        return False


def execute(channel: Channel, start: Answer, left: list[str]) -> None:
    """Call it. ``left`` gets the names of the asyncio tasks that it leaves behind."""
    context = Context(channel, start["context"])

    def stop(_number: int, frame: FrameType | None) -> None:
        context.cancelled.set()
        if frame is not None:  # not sent from here: the interrupted code may hold the channel's lock
            message = {"at": f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"}
            threading.Thread(target=channel.send, args=(message,), daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    call = load(start["target"], start["path"])
    arguments = dict(start["arguments"])
    if wants_context(call):
        arguments["ctx"] = context
    if inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(type(call).__call__):
        asyncio.run(execute_async(call, arguments, context, left))
    else:
        call(**arguments)


async def execute_async(
    call: Callable[..., Any], arguments: Answer, context: Context, left: list[str]
) -> None:
    task = asyncio.current_task()

    def stop() -> None:
        context.cancelled.set()
        if task is not None:
            task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    if context.cancelled.is_set():  # the signal came before there was a loop to tell
        stop()
    try:
        await call(**arguments)
    finally:
        await context.end_background()
        others = asyncio.all_tasks() - {task}  # the end of the loop cancels them
        left += sorted(str(getattr(each.get_coro(), "__qualname__", each)) for each in others)


def error_text(problem: BaseException) -> str:
    try:
        text = " ".join(str(problem).split())
    except Exception:
        text = "(its text cannot be shown)"
    name = type(problem).__name__
    return (f"{name}: {text}" if text else name)[:500]


def left_threads() -> list[str]:
    """Threads that would keep this process from ending."""
    current = threading.current_thread()
    return [t.name for t in threading.enumerate() if t is not current and not t.daemon]


def serve(descriptor: int) -> None:
    os.set_inheritable(descriptor, False)
    channel = Channel(socket.socket(fileno=descriptor))
    start = channel.receive()
    threading.Thread(target=channel.listen, name="scheduler-channel", daemon=True).start()
    error = details = ""
    tasks: list[str] = []
    try:
        execute(channel, start, tasks)
    except BaseException as problem:
        error, details = error_text(problem), traceback.format_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    threads = left_threads()
    ended = {"error": error, "traceback": details, "tasks": tasks, "threads": threads}
    channel.send({"ended": ended})
    if threads:
        os._exit(0)


def facts(call: Callable[..., Any]) -> Answer:
    """What `scheduler check` wants to know of a callable, as JSON can carry it.

    ``file`` and ``name`` (its ``__qualname__``): of the function that does the work, under whatever is
    wrapped around it; the file is None where there is no source. ``parameters``: of what is called,
    each as [name, kind, whether it is required]; None where nothing is known of them.
    """
    function: Any = call.__init__ if inspect.isclass(call) else call
    if not inspect.isroutine(function) and not isinstance(function, functools.partial):
        function = type(function).__call__
    for _ in range(100):  # what wraps itself has no end
        inner = function.func if isinstance(function, functools.partial) else None
        inner = inner or getattr(function, "__func__", None) or getattr(function, "__wrapped__", None)
        if inner is None:
            break
        function = inner
    try:
        file = inspect.getsourcefile(function)
    except TypeError:  # a builtin
        file = None
    try:
        # Not of what is wrapped: a wrapper may add arguments, or take some away.
        found = inspect.signature(call, follow_wrapped=False).parameters.values()
        parameters = [[p.name, p.kind.name, p.default is p.empty] for p in found]
    except (TypeError, ValueError):  # some builtins have no signature
        parameters = None
    return {
        "file": file and os.path.abspath(file),
        "name": getattr(function, "__qualname__", ""),
        "parameters": parameters,
        "wants_ctx": wants_context(call),
    }


def check(target: str, path: list[str]) -> None:
    """Print the facts, and nothing that the import prints."""
    answer = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        found = facts(load(target, path))
    except BaseException as problem:
        sys.exit(error_text(problem))
    os.write(answer, json.dumps(found).encode())


if __name__ == "__main__":
    if sys.argv[1] == "--check":
        check(sys.argv[2], sys.argv[3:])
    else:
        serve(int(sys.argv[1]))
