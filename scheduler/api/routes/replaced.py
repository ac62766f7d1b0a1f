"""The paths of the system that this one replaces, in their old shapes."""

from __future__ import annotations

from http import HTTPStatus

from pydantic import JsonValue

from scheduler.api.control import Control
from scheduler.api.models.runs import LegacyActive, LegacyCancelled, LegacyStatus, LegacyStatuses
from scheduler.api.operations import Asked, Operation
from scheduler.errors import SchedulerError


def operations(control: Control) -> list[Operation]:
    runs = control.runs

    async def statuses(_: Asked) -> LegacyStatuses:
        alive = runs.active().runs
        found: dict[str, JsonValue] = {run.run_id: run.model_dump() for run in alive}
        return LegacyStatuses(active_tasks=found, task_count=len(found), timestamp=control.timestamp())

    async def status(asked: Asked) -> LegacyStatus:
        run_id = asked.path["run_id"]
        row = await runs.row(run_id)
        return LegacyStatus(task_id=run_id, status=row.model_dump(), timestamp=control.timestamp())

    async def active(_: Asked) -> LegacyActive:
        alive = runs.active().runs
        return LegacyActive(count=len(alive), tasks=tuple(run.model_dump() for run in alive))

    async def cancel(asked: Asked) -> LegacyCancelled:
        try:
            await runs.cancel(asked.path["run_id"], asked.by, "")
        except SchedulerError:  # it knew no reasons
            return LegacyCancelled(success=False)
        return LegacyCancelled(success=True)

    return [
        Operation("GET", "/api/tasks/all_status", "Old: the runs that are alive.", statuses, LegacyStatuses),
        Operation("GET", "/api/tasks/status/{run_id}", "Old: one run.", status, LegacyStatus,
                  errors=(HTTPStatus.NOT_FOUND,)),
        Operation("GET", "/tasks/active", "Old: the runs that are alive.", active, LegacyActive),
        Operation("DELETE", "/tasks/{run_id}", "Old: cancel a run.", cancel, LegacyCancelled, changes=True),
    ]  # fmt: skip
