"""A real HTTP server on a loopback port, for alerts to be sent to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """An HTTP server on a loopback port, and what it got. ``answer`` may be changed while it runs."""

    def __init__(self, port: int = 0) -> None:
        self.got: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] = status(204)
        self.released = threading.Event()  # at the end, for whoever hangs
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                with suppress(ConnectionError):
                    super().handle_one_request()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((self.command, self.path, dict(self.headers), body))
                receiver.answer(self)

            def do_GET(self) -> None:
                receiver.got.append((self.command, self.path, dict(self.headers), b""))
                receiver.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}/hook?token=secret"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def letters(self) -> list[dict[str, Any]]:
        return [json.loads(body) for method, _, _, body in self.got if method == "POST"]

    def hang(self, handler: BaseHTTPRequestHandler) -> None:
        """Never answer."""
        self.released.wait(60)

    def dribble(self, handler: BaseHTTPRequestHandler) -> None:
        """One byte of a status line now and then, so that no read ever times out."""
        for byte in b"HTTP/1.1 200 " + b"x" * 10_000:
            handler.wfile.write(bytes([byte]))
            if self.released.wait(0.01):
                return

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def status(number: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(number)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()

    return answer
