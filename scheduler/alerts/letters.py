"""What a sink gets: one message, with everything that a receiver may want to know."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, NamedTuple

from scheduler.core.alerting import Message
from scheduler.core.messages import Instant
from scheduler.core.summary import summary

_LONGEST = 4_000  # characters of a field, which may be a traceback
_LEFT_OUT = frozenset({"exc_info"})


class SendError(Exception):
    """a letter did not arrive"""

    def __init__(self, problem: str, *, refused: bool = False) -> None:
        """``refused``: the receiver will not have this very letter, however often it is sent."""
        super().__init__(problem)
        self.refused = refused


class Letter(NamedTuple):
    """A message as it is sent."""

    values: Mapping[str, str]  # what the placeholders of a command stand for
    body: bytes  # JSON


@dataclass(frozen=True, slots=True)
class Teller:
    """Makes letters of messages."""

    iso: Callable[[Instant], str]
    as_said: Callable[[Mapping[str, Any]], Mapping[str, Any]]  # fields as the log has them
    host: str = field(default_factory=socket.gethostname)
    version: str = field(default_factory=lambda: version("trading-hours-scheduler"))

    def letter(self, message: Message, at: Instant) -> Letter:
        """``at``: when that was."""
        event, level, raw = message.announcement
        fields = {name: _short(value) for name, value in self.as_said(raw).items() if name not in _LEFT_OUT}
        about = {name: str(fields[name]) for name in ("task", "market") if fields.get(name)}
        content = {
            "event": event,
            "level": level,
            **about,
            "summary": summary(event, fields, message.count),
            "fields": fields,
            "at": self.iso(at),
            "host": self.host,
            "scheduler": self.version,
            "count": message.count,
            "recovered": message.recovered,
        }
        values = {name: str(value) for name, value in content.items() if name not in {"fields", "scheduler"}}
        values |= {
            "task": about.get("task", ""),
            "market": about.get("market", ""),
            "subject": about.get("task") or about.get("market", ""),
            "recovered": "true" if message.recovered else "false",
        }
        return Letter({name: text.replace("\0", "") for name, text in values.items()}, _json(content))


def _short(value: Any) -> Any:
    return f"{value[:_LONGEST]}…" if isinstance(value, str) and len(value) > _LONGEST else value


def _json(content: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(content, allow_nan=False, default=str).encode()
    except (TypeError, ValueError):  # NaN, which is a price sometimes, keys that are no text, a circle
        fields = {str(name): str(value) for name, value in content["fields"].items()}
        return json.dumps({**content, "fields": fields}).encode()
