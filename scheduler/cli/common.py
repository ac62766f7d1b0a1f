"""What the commands share: options, the client, and how rows are printed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from scheduler.client import Client
    from scheduler.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
Row = Mapping[str, Any]

PRIORITIES: Final = ("critical", "important", "nice-to-have")
DIRECTORY: Final = click.Path(path_type=Path)


def config_option(command: F) -> F:
    return click.option(
        "--config", type=DIRECTORY, metavar="DIR",
        help="Directory of tasks.yaml and markets.yaml.  [default: /etc/scheduler, or SCHEDULER_CONFIG_DIR]",
    )(command)  # fmt: skip


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")(command)


def reason_option(command: F) -> F:
    return click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")(command)


def live_options(command: F) -> F:
    """Of the commands that ask the running daemon; it has its own configuration directory."""
    config = click.option("--config", type=DIRECTORY, metavar="DIR", expose_value=False, hidden=True)
    timeout = click.option(
        "--timeout", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True,
        metavar="SECONDS", help="How long to wait for the daemon's answer.",
    )  # fmt: skip
    return config(timeout(command))


def settings_of(config: Path | None) -> Settings:
    from scheduler.settings import load_settings

    return load_settings(config)


def client_of(timeout: float) -> Client:
    from scheduler.client import Client
    from scheduler.directories import daemons_socket

    return Client(daemons_socket(), timeout=timeout)


def as_line(row: Row) -> str:
    """One JSON object."""
    return json.dumps(row, ensure_ascii=False)


def print_lines(lines: Iterable[str]) -> None:
    with read_or_not():
        for line in lines:
            click.echo(line)


def print_rows(rows: Iterable[Row], as_json: bool, line: str) -> None:
    """``line`` is the format of a row for people."""
    print_lines(as_line(row) if as_json else _filled_in(row, line) for row in rows)


@contextmanager
def read_or_not() -> Iterator[None]:
    """Of `scheduler plan | head`: when nobody reads on, there is nobody to tell."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _filled_in(row: Row, line: str) -> str:
    doubt = "  assumed" if row.get("assumed") else ""
    return line.format_map(row).rstrip() + doubt
