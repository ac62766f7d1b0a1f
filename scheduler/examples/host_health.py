"""The machine the desk runs on: disk, memory, load, and whether its clock is synchronised."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from scheduler.context import Context

SYNCHRONISED = Path("/run/systemd/timesync/synchronized")  # exists once systemd-timesyncd has succeeded
TIME_ERROR = 5  # what adjtimex(2) returns while the clock is not synchronised
TIMEX_SIZE = 512  # bytes; struct timex has 208 on 64-bit Linux, the rest is room


def check(ctx: Context, disk: str = "/", fullest: float = 90, busiest: float = 2) -> None:
    """Log the machine's state: as a warning if something is amiss, else for the record.

    From ``fullest`` per cent on, a disk or the memory is too full; from ``busiest`` runnable
    processes per CPU on (the mean of five minutes), the machine has too much to do.
    """
    disk_used = psutil.disk_usage(disk).percent
    memory_used = psutil.virtual_memory().percent
    load = round(os.getloadavg()[1] / (os.cpu_count() or 1), 2)
    clock, detail = clock_state()
    amiss = {
        "disk": disk_used >= fullest,
        "memory": memory_used >= fullest,
        "load": load >= busiest,
        "clock": clock == "unsynchronised",
    }
    log = ctx.log.warning if any(amiss.values()) else ctx.log.info
    log(
        "host.health",
        disk_percent=disk_used,
        memory_percent=memory_used,
        load_per_cpu=load,
        clock=clock,
        amiss=[name for name, is_so in amiss.items() if is_so],
        **({"clock_detail": detail} if detail else {}),
    )


def clock_state() -> tuple[str, str]:
    """Answer "synchronised", "unsynchronised", or "unknown", and why it is not the kernel's own word."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except AttributeError:  # not Linux
        return "unknown", "this system has no adjtimex"
    state = adjtimex(ctypes.create_string_buffer(TIMEX_SIZE))  # all zero: modes 0 only reads
    if state >= 0:
        return ("unsynchronised" if state == TIME_ERROR else "synchronised"), ""
    refused = f"adjtimex: {os.strerror(ctypes.get_errno())}; a unit's ProtectClock= and containers forbid it"
    if SYNCHRONISED.exists():
        return "synchronised", f"{refused}; systemd-timesyncd has succeeded at least once"
    return "unknown", refused
