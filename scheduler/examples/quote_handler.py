"""What the quote server answers.

``GET /prices?at=T`` and ``GET /news?at=T``: the replayed day as of T, an ISO 8601 time with its offset.
The asking task sends its own ``due``, so the replay follows the scheduler's clock, shifted or not.
``GET /stats``: what was asked so far.
``POST /prices?fault=error`` (or ``timeout``, ``malformed``): spoil the next answer of that path.
"""

from __future__ import annotations

import json
from datetime import datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from scheduler.examples.faults import FAULTS

if TYPE_CHECKING:
    from scheduler.examples.quote_server import QuoteServer

HANG = 30.0  # seconds that a "timeout" keeps its caller waiting, if the server lives that long


class QuoteHandler(BaseHTTPRequestHandler):
    """One request."""

    server: QuoteServer
    timeout = 2.0  # seconds that a silent or slow client may take

    def do_GET(self) -> None:
        """Answer with prices, news or statistics, unless a fault was ordered."""
        parts = urlsplit(self.path)
        if parts.path == "/stats":
            self._answer(self.server.faults.stats())
            return
        replay = self.server.replay
        ask = {"/prices": replay.prices_at, "/news": replay.news_at}.get(parts.path)
        if ask is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            data = ask(datetime.fromisoformat(dict(parse_qsl(parts.query))["at"]))
        except (KeyError, ValueError):
            self.send_error(HTTPStatus.BAD_REQUEST, "at=T is missing or not an ISO 8601 time")
            return
        fault = self.server.faults.of_request(parts.path)
        if fault == "error":
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
        elif fault == "timeout":
            self.server.closing.wait(HANG)
        else:
            self._answer(data, spoil=fault == "malformed")

    def do_POST(self) -> None:
        """Order a fault."""
        parts = urlsplit(self.path)
        fault = dict(parse_qsl(parts.query)).get("fault", "")
        if fault not in FAULTS:
            self.send_error(HTTPStatus.BAD_REQUEST, f"fault is one of {', '.join(FAULTS)}")
            return
        self.server.faults.order(parts.path, fault)
        self._answer({"fault": fault})

    def _answer(self, data: object, *, spoil: bool = False) -> None:
        body = json.dumps(data).encode()
        if spoil:
            body = body[: len(body) // 2]
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: what the askers make of the answers is what belongs into the log."""
