"""A stretch of time as a picture wants it: runs merged where a picture could not tell them apart.

A day of two hundred tasks has a hundred thousand marks, so its text is made here, in a thread, a row at a
time: as models, and on the loop, it would hold up everything for a second.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scheduler.api.models.runs import TimelineQuery
from scheduler.configuration import Configuration
from scheduler.core.messages import SECOND, Instant, TaskSpec, run_id
from scheduler.core.plan import outline
from scheduler.core.triggers import After
from scheduler.ledger import MergedRuns, check_wanted, read_timeline

Window = tuple[Instant, Instant]


def timeline_text(
    configuration: Configuration,
    ledger: Path,
    window: Window,
    now: Instant,
    wanted: TimelineQuery,
    iso: Callable[[Instant], str],
) -> bytes:
    """The JSON of a ``Timeline``: by priority and name, tasks that are no more last. Reads the ledger."""
    rows = ",".join(json.dumps(row) for row in _rows(configuration, ledger, window, now, wanted))
    head = {"from": iso(window[0]), "until": iso(window[1]), "now": iso(now)}
    return f'{json.dumps(head)[:-1]}, "rows": [{rows}]}}'.encode()


def _rows(
    configuration: Configuration, ledger: Path, window: Window, now: Instant, wanted: TimelineQuery
) -> Iterator[dict[str, Any]]:
    start, until = window
    ran = read_timeline(ledger, start, until, max(1, (until - start) // wanted.buckets))
    specs = {spec.name: spec for spec in configuration.specs}
    for spec in sorted(specs.values(), key=lambda spec: (spec.priority, spec.name)):
        check_wanted()
        merged = ran.pop(spec.name, [])
        if not wanted.task or spec.name in wanted.task:
            planned = _planned(spec, specs, configuration, max(start, now), until, start)
            about = {"task": spec.name, "priority": spec.priority.label, "market": spec.market}
            yield {**about, "marks": _marks(spec.name, merged, start, now), "planned": planned}
    for task, merged in sorted(ran.items()):
        check_wanted()
        if not wanted.task or task in wanted.task:
            marks = _marks(task, merged, start, now)
            yield {"task": task, "priority": "", "market": "", "marks": marks, "planned": []}


def _marks(task: str, merged: list[MergedRuns], start: Instant, now: Instant) -> list[tuple[Any, ...]]:
    """As ``TimelineMark`` has them."""
    return [
        (
            _seconds(begun - start),
            _seconds(max(begun, now if end is None else end) - start),
            status,
            reason,
            count,
            attempt > 1,
            run_id(task, due, attempt),
        )
        for status, reason, begun, end, count, due, attempt in merged
    ]


def _planned(
    spec: TaskSpec,
    specs: dict[str, TaskSpec],
    configuration: Configuration,
    start: Instant,
    until: Instant,
    zero: Instant,
) -> list[dict[str, float]]:
    """What comes after another task is planned with that."""
    if not spec.enabled:
        return []
    while isinstance(spec.trigger, After):
        spec = specs[spec.trigger.upstream]
    table = configuration.tables[spec.market]
    start, until = max(start, table.first), min(until, table.last)
    return [
        {"start": _seconds(first - zero), "end": _seconds(last - zero), "count": count}
        for first, last, count in outline(spec.trigger, table, start, until)
    ]


def _seconds(duration: int) -> float:
    return round(duration / SECOND, 3)
