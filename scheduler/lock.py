"""One instance per state directory: a lock that dies with its process."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from scheduler.errors import ConfigurationError, StateLockedError


class StateLock:
    """Holds ``<directory>/lock`` by flock(2) until ``release`` or the end of the process."""

    def __init__(self, directory: Path) -> None:
        """StateLockedError when another process holds it, ConfigurationError when it cannot be made."""
        path = directory / "lock"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"the state directory {directory} cannot be written: {error.strerror}; "
                "make it writable for this user or name another with SCHEDULER_STATE_DIR"
            ) from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._file, 32, 0).decode(errors="replace").strip()
            os.close(self._file)
            raise StateLockedError(
                f"another scheduler (process {owner or 'unknown'}) runs with the state directory {directory}"
            ) from None
        os.ftruncate(self._file, 0)
        with suppress(OSError):  # a full disk; who holds the lock is told by the kernel too
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._file)


def locked_by(directory: Path) -> int | None:
    """The process that runs with this state directory, if one does. Takes no lock, so disturbs nobody."""
    try:
        with (directory / "lock").open() as file:
            place = f"{_device(file.fileno())}:{os.fstat(file.fileno()).st_ino}"
        held = Path("/proc/locks").read_text()
    except OSError:
        return None
    # 1: FLOCK  ADVISORY  WRITE 4711 fe:00:2220148 0 EOF
    locks = (line.split() for line in held.splitlines())
    owners = (lock[-4] for lock in locks if lock[1] == "FLOCK" and lock[-3] == place)
    return next((int(owner) for owner in owners), None)


def _device(file: int) -> str:
    """The device of an open file as /proc/locks has it: of its file system.

    What stat(2) says is another one for the subvolumes of btrfs.
    """
    mount = ""
    for line in Path(f"/proc/self/fdinfo/{file}").read_text().splitlines():
        if line.startswith("mnt_id:"):
            mount = line.split()[1]
    # 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if mount and line.startswith(f"{mount} "):
            major, _, minor = line.split()[2].partition(":")
            return f"{int(major):02x}:{int(minor):02x}"
    device = os.fstat(file).st_dev
    return f"{os.major(device):02x}:{os.minor(device):02x}"
