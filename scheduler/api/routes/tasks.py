"""The tasks."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scheduler.api.bodies import answer, peer, read
from scheduler.api.control import Control
from scheduler.api.models import ResumeRequest


def routes(control: Control) -> list[Route]:
    async def resume(request: Request) -> Response:
        wanted = await read(request, ResumeRequest)
        return answer(await control.resume(request.path_params["name"], peer(request), wanted.reason))

    return [Route("/api/tasks/{name}/resume", resume, methods=["POST"])]
