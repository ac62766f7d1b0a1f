"""What a task gets where its file does not say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduler.core.market import CLOSED, OPEN
from scheduler.core.messages import (
    HOUR,
    MINUTE,
    SECOND,
    Duration,
    Isolation,
    Overlap,
    Priority,
    RestartPolicy,
    TaskSpec,
    Work,
)
from scheduler.core.triggers import At, Cron, Every, KeepRunning, On, Trigger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scheduler.taskfile.models import BundleModel, RestartModel, TaskModel

_PRIORITIES = {priority.label: priority for priority in Priority}
_APPOINTMENT = HOUR  # timeout and catch-up of `at` and `cron`
_STOP_GRACE = 10 * SECOND


@dataclass(frozen=True, slots=True)
class Bundle:
    """The defaults of one priority."""

    every: Mapping[str, Duration | None]
    restart: RestartPolicy
    timeout: Duration | None

    def changed_by(self, model: BundleModel) -> Bundle:
        """With what a file says instead, key by key; a pace map stands alone."""
        return Bundle(
            self.every if model.every is None else model.every,
            _restart(self.restart, model.restart),
            model.timeout if "timeout" in model.model_fields_set else self.timeout,
        )


DEFAULT_BUNDLES: Mapping[str, Bundle] = {
    "critical": Bundle(
        {OPEN: 5 * SECOND, CLOSED: MINUTE},
        RestartPolicy("always", burst=5, window=MINUTE, then="keep_trying"),
        timeout=MINUTE,
    ),
    "important": Bundle(
        {OPEN: 30 * SECOND, CLOSED: 5 * MINUTE},
        RestartPolicy("on-failure", burst=3, window=10 * MINUTE, then="park"),
        timeout=5 * MINUTE,
    ),
    "nice-to-have": Bundle(
        {OPEN: MINUTE, CLOSED: None}, RestartPolicy("never"), timeout=5 * MINUTE
    ),
}  # fmt: skip


def complete(
    name: str, model: TaskModel, market: str, trigger: Trigger, bundle: Bundle, target: str | None
) -> TaskSpec:
    """The spec with every default filled in; ``target`` replaces ``run`` and ``command``."""
    return TaskSpec(
        name=name,
        priority=_PRIORITIES[model.priority],
        market=market,
        trigger=trigger,
        work=_work(model, target),
        restart=_restart(bundle.restart, model.restart),
        timeout=model.timeout if "timeout" in model.model_fields_set else _timeout(trigger, bundle),
        catchup=_catchup(trigger) if model.catchup is None else model.catchup,
        stop_grace=_STOP_GRACE if model.stop_grace is None else model.stop_grace,
        overlap=_overlap(trigger) if model.overlap is None else Overlap(model.overlap),
        catchup_until=model.catchup_until,
        if_interrupted=model.if_interrupted,
        restart_with=model.restart_with,
        fresh_within=model.fresh_within,
        finish_by=model.finish_by,
        enabled=model.enabled,
        pace=Every(bundle.every) if isinstance(trigger, KeepRunning) else None,
    )


def _work(model: TaskModel, target: str | None) -> Work:
    return Work(
        target=target or model.run,
        argv=tuple(model.command or ()),
        isolation=Isolation(model.isolation) if model.isolation else None,
        python=model.python,
        arguments=model.arguments or {},
        env=model.env or {},
        working_directory=model.working_directory,
        memory_limit=model.memory_limit,
        nice=model.nice,
    )


def _restart(default: RestartPolicy, model: RestartModel | None) -> RestartPolicy:
    """What the model says, and for the rest the default."""
    if model is None:
        return default
    return RestartPolicy(
        model.policy or default.policy,
        default.burst if model.burst is None else model.burst,
        default.window if model.window is None else model.window,
        model.then or default.then,
    )


def _timeout(trigger: Trigger, bundle: Bundle) -> Duration | None:
    if isinstance(trigger, At | Cron):
        return _APPOINTMENT
    return None if isinstance(trigger, KeepRunning) else bundle.timeout


def _catchup(trigger: Trigger) -> Duration:
    """Law 4: one interval. Of a pace map the longest, so that none of its intervals is cut short."""
    if isinstance(trigger, Every):
        return max((interval for interval in trigger.pace.values() if interval is not None), default=0)
    return _APPOINTMENT  # for what no clock makes due: how long it may wait for a slot


def _overlap(trigger: Trigger) -> Overlap:
    """Skip; but what an event caused does not come again by itself."""
    return Overlap.QUEUE_ONE if isinstance(trigger, On) else Overlap.SKIP
