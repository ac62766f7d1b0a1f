"""Tasks: how they do."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, Final

from scheduler.api.models.tasks import TaskDetail, TaskStatus
from scheduler.control import rows
from scheduler.control.access import Access
from scheduler.control.latest import Latest
from scheduler.control.slices import in_slices
from scheduler.core import view
from scheduler.core.definition import definition_text
from scheduler.core.messages import DAY, Instant, Reason, Record, Remembered, TaskSpec
from scheduler.core.reasons import Known
from scheduler.core.supervision import Health
from scheduler.core.tasks import TaskState
from scheduler.core.why_task import why_task
from scheduler.errors import LedgerError
from scheduler.ledger import HistoryRow, read_history, read_remembered

_SHOWN: Final = 20  # runs of one task
_SHOWN_DAYS: Final = 40 * DAY  # and how old they may be
_COMING: Final = 5
_AT_ONCE: Final = 100  # statuses, some four milliseconds


class TaskView:
    """The tasks of one daemon."""

    def __init__(self, access: Access, latest: Latest) -> None:
        self._access = access
        self._latest = latest

    async def all(self) -> bytes:
        """The JSON of ``Tasks``."""
        return f'{{"tasks":{await self.statuses()}}}'.encode()

    async def statuses(self) -> str:
        """JSON, by priority and name: of ten thousand tasks it is too much for one turn of the loop."""
        daemon = self._access.daemon
        specs = sorted(daemon.configuration.specs, key=lambda spec: (spec.priority, spec.name))
        texts = [
            self.status(spec).model_dump_json()
            async for spec in in_slices(specs, _AT_ONCE)
            if not spec.enabled or spec.name in daemon.engine.tasks  # else a reload took it
        ]
        return f"[{','.join(texts)}]"

    def status(self, spec: TaskSpec) -> TaskStatus:
        access, state = self._access, self._access.daemon.engine.tasks.get(spec.name)
        last = self._latest.outcomes.get(spec.name)
        shared: dict[str, Any] = {
            "task": spec.name, "priority": spec.priority.label, "market": spec.market,
            "trigger": spec.trigger.text, "last": None if last is None else rows.of_record(last, access),
        }  # fmt: skip
        if state is None:
            return TaskStatus(
                **shared, state="disabled", health="healthy", run_id=None, since=None, next=None, restarts=0,
                consecutive_failures=0, last_success=None, freshness=None,
            )  # fmt: skip
        seen = view.seen(state)
        return TaskStatus(
            **shared,
            state=seen["state"],
            health=seen["health"],
            run_id=seen["run_id"],
            since=None if state.active is None else access.iso(state.started),
            next=access.iso_or_none(seen["next"]),
            restarts=seen["restarts"],
            consecutive_failures=seen["consecutive_failures"],
            last_success=access.iso_or_none(state.success),
            freshness=None if spec.fresh_within is None else "stale" if state.stale else "fresh",
            paused_until=access.iso_or_none(state.paused_until) if state.paused else None,
            trouble=trouble(state, last, access.now),
            error=self._latest.errors.get(spec.name, "") if seen["consecutive_failures"] else "",
        )

    async def detail(self, task: str) -> TaskDetail:
        access = self._access
        self._spec(task)
        await access.recorded()
        now = access.now
        recent, remembered = await access.in_thread(lambda: self._on_record(task, now))
        spec = self._spec(task)  # a reload may have come between
        return TaskDetail(
            status=self.status(spec),
            why=self._why(spec, now, remembered),
            definition=json.loads(definition_text(spec)),
            runs=tuple(rows.of_history(row, access) for row in recent),
            coming=tuple(access.iso(due) for due in self._coming(spec, now)) if spec.enabled else (),
        )

    def _spec(self, task: str) -> TaskSpec:
        """UnknownTaskError."""
        found = next((spec for spec in self._access.daemon.configuration.specs if spec.name == task), None)
        return self._access.state(task).spec if found is None else found

    def _on_record(self, task: str, now: Instant) -> tuple[list[HistoryRow], Remembered]:
        """The latest runs of a task, and what is remembered of all; nothing where there is no ledger yet."""
        ledger = self._access.ledger
        since = now - _SHOWN_DAYS
        with suppress(LedgerError):
            found = read_history(ledger, tasks=[task], since=since, newest_first=True, limit=_SHOWN)
            return list(found), read_remembered(ledger)
        return [], {}

    def _why(self, spec: TaskSpec, now: Instant, remembered: Remembered) -> str:
        access, configuration = self._access, self._access.daemon.configuration
        if not spec.enabled:
            return f"{spec.name} is disabled (enabled: false)"
        state = access.state(spec.name)
        known = Known(
            self._latest.outcomes.get(spec.name),
            remembered,
            scheduler=True,
            running=rows.running_record(state),
        )
        specs = {each.name: each for each in configuration.specs}
        found = why_task(spec, now, configuration.zone, specs=specs, tables=configuration.tables, known=known)
        return found.sentence

    def _coming(self, spec: TaskSpec, now: Instant) -> list[Instant]:
        table = self._access.daemon.configuration.tables[spec.market]
        found: list[Instant] = []
        due = spec.trigger.next_after(now, table)
        while due is not None and len(found) < _COMING:
            found.append(due)
            due = spec.trigger.next_after(due, table)
        return found


def trouble(task: TaskState, last: Record | None, now: Instant) -> str:
    """Why a task does not do its work; a pause is somebody's will. ``last``: what became of it last."""
    failures = f"after {task.supervisor.consecutive} failures in a row"
    if task.broken:
        return f"cannot be run at all ({task.broken})"
    if task.lingering is not None:
        return "is not started before a run returns that has timed out and cannot be ended"
    if task.supervisor.health is Health.PARKED:
        return f"is parked {failures}"
    if task.supervisor.health is Health.CRASH_LOOPING:
        return f"is crash-looping {failures}"
    is_ended = last is not None and last.reason == Reason.OPERATOR and task.span_at(now) is not None
    if is_ended and not (task.active or task.queued or task.retry_run or task.paused):
        return f"was ended by an operator and does not run; `scheduler restart {task.name}` starts it"
    return ""
