"""What can be answered without a daemon: check, plan, calendar, history, init.

Each function yields what is to be printed: mappings with the keys of the command's contract.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

from scheduler import calendars
from scheduler.calendars import calendar_rows
from scheduler.codecheck import Code, read_code
from scheduler.configuration import ACCEPTED, Configuration, FileLoader, Window, file_zone
from scheduler.core.messages import Instant, Work
from scheduler.core.plan import counts, plan
from scheduler.errors import ConfigurationError, Problem, UsageError
from scheduler.executors import TargetError
from scheduler.executors.checking import check_target, misfits
from scheduler.ledger import read_history
from scheduler.marketfile import (
    markets_schema,
    parse_markets,
    read_markets,
    read_overlay,
    read_provisional,
)
from scheduler.reports import differences, unsettled
from scheduler.settings import Settings
from scheduler.taskfile import tasks_schema
from scheduler.times import parse_date, parse_time, to_iso

Row = Mapping[str, Any]


class Checked(NamedTuple):
    """A configuration whose files are right, and what was found beyond them."""

    configuration: Configuration
    problems: list[Problem]  # with the callables, each at its place in the files
    warnings: list[str]  # of the calendars, and of the callables' code


def check(settings: Settings, now: Instant) -> Checked:
    """Validate everything, import every callable, and read its code.

    ConfigurationError with every problem when the files themselves are wrong.
    """
    loader = FileLoader(settings)
    configuration = loader(Window.around(now))
    problems: list[Problem] = []
    codes = []
    for spec in configuration.specs:
        try:
            found = check_target(spec.work, settings.python_path)
        except TargetError as error:
            key = "run" if spec.work.target else "command"
            problems.append(loader.problem(spec.name, str(error), key))
            continue
        if found is None:
            continue
        given = list(spec.work.arguments)
        for name, message in misfits(found, given):
            path = ("with", name) if name else ("with",) if given else ("run",)
            problems.append(loader.problem(spec.name, f"with: {message}", *path, key=bool(given)))
        if found.file is not None:
            codes.append(Code(spec.name, found.file, found.name, found.isolation))
    for at, alert in enumerate(configuration.alerts):
        if alert.command:
            try:
                check_target(Work(argv=alert.command))
            except TargetError as error:
                problems.append(loader.alert_problem(at, f"command: {error}"))
    uncertain = [f"warning: {text}" for text in _uncertain(configuration, now)]
    return Checked(configuration, problems, uncertain + [str(problem) for problem in read_code(codes)])


def _uncertain(configuration: Configuration, now: Instant) -> Iterator[str]:
    """What the calendars rest on although it is not certain."""
    yield from configuration.warnings
    for day in unsettled(configuration, now):
        yield f"{day.fields['market']}: {day.fields['date']} is not settled: {day.fields['reason']}"


def changes_since_accepted(settings: Settings, new: Configuration, now: Instant) -> list[str] | None:
    """What a reload would change, in runs; None when there is nothing to compare with."""
    accepted = settings.state_dir / ACCEPTED
    if not accepted.is_dir():
        return None
    old = FileLoader(settings, directory=accepted, amendments=accepted)(Window.around(now))
    return differences(old, new, now).lines()


def planned(
    settings: Settings, start: str, until: str, tasks: Collection[str], *, count: bool
) -> Iterator[Row]:
    """Every clock-driven run due in ``[start, until)``; with ``count`` how many of each task."""
    zone = file_zone(settings.config_dir)
    first, last = parse_time(start, zone), parse_time(until, zone)
    if last < first:
        raise UsageError(f"--until {until} is before --from {start}")
    configuration = FileLoader(settings)(Window.of(first, last))
    known = {spec.name for spec in configuration.specs}
    for name in tasks:
        if name not in known:
            raise UsageError(f"no task is named {name!r}; there are {', '.join(sorted(known))}")
    specs = [spec for spec in configuration.specs if not tasks or spec.name in tasks]
    if count:
        for task, number in sorted(counts(specs, configuration.tables, first, last).items()):
            yield {"task": task, "count": number}
        return
    for run in plan(specs, configuration.tables, first, last):
        yield {
            "due": to_iso(run.due, zone),
            "task": run.task,
            "priority": run.priority.label,
            "market": run.market,
            "phase": run.phase,
            "session": run.session,
            "trigger": run.trigger,
            **_doubt(assumed=run.assumed),
        }


def calendar(settings: Settings, market: str | None, start: str, until: str) -> Iterator[Row]:
    """Each date of a market in ``[start, until)`` with its phases."""
    first, last = parse_date(start), parse_date(until)
    if last < first:
        raise UsageError(f"--until {until} is before --from {start}")
    if last == first:
        return
    loader = FileLoader(settings, markets_only=frozenset({market} if market else ()))
    configuration = loader(Window(first, last - timedelta(days=1)))
    table = configuration.tables[market or configuration.default_market]
    yield from calendar_rows(table, first, last - timedelta(days=1))


def template(settings: Settings, year: int, market: str) -> str:
    """A starter for the holidays of a year. ConfigurationError when markets.yaml is wrong."""
    markets = read_markets(settings.config_dir)
    if markets.problems and market in read_overlay().markets:
        markets = parse_markets("markets: {}")  # what is printed is likely to take the file's place
    if markets.problems:
        raise ConfigurationError(list(markets.problems))
    return calendars.template(markets, market, year, read_provisional())


def history(
    settings: Settings,
    *,
    tasks: Collection[str],
    start: str | None,
    until: str | None,
    status: str | None,
    limit: int | None,
) -> Iterator[Row]:
    """The ledger's rows, by due; read-only, whether or not a daemon is up."""
    zone = file_zone(settings.config_dir)
    bounds = {}
    if start is not None:
        bounds["since"] = parse_time(start, zone)
    if until is not None:
        bounds["until"] = parse_time(until, zone)
    rows = read_history(
        settings.state_dir / "ledger.db",
        tasks=list(tasks) or None,
        status=[status.lower()] if status else None,
        newest_first=limit is not None,
        limit=limit,
        **bounds,
    )
    for row in reversed(list(rows)) if limit is not None else rows:
        yield {
            "task": row.task,
            "due": to_iso(row.due, zone),
            "run_id": row.run_id,
            "attempt": row.attempt,
            "status": row.status,
            "reason": row.reason,
            "started": None if row.started is None else to_iso(row.started, zone),
            "ended": None if row.ended is None else to_iso(row.ended, zone),
            "error": row.error,
            "count": row.count,
            **_doubt(assumed=row.assumed),
        }


def _doubt(*, assumed: bool) -> Row:
    """The key that only the runs of assumed days have."""
    return {"assumed": True} if assumed else {}


def schema(which: str) -> str:
    """The JSON Schema of tasks.yaml or markets.yaml, for editors."""
    return json.dumps(tasks_schema() if which == "tasks" else markets_schema(), indent=2) + "\n"


def init(directory: Path) -> list[Path]:
    """Write a starter configuration; nothing that exists is touched. The files written."""
    starter = {file.name: file.read_bytes() for file in _starter().iterdir() if file.is_file()}
    starter |= {f"{which}.schema.json": schema(which).encode() for which in ("tasks", "markets")}
    existing = sorted(name for name in starter if (directory / name).exists())
    if existing:
        raise ConfigurationError(f"{directory} already has {', '.join(existing)}; nothing was written")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in sorted(starter.items()):
            (directory / name).write_bytes(content)
    except OSError as error:
        raise ConfigurationError(f"{directory} cannot be written: {error.strerror}") from None
    return [directory / name for name in sorted(starter)]


def _starter() -> Traversable:
    """In a wheel the starter configuration lies in the package, in a checkout it is ``config/``."""
    package = resources.files("scheduler")
    inside = package / "starter"
    return inside if inside.is_dir() else Path(str(package)).parent / "config"
