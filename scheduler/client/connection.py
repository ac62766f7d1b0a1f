"""One question and its answer, as HTTP over a Unix socket. Whatever goes wrong becomes a sentence."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from scheduler.errors import ConfigurationError, NotReachableError, Problem, SchedulerError, UsageError

Answer: TypeAlias = Mapping[str, Any]


class Connection(http.client.HTTPConnection):
    """To a daemon, by its socket. ``timeout``: seconds for each part of an answer."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))
        self._wire = self.sock  # which http.client forgets when an answer says that it is the last

    def wait_longer(self, seconds: float) -> None:
        """For each part of the rest of the answer."""
        self._wire.settimeout(seconds)

    def ask(self, method: str, target: str, body: Answer | None = None) -> http.client.HTTPResponse:
        """The head of the answer has come."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        self.request(method, target, None if body is None else json.dumps(body).encode(), headers)
        return self.getresponse()


@contextmanager
def explained(path: Path, late: str) -> Iterator[None]:
    """Errors of the connection as NotReachableError; ``late`` says what a daemon did not do in time."""
    try:
        yield
    except TimeoutError:
        raise NotReachableError(f"the scheduler at {path} {late}") from None
    except (OSError, http.client.HTTPException) as error:
        raise NotReachableError(_sentence(path, error)) from None
    except (ValueError, TypeError):
        raise NotReachableError(f"what answers at {path} is no scheduler") from None


def _sentence(path: Path, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return f"the scheduler's socket {path} is not for this user: run as root, as its user or in its group"
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return (
            f"no scheduler answers at {path}: none runs, or it runs with another "
            "SCHEDULER_SOCKET or SCHEDULER_STATE_DIR"
        )
    if isinstance(error, ConnectionError | http.client.HTTPException):
        return f"the scheduler at {path} ended before it answered"
    return f"the scheduler at {path} cannot be reached: {error}"


def ask(
    path: Path,
    timeout: float,
    method: str,
    target: str,
    body: Answer | None = None,
    *,
    unknown: type[SchedulerError],
    fine: Collection[int] = (),
) -> Answer:
    """The answer's JSON. ``unknown`` is the error of a 404; of ``fine`` are statuses that are none."""
    connection = Connection(path, timeout)
    try:
        with explained(path, f"did not answer within {timeout:g} s; it may still do what it was asked"):
            response = connection.ask(method, target, body)
            answer: Answer = dict(json.loads(response.read()))
    finally:
        connection.close()
    if response.status >= http.client.BAD_REQUEST and response.status not in fine:
        raise error_of(response.status, answer, unknown)
    return answer


def error_of(status: int, problem: Answer, unknown: type[SchedulerError]) -> SchedulerError:
    """What the daemon says is wrong, as the error it is here."""
    if problem.get("problems"):
        return ConfigurationError([Problem(None, line) for line in problem["problems"]])
    told = str(problem.get("detail") or problem.get("title") or status)
    known: dict[int, type[SchedulerError]] = {
        http.client.NOT_FOUND: unknown,
        http.client.SERVICE_UNAVAILABLE: NotReachableError,
        http.client.UNPROCESSABLE_ENTITY: UsageError,
    }
    return known.get(status, SchedulerError)(told)
