"""The commands for setting up a desk and a shell."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from scheduler.cli.common import DIRECTORY

_SHELLS: Final = ("bash", "zsh", "fish")


@click.command()
@click.argument("directory", type=DIRECTORY)
def init(directory: Path) -> None:
    """Write a starter configuration into DIRECTORY."""
    from scheduler import offline

    for path in offline.init(directory):
        click.echo(path)


@click.command()
@click.argument("which", type=click.Choice(["tasks", "markets"]))
def schema(which: str) -> None:
    """Print the JSON Schema of tasks.yaml or markets.yaml, for editors."""
    from scheduler import offline

    click.echo(offline.schema(which), nl=False)


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print what makes a shell complete commands, options, tasks, runs and namespaces.

    For bash: scheduler completion bash >/etc/bash_completion.d/scheduler
    """
    from click.shell_completion import get_completion_class

    from scheduler.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "scheduler", "_SCHEDULER_COMPLETE").source())


COMMANDS: Final = (init, schema, completion)
