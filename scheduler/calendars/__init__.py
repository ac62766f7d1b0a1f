"""Market calendars: layers of definitions and exchange-calendars, compiled into ``MarketTable``.

The layers, the later wins: exchange-calendars (read in a short-lived child process), what the
package itself knows of India, the desk's markets.yaml, an operator's amendments.
"""

from __future__ import annotations

from scheduler.calendars.book import resting_on
from scheduler.calendars.build import Built, Calendars
from scheduler.calendars.rows import calendar_rows, unsettled_days
from scheduler.calendars.source import CalendarSource, run_child
from scheduler.calendars.template import template

__all__ = [
    "Built", "CalendarSource", "Calendars", "calendar_rows", "resting_on", "run_child", "template",
    "unsettled_days",
]  # fmt: skip
