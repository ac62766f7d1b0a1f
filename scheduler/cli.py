"""The command line: parses, calls one function, prints what it yields.

Heavy modules are imported by the commands that need them, so that the others start at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from scheduler.core.messages import Status
from scheduler.errors import ConfigurationError, SchedulerError, UsageError

if TYPE_CHECKING:
    from scheduler.client import Client
    from scheduler.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

_DIRECTORY = click.Path(path_type=Path)


def config_option(command: F) -> F:
    return click.option(
        "--config", type=_DIRECTORY, metavar="DIR",
        help="Directory of tasks.yaml and markets.yaml.  [default: /etc/scheduler, or SCHEDULER_CONFIG_DIR]",
    )(command)  # fmt: skip


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")(command)


def live_options(command: F) -> F:
    """Of the commands that ask the running daemon; it has its own configuration directory."""
    config = click.option("--config", type=_DIRECTORY, metavar="DIR", expose_value=False, hidden=True)
    timeout = click.option(
        "--timeout", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True,
        metavar="SECONDS", help="How long to wait for the daemon's answer.",
    )  # fmt: skip
    return config(timeout(command))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="trading-hours-scheduler", prog_name="scheduler")
def cli() -> None:
    """A scheduler daemon that knows the exchange."""


@cli.command()
@config_option
def run(config: Path | None) -> None:
    """Run the daemon until SIGTERM or Ctrl-C."""
    from scheduler import service

    service.run(_settings(config))


@cli.command()
@config_option
@click.option("--at", required=True, metavar="T", help="The instant at which the rehearsal begins.")
@click.option("--until", metavar="T", help="The instant at which it ends.  [default: Ctrl-C]")
@click.option(
    "--speed", type=click.FloatRange(min=0), default=1.0, show_default=True,
    help="How fast its clock runs; 0 jumps from event to event.",
)  # fmt: skip
@click.option("--state", type=_DIRECTORY, metavar="DIR", help="State directory.  [default: thrown away]")
@click.option("--live", is_flag=True, help="Really execute the tasks; without it nothing is executed.")
def rehearse(
    config: Path | None, at: str, until: str | None, speed: float, state: Path | None, live: bool
) -> None:
    """Run the whole daemon on a shifted, scaled clock."""
    from scheduler import service
    from scheduler.configuration import file_zone
    from scheduler.times import parse_time

    if live and speed == 0:
        raise UsageError("--live needs a --speed above 0: real tasks take real time")
    settings = _settings(config)
    zone = file_zone(settings.config_dir)
    begin = parse_time(at, zone)
    end = None if until is None else parse_time(until, zone)
    if end is not None and end < begin:
        raise UsageError(f"--until {until} is before --at {at}")
    service.rehearse(settings, at=begin, until=end, speed=speed, state=state, live=live)


@cli.command()
@config_option
@click.option("--diff", is_flag=True, help="Show what a reload would add and remove, in runs.")
def check(config: Path | None, diff: bool) -> None:
    """Validate the configuration, import every callable, and warn of what in its code will hurt."""
    from scheduler import offline
    from scheduler.clock import SystemClock

    settings, now = _settings(config), SystemClock().now()
    configuration, problems, warnings = offline.check(settings, now)
    for warning in warnings:
        click.echo(warning, err=True)
    if problems:
        raise ConfigurationError(problems)
    if diff:
        changes = offline.changes_since_accepted(settings, configuration, now)
        if changes is None:
            click.echo("nothing to compare with: no daemon has run with this state directory yet", err=True)
        for change in changes or ():
            click.echo(change)
    files = ", ".join(str(path) for path in configuration.sources)
    click.echo(
        f"{len(configuration.specs)} tasks on {', '.join(sorted(configuration.tables))}: {files} is good"
        + (f", with {len(warnings)} warning{'s' if len(warnings) > 1 else ''}" if warnings else "")
    )


@cli.command()
@config_option
@json_option
@click.option("--from", "start", required=True, metavar="T", help="First instant.")
@click.option("--until", required=True, metavar="T", help="End, excluded.")
@click.option("--task", "tasks", multiple=True, metavar="N", help="Only this task; may be given again.")
@click.option("--count", is_flag=True, help="Only how many runs of each task.")
def plan(
    config: Path | None, as_json: bool, start: str, until: str, tasks: tuple[str, ...], count: bool
) -> None:
    """List every clock-driven run that will be due."""
    from scheduler import offline

    rows = offline.planned(_settings(config), start, until, tasks, count=count)
    if count:
        _print(rows, as_json, "{count:>9}  {task}")
    else:
        _print(rows, as_json, "{due}  {task:<24} {priority:<12} {market:<8} {phase:<15} {trigger}")


class _Calendar(click.Group):
    """`calendar NSE --from …` is `calendar show NSE --from …`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["show", *args]
        return super().parse_args(ctx, args)


@cli.group(cls=_Calendar, subcommand_metavar="[show] [MARKET] --from D --until D | template YEAR [MARKET]")
def calendar() -> None:
    """Show a market's dates, or print a starter for a new year."""


@calendar.command()
@config_option
@json_option
@click.argument("market", required=False)
@click.option("--from", "start", required=True, metavar="D", help="First date.")
@click.option("--until", required=True, metavar="D", help="End, excluded.")
def show(config: Path | None, as_json: bool, market: str | None, start: str, until: str) -> None:
    """Show a market's dates, their phases, and the layer that says so."""
    from scheduler import offline

    rows = offline.calendar(_settings(config), market, start, until)
    _print(rows if as_json else map(_calendar_line, rows), as_json, "{date}  {market:<8} {layer:<19} {what}")


@calendar.command()
@config_option
@click.argument("year", type=click.IntRange(2000, 2199))
@click.argument("market", default="NSE")
def template(config: Path | None, year: int, market: str) -> None:
    """Print the holidays of YEAR as a markets.yaml to fill in."""
    from scheduler import offline

    click.echo(offline.template(_settings(config), year, market), nl=False)


@cli.group()
def market() -> None:
    """Change a market's date as an operator, or show what was changed."""


@market.command()
@config_option
@click.argument("market")
@click.argument("day", metavar="DATE")
@click.option("--closed", is_flag=True, help="No session on this date.")
@click.option(
    "--open", "hours", metavar="A..B[,A..B]",
    help="The hours of this date; `ordinary`: its usual ones, `unknown`: not announced yet.",
)  # fmt: skip
@click.option("--revert", is_flag=True, help="Take back the amendment of this date.")
@click.option("--name", metavar="N", help="What the day is called.")
@click.option("--reason", default="", metavar="TEXT", help="For the record.")
def amend(
    config: Path | None, market: str, day: str, closed: bool, hours: str | None, revert: bool,
    name: str | None, reason: str,
) -> None:  # fmt: skip
    """Change one date of a market, and of every market that is like it.

    The change is kept in the state directory; a running daemon takes it within two seconds.
    """
    from scheduler import amending
    from scheduler.clock import SystemClock

    if closed + (hours is not None) + revert != 1 or (revert and name):
        raise UsageError("one of --closed, --open and --revert is needed, and only with the first two --name")
    wish = amending.wish(market, day, closed=closed, hours=hours, name=name, reason=reason)
    outcome = amending.amend(_settings(config), wish, SystemClock().now())
    for warning in outcome.warnings:
        click.echo(f"warning: {warning}", err=True)
    for line in outcome.lines:
        click.echo(line)


@market.command()
@config_option
@json_option
def amendments(config: Path | None, as_json: bool) -> None:
    """Show the amendments in force, and whose they are."""
    from scheduler import amending

    rows = amending.amendments(_settings(config))
    _print(rows, as_json, "{date}  {market:<8} {change}  ({by}, {at}) {note}")


@cli.command()
@config_option
@json_option
@click.option("--task", "tasks", multiple=True, metavar="N", help="Only this task; may be given again.")
@click.option("--from", "start", metavar="T", help="First due instant.")
@click.option("--until", metavar="T", help="End, excluded.")
@click.option(
    "--status", type=click.Choice([status.value for status in Status], case_sensitive=False), metavar="S",
    help="completed, failed, cancelled, skipped, missed or running.",
)  # fmt: skip
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="Only the newest N rows.")
def history(
    config: Path | None, as_json: bool, tasks: tuple[str, ...], start: str | None, until: str | None,
    status: str | None, last: int | None,
) -> None:  # fmt: skip
    """Show what became of the runs that were due; the daemon may be up or down."""
    from scheduler import offline

    rows = offline.history(
        _settings(config), tasks=tasks, start=start, until=until, status=status, limit=last
    )
    _print(rows, as_json, "{due}  {task:<24} {attempt:>2} {status:<10} {reason:<12} x{count:<5} {error}")


@cli.command()
@config_option
@json_option
@click.argument("name")
@click.option(
    "--at", metavar="T", help="The instant in question.  [default: now, by what the scheduler knows]"
)
def why(config: Path | None, as_json: bool, name: str, at: str | None) -> None:
    """Say why the task NAME does or does not run, or the market NAME is in its phase."""
    from scheduler import explain
    from scheduler.clock import SystemClock

    row = explain.why(_settings(config), name, at, SystemClock().now())
    click.echo(json.dumps(row, ensure_ascii=False) if as_json else row["sentence"])


@cli.command()
@live_options
@json_option
def reload(timeout: float, as_json: bool) -> None:
    """Have the running daemon take the files as they are now, and say what that changes.

    Returns when they are in force. Rejected files are exit status 78, and the old ones stay in force.
    """
    from scheduler.client import reload_lines

    answer = _client(timeout).reload()
    for warning in answer["warnings"]:
        click.echo(f"warning: {warning}", err=True)
    for line in [json.dumps(answer, ensure_ascii=False)] if as_json else reload_lines(answer):
        click.echo(line)


@cli.command()
@live_options
@json_option
@click.argument("task")
@click.option("--reason", default="", metavar="TEXT", help="For the record.")
def resume(timeout: float, as_json: bool, task: str, reason: str) -> None:
    """End a task's parking, crash loop or pause."""
    from scheduler.client import resume_line

    answer = _client(timeout).resume(task, reason)
    click.echo(json.dumps(answer, ensure_ascii=False) if as_json else resume_line(answer))


@cli.command()
@click.argument("directory", type=_DIRECTORY)
def init(directory: Path) -> None:
    """Write a starter configuration into DIRECTORY."""
    from scheduler import offline

    for path in offline.init(directory):
        click.echo(path)


@cli.command()
@click.argument("which", type=click.Choice(["tasks", "markets"]))
def schema(which: str) -> None:
    """Print the JSON Schema of tasks.yaml or markets.yaml, for editors."""
    from scheduler import offline

    click.echo(offline.schema(which), nl=False)


def main() -> None:
    """The console script: errors become messages on standard error and exit codes."""
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


def _settings(config: Path | None) -> Settings:
    from scheduler.settings import load_settings

    return load_settings(config)


def _client(timeout: float) -> Client:
    from scheduler.client import Client
    from scheduler.directories import daemons_socket

    return Client(daemons_socket(), timeout=timeout)


def _print(rows: Iterable[Mapping[str, Any]], as_json: bool, line: str) -> None:
    try:
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False) if as_json else _line(row, line))
        sys.stdout.flush()
    except BrokenPipeError:  # of `scheduler plan | head`: nobody reads on, so there is nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _line(row: Mapping[str, Any], line: str) -> str:
    doubt = "  assumed" if row.get("assumed") else ""
    return line.format_map(row).rstrip() + doubt


def _calendar_line(row: Mapping[str, Any]) -> Mapping[str, Any]:
    phases = ", ".join(f"{p['phase']} {p['start'][11:16]}-{p['end'][11:16]}" for p in row["phases"])
    return {**row, "what": " · ".join(part for part in (phases, row["reason"]) if part)}
