"""What callables print inside the daemon, as lines of the log that name the task.

Written past the log, a print of one task would tear a line of another, and say nothing of its task.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING, Any, TextIO

from scheduler.executors.output import OutputLines
from scheduler.runs.strays import current_nest

if TYPE_CHECKING:
    from scheduler.executors.base import Log


@contextmanager
def prints_logged(log: Callable[[], Log], time: Callable[[], float]) -> Iterator[None]:
    """Meanwhile `sys.stdout` and `sys.stderr` are the log. ``log`` is for what no run has printed.

    The log itself must be written by file descriptor. ``time``: seconds, by which floods are cut.
    """
    before = sys.stdout, sys.stderr
    others, lock = OutputLines(log, time), RLock()
    sys.stdout, sys.stderr = (_text(_Lines(others, lock, stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        others.finish()


class _Lines(io.RawIOBase):
    """Bytes in, lines of the log out: of the run in whose context they are written."""

    def __init__(self, others: OutputLines, lock: RLock, stream: TextIO) -> None:
        self._others = others
        self._lock = lock  # callables print from threads, too
        self._stream = stream

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()  # for programs that are started with it, and for faulthandler

    def write(self, data: bytes) -> int:  # type: ignore[override]
        nest = current_nest.get()
        with self._lock:
            output = nest.output if nest is not None and nest.open else None
            (self._others if output is None else output).feed(bytes(data))
        return len(data)


def _text(lines: Any) -> io.TextIOWrapper:
    return io.TextIOWrapper(lines, "utf-8", "backslashreplace", newline="\n", write_through=True)
