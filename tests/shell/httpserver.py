"""A real HTTP server on a Unix socket that answers as it is told, and keeps what it was asked."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple


class Asked(NamedTuple):
    method: str
    target: str
    body: Any  # None: there was none


class Handler(BaseHTTPRequestHandler):
    """One request. ``answer`` is given it, and writes."""

    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        assert isinstance(self.server, Server)
        size = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(size)) if size else None
        asked = Asked(self.command, self.path, body)
        self.server.asked.append(asked)
        self.server.answer(asked, self)

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - the library's names

    def json(self, answer: Any, status: int = 200) -> None:
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def stream(self, *parts: str) -> None:
        """In chunks, as uvicorn does; then the connection ends."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in (*parts, ""):
            data = part.encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path, answer: Callable[[Asked, Handler], None]) -> None:
        super().__init__(str(path), Handler)
        self.answer = answer
        self.asked: list[Asked] = []


@contextmanager
def serving(path: Path, answer: Callable[[Asked, Handler], None]) -> Iterator[Server]:
    with Server(path, answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
