"""The sinks and heartbeats of the configuration in force."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Final, Protocol

from scheduler.alerts.heartbeat import Heartbeat
from scheduler.alerts.letters import Letter, Teller
from scheduler.alerts.program import Program
from scheduler.alerts.sink import Say, Sender, Sink
from scheduler.alerts.web import Client
from scheduler.clock import Clock
from scheduler.core import events
from scheduler.core.alerting import Alert
from scheduler.core.messages import SECOND, Announce, Record, Status
from scheduler.executors import Log

GRACE: Final = 5.0  # seconds at the end that what waits gets
_LAST: Final = 1.0  # seconds for what is then cancelled
PARTING: Final = GRACE + _LAST
_Key = tuple[object, ...]


class Tasks(Protocol):
    """Who owns the workers: a BackgroundTaskManager."""

    def start_task(self, work: Coroutine[Any, Any, None], run_id: str) -> str: ...
    def cancel_task(self, run_id: str) -> bool: ...
    async def wait_all(self, limit: float) -> list[str]: ...
    def close(self) -> None: ...


class Alerts:
    """Hears of everything, on the loop, and tells each sink what it asked for."""

    def __init__(
        self,
        configured: Callable[[], Sequence[Alert]],
        *,
        tasks: Tasks,
        teller: Teller,
        clock: Clock,
        unwell: Callable[[], str],
        say: Say,
        log: Callable[[str], Log],
    ) -> None:
        """``configured`` gives the alerts in force; another object after a reload. ``unwell`` says why
        heartbeats are to be withheld ("": they are not), ``say`` announces, ``log`` makes the logger of a
        sink that is a command.
        """
        self._configured = configured
        self._tasks = tasks
        self._teller = teller
        self._clock = clock
        self._unwell = unwell
        self._say = say
        self._log = log
        self._in_force: Sequence[Alert] = ()
        self._sinks: dict[_Key, Sink] = {}
        self._running: dict[_Key, str] = {}  # run ids of the workers and heartbeats
        self._started = 0

    def hear(self, announcement: Announce) -> None:
        """Listens to announcements. Of completed runs it hears by ``recorded``, whatever the log's level."""
        self._follow()
        if announcement.event != events.RUN_COMPLETED:
            self._pass_on(announcement)

    def recorded(self, record: Record) -> None:
        """Listens to records."""
        if record.status is not Status.COMPLETED:
            return
        if any(sink.folding.heeds(events.RUN_COMPLETED) for sink in self._sinks.values()):
            seconds = (record.ended - record.started) / SECOND if record.ended and record.started else None
            about = {
                "task": record.task, "due": record.due, "attempt": record.attempt, "cause": str(record.cause),
                "seconds": seconds,
            }  # fmt: skip
            self._pass_on(Announce(events.RUN_COMPLETED, "debug", about))

    async def aclose(self) -> None:
        """What waits is tried once more within the grace; the rest is dropped and said. Idempotent."""
        for sink in self._sinks.values():
            sink.close()
        for key in self._running.keys() - self._sinks.keys():
            self._tasks.cancel_task(self._running[key])
        for run_id in await self._tasks.wait_all(GRACE):
            self._tasks.cancel_task(run_id)
        await self._tasks.wait_all(_LAST)
        for sink in self._sinks.values():
            sink.drop_rest("the scheduler stopped")
        self._sinks.clear()
        self._running.clear()
        self._tasks.close()

    def _pass_on(self, announcement: Announce) -> None:
        for sink in self._sinks.values():
            sink.hear(announcement)

    def _follow(self) -> None:
        """Sinks that are still configured keep what waits for them, even if they want other events."""
        alerts = self._configured()
        if alerts is self._in_force:
            return
        self._in_force = alerts
        wanted = dict(_with_keys(alerts))
        for key in self._running.keys() - wanted.keys():
            self._end(key)
        for key, alert in wanted.items():
            if key in self._sinks:
                self._sinks[key].folding.want(alert.events)
            elif key not in self._running:
                self._begin(key, alert)

    def _begin(self, key: _Key, alert: Alert) -> None:
        if alert.heartbeat is not None:
            work = Heartbeat(Client(alert.heartbeat, self._agent), self._unwell, self._say).run()
        else:
            sink = self._sinks[key] = Sink(
                self._sender(alert), alert.events, teller=self._teller, clock=self._clock, say=self._say
            )
            work = sink.run()
        self._started += 1
        self._running[key] = self._tasks.start_task(work, f"scheduler/alert-{self._started}")

    def _end(self, key: _Key) -> None:
        self._tasks.cancel_task(self._running.pop(key))
        sink = self._sinks.pop(key, None)
        if sink is not None:
            sink.close()
            # Later: we are in the middle of what is announced.
            asyncio.get_running_loop().call_soon(sink.drop_rest, "it is no longer configured")

    def _sender(self, alert: Alert) -> Sender:
        if alert.webhook is not None:
            return _Webhook(Client(alert.webhook, self._agent))
        return Program(alert.command, self._clock.now, self._log)

    @property
    def _agent(self) -> str:
        return f"trading-hours-scheduler/{self._teller.version}"


class _Webhook:
    """A URL that letters are posted to."""

    def __init__(self, client: Client) -> None:
        self.name = client.name
        self._client = client

    async def send(self, letter: Letter) -> None:
        await self._client.send("POST", letter.body)


def _with_keys(alerts: Sequence[Alert]) -> Iterator[tuple[_Key, Alert]]:
    """A sink is known by where it sends to, and by its number among those that send there as well."""
    seen: Counter[_Key] = Counter()
    for alert in alerts:
        place = (alert.webhook, alert.command, alert.heartbeat)
        seen[place] += 1
        yield (*place, seen[place]), alert
