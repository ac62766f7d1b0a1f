"""How a line looks: to a person at a terminal, to a program, and as a sentence in the journal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping

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
# What a sentence says otherwise, or leaves to whoever asks for the field.
_IN_SENTENCE = frozenset({*_HEAD, "task", "market", "error", "run_id", "priority"})
_INSTANTS = frozenset({"due", "since", "until", "last_success"})
_OF_TASK = ("run_id", "priority")
_DATE = len("2026-11-23T")
_BARE = re.compile(r"[^\s\"'=]+")


def console(*, colours: bool) -> Callable[[Line], str]:
    """``2026-11-23 09:15:00.002+05:30 warning  task.restarting  task=market-monitoring attempt=2``."""

    def render(line: Line) -> str:
        level, event = str(line["level"]), printable(str(line["event"]))
        time = str(line["timestamp"]).replace("T", " ", 1)
        colour, key_colour, reset = (_COLOURS.get(level, ""), _DIM, _RESET) if colours else ("", "", "")
        text = f"{key_colour}{time}{reset} {colour}{level:<8}{reset} {event:<21}"
        if "message" in line:
            text += f" {printable(str(line['message']))}"
        for key, value in line.items():
            if key in _HEAD or value in _EMPTY or (key in _OF_TASK and "task" in line):
                continue  # it repeats what the task says; whoever needs it has the JSON or the journal
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
    """``market-monitoring: task restarting (attempt 2, delay 1s)``, or the caller's ``message``.

    A traceback follows on lines of its own.
    """
    event = str(line["event"])
    subject = next((str(line[key]) for key in ("task", "market") if line.get(key)), "")
    if "message" in line:
        text = str(line["message"])
    else:
        text = event.replace(".", " ").replace("_", " ") if event in events.ALL else event
        if line.get("error") not in _EMPTY:
            text += f": {line['error']}"
        rest = [f"{key} {text_of(value)}" for key, value in _details(line)]
        text += f" ({', '.join(rest)})" if rest else ""
    if "exception" in line:
        text += f"\n{line['exception']}"
    return f"{subject}: {text}" if subject else text


def _details(line: Line) -> Iterator[tuple[str, object]]:
    """What a sentence tells in brackets; of instants of the same day only the time."""
    today = str(line.get("timestamp", ""))[:11]
    for key, value in line.items():
        if key in _IN_SENTENCE or value in _EMPTY or value == line.get("error"):
            continue
        is_today = key in _INSTANTS and len(today) == _DATE and str(value).startswith(today)
        yield key.replace("_", " "), str(value)[_DATE:].partition("+")[0] if is_today else value


def printable(text: str) -> str:
    """The text without what would move a cursor, turn the reading direction or forge a line: escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _plain(value: object) -> object:
    """The value if JSON surely knows it, else its text."""
    return value if value is None or isinstance(value, str | int) else str(value)


def text_of(value: object) -> str:
    """As a person writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _quoted(value: object) -> str:
    text = text_of(value)
    return printable(text) if _BARE.fullmatch(text) else printable(json.dumps(text, ensure_ascii=False))
