"""A stretch of time as a picture wants it: runs merged where a picture could not tell them apart."""

from __future__ import annotations

from pathlib import Path

from scheduler.api.models.runs import PlannedStretch, TimelineMark, TimelineQuery, TimelineRow
from scheduler.configuration import Configuration
from scheduler.core.messages import SECOND, Instant, TaskSpec, run_id
from scheduler.core.plan import outline
from scheduler.core.triggers import After
from scheduler.ledger import MergedRuns, read_timeline


def timeline_rows(
    configuration: Configuration,
    ledger: Path,
    window: tuple[Instant, Instant],
    now: Instant,
    wanted: TimelineQuery,
) -> list[TimelineRow]:
    """By priority and name; tasks that are no more come last. Reads the ledger."""
    start, until = window
    marks: dict[str, list[TimelineMark]] = {}
    for merged in read_timeline(ledger, start, until, max(1, (until - start) // wanted.buckets)):
        if not wanted.task or merged.task in wanted.task:
            marks.setdefault(merged.task, []).append(_mark(merged, start, now))
    specs = {spec.name: spec for spec in configuration.specs}
    ordered = sorted(specs.values(), key=lambda spec: (spec.priority, spec.name))
    found = [
        TimelineRow(
            task=spec.name, priority=spec.priority.label, market=spec.market,
            marks=tuple(marks.pop(spec.name, ())),
            planned=tuple(_planned(spec, specs, configuration, max(start, now), until, start)),
        )
        for spec in ordered
        if not wanted.task or spec.name in wanted.task
    ]  # fmt: skip
    found += [
        TimelineRow(task=task, priority="", market="", marks=tuple(left), planned=())
        for task, left in sorted(marks.items())
    ]
    return found


def _mark(merged: MergedRuns, start: Instant, now: Instant) -> TimelineMark:
    end = now if merged.end is None else merged.end
    return TimelineMark(
        start=_seconds(merged.start - start),
        end=_seconds(max(merged.start, end) - start),
        status=merged.status,  # type: ignore[arg-type]  # the ledger has no other words
        reason=merged.reason,
        count=merged.count,
        retried=merged.attempt > 1,
        run_id=run_id(merged.task, merged.due, merged.attempt),
    )


def _planned(
    spec: TaskSpec,
    specs: dict[str, TaskSpec],
    configuration: Configuration,
    start: Instant,
    until: Instant,
    zero: Instant,
) -> list[PlannedStretch]:
    """What comes after another task is planned with that."""
    if not spec.enabled:
        return []
    while isinstance(spec.trigger, After):
        spec = specs[spec.trigger.upstream]
    table = configuration.tables[spec.market]
    start, until = max(start, table.first), min(until, table.last)
    return [
        PlannedStretch(start=_seconds(first - zero), end=_seconds(last - zero), count=count)
        for first, last, count in outline(spec.trigger, table, start, until)
    ]


def _seconds(duration: int) -> float:
    return round(duration / SECOND, 3)
