"""One instance per state directory, by a lock that dies with its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from scheduler.errors import ConfigurationError, StateLockedError
from scheduler.lock import StateLock, locked_by

HOLDER = """
import sys
from pathlib import Path
from scheduler.lock import StateLock
lock = StateLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def holder(state: Path, *more: str) -> subprocess.Popen[str]:
    """Another process that holds the lock until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER + "\n".join(more), str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=30)


def test_a_second_lock_is_refused_and_names_the_owner(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        with pytest.raises(StateLockedError, match=rf"process {process.pid}\b.*{tmp_path}"):
            StateLock(tmp_path)
    finally:
        end(process)


def test_a_second_lock_of_the_same_process_is_refused(tmp_path: Path) -> None:
    lock = StateLock(tmp_path)
    with pytest.raises(StateLockedError, match=str(os.getpid())):
        StateLock(tmp_path)
    lock.release()


def test_a_refused_lock_leaves_the_owners_name_in_place(tmp_path: Path) -> None:
    lock = StateLock(tmp_path)
    for _ in range(2):
        with pytest.raises(StateLockedError, match=str(os.getpid())):
            StateLock(tmp_path)
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    lock.release()


def test_a_released_lock_can_be_had_again(tmp_path: Path) -> None:
    for _ in range(3):
        StateLock(tmp_path).release()


def test_a_killed_process_lets_go_of_its_lock(tmp_path: Path) -> None:
    process = holder(tmp_path)
    process.send_signal(signal.SIGKILL)
    end(process)
    assert process.returncode == -signal.SIGKILL
    StateLock(tmp_path).release()


def test_a_child_that_outlives_its_parent_does_not_keep_the_lock(tmp_path: Path) -> None:
    """Commands may go on in the background: what they inherit must not lock out the next daemon."""
    spawning = HOLDER.replace(
        'print("held", flush=True)',
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '60'], close_fds=False, stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)",
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", spawning, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    end(parent)
    try:
        os.kill(child, 0)  # it lives
        StateLock(tmp_path).release()
    finally:
        os.kill(child, signal.SIGKILL)


def test_the_state_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    StateLock(tmp_path / "var" / "lib" / "scheduler").release()
    assert (tmp_path / "var" / "lib" / "scheduler" / "lock").exists()


def test_the_lock_is_nobody_elses_to_read(tmp_path: Path) -> None:
    StateLock(tmp_path).release()
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


def test_a_state_directory_that_cannot_be_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="SCHEDULER_STATE_DIR"):
        StateLock(tmp_path / "file" / "state")
    (tmp_path / "state" / "lock").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        StateLock(tmp_path / "state")


def test_who_holds_it_can_be_asked_without_taking_it(tmp_path: Path) -> None:
    assert locked_by(tmp_path) is None
    lock = StateLock(tmp_path)
    assert locked_by(tmp_path) == os.getpid()
    lock.release()
    assert locked_by(tmp_path) is None, "the number that is left in the file is of no process"


def test_the_same_inode_number_on_another_device_is_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    StateLock(tmp_path).release()
    inode = (tmp_path / "lock").stat().st_ino
    read = Path.read_text

    def told(path: Path, *arguments: Any, **options: Any) -> str:
        if path == Path("/proc/locks"):
            return f"1: FLOCK  ADVISORY  WRITE 99 ab:cd:{inode} 0 EOF\n"
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", told)
    assert locked_by(tmp_path) is None


def test_a_lock_in_memory_is_found_too() -> None:
    """Its file system has a device of its own, without a disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        lock = StateLock(Path(directory))
        assert locked_by(Path(directory)) == os.getpid()
        lock.release()


def test_a_process_that_waits_for_the_lock_does_not_have_it(tmp_path: Path) -> None:
    lock = StateLock(tmp_path)
    waiting = subprocess.Popen(["/usr/bin/flock", tmp_path / "lock", "true"])
    try:
        while "->" not in Path("/proc/locks").read_text():
            os.sched_yield()
        assert locked_by(tmp_path) == os.getpid()
    finally:
        lock.release()
        assert waiting.wait(30) == 0
