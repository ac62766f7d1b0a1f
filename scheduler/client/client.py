"""A method for each thing that the daemon can be asked."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from scheduler.client.connection import Answer, ask
from scheduler.client.stream import Happenings, listen, listen_for_ever
from scheduler.errors import (
    NotReachableError,
    SchedulerError,
    UnknownKeyError,
    UnknownRunError,
    UnknownTaskError,
)

_NOT_READY = 503


class Client:
    """One daemon, by its socket. NotReachableError from any call when it does not answer.

    UsageError where it does not understand, SchedulerError where it cannot do what is asked. Answers
    are what its OpenAPI document says; times are ISO 8601.
    """

    def __init__(self, path: Path, *, timeout: float) -> None:
        """``timeout``: seconds for the daemon to answer."""
        self._path = path
        self._timeout = timeout

    # The whole.

    def health(self) -> Answer:
        return self._ask("GET", "/healthz")

    def readiness(self) -> Answer:
        """Also when it is not ready."""
        return self._ask("GET", "/readyz", fine=(_NOT_READY,))

    def system(self) -> Answer:
        """All at a glance."""
        return self._ask("GET", "/api/system/tasks")

    def reload(self, reason: str = "") -> Answer:
        """Returns when the files are in force; ConfigurationError when they were rejected."""
        return self._ask("POST", "/api/reload", {"reason": reason})

    def markets(self) -> Answer:
        return self._ask("GET", "/api/markets")

    def acts(self, limit: int) -> Answer:
        """What operators did, the newest first."""
        return self._ask("GET", _with("/api/acts", limit=limit))

    # Tasks: UnknownTaskError.

    def tasks(self) -> Answer:
        return self._ask("GET", "/api/tasks")

    def task(self, name: str) -> Answer:
        """All about one."""
        return self._of_task("GET", name)

    def run_now(self, name: str, reason: str = "") -> Answer:
        return self._of_task("POST", name, "/run", {"reason": reason})

    def restart(self, name: str, reason: str = "") -> Answer:
        return self._of_task("POST", name, "/restart", {"reason": reason})

    def backfill(self, name: str, start: str, until: str, reason: str = "") -> Answer:
        """The runs due in ``[start, until)`` that did not complete."""
        body = {"from": start, "until": until, "reason": reason}
        return self._of_task("POST", name, "/backfill", body)

    def end_backfill(self, name: str, reason: str = "") -> Answer:
        return self._of_task("DELETE", name, _with("/backfill", reason=reason))

    def pause(self, selection: Answer, until: str | None = None, reason: str = "") -> Answer:
        """``selection``: exactly one of tasks, priority, market and all."""
        body = {**selection, "until": until, "reason": reason}
        return self._ask("POST", "/api/pause", body, unknown=UnknownTaskError)

    def resume(self, selection: Answer, reason: str = "") -> Answer:
        """``selection`` as for ``pause``; by other than names it is of those that are barred."""
        body = {**selection, "reason": reason}
        return self._ask("POST", "/api/resume", body, unknown=UnknownTaskError)

    # Runs: UnknownRunError.

    def active_runs(self) -> Answer:
        return self._ask("GET", "/api/runs/active")

    def run(self, run_id: str) -> Answer:
        return self._of_run("GET", run_id)

    def cancel(self, run_id: str, reason: str = "") -> Answer:
        return self._of_run("DELETE", run_id, _with("", reason=reason))

    # The shared cache: UnknownKeyError, also where there is no such namespace.

    def cache_stats(self) -> Answer:
        return self._ask("GET", "/api/cache")

    def cache_get(self, namespace: str, key: str) -> Answer:
        return self._of_key("GET", namespace, key)

    def cache_put(self, namespace: str, key: str, value: Any, ttl: str | None = None) -> Answer:
        """``ttl`` such as ``5s``."""
        return self._of_key("PUT", namespace, key, {"value": value, "ttl": ttl})

    def cache_delete(self, namespace: str, key: str) -> Answer:
        return self._of_key("DELETE", namespace, key)

    # What happens.

    def events(
        self,
        *,
        tasks: Collection[str] = (),
        events: Collection[str] = (),
        level: str = "info",
        runs: bool = False,
        on_loss: Callable[[NotReachableError], object] | None = None,
    ) -> Happenings:
        """From now on. It ends with NotReachableError.

        With ``on_loss``, which is told so, it connects again instead, for ever. ``events`` are names,
        or beginnings such as ``task.``; ``runs``: also of each change of a run.
        """
        target = _with(
            "/api/events", task=list(tasks), event=list(events), level=level, runs=str(runs).lower()
        )

        def connect() -> Happenings:
            return listen(self._path, self._timeout, target)

        return connect() if on_loss is None else listen_for_ever(connect, on_loss)

    def _of_task(self, method: str, name: str, what: str = "", body: Answer | None = None) -> Answer:
        return self._ask(method, f"/api/tasks/{_quoted(name)}{what}", body, unknown=UnknownTaskError)

    def _of_run(self, method: str, run_id: str, query: str = "") -> Answer:
        return self._ask(method, f"/api/runs/{_quoted(run_id)}{query}", unknown=UnknownRunError)

    def _of_key(self, method: str, namespace: str, key: str, body: Answer | None = None) -> Answer:
        target = f"/api/cache/{_quoted(namespace)}/{_quoted(key)}"
        return self._ask(method, target, body, unknown=UnknownKeyError)

    def _ask(
        self,
        method: str,
        target: str,
        body: Answer | None = None,
        *,
        unknown: type[SchedulerError] = SchedulerError,
        fine: Collection[int] = (),
    ) -> Answer:
        return ask(self._path, self._timeout, method, target, body, unknown=unknown, fine=fine)


def _quoted(part: str) -> str:
    return quote(part, safe="")


def _with(path: str, **query: Any) -> str:
    return f"{path}?{urlencode(query, doseq=True)}"
