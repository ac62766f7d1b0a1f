"""The tables of the live commands, drawn by rich: 80 columns are enough for all of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

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
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d", re.ASCII)
_NONE: Final = Text("-", "dim")


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
    word = "ok" if run["status"] == "completed" else run["status"]
    return Text(word, STATUSES.get(run["status"], "")).append(f" {when}", "not bold default")


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
        table.add_row(
            _minute(act["at"], 19),
            Text(printable(act["by"])),
            act["action"],
            Text(printable(_subject(act)), overflow="fold"),
            Text(printable(act["reason"]), overflow="fold"),
        )
    return table


def _subject(act: Row) -> str:
    """The task and what more there is to say; a run's id has its task in it."""
    details = {key: value for key, value in act["detail"].items() if value and key != "run_id"}
    subject = act["detail"].get("run_id") or act["task"]
    return " ".join([subject, *(f"{key}={_text(value)}" for key, value in details.items())]).strip()


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    text = str(value)
    return _minute(text) if _TIME.match(text) else text


def _minute(time: str, characters: int = 16) -> str:
    return time[:characters].replace("T", " ")


def plain_table(*headers: str) -> Table:
    """Without lines; ``>`` in front of a header puts its column to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for header in headers:
        justify = "right" if header.startswith(">") else "left"
        table.add_column(header.removeprefix(">"), justify=justify, no_wrap=True, overflow="ellipsis")  # type: ignore[arg-type]
    return table
