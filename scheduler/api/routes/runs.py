"""The runs, on record and alive."""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import Response

from scheduler.api.control import Control
from scheduler.api.models.runs import (
    ActiveRuns,
    Cancelled,
    ReasonQuery,
    RunRow,
    Runs,
    RunsQuery,
    Timeline,
    TimelineQuery,
)
from scheduler.api.operations import Asked, Operation


def operations(control: Control) -> list[Operation]:
    runs = control.runs

    async def rows(asked: Asked) -> Runs:
        return await runs.rows(asked.query)

    async def active(_: Asked) -> ActiveRuns:
        return runs.active()

    async def one(asked: Asked) -> RunRow:
        return await runs.row(asked.path["id"])

    async def cancel(asked: Asked) -> Cancelled:
        return await runs.cancel(asked.path["id"], asked.by, asked.query.reason)

    async def timeline(asked: Asked) -> Response:
        return Response(await runs.timeline(asked.query), media_type="application/json")

    unknown = HTTPStatus.NOT_FOUND
    return [
        Operation("GET", "/api/runs", "What became of runs.", rows, Runs, query=RunsQuery),
        Operation("GET", "/api/runs/active", "The runs that are alive.", active, ActiveRuns),
        Operation("GET", "/api/runs/{id}", "One run.", one, RunRow, errors=(unknown,)),
        Operation("DELETE", "/api/runs/{id}", "Cancel it.", cancel, Cancelled, query=ReasonQuery,
                  changes=True, errors=(unknown, HTTPStatus.CONFLICT)),
        Operation("GET", "/api/timeline", "A day as a picture wants it.", timeline, Timeline,
                  query=TimelineQuery),
    ]  # fmt: skip
