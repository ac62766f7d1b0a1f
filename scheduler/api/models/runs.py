"""Runs: those on record, those alive, and what an operator makes of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, JsonValue

from scheduler.api.models.base import Model, Query, Reason, Time

StatusWord = Literal["queued", "running", "completed", "failed", "cancelled", "skipped", "missed"]


class RunRow(Model):
    """A row of the ledger: one attempt, or a stretch of runs that were missed or skipped for one reason."""

    task: str
    due: Time
    run_id: str
    attempt: int = Field(description="from 1; 0 for what was never started")
    status: StatusWord
    reason: str
    started: Time | None
    ended: Time | None
    error: str
    count: int = Field(description="more than 1: a stretch, from due to last_due")
    last_due: Time | None = None
    cause: str = Field(description="tick, catch-up, retry, interrupted, after, event, manual or backfill")
    assumed: bool = Field(default=False, description="what the market did on its day was only assumed")


class RunsQuery(Query):
    task: tuple[str, ...] = Field(default=(), description="only these tasks")
    from_: str | None = Field(default=None, alias="from", description="first due, ISO 8601")
    until: str | None = Field(default=None, description="end of the dues, excluded, ISO 8601")
    status: tuple[StatusWord, ...] = ()
    limit: int = Field(default=200, ge=1, le=10_000, description="the newest so many")


class Runs(Model):
    """Of the ledger, newest first."""

    runs: tuple[RunRow, ...]
    truncated: bool = Field(description="there are older ones")


class ActiveRun(Model):
    run_id: str
    task: str
    priority: str
    due: Time
    attempt: int
    cause: str
    state: Literal["queued", "running", "ending", "lingering"] = Field(
        description="lingering: timed out and could not be ended"
    )
    started: Time | None
    running_seconds: float | None
    long_running: bool


class ActiveRuns(Model):
    count: int
    runs: tuple[ActiveRun, ...]


class ReasonQuery(Query):
    reason: Reason = ""


class Cancelled(Model):
    run_id: str
    task: str
    by: str


class TimelineQuery(Query):
    from_: str = Field(alias="from", description="ISO 8601")
    until: str = Field(description="excluded, ISO 8601")
    task: tuple[str, ...] = ()
    buckets: int = Field(default=1_000, ge=10, le=4_000, description="into how many parts the time is cut")


class TimelineMark(NamedTuple):
    """Runs of one task, status and reason that began in the same bucket. An array: there are many."""

    start: Annotated[float, Field(description="seconds from the beginning of the timeline: of the first")]
    end: Annotated[float, Field(description="likewise: of the last; of what still runs, now")]
    status: StatusWord
    reason: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody asks a mark for
    retried: Annotated[bool, Field(description="the latest is an attempt after the first")]
    run_id: Annotated[str, Field(description="of the latest")]


class PlannedStretch(Model):
    """Coming runs of one task, as good as evenly spaced."""

    start: float = Field(description="seconds from the beginning of the timeline")
    end: float
    count: int


class TimelineRow(Model):
    task: str
    priority: str
    market: str
    marks: tuple[TimelineMark, ...]
    planned: tuple[PlannedStretch, ...]


class Timeline(Model):
    """A stretch of time as a picture wants it: what became of runs, and what is planned from now on."""

    from_: Time = Field(serialization_alias="from", validation_alias="from")
    until: Time
    now: Time
    rows: tuple[TimelineRow, ...] = Field(description="by priority and name")


class PlanQuery(Query):
    from_: str | None = Field(default=None, alias="from", description="ISO 8601; now if not given")
    until: str | None = Field(default=None, description="excluded, ISO 8601; a day later if not given")
    task: tuple[str, ...] = ()
    limit: int = Field(default=1_000, ge=1, le=10_000)


class PlannedRun(Model):
    due: Time
    task: str
    priority: str
    market: str
    phase: str
    session: str | None
    trigger: str
    assumed: bool = False


class Plan(Model):
    """Every clock-driven run that will be due, by due, priority and name."""

    runs: tuple[PlannedRun, ...]
    truncated: bool


class LegacyActive(Model):
    """`GET /tasks/active` of the system that this one replaces."""

    count: int
    tasks: tuple[dict[str, Any], ...]


class LegacyStatuses(Model):
    """`GET /api/tasks/all_status`, likewise."""

    success: Literal[True] = True
    active_tasks: dict[str, JsonValue]
    task_count: int
    timestamp: Time


class LegacyStatus(Model):
    """`GET /api/tasks/status/{run_id}`, likewise."""

    success: Literal[True] = True
    task_id: str
    status: dict[str, JsonValue]
    timestamp: Time


class LegacyCancelled(Model):
    """`DELETE /tasks/{run_id}`, likewise."""

    success: bool
