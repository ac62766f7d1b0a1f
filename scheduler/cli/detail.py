"""All about one task, drawn by rich."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Group
from rich.table import Table
from rich.text import Text

from scheduler.cli.common import Row
from scheduler.cli.moments import took_of
from scheduler.cli.tables import STATES, STATUSES, plain_table
from scheduler.core.durations import format_duration
from scheduler.render import printable


def task_view(detail: Row, notice: str = "") -> Group:
    """``notice`` goes before all else."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for key, text in _facts(detail):
        grid.add_row(key, text)
    above = [Text(notice, "bold white on red")] if notice else []
    return Group(*above, grid, Text(), _runs(detail["runs"]))


def _facts(detail: Row) -> Iterator[tuple[str, Text]]:
    status, definition = detail["status"], detail["definition"]
    yield "task", Text(status["task"], "bold")
    yield "", Text(f"{status['priority']} · {status['market']} · {status['trigger']}")
    yield "work", Text(printable(_work(definition["work"])))
    yield "rules", Text(" · ".join(_rules(definition)))
    yield "state", _state(status)
    if status["trouble"]:
        yield "trouble", Text(printable(status["trouble"]), "bold red")
    yield "why", Text(printable(detail["why"]))
    if detail["coming"]:
        yield "due", Text(", ".join(_dates_once(detail["coming"])))
    yield "success", Text(_success(status))


def _work(work: Row) -> str:
    """``module:callable (process) with url``, or the program and its arguments."""
    names = [*work["arguments"], *work["env"]]
    given = f" with {', '.join(names)}" if names else ""
    how = f" ({work['isolation'].lower()})" if work["isolation"] else ""
    return (work["target"] or " ".join(work["argv"])) + how + given


def _rules(definition: Row) -> Iterator[str]:
    if definition["timeout"] is not None:
        yield f"timeout {format_duration(definition['timeout'])}"
    yield f"grace {format_duration(definition['stop_grace'])}"
    yield f"catch-up {format_duration(definition['catchup'])}"
    yield f"overlap {definition['overlap'].lower().replace('_', '-')}"
    restart = definition["restart"]
    if restart["policy"] == "never":
        yield "restart never"
    else:
        burst = f"{restart['burst']} in {format_duration(restart['window'])}"
        yield f"restart {restart['policy']}, after {burst} {restart['then'].replace('_', ' ')}"
    if definition["fresh_within"] is not None:
        yield f"fresh within {format_duration(definition['fresh_within'])}"


def _state(status: Row) -> Text:
    text = Text(status["state"], STATES.get(status["state"], ""))
    if status["since"]:
        text.append(f" since {_time(status['since'])}: {status['run_id']}", "not bold default")
    if status["paused_until"]:
        text.append(f" until {_time(status['paused_until'])}", "not bold default")
    return text


def _success(status: Row) -> str:
    parts = [_time(status["last_success"]) if status["last_success"] else "never, as far as is known"]
    parts += [status["freshness"]] if status["freshness"] else []
    parts.append(f"{_count(status['consecutive_failures'], 'failure')} in a row")
    parts.append(_count(status["restarts"], "restart"))
    return " · ".join(parts)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _runs(runs: Iterable[Row]) -> Table:
    """The newest first; errors in full."""
    table = plain_table("DUE", ">TRY", "STATUS", ">TOOK", "CAUSE", "WHY")
    table.columns[-1].no_wrap = False
    for run in runs:
        many = f" x{run['count']}" if run["count"] > 1 else ""
        table.add_row(
            _time(run["due"]),
            str(run["attempt"] or ""),
            Text(run["status"] + many, STATUSES.get(run["status"], "")),
            took_of(run),
            run["cause"],
            Text(_why(run), overflow="fold"),
        )
    return table


def _why(run: Row) -> str:
    """The reason only where the error does not say it already."""
    reason = "" if run["reason"] == "error" and run["error"] else run["reason"]
    return ": ".join(printable(part) for part in (reason, run["error"]) if part)


def _dates_once(times: Iterable[str]) -> Iterator[str]:
    """A date only where it is another one."""
    date = ""
    for time in times:
        yield time[11:19] if time[:10] == date else _time(time)
        date = time[:10]


def _time(time: str) -> str:
    return time[:19].replace("T", " ")
