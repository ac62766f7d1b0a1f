"""Callables for tests of the executors; each does one thing that a task may do."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

not_callable = 3
released = threading.Event()  # lets `stubborn_thread` return
left_behind: list[asyncio.Task[None]] = []


async def nothing() -> None:
    return


def nothing_sync() -> None:
    return


async def fail() -> None:
    raise ValueError("no quotes\nat all")


def fail_sync() -> None:
    raise ValueError("no quotes")


async def leave_by_system_exit() -> None:
    sys.exit(3)


def leave_by_system_exit_sync() -> None:
    sys.exit(3)


async def interrupt() -> None:
    raise KeyboardInterrupt


def interrupt_sync() -> None:
    raise KeyboardInterrupt


async def cancel_itself() -> None:
    raise asyncio.CancelledError


async def forever() -> None:
    await asyncio.Event().wait()


async def swallow_cancellation() -> None:
    while not released.is_set():
        try:
            await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            continue


async def leave_task_behind() -> None:
    left_behind.append(asyncio.get_running_loop().create_task(forever()))
    await asyncio.sleep(0)


def stubborn_thread() -> None:
    released.wait(20)


def cooperative(ctx: Any) -> None:
    ctx.cancelled.wait(20)


def write_arguments(path: str, words: list[str], ctx: Any) -> None:
    Path(path).write_text(f"{' '.join(words)} {ctx.task} {ctx.due.isoformat()} {ctx.phase} {ctx.session}")


def exit_interpreter() -> None:
    os._exit(7)


def kill_interpreter() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def unpicklable() -> object:
    return threading.Lock()


def eat_memory() -> None:
    _ = bytearray(1 << 30)


def sleep_long() -> None:
    time.sleep(30)


def leave_thread_behind() -> None:
    threading.Thread(target=time.sleep, args=(30,), name="forgotten").start()


def leave_grandchild(path: str) -> None:
    child = subprocess.Popen(["sleep", "60"])
    Path(path).write_text(str(child.pid))


def talk(ctx: Any) -> None:
    sys.stdout.write("printed\n")
    ctx.log.warning("quotes.late", seconds=3, path=Path("/x"))


def use_cache(ctx: Any) -> None:
    prices = ctx.cache["prices"]
    assert prices.get("a") is None
    prices.put("a", {"last": 1.5})
    assert prices.get("a") == {"last": 1.5}
    assert prices.get_or_load_sync(("b", 1), lambda: [1, 2]) == [1, 2]
    assert prices.get_or_load_sync(("b", 1), lambda: 1 / 0) == [1, 2]
    prices.delete("a")
    assert prices.get("a", "gone") == "gone"


async def load_once(ctx: Any, path: str) -> None:
    async def loader() -> str:
        with Path(path).open("a") as file:  # noqa: ASYNC230 - a tiny file
            file.write("loaded\n")
        await asyncio.sleep(0.3)
        return "value"

    values = await asyncio.gather(*(ctx.cache["prices"].get_or_load("k", loader) for _ in range(3)))
    assert values == ["value"] * 3


def load_and_fail(ctx: Any) -> None:
    ctx.cache["prices"].get_or_load_sync("k", lambda: 1 / 0)


def put_unserialisable(ctx: Any) -> None:
    ctx.cache["prices"].put("k", object())


def unknown_namespace(ctx: Any) -> None:
    ctx.cache["pricse"].get("k")


def three_ticks(ctx: Any, path: str) -> None:
    ticks = [tick.isoformat() for tick, _ in zip(ctx.ticks(), range(3), strict=False)]
    Path(path).write_text(" ".join(ticks))


async def wait_in_process(path: str) -> None:
    state = Path(path)
    state.write_text("begun")  # noqa: ASYNC240 - a tiny file
    try:
        await asyncio.sleep(30)
    finally:
        state.write_text("tidied")  # noqa: ASYNC240


def load_and_die(ctx: Any) -> None:
    def loader() -> None:
        time.sleep(0.2)
        os._exit(9)

    ctx.cache["prices"].get_or_load_sync("k", loader)
