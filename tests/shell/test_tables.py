"""What an operator sees: it fits 80 columns, says what is wrong first, and forges nothing."""

from __future__ import annotations

import io
import json
import re
from typing import Any, Literal

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from scheduler.api.models.tasks import TaskDetail, TaskStatus
from scheduler.cli.detail import task_view
from scheduler.cli.overview import SystemView
from scheduler.cli.tables import acts_table, cache_table
from scheduler.cli.wrong import wrong_with
from scheduler.core.definition import definition_text
from scheduler.core.messages import MINUTE, SECOND, Isolation, Priority, RestartPolicy, TaskSpec, Work
from scheduler.core.triggers import Every
from tests.shell.systems import NOW, concern, market, namespace, run, system, task

LONG = "order-gateway-heartbeat-of-the-primary-and-of-the-secondary-line"
assert len(LONG) == 64  # as long as a name may be


def drawn(view: RenderableType, width: int = 80, *, terminal: bool = False) -> str:
    out = io.StringIO()
    colours: Literal["standard"] | None = "standard" if terminal else None
    console = Console(file=out, width=width, force_terminal=terminal, highlight=False, color_system=colours)
    console.print(view)
    return out.getvalue()


def lines(view: RenderableType, width: int = 80) -> list[str]:
    return [line.rstrip() for line in drawn(view, width).splitlines()]


def row(view: RenderableType, name: str) -> str:
    """The last line that begins so: that of the table."""
    return [line for line in lines(view) if line.startswith(name)][-1]


def crowd() -> list[TaskStatus]:
    """Everything as long as it gets."""
    states = ("running", "queued", "backing-off", "crash-looping", "paused", "parked", "refused", "disabled")
    statuses = ("completed", "failed", "cancelled", "skipped", "missed")
    return [
        task(
            f"{number}-{LONG}"[:64], priority="nice-to-have", state=state, since="2026-11-23T20:00:00+05:30",
            last=run(status=statuses[number % 5], ended="2026-08-01T09:00:00+05:30", error="x" * 500),
            next="2026-11-27T15:45:00+05:30", restarts=12_345, consecutive_failures=1_234,
            trouble="is parked", error="é\n" * 300,
        )
        for number, state in enumerate(states)
    ]  # fmt: skip


@pytest.mark.parametrize("width", [80, 60, 200])
@pytest.mark.parametrize("height", [None, 12, 24])
def test_a_desk_of_long_names_and_errors_fits_the_terminal(width: int, height: int | None) -> None:
    told = system(
        *crowd(), markets=(market("M" * 64, reason="R" * 90, phase="closing-auction"), market("NSE"))
    )
    found = lines(SystemView(told, notice="not reachable " * 20, height=height), width)
    assert max(map(cell_len, found)) <= width
    if height is not None:
        assert len(found) <= height


def test_each_task_has_a_line_with_all_there_is_to_say() -> None:
    told = system(
        task("feed", state="running", since="2026-11-26T09:16:03+05:30"),
        task(
            "report", priority="important", last=run(status="failed"), consecutive_failures=2, restarts=7,
            next="2026-11-27T15:45:00+05:30", state="backing-off",
        ),
        task("yearly", priority="nice-to-have", last=None, next="2027-03-31T10:00:00+05:30"),
        task("after", next=None),
    )  # fmt: skip
    view = SystemView(told)
    assert row(view, "TASK").split() == ["TASK", "PRIO", "STATE", "LAST", "NEXT", "FAILS", "RESTARTS"]
    assert row(view, "feed").split() == ["feed", "crit", "running", "1s", "ok", "3s", "09:16:05"]
    assert row(view, "report").split() == [
        "report", "imp", "backing-off", "failed", "3s", "Fri", "15:45", "2", "7",
    ]  # fmt: skip
    assert row(view, "yearly").split() == ["yearly", "nice", "waiting", "-", "31", "Mar"]
    assert row(view, "after").split() == ["after", "crit", "waiting", "ok", "3s", "-"]


def test_markets_say_phase_why_and_until_in_the_desks_time() -> None:
    told = system(
        task("a"), task("b", market="NYSE"), task("c", market="MCX"), task("d", market="always"),
        markets=(
            market("NSE"),
            market("NYSE", phase="pre-open", trading=False, until="2026-11-26T09:30:00-05:00",
                   next_phase="open", next_open="2026-11-26T09:30:00-05:00", timezone="America/New_York"),
            market("MCX", phase="closed", trading=False, reason="Guru\x1b[2J",
                   until="2026-11-27T09:00:00+05:30", next_phase="pre-open",
                   next_open="2026-11-27T09:15:00+05:30", assumed=True),
            market("always"), market("CDS"),
        ),
    )  # fmt: skip
    first, second, third, health, *_ = lines(SystemView(told))
    assert first == "NSE   open until 15:30, then closed"
    assert second == "NYSE  pre-open until 20:00, then open"
    assert third == r"MCX   closed (Guru\x1b[2J) until Fri 09:00, opens Fri 09:15 assumed"
    assert health == "09:16:04 ready · up 3h12m · 4 tasks, 0 running · 2/64 slots · lag 1ms · 84 MB"


def test_what_is_wrong_is_told_the_worst_first_each_once() -> None:
    loop = {"lag_seconds": 2.0, "stalls": 1, "shedding": ("important", "nice-to-have")}
    told = system(
        task("well"),
        task("paused", state="paused", paused_until="2026-11-26T15:30:00+05:30"),
        task("odd", consecutive_failures=1, error="no feed", next="2026-11-26T09:16:09+05:30"),
        task("late", freshness="stale", last_success="2026-11-26T09:01:00+05:30"),
        task("parked", state="parked", trouble="is parked after 3 failures in a row", error="boom"),
        ready=False,
        concerns=(concern("NSE", "known until 2026"), concern("MCX", "refused", blocking=True)),
        loop=loop,
    )
    assert [(line.name, line.what) for line in wrong_with(told)] == [
        ("MCX", "refused"),
        ("load", "runs are shed that are important or nice-to-have"),
        ("parked", "is parked after 3 failures in a row: boom"),
        ("NSE", "known until 2026"),
        ("odd", "failed, next try 09:16:09: no feed"),
        ("late", "is stale: it has not completed for 15m"),
        ("paused", "is paused until 15:30"),
    ]
    text = drawn(SystemView(told))
    assert "NOT READY" in text
    assert text.index("is parked") < text.index("TASK")


def test_nothing_wrong_is_no_line() -> None:
    assert wrong_with(system(task("well"))) == []


def test_where_there_is_no_room_for_all_tasks_those_that_do_well_give_way() -> None:
    told = system(*(task(f"task-{number:02}") for number in range(50)), task("zz", consecutive_failures=3))
    found = lines(SystemView(told, height=15))
    assert len(found) == 15
    assert found[-1] == "and 43 more"
    assert [line.split()[0] for line in found[6:9]] == ["zz", "task-00", "task-01"]


def test_there_are_colours_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    view = SystemView(system(task("a", state="parked", trouble="is parked")))
    assert "\x1b[" in drawn(view, terminal=True)
    assert "\x1b" not in drawn(view)


def test_what_tasks_say_moves_no_cursor() -> None:
    told = system(task("a", trouble="is parked", error="\x1b[2J\rhacked\n[red]x[/red]"))
    text = drawn(SystemView(told))
    assert "\x1b" not in text
    assert r"\x1b[2J\rhacked\n[red]x[/red]" in text


def test_the_cache_fits_80_columns_with_names_as_long_as_they_get() -> None:
    many = namespace(LONG, hits=12_345_678, misses=1_234_567, loads=999_999, ttl_seconds=43_200.0)
    told = [each.model_dump() for each in (namespace("news"), many)]
    found = lines(cache_table(told))
    assert max(map(len, found)) <= 80
    assert found[1].split() == ["news", "5s", "0", "10000", "0", "0", "0", "0", "0", "0"]
    assert re.search(r"… +12h ", found[2])


def act(**more: Any) -> dict[str, Any]:
    return {"at": NOW, "by": "root", "action": "pause", "task": "feed", "reason": "", "detail": {}} | more


def test_acts_are_told_with_what_they_were_about() -> None:
    run_id = {"run_id": "feed-20261126T034600Z"}
    pause = act(detail={"until": "2026-11-26T15:30:00+05:30", "ended": ["parked", "paused"]}, reason="\x1b")
    text = "\n".join(lines(acts_table([act(action="run-now", detail=run_id), pause]), 120))
    assert "2026-11-26 09:16:04  root  run-now  feed-20261126T034600Z" in text
    assert r"feed until=2026-11-26 15:30 ended=parked,paused  \x1b" in text


SPEC = TaskSpec(
    name="feed",
    priority=Priority.CRITICAL,
    market="NSE",
    trigger=Every({"*": 5 * SECOND}),
    work=Work(target="desk.feed:poll", isolation=Isolation.PROCESS, arguments={"token": "secret"}),
    restart=RestartPolicy("always", 5, MINUTE, "keep_trying"),
    timeout=MINUTE,
    catchup=5 * SECOND,
    fresh_within=2 * MINUTE,
)


def test_all_about_a_task_fits_80_columns_with_its_errors_in_full() -> None:
    error = "URLError: no route to host " * 20
    detail = TaskDetail(
        status=task("feed", state="parked", trouble="is parked", consecutive_failures=1, freshness="stale"),
        why="feed does not run: it is parked",
        definition=json.loads(definition_text(SPEC)),
        runs=(
            run(attempt=2, status="failed", reason="timeout", error=f"{error}\x1b"),
            run(status="failed", reason="error", error="boom", cause="retry"),
            run(status="skipped", reason="parked", attempt=0, started=None, count=11),
        ),
        coming=("2026-11-26T23:59:55+05:30", "2026-11-27T00:00:00+05:30", "2026-11-27T00:00:05+05:30"),
    )
    found = lines(task_view(json.loads(detail.model_dump_json())))
    assert max(map(cell_len, found)) <= 80
    text = re.sub(r"\s+", " ", " ".join(found))
    for part in (
        "critical · NSE · every open 5s, closed 1m",
        "work desk.feed:poll (process) with token",
        "timeout 1m · grace 10s · catch-up 5s · overlap skip · restart always, after 5 in 1m keep trying",
        "due 2026-11-26 23:59:55, 2026-11-27 00:00:00, 00:00:05",
        "success 2026-11-26 09:16:01 · stale · 1 failure in a row · 0 restarts",
        "2026-11-26 09:16:00 1 failed 1.2s retry boom",
        "2026-11-26 09:16:00 skipped x11 tick parked",
    ):
        assert part in text
    assert text.count("no route to host") == 20
    assert "secret" not in text
