"""The control plane of one daemon: its socket, and what the API may ask of it."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal

from scheduler.api.app import build_app
from scheduler.api.control import Peer
from scheduler.api.models import Concern, Health, Readiness, Reloaded, Resumed
from scheduler.api.server import Server
from scheduler.api.unixsocket import ControlSocket
from scheduler.core import events
from scheduler.core.messages import ResumeRequested
from scheduler.core.supervision import Health as TaskHealth
from scheduler.core.tasks import TaskState
from scheduler.daemon import Daemon
from scheduler.errors import ConfigurationError, Problem, SchedulerError
from scheduler.times import to_iso

_RUN_ID: Final = "scheduler/api"  # owns the tasks of all requests
Barred = Literal["parked", "crash-looping", "paused"]


class ControlPlane:
    """Claims the socket before anything is loaded, serves once the daemon is up, ends with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: ControlSocket | None = None
        self._thread = ThreadPoolExecutor(1, "control")

    def claim(self) -> None:
        """SocketInUseError when another daemon answers there, ConfigurationError when it cannot be made."""
        self._socket = ControlSocket(self._path)

    def serve(self, daemon: Daemon) -> None:
        """From now on until the daemon stops."""
        assert self._socket is not None
        manager = daemon.manager
        server = Server(build_app(DaemonControl(daemon, self._thread)), self._socket)

        def own(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
            return manager.background(manager.registry.live[_RUN_ID], work)

        manager.start_task(server.serve(own), _RUN_ID)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._thread.shutdown(wait=False)


class DaemonControl:
    """A daemon as the API's ``Control``."""

    def __init__(self, daemon: Daemon, thread: Executor) -> None:
        """``thread`` runs what may block; tasks may hang in those of the loop."""
        self._daemon = daemon
        self._thread = thread
        self._version = version("trading-hours-scheduler")

    def health(self) -> Health:
        return Health(version=self._version, pid=os.getpid())

    def readiness(self) -> Readiness:
        """Of the markets; what else is wrong is told, but does not keep other tasks from being started."""
        state = self._daemon.readiness()
        concerns = [
            Concern(kind="market", name=concern.market, what=concern.what, blocking=concern.blocking)
            for concern in state.concerns
        ]
        for task in sorted(self._daemon.engine.tasks.values(), key=lambda task: task.rank):
            what = _trouble(task)
            if what:
                concerns.append(Concern(kind="task", name=task.name, what=what, blocking=False))
        if self._daemon.ledger_degraded:
            what = "the disk refuses what is recorded"
            concerns.append(Concern(kind="ledger", name="ledger.db", what=what, blocking=False))
        return Readiness(ready=state.ready, concerns=tuple(concerns))

    async def reload(self, by: Peer) -> Reloaded:
        outcome = await self._daemon.reload(f"asked for by {await self._name(by)}")
        if not outcome.accepted:
            raise ConfigurationError([Problem(None, text) for text in outcome.problems])
        (tasks,) = outcome.fields(events.CONFIG_RELOADED)
        found = Reloaded(
            unchanged=False,
            added=tuple(tasks["added"]),
            removed=tuple(tasks["removed"]),
            changed=tuple(tasks["changed"]),
            settings=tuple(tasks.get("settings", ())),
            markets=tuple(fields["market"] for fields in outcome.fields(events.MARKET_CHANGED)),
            differences=tuple(fields["runs"] for fields in outcome.fields(events.CONFIG_DIFFERENCE)),
            warnings=tuple(fields["detail"] for fields in outcome.fields(events.CALENDAR_WARNING)),
        )
        same = not (found.added or found.removed or found.changed or found.settings or found.markets)
        return found.model_copy(update={"unchanged": same and not found.differences})

    async def resume(self, task: str, by: Peer, reason: str) -> Resumed:
        name = await self._name(by)
        self._check_enabled(task)
        state = self._daemon.engine.tasks.get(task)
        ended = _barred(state) if state is not None else ()
        if state is not None and state.broken and not ended:
            raise SchedulerError(
                f"{task} cannot be run at all ({state.broken}); a reload ends that once it can be imported"
            )
        self._daemon.handle(ResumeRequested(task, name, reason))  # UnknownTaskError
        assert state is not None
        due, zone = state.tick.when, self._daemon.configuration.zone
        return Resumed(task=task, ended=ended, next=None if due is None else to_iso(due, zone), by=name)

    def _check_enabled(self, task: str) -> None:
        if any(spec.name == task and not spec.enabled for spec in self._daemon.configuration.specs):
            raise SchedulerError(f"{task} is disabled (enabled: false)")

    async def _name(self, by: Peer) -> str:
        """Of the user; who that is may be a question to another host."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, _user_name, by.uid)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _barred(task: TaskState) -> tuple[Barred, ...]:
    """What a resumption ends."""
    health = task.supervisor.health
    found: list[Barred] = []
    if health is TaskHealth.PARKED:
        found.append("parked")
    if health is TaskHealth.CRASH_LOOPING:
        found.append("crash-looping")
    if task.paused:
        found.append("paused")
    return tuple(found)


def _trouble(task: TaskState) -> str:
    """Why a task does not do its work; a pause is somebody's will."""
    failures = f"after {task.supervisor.consecutive} failures in a row"
    if task.broken:
        return f"cannot be run at all ({task.broken})"
    if task.lingering is not None:
        return "is not started before a run returns that has timed out and cannot be ended"
    if task.supervisor.health is TaskHealth.PARKED:
        return f"is parked {failures}"
    if task.supervisor.health is TaskHealth.CRASH_LOOPING:
        return f"is crash-looping {failures}"
    return ""
