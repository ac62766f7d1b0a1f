"""What the API answers over a real socket."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from scheduler.api.control import Peer
from scheduler.api.models.health import Concern
from scheduler.errors import BusyError, ConfigurationError
from tests.shell.execution import on_both_loops, on_uvloop
from tests.shell.serving import (
    GET,
    Answer,
    assert_problem,
    at_socket,
    read,
    serving,
    until,
)


@on_both_loops
async def test_healthz_answers_while_the_loop_turns(tmp_path: Path) -> None:
    async with serving(at_socket(tmp_path)) as served:
        answer = await served.ask("GET", "/healthz")
        assert (answer.status, answer.body["status"]) == (200, "ok")
        assert answer.headers["content-type"] == "application/json"
        assert "server" not in answer.headers


@on_uvloop
async def test_each_request_is_a_task_that_the_api_owns(tmp_path: Path) -> None:
    async with serving(at_socket(tmp_path)) as served:
        await served.ask("GET", "/healthz")
        assert served.desk.owners == ["api"]


@on_uvloop
async def test_readyz_is_503_only_for_what_keeps_due_runs_from_starting(tmp_path: Path) -> None:
    async with serving(at_socket(tmp_path)) as served:
        served.desk.concerns = (Concern(kind="task", name="feed", what="is parked", blocking=False),)
        answer = await served.ask("GET", "/readyz")
        assert (answer.status, answer.body["ready"]) == (200, True)
        assert answer.body["concerns"][0]["name"] == "feed"
        served.desk.concerns = (Concern(kind="market", name="NSE", what="refuses", blocking=True),)
        answer = await served.ask("GET", "/readyz")
        assert (answer.status, answer.body["ready"]) == (503, False)


@on_uvloop
async def test_rejected_files_are_a_problem_with_every_place(tmp_path: Path) -> None:
    async with serving(at_socket(tmp_path)) as served:
        answer = await served.ask("POST", "/api/reload")
        assert_problem(answer, 422)
        assert answer.body["problems"] == ["tasks.yaml:2:3: unknown key", "and more"]


@on_both_loops
async def test_a_resumption_knows_who_wants_it_and_why(tmp_path: Path) -> None:
    async with serving(at_socket(tmp_path)) as served:
        answer = await served.ask("POST", "/api/tasks/feed/resume", '{"reason": "the feed is back"}')
        assert answer == Answer(
            200, answer.headers, {"task": "feed", "ended": ["parked"], "next": None, "by": "desk"}
        )
        assert (await served.ask("POST", "/api/tasks/feed/resume")).status == 200  # nobody has to say why
        me = Peer(os.geteuid(), os.getpid())
        assert served.desk.resumed == [("feed", me, "the feed is back"), ("feed", me, "")]


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (("GET", "/nowhere"), 404, "GET /nowhere: there is no such path"),
        (("GET", "/healthz/"), 404, "no such path"),
        (("GET", "/api/reload"), 405, "the path knows other methods"),
        (("POST", "/api/tasks/fed/resume"), 404, "did you mean 'feed'?"),
        (("POST", "/api/tasks/feed/resume", "{"), 422, "Invalid JSON"),
        (("POST", "/api/tasks/feed/resume", "[]"), 422, "object"),
        (("POST", "/api/tasks/feed/resume", '{"reson": "x"}'), 422, "reson: Extra inputs"),
        (("POST", "/api/tasks/feed/resume", '{"reason": 1}'), 422, "reason: Input should be a valid string"),
        (("POST", "/api/tasks/feed/resume", '{"reason": "a\\u001bb"}'), 422, "cannot be printed"),
        (("POST", "/api/tasks/feed/resume", "reason=x", "text/plain"), 415, "application/json"),
    ],
)
@on_uvloop
async def test_every_error_is_a_problem(
    tmp_path: Path, request_: tuple[str, ...], status: int, words: str
) -> None:
    async with serving(at_socket(tmp_path)) as served:
        answer = await served.ask(*request_)
        assert_problem(answer, status)
        assert words in answer.body["detail"]
        assert (await served.ask("GET", "/healthz")).status == 200


@on_uvloop
async def test_a_mistake_of_ours_is_a_problem_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(at_socket(tmp_path)) as served:
        answer = await served.ask("POST", "/api/tasks/faulty/resume")
        assert_problem(answer, 500)
        assert "ZeroDivisionError" in answer.body["detail"]
    assert [record.name for record in caplog.records] == ["uvicorn.error"]
    assert caplog.records[0].exc_info


@on_uvloop
async def test_pipelined_requests_are_answered_in_their_order(tmp_path: Path) -> None:
    async with serving(at_socket(tmp_path)) as served:
        reader, writer = await served.connect()
        writer.write(GET + GET.replace(b"healthz", b"nowhere") + GET)
        assert [(await read(reader)).status for _ in range(3)] == [200, 404, 200]
        writer.close()


@on_both_loops
async def test_what_somebody_looks_for_is_dropped_when_he_has_gone(tmp_path: Path) -> None:
    ended: list[str] = []

    async def rows(_: object) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async with serving(at_socket(tmp_path)) as served:
        served.desk.runs.rows = rows
        _, writer = await served.connect()
        writer.write(GET.replace(b"/healthz", b"/api/runs"))
        await until(lambda: served.connections == 1)
        await asyncio.sleep(0.05)
        writer.close()
        await until(lambda: ended == ["cancelled"])


@on_uvloop
async def test_who_is_to_come_again_is_told_when(tmp_path: Path) -> None:
    async def rows(_: object) -> None:
        raise BusyError

    async with serving(at_socket(tmp_path)) as served:
        served.desk.runs.rows = rows
        answer = await served.ask("GET", "/api/runs")
        assert_problem(answer, 503)
        assert answer.headers["retry-after"] == "2"


@on_uvloop
async def test_a_problem_may_speak_of_a_file_whose_name_is_no_text(tmp_path: Path) -> None:
    async def rows(_: object) -> None:
        raise ConfigurationError("tasks-\udcff.yaml: no")

    async with serving(at_socket(tmp_path)) as served:
        served.desk.runs.rows = rows
        answer = await served.ask("GET", "/api/runs")
        assert_problem(answer, 422)
        assert answer.body["problems"] == ["tasks-?.yaml: no"]
