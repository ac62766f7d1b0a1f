"""Clients that were turned away, told without a flood."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias

Tell: TypeAlias = Callable[[str, int, str, int], None]  # whom, status, why, and how many more

QUIET: Final = 60.0  # seconds between two that are told


class Refusals:
    """The first is told at once; of those that follow, one a minute and how many more there were."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._untold: tuple[str, int, str] | None = None  # the latest
        self._more = 0  # besides that one
        self._quiet: asyncio.TimerHandle | None = None

    def note(self, whom: str, status: int, why: str) -> None:
        if self._quiet is None:
            self._say((whom, status, why))
            return
        self._more += self._untold is not None
        self._untold = (whom, status, why)

    def _say(self, refused: tuple[str, int, str]) -> None:
        self._quiet = asyncio.get_running_loop().call_later(QUIET, self._speak_again)
        more, self._more, self._untold = self._more, 0, None
        self._tell(*refused, more)

    def _speak_again(self) -> None:
        self._quiet = None
        if self._untold is not None:
            self._say(self._untold)

    def close(self) -> None:
        if self._quiet is not None:
            self._quiet.cancel()
