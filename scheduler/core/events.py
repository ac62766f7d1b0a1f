"""The names of everything that is announced: the ``event`` of a log line, the ``EVENT=`` of a journal
entry, and what ``on:`` and ``alerts:`` of a configuration may name; ``on:`` none of ``UNHEARD``.
"""

from __future__ import annotations

from typing import Final

DAEMON_READY: Final = "daemon.ready"
DAEMON_STOPPING: Final = "daemon.stopping"
DAEMON_STOPPED: Final = "daemon.stopped"
DAEMON_THREADS_LEFT: Final = "daemon.threads_left"
CONTAINMENT_REDUCED: Final = "containment.reduced"

API_LISTENING: Final = "api.listening"
API_REFUSED: Final = "api.refused"

CONFIG_LOADED: Final = "config.loaded"
CONFIG_RELOADED: Final = "config.reloaded"
CONFIG_REJECTED: Final = "config.rejected"

MARKET_PHASE_CHANGED: Final = "market.phase_changed"
MARKET_HORIZON_NEAR: Final = "market.horizon_near"
MARKET_BEYOND_HORIZON: Final = "market.beyond_horizon"
MARKET_UNSETTLED: Final = "market.unsettled"
MARKET_CHANGED: Final = "market.changed"
MARKET_AMENDED: Final = "market.amended"

RUN_COMPLETED: Final = "run.completed"
RUN_FAILED: Final = "run.failed"
RUN_CANCELLED: Final = "run.cancelled"
RUN_SKIPPED: Final = "run.skipped"
RUN_MISSED: Final = "run.missed"

TASK_RESTARTING: Final = "task.restarting"
TASK_RECOVERED: Final = "task.recovered"
TASK_CRASH_LOOPING: Final = "task.crash_looping"
TASK_PARKED: Final = "task.parked"
TASK_PAUSED: Final = "task.paused"
TASK_RESUMED: Final = "task.resumed"
TASK_STALE: Final = "task.stale"
TASK_FRESH: Final = "task.fresh"
TASK_UNFINISHED: Final = "task.unfinished"
RUN_LONG: Final = "run.long_running"

BACKFILL_STARTED: Final = "backfill.started"
BACKFILL_ENDED: Final = "backfill.ended"
OPERATOR_ACTED: Final = "operator.acted"
CACHE_CHANGED: Final = "cache.changed"

TASK_LEAKED: Final = "task.leaked"

CONFIG_DIFFERENCE: Final = "config.difference"
CONFIG_NOT_KEPT: Final = "config.not_kept"
CONFIG_HELD_BACK: Final = "config.held_back"
CODE_CHANGED: Final = "code.changed"
WATCH_REDUCED: Final = "watch.reduced"
CALENDAR_WARNING: Final = "calendar.warning"
TASK_TRACEBACK: Final = "task.traceback"
BACKGROUND_FAILED: Final = "background.failed"

LOOP_STALLED: Final = "loop.stalled"
LOOP_RECOVERED: Final = "loop.recovered"
CLOCK_STEPPED: Final = "clock.stepped"
LOAD_SHEDDING: Final = "load.shedding"
LOAD_NORMAL: Final = "load.normal"
LEDGER_DEGRADED: Final = "ledger.degraded"
LEDGER_RECOVERED: Final = "ledger.recovered"
LEDGER_REPLACED: Final = "ledger.replaced"
LEDGER_LOST: Final = "ledger.lost"
LEDGER_BEHIND: Final = "ledger.behind"
LEDGER_CAUGHT_UP: Final = "ledger.caught_up"

ALERT_FAILED: Final = "alert.failed"
ALERT_RECOVERED: Final = "alert.recovered"
ALERT_DROPPED: Final = "alert.dropped"
ALERT_WITHHELD: Final = "alert.withheld"
HEARTBEAT_WITHHELD: Final = "heartbeat.withheld"
HEARTBEAT_RESUMED: Final = "heartbeat.resumed"

ALL: Final = frozenset(
    value for name, value in dict(globals()).items() if name.isupper() and isinstance(value, str)
)

_BEFORE: Final = "there are no tasks yet"
_AFTER: Final = "nothing is started any more"

UNHEARD: Final = {
    CONFIG_LOADED: _BEFORE,
    CONTAINMENT_REDUCED: _BEFORE,
    DAEMON_STOPPING: _AFTER,
    DAEMON_STOPPED: _AFTER,
    DAEMON_THREADS_LEFT: _AFTER,
    TASK_TRACEBACK: "what happens is run.failed",
    ALERT_WITHHELD: "it is of rehearsals",
    CACHE_CHANGED: "it may happen all the time",
}
"""What an ``on`` task can never hear of, and why."""

_OF_ALERTS: Final = "an alert that fails cannot tell of itself"

UNTOLD: Final = {
    CONTAINMENT_REDUCED: _BEFORE,
    DAEMON_THREADS_LEFT: "nothing is told any more",
    TASK_TRACEBACK: UNHEARD[TASK_TRACEBACK],
    ALERT_FAILED: _OF_ALERTS,
    ALERT_RECOVERED: _OF_ALERTS,
    ALERT_DROPPED: _OF_ALERTS,
    ALERT_WITHHELD: UNHEARD[ALERT_WITHHELD],
    CACHE_CHANGED: UNHEARD[CACHE_CHANGED],
}
"""What ``alerts:`` can never tell of, and why."""
