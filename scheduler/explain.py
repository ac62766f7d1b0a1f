"""``why``: the configuration, and what a scheduler left in its state directory, put to the core."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import tzinfo
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from scheduler.configuration import ACCEPTED, Configuration, FileLoader, Window, differing_files, file_zone
from scheduler.core.messages import Instant, Record, Status
from scheduler.core.reasons import Known
from scheduler.core.why import INSTANTS, Explanation, why_market
from scheduler.core.why_task import why_task
from scheduler.errors import ConfigurationError, LedgerError, UsageError
from scheduler.ledger import read_history, read_remembered, read_under_way
from scheduler.lock import locked_by
from scheduler.settings import Settings
from scheduler.times import parse_time, to_iso


def why(settings: Settings, name: str, at: str | None, now: Instant) -> Mapping[str, Any]:
    """Why a task does or does not run, or a market is in its phase: ``sentence`` and the facts behind it.

    A task goes before a market of its name. Without ``at`` the question is about now, and about the
    scheduler that runs with this state directory. While one runs, the answer is by what is in force.
    """
    is_now = at is None
    is_running = _is_running(settings.state_dir, is_now=is_now)
    accepted = settings.state_dir / ACCEPTED
    goes_by = accepted if is_running and (accepted / "tasks.yaml").is_file() else None
    zone = file_zone(goes_by or settings.config_dir)
    t = now if at is None else parse_time(at, zone)
    window = Window.around(t)
    goes_by, configuration = _load(settings, goes_by, window)
    specs = {spec.name: spec for spec in configuration.specs}
    if name in specs:
        kind, zone = "task", configuration.zone
        known = _known(settings.state_dir / "ledger.db", name, t, now, is_running if is_now else None)
        found = why_task(specs[name], t, zone, specs=specs, tables=configuration.tables, known=known)
    else:
        table = _market(settings, goes_by, name, configuration, window).tables[name]
        kind, zone, found = "market", table.zone, why_market(table, t)
    remarks = [_since(settings, goes_by, window)] if goes_by is not None else []
    if kind == "task" and is_now and not is_running:
        remarks.append(f"no scheduler is running with {settings.state_dir}")
    found = found._replace(clauses=(*found.clauses, *filter(None, remarks)))
    return _row(name, kind, t, found, zone)


def _is_running(state: Path, *, is_now: bool) -> bool:
    """Whether a scheduler runs with this state directory. LedgerError when that cannot be told."""
    lock = state / "lock"
    try:
        is_hidden = lock.exists() and not os.access(lock, os.R_OK)
    except OSError:  # the directory is not ours to look into
        is_hidden = True
    if is_now and is_hidden:
        raise LedgerError(f"{lock} cannot be read; ask as the scheduler's user, or with --at")
    return not is_hidden and locked_by(state) is not None


def _load(settings: Settings, goes_by: Path | None, window: Window) -> tuple[Path | None, Configuration]:
    """The configuration, and the copy of the files in force that it is from, if it is."""
    if goes_by is not None:
        with suppress(ConfigurationError):  # a scheduler of another version runs by it
            return goes_by, _loader(settings, goes_by)(window)
    return None, FileLoader(settings)(window)


def _loader(settings: Settings, goes_by: Path | None, markets: frozenset[str] | None = None) -> FileLoader:
    return FileLoader(settings, directory=goes_by, amendments=goes_by, markets_only=markets)


def _since(settings: Settings, goes_by: Path, window: Window) -> str:
    """What became of the files since those in force were read."""
    changed = differing_files(settings.config_dir, goes_by)
    if not changed:
        return ""
    try:
        FileLoader(settings)(window)
    except ConfigurationError as error:
        what = f"the files in {settings.config_dir} are wrong ({error.problems[0]})"
    else:
        has = "has" if len(changed) == 1 else "have"
        what = f"{', '.join(changed)} in {settings.config_dir} {has} changed since"
    return f"{what}: this is by what is in force"


def _market(
    settings: Settings, goes_by: Path | None, name: str, configuration: Configuration, window: Window
) -> Configuration:
    """The markets again with one that no task may use; UsageError when there is none."""
    if name in configuration.tables:
        return configuration
    try:
        return _loader(settings, goes_by, frozenset({name}))(window)
    except UsageError as error:
        close = get_close_matches(name, [spec.name for spec in configuration.specs], n=1)
        guess = f" (did you mean {close[0]!r}?)" if close else ""
        raise UsageError(f"no task is named {name!r}{guess}, and {error}") from None


def _known(ledger: Path, name: str, at: Instant, now: Instant, scheduler: bool | None) -> Known:
    """What the ledger tells; of the future it tells nothing."""
    try:
        if at > now or not ledger.exists():
            return Known(scheduler=scheduler)
    except OSError as error:
        raise LedgerError(f"{ledger} cannot be read: {error.strerror}") from None
    is_now = scheduler is not None
    rows = read_history(ledger, tasks=[name], until=at + 1, newest_first=True, limit=1)
    last = next(
        (
            Record(
                row.task, row.due, row.attempt, Status(row.status), row.reason, row.started, row.ended,
                row.error, row.count, row.last_due,
            )
            for row in rows
        ),
        None,
    )  # fmt: skip
    running = read_under_way(ledger, name, at, is_now=is_now)
    return Known(last, read_remembered(ledger) if is_now else {}, scheduler, running)


def _row(name: str, kind: str, at: Instant, found: Explanation, zone: tzinfo) -> Mapping[str, Any]:
    facts = {"at": at, "sentence": found.sentence, **found.facts}
    return {"name": name, "kind": kind, **{key: _plain(key, value, zone) for key, value in facts.items()}}


def _plain(key: str, value: Any, zone: tzinfo) -> Any:
    """Instants as ISO 8601, however deep they lie."""
    if isinstance(value, Mapping):
        return {inner: _plain(inner, each, zone) for inner, each in value.items()}
    return to_iso(value, zone) if key in INSTANTS and isinstance(value, int) else value
