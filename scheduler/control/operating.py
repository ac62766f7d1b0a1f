"""What an operator makes of tasks; each is decided by the engine, at once, and put on record."""

from __future__ import annotations

from itertools import islice
from typing import Final, Literal

from scheduler.api.control import Peer
from scheduler.api.models.tasks import (
    Act,
    Acts,
    Backfilled,
    BackfillEnded,
    BackfillRequest,
    Paused,
    PauseSelection,
    RanNow,
    Restarted,
    Resumed,
    ResumedAll,
    Selection,
)
from scheduler.control import rows
from scheduler.control.slices import in_slices
from scheduler.control.tasks import TaskView
from scheduler.core.backfill import wanted
from scheduler.core.messages import (
    BackfillRequested,
    PauseRequested,
    RestartRequested,
    ResumeRequested,
    RunNow,
)
from scheduler.core.supervision import Health
from scheduler.core.tasks import TaskState
from scheduler.core.triggers import KeepRunning
from scheduler.errors import SchedulerError, UsageError
from scheduler.ledger import read_acts, read_past

Barred = Literal["parked", "crash-looping", "paused"]

_MOST_BACKFILLED: Final = 10_000
_AT_ONCE: Final = 25  # tasks, some five milliseconds


class TaskControl(TaskView):
    """What is asked of tasks. UnknownTaskError, with nothing done, where no task has the name."""

    async def run_now(self, task: str, by: Peer, reason: str) -> RanNow:
        name = await self._access.name(by)
        state = self._access.state(task)
        already = state.active if state.keeps_running else None
        self._access.daemon.handle(RunNow(task))
        due = max(state.by_hand, state.attempts[0])
        for run in (state.active, state.queued):
            if run is not None and run is not already and (run.due == state.by_hand or state.keeps_running):
                outcome: Literal["started", "queued"] = "started" if run is state.active else "queued"
                self._access.record("run-now", name, reason, task=task, run_id=run.run_id)
                return RanNow(task=task, run_id=run.run_id, outcome=outcome, by=name)
        found = self._latest.outcomes.get(task)
        why = str(found.reason) if found is not None and due in (found.due, found.last_due) else ""
        self._access.record("run-now", name, reason, task=task, skipped=why)
        run_id = rows.of_record(found, self._access).run_id if found is not None else ""
        return RanNow(task=task, run_id=run_id, outcome="skipped", reason=why, by=name)

    async def pause(self, wanted: PauseSelection, by: Peer) -> Paused:
        access, name = self._access, await self._access.name(by)
        until = None if wanted.until is None else access.time(wanted.until)
        if until is not None and until <= access.now:
            raise UsageError(f"until {wanted.until} is over already")
        paused = []
        async for state in in_slices(self._selected(wanted), _AT_ONCE):
            if not state.removed:  # by a reload since they were selected
                access.daemon.handle(PauseRequested(state.name, until, name, wanted.reason))
                access.record("pause", name, wanted.reason, task=state.name, until=access.iso_or_none(until))
                paused.append(state.name)
        return Paused(tasks=tuple(paused), until=access.iso_or_none(until), by=name)

    async def resume(self, wanted: Selection, by: Peer) -> ResumedAll:
        name = await self._access.name(by)
        states = self._selected(wanted)
        if not wanted.tasks:
            states = [state for state in states if _barred(state)]
        for state in states:
            if state.broken and not _barred(state):
                raise SchedulerError(
                    f"{state.name} cannot be run at all ({state.broken}); "
                    "a reload ends that once it can be imported"
                )
        slices = in_slices(states, _AT_ONCE)
        resumed = [self._resume(state, name, wanted.reason) async for state in slices if not state.removed]
        return ResumedAll(tasks=tuple(resumed), by=name)

    def _resume(self, state: TaskState, name: str, reason: str) -> Resumed:
        ended = _barred(state)
        self._access.daemon.handle(ResumeRequested(state.name, name, reason))
        self._access.record("resume", name, reason, task=state.name, ended=list(ended))
        following = self._access.iso_or_none(state.tick.when)
        return Resumed(task=state.name, ended=ended, next=following, by=name)

    def _selected(self, wanted: Selection) -> list[TaskState]:
        """By rank. UnknownTaskError, with nothing done, when one of the names is none."""
        access = self._access
        if wanted.tasks:
            return [access.state(task) for task in dict.fromkeys(wanted.tasks)]
        tables = access.daemon.configuration.tables
        if wanted.market is not None and wanted.market not in tables:
            raise UsageError(
                f"no task goes by a market {wanted.market!r}; there are {', '.join(sorted(tables))}"
            )
        states = sorted(access.daemon.engine.tasks.values(), key=lambda state: state.rank)
        return [
            state
            for state in states
            if not state.removed
            and wanted.priority in (None, state.spec.priority.label)
            and wanted.market in (None, state.spec.market)
        ]

    async def restart(self, task: str, by: Peer, reason: str) -> Restarted:
        name = await self._access.name(by)
        state = self._access.state(task)
        run_id = None if state.active is None else state.active.run_id
        self._access.daemon.handle(RestartRequested(task))
        started = state.active.run_id if run_id is None and state.active is not None else None
        self._access.record("restart", name, reason, task=task, run_id=run_id or started)
        return Restarted(task=task, run_id=run_id, started=started, by=name)

    async def backfill(self, task: str, wish: BackfillRequest, by: Peer) -> Backfilled:
        access, name = self._access, await self._access.name(by)
        start, until = access.stretch(wish.from_, wish.until, (0, 0))
        state, until = access.state(task), min(until, access.now)
        trigger, table = state.source, state.head.table
        if isinstance(trigger, KeepRunning) or not trigger.clock_driven:
            raise SchedulerError(f"{task} has no dues of the past: its trigger is `{state.trigger.text}`")
        if start < until and not table.first <= start <= until <= table.last:
            raise UsageError(f"{table.name}: the calendar in force reaches back to {access.iso(table.first)}")
        if trigger.count_between(start, until, table) > _MOST_BACKFILLED:
            raise UsageError(f"these are more than {_MOST_BACKFILLED} runs; name a shorter time")
        # Before the ledger is asked: what ends meanwhile is not in its answer as made.
        in_hand = state.in_hand.union(access.daemon.engine.backfill_left(task))
        await access.recorded()
        past = await access.in_thread(lambda: read_past(access.ledger, _chain(state), start, until))
        found = await access.in_thread(lambda: wanted(trigger, table, start, until, past[task]))
        todo = tuple(due for due in found.dues if due not in in_hand)
        if todo:  # none would end what is under way
            access.daemon.handle(BackfillRequested(task, todo, past))
        about = {"since": access.iso(start), "until": access.iso(until), "runs": len(todo)}
        access.record("backfill", name, wish.reason, task=task, **about)
        return Backfilled(
            task=task, runs=len(todo), first=access.iso_or_none(todo[0] if todo else None),
            last=access.iso_or_none(todo[-1] if todo else None), completed=found.completed, by=name,
        )  # fmt: skip

    async def end_backfill(self, task: str, by: Peer, reason: str) -> BackfillEnded:
        name = await self._access.name(by)
        self._access.state(task)
        self._access.daemon.handle(BackfillRequested(task, ()))
        self._access.record("end-backfill", name, reason, task=task)
        return BackfillEnded(task=task, by=name)

    async def acts(self, limit: int) -> Acts:
        access = self._access
        await access.recorded()
        found = await access.in_thread(lambda: list(islice(read_acts(access.ledger), limit)))
        return Acts(
            acts=tuple(
                Act(at=access.iso(at), by=by, action=action, task=task, reason=reason, detail=dict(detail))
                for at, by, action, task, reason, detail in found
            )
        )


def _chain(state: TaskState) -> list[str]:
    """The task, and all that comes after it."""
    return [state.name, *(name for each in state.dependents for name in _chain(each))]


def _barred(task: TaskState) -> tuple[Barred, ...]:
    """What a resumption ends."""
    health = task.supervisor.health
    found: list[Barred] = []
    if health is Health.PARKED:
        found.append("parked")
    if health is Health.CRASH_LOOPING:
        found.append("crash-looping")
    if task.paused:
        found.append("paused")
    return tuple(found)
