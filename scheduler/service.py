"""The daemon as a program: the event loop, the signals, the log; and rehearsals of it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TextIO

import uvloop

from scheduler import logs
from scheduler.clock import Clock, ScaledClock, SystemClock, VirtualClock, VirtualTimeLoop
from scheduler.configuration import FileLoader, file_zone
from scheduler.core.messages import Instant, TaskSpec
from scheduler.core.triggers import KeepRunning
from scheduler.daemon import Daemon
from scheduler.errors import LedgerError, SchedulerError
from scheduler.ledger import typical_durations
from scheduler.notify import Notifier
from scheduler.settings import Settings, unknown_variables

SAME_SIGNAL = 0.05  # seconds within which a second signal is no second thought
FOR_EVER = 1e9  # seconds that a simulated loop runs, if nobody stops it
IMMEDIATE = 130  # exit status after a second signal

End = Callable[[asyncio.Event], Coroutine[None, None, None]]


def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; a second one ends at once. SchedulerError when it cannot start."""
    clock = SystemClock()
    _configure_logs(settings, clock)
    loader = FileLoader(settings)
    daemon_of = lambda: Daemon(  # noqa: E731 - made inside the loop it belongs to
        loader,
        state=settings.state_dir,
        clock=clock,
        python_path=settings.python_path,
        watched=settings.config_dir,
        accepted=loader.keep_accepted,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(daemon_of, notifier=Notifier(clock.monotonic)))


def rehearse(
    settings: Settings, *, at: Instant, until: Instant | None, speed: float, state: Path | None, live: bool
) -> None:
    """The whole daemon on another clock, in a throw-away state directory."""
    clock = VirtualClock(at) if speed == 0 else ScaledClock(at, speed)
    _configure_logs(settings, clock, rehearsal=True)
    remembered = _remembered(settings.state_dir / "ledger.db")

    def simulate(spec: TaskSpec) -> float:
        if isinstance(spec.trigger, KeepRunning):
            return FOR_EVER
        return clock.real_seconds(remembered(spec.name))

    with tempfile.TemporaryDirectory(prefix="scheduler-rehearsal-") as scratch:
        place = state or Path(scratch)
        ours = settings.model_copy(update={"state_dir": place})
        daemon_of = lambda: Daemon(  # noqa: E731 - made inside the loop it belongs to
            FileLoader(ours),
            state=place,
            clock=clock,
            python_path=settings.python_path,
            simulate=None if live else simulate,
            watched=settings.config_dir if speed else None,
            seed=0,
        )
        loop = (lambda: VirtualTimeLoop(clock)) if isinstance(clock, VirtualClock) else uvloop.new_event_loop
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(_serve(daemon_of, None if until is None else _set_at(clock, until)))


async def _serve(
    daemon_of: Callable[[], Daemon], end: End | None = None, notifier: Notifier | None = None
) -> None:
    daemon = daemon_of()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    first = 0.0

    def on_signal() -> None:
        nonlocal first
        # timeout(1) and terminals signal a process and its group: the same signal, told twice.
        if not stop.is_set():
            first = loop.time()
            stop.set()
        elif loop.time() - first > SAME_SIGNAL:
            daemon.kill()
            os._exit(IMMEDIATE)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    await daemon.start()
    loop.add_signal_handler(signal.SIGHUP, daemon.reload_soon, "SIGHUP")
    if notifier is not None:
        notifier.ready(f"{len(daemon.engine.tasks)} tasks")
    if end is not None:
        daemon.manager.start_task(end(stop), "scheduler/end")
    try:
        await stop.wait()
    finally:
        if notifier is not None:
            notifier.stopping("waiting for runs to end")
        await daemon.stop()
        logs.flush()


def _set_at(clock: Clock, until: Instant) -> End:
    async def end(stop: asyncio.Event) -> None:
        while (rest := until - clock.now()) > 0:  # noqa: ASYNC110 - it is the clock that is waited for
            await asyncio.sleep(max(clock.real_seconds(rest), 0.001))
        stop.set()

    return end


def _configure_logs(settings: Settings, clock: Clock, *, rehearsal: bool = False) -> None:
    stream: TextIO | None = sys.stderr
    logs.configure(
        format=settings.log_format,
        level=settings.log_level,
        stream=stream,
        zone=file_zone(settings.config_dir),
        now=clock.now,
        extra={"rehearsal": True} if rehearsal else None,
    )
    for name in unknown_variables():
        logs.announce("settings.unknown", "warning", {"variable": name})


def _remembered(ledger: Path) -> Callable[[str], int]:
    """How long each task's runs usually take, by the ledger; 0 where it does not know."""
    known: dict[str, int] = {}

    def duration(task: str) -> int:
        if task not in known:
            try:
                known[task] = typical_durations(ledger, [task]).get(task, 0)
            except LedgerError:  # there is none yet
                known[task] = 0
        return known[task]

    return duration


__all__ = ["SchedulerError", "rehearse", "run"]
