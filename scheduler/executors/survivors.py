"""Finding processes by the mark in their environment, and ending those of a daemon that is no more.

Imported by the daemon, and executed by path as its guardian: ``survivors.py MARK`` waits for the end of
its standard input, whose other end only the daemon holds, and then ends every process whose mark
begins so. That is how a ``kill -9`` of the daemon reaches its commands, whatever session they are in.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

MARK = "SCHEDULER_MARK"  # the environment variable; DEVICE-INODE:DAEMON-START:NUMBER
_PROC = Path("/proc")
_PAUSE = 0.01  # seconds between looks at what has been killed
_LOOKS = 500


class Stat(NamedTuple):
    """What /proc says of a process."""

    state: str  # one letter; Z: it has ended, and nobody has asked how
    group: int
    session: int
    start: str  # clock ticks since the boot: with the process id, its identity


class Marked(NamedTuple):
    """A process that carries a mark."""

    pid: int
    mark: str
    task: str
    run_id: str


def stat_of(pid: int) -> Stat | None:
    """None when there is no such process."""
    try:
        text = (_PROC / str(pid) / "stat").read_text("utf-8", "replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return Stat(fields[0], int(fields[2]), int(fields[3]), fields[19])


def environment_of(pid: int) -> dict[str, str]:
    """What it was started with; empty when that cannot be read, or when the process has ended."""
    try:
        text = (_PROC / str(pid) / "environ").read_bytes().decode("utf-8", "replace")
    except OSError:
        return {}
    pairs = (entry.partition("=") for entry in text.split("\0"))
    return {name: value for name, _, value in pairs}


def command_of(pid: int) -> str:
    """Its command line, for people."""
    try:
        text = (_PROC / str(pid) / "cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
    return " ".join(text.split("\0")).strip()[:80]


def marked(prefix: str) -> Iterator[Marked]:
    """Every process that can be seen and whose mark begins so."""
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            environment = environment_of(int(entry.name))
            mark = environment.get(MARK, "")
            if mark and mark.startswith(prefix):
                task, run_id = environment.get("SCHEDULER_TASK", ""), environment.get("SCHEDULER_RUN_ID", "")
                yield Marked(int(entry.name), mark, task, run_id)


def end_all(find: Callable[[], Iterable[Marked]]) -> None:
    """SIGKILL to all that ``find`` finds, until it finds none: what is killed may be about to fork."""
    for _ in range(_LOOKS):
        left = list(find())
        if not left:
            return
        for process in left:
            _end(process)
        time.sleep(_PAUSE)


def guard(prefix: str) -> None:
    """Outlive the daemon, end what it has left behind, and end."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # the end of the daemon is our end
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 1):
        pass
    end_all(lambda: marked(prefix))


def _end(process: Marked) -> None:
    """The id of a process that has ended meanwhile may be another's: so by its pidfd."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:  # it has ended, or the kernel is older than 5.3
        return
    try:
        if environment_of(process.pid).get(MARK) == process.mark:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except OSError:  # ended meanwhile, or it has become another user's
        return
    finally:
        os.close(pidfd)


if __name__ == "__main__":
    guard(sys.argv[1])
