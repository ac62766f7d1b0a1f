"""A child process with a process group of its own, whose output goes to the log.

It is spawned by subprocess.Popen (which uses vfork) and watched through a pidfd, on asyncio and on
uvloop alike: no child-watcher thread, no fork of the daemon. The group is killed while its ended
leader is still a zombie, so the group's id cannot have been given to anyone else.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from scheduler.core.messages import Work
from scheduler.executors.base import Job, outlast
from scheduler.executors.output import OutputLines

_CHUNK = 1 << 20  # bytes read at once, and what the pipe of a flooding process is grown to
_FLOOD_PAUSE = 0.01  # seconds between reads above the log's rate: 100 MB/s for a few percent of a core
_LAST_WORDS = 0.25  # seconds; how long output is read once the group has been killed
_TIDYING = 2.0  # seconds for exit handlers after a callable has returned
_POLL = 0.02  # seconds between looks at a child where the kernel has no pidfd

# Limits are set by a tiny program that then becomes the command: a preexec_fn would run Python
# between fork and exec, and rules out vfork.
_LIMITER = """
import os, resource, sys
memory, nice, *command = sys.argv[1:]
try:
    if nice:
        os.setpriority(os.PRIO_PROCESS, 0, int(nice))
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    os.execvp(command[0], command)
except OSError as problem:
    sys.exit(f"{command[0]}: {problem}")
"""

# What systemd tells the daemon is not meant for its tasks.
_PRIVATE = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


_alive: set[Child] = set()


def kill_all() -> None:
    """SIGKILL to the group of every child, for an end that cannot wait."""
    for child in _alive:
        child.kill()


class Child:
    """A running process. OSError from the constructor when it cannot be started."""

    def __init__(
        self, job: Job, argv: Sequence[str], environment: Mapping[str, str], pass_fds: Sequence[int] = ()
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._job = job
        self._lines = OutputLines(lambda: job.log, self._loop.time)
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._last_words: asyncio.TimerHandle | None = None
        self._tidying: asyncio.TimerHandle | None = None
        self._exited = False
        self._output, write_end = os.pipe2(os.O_CLOEXEC)
        self._output_open = True
        try:
            self._process = subprocess.Popen(
                _limited(job.spec.work, argv),
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                env={**_inherited(), **environment},
                cwd=job.spec.work.working_directory,
                start_new_session=True,
                pass_fds=pass_fds,
            )
        except BaseException:
            os.close(self._output)
            raise
        finally:
            os.close(write_end)
        os.set_blocking(self._output, False)
        self._loop.add_reader(self._output, self._read)
        _alive.add(self)
        self._watch()

    async def wait(self) -> int:
        """Wait for its end and return its status as subprocess does (negative: a signal).

        A cancellation sends SIGTERM to the whole group, and SIGKILL once ``job.forced`` is set.
        """
        if not await outlast(self._over, self._job, lambda: self._signal(signal.SIGTERM)):
            self._signal(signal.SIGKILL)
            while not self._over.done():  # a matter of milliseconds, unless it hangs inside the kernel
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(self._over)
        return self._process.returncode

    def farewell(self) -> None:
        """Its work is done: it may tidy up for a moment, but not hang there."""
        self._tidying = self._loop.call_later(_TIDYING, self._signal, signal.SIGKILL)

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        self._signal(signal.SIGKILL)

    def error(self) -> str:
        """How it failed, with the last line that it printed."""
        status = self._process.returncode
        if status < 0:
            try:
                text = f"killed by {signal.Signals(-status).name}"
            except ValueError:  # a real-time signal has no name
                text = f"killed by signal {-status}"
        else:
            text = f"exit status {status}"
        return f"{text}: {self._lines.last}"[:500] if self._lines.last else text

    def _signal(self, number: signal.Signals) -> None:
        if self._exited:
            return
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return
        except PermissionError as problem:  # a set-user-ID program of another user
            self._job.owner.leaked("process", 1, f"group {self._process.pid}: {problem}")

    def _watch(self) -> None:
        try:
            pidfd = os.pidfd_open(self._process.pid)
        except OSError:  # a kernel before 5.3, or a sandbox that forbids it
            self._loop.call_later(_POLL, self._poll)
            return
        self._loop.add_reader(pidfd, self._leader_ended, pidfd)

    def _poll(self) -> None:
        if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            self._loop.call_later(_POLL, self._poll)
        else:
            self._leader_ended(None)

    def _leader_ended(self, pidfd: int | None) -> None:
        if pidfd is not None:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
        self._signal(signal.SIGKILL)  # what is left of its group
        self._exited = True
        _alive.discard(self)
        self._process.wait()
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


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _PRIVATE}


def _limited(work: Work, argv: Sequence[str]) -> list[str]:
    if work.memory_limit is None and work.nice is None:
        return list(argv)
    memory = "" if work.memory_limit is None else str(work.memory_limit)
    nice = "" if work.nice is None else str(work.nice)
    return [sys.executable, "-I", "-S", "-c", _LIMITER, memory, nice, *argv]
