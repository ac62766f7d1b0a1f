"""The tables and views of the live commands, drawn by rich: 80 columns are enough for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from scheduler.cli.common import Row
from scheduler.cli.moments import ago, clock, span
from scheduler.render import printable

_PRIORITIES: Final = {"critical": "crit", "important": "imp", "nice-to-have": "nice"}
STATES: Final = {
    "running": "green", "queued": "cyan", "waiting": "", "disabled": "dim", "paused": "magenta",
    "backing-off": "yellow", "crash-looping": "bold red", "parked": "bold red", "refused": "bold red",
}  # fmt: skip
STATUSES: Final = {
    "completed": "green", "failed": "red", "missed": "red", "cancelled": "yellow", "skipped": "yellow",
}  # fmt: skip
_NONE: Final = Text("-", "dim")
_LABEL: Final = 20  # characters
_ALWAYS: Final = "always"  # the market that never closes: nobody wants to be told


class Wrong(NamedTuple):
    """A line of what an operator should look at."""

    style: str
    name: str
    what: str


class SystemView:
    """All at a glance; in as many lines as there are."""

    def __init__(self, system: Row, *, notice: str = "", height: int | None = None) -> None:
        """``notice`` goes before all else. ``height``: lines; the tasks that do well give way."""
        self._system = system
        self._notice = notice
        self._height = height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        system = self._system
        tasks: Sequence[Row] = system["tasks"]
        wrong = list(wrong_with(system))
        head = Group(*_head(system, wrong, self._notice))
        yield head
        if self._height is not None:
            used = len(console.render_lines(head, options)) + 1  # and the table's header
            if used + len(tasks) > self._height:
                room = max(0, self._height - used - 1)
                names = {line.name for line in wrong}
                shown = sorted(tasks, key=lambda task: task["task"] not in names)[:room]
                yield tasks_table(shown, system["timestamp"])
                yield Text(f"and {len(tasks) - len(shown)} more", "dim")
                return
        yield tasks_table(tasks, system["timestamp"])


def _head(system: Row, wrong: Sequence[Wrong], notice: str) -> Iterator[RenderableType]:
    if notice:
        yield Text(notice, "bold white on red")
    if system["markets"]:
        yield _labelled((Text(each["market"], "bold"), _market(each, system)) for each in _in_use(system))
    yield _health(system)
    if wrong:
        yield Text()
        yield _labelled((Text(line.name, line.style), Text(printable(line.what))) for line in wrong)
    yield Text()


def _labelled(lines: Iterable[tuple[Text, Text]]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=_LABEL)
    grid.add_column(overflow="fold")
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
    """A market's time, where the desk is; seconds only where there are some."""
    here = datetime.fromisoformat(time).astimezone(ZoneInfo(system["timezone"]))
    text = clock(here.isoformat(), system["timestamp"])
    return text[:-3] if text.count(":") == 2 and text.endswith(":00") else text


def _health(system: Row) -> Text:
    tasks, slots, process = system["tasks"], system["slots"], system["process"]
    states = Counter(task["state"] for task in tasks)
    text = Text(f"{clock(system['timestamp'], system['timestamp'])} ", no_wrap=True, overflow="ellipsis")
    text.append("ready" if system["ready"] else "NOT READY", "green" if system["ready"] else "bold red")
    parts = (
        f"up {span(system['uptime_seconds'])}",
        f"{len(tasks)} tasks, {states['running']} running",
        f"{slots['used']}/{slots['total']} slots",
        f"lag {span(system['loop']['lag_seconds'])}",
        f"{process['memory_bytes'] / (1 << 20):.0f} MB",
    )
    return text.append("".join(f" · {part}" for part in parts))


def wrong_with(system: Row) -> Iterator[Wrong]:
    """What is wrong, the worst first: the whole, then tasks as they are ordered."""
    now = system["timestamp"]
    tasks = {task["task"]: task for task in system["tasks"]}
    for concern in system["concerns"]:
        if concern["name"] not in tasks:
            yield Wrong("bold red" if concern["blocking"] else "yellow", concern["name"], concern["what"])
    if system["loop"]["shedding"]:
        yield Wrong("bold red", "load", f"runs are shed that are {' or '.join(system['loop']['shedding'])}")
    if system["ledger"]["unaccounted"]:
        yield Wrong("bold red", "ledger", f"{system['ledger']['unaccounted']} runs are unaccounted for")
    if system["ledger"]["dropped"]:
        yield Wrong("bold red", "ledger", f"{system['ledger']['dropped']} records were dropped")
    for task in tasks.values():
        line = _wrong_task(task, now)
        if line is not None:
            yield line
    for run in system["long_running"]:
        what = f"has been running for {span(run['running_seconds'])}: {run['run_id']}"
        yield Wrong("yellow", run["task"], what)


def _wrong_task(task: Row, now: str) -> Wrong | None:
    name, last, failures = task["task"], task["last"], task["consecutive_failures"]
    error = f": {last['error']}" if last and last["status"] == "failed" and last["error"] else ""
    if task["trouble"]:
        return Wrong("bold red", name, task["trouble"] + error)
    if failures:
        times = "failed" if failures == 1 else f"failed {failures} times in a row"
        again = f", next try {clock(task['next'], now)}" if task["next"] else ""
        return Wrong("yellow", name, f"{times}{again}{error}")
    if task["state"] == "paused":
        until = f"until {clock(task['paused_until'], now)}" if task["paused_until"] else "until it is resumed"
        return Wrong("magenta", name, f"is paused {until}")
    if task["freshness"] == "stale":
        since = f" for {ago(task['last_success'], now)}" if task["last_success"] else ""
        return Wrong("yellow", name, f"is stale: it has not completed{since}")
    return None


def tasks_table(tasks: Iterable[Row], now: str) -> Table:
    """By priority and name, as they come."""
    table = plain_table("TASK", "PRIO", "STATE", "LAST", "NEXT", ">FAILS", ">RESTARTS")
    table.columns[0].no_wrap = False  # the one that gives way; its texts do not wrap
    for task in tasks:
        state = task["state"]
        since = f" {ago(task['since'], now)}" if state == "running" and task["since"] else ""
        table.add_row(
            Text(
                task["task"],
                "bold" if task["priority"] == "critical" else "",
                no_wrap=True,
                overflow="ellipsis",
            ),
            _PRIORITIES.get(task["priority"], task["priority"]),
            Text(state + since, STATES.get(state, "")),
            _last(task["last"], now),
            clock(task["next"], now) if task["next"] else _NONE,
            Text(str(task["consecutive_failures"] or ""), "red"),
            str(task["restarts"] or ""),
        )
    return table


def _last(run: Row | None, now: str) -> Text:
    """The latest outcome, and how long ago that was."""
    if run is None:
        return _NONE
    when = ago(run["ended"] or run["last_due"] or run["due"], now)
    return Text(run["status"], STATUSES.get(run["status"], "")).append(f" {when}", "not bold default")


def cache_table(namespaces: Iterable[Row]) -> Table:
    table = plain_table(
        "NAMESPACE", ">TTL", ">ENTRIES", ">OF", ">HITS", ">MISSES", ">LOADS", ">FAILED", ">EVICTED", ">STALE"
    )
    table.columns[0].no_wrap = False
    for each in namespaces:
        numbers = [
            each[key]
            for key in ("entries", "max_entries", "hits", "misses", "loads", "failures", "evictions", "stale")
        ]
        name = Text(each["namespace"], no_wrap=True, overflow="ellipsis")
        table.add_row(name, span(each["ttl_seconds"]), *map(str, numbers))
    return table


def acts_table(acts: Iterable[Row]) -> Table:
    """The oldest first."""
    table = plain_table("AT", "BY", "DID", "TO", "REASON")
    table.columns[3].no_wrap = table.columns[4].no_wrap = False
    for act in acts:
        details = " ".join(f"{key}={_value(value)}" for key, value in act["detail"].items() if value)
        table.add_row(
            act["at"][:19].replace("T", " "),
            Text(printable(act["by"])),
            act["action"],
            Text(printable(f"{act['task']} {details}".strip()), overflow="fold"),
            Text(printable(act["reason"]), overflow="fold"),
        )
    return table


def _value(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def plain_table(*headers: str) -> Table:
    """Without lines; ``>`` in front of a header puts its column to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for header in headers:
        justify = "right" if header.startswith(">") else "left"
        table.add_column(header.removeprefix(">"), justify=justify, no_wrap=True, overflow="ellipsis")  # type: ignore[arg-type]
    return table
