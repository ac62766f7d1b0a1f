"""What operators change with `scheduler market amend`: kept in the state directory, never in the desk's YAML.

``amendments.yaml`` is what is in force, ``amendments.log`` beside it the audit trail: a JSON object a
line, nothing is ever taken out. The two have a directory of their own, so that a daemon which watches
it is not woken by every write of the ledger.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from scheduler.core.marketspec import AMENDMENT
from scheduler.errors import ConfigurationError
from scheduler.marketfile.layer import Layer
from scheduler.yamlfile import is_there, read

AMENDMENTS: Final = "amendments"  # in the state directory
_FILE: Final = "amendments.yaml"
_TRAIL: Final = "amendments.log"
_HEADER: Final = """\
# Written by `scheduler market amend` in the format of markets.yaml. What is under `changes` may be written
# by hand too and is kept; comments are not, and anything else belongs into markets.yaml.
"""
_DIRECTORY_MODE: Final = 0o755
_FILE_MODE: Final = 0o644

Changes: TypeAlias = dict[str, dict[str, dict[str, Any]]]  # by market and date, as in the file
Entry: TypeAlias = Mapping[str, str]  # of the trail: at, by, action, market, date, change, reason


def amendments_file(state: Path) -> Path:
    """Where the amendments of a state directory are, if there are any."""
    return state / AMENDMENTS / _FILE


def read_trail(state: Path) -> tuple[Entry, ...]:
    """Every change that operators made so far, the oldest first. OSError."""
    try:
        lines = (state / AMENDMENTS / _TRAIL).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return ()
    return tuple(entry for line in lines if (entry := _entry(line)) is not None)


def _entry(line: str) -> Entry | None:
    """None for a line that a full disk cut short."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return {str(key): str(value) for key, value in entry.items()} if isinstance(entry, dict) else None


def read_changes(state: Path) -> Changes:
    """What is in force. ConfigurationError with every mistake in it that has nothing to do with calendars."""
    path = amendments_file(state)
    if not is_there(path):
        return {}
    problems = Layer(AMENDMENT).read(path).problems
    if problems:
        raise ConfigurationError(problems)
    markets = read(path).plain().get("markets") or {}
    return {name: dict(market.get("changes") or {}) for name, market in markets.items()}


def amendments_text(changes: Changes) -> str:
    """The file that says this. Values are written as JSON, which YAML includes and nothing mistakes."""
    lines = [_HEADER + "markets:"]
    for market, dates in sorted(changes.items()):
        if dates:
            lines += [f"  {market}:", "    changes:"]
        for day, change in sorted(dates.items()):
            keys = (f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in change.items())
            lines.append(f"      {day}: {{{', '.join(keys)}}}")
    return "\n".join(lines) + "\n"


class AmendmentsLock:
    """One operator at a time: holds the trail's lock while changes are read, checked and kept.

    Whoever amends, and by whichever umask: the daemon can read it, and its user can amend too. Root does
    not follow links in a directory that is another user's.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self._path = state / AMENDMENTS

    def __enter__(self) -> Self:
        """OSError when the state directory cannot be written."""
        self._path.mkdir(parents=True, exist_ok=True)
        self._owner = self._state.stat()
        self._directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._share(self._directory, _DIRECTORY_MODE)
            self._trail = self._open(_TRAIL, os.O_APPEND)
        except BaseException:
            os.close(self._directory)
            raise
        fcntl.flock(self._trail, fcntl.LOCK_EX)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._trail)
        os.close(self._directory)

    def _open(self, name: str, flags: int) -> int:
        flags |= os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            handle = os.open(name, flags, _FILE_MODE, dir_fd=self._directory)
        except OSError as error:
            error.filename = str(self._path / name)
            raise
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:  # a hard link may be to anything
            os.close(handle)
            raise OSError(errno.EPERM, "no regular file, or a second name of one", str(self._path / name))
        self._share(handle, _FILE_MODE)
        return handle

    def _share(self, handle: int, mode: int) -> None:
        """Let everybody read it, and the owner of the state directory have it."""
        status = os.fstat(handle)
        if os.geteuid() == 0 and (status.st_uid, status.st_gid) != (self._owner.st_uid, self._owner.st_gid):
            os.fchown(handle, self._owner.st_uid, self._owner.st_gid)
        if os.geteuid() in (0, status.st_uid):
            os.fchmod(handle, stat.S_IMODE(status.st_mode) | mode)

    def keep(self, text: str, entry: Entry) -> None:
        """Put a new text in force, whole or not at all, once the trail has the entry. OSError."""
        before, temporary = os.fstat(self._trail).st_size, f"{_FILE}.new"
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=self._directory)  # of one who was killed: the lock is ours
        try:
            with os.fdopen(self._open(temporary, os.O_EXCL), "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            with os.fdopen(os.dup(self._trail), "a", encoding="utf-8") as trail:
                trail.write(json.dumps(entry, ensure_ascii=False) + "\n")
            os.fsync(self._trail)
            os.replace(temporary, _FILE, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except BaseException:
            os.ftruncate(self._trail, before)  # the trail has what was done, and whole lines
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=self._directory)
            raise
        os.fsync(self._directory)  # a power cut must not bring the old file back
