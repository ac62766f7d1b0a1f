"""Requests and answers as JSON, by their models."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from scheduler.api.control import Peer
from scheduler.api.models.base import Model

M = TypeVar("M", bound=Model)


async def read(request: Request, model: type[M]) -> M:
    """The body; none is as good as ``{}``. HTTPException, or pydantic's ValidationError."""
    body = await request.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and kind != "application/json":  # what a web page may not send elsewhere without being asked
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body has to be application/json")
    return model.model_validate_json(body or b"{}")


def answer(model: Model, status: int = HTTPStatus.OK) -> Response:
    return Response(model.model_dump_json(by_alias=True), status, media_type="application/json")


@contextmanager
def ends_with_client(request: Request) -> Iterator[None]:
    """What is done for one who asks is cancelled when he has gone."""
    task = asyncio.current_task()
    assert task is not None
    for_nobody: set[asyncio.Task[Any]] = request.state.for_nobody
    for_nobody.add(task)
    try:
        yield
    finally:
        for_nobody.discard(task)


def peer(request: Request) -> Peer:
    """Who asks."""
    known: Peer = request.state.peer
    return known
