"""What every request goes through, whatever it asks."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scheduler.api.problems import problem


def in_turn(app: ASGIApp) -> ASGIApp:
    """One request begins in a turn of the loop, so that a flood holds up what is due no longer than one."""
    turn = asyncio.Lock()

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        async with turn:
            await asyncio.sleep(0)
        await app(scope, receive, send)

    return call


def says_that_it_stops(app: ASGIApp) -> ASGIApp:
    """Requests are cancelled when the daemon stops; whoever still waits is told."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await app(scope, receive, noting)
        except asyncio.CancelledError:  # of the request's own task, which ends here
            if not begun:
                answer = problem(HTTPStatus.SERVICE_UNAVAILABLE, "the scheduler is stopping")
                await answer(scope, receive, send)

    return call
