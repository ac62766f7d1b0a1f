"""The daemon as a program: the event loop, the signals, the log; and rehearsals of it."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import uvloop

from scheduler import logs
from scheduler.alerts import PARTING, Alerts
from scheduler.clock import Clock, ScaledClock, SystemClock, VirtualClock, VirtualTimeLoop
from scheduler.configuration import FileLoader, file_zone
from scheduler.core import events
from scheduler.core.messages import Instant, TaskSpec
from scheduler.core.triggers import KeepRunning
from scheduler.daemon import Daemon, StartAbandoned
from scheduler.errors import ConfigurationError, LedgerError, SchedulerError
from scheduler.executors import adopt, release
from scheduler.ledger import typical_durations
from scheduler.marketfile import AMENDMENTS
from scheduler.notify import Heartbeat, Notifier
from scheduler.runs import ThreadWatch, prints_logged, program_task, threads_in_the_way
from scheduler.settings import Settings, unknown_variables
from scheduler.telling import alerts_of, say_withheld

if TYPE_CHECKING:
    from scheduler.control import ControlPlane

SAME_SIGNAL = 0.05  # seconds within which a second signal is no second thought
FOR_EVER = 1e9  # seconds that a simulated loop runs, if nobody stops it
LAST_LOOK = 0.02  # seconds between looks at threads that may be about to end, once all else has
LAST_LOOKS = 50
IMMEDIATE = 130  # exit status after a second signal

End = Callable[[asyncio.Event], Coroutine[None, None, None]]


def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; a second one ends at once. SchedulerError when it cannot start."""
    from scheduler.control import ControlPlane  # noqa: PLC0415 - a web framework: rehearsals do without

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, as it may be inherited, no status reaches us
    clock, plane = SystemClock(), ControlPlane(settings)
    if sys.stderr is not None:
        faulthandler.enable()  # a watchdog that aborts us shall have all the stacks
    _configure_logs(settings, clock)
    loader = FileLoader(settings)

    def claim() -> None:
        plane.claim()
        _adopt(settings.state_dir)

    def daemon_of() -> Daemon:
        daemon = Daemon(
            loader,
            load_in_force=loader.in_force,
            state=settings.state_dir,
            clock=clock,
            python_path=settings.python_path,
            watched=settings.config_dir,
            accepted=loader.keep_accepted,
            claim=claim,
            long_running_after=settings.long_running,
        )
        plane.attend(daemon)
        return daemon

    with closing(plane), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        serving = _serve(
            daemon_of,
            notifier=Notifier(clock.monotonic),
            plane=plane,
            alerts_of=lambda daemon: alerts_of(daemon, clock),
        )
        _run_to_its_end(runner, _contained(serving))


def rehearse(
    settings: Settings, *, at: Instant, until: Instant | None, speed: float, state: Path | None, live: bool
) -> None:
    """The whole daemon on another clock, in a throw-away state directory."""
    if live:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # as above
    clock = VirtualClock(at) if speed == 0 else ScaledClock(at, speed)
    _configure_logs(settings, clock, rehearsal=True)
    remembered = _remembered(settings.state_dir / "ledger.db")

    def simulate(spec: TaskSpec) -> float:
        if isinstance(spec.trigger, KeepRunning):
            return FOR_EVER
        return clock.real_seconds(remembered(spec.name))

    directory = tempfile.TemporaryDirectory(prefix="scheduler-rehearsal-")
    with directory as scratch:
        place = state or Path(scratch)
        if state is None:
            _copy_amendments(settings.state_dir, place)
        loader = FileLoader(settings.model_copy(update={"state_dir": place}))
        daemon_of = lambda: Daemon(  # noqa: E731 - made inside the loop it belongs to
            loader,
            load_in_force=loader.in_force,
            state=place,
            clock=clock,
            python_path=settings.python_path,
            simulate=None if live else simulate,
            watched=settings.config_dir if speed else None,
            claim=(lambda: _adopt(place)) if live else None,
            seed=0,
        )
        loop = (lambda: VirtualTimeLoop(clock)) if isinstance(clock, VirtualClock) else uvloop.new_event_loop
        with asyncio.Runner(loop_factory=loop) as runner:
            serving = _serve(daemon_of, None if until is None else _set_at(clock, until))
            _run_to_its_end(runner, _contained(serving), directory.cleanup)


def _run_to_its_end(
    runner: asyncio.Runner, work: Coroutine[None, None, None], tidy: Callable[[], object] = lambda: None
) -> None:
    """SystemExit in a callback that a task has left on the loop goes through it: it shall not end us.

    ``tidy`` is called before an end that does not return.
    """
    loop = runner.get_loop()
    main = program_task(loop, work)
    while not main.done():
        try:
            loop.run_until_complete(main)
        except (SystemExit, KeyboardInterrupt) as problem:
            if main.done():
                raise
            error = f"{type(problem).__name__} in a callback"
            logs.announce(events.BACKGROUND_FAILED, "error", {"error": error, "exc_info": problem})
    _leave_threads_behind(loop, tidy)


def _leave_threads_behind(loop: asyncio.AbstractEventLoop, tidy: Callable[[], object]) -> None:
    """Threads that hang in a task would keep the process from ending, for ever."""
    for _ in range(LAST_LOOKS):
        if not threads_in_the_way():
            return
        loop.run_until_complete(asyncio.sleep(LAST_LOOK))  # some are told to end by way of the loop
    logs.announce(events.DAEMON_THREADS_LEFT, "warning", {"threads": threads_in_the_way()})
    logs.flush()
    tidy()
    os._exit(0)


async def _contained(serving: Coroutine[None, None, None]) -> None:
    """What is done only where the process is all the scheduler's."""
    time = asyncio.get_running_loop().time
    with prints_logged(logs.logger, time), closing(ThreadWatch()):
        try:
            await serving
        finally:
            release()


def _adopt(state: Path) -> None:
    """Own every process below this one, and end those of a daemon that was killed.

    ``state`` is locked: the processes of a daemon that lives are not touched.
    """
    try:
        survivors = adopt(state)
    except OSError as error:  # the kernel has no subreapers
        logs.announce(events.CONTAINMENT_REDUCED, "warning", {"error": str(error)})
        return
    for process, command in survivors:
        fields = {"task": process.task, "run_id": process.run_id, "kind": "process", "count": 1}
        where = f"{command} (process {process.pid}), left by a daemon that was killed"
        logs.announce(events.TASK_LEAKED, "warning", {**fields, "where": where})


async def _serve(
    daemon_of: Callable[[], Daemon],
    end: End | None = None,
    *,
    notifier: Notifier | None = None,
    plane: ControlPlane | None = None,
    alerts_of: Callable[[Daemon], Alerts] | None = None,
) -> None:
    daemon = daemon_of()
    # Closed last: they tell of the end, too.
    async with nullcontext() if alerts_of is None else aclosing(alerts_of(daemon)):
        await _serve_daemon(daemon, end, notifier, plane)
    if plane is not None:
        plane.end()
    logs.flush()


async def _serve_daemon(
    daemon: Daemon, end: End | None, notifier: Notifier | None, plane: ControlPlane | None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    first = 0.0

    def on_signal() -> None:
        nonlocal first
        # timeout(1) and terminals signal a process and its group: the same signal, told twice.
        if not stop.is_set():
            first = loop.time()
            stop.set()
            daemon.abandon_start()
        elif loop.time() - first > SAME_SIGNAL:
            try:
                daemon.kill()
            finally:
                os._exit(IMMEDIATE)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGHUP, daemon.reload_soon, "SIGHUP")
    try:
        await daemon.start()
        gc.freeze()  # to look through ten thousand tasks for garbage, again and again, holds up the loop
    except StartAbandoned:
        logs.announce(events.DAEMON_STOPPING, "info", {"waiting_for": []})
        return
    if plane is not None:
        plane.serve(daemon)
    if notifier is not None:
        notifier.ready(daemon.status_line())
        heartbeat = Heartbeat(notifier, overdue=daemon.overdue, status=daemon.status_line, withheld=_withheld)
        daemon.on_change = heartbeat.stir
    else:
        say_withheld(daemon)
    if end is not None:
        daemon.manager.start_task(end(stop), "scheduler/end")
    try:
        await stop.wait()
    finally:
        if notifier is not None:
            heartbeat.close()
            notifier.stopping("waiting for runs to end", daemon.stop_limit + PARTING)
        await daemon.stop()


def _withheld(late: Sequence[str]) -> None:
    """The watchdog's sign of life is withheld, or is given again."""
    if late:
        fields = {"tasks": list(late), "message": f"not started although due: {', '.join(late)}"}
        logs.announce("watchdog.withheld", "critical", fields)
    else:
        logs.announce("watchdog.resumed", "warning", {})


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


def _copy_amendments(state: Path, scratch: Path) -> None:
    """A rehearsal goes by what the operators amended. ConfigurationError when that cannot be read."""
    if (state / AMENDMENTS).is_dir():
        try:
            shutil.copytree(state / AMENDMENTS, scratch / AMENDMENTS)
        except OSError as error:
            raise ConfigurationError(f"the amendments cannot be read: {error}") from None


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
