"""How a line looks: to a person at a terminal, to a program, and as a sentence in the journal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from scheduler.core import events

Line = Mapping[str, object]  # timestamp, level, event, then the fields

_RESET, _DIM = "\x1b[0m", "\x1b[2m"
_COLOURS = {
    "debug": "\x1b[2m",
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[1;31m",
}
_EMPTY: tuple[object, ...] = (None, "", [], ())
_HEAD = ("timestamp", "level", "event", "message", "exception")
_BARE = re.compile(r"[^\s\"'=]+")


def console(*, colours: bool) -> Callable[[Line], str]:
    """``09:15:00.002 warning  task.restarting  task=market-monitoring attempt=2``."""

    def render(line: Line) -> str:
        level, event = str(line["level"]), printable(str(line["event"]))
        time = str(line["timestamp"])[11:23]
        colour, key_colour, reset = (_COLOURS.get(level, ""), _DIM, _RESET) if colours else ("", "", "")
        text = f"{key_colour}{time}{reset} {colour}{level:<8}{reset} {event:<21}"
        if "message" in line:
            text += f" {printable(str(line['message']))}"
        for key, value in line.items():
            if key in _HEAD or value in _EMPTY or (key == "run_id" and "task" in line):
                continue  # a run's id repeats its task and due; whoever needs it has the JSON or the journal
            text += f" {key_colour}{printable(key)}={reset}{_quoted(value)}"
        if "exception" in line:
            for row in str(line["exception"]).splitlines():
                text += f"\n    {key_colour}{printable(row)}{reset}"
        return text.rstrip()

    return render


def json_line(line: Line) -> str:
    """One JSON object; a value that JSON does not know is given as its text."""
    try:
        return json.dumps(line, ensure_ascii=False, allow_nan=False, default=str)
    except (TypeError, ValueError):  # NaN, which is a price sometimes, keys that are no text, a circle
        plain = {str(key): _plain(value) for key, value in line.items()}
        return json.dumps(plain, ensure_ascii=False)


def sentence(line: Line) -> str:
    """``market-monitoring: task restarting (attempt 2, delay 1s)``, or the caller's ``message``."""
    event = str(line["event"])
    subject = next((str(line[key]) for key in ("task", "market") if line.get(key)), "")
    if "message" in line:
        text = str(line["message"])
    else:
        said = event.replace(".", " ").replace("_", " ") if event in events.ALL else event
        named = {*_HEAD, "task", "market"}
        rest = [
            f"{key} {_text(value)}" for key, value in line.items() if key not in named and value not in _EMPTY
        ]
        text = f"{said} ({', '.join(rest)})" if rest else said
    return f"{subject}: {text}" if subject else text


def printable(text: str) -> str:
    """The text without what would move a cursor, turn the reading direction or forge a line: escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _plain(value: object) -> object:
    """The value if JSON surely knows it, else its text."""
    return value if value is None or isinstance(value, str | int) else str(value)


def _text(value: object) -> str:
    """As a person writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _quoted(value: object) -> str:
    text = _text(value)
    return printable(text) if _BARE.fullmatch(text) else printable(json.dumps(text, ensure_ascii=False))
