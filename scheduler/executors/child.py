"""A child process with a process group of its own, whose output goes to the log.

It is spawned by subprocess.Popen (which uses vfork) and watched through a pidfd, on asyncio and on
uvloop alike: no child-watcher thread, no fork of the daemon. The group is killed while its ended
leader is still a zombie, so the group's id cannot have been given to anyone else. With a Family (see
there) processes that left the group are found and ended, too, before the end is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from scheduler.core import events
from scheduler.executors.base import Job, named, outlast
from scheduler.executors.family import Family, Relative
from scheduler.executors.limits import limited, with_limit
from scheduler.executors.output import OutputLines
from scheduler.executors.survivors import MARK, Marked

_CHUNK = 1 << 20  # bytes read at once, and what the pipe of a flooding process is grown to
_FLOOD_PAUSE = 0.01  # seconds between reads above the log's rate: 100 MB/s for a few percent of a core
_LAST_WORDS = 0.25  # seconds; how long output is read once the group has been killed
_TIDYING = 2.0  # seconds for exit handlers after a callable has returned
_POLL = 0.02  # seconds between looks at a child where the kernel has no pidfd
_CLEARING = 0.005  # seconds between looks at the rest of a run, which has been killed
_CLEARINGS = 400  # how many: what hangs inside the kernel does not even heed SIGKILL

# What systemd tells the daemon is not meant for its tasks.
_PRIVATE = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


_alive: set[Child] = set()
_family: Family | None = None  # one for the process, since the process is the subreaper


def adopt(place: Path) -> list[tuple[Marked, str]]:
    """From now on find and end what leaves the group of its command. For a process that is a daemon.

    ``place`` is the state directory, whose lock is ours. Ended first, and told with their command lines,
    are the processes that an earlier daemon of this place has left behind. OSError where the kernel
    offers no such thing.
    """
    global _family  # noqa: PLW0603 - see there
    _family = Family(place, lambda: {child.pid for child in _alive})
    return _family.end_survivors()


def release() -> None:
    """End what ``adopt`` began."""
    global _family  # noqa: PLW0603 - see there
    if _family is not None:
        _family.close()
        _family = None


def kill_all() -> None:
    """SIGKILL to the group of every child, for an end that cannot wait."""
    for child in _alive:
        child.kill()


class Child:
    """A running process. OSError from the constructor when it cannot be started."""

    def __init__(
        self,
        job: Job,
        argv: Sequence[str],
        environment: Mapping[str, str],
        pass_fds: Sequence[int] = (),
        *,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._job = job
        self._lines = OutputLines(lambda: job.log, self._loop.time)
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._last_words: asyncio.TimerHandle | None = None
        self._tidying: asyncio.TimerHandle | None = None
        self._exited = False
        self._status: int | None = None
        self._family = _family
        self._mark = {} if _family is None else {MARK: _family.new_mark()}
        self._left: dict[int, Relative] = {}  # by process id
        self._unseen = ""  # why it could not be seen what is left
        self._output, write_end = os.pipe2(os.O_CLOEXEC)
        self._output_open = True
        try:
            self._process = subprocess.Popen(
                limited(job.spec.work, argv),
                stdin=stdin,
                stdout=write_end,
                stderr=write_end,
                env={**_inherited(), **environment, **self._mark},
                cwd=job.spec.work.working_directory,
                start_new_session=True,
                pass_fds=pass_fds,
            )
        except BaseException:
            os.close(self._output)
            raise
        finally:
            os.close(write_end)
        self.pid = self._process.pid
        os.set_blocking(self._output, False)
        self._loop.add_reader(self._output, self._read)
        _alive.add(self)
        self._watch()

    async def wait(self) -> int | None:
        """Wait for its end and return its status as subprocess does (negative: a signal).

        None when somebody else took it: a task that waits for any child, or an ignored SIGCHLD.

        A cancellation sends SIGTERM to the whole group, and SIGKILL once ``job.forced`` is set.
        """
        if not await outlast(self._over, self._job, lambda: self._signal(signal.SIGTERM)):
            self._signal(signal.SIGKILL)
            while not self._over.done():  # a matter of milliseconds, unless it hangs inside the kernel
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(self._over)
        return self._status

    def farewell(self) -> None:
        """Its work is done: it may tidy up for a moment, but not hang there."""
        self._tidying = self._loop.call_later(_TIDYING, self._signal, signal.SIGKILL)

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        self._signal(signal.SIGKILL)

    def error(self) -> str:
        """How it failed, with the last line that it printed."""
        status = self._status
        if status is None:
            text = "its exit status was taken by somebody else"
        elif status < 0:
            try:
                text = f"killed by {signal.Signals(-status).name}"
            except ValueError:  # a real-time signal has no name
                text = f"killed by signal {-status}"
        else:
            text = f"exit status {status}"
        text = f"{text}: {self._lines.last}"[:500] if self._lines.last else text
        return with_limit(self._job.spec.work, text, status)

    def _signal(self, number: signal.Signals) -> None:
        if self._exited:
            return
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return
        except PermissionError as problem:  # a set-user-ID program of another user
            self._job.owner.leaked("process", 1, f"group {self.pid}: {problem}")

    def _watch(self) -> None:
        try:
            pidfd = os.pidfd_open(self.pid)
        except OSError:  # a kernel before 5.3, or a sandbox that forbids it
            self._loop.call_later(_POLL, self._poll)
            return
        self._loop.add_reader(pidfd, self._leader_ended, pidfd)

    def _poll(self) -> None:
        try:
            lives = self._look() is None
        except ChildProcessError:
            lives = False
        if lives:
            self._loop.call_later(_POLL, self._poll)
        else:
            self._leader_ended(None)

    def _look(self) -> os.waitid_result | None:
        """How it ended, which can be asked again; ChildProcessError when somebody else took that."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)

    def _leader_ended(self, pidfd: int | None) -> None:
        if pidfd is not None:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
        left = self._relatives()
        self._signal(signal.SIGKILL)  # what is left of its group
        self._exited = True
        _alive.discard(self)
        with contextlib.suppress(ChildProcessError):
            self._look()
            self._status = self._process.wait()
        self._process.wait()  # takes a status that is gone for 0
        self._clear(left, _CLEARINGS)

    def _relatives(self) -> list[Relative]:
        self._unseen = ""
        try:
            return [] if self._family is None else self._family.relatives(self._mark[MARK], self.pid)
        except OSError as problem:  # no file descriptor is free
            self._unseen = str(problem)
            return []

    def _clear(self, left: list[Relative], looks: int) -> None:
        """Kill what is left of the run, and what that had started, until nothing lives."""
        for relative in left:
            self._left.setdefault(relative.pid, relative)
            # A set-user-ID program is told below; one that somebody else waited for is gone.
            with contextlib.suppress(PermissionError, ProcessLookupError):
                assert self._family is not None
                self._family.kill(relative)
        if (left or self._unseen) and looks:
            self._loop.call_later(_CLEARING, lambda: self._clear(self._relatives(), looks - 1))
            return
        # A run that was asked to end ends with its group; that is no leak of the task's.
        leaked = [each for each in self._left.values() if each.escaped or not self._job.stopping]
        if leaked:
            self._job.owner.leaked("process", len(leaked), named(map(_told, leaked)))
        if left:
            self._job.owner.leaked("stuck process", len(left), named(map(_told, left)))
        if self._unseen:
            self._job.log.warning(events.CONTAINMENT_REDUCED, error=self._unseen)
        self._take_leave()

    def _take_leave(self) -> None:
        if self._output_open:  # someone may hold the pipe open: do not wait for that for long
            self._last_words = self._loop.call_later(_LAST_WORDS, self._close_output)
        else:
            self._finish()

    def _read(self) -> None:
        try:
            data = os.read(self._output, _CHUNK)
        except BlockingIOError:
            return
        if not data:
            self._close_output()
            return
        self._lines.feed(data)
        if self._lines.flooding and not self._exited:
            with contextlib.suppress(OSError):  # refused above the user's quota: then reads are smaller
                fcntl.fcntl(self._output, fcntl.F_SETPIPE_SZ, _CHUNK)
            self._loop.remove_reader(self._output)
            self._loop.call_later(_FLOOD_PAUSE, self._resume)

    def _resume(self) -> None:
        if self._output_open:
            self._loop.add_reader(self._output, self._read)

    def _close_output(self) -> None:
        if not self._output_open:
            return
        self._output_open = False
        self._loop.remove_reader(self._output)
        os.close(self._output)
        self._lines.finish()
        if self._exited:
            self._finish()

    def _finish(self) -> None:
        for timer in (self._last_words, self._tidying):
            if timer is not None:
                timer.cancel()
        if not self._over.done():
            self._over.set_result(None)


def _told(relative: Relative) -> str:
    where = "left its process group" if relative.escaped else "in its process group"
    return f"{relative.command} (process {relative.pid}, {where})"


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _PRIVATE}
