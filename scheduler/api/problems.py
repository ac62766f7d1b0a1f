"""Errors as ``application/problem+json``, whoever finds them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from scheduler.api.models.problems import Complaint, Problem
from scheduler.core.wording import encodable
from scheduler.errors import (
    BusyError,
    ConfigurationError,
    OutsideTableError,
    SchedulerError,
    UnknownKeyError,
    UnknownNamespaceError,
    UnknownRunError,
    UnknownTaskError,
    UsageError,
)

_MEDIA_TYPE = "application/problem+json"
_RETRY_AFTER = 2  # seconds
_STATUS = {
    UnknownTaskError: HTTPStatus.NOT_FOUND,
    UnknownRunError: HTTPStatus.NOT_FOUND,
    UnknownNamespaceError: HTTPStatus.NOT_FOUND,
    UnknownKeyError: HTTPStatus.NOT_FOUND,
    ConfigurationError: HTTPStatus.UNPROCESSABLE_ENTITY,
    UsageError: HTTPStatus.UNPROCESSABLE_ENTITY,
    OutsideTableError: HTTPStatus.UNPROCESSABLE_ENTITY,
    BusyError: HTTPStatus.SERVICE_UNAVAILABLE,
}


def problem(status: int, detail: str, **more: Any) -> Response:
    """``detail`` is a sentence about this one case; ``more`` are further members of a ``Problem``."""
    body = _body(status, detail, **more)
    return Response(body, status, media_type=_MEDIA_TYPE)


def raw_problem(status: int, detail: str) -> bytes:
    """A whole answer, for a request that never was one."""
    body = _body(status, detail)
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {_MEDIA_TYPE}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


def _body(status: int, detail: str, **more: Any) -> bytes:
    found = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, **more)
    return found.model_dump_json(exclude_none=True).encode()


async def of_http(request: Request, error: Exception) -> Response:
    """No such path, not this method, and what the routes refuse."""
    assert isinstance(error, HTTPException)
    told = {404: "there is no such path", 405: "the path knows other methods"}.get(error.status_code)
    detail = f"{request.method} {request.url.path}: {told}" if told else error.detail
    answer = problem(error.status_code, detail)
    answer.headers.update(error.headers or {})
    return answer


async def of_scheduler(_: Request, error: Exception) -> Response:
    """The daemon cannot do what was asked."""
    status = _STATUS.get(type(error), HTTPStatus.CONFLICT)
    if isinstance(error, ConfigurationError):
        problems = tuple(encodable(str(each)) for each in error.problems)
        return problem(status, "the files were rejected; the old ones stay in force", problems=problems)
    answer = problem(status, encodable(str(error)))
    if isinstance(error, BusyError):
        answer.headers["retry-after"] = str(_RETRY_AFTER)
    return answer


async def of_validation(_: Request, error: Exception) -> Response:
    """The request's body or its query is not what is wanted."""
    assert isinstance(error, ValidationError)
    complaints = tuple(
        Complaint(at=".".join(map(str, each["loc"])), message=each["msg"])
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    )
    told = "; ".join(f"{each.at}: {each.message}" if each.at else each.message for each in complaints)
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, told, errors=complaints)


async def of_anything(_: Request, error: Exception) -> Response:
    """A mistake of ours; the log has its traceback."""
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}; the daemon's log has the rest")


async def of_departure(_: Request, __: Exception) -> Response:
    """The client went while it sent: nobody reads this."""
    return problem(HTTPStatus.BAD_REQUEST, "the request has no end")


HANDLERS = {
    HTTPException: of_http,
    SchedulerError: of_scheduler,
    ValidationError: of_validation,
    ClientDisconnect: of_departure,
    Exception: of_anything,
}
