"""What the contestants share: the same no-op tasks, the same loop, the same way of measuring.

Each contestant is a module with ``async def start(tasks, state)``, which arranges that every task runs
once a second, each at its own phase of the second, until the returned coroutine function is called.
It is measured in a process of its own: ``python -m benchmarks.floor --tasks 2000 --seconds 5 --burst``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from array import array
from collections.abc import Awaitable, Callable, Sequence
from math import floor
from pathlib import Path
from typing import NamedTuple, TypeAlias

import uvloop

WARM_UP = 2.0  # seconds before the window: caches warm, the first rounds over
AFTER = 0.5  # seconds after it, in which late runs still count as done
_EARLY = 20e-6  # two clock readings may disagree by so much; a run this early is on time


class Task(NamedTuple):
    """A no-op that is due once a second."""

    name: str
    phase: int  # milliseconds into the second; whole, because uvloop's timers are
    run: Callable[[], Awaitable[None]]


Stop: TypeAlias = Callable[[], Awaitable[None]]
Start: TypeAlias = Callable[[Sequence[Task], Path], Awaitable[Stop]]


class Meter:
    """Makes the tasks and keeps when each was run."""

    def __init__(self, count: int, *, burst: bool) -> None:
        self._stamps = array("d")
        self._phases = array("H")
        self.tasks = [self._task(number, 0 if burst else number * 1000 // count) for number in range(count)]

    def _task(self, number: int, phase: int) -> Task:
        clock, stamp, note = time.time, self._stamps.append, self._phases.append

        async def no_op() -> None:
            stamp(clock())
            note(phase)

        return Task(f"task-{number:05}", phase, no_op)

    def lateness(self, first: float, last: float) -> list[float]:
        """Seconds from due to run, sorted, of the runs that were due in ``[first, last)``."""
        late = []
        for stamp, phase in zip(self._stamps, self._phases, strict=True):
            offset = phase / 1000
            due = floor(stamp - offset + _EARLY) + offset
            if first <= due < last:
                late.append(max(0.0, stamp - due))
        return sorted(late)


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Nearest rank of a sorted sequence; NaN of an empty one."""
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else float("nan")


async def measure(start: Start, count: int, seconds: int, *, burst: bool) -> dict[str, float]:
    """Run one contestant; CPU is that of the whole process, its threads included."""
    meter = Meter(count, burst=burst)
    with tempfile.TemporaryDirectory() as state:
        stop = await start(meter.tasks, Path(state))
        # The window begins between two bursts, so that it holds whole ones.
        first = floor(time.time() + WARM_UP) + 0.75
        await asyncio.sleep(first - time.time())
        began, cpu = time.time(), time.process_time()
        await asyncio.sleep(first + seconds - time.time())
        cpu, wall = time.process_time() - cpu, time.time() - began
        await asyncio.sleep(AFTER)
        await stop()
    late = meter.lateness(first, first + seconds)
    return {
        "due": count * seconds,
        "done": len(late),
        "cpu_us": cpu / wall * seconds / max(1, len(late)) * 1e6,
        "p50_ms": percentile(late, 50) * 1e3,
        "p99_ms": percentile(late, 99) * 1e3,
    }


def main(start: Start) -> None:
    """Measure the contestant as the command line says and print one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, required=True)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--burst", action="store_true")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(measure(start, options.tasks, options.seconds, burst=options.burst))))
