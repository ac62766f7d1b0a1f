"""Telling someone: webhooks, commands, and a heartbeat while the daemon is healthy.

The core says what a sink is to be told (``scheduler.core.alerting``); here it is delivered. Each sink has a
queue and a worker of its own, so that one that is slow or dead holds up neither the others, nor the daemon.
"""

from __future__ import annotations

from scheduler.alerts.alerts import GRACE, PARTING, Alerts
from scheduler.alerts.letters import Teller

__all__ = ["GRACE", "PARTING", "Alerts", "Teller"]
