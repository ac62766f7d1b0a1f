"""One instance per state directory: a lock that dies with its process."""

from __future__ import annotations

import fcntl
import os
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
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._file)


def locked_by(directory: Path) -> int | None:
    """The process that runs with this state directory, if one does. Takes no lock, so disturbs nobody."""
    try:
        with (directory / "lock").open() as file:
            owner, inode = file.read().strip(), os.fstat(file.fileno()).st_ino
        held = Path("/proc/locks").read_text()
    except OSError:
        return None
    # 1: FLOCK  ADVISORY  WRITE 4711 fe:00:2220148 0 EOF
    locks = (line.split() for line in held.splitlines())
    is_held = any(lock[1] == "FLOCK" and lock[-3].endswith(f":{inode}") for lock in locks)
    return int(owner) if is_held and owner.isdecimal() else None
