"""The command line: parses, calls one function, prints what it yields.

Heavy modules are imported by the commands that need them, so that the others start at once.
"""

from __future__ import annotations

import io
import sys

import click

from scheduler.cli import live, offline, operating, setup
from scheduler.errors import SchedulerError, UsageError

_SECTIONS = {
    "The daemon": offline.DAEMON,
    "Ask the running daemon": live.COMMANDS,
    "Operate the running daemon": operating.COMMANDS,
    "Ask the files and the ledger": offline.QUESTIONS,
    "Set up": setup.COMMANDS,
}


class _Sections(click.Group):
    """Its help lists the commands by what they are about."""

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(len(str(command.name)) for section in _SECTIONS.values() for command in section)
        for title, section in _SECTIONS.items():
            with formatter.section(title):
                rows = [(str(each.name).ljust(width), each.get_short_help_str(limit=80)) for each in section]
                formatter.write_dl(rows)


@click.group(
    cls=_Sections, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="trading-hours-scheduler", prog_name="scheduler")
def cli() -> None:
    """A scheduler daemon that knows the exchange."""


for _section in _SECTIONS.values():
    for _command in _section:
        cli.add_command(_command)


def main() -> None:
    """The console script: errors become messages on standard error and exit codes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no … gets a question mark
    try:
        status = cli(standalone_mode=False)
        sys.stdout.flush()
        sys.exit(status if isinstance(status, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(UsageError.exit_code)
    except click.Abort:
        sys.exit(130)
    except SchedulerError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)
