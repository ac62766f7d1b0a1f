"""APScheduler 3.11 on the same loop, given its best: jobs in memory, nothing logged, no run given up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from math import ceil
from pathlib import Path

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from benchmarks import measuring


async def start(tasks: Sequence[measuring.Task], _state: Path) -> measuring.Stop:
    # A late run is still run (no misfire), each on its own (no coalescing), beside a slow predecessor.
    defaults = {"misfire_grace_time": None, "coalesce": False, "max_instances": 10}
    scheduler = AsyncIOScheduler(timezone=UTC, job_defaults=defaults)
    second = ceil(time.time()) + 1  # adding thousands of jobs takes a while
    for task in tasks:
        begin = datetime.fromtimestamp(second + task.phase / 1000, UTC)
        scheduler.add_job(task.run, IntervalTrigger(seconds=1, start_date=begin, timezone=UTC), id=task.name)
    scheduler.start()

    async def stop() -> None:
        scheduler.pause()
        await asyncio.sleep(0.2)  # a run that is cut off would be reported at length
        scheduler.shutdown(wait=False)

    return stop


if __name__ == "__main__":
    measuring.main(start)
