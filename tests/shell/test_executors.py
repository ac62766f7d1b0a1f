from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from scheduler.core.messages import MILLISECOND, SECOND, Isolation, Run, RunReturned, Status, Work
from scheduler.executors import TargetError, adopt, child, load_target, release
from scheduler.executors.checking import check_target
from scheduler.executors.family import Family, Relative
from scheduler.executors.output import LINE_CAP, LINES_PER_SECOND, OutputLines
from scheduler.executors.targets import RUNNER
from tests.shell import targets
from tests.shell.execution import (
    DUE,
    ROOT,
    SOON,
    Desk,
    Record,
    command,
    on_both_loops,
    shell,
    target,
    task,
    until,
)

Subreaper: TypeAlias = Callable[[Path], tuple[Family, list[int]]]

THREAD = Isolation.THREAD
PROCESS = Isolation.PROCESS


def gone(pid: int) -> bool:
    """The process has ended (a zombie has, too)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


# What a callable may do, wherever it runs


@pytest.mark.parametrize("isolation", [None, THREAD, PROCESS])
@pytest.mark.parametrize("name", ["nothing", "nothing_sync", "unpicklable"])
@on_both_loops
async def test_a_callable_that_returns_completes_its_run_whatever_it_returns(
    name: str, isolation: Isolation | None
) -> None:
    async with Desk() as desk:
        ended = await desk.run(task(target(name, isolation=isolation)))
        assert (ended.status, ended.reason, ended.error, ended.lingering) == (Status.COMPLETED, "", "", False)
        assert ended.started is not None


@pytest.mark.parametrize("isolation", [None, PROCESS])
@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("fail", "ValueError: no quotes at all"),
        ("fail_sync", "ValueError: no quotes"),
        ("leave_by_system_exit", "SystemExit: 3"),
        ("leave_by_system_exit_sync", "SystemExit: 3"),
        ("interrupt", "KeyboardInterrupt"),
        ("interrupt_sync", "KeyboardInterrupt"),
        ("cancel_itself", "CancelledError"),
        ("not_there", "tests.shell.targets"),
        ("not_callable", "not callable"),
    ],
)
@on_both_loops
async def test_whatever_a_callable_raises_is_the_failure_of_its_run_alone(
    name: str, error: str, isolation: Isolation | None
) -> None:
    async with Desk() as desk:
        ended = await desk.run(task(target(name, isolation=isolation)))
        assert (ended.status, ended.reason) == (Status.FAILED, "error")
        assert error in ended.error
        if not name.startswith("not_"):
            assert ended.error == error
            assert any(f"in {name}" in details for _, details in desk.failures)


@pytest.mark.parametrize("isolation", [THREAD, PROCESS])
async def test_arguments_and_context_reach_the_callable(tmp_path: Path, isolation: Isolation) -> None:
    arguments = {"path": str(tmp_path / "out"), "words": ["a", "b"]}
    async with Desk() as desk:
        ended = await desk.run(task(target("write_arguments", isolation=isolation, arguments=arguments)))
        assert ended.status is Status.COMPLETED, ended
    expected = "a b eod-report 2026-11-23T15:45:00+05:30 post-close 2026-11-23"
    assert (tmp_path / "out").read_text() == expected


@pytest.mark.parametrize("isolation", [None, THREAD, PROCESS])
@on_both_loops
async def test_an_async_callable_that_outlasts_its_timeout_is_cancelled_and_failed(
    isolation: Isolation | None,
) -> None:
    timeout = SECOND if isolation is PROCESS else SOON
    async with Desk() as desk:
        ended = await desk.run(task(target("forever", isolation=isolation), timeout=timeout))
        assert (ended.status, ended.reason, ended.lingering) == (Status.FAILED, "timeout", False)
        assert ended.error.startswith("timed out after ")


# Threads


@on_both_loops
async def test_a_timed_out_thread_lingers_and_its_return_is_told() -> None:
    targets.released.clear()
    async with Desk() as desk:
        run = desk.start(task(target("stubborn_thread"), timeout=SOON, stop_grace=SOON))
        ended = await desk.end_of(run)
        assert (ended.status, ended.reason, ended.lingering) == (Status.FAILED, "timeout", True)
        assert [(kind, count) for kind, count, _ in desk.leaks] == [("thread", 1)]
        assert "stubborn_thread" in desk.leaks[0][2]
        targets.released.set()
        await desk.heard(RunReturned, run)


@on_both_loops
async def test_a_thread_that_heeds_ctx_cancelled_ends_as_the_stop_says() -> None:
    async with Desk() as desk:
        run = desk.start(task(target("cooperative")))
        await asyncio.sleep(0.05)
        desk.stop(run, Status.COMPLETED, "phase-ended", 5 * SECOND)
        ended = await desk.end_of(run)
        assert (ended.status, ended.reason, ended.error) == (Status.COMPLETED, "phase-ended", "")


def test_a_hung_thread_does_not_hold_up_the_end_of_the_interpreter() -> None:
    script = (
        "import asyncio\n"
        "from tests.shell.execution import *\n"
        "async def main():\n"
        "    async with Desk() as desk:\n"
        "        desk.start(task(target('sleep_long'))); await asyncio.sleep(0.1)\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=20)


async def test_idle_threads_are_used_again() -> None:
    async with Desk() as desk:
        for number in range(5):
            await desk.run(task(target("nothing_sync")), Run("eod-report", DUE + number))
        assert desk.executors._thread._made == 1


# Commands


@on_both_loops
async def test_a_commands_output_goes_to_the_log_line_by_line() -> None:
    async with Desk() as desk:
        ended = await desk.run(task(shell("echo one; echo two >&2; printf three")))
        assert ended.status is Status.COMPLETED
        assert desk.log.lines == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("echo starting; echo bad date >&2; exit 3", "exit status 3: bad date"),
        ("exit 255", "exit status 255"),
        ("kill -KILL $$", "killed by SIGKILL"),
        ("kill -USR1 $$", "killed by SIGUSR1"),
    ],
)
@on_both_loops
async def test_a_failed_command_says_how_and_its_last_line(script: str, error: str) -> None:
    async with Desk() as desk:
        ended = await desk.run(task(shell(script)))
        assert (ended.status, ended.reason, ended.error) == (Status.FAILED, "error", error)


@pytest.mark.parametrize("kernel", ["with pidfds", "without"])
@on_both_loops
async def test_a_status_that_somebody_else_took_is_no_success(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel == "without":
        monkeypatch.setattr(os, "pidfd_open", _no_pidfd)
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        async with Desk() as desk:
            for script in ("exit 3", "exit 0", "sleep 0.2"):
                ended = await desk.run(task(shell(script)))
                assert (ended.status, ended.error) == (
                    Status.FAILED,
                    "its exit status was taken by somebody else",
                )
    finally:
        signal.signal(signal.SIGCHLD, before)


def _no_pidfd(_pid: int) -> int:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


@pytest.fixture
def subreaper() -> Iterator[Subreaper]:
    """Makes this process what a daemon is, and says which survivors were ended first."""

    def become(state: Path) -> tuple[Family, list[int]]:
        survivors = adopt(state)
        assert child._family is not None
        return child._family, [process.pid for process, _ in survivors]

    yield become
    release()
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


@pytest.mark.parametrize("rest", ["x", "x-y:1", "", "1-2", "1-2:3"])
async def test_only_marks_of_this_place_that_a_daemon_could_have_made_are_survivors(
    rest: str, tmp_path: Path, subreaper: Subreaper
) -> None:
    status = os.stat(tmp_path)  # noqa: PTH116 - of a directory, at once
    environment = {**os.environ, "SCHEDULER_MARK": f"{status.st_dev:x}-{status.st_ino:x}:{rest}"}
    process = await asyncio.create_subprocess_exec("sleep", "60", env=environment)
    await until(lambda: "sleep" in Path(f"/proc/{process.pid}/cmdline").read_text())
    _, survivors = subreaper(tmp_path)
    assert survivors == ([process.pid] if rest == "1-2:3" else [])
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


async def test_a_family_that_cannot_be_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError(errno.EPERM, "prctl")

    guardians: list[subprocess.Popen[bytes]] = []
    start = Family._start_guardian

    def started(family: Family) -> subprocess.Popen[bytes]:
        guardians.append(start(family))
        return guardians[-1]

    monkeypatch.setattr("scheduler.executors.family._become_subreaper", refuse)
    monkeypatch.setattr(Family, "_start_guardian", started)
    with pytest.raises(OSError, match="prctl"):
        adopt(tmp_path)
    assert [guardian.returncode for guardian in guardians] == [0]


async def test_a_process_that_somebody_else_waited_for_does_not_keep_a_run_from_ending(
    tmp_path: Path, subreaper: Subreaper, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, _ = subreaper(tmp_path)
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    looks = iter([[Relative(process.pid, escaped=True, command="true")], []])
    monkeypatch.setattr(family, "relatives", lambda _mark, _leader: next(looks))
    async with Desk() as desk:
        assert (await desk.run(task(shell("exit 0")))).status is Status.COMPLETED
    assert not family._killed


async def test_a_run_ends_when_no_file_descriptor_is_left_to_look_for_its_processes(
    tmp_path: Path, subreaper: Subreaper, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, _ = subreaper(tmp_path)
    looks = []

    def relatives(mark: str, leader: int) -> list[Relative]:
        looks.append((mark, leader))
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(family, "relatives", relatives)
    async with Desk() as desk:
        assert (await desk.run(task(shell("exit 3")))).error == "exit status 3"
    assert len(looks) > 1  # it is tried again: descriptors come free


@pytest.mark.parametrize(
    "work",
    [
        command("/nonexistent/eod.sh"),
        command("/etc/passwd"),
        command("nul\0byte"),
        command("echo", "{sesion}"),
        command("true", working_directory="/nonexistent"),
        target("nothing", isolation=PROCESS, python="/nonexistent/python"),
        target("nothing", isolation=PROCESS, arguments={"x": object()}),
    ],
)
@on_both_loops
async def test_what_cannot_be_started_is_a_failed_run(work: Work) -> None:
    async with Desk() as desk:
        ended = await desk.run(task(work))
        assert (ended.status, ended.reason) == (Status.FAILED, "error")
        assert "Error: " in ended.error


async def test_templates_are_filled_in_without_a_shell() -> None:
    argv = (
        "printf",
        "%s\\n",
        "{session} {due}",
        "{phase}/{task}/{attempt}/{priority}/{market}",
        "{{x}} $HOME;{event}",
    )
    async with Desk() as desk:
        await desk.run(task(command(*argv)), Run("eod-report", DUE, attempt=2))
        assert desk.log.lines == [
            "2026-11-23 2026-11-23T15:45:00+05:30",
            "post-close/eod-report/2/important/NSE",
            "{x} $HOME;",
        ]


async def test_in_an_on_run_task_is_whom_the_event_is_about() -> None:
    run = Run("page-desk", DUE, event="task.stale", subject="live-feed")
    async with Desk() as desk:
        await desk.run(
            task(command("sh", "-c", "echo {event} {task} $SCHEDULER_TASK $SCHEDULER_SUBJECT")), run
        )
        assert desk.log.lines == ["task.stale live-feed page-desk live-feed"]


async def test_environment_and_directory_are_the_tasks_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    script = (
        'echo "$SCHEDULER_DUE $SCHEDULER_PHASE $DESK $PWD ${{NOTIFY_SOCKET-none}}"; cat; sed -n 1p /dev/stdin'
    )
    work = shell(script, env={"DESK": "cash"}, working_directory=str(tmp_path))
    async with Desk() as desk:
        ended = await desk.run(task(work))
        assert ended.status is Status.COMPLETED
        assert desk.log.lines == [f"2026-11-23T15:45:00+05:30 post-close cash {tmp_path} none"]


@on_both_loops
async def test_grandchildren_end_with_the_command(tmp_path: Path) -> None:
    async with Desk() as desk:
        script = f"sleep 60 & echo $! >{tmp_path}/pid"
        assert (await desk.run(task(shell(script)))).status is Status.COMPLETED
    pid = int((tmp_path / "pid").read_text())
    await until(lambda: gone(pid))


async def test_a_pipe_held_open_elsewhere_does_not_hold_up_the_run(tmp_path: Path) -> None:
    async with Desk() as desk:
        run = desk.start(
            task(shell(f"setsid sh -c 'echo $$ >{tmp_path}/pid; exec sleep 60' & sleep 0.2; echo done"))
        )
        ended = await desk.end_of(run)
        assert ended.status is Status.COMPLETED
        assert desk.log.lines == ["done"]
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


@on_both_loops
async def test_a_command_that_ignores_sigterm_is_killed_with_its_group_after_its_grace(
    tmp_path: Path,
) -> None:
    (tmp_path / "child.sh").write_text(f"trap '' TERM; echo $$ >{tmp_path}/pid; sleep 60")
    script = f"trap 'echo ignored' TERM; sh {tmp_path}/child.sh & while :; do sleep 0.05; done"
    async with Desk() as desk:
        run = desk.start(task(shell(script)))
        await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        desk.stop(run, grace=400 * MILLISECOND)
        ended = await desk.end_of(run)
        assert (ended.status, ended.reason, ended.error) == (
            Status.CANCELLED,
            "operator",
            "it had to be killed",
        )
        assert "ignored" in desk.log.lines
    pid = int((tmp_path / "pid").read_text())
    await until(lambda: gone(pid))


@on_both_loops
async def test_a_command_may_tidy_up_within_its_grace() -> None:
    async with Desk() as desk:
        run = desk.start(
            task(shell("trap 'echo tidy; exit 0' TERM; echo ready; while :; do sleep 0.05; done"))
        )
        await until(lambda: desk.log.lines)
        desk.stop(run, grace=5 * SECOND)
        ended = await desk.end_of(run)
        assert (ended.status, ended.reason, ended.error) == (Status.CANCELLED, "operator", "")
        assert desk.log.lines[-1] == "tidy"


async def test_a_timed_out_command_fails() -> None:
    async with Desk() as desk:
        ended = await desk.run(task(command("sleep", "60"), timeout=SOON))
        assert (ended.status, ended.reason, ended.error) == (
            Status.FAILED,
            "timeout",
            "timed out after 150ms",
        )


async def test_a_memory_limit_bites() -> None:
    eat = command(sys.executable, "-c", "bytearray(1 << 30); print('eaten')", memory_limit=256 << 20)
    async with Desk() as desk:
        ended = await desk.run(task(eat))
        assert ended.status is Status.FAILED
        assert ended.error == "exit status 1: MemoryError (its memory_limit is 256M)"
        ended = await desk.run(task(target("eat_memory", isolation=PROCESS, memory_limit=256 << 20)))
        assert ended.error == "MemoryError (its memory_limit is 256M)"


async def test_nice_is_absolute_and_a_missing_program_is_named_under_limits() -> None:
    async with Desk() as desk:
        await desk.run(task(command("nice", nice=7)))
        assert desk.log.lines == ["7"]
        ended = await desk.run(task(command("/nonexistent/x", nice=7)))
        assert "/nonexistent/x" in ended.error
        assert "No such file" in ended.error


@on_both_loops
async def test_a_flood_of_output_is_cut_counted_and_leaves_the_loop_free() -> None:
    lag = 0.0
    loop = asyncio.get_running_loop()
    async with Desk() as desk:
        run = desk.start(
            task(shell("head -c 100000000 /dev/zero | tr '\\0' '\\n'; yes flood | head -n 300000; exit 4"))
        )
        while not any(getattr(event, "status", "") for event in desk.events):
            before = loop.time()
            await asyncio.sleep(0.01)
            lag = max(lag, loop.time() - before - 0.01)
        ended = await desk.end_of(run)
    assert ended.error == "exit status 4: flood"
    assert len(desk.log.lines) < 20 * LINES_PER_SECOND
    suppressed = sum(
        fields["lines"] for _, event, fields in desk.log.entries if event == "run.output_suppressed"
    )
    assert suppressed > 100_000_000
    assert lag < 0.5


def test_long_lines_are_cut_and_lines_above_the_rate_counted() -> None:
    log, now = Record(), 0.0
    lines = OutputLines(lambda: log, lambda: now)
    lines.feed(b"x" * 3000)
    lines.feed(b"x" * 3000 + b"\nsecond\r\n\n")
    assert log.lines == ["x" * LINE_CAP + "…", "second"]
    lines.feed(b"n\n" * LINES_PER_SECOND + b"part")
    assert lines.flooding
    assert len(log.lines) == LINES_PER_SECOND - 1  # the blank line counts as a line read
    now = 1.0
    lines.feed(b"ial\n\xff\n")
    assert log.lines[-2:] == ["partial", "\ufffd"]
    assert ("warning", "run.output_suppressed", {"lines": 3, "limit": LINES_PER_SECOND}) in log.entries
    assert lines.last == "\ufffd"


# Process isolation


@pytest.mark.parametrize(
    ("name", "error"),
    [("exit_interpreter", "exit status 7"), ("kill_interpreter", "killed by SIGKILL")],
)
@on_both_loops
async def test_ending_the_interpreter_ends_only_that_of_the_task(name: str, error: str) -> None:
    async with Desk() as desk:
        ended = await desk.run(task(target(name, isolation=PROCESS)))
        assert (ended.status, ended.error) == (Status.FAILED, error)


@on_both_loops
async def test_prints_and_log_calls_of_a_process_reach_the_log() -> None:
    async with Desk() as desk:
        ended = await desk.run(task(target("talk", isolation=PROCESS)))
        assert ended.status is Status.COMPLETED, ended
        assert desk.log.lines == ["printed"]
        fields = {"seconds": 3, "path": repr(Path("/x"))}
        assert ("warning", "quotes.late", fields) in desk.log.entries


@on_both_loops
async def test_the_cache_of_a_process_is_the_shared_one() -> None:
    async with Desk() as desk:
        ended = await desk.run(task(target("use_cache", isolation=PROCESS)))
        assert ended.status is Status.COMPLETED, desk.failures
        assert desk.cache["prices"].get(("b", 1)) == [1, 2]


async def test_a_load_is_single_flight_across_processes_and_the_daemon(tmp_path: Path) -> None:
    spec = task(target("load_once", isolation=PROCESS, arguments={"path": str(tmp_path / "loads")}))
    async with Desk() as desk:
        runs = [desk.start(spec, Run("eod-report", DUE + number)) for number in range(3)]
        await until((tmp_path / "loads").exists)
        assert await desk.cache["prices"].get_or_load("k", lambda: "a second load") == "value"
        for run in runs:
            assert (await desk.end_of(run)).status is Status.COMPLETED, desk.failures
    assert (tmp_path / "loads").read_text() == "loaded\n"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("load_and_fail", "ZeroDivisionError: division by zero"),
        ("put_unserialisable", "TypeError: Object of type object is not JSON serializable"),
        ("unknown_namespace", "RemoteError: UnknownNamespaceError"),
    ],
)
async def test_failures_at_the_cache_are_those_of_the_task(name: str, error: str) -> None:
    async with Desk() as desk:
        ended = await desk.run(task(target(name, isolation=PROCESS)))
        assert ended.error.startswith(error)


async def test_a_process_that_dies_while_it_loads_leaves_the_load_to_others() -> None:
    async with Desk() as desk:
        run = desk.start(task(target("load_and_die", isolation=PROCESS)))
        await until(lambda: desk.cache["prices"].stats()["misses"])
        assert await desk.cache["prices"].get_or_load("k", lambda: "ours") == "ours"
        assert (await desk.end_of(run)).error == "exit status 9"


@on_both_loops
async def test_an_async_callable_in_a_process_tidies_up_when_stopped(tmp_path: Path) -> None:
    path = tmp_path / "state"
    async with Desk() as desk:
        run = desk.start(task(target("wait_in_process", isolation=PROCESS, arguments={"path": str(path)})))
        await until(path.exists)
        desk.stop(run, Status.COMPLETED, "phase-ended", 5 * SECOND)
        ended = await desk.end_of(run)
        assert (ended.status, ended.reason, ended.error) == (Status.COMPLETED, "phase-ended", "")
    assert path.read_text() == "tidied"


async def test_a_sync_callable_in_a_process_is_killed_after_its_grace() -> None:
    async with Desk() as desk:
        ended = await desk.run(task(target("sleep_long", isolation=PROCESS), timeout=SECOND, stop_grace=SOON))
        assert (ended.status, ended.reason, ended.lingering) == (Status.FAILED, "timeout", False)
        told = r"timed out after 1s; it had to be killed, at \S+/targets.py:\d+ in sleep_long"
        assert re.fullmatch(told, ended.error)


async def test_threads_and_children_that_a_process_leaves_behind_end_with_it(tmp_path: Path) -> None:
    arguments = {"path": str(tmp_path / "pid")}
    async with Desk() as desk:
        ended = await desk.run(task(target("leave_thread_behind", isolation=PROCESS)))
        assert ended.status is Status.COMPLETED
        assert desk.leaks == [("thread", 1, "forgotten")]
        ended = await desk.run(task(target("leave_grandchild", isolation=PROCESS, arguments=arguments)))
        assert ended.status is Status.COMPLETED
    pid = int((tmp_path / "pid").read_text())
    await until(lambda: gone(pid))


@pytest.mark.parametrize("isolation", [THREAD, PROCESS])
async def test_ticks_of_a_sync_loop(tmp_path: Path, isolation: Isolation) -> None:
    step = 100 * MILLISECOND
    arguments = {"path": str(tmp_path / "ticks")}
    async with Desk() as desk:
        desk.next_tick = lambda _spec, after: (after // step + 1) * step
        ended = await desk.run(task(target("three_ticks", isolation=isolation, arguments=arguments)))
        assert ended.status is Status.COMPLETED, desk.failures
    ticks = (tmp_path / "ticks").read_text().split()
    assert len(set(ticks)) == 3
    assert ticks == sorted(ticks)


def test_the_runner_needs_nothing_but_the_standard_library() -> None:
    subprocess.run([sys.executable, "-I", "-S", str(RUNNER), "--check", "json:dumps"], check=True)


# Importing callables


def test_a_target_is_imported_with_the_python_path_in_front(tmp_path: Path) -> None:
    (tmp_path / "desk_strategy.py").write_text(
        "class Signals:\n    async def run(self, ctx): ...\nsignals = Signals()\n"
    )
    found = load_target("desk_strategy:signals.run", [str(tmp_path)])
    assert (found.is_async, found.wants_ctx) == (True, True)
    check_target(Work(target="desk_strategy:signals.run", isolation=PROCESS), [str(tmp_path)])


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("nowhere.at_all:run", "No module named 'nowhere'"),
        ("tests.shell.targets:not_there", "no attribute 'not_there'"),
        ("tests.shell.targets:not_callable", "not callable"),
        ("tests.shell.targets", "package.module:callable"),
        ("desk_broken:run", "ZeroDivisionError: division by zero"),
        ("desk_exits:run", "SystemExit: 3"),
        ("desk_syntax:run", "desk_syntax.py, line 1"),
    ],
)
@pytest.mark.parametrize("isolation", [None, PROCESS])
def test_a_target_that_does_not_import_says_why(
    tmp_path: Path, name: str, error: str, isolation: Any
) -> None:
    (tmp_path / "desk_broken.py").write_text("1 / 0\n")
    (tmp_path / "desk_exits.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "desk_syntax.py").write_text("def (:\n")
    with pytest.raises(TargetError) as refused:
        check_target(Work(target=name, isolation=isolation), [str(tmp_path), ROOT])
    if not (isolation is PROCESS and ":" not in name):
        assert error in str(refused.value)


def test_a_command_that_is_not_there_is_found_by_the_check() -> None:
    check_target(Work(argv=("sh",)))
    with pytest.raises(TargetError, match="no such program"):
        check_target(Work(argv=("/nonexistent/eod.sh",)))


# Rehearsals


async def test_a_rehearsal_executes_nothing_and_takes_the_remembered_time(tmp_path: Path) -> None:
    async with Desk(simulate=lambda _spec: 0.05) as desk:
        loop = asyncio.get_running_loop()
        began = loop.time()
        ended = await desk.run(task(shell(f"touch {tmp_path}/executed")))
        assert ended.status is Status.COMPLETED
        assert loop.time() - began >= 0.049
        ended = await desk.run(task(Work(target="nowhere:at_all"), timeout=20 * MILLISECOND))
        assert ended.reason == "timeout"
    assert not (tmp_path / "executed").exists()
