"""The commands that show how the running daemon does, and what it keeps."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from scheduler.cli.common import (
    Row,
    as_line,
    client_of,
    json_option,
    live_options,
    print_lines,
    read_or_not,
)
from scheduler.cli.completion import event_names, namespaces, task_names
from scheduler.cli.moments import to_milliseconds
from scheduler.core import events as names
from scheduler.errors import UsageError
from scheduler.render import console as console_lines

if TYPE_CHECKING:
    from rich.console import RenderableType

    from scheduler.client import Happening

_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_WATCHING: Final = 5.0  # seconds for an answer, before it is said that there is none
_RUN_LEVELS: Final = {"failed": "error", "missed": "warning", "skipped": "warning", "cancelled": "warning"}


@click.command()
@live_options
@json_option
@click.argument("task", required=False, shell_complete=task_names)
@click.option("--watch", is_flag=True, help="Draw it again as things happen, until Ctrl-C.")
def status(timeout: float, as_json: bool, task: str | None, watch: bool) -> None:
    """Show markets, health, what is wrong and every task; or all about one TASK."""
    client = client_of(min(timeout, _WATCHING) if watch else timeout)
    ask = partial(client.task, task) if task is not None else client.system
    if not watch:
        answer = ask()
        if as_json:
            print_lines([as_line(answer)])
        else:
            _draw(_view(answer, "", None))
        return
    from scheduler.cli.watch import print_again, redraw

    if as_json or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        with read_or_not():
            print_again(ask, _view, as_json=as_json)
    else:
        tasks = () if task is None else (task,)
        redraw(ask, _view, lambda on_loss: client.events(tasks=tasks, runs=True, on_loss=on_loss))


def _view(answer: Row, notice: str, height: int | None) -> RenderableType:
    """Of the whole, or of one task."""
    if "tasks" in answer:
        from scheduler.cli.overview import SystemView

        return SystemView(answer, notice=notice, height=height)
    from scheduler.cli.detail import task_view

    return task_view(answer, notice)


def _draw(view: RenderableType) -> None:
    from rich.console import Console

    with read_or_not():
        Console(highlight=False).print(view)


@click.command()
@live_options
@json_option
@click.option(
    "--task", "tasks", multiple=True, metavar="T", shell_complete=task_names,
    help="Only of this task; may be given again.",
)  # fmt: skip
@click.option(
    "--event", "events", multiple=True, metavar="NAME", shell_complete=event_names,
    help="Only this event, or all that begin so: `task.`; may be given again.",
)  # fmt: skip
@click.option(
    "--level", type=click.Choice(_LEVELS), default="info", show_default=True, metavar="L",
    help="Only this level and above: debug, info, warning, error, critical.",
)  # fmt: skip
@click.option("--runs", is_flag=True, help="Every change of a run too.")
@click.option("--follow", is_flag=True, help="When the daemon ends, wait for the next.")
def events(
    timeout: float, as_json: bool, tasks: tuple[str, ...], events: tuple[str, ...], level: str, runs: bool,
    follow: bool,
) -> None:  # fmt: skip
    """Show what happens, as it happens, until Ctrl-C or the end of the daemon."""
    for name in events:
        _check_event(name)
    client = client_of(timeout)
    for task in tasks:
        client.task(task)  # UnknownTaskError: nothing would ever be heard of it
    on_loss = (lambda error: click.echo(str(error), err=True)) if follow else None
    happenings = client.events(tasks=tasks, events=events, level=level, runs=runs, on_loss=on_loss)
    line: Callable[[Happening], str] = _event_json if as_json else _EventLine(runs=runs)
    with suppress(KeyboardInterrupt), read_or_not():
        for happening in happenings:
            text = line(happening)
            if text:
                click.echo(text)


def _check_event(name: str) -> None:
    if not any(each == name or (name.endswith(".") and each.startswith(name)) for each in names.ALL):
        from difflib import get_close_matches

        close = get_close_matches(name, names.ALL, n=1)
        guess = f"did you mean {close[0]!r}?" if close else "such as task.parked, or task. for all of tasks"
        raise UsageError(f"there is no event {name!r}; {guess}")


def _event_json(happening: Happening) -> str:
    data = happening.data
    return as_line({"event": "run", **data} if happening.name == "run" else data)


class _EventLine:
    """As the console's log has it."""

    def __init__(self, *, runs: bool) -> None:
        self._runs = runs
        self._render = console_lines(colours=sys.stdout.isatty() and "NO_COLOR" not in os.environ)

    def __call__(self, happening: Happening) -> str:
        """Empty for what another line tells."""
        name, data = happening
        if name == "run":
            return self._render(_run_line(data))
        is_told = self._runs and str(data["event"]).startswith("run.")
        return "" if is_told else self._render({**data, "timestamp": to_milliseconds(data["timestamp"])})


def _run_line(run: Row) -> Row:
    status = run["status"]
    said: dict[str, Any] = {
        "timestamp": to_milliseconds(run["ended"] or run["started"] or run["due"]),
        "level": _RUN_LEVELS.get(status, "debug"),
        "event": f"run.{status}",
    }
    return said | {key: run[key] for key in ("task", "due", "attempt", "cause", "reason", "error")}


@click.group()
def cache() -> None:
    """Read and write what tasks share."""


@cache.command()
@live_options
@json_option
@click.argument("namespace", shell_complete=namespaces)
@click.argument("key")
def get(timeout: float, as_json: bool, namespace: str, key: str) -> None:
    """Print a value as JSON; a text as it is, unless --json. Fails if there is none."""
    value = client_of(timeout).cache_get(namespace, key)["value"]
    is_text = isinstance(value, str) and not as_json
    print_lines([value if is_text else json.dumps(value, ensure_ascii=False)])


@cache.command(context_settings={"ignore_unknown_options": True})  # -1.5 is a value
@live_options
@json_option
@click.argument("namespace", shell_complete=namespaces)
@click.argument("key")
@click.argument("value")
@click.option("--ttl", metavar="D", help="How long it is kept, at most the namespace's own ttl: 5s.")
@click.option("--string", "is_string", is_flag=True, help="VALUE is a text, even if it looks like JSON.")
def put(
    timeout: float, as_json: bool, namespace: str, key: str, value: str, ttl: str | None, is_string: bool
) -> None:
    """Keep VALUE: JSON if it is that, else a text; `-` reads standard input."""
    if value == "-":
        value = sys.stdin.read().removesuffix("\n")
    answer = client_of(timeout).cache_put(namespace, key, value if is_string else _parsed(value), ttl)
    if as_json:
        print_lines([as_line(answer)])


@cache.command()
@live_options
@json_option
@click.argument("namespace", shell_complete=namespaces)
@click.argument("key")
def delete(timeout: float, as_json: bool, namespace: str, key: str) -> None:
    """Forget a value."""
    answer = client_of(timeout).cache_delete(namespace, key)
    if as_json:
        print_lines([as_line(answer)])


@cache.command()
@live_options
@json_option
def stats(timeout: float, as_json: bool) -> None:
    """Show how the namespaces do."""
    found = client_of(timeout).cache_stats()["namespaces"]
    if as_json:
        print_lines(map(as_line, found))
    else:
        from scheduler.cli.tables import cache_table

        _draw(cache_table(found))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError:
        return text


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)  # Infinity and NaN are no JSON


@click.command()
@live_options
@json_option
@click.option(
    "--last", type=click.IntRange(1, 10_000), default=100, show_default=True, metavar="N",
    help="Only the newest N.",
)  # fmt: skip
def acts(timeout: float, as_json: bool, last: int) -> None:
    """Show what operators did, and why; the newest last."""
    found = client_of(timeout).acts(last)["acts"][::-1]
    if as_json:
        print_lines(map(as_line, found))
    else:
        from scheduler.cli.tables import acts_table

        _draw(acts_table(found))


COMMANDS: Final = (status, events, cache, acts)
