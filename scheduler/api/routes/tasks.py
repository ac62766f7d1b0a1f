"""The tasks."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from pydantic import Field
from starlette.responses import Response

from scheduler.api.control import Control, TaskControl
from scheduler.api.models.base import Query
from scheduler.api.models.runs import ReasonQuery
from scheduler.api.models.tasks import (
    ActRequest,
    Acts,
    Backfilled,
    BackfillEnded,
    BackfillRequest,
    Paused,
    PauseRequest,
    PauseSelection,
    RanNow,
    Restarted,
    Resumed,
    ResumedAll,
    Selection,
    TaskDetail,
    Tasks,
)
from scheduler.api.operations import Asked, Operation

_ONE: Final = "/api/tasks/{name}"
_UNKNOWN: Final = HTTPStatus.NOT_FOUND
_CANNOT: Final = HTTPStatus.CONFLICT


class ActsQuery(Query):
    limit: int = Field(default=100, ge=1, le=10_000)


def operations(control: Control) -> list[Operation]:
    return [*_looking(control.tasks), *_acting(control.tasks), *_acting_on_many(control.tasks)]


def _looking(tasks: TaskControl) -> list[Operation]:
    async def every(_: Asked) -> Response:
        return Response(await tasks.all(), media_type="application/json")

    async def one(asked: Asked) -> TaskDetail:
        return await tasks.detail(asked.path["name"])

    async def acts(asked: Asked) -> Acts:
        return await tasks.acts(asked.query.limit)

    return [
        Operation("GET", "/api/tasks", "Every task.", every, Tasks),
        Operation("GET", _ONE, "All about one task.", one, TaskDetail, errors=(_UNKNOWN,)),
        Operation("GET", "/api/acts", "What operators did.", acts, Acts, query=ActsQuery),
    ]


def _acting(tasks: TaskControl) -> list[Operation]:
    async def run(asked: Asked) -> RanNow:
        return await tasks.run_now(asked.path["name"], asked.by, asked.body.reason)

    async def pause(asked: Asked) -> Paused:
        body: PauseRequest = asked.body
        wanted = PauseSelection(tasks=(asked.path["name"],), until=body.until, reason=body.reason)
        return await tasks.pause(wanted, asked.by)

    async def resume(asked: Asked) -> Resumed:
        wanted = Selection(tasks=(asked.path["name"],), reason=asked.body.reason)
        (resumed,) = (await tasks.resume(wanted, asked.by)).tasks
        return resumed

    async def restart(asked: Asked) -> Restarted:
        return await tasks.restart(asked.path["name"], asked.by, asked.body.reason)

    async def backfill(asked: Asked) -> Backfilled:
        return await tasks.backfill(asked.path["name"], asked.body, asked.by)

    async def end_backfill(asked: Asked) -> BackfillEnded:
        return await tasks.end_backfill(asked.path["name"], asked.by, asked.query.reason)

    about: dict[str, Any] = {"changes": True, "errors": (_UNKNOWN, _CANNOT)}
    return [
        Operation("POST", f"{_ONE}/run", "Run it now, whatever the calendar says.", run, RanNow,
                  body=ActRequest, **about),
        Operation("POST", f"{_ONE}/pause", "Start it no more.", pause, Paused, body=PauseRequest, **about),
        Operation("POST", f"{_ONE}/resume", "End its pause, parking or crash loop.", resume, Resumed,
                  body=ActRequest, **about),
        Operation("POST", f"{_ONE}/restart", "End its run and start it again.", restart, Restarted,
                  body=ActRequest, **about),
        Operation("POST", f"{_ONE}/backfill", "Make the runs of the past that did not complete.",
                  backfill, Backfilled, body=BackfillRequest, **about),
        Operation("DELETE", f"{_ONE}/backfill", "Make no more of them.", end_backfill, BackfillEnded,
                  query=ReasonQuery, **about),
    ]  # fmt: skip


def _acting_on_many(tasks: TaskControl) -> list[Operation]:
    async def pause(asked: Asked) -> Paused:
        return await tasks.pause(asked.body, asked.by)

    async def resume(asked: Asked) -> ResumedAll:
        return await tasks.resume(asked.body, asked.by)

    about: dict[str, Any] = {"changes": True, "errors": (_UNKNOWN, _CANNOT)}
    return [
        Operation("POST", "/api/pause", "Pause many tasks.", pause, Paused, body=PauseSelection, **about),
        Operation("POST", "/api/resume", "Resume many tasks.", resume, ResumedAll, body=Selection, **about),
    ]
