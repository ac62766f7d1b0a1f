"""Whatever one task does, the others do not notice, and the log says who did what, and where.

One daemon runs a task for each fault beside a pulse, which is critical and due every second. All that a
fault may cost the pulse is what one event loop makes unavoidable: while a task holds up the loop.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil
import pytest

from scheduler.lock import StateLock
from tests.end_to_end.daemon import Daemon, Desk, Entry, alive, eventually

SLACK = 1.0  # seconds that the pulse may be late for reasons of a shared machine
STALL = 1.5  # seconds for which a blocking task blocks

MODULE = """
import asyncio, os, signal, subprocess, sys, threading, time

kept = []

async def pulse(): pass
async def raises(): raise ValueError("no quotes")
async def exits(): sys.exit(3)
async def interrupts(): raise KeyboardInterrupt
async def returns_a_lock(): return threading.Lock()
async def hangs(): await asyncio.Event().wait()
def hangs_in_a_thread(): time.sleep(5)
async def hangs_in_a_pool(): await asyncio.to_thread(time.sleep, 600)
def hangs_in_a_process(): time.sleep(600)
def ends_the_interpreter(): os._exit(7)
def aborts(): os.abort()
def kills_itself(): os.kill(os.getpid(), signal.SIGKILL)
def returns_a_lock_in_a_process(): return threading.Lock()
async def blocks_the_loop(): time.sleep(1.5)
def eats_memory(): kept.append(bytearray(1 << 30))

async def ignores_cancellation():
    until = time.monotonic() + 6
    while time.monotonic() < until:
        try:
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            pass

async def swallows_its_cancellation():
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        return "as if nothing had happened"

def burn():
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        pass

async def burns_on_the_loop(): burn()
def burns_in_a_thread(): burn()
def burns_in_a_process(): burn()

async def forever():
    await asyncio.Event().wait()

async def leaks_tasks():
    kept.extend(asyncio.ensure_future(forever()) for _ in range(2))

async def leaks_tasks_in_a_thread():
    kept.append(asyncio.ensure_future(forever()))

def linger():
    time.sleep(5)

def leaks_a_thread():
    threading.Thread(target=linger, name="poller", daemon=True).start()

async def leaks_a_thread_from_the_loop():
    threading.Thread(target=linger, name="feeder", daemon=True).start()

async def uses_a_pool():
    await asyncio.to_thread(time.sleep, 0.01)

async def leave():
    sys.exit(4)

async def exits_in_a_task_of_its_own():
    await asyncio.create_task(leave())

async def exits_in_a_callback():
    asyncio.get_running_loop().call_soon(sys.exit, 5)

def forks_grandchildren():
    argv = ["sh", "-c", "echo $$ >> @/grandchildren.pid; exec sleep 600"]
    for new_session in (False, True):
        subprocess.Popen(argv, start_new_session=new_session)
    while len(open("@/grandchildren.pid").read().split()) < 2:
        time.sleep(0.01)

async def waits_late_for_its_child():
    children = [subprocess.Popen(["sh", "-c", "exit 3"], start_new_session=new) for new in (False, True)]
    await asyncio.sleep(3)
    assert [child.wait() for child in children] == [3, 3]

async def prints():
    print("on the loop", end="")
    print(", a line")
    print("to the other stream", file=sys.stderr)

def prints_a_lot():
    for number in range(20_000):
        print("line", number)
"""
SLEEP = "sh -c 'echo $$ >> @/escaped.pid; exec sleep 600'"
ESCAPE = f"setsid {SLEEP} & setsid -f {SLEEP}"
WAIT = "while [ $(cat @/escaped.pid | wc -l) != 2 ]; do sleep 0.05; done"
EAT = "import sys; kept = bytearray(1 << 30)"
ASYNC, PROCESS, THREAD = "", "isolation: process, ", "isolation: thread, "


class Fault(NamedTuple):
    """A task that does something wrong, once."""

    at: int  # seconds after ten
    keys: str = ""
    command: str = ""  # instead of a callable of the task's name


SOON = "timeout: 1s, stop_grace: 500ms, "
FAULTS = {
    "raises": Fault(1),
    "exits": Fault(1),
    "interrupts": Fault(1),
    "returns-a-lock": Fault(1),
    "returns-a-lock-in-a-process": Fault(1, PROCESS),
    "ends-the-interpreter": Fault(1, PROCESS),
    "aborts": Fault(1, PROCESS),
    "kills-itself": Fault(1, PROCESS),
    "hangs": Fault(2, SOON),
    "ignores-cancellation": Fault(2, SOON),
    "swallows-its-cancellation": Fault(2, SOON),
    "hangs-in-a-thread": Fault(2, SOON),
    "hangs-in-a-pool": Fault(2, SOON),
    "hangs-in-a-process": Fault(2, PROCESS + SOON),
    "leaks-tasks": Fault(3),
    "leaks-tasks-in-a-thread": Fault(3, THREAD),
    "leaks-a-thread": Fault(3),
    "leaks-a-thread-from-the-loop": Fault(3),
    "uses-a-pool": Fault(3),
    "exits-in-a-task-of-its-own": Fault(3),
    "exits-in-a-callback": Fault(3),
    "forks-grandchildren": Fault(4, PROCESS),
    "escapes": Fault(4, "", f'[/bin/sh, -c, "{ESCAPE}; {WAIT}"]'),
    "waits-late-for-its-child": Fault(3),
    "prints": Fault(5),
    "prints-a-lot": Fault(5),
    "floods": Fault(5, "", "[/bin/sh, -c, 'yes flood | head -n 1000000']"),
    "eats-memory": Fault(6, PROCESS + "memory_limit: 256M, "),
    "eats-memory-as-a-command": Fault(6, "memory_limit: 256M, ", f"[python3, -c, '{EAT}']"),
    "blocks-the-loop": Fault(7),
    "burns-on-the-loop": Fault(9),
    "burns-in-a-thread": Fault(11),
    "burns-in-a-process": Fault(11, PROCESS),
}
BLOCKING = ("blocks-the-loop", "burns-on-the-loop")


def configuration() -> str:
    """Once an hour, at this second of it. Critical, so that nothing is shed; and not tried again."""
    lines = ["tasks:", "  pulse: {run: faulty:pulse, every: 1s, priority: critical}"]
    for name, fault in FAULTS.items():
        work = f"command: {fault.command}" if fault.command else f"run: 'faulty:{name.replace('-', '_')}'"
        pace = f"every: 1h, offset: {fault.at}s, priority: critical, restart: {{policy: never}}"
        lines.append(f"  {name}: {{{pace}, {fault.keys}{work}}}")
    return "\n".join(lines)


class Story(NamedTuple):
    """What a daemon said of it, and its ledger."""

    daemon: Daemon
    desk: Desk
    rows: list[Entry]
    zombies: list[int]  # children that had ended, and whom nobody had asked how

    def outcome(self, task: str) -> tuple[str, str, str]:
        [row] = [row for row in self.rows if row["task"] == task]
        return row["status"], row["reason"], row["error"]

    def said(self, event: str, task: str) -> Entry:
        [entry] = self.daemon.seen(event, task=task)
        return entry

    def leaks(self, task: str) -> list[tuple[str, int]]:
        return [(leak["kind"], leak["count"]) for leak in self.daemon.seen("task.leaked", task=task)]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, calendars: Path) -> Iterator[Story]:
    desk = Desk(tmp_path_factory.mktemp("containment"), calendars)
    try:
        desk.module("faulty", MODULE)
        desk.tasks(configuration())
        daemon = desk.live("2026-11-23T09:59:58+05:30")
        for name in ("burns-in-a-thread", "burns-in-a-process"):
            daemon.find("run.completed", task=name)
        daemon.wait_for("run.completed", task="pulse")
        children = psutil.Process(daemon.process.pid).children()
        zombies = [child.pid for child in children if child.status() == psutil.STATUS_ZOMBIE]
        assert daemon.stop() == 0
        yield Story(daemon, desk, desk.rows("history"), zombies)
    finally:
        desk.close()


def seconds(later: str, earlier: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def test_the_pulse_is_late_by_no_more_than_the_loop_was_held_up(story: Story) -> None:
    """Of a stall it is late by what is left of the stall when it is due, and by nothing else."""
    stalls = [row for row in story.rows if row["task"] in BLOCKING]
    assert all(STALL <= seconds(row["ended"], row["started"]) < STALL + SLACK for row in stalls)
    pulses = [row for row in story.rows if row["task"] == "pulse"]
    ran = [row for row in pulses if row["status"] == "completed"]
    assert len(ran) >= 9
    for row in ran:
        held_up = [
            seconds(stall["ended"], row["due"])
            for stall in stalls
            if stall["started"] <= row["started"] and row["due"] <= stall["ended"]
        ]
        assert seconds(row["started"], row["due"]) < max(held_up, default=0.0) + SLACK, row
    assert median(seconds(row["started"], row["due"]) for row in ran) < 0.1
    for row in pulses:  # of several that are due in one stall only the last is made up for
        stalled = any(stall["started"] <= row["due"] <= stall["ended"] for stall in stalls)
        assert row["status"] == "completed" or stalled, row


def test_every_fault_is_in_the_ledger_once_and_the_log_is_one_object_per_line(story: Story) -> None:
    assert {row["task"] for row in story.rows} == {"pulse", *FAULTS}
    for name in FAULTS:
        story.outcome(name)
    assert not story.daemon.messages
    assert story.zombies == []


@pytest.mark.parametrize(
    ("task", "error"),
    [
        ("raises", "ValueError: no quotes"),
        ("exits", "SystemExit: 3"),
        ("interrupts", "KeyboardInterrupt"),
        ("exits-in-a-task-of-its-own", "RuntimeError: SystemExit: 4 in a task of its own"),
    ],
)
def test_what_a_task_raises_is_its_own_failure_with_its_traceback(
    story: Story, task: str, error: str
) -> None:
    assert story.outcome(task) == ("failed", "error", error)
    assert story.said("run.failed", task)["error"] == error
    assert f"in {task.replace('-', '_')}" in story.said("task.traceback", task)["exception"]


def test_an_exit_in_a_callback_of_a_task_does_not_end_the_daemon(story: Story) -> None:
    assert story.outcome("exits-in-a-callback")[0] == "completed"
    [told] = story.daemon.seen("background.failed")
    assert told["error"] == "SystemExit in a callback"


@pytest.mark.parametrize(
    ("task", "error"),
    [
        ("ends-the-interpreter", "exit status 7"),
        ("aborts", "killed by SIGABRT"),
        ("kills-itself", "killed by SIGKILL"),
    ],
)
def test_ending_the_interpreter_ends_that_of_the_task(story: Story, task: str, error: str) -> None:
    status, reason, told = story.outcome(task)
    assert (status, reason) == ("failed", "error")
    assert told.startswith(error)
    assert story.said("run.failed", task)["error"] == told


@pytest.mark.parametrize("task", ["returns-a-lock", "returns-a-lock-in-a-process"])
def test_what_cannot_be_pickled_may_be_returned(story: Story, task: str) -> None:
    assert story.outcome(task) == ("completed", "", "")


@pytest.mark.parametrize(
    "task",
    [
        "hangs",
        "swallows-its-cancellation",
        "ignores-cancellation",
        "hangs-in-a-thread",
        "hangs-in-a-pool",
    ],
)
def test_what_hangs_times_out_and_the_log_says_on_which_line(story: Story, task: str) -> None:
    status, reason, error = story.outcome(task)
    assert (status, reason) == ("failed", "timeout")
    assert f"timed out after 1s at {story.desk.code}/faulty.py:" in error
    assert f"in {task.replace('-', '_')}" in error
    assert story.said("run.failed", task)["error"] == error


def test_what_hangs_in_a_process_is_killed_and_the_log_says_on_which_line(story: Story) -> None:
    status, reason, error = story.outcome("hangs-in-a-process")
    assert (status, reason) == ("failed", "timeout")
    assert "it had to be killed, at " in error
    assert error.endswith("in hangs_in_a_process")


def test_a_thread_and_a_task_that_cannot_be_ended_are_named(story: Story) -> None:
    assert story.leaks("ignores-cancellation") == [("task", 1)]
    assert story.said("task.leaked", "ignores-cancellation")["where"].endswith("in ignores_cancellation")
    assert story.leaks("hangs-in-a-thread") == [("thread", 1)]
    where = story.said("task.leaked", "hangs-in-a-thread")["where"]
    assert where.endswith("in hangs_in_a_thread; it cannot be ended")


def test_a_thread_that_hangs_in_a_pool_does_not_hold_up_the_end_of_the_daemon(story: Story) -> None:
    [told] = story.daemon.seen("daemon.threads_left")
    [thread] = told["threads"]  # of the loop's own pool, which tasks use by asyncio.to_thread
    assert ", now at " in thread


def test_tasks_left_behind_are_told_with_the_place_that_made_them(story: Story) -> None:
    assert story.leaks("leaks-tasks") == [("task", 2)]
    assert story.said("task.leaked", "leaks-tasks")["where"].startswith(
        f"forever, made at {story.desk.code}/faulty.py:"
    )
    assert story.leaks("leaks-tasks-in-a-thread") == [("task", 1)]
    assert "forever" in story.said("task.leaked", "leaks-tasks-in-a-thread")["where"]


@pytest.mark.parametrize(
    ("task", "thread"), [("leaks-a-thread", "poller"), ("leaks-a-thread-from-the-loop", "feeder")]
)
def test_threads_left_behind_are_told_with_where_they_are(story: Story, task: str, thread: str) -> None:
    assert story.outcome(task)[0] == "completed"
    assert story.leaks(task) == [("thread", 1)]
    where = story.said("task.leaked", task)["where"]
    assert where.startswith(f"{thread}, started at {story.desk.code}/faulty.py:")
    assert where.endswith("in linger; threads cannot be ended")


def test_the_threads_of_a_pool_are_no_leak(story: Story) -> None:
    assert story.outcome("uses-a-pool")[0] == "completed"
    assert story.leaks("uses-a-pool") == []


@pytest.mark.parametrize(
    ("task", "file"), [("forks-grandchildren", "grandchildren.pid"), ("escapes", "escaped.pid")]
)
def test_grandchildren_are_gone_when_the_run_ends_new_sessions_or_not(
    story: Story, task: str, file: str
) -> None:
    pids = [int(line) for line in story.desk.lines(file)]
    assert len(pids) == 2
    assert not any(map(alive, pids))
    assert story.outcome(task)[0] == "completed"
    assert story.leaks(task) == [("process", 2)]
    where = story.said("task.leaked", task)["where"]
    assert f"sleep 600 (process {pids[0]}, " in where
    assert "left its process group" in where


def test_a_process_that_a_task_has_started_itself_is_its_own_to_wait_for(story: Story) -> None:
    """The daemon buries what it adopts, never what a callable waits for; other runs end in between."""
    assert story.outcome("waits-late-for-its-child") == ("completed", "", "")


def test_prints_are_lines_of_the_log_that_name_the_task(story: Story) -> None:
    lines = [entry["line"] for entry in story.daemon.seen("run.output", task="prints")]
    assert lines == ["on the loop, a line", "to the other stream"]


@pytest.mark.parametrize("task", ["prints-a-lot", "floods"])
def test_a_flood_of_output_is_cut_and_counted(story: Story, task: str) -> None:
    assert story.outcome(task)[0] == "completed"
    shown = story.daemon.seen("run.output", task=task)
    cut = sum(entry["lines"] for entry in story.daemon.seen("run.output_suppressed", task=task))
    assert len(shown) < 5_000
    assert len(shown) + cut == (20_000 if task == "prints-a-lot" else 1_000_000)


@pytest.mark.parametrize("task", ["eats-memory", "eats-memory-as-a-command"])
def test_the_memory_limit_bites_and_is_named(story: Story, task: str) -> None:
    status, reason, error = story.outcome(task)
    assert (status, reason) == ("failed", "error")
    assert error.endswith("MemoryError (its memory_limit is 256M)")
    assert story.said("run.failed", task)["error"] == error


@pytest.mark.parametrize("task", BLOCKING)
def test_who_holds_up_the_loop_is_named_with_the_line(story: Story, task: str) -> None:
    stalled = story.daemon.seen("loop.stalled", task=task)[0]
    assert f"{story.desk.code}/faulty.py:" in stalled["frame"]


def test_a_limit_that_would_have_no_effect_is_refused(desk: Desk) -> None:
    desk.module("faulty", MODULE)
    desk.tasks("tasks:\n  pulse: {run: faulty:pulse, every: 1s, memory_limit: 1G}\n")
    answer = desk.ask("check")
    assert answer.returncode == 78
    assert "memory_limit: needs a process of its own; add `isolation: process`" in answer.stderr


HOUSEHOLD = """
tasks:
  household:
    keep_running: true
    command: [/bin/sh, -c, "echo $$ >> @/household.pid;
      setsid sh -c 'echo $$ >> @/household.pid; exec sleep 600' & wait; sleep 600"]
"""


def household(desk: Desk) -> tuple[Daemon, list[int]]:
    """A daemon, and the ids of a command and of its child in another session."""
    desk.tasks(HOUSEHOLD)
    daemon = desk.run()
    eventually(lambda: len(desk.lines("household.pid")) == 2, "both processes run")
    return daemon, [int(line) for line in desk.lines("household.pid")]


def test_commands_do_not_outlive_a_daemon_that_is_killed(desk: Desk) -> None:
    daemon, pids = household(desk)
    daemon.kill()
    eventually(lambda: not any(map(alive, pids)), "its processes have ended")


def test_a_command_that_outlived_its_daemon_is_ended_before_a_second_copy_is_started(desk: Desk) -> None:
    """Someone has killed all that Python ran, and nobody was left to tidy up."""
    daemon, pids = household(desk)
    [guardian] = [
        child
        for child in psutil.Process(daemon.process.pid).children()
        if "survivors.py" in " ".join(child.cmdline())
    ]
    guardian.kill()
    daemon.kill()
    assert all(map(alive, pids))
    second = desk.run()
    second.wait_for("task.leaked", task="household", kind="process")
    assert not any(map(alive, pids))
    eventually(lambda: len(desk.lines("household.pid")) == 4, "the second copy runs")
    assert second.stop() == 0


def test_a_second_daemon_does_not_touch_what_the_first_runs_even_if_it_cannot_see_the_first(
    desk: Desk,
) -> None:
    """As from another process namespace: to whom the processes belong is said by the lock alone."""
    desk.tasks(HOUSEHOLD)
    place = desk.state.stat()
    mark = f"{place.st_dev:x}-{place.st_ino:x}:{2**22 + 1}-1:1"  # of a daemon that is nowhere to be seen
    lock = StateLock(desk.state)
    with subprocess.Popen(["sleep", "600"], env={**os.environ, "SCHEDULER_MARK": mark}) as process:
        try:
            second = desk.run()
            assert second.ended() == 1
            assert process.poll() is None
            assert second.log == []
        finally:
            lock.release()
            process.kill()


def test_a_killed_task_of_another_desk_is_left_alone(
    desk: Desk, tmp_path_factory: pytest.TempPathFactory, calendars: Path
) -> None:
    """Two daemons on one host: the end of one is no business of the other's commands."""
    other = Desk(tmp_path_factory.mktemp("other"), calendars)
    try:
        _, pids = household(desk)
        second, others = household(other)
        second.kill()
        eventually(lambda: not any(map(alive, others)), "its processes have ended")
        assert all(map(alive, pids))
    finally:
        other.close()
