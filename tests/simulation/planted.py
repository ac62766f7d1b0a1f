"""Bugs to be planted in the scheduler, for the checker to catch.

Each is an edit of one function: what is right there, and what is wrong instead. A function that was
renamed, or that does not say any more what is to be edited, is an error: no bug is left out in silence.
"""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from textwrap import dedent
from typing import Any, NamedTuple

import pytest


class Bug(NamedTuple):
    """``where`` is ``module:Class.function`` in the package; ``seed`` the first whose story gives it away."""

    where: str
    right: str
    wrong: str
    seed: int


def plant(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    module_name, _, path = bug.where.partition(":")
    owner: Any = import_module(f"scheduler.{module_name}")
    *classes, name = path.split(".")
    for class_name in classes:
        owner = vars(owner)[class_name]
    function = vars(owner)[name]
    source = dedent(inspect.getsource(function))
    assert source.count(bug.right) == 1, f"{bug.where} has no longer exactly one {bug.right!r}"
    edited = compile(source.replace(bug.right, bug.wrong), f"<{bug.where}>", "exec")
    made: dict[str, Any] = {}
    exec(edited, function.__globals__, made)  # noqa: S102
    # Others may have imported it by name.
    owners = [module for known, module in sys.modules.items() if known.startswith("scheduler.")]
    for each in [owner] if classes else [m for m in owners if vars(m).get(name) is function]:
        monkeypatch.setattr(each, name, made[name])


BUGS = {
    # What is due.
    "the grid of the open begins at midnight": Bug(
        "core.triggers:Every._grid",
        "piece.segment_start if phase == OPEN",
        "piece.midnight if phase == OPEN",
        0,
    ),
    "a phase has a tick at its end": Bug(
        "core.triggers:Every.next_after", "tick < piece.end", "tick <= piece.end", 0
    ),
    "a stretch counts one too few": Bug(
        "core.triggers:Every.count_between", "total += (high", "total += -1 + (high", 0
    ),
    "an amended market is ignored": Bug(
        "core.roster:Roster._redefine", "table.version == state.table.version", "True", 2
    ),
    "ticks move along when the clock steps": Bug(
        "core.engine:Engine._clock_stepped", "DURATIONS", "frozenset(range(16))", 0
    ),
    # What is made up.
    "catch-up goes beyond the stretch of the day": Bug(
        "core.tasks:TaskState.same_stretch", "> now", "> due", 1
    ),
    "catch-up has no bound": Bug(
        "core.tasks:TaskState.latest_start", "due + self.spec.catchup", "due + (1 << 60)", 0
    ),
    "catch-up makes up all that was missed": Bug(
        "core.ticks:Ticks.tick", "upcoming <= now", "upcoming < 0", 3
    ),
    "catchup_until is ignored": Bug(
        "core.tasks:TaskState.latest_start", "if anchor is not None", "if False", 3
    ),
    "a retry goes beyond the stretch of the day": Bug(
        "core.tasks:TaskState.may_retry", "not self.is_appointment or ", "True or ", 5
    ),
    "what was accounted for is due again after a restart": Bug(
        "core.recovery:Recovery.begin", "history.expected_from - 1", "history.expected_from - 2", 0
    ),
    "what was interrupted goes on for ever": Bug(
        "core.recovery:Recovery.interrupted", "life.out.append", "str", 0
    ),
    "what was interrupted is never tried again": Bug(
        "core.recovery:Recovery._retry_interrupted", '== "retry"', '== "never"', 1
    ),
    # What becomes of it.
    "an overlap leaves no trace": Bug(
        "core.lifecycle:Lifecycle._overlap", "self.outcomes.skip(state, run, Reason.OVERLAP)", "pass", 1
    ),
    "who is replaced in the queue leaves no trace": Bug(
        "core.queueing:Queueing._take_place",
        "self._life.outcomes.skip(state, state.queued, reason)",
        "pass",
        24,
    ),
    "what is shed leaves no trace": Bug(
        "core.outcomes:Outcomes.skip", "self._fold(", "reason is Reason.SHED or self._fold(", 2
    ),
    "a row of skips counts as one": Bug("core.outcomes:Outcomes._fold", "fold.count + 1", "fold.count", 0),
    "critical is shed": Bug(
        "core.lifecycle:Lifecycle.refusal", "state.spec.priority in self._admission", "self._admission", 0
    ),
    "paused tasks run": Bug("core.lifecycle:Lifecycle.refusal", "if state.paused", "if False", 0),
    "a paused loop runs on": Bug("core.requests:Requests.pause", "if state.keeps_running", "if False", 7),
    "lesser priorities go first": Bug(
        "core.roster:Roster.configure", "(spec.priority, spec.name)", "(-spec.priority, spec.name)", 0
    ),
    "what comes after a run is due now": Bug(
        "core.outcomes:Outcomes.settle",
        "name, due = dependent.name, run.due",
        "name, due = dependent.name, self._life.now",
        0,
    ),
    "what comes after a run comes after its failure too": Bug(
        "core.outcomes:Outcomes.settle", "status is Status.COMPLETED", "status is not Status.SKIPPED", 2
    ),
    "a loop outlives its phases": Bug(
        "core.loops:Loops.end",
        "life.stop_run(state, Status.COMPLETED, Reason.PHASE_ENDED)",
        "pass",
        3,
    ),
    "nobody is paged": Bug(
        "core.engine:Engine._start_listeners", "listeners.get(event, ())", "listeners.get(None, ())", 0
    ),
    # Supervision.
    "the backoff never resets": Bug(
        "core.supervision:Supervisor.succeeded", "self.consecutive = 0\n", "pass\n", 0
    ),
    "the backoff does not double": Bug("core.supervision:backoff", "consecutive - 1", "0", 0),
    "the window of the burst is ignored": Bug(
        "core.supervision:Supervisor.failed", "if at > now - self.policy.window", "if at", 0
    ),
    "parked tasks run": Bug("core.lifecycle:Lifecycle.refusal", "is Health.PARKED", "is None", 0),
    "parked ends with a restart": Bug("core.roster:Roster._restore", "if parked is not None", "if False", 6),
    "nothing follows the leader": Bug(
        "core.lifecycle:Lifecycle.start", "run.attempt > 1", "run.attempt > 99", 0
    ),
    # The ledger.
    "the ledger drops one record in many": Bug(
        "ledger.writer:Writer._gather",
        "self._backlog.update(fresh)",
        "self._backlog.update({key: fresh[key] for key in fresh if key[1] // 10**9 % 991})",
        1,
    ),
    "the ledger writes the wrong attempt": Bug(
        "ledger.store:Store._write", "due, task, attempt, str", "due, task, max(1, attempt), str", 0
    ),
    "a full disk is forgotten": Bug(
        "ledger.writer:Writer._fail", "self._pruning = None", "self._backlog.clear()", 18
    ),
    "older records win while the disk is full": Bug(
        "ledger.writer:Writer._gather",
        "self._backlog.update(fresh)",
        "self._backlog = fresh | self._backlog",
        18,
    ),
}
