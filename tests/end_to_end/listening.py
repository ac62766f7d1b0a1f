"""A daemon that listens at a port, and what its tests ask it."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import closing, contextmanager

from tests.end_to_end.daemon import Desk

TOKEN = "the-token-of-the-tests"  # noqa: S105 - of a daemon that lives for a second


class Listening:
    """At any free port of the loopback."""

    def __init__(self, desk: Desk, **settings: str) -> None:
        token = desk.file("api-token")
        token.write_text(TOKEN + "\n", "utf-8")
        token.chmod(0o600)
        ours = {"SCHEDULER_LISTEN": "127.0.0.1:0", "SCHEDULER_TOKEN_FILE": str(token)}
        self.process = desk.run(**ours | settings)
        self.places: list[str] = self.process.wait_for("api.listening")["at"]
        self.port = int(self.places[-1].rpartition(":")[2])

    @contextmanager
    def answer(
        self, path: str, method: str = "GET", token: str = TOKEN, **headers: str
    ) -> Iterator[http.client.HTTPResponse]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, headers={"Authorization": f"Bearer {token}", **headers})
            yield connection.getresponse()

    def ask(self, path: str, method: str = "GET", token: str = TOKEN, **headers: str) -> int:
        """The status of the answer."""
        with self.answer(path, method, token, **headers) as response:
            response.read()
            return response.status
