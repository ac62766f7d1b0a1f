"""A command as a sink: the letter's words in its arguments and environment, its JSON on standard input."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NoReturn

from scheduler.alerts.letters import Letter, SendError
from scheduler.core import events
from scheduler.core.messages import Instant, Priority, RestartPolicy, Run, TaskSpec, Work
from scheduler.core.template import expand
from scheduler.core.triggers import On
from scheduler.executors import Job, Log, Services, describe
from scheduler.executors.child import Child

TIMEOUT = 60.0  # seconds
_NEVER = RestartPolicy("never")


class Program:
    """Starts the command for each letter, one after the other."""

    def __init__(
        self,
        argv: Sequence[str],
        now: Callable[[], Instant],
        log: Callable[[str], Log],
        timeout: float = TIMEOUT,
    ) -> None:
        """``log`` makes a logger bound to a sink's name: what the command prints goes there."""
        self.name = argv[0]
        self._argv = argv
        self._now = now
        self._log = log
        self._timeout = timeout

    async def send(self, letter: Letter) -> None:
        """Done when its exit status is 0; SendError otherwise. A cancellation kills its process group."""
        job = self._job(letter)
        stdin = os.memfd_create("alert", os.MFD_CLOEXEC)
        try:
            os.write(stdin, letter.body)
            os.lseek(stdin, 0, os.SEEK_SET)
            argv = [expand(argument, letter.values) for argument in self._argv]
            environment = {"SCHEDULER_RUN_ID": job.run.run_id}
            environment |= {f"SCHEDULER_{name.upper()}": value for name, value in letter.values.items()}
            child = Child(job, argv, environment, stdin=stdin)
        except (OSError, ValueError) as problem:  # no such program
            raise SendError(describe(problem)) from None
        finally:
            os.close(stdin)
        late = asyncio.get_running_loop().call_later(self._timeout, child.kill)
        try:
            status = await child.wait()
        finally:
            late.cancel()
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # `wait` ends with the process, whatever was asked of us
            raise asyncio.CancelledError
        if status != 0:
            limit = asyncio.get_running_loop().time() >= late.when()
            raise SendError(f"timed out after {self._timeout:g} s" if limit else child.error())

    def _job(self, letter: Letter) -> Job:
        """What the executors know a process by."""
        trigger = On((letter.values["event"],))
        spec = TaskSpec(
            self.name,
            Priority.CRITICAL,
            "",
            trigger,
            Work(argv=tuple(self._argv)),
            _NEVER,
            timeout=None,
            catchup=0,
        )
        log = self._log(self.name)
        services = Services(_unasked, _unasked, lambda _run: log, lambda *_: None)
        job = Job(Run(self.name, self._now()), spec, _Owner(log), None, services)
        job.forced = True  # whoever cancels does not want to wait
        return job


class _Owner:
    """What a command leaves behind is only logged: told as an alert, it would start the command again."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def background(self, work: Coroutine[Any, Any, Any]) -> NoReturn:
        work.close()
        raise NotImplementedError("a command asks for no background work")

    def leaked(self, kind: str, count: int, where: str) -> None:
        self._log.warning(events.TASK_LEAKED, kind=kind, count=count, where=where)

    def returned(self) -> None:
        """A process leaves nothing that could return."""


def _unasked(*_: object) -> NoReturn:
    raise NotImplementedError("a command has neither context nor calendar")
