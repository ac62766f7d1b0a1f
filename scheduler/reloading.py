"""Notices what is saved, and decides when it goes live: at once, when the market closes, or when told."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from scheduler import reports, watch
from scheduler.codewatch import CodeWatch
from scheduler.configuration import Configuration
from scheduler.core import events
from scheduler.core.messages import Announce, Instant
from scheduler.watch import InThread, Snapshot

_UP = 1.0  # seconds after which a watch that is being set up is up


class Reload(Protocol):
    """Take the files; with ``in_force`` as they were, with the calendars and amendments of now."""

    def __call__(self, cause: str, *, in_force: bool = False) -> Coroutine[Any, Any, reports.Reloaded]: ...


class Reloading:
    """Of one daemon. What is noticed is handed on to ``reload``, what is to be said to ``say``."""

    def __init__(
        self,
        directory: Path | None,
        amendments: Path,
        *,
        python_path: Sequence[str] | None,
        reload: Reload,
        in_force: Callable[[], tuple[Configuration, Snapshot]],
        now: Callable[[], Instant],
        running: Callable[[], Collection[str]],
        say: Callable[[Iterable[Announce]], None],
        in_thread: InThread,
        later: Callable[[Coroutine[Any, Any, None], str], object],
    ) -> None:
        """Made before the configuration is first read: what changes from now on is noticed.

        ``directory`` is None where nothing is watched, ``python_path`` where no code is. ``in_force`` gives
        the configuration in force and its files as they were before it was loaded; ``running`` the tasks
        with a live run; ``later`` starts an asyncio task of this name.
        """
        self._directory = directory
        self._amendments = amendments
        self._reload = reload
        self._in_force = in_force
        self._now = now
        self._running = running
        self._say = say
        self._in_thread = in_thread
        self._later = later
        self._held_back = False  # a saved file waits for the market to close
        self._code = CodeWatch(python_path or (), watch.state)
        self._watches_code = python_path is not None
        self._configured: Configuration | None = None  # whose code is watched
        # Configuration, with the amendments, and code.
        self._seen: tuple[Snapshot, Snapshot] = (watch.snapshot(amendments), frozenset())
        self._looking = asyncio.Lock()
        self._looks = 0

    def snapshot(self) -> Snapshot:
        """The files of the configuration directory as they are."""
        return frozenset() if self._directory is None else watch.snapshot(self._directory)

    async def watch(self) -> None:
        """Until it is cancelled; begins with what was saved since the configuration in force was read."""
        assert self._directory is not None
        self._amendments.mkdir(exist_ok=True)
        _, files = self._in_force()
        self._seen = (self._seen[0] | files, frozenset())
        occasions = watch.occasions(
            self._names, self._in_thread, soon=self._look_soon, on_trouble=self._cannot_watch
        )
        await self._take_code()
        async with aclosing(occasions):
            async for _ in occasions:
                await self._try_look()

    def is_due(self) -> bool:
        """Whether a file that was held back may go live now. It says so once."""
        due = self._held_back and not self._trading()
        self._held_back = self._held_back and not due
        return due

    async def refresh(self) -> None:
        """The daily one: new calendars, and none of what is held back."""
        configuration, files = self._in_force()
        waits = configuration.reload != "auto" and self.snapshot() != files
        if waits:
            fields = {"reload": configuration.reload, "cause": reports.DAILY}
            self._say([Announce(events.CONFIG_HELD_BACK, "info", fields)])
        await self._reload(reports.DAILY, in_force=waits)

    def _names(self) -> frozenset[Path]:
        assert self._directory is not None
        code = self._code.files
        ways = watch.ways({file.parent for file in code})
        # The state directory, where the amendments are, is busy: it is not watched itself.
        return watch.configuration_names(self._directory) | watch.names_in(self._amendments) | code | ways

    def _sight(self) -> tuple[Snapshot, Snapshot]:
        return self.snapshot() | watch.snapshot(self._amendments), watch.states(self._code.files)

    def _look_soon(self) -> None:
        async def look() -> None:
            await asyncio.sleep(_UP)
            await self._try_look()

        self._looks += 1
        self._later(look(), f"scheduler/look-{self._looks}")

    async def _try_look(self) -> None:
        try:
            await self._look()
        except Exception as error:  # noqa: BLE001 - what is saved next is to be noticed all the same
            details = "".join(traceback.format_exception(error))
            text = f"{type(error).__name__}: {error}"
            fields = {"run_id": "scheduler/watch", "error": text, "exception": details}
            self._say([Announce(events.BACKGROUND_FAILED, "error", fields)])

    async def _look(self) -> None:
        async with self._looking:
            await self._take_code()
            seen = await watch.settled(self._sight, self._seen, self._in_thread)
            changed = {path for path, *_ in seen[0] ^ self._seen[0]}
            if not changed or await self._saved(changed, seen[0]):
                self._seen = seen
            if changed:
                await self._take_code()
            news = await self._in_thread(self._code.changed)
            if news:
                self._say(await self._in_thread(partial(self._code.tell, news, self._running())))

    async def _take_code(self) -> None:
        """Watch the code of the tasks that are in force now."""
        configuration, _ = self._in_force()
        if configuration is not self._configured:
            self._configured = configuration
            specs = configuration.specs if self._watches_code else ()
            self._say(await self._in_thread(partial(self._code.configure, specs)))

    async def _saved(self, paths: set[str], now: Snapshot) -> bool:
        """By `reload:` of the file in force: take it, hold it back until the close, or until told.

        What an operator amended is taken at once, whatever else was saved and waits or is wrong.
        False when it is to be tried again at the next look.
        """
        again = False
        amended = {path for path in paths if Path(path).parent == self._amendments}
        if amended:
            again = (await self._reload("the amendments changed", in_force=True)).again
        saved = paths - amended
        configuration, files = self._in_force()
        if not saved or files == {known for known in now if Path(known[0]).parent != self._amendments}:
            return not again  # someone had it loaded already
        mode = configuration.reload
        if mode == "auto" or (mode == "closed-only" and not self._trading()):
            names = ", ".join(sorted({Path(path).name for path in saved}))
            again |= (await self._reload(f"saved: {names}")).again
        else:
            self._held_back = mode == "closed-only"
            until = "the market closes, or a reload" if self._held_back else "a reload"
            fields = {"reload": mode, "files": sorted(saved), "until": until}
            self._say([Announce(events.CONFIG_HELD_BACK, "info", fields)])
        return not again

    def _trading(self) -> bool:
        configuration, _ = self._in_force()
        table, now = configuration.tables.get(configuration.default_market), self._now()
        return table is not None and table.first <= now < table.last and table.phase_at(now).trading

    def _cannot_watch(self, problem: Exception) -> None:
        fields = {"error": str(problem), "effect": "files are looked at every second instead"}
        self._say([Announce(events.WATCH_REDUCED, "warning", fields)])
