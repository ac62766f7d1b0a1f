"""The tasks."""

from __future__ import annotations

from http import HTTPStatus

from pydantic import Field

from scheduler.api.control import Control
from scheduler.api.models.base import Query
from scheduler.api.models.tasks import (
    ActRequest,
    Acts,
    Backfilled,
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

_UNKNOWN = HTTPStatus.NOT_FOUND
_CANNOT = HTTPStatus.CONFLICT


class ActsQuery(Query):
    limit: int = Field(100, ge=1, le=10_000)


def operations(control: Control) -> list[Operation]:
    tasks = control.tasks

    async def every(_: Asked) -> Tasks:
        return tasks.all()

    async def one(asked: Asked) -> TaskDetail:
        return await tasks.detail(asked.path["name"])

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

    async def pause_many(asked: Asked) -> Paused:
        return await tasks.pause(asked.body, asked.by)

    async def resume_many(asked: Asked) -> ResumedAll:
        return await tasks.resume(asked.body, asked.by)

    async def acts(asked: Asked) -> Acts:
        return await tasks.acts(asked.query.limit)

    one_task = "/api/tasks/{name}"
    either = (_UNKNOWN, _CANNOT)
    return [
        Operation("GET", "/api/tasks", "Every task.", every, Tasks),
        Operation("GET", one_task, "All about one task.", one, TaskDetail, errors=(_UNKNOWN,)),
        Operation("POST", f"{one_task}/run", "Run it now, whatever the calendar says.", run, RanNow,
                  body=ActRequest, changes=True, errors=either),
        Operation("POST", f"{one_task}/pause", "Start it no more.", pause, Paused,
                  body=PauseRequest, changes=True, errors=either),
        Operation("POST", f"{one_task}/resume", "End its pause, parking or crash loop.", resume, Resumed,
                  body=ActRequest, changes=True, errors=either),
        Operation("POST", f"{one_task}/restart", "End its run and start it again.", restart, Restarted,
                  body=ActRequest, changes=True, errors=either),
        Operation("POST", f"{one_task}/backfill", "Make the runs of the past that did not complete.",
                  backfill, Backfilled, body=BackfillRequest, changes=True, errors=either),
        Operation("POST", "/api/pause", "Pause many tasks.", pause_many, Paused,
                  body=PauseSelection, changes=True, errors=either),
        Operation("POST", "/api/resume", "Resume many tasks.", resume_many, ResumedAll,
                  body=Selection, changes=True, errors=either),
        Operation("GET", "/api/acts", "What operators did.", acts, Acts, query=ActsQuery),
    ]  # fmt: skip
