"""What operators change with `scheduler market amend`: kept in the state directory, never in the desk's YAML.

``amendments.yaml`` is what is in force, ``amendments.log`` beside it the audit trail: a JSON object a
line, nothing is ever taken out. The two have a directory of their own, so that a daemon which watches
it is not woken by every write of the ledger.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from scheduler.yamlfile import read

AMENDMENTS: Final = "amendments"  # in the state directory
_FILE: Final = "amendments.yaml"
_TRAIL: Final = "amendments.log"
_HEADER: Final = """\
# Written by `scheduler market amend` in the format of markets.yaml. Changes made here by hand are kept,
# comments are not.
"""

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
    """What is in force. ConfigurationError for what is no YAML; its meaning is not checked here."""
    path = amendments_file(state)
    if not path.exists():
        return {}
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
    """One operator at a time: holds the trail's lock while changes are read, checked and kept."""

    def __init__(self, state: Path) -> None:
        self._directory = state / AMENDMENTS

    def __enter__(self) -> Self:
        """OSError when the state directory cannot be written."""
        if not self._directory.is_dir():
            self._directory.mkdir(parents=True, exist_ok=True)
            self._directory.chmod(0o755)  # whatever the umask of root: the daemon has to read it
        self._trail = os.open(
            self._directory / _TRAIL, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644
        )
        fcntl.flock(self._trail, fcntl.LOCK_EX)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._trail)

    def keep(self, text: str, entry: Entry) -> None:
        """Put a new text in force, whole or not at all, once the trail has the entry. OSError."""
        handle, name = tempfile.mkstemp(dir=self._directory, suffix=".new")
        temporary, before = Path(name), os.fstat(self._trail).st_size
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fchmod(handle, 0o644)
                os.fsync(handle)
            with os.fdopen(os.dup(self._trail), "a", encoding="utf-8") as trail:
                trail.write(json.dumps(entry, ensure_ascii=False) + "\n")
            os.fsync(self._trail)
            temporary.replace(self._directory / _FILE)
        except BaseException:
            os.ftruncate(self._trail, before)  # the trail has what was done, and whole lines
            temporary.unlink(missing_ok=True)
            raise
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)  # a power cut must not bring the old file back
        finally:
            os.close(directory)
