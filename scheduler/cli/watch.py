"""What is drawn again as things happen, until it is interrupted."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeAlias

import click
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from scheduler.cli.common import Row, as_line
from scheduler.clock import SystemClock
from scheduler.core.messages import SECOND
from scheduler.errors import NotReachableError

if TYPE_CHECKING:
    from scheduler.client import Happenings

_REST: Final = 0.5  # seconds between two drawings, at least
_RESTS: Final = 10  # of them pass at most
_EVERY: Final = _REST * _RESTS  # seconds, where there is no terminal

Ask: TypeAlias = Callable[[], Row]
Draw: TypeAlias = Callable[[Row, str, int | None], RenderableType]  # answer, notice, height


def redraw(
    ask: Ask, draw: Draw, listen: Callable[[Callable[[NotReachableError], object]], Happenings]
) -> None:
    """On the whole terminal, until Ctrl-C. It outlives the daemon, and finds the next.

    ``listen`` begins to follow what happens, for ever, and tells of losses.
    """
    console = Console(highlight=False)
    changed = threading.Event()
    _stir(changed, listen)
    with _interruptible(), Live(console=console, screen=True, auto_refresh=False) as live:
        look = _Look(ask)
        while True:
            changed.clear()
            answer, notice = look.again()
            height = console.height
            live.update(Text(notice) if answer is None else draw(answer, notice, height), refresh=True)
            _wait(changed, console)


def print_again(ask: Ask, draw: Draw, *, as_json: bool) -> None:
    """Every five seconds, for a file or a pipe: no control codes."""
    console = Console(highlight=False)
    with _interruptible():
        while True:
            try:
                answer = ask()
            except NotReachableError as error:
                click.echo(str(error), err=True)
            else:
                if as_json:
                    click.echo(as_line(answer))
                else:
                    console.print(draw(answer, "", None))
                    console.print()
                sys.stdout.flush()
            time.sleep(_EVERY)


class _Look:
    """The latest answer, and since when there is none."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._answer: Row | None = None
        self._lost = ""

    def again(self) -> tuple[Row | None, str]:
        """The latest answer that there was, and what is wrong with it."""
        try:
            self._answer, self._lost = self._ask(), ""
        except NotReachableError as error:
            self._lost = self._lost or f"not reachable since {_time_of_day(self._answer)}: {error}"
        return self._answer, self._lost


def _stir(
    changed: threading.Event, listen: Callable[[Callable[[NotReachableError], object]], Happenings]
) -> None:
    """Set ``changed`` whenever something happens, the loss of the daemon included."""

    def follow() -> None:
        for _ in listen(lambda _: changed.set()):
            changed.set()

    threading.Thread(target=follow, name="events", daemon=True).start()


def _wait(changed: threading.Event, console: Console) -> None:
    """Until something has happened, the terminal has another size or five seconds are over."""
    size = console.size
    time.sleep(_REST)
    for _ in range(_RESTS - 1):
        if changed.wait(_REST) or console.size != size:
            return


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C is how this ends; other signals end it too, with the terminal as it was."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    with suppress(KeyboardInterrupt):
        yield


def _time_of_day(answer: Row | None) -> str:
    """Now, in the time zone in which the daemon last told the time."""
    told = None if answer is None else answer.get("timestamp")
    zone = None if told is None else datetime.fromisoformat(told).tzinfo
    return f"{datetime.fromtimestamp(SystemClock().now() // SECOND, UTC).astimezone(zone):%H:%M:%S}"
