"""What the desk of ``benchmarks.crashes`` runs. Each run first writes down that it has begun."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scheduler import Context


def begun(ctx: Context, witness: str) -> None:
    """One line in one write: whole, or not there at all, whatever becomes of the process."""
    line = f"{ctx.run_id} {time.time_ns()}\n"
    file = os.open(witness, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


async def quick(ctx: Context, witness: str) -> None:
    begun(ctx, witness)


def threaded(ctx: Context, witness: str) -> None:
    begun(ctx, witness)
    time.sleep(0.05)


async def slow(ctx: Context, witness: str) -> None:
    """Longer than its pace, so that the next run waits for it."""
    begun(ctx, witness)
    await asyncio.sleep(1.4)


async def flaky(ctx: Context, witness: str) -> None:
    """Fails at its first attempt in every other run."""
    begun(ctx, witness)
    if ctx.attempt == 1 and int(ctx.due.timestamp()) % 2:
        raise RuntimeError("as it does every other second")


async def loop(ctx: Context, witness: str) -> None:
    begun(ctx, witness)
    await asyncio.Event().wait()
