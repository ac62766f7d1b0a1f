"""What happens, as it happens: server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from scheduler.api.control import Control
from scheduler.api.models.system import EventsQuery
from scheduler.api.operations import Asked, Operation

_CLOSED: Final = b"event: closed\ndata: {}\n\n"


class EventStream(Response):
    """Ends with an event ``closed``, so that a reader knows that it should come again later."""

    media_type = "text/event-stream"

    def __init__(self, request: Request, happenings: AsyncIterator[tuple[str, str]]) -> None:
        super().__init__(headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._request = request
        self._happenings = happenings

    async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            await _send(send, b": welcome\n\n")
            async for name, data in self._happenings:
                if await self._request.is_disconnected():
                    return
                await _send(
                    send, f"event: {name}\ndata: {data}\n\n".encode() if name else b": still here\n\n"
                )
        except asyncio.CancelledError:
            pass  # the daemon stops: the last words say so
        await send({"type": "http.response.body", "body": _CLOSED, "more_body": False})


async def _send(send: Send, text: bytes) -> None:
    await send({"type": "http.response.body", "body": text, "more_body": True})


def operations(control: Control) -> list[Operation]:
    async def events(asked: Asked) -> Response:
        wanted: EventsQuery = asked.query
        return EventStream(asked.request, control.events(wanted))

    return [
        Operation("GET", "/api/events", "What happens, as it happens.", events, "text/event-stream",
                  query=EventsQuery),
    ]  # fmt: skip
