"""What the tests of runs and executors share: a small desk, and both event loops."""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

import pytest
import uvloop

from scheduler.cache import SharedCache
from scheduler.clock import SystemClock
from scheduler.context import Context
from scheduler.core.messages import (
    MILLISECOND,
    SECOND,
    CacheSpec,
    Event,
    Priority,
    RestartPolicy,
    Run,
    RunEnded,
    RunReturned,
    StartRun,
    Status,
    StopRun,
    TaskSpec,
    Work,
)
from scheduler.core.triggers import Every
from scheduler.executors import Executors, Facts
from scheduler.runs import BackgroundTaskManager, Runner
from tests.helpers import instant

DUE = instant("2026-11-23T15:45:00+05:30")
FACTS = Facts("post-close", "2026-11-23", ZoneInfo("Asia/Kolkata"))
ROOT = str(Path(__file__).parents[2])
SOON = 150 * MILLISECOND


AsyncTest = Callable[..., Coroutine[Any, Any, None]]


def on_both_loops(test: AsyncTest) -> Callable[..., None]:
    """Run an async test on asyncio's loop and on uvloop, and leave no task behind on either."""
    return _on(test, asyncio=asyncio.new_event_loop, uvloop=uvloop.new_event_loop)


def on_uvloop(test: AsyncTest) -> Callable[..., None]:
    """Run it on the production loop: what takes seconds and is the same on both."""
    return _on(test, uvloop=uvloop.new_event_loop)


def _on(test: AsyncTest, **loops: Callable[[], asyncio.AbstractEventLoop]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, new_loop: Callable[[], asyncio.AbstractEventLoop], **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(test(*args, **kwargs))

    signature = inspect.signature(test)
    loop_parameter = inspect.Parameter("new_loop", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), loop_parameter]
    )
    on_each: Callable[..., None] = pytest.mark.parametrize("new_loop", loops.values(), ids=loops.keys())(run)
    return on_each


def task(work: Work, **fields: Any) -> TaskSpec:
    """A task with this work; its trigger is of no concern here."""
    values: dict[str, Any] = {"timeout": None, "stop_grace": SECOND, **fields}
    trigger = Every({"*": 300 * SECOND})
    never = RestartPolicy("never")
    return TaskSpec("eod-report", Priority.IMPORTANT, "NSE", trigger, work, never, catchup=0, **values)


def target(name: str, **fields: Any) -> Work:
    return Work(target=f"tests.shell.targets:{name}", **fields)


def command(*argv: str, **fields: Any) -> Work:
    return Work(argv=argv, **fields)


def shell(script: str, **fields: Any) -> Work:
    return Work(argv=("/bin/sh", "-c", script), **fields)


class Record:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, dict[str, Any]]] = []

    def debug(self, event: str, **fields: Any) -> None:
        self.entries.append(("debug", event, fields))

    def info(self, event: str, **fields: Any) -> None:
        self.entries.append(("info", event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        self.entries.append(("warning", event, fields))

    def error(self, event: str, **fields: Any) -> None:
        self.entries.append(("error", event, fields))

    @property
    def lines(self) -> list[str]:
        return [fields["line"] for _, event, fields in self.entries if event == "run.output"]


class Desk:
    """The real runner and executors, and lists of what they reported."""

    def __init__(self, **options: Any) -> None:
        self.events: list[Event] = []
        self.leaks: list[tuple[str, int, str]] = []
        self.failures: list[tuple[str, str]] = []
        self.log = Record()
        self.next_tick: Callable[[TaskSpec, int], int | None] = lambda _spec, _after: None
        self.cache = SharedCache({"prices": CacheSpec(60 * SECOND)}, time.monotonic)
        self.manager = BackgroundTaskManager(
            time.time_ns,
            on_leak=lambda _run, kind, count, where: self.leaks.append((kind, count, where)),
            on_failure=lambda _run, error, details: self.failures.append((error, details)),
        )
        durable = options.pop("durable", None)
        clock = SystemClock()
        self.executors = Executors(
            facts=lambda _run, _spec: FACTS,
            context=lambda job: Context(job, cache=self.cache, clock=clock, next_tick=self.next_tick),
            log=lambda _run: self.log,
            on_failure=lambda _run, error, details: self.failures.append((error, details)),
            cache=self.cache,
            python_path=[ROOT],
            **options,
        )
        self.runner = Runner(self.manager, self.executors, self.events.append, durable=durable)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.runner.shutdown(0)
        self.executors.close()
        self.manager.close()

    def start(self, spec: TaskSpec, run: Run | None = None, *, durable: bool = False) -> Run:
        run = run or Run("eod-report", DUE)
        self.events[:] = [event for event in self.events if getattr(event, "run", None) != run]
        self.runner.start(StartRun(run, spec, durable))
        return run

    def stop(
        self, run: Run, status: Status = Status.CANCELLED, reason: str = "operator", grace: int = SOON
    ) -> None:
        self.runner.stop(StopRun(run, status, reason, grace))

    async def end_of(self, run: Run) -> RunEnded:
        ended = await self.heard(RunEnded, run)
        assert isinstance(ended, RunEnded)
        return ended

    async def heard(self, kind: type[RunEnded | RunReturned], run: Run) -> Event:
        """The event of this kind about the run; waits for it at most ten seconds."""
        async with asyncio.timeout(10):
            while True:
                for event in self.events:
                    if isinstance(event, kind) and event.run == run:
                        return event
                await asyncio.sleep(0.005)

    def begun(self, run: Run) -> bool:
        """Whether the run's work has started."""
        entry = self.manager.registry.get_run(run.run_id)
        return entry is not None and entry.started is not None

    async def run(self, spec: TaskSpec, run: Run | None = None) -> RunEnded:
        return await self.end_of(self.start(spec, run))


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, at most ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in other processes, too
            await asyncio.sleep(0.005)
