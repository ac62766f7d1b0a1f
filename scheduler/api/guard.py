"""Who may come in: no rebound names, no other web sites, no strangers over TCP.

A browser lets any page send requests to any name. A page whose own name was made to point here (DNS
rebinding) may even read the answers, but cannot lie about that name; and a browser says on whose behalf
it asks. So a ``Host`` that is not ours and an ``Origin`` that is not that ``Host`` are turned away.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final, NamedTuple, TypeAlias

from starlette.types import ASGIApp, Receive, Scope, Send

from scheduler.api.problems import problem

Note: TypeAlias = Callable[[Scope, int, str], None]  # somebody was turned away: status, and why

_AUTHORITY: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(\d{1,5}))?", re.ASCII)
_DEFAULT_PORT: Final = {"http": "80", "https": "443"}
_OURS: Final = frozenset({"same-origin", "none"})  # none: somebody typed the address
_ONCE: Final = frozenset({b"host", b"origin", b"authorization"})  # headers that nobody sends twice
_NO_DATA: Final = frozenset({"/", "/healthz"})  # these, and what the page at / is made of
_ASSETS: Final = "/assets/"


class Door(NamedTuple):
    """What a listener asks of those who come in."""

    names: frozenset[str] = frozenset()  # of hosts, by which it is reached besides those of the loopback
    single_labels: bool = True  # names without a dot, which nobody can own in the DNS, are ours too
    token: str | None = None  # None: that somebody can connect says that he may
    may_change: bool = True


class Objection(NamedTuple):
    """Why somebody is turned away."""

    status: HTTPStatus
    detail: str
    headers: Mapping[str, str] = {}


def guarded(app: ASGIApp, door: Door, note: Note) -> ASGIApp:
    """The application for those who may come in; ``note`` is told of the others."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        objection = objection_to(scope, door)
        if objection is None:
            await app(scope, receive, send)
            return
        note(scope, objection.status, objection.detail)
        answer = problem(objection.status, objection.detail)
        answer.headers.update(objection.headers)
        await answer(scope, receive, send)

    return call


def objection_to(scope: Scope, door: Door) -> Objection | None:
    """What speaks against this request, if anything does."""
    headers: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        if name in headers and name in _ONCE:
            return Objection(HTTPStatus.BAD_REQUEST, f"there are two headers {name.decode('latin-1')}")
        headers[name] = value.decode("latin-1")
    host = headers.get(b"host")
    if host is None and scope["http_version"] != "1.0":
        return Objection(HTTPStatus.BAD_REQUEST, "there is no header host")
    if host is not None and not _is_ours(host, scope, door):
        return Objection(
            HTTPStatus.MISDIRECTED_REQUEST,
            f"this is not {host!r}; SCHEDULER_HOSTS may name what else the scheduler is reached by",
        )
    return _cross_site(scope, headers) or _unknown(scope, headers, door)


def _is_ours(host: str, scope: Scope, door: Door) -> bool:
    matched = _AUTHORITY.fullmatch(host.lower())
    if matched is None:
        return False
    name = matched[1].strip("[]").removesuffix(".")
    server = scope.get("server")
    if name == "localhost" or name.endswith(".localhost") or name in door.names:
        return True
    if server is not None and name == server[0]:  # the very address that was connected to
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return door.single_labels and "." not in name


def _cross_site(scope: Scope, headers: Mapping[bytes, str]) -> Objection | None:
    """Other web sites may at most open our page, which holds no data."""
    opens_page = (
        headers.get(b"sec-fetch-mode") == "navigate"
        and headers.get(b"sec-fetch-dest") == "document"
        and scope["method"] == "GET"
        and scope["path"] == "/"
    )
    if headers.get(b"sec-fetch-site", "none") not in _OURS and not opens_page:
        return Objection(HTTPStatus.FORBIDDEN, "this was asked on behalf of another web site")
    origin = headers.get(b"origin")
    if origin is None:
        return None
    scheme, _, authority = origin.lower().partition("://")
    default = f":{_DEFAULT_PORT.get(scheme, '')}"
    host = headers.get(b"host", "").lower()
    if authority and authority.removesuffix(default) == host.removesuffix(default):
        return None
    return Objection(
        HTTPStatus.FORBIDDEN,
        f"this was asked on behalf of {origin!r}, which is not {host!r}; a proxy has to pass Host on",
    )


def _unknown(scope: Scope, headers: Mapping[bytes, str], door: Door) -> Objection | None:
    path: str = scope["path"]
    if door.token is None or path in _NO_DATA or path.startswith(_ASSETS):
        return None
    kind, _, given = headers.get(b"authorization", "").partition(" ")
    if kind.lower() != "bearer":
        told, challenge = "a token is wanted: Authorization: Bearer TOKEN", "Bearer"
    elif hmac.compare_digest(given.strip().encode(), door.token.encode()):
        return None
    else:
        told, challenge = "this is not the token", 'Bearer error="invalid_token"'
    return Objection(HTTPStatus.UNAUTHORIZED, told, {"www-authenticate": challenge})
