"""The commands by which an operator has the running daemon do something."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from scheduler.cli import sentences
from scheduler.cli.common import (
    PRIORITIES,
    F,
    Row,
    as_line,
    client_of,
    json_option,
    live_options,
    print_lines,
    reason_option,
)
from scheduler.cli.completion import active_runs, market_names, task_names
from scheduler.errors import SchedulerError, UsageError

if TYPE_CHECKING:
    from scheduler.client import Client, Happenings

_CANCELLED_FIRST: Final = ("running", "ending", "queued", "lingering")
_UNDER_WAY: Final = frozenset({"queued", "running"})
_RUN_ID: Final = re.compile(r"-(\d{8}T\d{6})(?:\.(\d{9}))?Z(?:~(\d+))?$", re.ASCII)


def operator_options(command: F) -> F:
    return live_options(json_option(reason_option(command)))


def selectors(command: F) -> F:
    """Which tasks are meant."""
    for option in (
        click.option("--all", "everything", is_flag=True, help="All tasks."),
        click.option(
            "--market", metavar="M", shell_complete=market_names, help="The tasks that go by this market."
        ),
        click.option(
            "--priority", type=click.Choice(PRIORITIES), metavar="P", help="The tasks of this priority."
        ),
        click.argument("tasks", nargs=-1, metavar="[TASK]...", shell_complete=task_names),
    ):
        command = option(command)
    return command


@click.command("run-now")
@operator_options
@click.argument("task", shell_complete=task_names)
@click.option("--wait", is_flag=True, help="Until the run has ended; fails if it did not complete.")
def run_now(timeout: float, as_json: bool, reason: str, task: str, wait: bool) -> int:
    """Run TASK now, whatever the calendar says."""
    client = client_of(timeout)
    if not wait:
        return _ran(client.run_now(task, reason), as_json)
    with closing(client.events(tasks=[task], level="critical", runs=True)) as happenings:
        answer = client.run_now(task, reason)
        failed = _ran(answer, as_json)
        return failed or _awaited(happenings, task, answer["run_id"], as_json)


def _ran(answer: Row, as_json: bool) -> int:
    """1 when there is no run."""
    is_skipped = answer["outcome"] == "skipped"
    if is_skipped and not as_json:
        raise SchedulerError(sentences.ran_now(answer))
    print_lines([as_line(answer) if as_json else sentences.ran_now(answer)])
    return int(is_skipped)


def _awaited(happenings: Happenings, task: str, run_id: str, as_json: bool) -> int:
    """1 when the run did not complete."""
    due, attempt = _meaning(run_id)
    run = next(data for name, data in happenings if name == "run" and _is_end(data, task, due, attempt))
    is_completed = run["status"] == "completed"
    if not is_completed and not as_json:
        raise SchedulerError(sentences.ended(run))
    print_lines([as_line(run) if as_json else sentences.ended(run)])
    return int(not is_completed)


def _is_end(run: Row, task: str, due: datetime, attempt: int) -> bool:
    """Whether this is the outcome of that due: skipped or missed it has another id, or is one of several."""
    if run["task"] != task or run["status"] in _UNDER_WAY or 0 < run["attempt"] < attempt:
        return False
    first, last = run["due"], run["last_due"] or run["due"]
    return datetime.fromisoformat(first) <= due <= datetime.fromisoformat(last)


def _meaning(run_id: str) -> tuple[datetime, int]:
    """Due, to the microsecond as times are told, and attempt."""
    found = _RUN_ID.search(run_id)
    assert found is not None
    due = datetime.fromisoformat(f"{found[1]}.{(found[2] or '')[:6]:0<6}+00:00")
    return due, int(found[3] or 1)


@click.command()
@operator_options
@click.argument("task", shell_complete=task_names)
@click.option("--from", "start", metavar="T", help="First due.")
@click.option("--until", metavar="T", help="End of the dues, excluded.")
@click.option("--stop", is_flag=True, help="Make no more of the runs that were asked for.")
def backfill(
    timeout: float, as_json: bool, reason: str, task: str, start: str | None, until: str | None, stop: bool
) -> None:
    """Make TASK's runs of the past that did not complete, the oldest first, one at a time."""
    client = client_of(timeout)
    if stop:
        if start or until:
            raise UsageError("--stop goes without --from and --until")
        answer, said = client.end_backfill(task, reason), f"{task}: no more runs of the past are made"
    else:
        if not start or not until:
            raise UsageError("both --from and --until are needed, or --stop")
        answer = client.backfill(task, start, until, reason)
        said = sentences.backfilling(answer)
    print_lines([as_line(answer) if as_json else said])


@click.command()
@operator_options
@selectors
@click.option(
    "--until", metavar="T", help="When the pause ends by itself: a time, or HH:MM of today.  [default: never]"
)
def pause(timeout: float, as_json: bool, reason: str, until: str | None, **wanted: Any) -> None:
    """Start tasks no more, until they are resumed or a time has come.

    A run that is under way goes on; that of a task with `keep_running` is ended.
    """
    answer = client_of(timeout).pause(_selection(**wanted), until, reason)
    print_lines([as_line(answer)] if as_json else sentences.paused(answer))


@click.command()
@operator_options
@selectors
def resume(timeout: float, as_json: bool, reason: str, **wanted: Any) -> None:
    """End the parking, crash loop or pause of tasks."""
    answer = client_of(timeout).resume(_selection(**wanted), reason)
    print_lines(as_line(each) if as_json else sentences.resumed(each) for each in answer["tasks"])
    if not answer["tasks"]:
        click.echo("none of these tasks is parked, crash-looping or paused", err=True)


def _selection(tasks: Sequence[str], priority: str | None, market: str | None, everything: bool) -> Row:
    found: dict[str, Any] = {}
    if tasks:
        found["tasks"] = list(tasks)
    if priority is not None:
        found["priority"] = priority
    if market is not None:
        found["market"] = market
    if everything:
        found["all"] = True
    if len(found) != 1:
        raise UsageError("name tasks, or give exactly one of --priority, --market and --all")
    return found


@click.command()
@operator_options
@click.argument("task", shell_complete=task_names)
def restart(timeout: float, as_json: bool, reason: str, task: str) -> None:
    """End TASK's run and start it again."""
    answer = client_of(timeout).restart(task, reason)
    print_lines([as_line(answer) if as_json else sentences.restarted(answer)])


@click.command()
@operator_options
@click.argument("run", shell_complete=active_runs)
def cancel(timeout: float, as_json: bool, reason: str, run: str) -> None:
    """End RUN: the id of a run, or a task's name: its run that runs is meant, else the one that waits."""
    client = client_of(timeout)
    answer = client.cancel(_meant(client, run), reason)
    print_lines([as_line(answer) if as_json else f"{answer['run_id']} is being cancelled"])


def _meant(client: Client, run: str) -> str:
    """The id of the run. UnknownTaskError, or SchedulerError where there is none."""
    if run != run.lower():  # no name of a task, but every run's id has capitals
        return run
    found = [each for each in client.active_runs()["runs"] if each["task"] == run]
    if found:
        return str(min(found, key=lambda each: _CANCELLED_FIRST.index(each["state"]))["run_id"])
    client.task(run)
    raise SchedulerError(f"no run of {run} is active")


@click.command()
@operator_options
def reload(timeout: float, as_json: bool, reason: str) -> None:
    """Have the running daemon take the files as they are now, and say what that changes.

    Returns when they are in force. Rejected files are exit status 78, and the old ones stay in force.
    """
    answer = client_of(timeout).reload(reason)
    for warning in answer["warnings"]:
        click.echo(f"warning: {warning}", err=True)
    print_lines([as_line(answer)] if as_json else sentences.reloaded(answer))


COMMANDS: Final = (run_now, pause, resume, restart, cancel, backfill, reload)
