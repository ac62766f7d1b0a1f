"""One HTTP request with a deadline over all of it: looking up the name, TLS, a server that dribbles.

Only the status is read. Nothing is followed: a redirect is a failure that says so. A URL may hold secrets,
so that errors name none.
"""

from __future__ import annotations

import asyncio
import base64
import contextvars
import re
import socket
import ssl
import threading
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from scheduler.alerts.letters import SendError

DEADLINE = 10.0  # seconds
_REFUSED = frozenset({400, 413, 422})  # statuses that are about the letter and not about the moment
_SAFE = "/%:@!$&'()*+,;=~?"  # characters of a path or query that stay as they are
_LONGEST_LINE = 8_192  # bytes; asyncio's own limit is larger
_MOST_LINES = 100  # of interim answers
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])\b")


class Place(NamedTuple):
    """A URL, taken apart."""

    host: str
    port: int
    is_secure: bool
    path: str  # with the query
    authorization: str  # "" without
    name: str  # for the log: the host, and the port where it is not the usual one

    @classmethod
    def of(cls, url: str) -> Place:
        """Of a URL that the configuration has checked."""
        parts = urlsplit(url)
        is_secure = parts.scheme == "https"
        usual = 443 if is_secure else 80
        host, port = parts.hostname or "", parts.port or usual
        path = quote(parts.path or "/", safe=_SAFE) + (
            f"?{quote(parts.query, safe=_SAFE)}" if parts.query else ""
        )
        user = ""
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            user = base64.b64encode(pair.encode()).decode()
        written = f"[{host}]" if ":" in host else host
        name = written if port == usual else f"{written}:{port}"
        return cls(host, port, is_secure, path, f"Basic {user}" if user else "", name)


class _Found(NamedTuple):
    """What the look-up of a name gave."""

    addresses: tuple[str, ...]
    problem: str  # where there is none
    tls: ssl.SSLContext | None  # for a secure place


class Client:
    """Sends requests to one URL, one after the other."""

    def __init__(self, url: str, agent: str, deadline: float = DEADLINE) -> None:
        self._place = Place.of(url)
        self.name = self._place.name
        self._agent = agent
        self._deadline = deadline
        self._tls: ssl.SSLContext | None = None  # once made
        self._lookup: asyncio.Future[_Found] | None = None  # under way

    async def send(self, method: str, body: bytes = b"") -> None:
        """Done when the answer is 2xx; SendError otherwise."""
        try:
            async with asyncio.timeout(self._deadline):
                status = await self._status(self._request(method, body))
        except TimeoutError:
            raise SendError(f"no answer within {self._deadline:g} s") from None
        except ssl.SSLCertVerificationError as problem:
            raise SendError(f"its certificate is not accepted: {problem.verify_message}") from None
        except OSError as problem:
            raise SendError(problem.strerror or type(problem).__name__) from None
        except (EOFError, ValueError, asyncio.LimitOverrunError):
            raise SendError("it does not answer in HTTP") from None
        if 300 <= status < 400:
            raise SendError(f"it answers {status}, a redirect, which is not followed")
        if not 200 <= status < 300:
            raise SendError(f"it answers {status}", refused=status in _REFUSED)

    def _request(self, method: str, body: bytes) -> bytes:
        place = self._place
        host = place.name if ":" in place.host else place.name.encode("idna").decode()
        lines = [
            f"{method} {place.path} HTTP/1.1",
            f"Host: {host}",
            f"User-Agent: {self._agent}",
            "Accept: */*",
            "Connection: close",
        ]
        if place.authorization:
            lines.append(f"Authorization: {place.authorization}")
        if method == "POST":
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode("ascii") + body

    async def _status(self, request: bytes) -> int:
        reader, writer = await self._connect()
        try:
            writer.write(request)
            with suppress(ConnectionError):  # it may have answered before it closed
                await writer.drain()
            return await _read_status(reader)
        finally:
            writer.transport.abort()  # no farewell: who dribbles would dribble that, too

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To the first of its addresses that takes us; each gets its share of the time that is left."""
        place = self._place
        addresses, missing, self._tls = await self._found()
        if not addresses:
            raise SendError(missing)
        problem: OSError | None = None
        for address in addresses:
            try:
                async with asyncio.timeout(self._deadline / len(addresses)):
                    return await asyncio.open_connection(
                        address,
                        place.port,
                        ssl=self._tls,
                        server_hostname=place.host if place.is_secure else None,
                        limit=_LONGEST_LINE,
                    )
            except OSError as error:  # a TimeoutError is one
                problem = error
        assert problem is not None
        raise problem

    async def _found(self) -> _Found:
        """Looked up in a thread of its own: those of the loop may be full of what tasks hang in.

        A look-up cannot be ended. One that hangs is waited for again by the next request.
        """
        if self._lookup is None or self._lookup.done():
            loop = asyncio.get_running_loop()
            found: asyncio.Future[_Found] = loop.create_future()
            work = threading.Thread(
                target=_look_up, args=(self._place, self._tls, loop, found), name="alert-lookup", daemon=True
            )
            try:
                contextvars.Context().run(work.start)  # it is no leak of whoever waits for it
            except RuntimeError as problem:  # the limit of threads
                raise SendError(f"it cannot be looked up: {problem}") from None
            self._lookup = found
        return await asyncio.shield(self._lookup)


def _look_up(
    place: Place,
    tls: ssl.SSLContext | None,
    loop: asyncio.AbstractEventLoop,
    found: asyncio.Future[_Found],
) -> None:
    """Also reads the certificates that the host trusts, which takes a tenth of a second, and longer."""
    addresses: tuple[str, ...] = ()
    problem = "it has no address"
    try:
        if place.is_secure and tls is None:
            tls = ssl.create_default_context()
        infos = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
        addresses = tuple(dict.fromkeys(str(info[4][0]) for info in infos))
    except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
        problem = f"it cannot be looked up: {getattr(error, 'strerror', None) or error}"
    with suppress(RuntimeError):  # the loop has closed: nobody waits any more
        loop.call_soon_threadsafe(found.set_result, _Found(addresses, problem, tls))


async def _read_status(reader: asyncio.StreamReader) -> int:
    """The status of the final answer. EOFError or ValueError where it is none of HTTP."""
    for _ in range(_MOST_LINES):
        line = await reader.readuntil(b"\n")
        match = _STATUS.match(line)
        if match is None:
            break
        status = int(match[1])
        if status >= 200:
            return status
        for _ in range(_MOST_LINES):  # the header of an interim answer
            if not (await reader.readuntil(b"\n")).strip():
                break
    raise ValueError("not HTTP")
