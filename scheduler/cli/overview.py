"""All at a glance, drawn by rich: markets, health, what is wrong, and every task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from scheduler.cli.common import Row
from scheduler.cli.moments import clock, hour, span
from scheduler.cli.tables import tasks_table
from scheduler.cli.wrong import Wrong, wrong_with
from scheduler.render import printable

_LABEL: Final = 20  # characters
_ALWAYS: Final = "always"  # the market that never closes: nobody wants to be told


class SystemView:
    """All at a glance."""

    def __init__(self, system: Row, *, notice: str = "", height: int | None = None) -> None:
        """``notice`` goes before all else. ``height``: lines; the tasks that do well give way."""
        self._system = system
        self._notice = notice
        self._height = height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        system = self._system
        tasks: Sequence[Row] = system["tasks"]
        wrong = wrong_with(system)
        head = Group(*_head(system, self._notice), *_wrong(wrong))
        room = self._room(head, console, options)
        if room < len(tasks):
            head = Group(*_head(system, self._notice), *_wrong(wrong, (self._height or 0) // 3))
            room = self._room(head, console, options)
        yield head
        if room < len(tasks):
            ill = {line.name for line in wrong}
            tasks = sorted(tasks, key=lambda task: task["task"] not in ill)[: max(0, room - 1)]
        yield tasks_table(tasks, system["timestamp"])
        yield from _more(len(system["tasks"]) - len(tasks))

    def _room(self, head: Group, console: Console, options: ConsoleOptions) -> int:
        """How many tasks there is room for."""
        if self._height is None:
            return len(self._system["tasks"])
        return self._height - len(console.render_lines(head, options)) - 1  # the table has a header


def _head(system: Row, notice: str) -> Iterator[RenderableType]:
    if notice:
        yield Text(notice, "bold white on red", no_wrap=True, overflow="ellipsis")
    if system["markets"]:
        yield _labelled((Text(each["market"], "bold"), _market(each, system)) for each in _in_use(system))
    yield _health(system)
    yield Text()


def _wrong(wrong: Sequence[Wrong], most: int | None = None) -> Iterator[RenderableType]:
    """All of it in full, or a line each of the ``most`` first."""
    if wrong:
        is_short = most is not None
        yield _labelled(
            (
                Text(line.name, line.style),
                Text(printable(line.what), no_wrap=is_short, overflow="ellipsis" if is_short else "fold"),
            )
            for line in wrong[:most]
        )
        yield from _more(len(wrong[most:]) if is_short else 0)
        yield Text()


def _more(left_out: int) -> Iterator[RenderableType]:
    if left_out:
        yield Text(f"and {left_out} more", "dim")


def _labelled(lines: Iterable[tuple[Text, Text]]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=_LABEL)
    grid.add_column()
    for line in lines:
        grid.add_row(*line)
    return grid


def _in_use(system: Row) -> list[Row]:
    """The markets that tasks go by; the default comes first as it is."""
    used = {task["market"] for task in system["tasks"]}
    found = [market for market in system["markets"] if market["market"] in used]
    return [market for market in found if market["market"] != _ALWAYS] or found


def _market(market: Row, system: Row) -> Text:
    """``open until 15:30, then post-close``."""
    style = "green" if market["trading"] else ""
    text = Text(market["phase"], style)
    if market["reason"]:
        text.append(f" ({printable(market['reason'])})")
    if market["market"] != _ALWAYS:
        text.append(f" until {_hour(market['until'], system)}")
        if market["next_phase"] and market["phase"] != "closed":
            text.append(f", then {market['next_phase']}", "dim")
        if market["next_open"] and not market["trading"] and market["next_open"] != market["until"]:
            text.append(f", opens {_hour(market['next_open'], system)}", "dim")
    if market["assumed"]:
        text.append(" assumed", "yellow")
    return text


def _hour(time: str, system: Row) -> str:
    """A market's time, where the desk is."""
    here = datetime.fromisoformat(time).astimezone(ZoneInfo(system["timezone"]))
    return hour(here.isoformat(), system["timestamp"])


def _health(system: Row) -> Text:
    tasks, slots, process = system["tasks"], system["slots"], system["process"]
    states = Counter(task["state"] for task in tasks)
    text = Text(f"{clock(system['timestamp'], system['timestamp'])} ", no_wrap=True, overflow="ellipsis")
    text.append("ready" if system["ready"] else "NOT READY", "green" if system["ready"] else "bold red")
    parts = (
        f"up {span(system['uptime_seconds'])}",
        f"{len(tasks)} task{'' if len(tasks) == 1 else 's'}, {states['running']} running",
        f"{slots['used']}/{slots['total']} slots",
        f"lag {span(system['loop']['lag_seconds'])}",
        f"{process['memory_bytes'] / (1 << 20):.0f} MB",
    )
    return text.append("".join(f" · {part}" for part in parts))
