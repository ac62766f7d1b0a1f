"""An announcement as one sentence for people: what a pager shows."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Any, Final

from scheduler.core import events

LONGEST: Final = 300  # characters

_SENTENCES: Final[Mapping[str, str]] = {
    events.TASK_CRASH_LOOPING: "{task} fails again and again ({failures} times in a row) and is tried on",
    events.TASK_PARKED: "{task} is parked: it is not started until {ends_by}",
    events.TASK_STALE: "{task} has had no success for {fresh_within}",
    events.TASK_FRESH: "{task} has succeeded again",
    events.TASK_UNFINISHED: "{task} had not finished by {finish_by}",
    events.TASK_RECOVERED: "{task} has recovered",
    events.TASK_RESUMED: "{task} has been resumed",
    events.TASK_PAUSED: "{task} is paused",
    events.RUN_FAILED: "{task} has failed",
    events.RUN_COMPLETED: "{task} has completed",
    events.RUN_LONG: "{task} has run for more than {longer_than}",
    events.RUN_MISSED: "{task} was not started when it was due",
    events.MARKET_HORIZON_NEAR: "the calendar of {market} ends in {days} days, with {known_until}",
    events.MARKET_BEYOND_HORIZON: "the calendar of {market} has ended with {known_until}",
    events.LEDGER_DEGRADED: "the disk refuses what the ledger records",
    events.LEDGER_RECOVERED: "the ledger is on the disk again",
    events.LEDGER_BEHIND: "{unaccounted} runs that were due are not accounted for",
    events.LEDGER_CAUGHT_UP: "every run that was due is accounted for again",
    events.DAEMON_READY: "the scheduler has started",
    events.DAEMON_STOPPING: "the scheduler is stopping",
    events.DAEMON_STOPPED: "the scheduler has stopped",
    events.CONFIG_REJECTED: "a changed configuration was refused and the former one stays in force",
    events.CONFIG_RELOADED: "a new configuration is in force",
    events.LOAD_SHEDDING: "the scheduler is overloaded and starts less",
    events.LOAD_NORMAL: "the scheduler is no longer overloaded",
    events.LOOP_STALLED: "{culprit} held up the scheduler for {seconds} s",
    events.LOOP_RECOVERED: "the scheduler goes on after {culprit} held it up",
    events.HEARTBEAT_WITHHELD: "the heartbeat is withheld",
    events.HEARTBEAT_RESUMED: "the heartbeat is given again",
}
_WHY: Final = ("error", "problem", "reason")  # fields, of which the first that is there ends the sentence


def summary(event: str, fields: Mapping[str, Any], count: int = 1) -> str:
    """``eod-report is parked: it is not started until … (exit status 1), 3 times``, on one line.

    ``fields`` are those of the announcement as the log has them, ``count`` how many it stands for.
    """
    text = _sentence(event, fields)
    why = next((str(fields[name]) for name in _WHY if fields.get(name)), "")
    text += f" ({why})" if why else ""
    text = " ".join(text.split())
    often = f", {count} times" if count > 1 else ""
    room = LONGEST - len(often)
    return (text if len(text) <= room else text[: room - 1] + "…") + often


def _sentence(event: str, fields: Mapping[str, Any]) -> str:
    template = _SENTENCES.get(event, "")
    names = {name for _, name, _, _ in Formatter().parse(template) if name}
    if template and names <= fields.keys():
        return template.format_map(_Rounded(fields))
    subject = next((str(fields[name]) for name in ("task", "market") if fields.get(name)), "the scheduler")
    return f"{subject}: {event.replace('.', ' ').replace('_', ' ')}"


class _Rounded(dict[str, Any]):
    """Seconds to a tenth are enough for people."""

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        return round(value, 1) if isinstance(value, float) else value
