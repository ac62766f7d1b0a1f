"""A dead man's switch: somebody else's clock rings when our calls stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from scheduler.alerts.letters import SendError
from scheduler.alerts.sink import Say
from scheduler.alerts.web import Client
from scheduler.core import events

EVERY = 60.0  # seconds


class Heartbeat:
    """Calls a URL while the daemon is healthy. ``run`` is its coroutine, which goes on until cancelled."""

    def __init__(self, client: Client, unwell: Callable[[], str], say: Say, every: float = EVERY) -> None:
        """``unwell`` says why the daemon is not healthy; "" when it is."""
        self._client = client
        self._unwell = unwell
        self._say = say
        self._every = every
        self._withheld = False
        self._failures = 0  # in a row

    async def run(self) -> None:
        while True:
            why = self._unwell()
            if bool(why) != self._withheld:
                self._withheld = bool(why)
                self._tell_withheld(why)
            if not why:
                await self._beat()
            await asyncio.sleep(self._every)

    async def _beat(self) -> None:
        name = f"heartbeat {self._client.name}"
        try:
            await self._client.send("GET")
        except SendError as problem:
            self._failures += 1
            if self._failures == 1:
                self._say(events.ALERT_FAILED, "error", {"sink": name, "error": str(problem)})
        else:
            failures, self._failures = self._failures, 0
            if failures:
                self._say(events.ALERT_RECOVERED, "info", {"sink": name, "attempts": failures + 1})

    def _tell_withheld(self, why: str) -> None:
        if why:
            self._say(events.HEARTBEAT_WITHHELD, "error", {"sink": self._client.name, "reason": why})
        else:
            self._say(events.HEARTBEAT_RESUMED, "info", {"sink": self._client.name})
