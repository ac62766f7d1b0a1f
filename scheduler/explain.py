"""``why``: the configuration, and what a scheduler left in its state directory, put to the core."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import tzinfo
from difflib import get_close_matches
from typing import Any

from scheduler.configuration import Configuration, FileLoader, Window, file_zone
from scheduler.core.messages import Instant, Record, Status
from scheduler.core.reasons import Known
from scheduler.core.why import INSTANTS, Explanation, why_market
from scheduler.core.why_task import why_task
from scheduler.errors import LedgerError, UsageError
from scheduler.ledger import read_history, read_remembered
from scheduler.lock import locked_by
from scheduler.settings import Settings
from scheduler.times import parse_time, to_iso


def why(settings: Settings, name: str, at: str | None, now: Instant) -> Mapping[str, Any]:
    """Why a task does or does not run, or a market is in its phase: ``sentence`` and the facts behind it.

    A task goes before a market of its name. Without ``at`` the question is about now, and about the
    scheduler that runs with this state directory.
    """
    zone = file_zone(settings.config_dir)
    t = now if at is None else parse_time(at, zone)
    configuration = FileLoader(settings)(Window.around(t))
    specs = {spec.name: spec for spec in configuration.specs}
    if name not in specs:
        table = _market(settings, name, configuration, Window.around(t)).tables[name]
        return _row(name, "market", t, why_market(table, t), table.zone)
    known = _known(settings, name, t, now, is_live=at is None)
    found = why_task(
        specs[name], t, configuration.zone, specs=specs, tables=configuration.tables, known=known
    )
    if known.scheduler is False:
        absent = f"no scheduler is running with {settings.state_dir}"
        found = found._replace(clauses=(*found.clauses, absent))
    return _row(name, "task", t, found, configuration.zone)


def _market(settings: Settings, name: str, configuration: Configuration, window: Window) -> Configuration:
    """The markets again with one that no task may use; UsageError when there is none."""
    if name in configuration.tables:
        return configuration
    try:
        return FileLoader(settings, markets_only=frozenset({name}))(window)
    except UsageError as error:
        close = get_close_matches(name, [spec.name for spec in configuration.specs], n=1)
        guess = f" (did you mean {close[0]!r}?)" if close else ""
        raise UsageError(f"no task is named {name!r}{guess}, and {error}") from None


def _known(settings: Settings, name: str, at: Instant, now: Instant, *, is_live: bool) -> Known:
    """What the ledger tells; of the future it tells nothing."""
    ledger = settings.state_dir / "ledger.db"
    lock = settings.state_dir / "lock"
    if is_live and lock.exists() and not os.access(lock, os.R_OK):
        raise LedgerError(f"{lock} cannot be read; ask as the scheduler's user, or with --at")
    scheduler = locked_by(settings.state_dir) is not None if is_live else None
    try:
        if at > now or not ledger.exists():
            return Known(scheduler=scheduler)
    except OSError as error:
        raise LedgerError(f"{ledger} cannot be read: {error.strerror}") from None
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
    return Known(last, read_remembered(ledger) if is_live else {}, scheduler)


def _row(name: str, kind: str, at: Instant, found: Explanation, zone: tzinfo) -> Mapping[str, Any]:
    facts = {"at": at, "sentence": found.sentence, **found.facts}
    return {"name": name, "kind": kind, **{key: _plain(key, value, zone) for key, value in facts.items()}}


def _plain(key: str, value: Any, zone: tzinfo) -> Any:
    """Instants as ISO 8601, however deep they lie."""
    if isinstance(value, Mapping):
        return {inner: _plain(inner, each, zone) for inner, each in value.items()}
    return to_iso(value, zone) if key in INSTANTS and isinstance(value, int) else value
