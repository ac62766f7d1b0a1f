"""Limits of a process: memory and niceness, and how it shows that the memory was not enough."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from scheduler.core.messages import Work

# Limits are set by a tiny program that then becomes the command: a preexec_fn would run Python
# between fork and exec, and rules out vfork.
_LIMITER = """
import os, resource, sys
memory, nice, *command = sys.argv[1:]
try:
    if nice:
        os.setpriority(os.PRIO_PROCESS, 0, int(nice))
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    os.execvp(command[0], command)
except OSError as problem:
    sys.exit(f"{command[0]}: {problem}")
"""
# Of programs that do not check what malloc gives them.
_MEMORY_SIGNALS = frozenset({-signal.SIGKILL, -signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS})
_MEMORY_WORDS = ("memory", "bad_alloc")
_UNITS = ((1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K"))


def limited(work: Work, argv: Sequence[str]) -> list[str]:
    """The argument list that sets the limits of ``work`` and then becomes ``argv``."""
    if work.memory_limit is None and work.nice is None:
        return list(argv)
    memory = "" if work.memory_limit is None else str(work.memory_limit)
    nice = "" if work.nice is None else str(work.nice)
    return [sys.executable, "-I", "-S", "-c", _LIMITER, memory, nice, *argv]


def with_limit(work: Work, error: str, status: int | None) -> str:
    """The error of a process, and the limit that it has probably met. ``status`` is as of subprocess."""
    if work.memory_limit is None:
        return error
    if status not in _MEMORY_SIGNALS and not any(word in error.lower() for word in _MEMORY_WORDS):
        return error
    unit, letter = next(pair for pair in (*_UNITS, (1, "")) if work.memory_limit % pair[0] == 0)
    return f"{error} (its memory_limit is {work.memory_limit // unit}{letter})"
