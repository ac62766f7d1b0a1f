"""A daemon as the API's ``Control``."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import suppress
from importlib.metadata import version
from typing import Final

from scheduler.api.control import Peer
from scheduler.api.models.files import Reloaded
from scheduler.api.models.health import Concern, Health, Readiness
from scheduler.api.models.system import (
    EventsQuery,
    LedgerStatus,
    Loop,
    Markets,
    MarketsQuery,
    Slots,
    System,
)
from scheduler.control.access import Access
from scheduler.control.cache import CacheControl
from scheduler.control.latest import Latest
from scheduler.control.markets import markets
from scheduler.control.operating import TaskControl
from scheduler.control.process import OwnProcess
from scheduler.control.runs import RunControl
from scheduler.control.stream import Stream
from scheduler.control.tasks import trouble
from scheduler.control.threads import Threads
from scheduler.core import events
from scheduler.core.messages import SECOND, Announce
from scheduler.daemon import Daemon
from scheduler.errors import BusyError, ConfigurationError, LedgerError, Problem
from scheduler.ledger import read_latest
from scheduler.metrics import CONTENT_TYPE, Metrics

_MOST_KEPT: Final = 20  # problems of rejected files


class DaemonControl:
    """Its parts by subject, and what concerns all of it."""

    def __init__(self, daemon: Daemon, threads: Threads) -> None:
        """Of a daemon that has not started yet."""
        self._daemon = daemon
        self._access = access = Access(daemon, threads)
        self._latest = Latest()
        self._stream = Stream(access)
        self._metrics = Metrics(daemon)
        self._threads = threads
        self._process = OwnProcess(threads.light)
        self._version = version("trading-hours-scheduler")
        self.tasks = TaskControl(access, self._latest)
        self.runs = RunControl(access, daemon.long_running_after)
        self.cache = CacheControl(access)
        daemon.record_listeners += [self._latest.take, self._stream.recorded]
        daemon.voice.listeners += [self._reloaded, self._stream.announced]

    async def begin(self) -> None:
        """Learn what the ledger knows from before."""
        access = self._access
        with suppress(LedgerError, BusyError):  # it is degraded from the start, or the disk is slow
            known = {spec.name for spec in self._daemon.configuration.specs}
            for record in await access.in_thread(lambda: read_latest(access.ledger)):
                if record.task in known:
                    self._latest.begin(record)

    def _reloaded(self, announcement: Announce) -> None:
        if announcement.event == events.CONFIG_RELOADED:
            self._latest.keep({spec.name for spec in self._daemon.configuration.specs})

    def timestamp(self) -> str:
        return self._access.iso(self._access.now)

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
            what = trouble(task, self._latest.outcomes.get(task.name), self._access.now)
            if not what and task.stale:
                what = "is stale: no run of it has completed for too long"
            if what:
                concerns.append(Concern(kind="task", name=task.name, what=what, blocking=False))
        if self._daemon.rejected:
            what = f"the files on disk are rejected, and not in force: {self._daemon.rejected[0]}"
            concerns.append(Concern(kind="files", name="configuration", what=what, blocking=False))
        if self._daemon.ledger.degraded:
            what = "the disk refuses what is recorded"
            concerns.append(Concern(kind="ledger", name="ledger.db", what=what, blocking=False))
        return Readiness(ready=state.ready, concerns=tuple(concerns))

    async def system(self, by: Peer) -> bytes:
        """The JSON of a ``System``."""
        tasks, rest = await self.tasks.statuses(), await self._system(by)
        text = rest.model_dump_json(by_alias=True, exclude={"tasks"})
        return f'{text[:-1]},"tasks":{tasks}}}'.encode()

    async def _system(self, by: Peer) -> System:
        """But for its tasks."""
        process = await self._process.seen(self._daemon.uptime)
        daemon, access = self._daemon, self._access
        state, alive = self.readiness(), self.runs.active().runs
        slots = daemon.engine.slots
        return System(
            timestamp=self.timestamp(),
            timezone=str(daemon.configuration.zone),
            version=self._version,
            started=access.iso(daemon.started),
            uptime_seconds=round(daemon.uptime / SECOND, 3),
            may_change=by.may_change,
            ready=state.ready,
            concerns=state.concerns,
            tasks=(),
            active=alive,
            long_running=tuple(run for run in alive if run.long_running),
            markets=self.markets(MarketsQuery()).markets,
            cache=tuple(self.cache.namespaces()),
            process=process,
            loop=Loop(
                lag_seconds=round(daemon.loop_watch.mean_lag / SECOND, 6),
                stalls=daemon.loop_watch.stalls,
                shedding=tuple(priority.label for priority in sorted(slots.shedding)),
            ),
            slots=Slots(total=slots.slots, reserved=slots.reserved, used=slots.taken),
            ledger=self._of_ledger(),
        )

    def _of_ledger(self) -> LedgerStatus:
        ledger, audit = self._daemon.ledger, self._daemon.accounting.latest
        return LedgerStatus(
            expected=audit.expected, accounted=audit.accounted, in_flight=audit.in_flight,
            unaccounted=audit.unaccounted, audited=self._access.iso_or_none(audit.at),
            queued=ledger.queued, dropped=ledger.dropped, degraded=ledger.degraded, commits=ledger.commits,
            last_commit_seconds=round(ledger.last_commit_seconds, 6),
        )  # fmt: skip

    def markets(self, wanted: MarketsQuery) -> Markets:
        return markets(self._access, wanted)

    async def metrics(self) -> tuple[bytes, str]:
        return await self._metrics.exposition(self._threads.light), CONTENT_TYPE

    async def reload(self, by: Peer, reason: str) -> Reloaded:
        name = await self._access.name(by)
        outcome = await self._daemon.reload(f"asked for by {name}")
        if not outcome.accepted:
            self._access.record("reload", name, reason, rejected=list(outcome.problems[:_MOST_KEPT]))
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
            warnings=tuple(fields["detail"] for fields in outcome.fields(events.CALENDAR_WARNING))
            + tuple(
                f"{task.name} cannot be run: {task.broken}"
                for task in self._daemon.engine.tasks.values()
                if task.broken
            ),
        )
        self._access.record("reload", name, reason)
        same = not (found.added or found.removed or found.changed or found.settings or found.markets)
        return found.model_copy(update={"unchanged": same and not found.differences})

    def events(self, wanted: EventsQuery) -> AsyncGenerator[tuple[str, str]]:
        return self._stream.events(wanted)
