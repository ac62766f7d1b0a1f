"""What callables print in the daemon is the log, with the name of whose it is."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from contextvars import copy_context

from scheduler.executors.output import OutputLines
from scheduler.runs import ThreadWatch, prints_logged
from scheduler.runs.strays import Nest, current_nest
from tests.shell.execution import Record


class Printing(Nest):
    """A run whose prints are known."""

    def __init__(self) -> None:
        self.log = Record()
        self._lines = OutputLines(lambda: self.log, time.monotonic)

    @property
    def output(self) -> OutputLines:
        return self._lines


@contextmanager
def others_logged() -> Iterator[Record]:
    """What is printed by nobody who is known. Threads that raise say so as they do in a program."""
    hook, threading.excepthook = threading.excepthook, threading.__excepthook__
    log = Record()
    try:
        with prints_logged(lambda: log, time.monotonic), closing(ThreadWatch()):
            yield log
    finally:
        threading.excepthook = hook


def in_a_run(work: Callable[[], object]) -> Printing:
    run = Printing()

    def call() -> None:
        current_nest.set(run)
        work()

    copy_context().run(call)
    return run


def in_a_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work, name="poller")
    thread.start()
    thread.join()
    assert thread.run.__func__ is threading.Thread.run  # type: ignore[attr-defined]  # nothing is left on it


def says(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def fails() -> None:
    raise ValueError("no quotes")


def test_what_a_thread_of_a_run_prints_is_the_runs() -> None:
    with others_logged() as others:
        run = in_a_run(lambda: in_a_thread(lambda: says("polled")))
    assert (run.log.lines, others.lines) == (["polled"], [])


def test_what_a_thread_of_a_run_raises_is_told_with_the_name_of_the_run() -> None:
    with others_logged() as others:
        run = in_a_run(lambda: in_a_thread(fails))
    assert run.log.lines[0] == "Exception in thread poller:"
    assert run.log.lines[-1] == "ValueError: no quotes"
    assert others.lines == []


def test_what_a_thread_that_a_thread_of_a_run_has_started_prints_is_the_runs_too() -> None:
    with others_logged() as others:
        run = in_a_run(lambda: in_a_thread(lambda: in_a_thread(lambda: says("polled"))))
    assert (run.log.lines, others.lines) == (["polled"], [])


def test_what_a_thread_of_nobody_prints_is_nobodys() -> None:
    with others_logged() as others:
        in_a_thread(lambda: says("by itself"))
    assert others.lines == ["by itself"]


def test_a_pool_works_for_others_than_the_run_that_it_was_made_in() -> None:
    with others_logged() as others, ThreadPoolExecutor(1) as pool:
        run = in_a_run(lambda: pool.submit(says, "for whom?").result())
    assert (run.log.lines, others.lines) == ([], ["for whom?"])
