"""Asks the child process for raw calendars, keeps what it said, and goes on with that when it fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import date
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from scheduler.calendars.raw import FORMAT, RawCalendar, RawCalendars, parse_answer
from scheduler.errors import CalendarError

Runner: TypeAlias = Callable[[str], str]
"""Request in, answer out, both JSON; CalendarError when there is none."""

TIMEOUT: Final = 30.0  # real seconds; a child needs one or two
PACKAGES: Final = ("exchange-calendars", "pandas", "tzdata")
_KEPT: Final = 8  # answers, in memory and in the state directory
_ROOT: Final = Path(__file__).resolve().parents[2]  # what `scheduler` is imported from


class Raw(NamedTuple):
    """What is known of the calendars that were asked for."""

    calendars: dict[str, RawCalendar]  # by the name they were asked for
    names: frozenset[str]  # every name that exchange-calendars knows; empty when nobody could tell
    errors: dict[str, str]  # why a calendar is not among `calendars`
    warnings: tuple[str, ...]


def run_child(request: str, timeout: float = TIMEOUT) -> str:
    """The answer of a fresh child process in a group of its own; CalendarError when it gives none."""
    command = [sys.executable, "-m", "scheduler.calendars.child"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=_ROOT,
        encoding="utf-8",
        errors="replace",  # what is no text is no answer either
        start_new_session=True,
    ) as child:
        try:
            output, complaint = child.communicate(request, timeout=timeout)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise CalendarError(f"the calendar process gave no answer within {timeout:g} s") from None
            raise
    if child.returncode:
        last = complaint.strip().rsplit("\n", 1)[-1][:300]
        raise CalendarError(f"the calendar process failed with status {child.returncode}: {last}")
    return output


class CalendarSource:
    """Raw calendars by name, from memory, the state directory or a child process, in this order.

    An answer is kept in ``<state>/calendars`` under what it was made from: the versions of the
    packages, the names and the years asked for. Blocking; not for use by several threads at once.
    """

    def __init__(self, state: Path, runner: Runner = run_child) -> None:
        self._directory = state / "calendars"
        self._runner = runner
        self._remembered: dict[str, RawCalendars] = {}

    def read(self, names: Iterable[str], first: date, last: date) -> Raw:
        """The calendars of these names in whole years from ``first`` to ``last``."""
        wanted = sorted(set(names))
        if not wanted:
            return Raw({}, frozenset(), {}, ())
        years = {"first": f"{first.year}-01-01", "last": f"{last.year}-12-31"}
        request = json.dumps({"calendars": wanted, **years})
        key = sha256(f"{FORMAT} {[version(name) for name in PACKAGES]} {request}".encode()).hexdigest()[:16]
        warnings: list[str] = []
        try:
            answer = self._remembered.get(key) or self._stored(key)
            if answer is None or answer.failed:
                answer = self._asked(key, request, warnings)
        except (CalendarError, OSError) as error:
            warnings.append(str(error))
            answer = RawCalendars({}, frozenset(), {}, dict.fromkeys(wanted, str(error)))
        else:
            self._remembered[key] = answer
            while len(self._remembered) > _KEPT:
                del self._remembered[next(iter(self._remembered))]
        return self._with_older(answer, first, last, warnings)

    def _with_older(self, answer: RawCalendars, first: date, last: date, warnings: list[str]) -> Raw:
        """Put the last good one in the place of each calendar that could not be read.

        Of several the one that knows most of the dates: the newest may have been of other years.
        """
        calendars, errors, names = dict(answer.calendars), dict(answer.errors), answer.names
        kept = list(self._older()) if answer.failed else []
        for name in answer.failed:
            good = [older for older in kept if name in older.calendars]
            if good:
                best = max(good, key=lambda older: older.calendars[name].days_between(first, last))
                calendars[name] = best.calendars[name]
                made_by = ", ".join(" ".join(pair) for pair in best.versions.items())
                warnings.append(f"calendar {name}: {errors.pop(name)}; the last good one is used ({made_by})")
        for older in kept:
            names = names or older.names
        return Raw(calendars, names, errors, tuple(dict.fromkeys(warnings)))

    def _asked(self, key: str, request: str, warnings: list[str]) -> RawCalendars:
        text = self._runner(request)
        answer = parse_answer(text)
        absent = set(json.loads(request)["calendars"]) - answer.calendars.keys() - answer.errors.keys()
        if absent:
            raise CalendarError(f"the calendar process left out {', '.join(sorted(absent))}")
        try:
            self._store(key, text)
        except OSError as error:
            warnings.append(f"the calendars cannot be kept in {self._directory}: {error.strerror}")
        return answer

    def _store(self, key: str, text: str) -> None:
        """Atomically: a reader sees the whole answer or none."""
        if not self._directory.exists():
            self._directory.mkdir(parents=True, exist_ok=True)
            self._hand_over(self._directory)
        handle, temporary = tempfile.mkstemp(dir=self._directory, suffix=".new")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                self._hand_over(handle)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(self._directory / f"{key}.json")
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        for old in self._files()[_KEPT:]:
            old.unlink(missing_ok=True)

    def _hand_over(self, place: Path | int) -> None:
        """What root makes in another user's state directory is that user's: the daemon goes on with it."""
        if os.geteuid() == 0:
            owner = self._directory.parent.stat()
            os.chown(place, owner.st_uid, owner.st_gid)

    def _stored(self, key: str) -> RawCalendars | None:
        return self._load(self._directory / f"{key}.json")

    def _older(self) -> Iterable[RawCalendars]:
        """Every other answer there is, the newest first."""
        yield from reversed(self._remembered.values())
        for file in self._files():
            answer = self._load(file)
            if answer is not None:
                yield answer

    def _load(self, file: Path) -> RawCalendars | None:
        """An answer kept earlier; None when there is none, or it was damaged: it can be made anew."""
        try:
            return parse_answer(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, CalendarError):
            return None

    def _files(self) -> list[Path]:
        files = [(file.stat().st_mtime_ns, file) for file in self._directory.glob("*.json")]
        return [file for _, file in sorted(files, reverse=True)]
