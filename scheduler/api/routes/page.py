"""The dashboard: one page and what it loads, read once and kept in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources import files
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS: Final = {
    # Nothing from elsewhere, nothing inline, and no page of another site around it.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",  # kept, but asked about: after an upgrade no part is an old one
}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    kind: str
    tag: str

    def answer(self, request: Request) -> Response:
        headers = {**_HEADERS, "etag": self.tag}
        if self.tag in request.headers.get("if-none-match", ""):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(self.body, headers={**headers, "content-type": self.kind})


def routes() -> list[Route]:
    """`/`, and `/assets/{name}` for the files beside the page and no others."""
    known = _read()
    page = known.pop("index.html")

    async def index(request: Request) -> Response:
        return page.answer(request)

    async def asset(request: Request) -> Response:
        found = known.get(request.path_params["name"])
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return found.answer(request)

    return [Route("/", index), Route("/assets/{name}", asset)]


def _read() -> dict[str, _File]:
    found = {}
    for each in files("scheduler").joinpath("dashboard").iterdir():
        kind = _KINDS.get(each.name[each.name.rfind(".") :])
        if kind is not None:
            body = each.read_bytes()
            found[each.name] = _File(body, kind, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    return found
