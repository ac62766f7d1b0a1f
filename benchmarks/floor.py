"""The bare floor: one heap, one timer, one asyncio task per run. No record, no restart, no calendar."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Sequence
from math import ceil
from pathlib import Path

from benchmarks import measuring


async def start(tasks: Sequence[measuring.Task], _state: Path) -> measuring.Stop:
    loop = asyncio.get_running_loop()
    second = ceil(time.time())
    heap = [(second + task.phase / 1000, number) for number, task in enumerate(tasks)]
    heapq.heapify(heap)
    running: set[asyncio.Task[None]] = set()
    timer: asyncio.TimerHandle

    def wake() -> None:
        nonlocal timer
        now = time.time()
        while heap[0][0] <= now:
            due, number = heap[0]
            heapq.heapreplace(heap, (due + 1, number))
            task = asyncio.ensure_future(tasks[number].run())
            running.add(task)
            task.add_done_callback(running.discard)
        # At least a millisecond: uvloop fires some timers early, and none is worth spinning for.
        timer = loop.call_later(max(0.001, heap[0][0] - time.time()), wake)

    timer = loop.call_later(heap[0][0] - time.time(), wake)

    async def stop() -> None:
        timer.cancel()

    return stop


if __name__ == "__main__":
    measuring.main(start)
