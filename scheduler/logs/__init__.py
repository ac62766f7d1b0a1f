"""What the daemon and its tasks say: one pipeline to standard error or to the journal.

    logs.configure(format="auto", level="info", stream=sys.stderr, zone=zone, now=clock.now)
    logs.announce("task.restarting", "warning", {"task": "market-monitoring", "attempt": 2})

``announce`` is for events (``scheduler.core.events`` has their names), ``logger`` is what a task's
``ctx.log`` is made of, and whatever libraries say through ``logging`` at warning or above joins them.
Nothing here blocks or raises, whatever becomes of the place the lines go to.
"""

from __future__ import annotations

from scheduler.logs.pipeline import FORMATS, LEVELS, announce, configure, enabled, flush, logger

__all__ = ["FORMATS", "LEVELS", "announce", "configure", "enabled", "flush", "logger"]
