"""Asking the running daemon, over its control socket. Standard library only: commands start at once."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from scheduler.errors import (
    ConfigurationError,
    NotReachableError,
    Problem,
    SchedulerError,
    UnknownTaskError,
    UsageError,
)

Answer: TypeAlias = Mapping[str, Any]

_LISTED: Final = ("added", "removed", "changed", "settings", "markets")


class Client:
    """One daemon, by its socket. NotReachableError from any call when it does not answer."""

    def __init__(self, path: Path, *, timeout: float) -> None:
        """``timeout``: seconds for the daemon to answer."""
        self._path = path
        self._timeout = timeout

    def reload(self) -> Answer:
        """Returns when the files are in force; ConfigurationError when they were rejected."""
        return self._ask("POST", "/api/reload")

    def resume(self, task: str, reason: str) -> Answer:
        """UnknownTaskError; SchedulerError when the task cannot be resumed."""
        return self._ask("POST", f"/api/tasks/{quote(task, safe='')}/resume", {"reason": reason})

    def _ask(self, method: str, path: str, body: Answer | None = None) -> Answer:
        connection = _Connection(self._path, self._timeout)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
            response = connection.getresponse()
            answer: Answer = dict(json.loads(response.read()))
        except TimeoutError:
            raise NotReachableError(
                f"the scheduler at {self._path} did not answer within {self._timeout:g} s; "
                "it may still do what it was asked"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise NotReachableError(_sentence(self._path, error)) from None
        except (ValueError, TypeError):
            raise NotReachableError(f"what answers at {self._path} is no scheduler") from None
        finally:
            connection.close()
        if response.status >= http.client.BAD_REQUEST:
            raise _error(response.status, answer)
        return answer


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


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


def _error(status: int, problem: Answer) -> SchedulerError:
    """What the daemon says is wrong, as the error it is here."""
    if problem.get("problems"):
        return ConfigurationError([Problem(None, line) for line in problem["problems"]])
    told = str(problem.get("detail") or problem.get("title") or status)
    if status == http.client.NOT_FOUND:
        return UnknownTaskError(told)
    if status == http.client.SERVICE_UNAVAILABLE:
        return NotReachableError(told)
    return UsageError(told) if status == http.client.UNPROCESSABLE_ENTITY else SchedulerError(told)


def reload_lines(answer: Answer) -> Iterator[str]:
    """What a reload did, for people."""
    for key in _LISTED:
        if answer[key]:
            yield f"{key}: {', '.join(answer[key])}"
    yield from answer["differences"]
    if answer["unchanged"]:
        yield "nothing has changed"


def resume_line(answer: Answer) -> str:
    """What a resumption did, for people."""
    ended = " and ".join(answer["ended"])
    was = f"was {ended}" if ended else "was neither parked, crash-looping nor paused"
    following = f"; due next at {answer['next']}" if answer["next"] else ""
    return f"{answer['task']} {was}{following}"
