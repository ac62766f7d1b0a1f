"""What the daemon answered, in sentences for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from scheduler.cli.common import Row
from scheduler.cli.moments import took_of
from scheduler.render import printable

_LISTED: Final = ("added", "removed", "changed", "settings", "markets")


def reloaded(answer: Row) -> Iterator[str]:
    for key in _LISTED:
        if answer[key]:
            yield f"{key}: {', '.join(answer[key])}"
    yield from answer["differences"]
    if answer["unchanged"]:
        yield "nothing has changed"


def resumed(answer: Row) -> str:
    ended = " and ".join(answer["ended"])
    was = f"was {ended}" if ended else "was neither parked, crash-looping nor paused"
    following = f"; due next at {answer['next']}" if answer["next"] else ""
    return f"{answer['task']} {was}{following}"


def paused(answer: Row) -> Iterator[str]:
    until = f"until {answer['until']}" if answer["until"] else "until it is resumed"
    for task in answer["tasks"]:
        yield f"{task} is paused {until}"
    if not answer["tasks"]:
        yield "no task is meant: nothing was paused"


def ran_now(answer: Row) -> str:
    if answer["outcome"] == "skipped":
        why = f": {answer['reason']}" if answer["reason"] else ""
        return f"{answer['task']} was not started{why}"
    return f"{answer['run_id']} is {answer['outcome']}"


def restarted(answer: Row) -> str:
    if answer["started"]:
        return f"{answer['task']} had no run to end; {answer['started']} is started"
    if answer["run_id"]:
        return f"{answer['task']} is restarted: {answer['run_id']} is being ended"
    return f"{answer['task']} had no run to end"


def backfilling(answer: Row) -> str:
    done = f"{answer['completed']} completed before" if answer["completed"] else "none had completed before"
    if not answer["runs"]:
        return f"{answer['task']}: there is nothing to make up for, {done}"
    runs = "1 run is" if answer["runs"] == 1 else f"{answer['runs']} runs are"
    return f"{answer['task']}: {runs} being made, from {answer['first']} to {answer['last']}; {done}"


def ended(run: Row) -> str:
    """How a run came out: ``feed-20261126T034600Z failed (timeout) after 1m: timed out at …``."""
    reason = f" ({run['reason']})" if run["reason"] and run["reason"] != "error" else ""
    took = took_of(run)
    after = f" after {took}" if took else ""
    error = f": {printable(run['error'])}" if run["error"] else ""
    return f"{run['run_id']} {run['status']}{reason}{after}{error}"
