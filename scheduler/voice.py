"""What the daemon says: in the log, to `on` tasks, and to whoever listens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import tzinfo
from typing import Any, TypeVar

from scheduler import logs
from scheduler.core import events
from scheduler.core.engine import Engine
from scheduler.core.messages import Announce, Event, Happened, Level, Run
from scheduler.executors import Log
from scheduler.loopwatch import Stall
from scheduler.runs import RunEntry
from scheduler.times import to_iso

T = TypeVar("T")

_INSTANTS = frozenset({"due", "since", "until", "last_success"})  # fields of announcements
_SAID = frozenset(  # by the thread that met it, before the loop came to it
    {
        events.LOOP_STALLED, events.LEDGER_DEGRADED, events.LEDGER_RECOVERED, events.LEDGER_REPLACED,
        events.LEDGER_LOST,
    }
)  # fmt: skip


class Voice:
    """Of one daemon. What happens goes by way of the engine, so that its tasks hear of it."""

    def __init__(
        self, engine: Engine, *, zone: Callable[[], tzinfo], handle: Callable[[Event], None]
    ) -> None:
        """``zone``: in which times are said. ``handle`` tells the engine and carries out what it says."""
        self.listeners: list[Callable[[Announce], None]] = []  # of all that is announced, on the loop
        self._engine = engine
        self._zone = zone
        self._handle = handle
        self._early: list[Announce] | None = []  # told once there are tasks to hear of it; None: there are
        self._over = False
        self._loop: asyncio.AbstractEventLoop | None = None

    # Its life.

    def begin(self) -> None:
        """In the loop that it belongs to; there are no tasks yet."""
        self._loop = asyncio.get_running_loop()

    def tasks_listen(self) -> None:
        """What was to be told before there were any is told now."""
        early, self._early = self._early or [], None
        self.report(early)

    def end(self) -> None:
        """Nobody is left to hear of anything: from now on it is only said."""
        self._over = True

    # Saying.

    def announce(self, announcement: Announce) -> None:
        """What the engine has decided to tell."""
        tell(self.listeners, announcement)
        if logs.enabled(announcement.level) and announcement.event not in _SAID:
            self.say(announcement.event, announcement.level, **announcement.fields)

    def report(self, announcements: Iterable[Announce]) -> None:
        for event, level, fields in announcements:
            self.happened(event, level, **fields)

    def happened(self, event: str, level: Level, **fields: Any) -> None:
        """Say it by way of the engine, so that `on` tasks hear of it."""
        if not self._over:
            self._handle(Happened(event, level, fields))
        elif event not in _SAID:
            self.say(event, level, **fields)

    def say(self, event: str, level: Level, **fields: Any) -> None:
        """In the log, and nowhere else. From any thread."""
        logs.announce(event, level, self.as_said(fields))

    def as_said(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of an announcement as the log has them: instants in ISO 8601, the task's priority."""
        said, zone = dict(fields), self._zone()
        for name in _INSTANTS & said.keys():
            if isinstance(said[name], int):
                said[name] = to_iso(said[name], zone)
        state = self._engine.tasks.get(said.get("task", ""))
        if state is not None:
            said.setdefault("priority", state.spec.priority.label)
        return said

    # What the rooms have to tell.

    def task_log(self, run: Run) -> Log:
        """What a task says itself."""
        state = self._engine.tasks.get(run.task)
        more = {} if state is None else {"priority": state.spec.priority.label}
        return logs.logger(task=run.task, run_id=run.run_id, **more)

    def task_failed(self, run: Run, error: str, details: str) -> None:
        if details:
            about = {"task": run.task, "run_id": run.run_id, "error": error}
            self.say(events.TASK_TRACEBACK, "warning", **about, exception=details)

    def leaked(self, entry: RunEntry, kind: str, count: int, where: str) -> None:
        about = {"task": entry.owner, "run_id": entry.run_id}
        self.happened(events.TASK_LEAKED, "error", **about, kind=kind, count=count, where=where)

    def crashed(self, entry: RunEntry, error: str, details: str) -> None:
        about = {"task": entry.owner} if entry.owner else {}
        self.happened(
            events.BACKGROUND_FAILED, "error", **about, run_id=entry.run_id, error=error, exception=details
        )

    def stalled(self, stall: Stall) -> None:
        """Said at once, by the thread that watches."""
        self.say(events.LOOP_STALLED, "error", **stall.fields())

    def recovered(self, stall: Stall) -> None:
        """The loop is free again, and with it the `on` tasks that wait for a stall."""
        fields = stall.fields()
        self.happened(events.LOOP_STALLED, "error", **fields)
        ended = {name: fields[name] for name in ("task", "run_id", "culprit", "seconds") if name in fields}
        self.happened(events.LOOP_RECOVERED, "info", **ended)

    def ledger_trouble(self, event: str, fields: Mapping[str, object]) -> None:
        """Mostly from the writer's thread: said at once, and heard of when the loop comes to it."""
        level: Level = "warning" if event == events.LEDGER_RECOVERED else "critical"
        self.say(event, level, **fields)
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._heard, Announce(event, level, fields))

    def _heard(self, announcement: Announce) -> None:
        if self._early is not None:
            self._early.append(announcement)
        elif not self._over:
            self.report([announcement])


def tell(listeners: Iterable[Callable[[T], None]], what: T) -> None:
    """One that fails is reported; what is decided and the other listeners go on."""
    for listener in listeners:
        try:
            listener(what)
        except Exception as error:  # noqa: BLE001 - whoever only looks on must not end what is done
            logs.announce(events.BACKGROUND_FAILED, "error", {"error": repr(error), "exc_info": error})
