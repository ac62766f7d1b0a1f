"""For those who watch: does it live, and is it ready."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scheduler.api.bodies import answer
from scheduler.api.control import Control


def routes(control: Control) -> list[Route]:
    async def healthz(_: Request) -> Response:
        return answer(control.health())

    async def readyz(_: Request) -> Response:
        state = control.readiness()
        return answer(state, HTTPStatus.OK if state.ready else HTTPStatus.SERVICE_UNAVAILABLE)

    return [Route("/healthz", healthz), Route("/readyz", readyz)]
