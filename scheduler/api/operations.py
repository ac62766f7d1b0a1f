"""What the API can be asked: each operation once, for the routes and for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple, TypeAlias, get_origin

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scheduler.api.bodies import answer, ends_with_client, peer, read
from scheduler.api.control import Peer
from scheduler.api.models.base import Model, Query


class Asked(NamedTuple):
    """A request, read and checked."""

    path: Mapping[str, str]
    query: Any  # of the operation's model
    body: Any  # likewise
    by: Peer
    request: Request


Answer: TypeAlias = Model | Response


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. ``changes``: it is more than looking."""

    method: str
    path: str
    summary: str
    handle: Callable[[Asked], Awaitable[Answer]]
    answer: type[Model] | str  # a model, or a media type
    query: type[Query] | None = None
    body: type[Model] | None = None
    changes: bool = False
    errors: tuple[HTTPStatus, ...] = ()  # beside those that any operation may answer with
    subject: str = ""

    async def perform(self, request: Request) -> Response:
        by = peer(request)
        if self.changes and not by.may_change:
            raise HTTPException(HTTPStatus.FORBIDDEN, "this connection may only look")
        query = None if self.query is None else _query(request, self.query)
        body = None if self.body is None else await read(request, self.body)
        with nullcontext() if self.changes else ends_with_client(request):
            found = await self.handle(Asked(request.path_params, query, body, by, request))
        return found if isinstance(found, Response) else answer(found)


def routes(operations: Iterable[Operation]) -> list[Route]:
    """One for each path, so that a wrong method is told of all the others."""
    paths: dict[str, dict[str, Operation]] = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method] = each
    return [Route(path, _endpoint(methods), methods=list(methods)) for path, methods in paths.items()]


def _endpoint(methods: Mapping[str, Operation]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await methods["GET" if request.method == "HEAD" else request.method].perform(request)

    return endpoint


def _query(request: Request, model: type[Query]) -> Query:
    """pydantic's ValidationError says what is wrong with it."""
    several = {
        field.alias or name
        for name, field in model.model_fields.items()
        if get_origin(field.annotation) is tuple
    }
    given = request.query_params
    values = {key: given.getlist(key) if key in several else given[key] for key in given}
    return model.model_validate(values)
