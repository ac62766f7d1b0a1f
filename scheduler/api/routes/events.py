"""What happens, as it happens: server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from scheduler.api.bodies import ends_with_client
from scheduler.api.control import Control
from scheduler.api.models.system import EventsQuery
from scheduler.api.operations import Asked, Operation

_CLOSED: Final = b"event: closed\ndata: {}\n\n"


class EventStream(Response):
    """Ends with an event ``closed``, so that a reader knows that it should come again later."""

    media_type = "text/event-stream"

    def __init__(self, request: Request, happenings: AsyncGenerator[tuple[str, str]]) -> None:
        super().__init__(headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._request = request
        self._happenings = happenings

    async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if self._request.method == "GET":  # whoever asks for the head wants no events
            await self._tell(send)
        await send({"type": "http.response.body", "body": _CLOSED, "more_body": False})

    async def _tell(self, send: Send) -> None:
        # It ends when the daemon stops, and the last words say so; or when nobody hears them, not only when
        # there is something to tell.
        with suppress(asyncio.CancelledError), ends_with_client(self._request):
            async with aclosing(self._happenings) as happenings:
                await _send(send, b": welcome\n\n")
                async for name, data in happenings:
                    told = f"event: {name}\ndata: {data}\n\n" if name else ": still here\n\n"
                    await _send(send, told.encode())


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
