"""Tasks, and what an operator may ask of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue, model_validator

from scheduler.api.models.base import Model, Reason, Time
from scheduler.api.models.runs import RunRow

StateWord = Literal[
    "waiting", "queued", "running", "backing-off", "crash-looping", "paused", "parked", "refused", "disabled"
]


class TaskStatus(Model):
    """How one task does."""

    task: str
    priority: Literal["critical", "important", "nice-to-have"]
    market: str
    trigger: str
    state: StateWord
    health: Literal["healthy", "backing-off", "crash-looping", "parked"]
    run_id: str | None = Field(description="of the active run")
    since: Time | None = Field(description="when the active run started")
    last: RunRow | None = Field(description="the latest run with an outcome")
    next: Time | None
    restarts: int = Field(description="since the daemon started")
    consecutive_failures: int
    last_success: Time | None
    freshness: Literal["fresh", "stale"] | None = Field(description="None without `fresh_within`")
    paused_until: Time | None = None
    trouble: str = Field(default="", description="why it does not do its work, in words")
    error: str = Field(default="", description="of the latest failure, until it has done well again")


class Tasks(Model):
    tasks: tuple[TaskStatus, ...] = Field(description="by priority and name")


class TaskDetail(Model):
    """All about one task."""

    status: TaskStatus
    why: str = Field(description="why it does or does not run now, in one sentence")
    definition: dict[str, JsonValue] = Field(description="what `env` and `with` say is hidden")
    runs: tuple[RunRow, ...] = Field(description="the latest, newest first")
    coming: tuple[Time, ...] = Field(description="the next times at which the clock makes it due")


class ActRequest(Model):
    """Something to be done, with the reason for the record."""

    reason: Reason = ""


class PauseRequest(ActRequest):
    until: str | None = Field(default=None, description="when it ends by itself; ISO 8601, or HH:MM of today")


class Selection(ActRequest):
    """Which tasks are meant: exactly one of these."""

    tasks: tuple[str, ...] = ()
    priority: Literal["critical", "important", "nice-to-have"] | None = None
    market: str | None = None
    all: bool = False

    @model_validator(mode="after")
    def _one(self) -> Selection:
        given = bool(self.tasks) + (self.priority is not None) + (self.market is not None) + self.all
        if given != 1:
            raise ValueError("exactly one of tasks, priority, market and all is wanted")
        return self


class PauseSelection(Selection):
    until: str | None = Field(default=None, description="when it ends by itself; ISO 8601, or HH:MM of today")


class Paused(Model):
    tasks: tuple[str, ...]
    until: Time | None
    by: str


class Resumed(Model):
    task: str
    ended: tuple[Literal["parked", "crash-looping", "paused"], ...]
    next: Time | None = Field(description="when it is due next")
    by: str


class ResumedAll(Model):
    tasks: tuple[Resumed, ...]
    by: str


class RanNow(Model):
    """A run by hand."""

    task: str
    run_id: str
    outcome: Literal["started", "queued", "skipped"]
    reason: str = Field(default="", description="why it was skipped")
    by: str


class Restarted(Model):
    task: str
    run_id: str | None = Field(description="the run that is ended to be started again; None: none was active")
    started: str | None = Field(default=None, description="the run that was started where none was active")
    by: str


class BackfillRequest(ActRequest):
    """Runs of the past that did not complete are made, the oldest first, one at a time."""

    from_: str = Field(alias="from", description="first due, ISO 8601")
    until: str = Field(description="end of the dues, excluded, ISO 8601")


class Backfilled(Model):
    task: str
    runs: int = Field(description="how many will be made")
    first: Time | None
    last: Time | None
    completed: int = Field(description="how many in that stretch have completed already")
    by: str


class BackfillEnded(Model):
    task: str
    by: str


class Act(Model):
    """Something that an operator did."""

    at: Time
    by: str
    action: str
    task: str
    reason: str
    detail: dict[str, JsonValue]


class Acts(Model):
    """Newest first."""

    acts: tuple[Act, ...]
