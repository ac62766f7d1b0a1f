"""For those who watch: does it live, is it ready, and how does it do."""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import Response

from scheduler.api.bodies import answer
from scheduler.api.control import Control
from scheduler.api.models.health import Health, Readiness
from scheduler.api.models.system import System
from scheduler.api.operations import Asked, Operation


def operations(control: Control) -> list[Operation]:
    async def healthz(_: Asked) -> Health:
        return control.health()

    async def readyz(_: Asked) -> Response:
        state = control.readiness()
        return answer(state, HTTPStatus.OK if state.ready else HTTPStatus.SERVICE_UNAVAILABLE)

    async def metrics(_: Asked) -> Response:
        text, kind = await control.metrics()
        return Response(text, headers={"content-type": kind})

    async def system(asked: Asked) -> Response:
        return Response(await control.system(asked.by), media_type="application/json")

    return [
        Operation("GET", "/healthz", "Does it live?", healthz, Health),
        Operation(
            "GET", "/readyz", "Is what is due started? 503 where it is not.", readyz, Readiness,
            errors=(HTTPStatus.SERVICE_UNAVAILABLE,),
        ),
        Operation("GET", "/metrics", "Metrics for Prometheus.", metrics, "text/plain"),
        Operation("GET", "/api/system/tasks", "All at a glance.", system, System),
    ]  # fmt: skip
