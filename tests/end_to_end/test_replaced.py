"""The paths of the system that this one replaces: their old shapes, frozen."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.daemon import Daemon, Desk, eventually

TASKS = """
tasks:
  slow: {command: [sleep, "600"], cron: "0 0 1 1 *", market: always}
"""


@pytest.fixture
def daemon(desk: Desk) -> Iterator[Daemon]:
    desk.tasks(TASKS)
    started = desk.run()
    started.wait_for("daemon.ready")
    yield started
    assert started.stop() == 0


def ask(desk: Desk, method: str, path: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("localhost", timeout=30)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(30)
    connection.sock.connect(str(desk.state / "scheduler.sock"))
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_the_old_paths_answer_in_their_old_shapes(desk: Desk, daemon: Daemon) -> None:
    assert ask(desk, "GET", "/tasks/active") == (200, {"count": 0, "tasks": []})
    status, ran = ask(desk, "POST", "/api/tasks/slow/run")
    assert (status, ran["outcome"]) == (200, "started")
    run_id = ran["run_id"]

    status, every = ask(desk, "GET", "/api/tasks/all_status")
    assert status == 200
    assert every.keys() == {"success", "active_tasks", "task_count", "timestamp"}
    assert (every["success"], every["task_count"]) == (True, 1)
    assert every["active_tasks"][run_id]["task"] == "slow"

    status, one = ask(desk, "GET", f"/api/tasks/status/{run_id}")
    assert status == 200
    assert one.keys() == {"success", "task_id", "status", "timestamp"}
    assert (one["success"], one["task_id"], one["status"]["status"]) == (True, run_id, "running")

    status, active = ask(desk, "GET", "/tasks/active")
    assert active.keys() == {"count", "tasks"}
    assert (active["count"], active["tasks"][0]["run_id"]) == (1, run_id)

    assert ask(desk, "DELETE", f"/tasks/{run_id}") == (200, {"success": True})
    eventually(lambda: ask(desk, "GET", "/tasks/active")[1]["count"] == 0, "the run to end")
    assert ask(desk, "DELETE", f"/tasks/{run_id}") == (200, {"success": False})
    assert ask(desk, "DELETE", "/tasks/nonsense") == (200, {"success": False})
    status, problem = ask(desk, "GET", "/api/tasks/status/nonsense")
    assert (status, problem["status"]) == (404, 404)


def test_the_document_of_the_api_names_every_path_of_the_contract(desk: Desk, daemon: Daemon) -> None:
    status, document = ask(desk, "GET", "/openapi.json")
    assert status == 200
    assert document["openapi"].startswith("3.")
    asked = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert asked >= {
        ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/api/system/tasks"),
        ("GET", "/api/tasks"), ("GET", "/api/tasks/{name}"), ("POST", "/api/tasks/{name}/run"),
        ("POST", "/api/tasks/{name}/pause"), ("POST", "/api/tasks/{name}/resume"),
        ("POST", "/api/tasks/{name}/restart"), ("GET", "/api/runs"), ("GET", "/api/runs/active"),
        ("GET", "/api/runs/{id}"), ("DELETE", "/api/runs/{id}"), ("GET", "/api/cache"),
        ("GET", "/api/markets"), ("GET", "/api/plan"), ("GET", "/api/events"), ("POST", "/api/reload"),
        ("GET", "/api/tasks/all_status"), ("GET", "/api/tasks/status/{run_id}"),
        ("GET", "/tasks/active"), ("DELETE", "/tasks/{run_id}"),
    }  # fmt: skip
