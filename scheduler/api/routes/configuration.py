"""The files."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scheduler.api.bodies import answer, peer
from scheduler.api.control import Control


def routes(control: Control) -> list[Route]:
    async def reload(request: Request) -> Response:
        return answer(await control.reload(peer(request)))

    return [Route("/api/reload", reload, methods=["POST"])]
