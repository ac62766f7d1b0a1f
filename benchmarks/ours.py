"""This daemon, embedded: its ledger on disk, supervision, slots and shedding on, as in production."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks import measuring
from scheduler import Scheduler


async def start(tasks: Sequence[measuring.Task], state: Path) -> measuring.Stop:
    scheduler = Scheduler(state_dir=state, market="always")
    for task in tasks:
        scheduler.register_task(
            task.name, task.run, every="1s", offset=f"{task.phase}ms", priority="critical"
        )
    await scheduler.start()
    return scheduler.stop


if __name__ == "__main__":
    measuring.main(start)
