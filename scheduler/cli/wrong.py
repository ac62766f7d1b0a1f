"""What an operator should look at, of all that the daemon tells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from scheduler.cli.common import Row
from scheduler.cli.moments import ago, clock, hour, span

_BAD: Final = "bold red"
_ODD: Final = "yellow"
_WANTED: Final = "magenta"
_WORST_FIRST: Final = (_BAD, _ODD, _WANTED)


class Wrong(NamedTuple):
    """A line of what an operator should look at."""

    style: str
    name: str
    what: str


def wrong_with(system: Row) -> list[Wrong]:
    """What is wrong, the worst first, then as tasks are ordered; last the pauses, which somebody wanted."""
    return sorted(_all_wrong(system), key=lambda line: _WORST_FIRST.index(line.style))


def _all_wrong(system: Row) -> Iterator[Wrong]:
    names = {task["task"] for task in system["tasks"]}
    for concern in system["concerns"]:
        if concern["name"] not in names:
            yield Wrong(_BAD if concern["blocking"] else _ODD, concern["name"], concern["what"])
    if system["loop"]["shedding"]:
        yield Wrong(_BAD, "load", f"runs are shed that are {' or '.join(system['loop']['shedding'])}")
    for key, what in (("unaccounted", "runs are unaccounted for"), ("dropped", "records were dropped")):
        if system["ledger"][key]:
            yield Wrong(_BAD, "ledger", f"{system['ledger'][key]} {what}")
    for task in system["tasks"]:
        yield from _wrong_task(task, system["timestamp"])
    for run in system["long_running"]:
        what = f"has been running for {span(run['running_seconds'])}: {run['run_id']}"
        yield Wrong(_ODD, run["task"], what)


def _wrong_task(task: Row, now: str) -> Iterator[Wrong]:
    """One line at most."""
    name, failures = task["task"], task["consecutive_failures"]
    error = f": {task['error']}" if task["error"] else ""
    since = f" for {ago(task['last_success'], now)}" if task["last_success"] else ""
    stale = f"is stale: it has not completed{since}" if task["freshness"] == "stale" else ""
    also = f"; it {stale}" if stale else ""
    if task["trouble"]:
        yield Wrong(_BAD, name, task["trouble"] + error + also)
    elif failures:
        times = "failed" if failures == 1 else f"failed {failures} times in a row"
        again = f", next try {clock(task['next'], now)}" if task["next"] else ""
        yield Wrong(_ODD, name, f"{times}{again}{error}{also}")
    elif task["state"] == "paused":
        until = f"until {hour(task['paused_until'], now)}" if task["paused_until"] else "until it is resumed"
        yield Wrong(_WANTED, name, f"is paused {until}")
    elif stale:
        yield Wrong(_ODD, name, stale)
