"""Tasks: how they do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from scheduler.api.models.runs import RunRow
from scheduler.api.models.tasks import (
    TaskDetail,
    Tasks,
    TaskStatus,
)
from scheduler.control import rows
from scheduler.control.access import Access
from scheduler.control.latest import Latest
from scheduler.core.definition import definition_text
from scheduler.core.messages import (
    DAY,
    Instant,
    TaskSpec,
)
from scheduler.core.reasons import Known
from scheduler.core.supervision import Health
from scheduler.core.tasks import TaskState
from scheduler.core.why_task import why_task
from scheduler.ledger import read_history, read_remembered

_SHOWN: Final = 20  # runs of one task
_SHOWN_DAYS: Final = 40 * DAY  # and how old they may be
_COMING: Final = 5


class TaskView:
    """The tasks of one daemon."""

    def __init__(self, access: Access, latest: Latest) -> None:
        self._access = access
        self._latest = latest

    def all(self) -> Tasks:
        return Tasks(tasks=tuple(self.statuses()))

    def statuses(self) -> list[TaskStatus]:
        """By priority and name."""
        daemon = self._access.daemon
        seen = {row["task"]: row for row in daemon.engine.snapshot()}
        specs = sorted(daemon.configuration.specs, key=lambda spec: (spec.priority, spec.name))
        return [self._status(spec, seen.get(spec.name)) for spec in specs]

    def _status(self, spec: TaskSpec, seen: Mapping[str, Any] | None) -> TaskStatus:
        access, state = self._access, self._access.daemon.engine.tasks.get(spec.name)
        last = self._latest.outcomes.get(spec.name)
        shared: dict[str, Any] = {
            "task": spec.name, "priority": spec.priority.label, "market": spec.market,
            "trigger": spec.trigger.text, "last": None if last is None else rows.of_record(last, access),
        }  # fmt: skip
        if seen is None or state is None:
            return TaskStatus(
                **shared, state="disabled", health="healthy", run_id=None, since=None, next=None, restarts=0,
                consecutive_failures=0, last_success=None, freshness=None,
            )  # fmt: skip
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
            trouble=trouble(state),
            error=self._latest.errors.get(spec.name, "") if seen["consecutive_failures"] else "",
        )

    async def detail(self, task: str) -> TaskDetail:
        access, daemon = self._access, self._access.daemon
        spec = next((spec for spec in daemon.configuration.specs if spec.name == task), None)
        if spec is None:
            access.state(task)  # UnknownTaskError
        assert spec is not None
        await daemon.durable()
        now = access.now
        recent = await access.in_thread(lambda: self._recent(task, now))
        (status,) = [each for each in self.statuses() if each.task == task]
        return TaskDetail(
            status=status,
            why=await self._why(spec, now),
            definition=json.loads(definition_text(spec)),
            runs=tuple(recent),
            coming=tuple(access.iso(due) for due in self._coming(spec, now)) if spec.enabled else (),
        )

    def _recent(self, task: str, now: Instant) -> list[RunRow]:
        found = read_history(
            self._access.ledger, tasks=[task], since=now - _SHOWN_DAYS, newest_first=True, limit=_SHOWN
        )
        return [rows.of_history(row, self._access) for row in found]

    async def _why(self, spec: TaskSpec, now: Instant) -> str:
        access, configuration = self._access, self._access.daemon.configuration
        if not spec.enabled:
            return f"{spec.name} is disabled (enabled: false)"
        remembered = await access.in_thread(lambda: read_remembered(access.ledger))
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


def trouble(task: TaskState) -> str:
    """Why a task does not do its work; a pause is somebody's will."""
    failures = f"after {task.supervisor.consecutive} failures in a row"
    if task.broken:
        return f"cannot be run at all ({task.broken})"
    if task.lingering is not None:
        return "is not started before a run returns that has timed out and cannot be ended"
    if task.supervisor.health is Health.PARKED:
        return f"is parked {failures}"
    if task.supervisor.health is Health.CRASH_LOOPING:
        return f"is crash-looping {failures}"
    return ""
