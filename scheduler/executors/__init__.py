"""How a run is run: on the event loop, in a thread, in a process, as a command.

An executor turns a :class:`Job` into an :class:`Outcome` and never raises: whatever a task does,
``SystemExit`` included, is an outcome of that task. It works inside the run's own asyncio task.
Cancelling that task asks the work to end; once ``job.forced`` is set, a further cancellation means
at once. When that is, and what the outcome is then called, is for the one who stops to decide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from scheduler.core.messages import Isolation, Run, TaskSpec
from scheduler.executors.base import DONE, Executor, Facts, Job, Log, Outcome, Owner, Services, describe
from scheduler.executors.child import adopt, kill_all, release
from scheduler.executors.command import CommandExecutor
from scheduler.executors.inline import InlineExecutor
from scheduler.executors.process import ProcessExecutor
from scheduler.executors.simulated import SimulatedExecutor
from scheduler.executors.targets import Target, TargetError, inspect_target, load_target
from scheduler.executors.thread import ThreadExecutor

__all__ = [
    "DONE", "Executor", "Executors", "Facts", "Job", "Log", "Outcome", "Owner", "Services", "Target",
    "TargetError", "adopt", "describe", "inspect_target", "kill_all",
    "load_target", "release",
]  # fmt: skip


class _Plan(NamedTuple):
    """How the runs of one task are run."""

    spec: TaskSpec
    executor: Executor
    target: Target | None  # None where nothing is imported into the daemon


class Executors:
    """The executors of one daemon. Hands each run to the one that its task asks for."""

    def __init__(
        self,
        *,
        facts: Callable[[Run, TaskSpec], Facts],
        context: Callable[[Job], Any],
        log: Callable[[Run], Log],
        on_failure: Callable[[Run, str, str], None],
        cache: Any = None,
        python_path: Sequence[str] = (),
        hold: Callable[[], AbstractContextManager[None]] = nullcontext,
        simulate: Callable[[TaskSpec], float] | None = None,
    ) -> None:
        """``facts`` asks the calendar about a run, when something wants to know. ``context`` makes what
        a callable sees as `ctx`; ``log`` a logger bound to a run, when something is logged.
        ``on_failure`` is given the run, its error text and the traceback ("" without one). ``cache`` is
        the SharedCache that process isolation reaches. ``hold`` is VirtualClock.hold. With ``simulate``
        (seconds of loop time that a run of a task takes) nothing is imported or executed.
        """
        self._services = Services(facts, context, log, on_failure)
        self._python_path = tuple(python_path)
        self._inline = InlineExecutor()
        self._thread = ThreadExecutor(hold)
        self._command = CommandExecutor(hold)
        self._process = ProcessExecutor(cache, self._python_path, hold)
        self._simulated = None if simulate is None else SimulatedExecutor(simulate)
        self._plans: dict[str, _Plan] = {}
        self._registered: dict[str, Target] = {}

    def register(self, name: str, call: Callable[..., Any]) -> None:
        """Let specs whose target is ``name`` run this callable; for programs that embed the daemon."""
        self._registered[name] = inspect_target(call)

    def choose(self, spec: TaskSpec) -> Executor:
        """The executor of this task's runs; TargetError when its callable cannot be imported."""
        return self._plan(spec).executor

    def prepare(self, run: Run, spec: TaskSpec, owner: Owner) -> tuple[Executor, Job]:
        """``choose(spec)`` and what it is to execute; TargetError as there."""
        plan = self._plans.get(spec.name)
        if plan is None or plan.spec is not spec:
            plan = self._plan(spec)
        return plan.executor, Job(run, spec, owner, plan.target, self._services)

    def close(self) -> None:
        """Let idle threads end."""
        self._thread.close()

    def _plan(self, spec: TaskSpec) -> _Plan:
        plan = self._plans.get(spec.name)
        if plan is None or plan.spec is not spec:
            plan = self._plans[spec.name] = self._make_plan(spec)
        return plan

    def _make_plan(self, spec: TaskSpec) -> _Plan:
        work = spec.work
        if self._simulated is not None:
            return _Plan(spec, self._simulated, None)
        if work.target is None:
            return _Plan(spec, self._command, None)
        target = self._registered.get(work.target)
        if work.isolation is Isolation.PROCESS and target is None:
            return _Plan(spec, self._process, None)
        if target is None:
            target = load_target(work.target, self._python_path)
        isolation = work.isolation or (Isolation.INLINE if target.is_async else Isolation.THREAD)
        return _Plan(spec, self._inline if isolation is Isolation.INLINE else self._thread, target)
