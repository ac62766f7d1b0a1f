"""The alerts of one daemon: what they hear, and what they may ask of it."""

from __future__ import annotations

from scheduler import logs
from scheduler.alerts import Alerts, Teller
from scheduler.clock import Clock
from scheduler.core import events
from scheduler.core.messages import Announce
from scheduler.daemon import Daemon
from scheduler.runs import BackgroundTaskManager, RunEntry
from scheduler.times import to_iso


def alerts_of(daemon: Daemon, clock: Clock) -> Alerts:
    """They hear from now on, follow the configuration, and are to be closed after the daemon's end.

    Their workers have an owner of their own: they outlive the runs, to tell of their end.
    """
    alerts = Alerts(
        lambda: daemon.configuration.alerts,
        tasks=BackgroundTaskManager(clock.now, on_failure=_failed),
        teller=Teller(lambda t: to_iso(t, daemon.configuration.zone), daemon.voice.as_said),
        clock=clock,
        unwell=lambda: unwell(daemon),
        say=lambda event, level, fields: daemon.voice.report([Announce(event, level, fields)]),
        log=lambda sink: logs.logger(sink=sink),
    )
    daemon.voice.listeners.append(alerts.hear)
    daemon.record_listeners.append(alerts.recorded)
    return alerts


def unwell(daemon: Daemon) -> str:
    """Why heartbeats are withheld; "" when the daemon is healthy."""
    readiness, late = daemon.readiness(), daemon.overdue()
    if not readiness.ready:
        return str(readiness)
    if late:
        return f"not started although due: {', '.join(late)}"
    return "the disk refuses what is recorded" if daemon.ledger.degraded else ""


def say_withheld(daemon: Daemon) -> None:
    """A rehearsal tells nobody, and says so."""
    if daemon.configuration.alerts:
        fields = {"alerts": len(daemon.configuration.alerts), "reason": "a rehearsal tells nobody"}
        logs.announce(events.ALERT_WITHHELD, "info", fields)


def _failed(entry: RunEntry, error: str, details: str) -> None:
    fields = {"run_id": entry.run_id, "error": error, "exception": details}
    logs.announce(events.BACKGROUND_FAILED, "error", fields)
