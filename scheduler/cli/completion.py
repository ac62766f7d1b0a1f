"""What a shell proposes: names that the running daemon knows, or nothing where it is not reachable."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, TypeAlias

import click

from scheduler.core import events
from scheduler.errors import SchedulerError

if TYPE_CHECKING:
    from scheduler.client import Client

_PATIENCE: Final = 0.5  # seconds that somebody who pressed the tab key waits

Completer: TypeAlias = Callable[[click.Context, click.Parameter, str], list[str]]


def _of(names: Callable[[Client], Iterable[str]]) -> Completer:
    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
        from scheduler.cli.common import client_of

        try:
            return sorted({name for name in names(client_of(_PATIENCE)) if name.startswith(incomplete)})
        except (SchedulerError, KeyError):  # a daemon of another version may have other answers
            return []

    return complete


task_names = _of(lambda client: [task["task"] for task in client.tasks()["tasks"]])
market_names = _of(lambda client: [market["market"] for market in client.markets()["markets"]])
namespaces = _of(lambda client: [each["namespace"] for each in client.cache_stats()["namespaces"]])
active_runs = _of(
    lambda client: [run[key] for run in client.active_runs()["runs"] for key in ("task", "run_id")]
)


def event_names(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    return sorted(name for name in events.ALL if name.startswith(incomplete))
