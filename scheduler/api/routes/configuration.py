"""The files, and what they make: markets and the plan."""

from __future__ import annotations

from http import HTTPStatus

from scheduler.api.control import Control
from scheduler.api.models.files import Reloaded
from scheduler.api.models.runs import Plan, PlanQuery
from scheduler.api.models.system import Markets, MarketsQuery
from scheduler.api.models.tasks import ActRequest
from scheduler.api.operations import Asked, Operation


def operations(control: Control) -> list[Operation]:
    async def reload(asked: Asked) -> Reloaded:
        return await control.reload(asked.by, asked.body.reason)

    async def markets(asked: Asked) -> Markets:
        return control.markets(asked.query)

    async def plan(asked: Asked) -> Plan:
        return await control.runs.plan(asked.query)

    return [
        Operation(
            "POST", "/api/reload", "Take the files as they are now.", reload, Reloaded,
            body=ActRequest, changes=True, errors=(HTTPStatus.CONFLICT,),
        ),
        Operation("GET", "/api/markets", "The phases of the markets.", markets, Markets, query=MarketsQuery),
        Operation(
            "GET", "/api/plan", "Clock-driven runs that will be due.", plan, Plan, query=PlanQuery,
            errors=(HTTPStatus.NOT_FOUND,),
        ),
    ]  # fmt: skip
