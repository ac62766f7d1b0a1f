"""The commands that need no running daemon, and the daemon itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from scheduler.cli.common import DIRECTORY, as_line, config_option, json_option, print_rows, settings_of
from scheduler.cli.completion import market_names, task_names
from scheduler.errors import ConfigurationError, UsageError

STATUSES: Final = ("queued", "running", "completed", "failed", "cancelled", "skipped", "missed")


@click.command()
@config_option
def run(config: Path | None) -> None:
    """Run the daemon until SIGTERM or Ctrl-C."""
    from scheduler import service

    service.run(settings_of(config))


@click.command()
@config_option
@click.option("--at", required=True, metavar="T", help="The instant at which the rehearsal begins.")
@click.option("--until", metavar="T", help="The instant at which it ends.  [default: Ctrl-C]")
@click.option(
    "--speed", type=click.FloatRange(min=0), default=1.0, show_default=True,
    help="How fast its clock runs; 0 jumps from event to event.",
)  # fmt: skip
@click.option("--state", type=DIRECTORY, metavar="DIR", help="State directory.  [default: thrown away]")
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
    settings = settings_of(config)
    zone = file_zone(settings.config_dir)
    begin = parse_time(at, zone)
    end = None if until is None else parse_time(until, zone)
    if end is not None and end < begin:
        raise UsageError(f"--until {until} is before --at {at}")
    service.rehearse(settings, at=begin, until=end, speed=speed, state=state, live=live)


@click.command()
@config_option
@click.option("--diff", is_flag=True, help="Show what a reload would add and remove, in runs.")
def check(config: Path | None, diff: bool) -> None:
    """Validate the configuration, import every callable, and warn of what in its code will hurt."""
    from scheduler import offline
    from scheduler.clock import SystemClock

    settings, now = settings_of(config), SystemClock().now()
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


@click.command()
@config_option
@json_option
@click.option("--from", "start", required=True, metavar="T", help="First instant.")
@click.option("--until", required=True, metavar="T", help="End, excluded.")
@click.option(
    "--task", "tasks", multiple=True, metavar="N", shell_complete=task_names,
    help="Only this task; may be given again.",
)  # fmt: skip
@click.option("--count", is_flag=True, help="Only how many runs of each task.")
def plan(
    config: Path | None, as_json: bool, start: str, until: str, tasks: tuple[str, ...], count: bool
) -> None:
    """List every clock-driven run that will be due."""
    from scheduler import offline

    rows = offline.planned(settings_of(config), start, until, tasks, count=count)
    if count:
        print_rows(rows, as_json, "{count:>9}  {task}")
    else:
        print_rows(rows, as_json, "{due}  {task:<24} {priority:<12} {market:<8} {phase:<15} {trigger}")


class _Calendar(click.Group):
    """`calendar NSE --from …` is `calendar show NSE --from …`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Calendar, subcommand_metavar="[show] [MARKET] --from D --until D | template YEAR [MARKET]")
def calendar() -> None:
    """Show a market's dates, or print a starter for a new year."""


@calendar.command()
@config_option
@json_option
@click.argument("market", required=False, shell_complete=market_names)
@click.option("--from", "start", required=True, metavar="D", help="First date.")
@click.option("--until", required=True, metavar="D", help="End, excluded.")
def show(config: Path | None, as_json: bool, market: str | None, start: str, until: str) -> None:
    """Show a market's dates, their phases, and the layer that says so."""
    from scheduler import offline

    rows = offline.calendar(settings_of(config), market, start, until)
    print_rows(
        rows if as_json else map(_calendar_line, rows), as_json, "{date}  {market:<8} {layer:<19} {what}"
    )


@calendar.command()
@config_option
@click.argument("year", type=click.IntRange(2000, 2199))
@click.argument("market", default="NSE", shell_complete=market_names)
def template(config: Path | None, year: int, market: str) -> None:
    """Print the holidays of YEAR as a markets.yaml to fill in."""
    from scheduler import offline

    click.echo(offline.template(settings_of(config), year, market), nl=False)


@click.group()
def market() -> None:
    """Change a market's date as an operator, or show what was changed."""


@market.command()
@config_option
@click.argument("market", shell_complete=market_names)
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
    outcome = amending.amend(settings_of(config), wish, SystemClock().now())
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

    rows = amending.amendments(settings_of(config))
    print_rows(rows, as_json, "{date}  {market:<8} {change}  ({by}, {at}) {note}")


@click.command()
@config_option
@json_option
@click.option(
    "--task", "tasks", multiple=True, metavar="N", shell_complete=task_names,
    help="Only this task; may be given again.",
)  # fmt: skip
@click.option("--from", "start", metavar="T", help="First due instant.")
@click.option("--until", metavar="T", help="End, excluded.")
@click.option(
    "--status", type=click.Choice(STATUSES, case_sensitive=False), metavar="S",
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
        settings_of(config), tasks=tasks, start=start, until=until, status=status, limit=last
    )
    print_rows(rows, as_json, "{due}  {task:<24} {attempt:>2} {status:<10} {reason:<12} x{count:<5} {error}")


@click.command()
@config_option
@json_option
@click.argument("name", shell_complete=task_names)
@click.option(
    "--at", metavar="T", help="The instant in question.  [default: now, by what the scheduler knows]"
)
def why(config: Path | None, as_json: bool, name: str, at: str | None) -> None:
    """Say why the task NAME does or does not run, or the market NAME is in its phase."""
    from scheduler import explain
    from scheduler.clock import SystemClock

    row = explain.why(settings_of(config), name, at, SystemClock().now())
    click.echo(as_line(row) if as_json else row["sentence"])


def _calendar_line(row: Mapping[str, Any]) -> Mapping[str, Any]:
    phases = ", ".join(f"{p['phase']} {p['start'][11:16]}-{p['end'][11:16]}" for p in row["phases"])
    return {**row, "what": " · ".join(part for part in (phases, row["reason"]) if part)}


DAEMON: Final = (run, rehearse)
QUESTIONS: Final = (check, plan, calendar, market, history, why)
