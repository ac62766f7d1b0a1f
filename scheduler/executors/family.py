"""Every process of a run, wherever it went: found, and ended with the run.

A process may leave its group and its session, and its parent may end, but its environment still names
the run it belongs to (the mark), and we are a subreaper (prctl(2)): who loses a parent below us becomes
our child, instead of init's. So once the command of a run has ended, whatever is left of the run is
among our children. A child's id is not given to another before we have asked how it ended, which makes
killing it by its id safe.

What the daemon adopts it must also bury: children that have ended stay as zombies until someone asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import NamedTuple

from scheduler.executors.survivors import (
    MARK,
    Marked,
    Stat,
    command_of,
    end_all,
    environment_of,
    marked,
    stat_of,
)

_SET_CHILD_SUBREAPER = 36  # of <linux/prctl.h>
_ROUND = 60.0  # seconds between looks for zombies while no command ends
_UNCLAIMED = 3600.0  # seconds after which nobody will ask any more how a child ended
_LAST_LOOK = 5.0  # seconds that the guardian may take at an orderly end


class Relative(NamedTuple):
    """A living process of a run whose command has ended."""

    pid: int
    escaped: bool  # it has left the process group of its command
    command: str


class Family:
    """The processes below this one. One for the process, as being a subreaper is."""

    def __init__(self, place: Path, own: Callable[[], set[int]]) -> None:
        """``place``: the state directory, which names this daemon among others. ``own``: the ids of
        children that are waited for elsewhere. OSError when the kernel does not offer what is needed.
        """
        self._children = Path(f"/proc/self/task/{os.getpid()}/children")
        self._children.read_bytes()  # not every kernel has it
        status, this = place.stat(), stat_of(os.getpid())
        assert this is not None
        self._place = f"{status.st_dev:x}-{status.st_ino:x}:"
        self._prefix = f"{self._place}{os.getpid()}-{this.start}:"
        self._session = this.session
        self._own = own
        self._numbers = count(1)
        self._killed: set[int] = set()
        self._zombies: dict[tuple[int, str], float] = {}  # seen first at this time of the loop
        self._loop = asyncio.get_running_loop()
        self._guardian = self._start_guardian()
        try:
            _become_subreaper()
        except BaseException:
            self._dismiss_guardian()
            raise
        self._timer = self._loop.call_later(_ROUND, self._look_round)

    def end_survivors(self) -> list[tuple[Marked, str]]:
        """End what an earlier daemon of this state directory has left behind, and tell the commands.

        For who holds the directory's lock: whatever carries its mark is then nobody's.
        """
        ours = re.compile(rf"{self._place}\d+-\d+:\d+")  # whoever sets the variable may write anything

        def left() -> list[Marked]:
            found = (process for process in marked(self._place) if process.pid != os.getpid())
            return [process for process in found if ours.fullmatch(process.mark)]

        told = [(process, command_of(process.pid)) for process in left()]
        if told:
            end_all(left)
        return told

    def new_mark(self) -> str:
        """What the environment of the next command shall have as MARK."""
        if self._guardian.poll() is not None:  # somebody has ended it
            self._guardian = self._start_guardian()
        return f"{self._prefix}{next(self._numbers)}"

    def relatives(self, mark: str, leader: int) -> list[Relative]:
        """What lives on of the run with this mark, whose command (with this process id) has ended."""
        found = []
        for pid, stat in self._living():
            # Some programs overwrite their environment to show a title; few of those leave the session too.
            if stat.session == leader or environment_of(pid).get(MARK) == mark:
                found.append(Relative(pid, stat.group != leader, command_of(pid)))
        return found

    def kill(self, relative: Relative) -> None:
        """SIGKILL to a child of ours; PermissionError when it has become another user's.

        ProcessLookupError when somebody else has asked how it ended.
        """
        os.kill(relative.pid, 9)
        self._killed.add(relative.pid)

    def close(self) -> None:
        """Let the guardian have its last look."""
        self._timer.cancel()
        self._dismiss_guardian()

    def _dismiss_guardian(self) -> None:
        assert self._guardian.stdin is not None
        self._guardian.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guardian.wait(_LAST_LOOK)

    def _start_guardian(self) -> subprocess.Popen[bytes]:
        program = str(Path(__file__).with_name("survivors.py"))
        return subprocess.Popen(
            [sys.executable, "-I", "-S", program, self._prefix],
            stdin=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if name != MARK},
            cwd="/",
            start_new_session=True,
        )

    def _living(self) -> list[tuple[int, Stat]]:
        """The children that nobody else waits for; those that have ended are buried on the way."""
        living = []
        own = self._own() | {self._guardian.pid}
        for pid in map(int, self._children.read_bytes().split()):
            stat = stat_of(pid) if pid not in own else None
            if stat is None:
                continue
            if stat.state == "Z":
                self._bury(pid, stat)
            else:
                living.append((pid, stat))
        return living

    def _bury(self, pid: int, stat: Stat) -> None:
        """Ask how a child ended, unless a task that has started it by itself may still want to know.

        A process that we started is in our session, or leads one of its own. Adopted ones may look so,
        too: those are buried when nobody has asked for an hour.
        """
        if pid not in self._killed and stat.session in {self._session, pid}:
            first = self._zombies.setdefault((pid, stat.start), self._loop.time())
            if self._loop.time() - first < _UNCLAIMED:
                return
        self._zombies.pop((pid, stat.start), None)
        self._killed.discard(pid)
        with contextlib.suppress(ChildProcessError):  # somebody has asked meanwhile
            os.waitpid(pid, os.WNOHANG)

    def _look_round(self) -> None:
        self._living()
        self._zombies = {known: t for known, t in self._zombies.items() if stat_of(known[0]) is not None}
        self._timer = self._loop.call_later(_ROUND, self._look_round)


def _become_subreaper() -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
