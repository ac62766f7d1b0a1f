"""The single values of tasks.yaml: what each must look like, and what would be right instead.

A type here is an ``Annotated`` one for pydantic: a function that turns the plain YAML value into
ours or raises ValueError with a sentence, and the JSON Schema that an editor gets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, TypeAlias
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from scheduler.core import events, template
from scheduler.core.durations import parse_duration
from scheduler.core.triggers import PLAIN, Anchor, can_fire, parse_anchor
from scheduler.yamlfile import suggest

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}", re.ASCII)
_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_MEMORY = re.compile(r"([1-9][0-9]{0,8})([KMGT])", re.ASCII)
_MEMORY_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Parsed:
    """Annotates a type whose values one function makes of plain YAML values."""

    def __init__(self, parse: Callable[[object], object], schema: Mapping[str, Any]) -> None:
        self._parse = parse
        self._schema = schema

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._parse)

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(self._schema)


def kind(value: object) -> str:
    """What a plain YAML value is called in a sentence."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a map"
    if isinstance(value, list | tuple):
        return "a list"
    return "nothing" if value is None else repr(value)


def _text(value: object) -> str:
    text = _any_text(value)
    if not text:
        raise ValueError("must not be empty")
    return text


def _any_text(value: object) -> str:
    if not isinstance(value, str):
        quote = "; put it into quotes" if isinstance(value, int | float) else ""
        raise ValueError(f"must be text, not {kind(value)}{quote}")
    if "\0" in value:
        raise ValueError("must not contain the character NUL")
    return value


def _duration(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError(f"{kind(value)} is not a duration; write 5s, 1m30s, 2h or 1d")
    if value.startswith("-"):
        raise ValueError(f"{value!r} is negative; a duration is 0s or longer")
    return parse_duration(value)


def _positive_duration(value: object) -> int:
    duration = _duration(value)
    if duration == 0:
        raise ValueError("must be longer than 0")
    return duration


def _duration_or(word: str) -> Callable[[object], int | None]:
    """The validator of a duration that may also be this word, which then means None."""

    def validate(value: object) -> int | None:
        return None if value == word else _positive_duration(value)

    return validate


def _anchor(value: object) -> Anchor:
    return parse_anchor(_text(value))


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(
            f"{value[:80]!r} cannot be a name; use 1 to 64 of a-z, 0-9, '_', '.' and '-', "
            "beginning with a letter or digit"
        )
    return value


def _target(value: object) -> str:
    text = _text(value)
    if not _TARGET.fullmatch(text):
        raise ValueError(f"{text!r} does not name a callable; write package.module:callable")
    return text


def _variable(value: str) -> str:
    if not _VARIABLE.fullmatch(value):
        raise ValueError(f"{value!r} cannot be the name of an environment variable")
    return value


def _event(value: object) -> str:
    text = _text(value)
    if text not in events.ALL:
        raise ValueError(f"there is no event {text!r}{suggest(text, events.ALL)}")
    return text


def _told_event(value: object) -> str:
    text = _event(value)
    if text in events.UNTOLD:
        raise ValueError(f"{text} can never be told: {events.UNTOLD[text]}")
    return text


def _template(names: Collection[str]) -> Callable[[object], str]:
    """Text with ``{name}`` in it, of which each must be known; ``{{`` stands for a brace."""

    def validate(value: object) -> str:
        text = _any_text(value)
        for written in template.placeholders(text):
            if written not in names:
                known = f"; known are {', '.join(sorted(names))}, and {{{{ and }}}} are braces"
                raise ValueError(f"{{{written}}} cannot be filled in{suggest(written, names) or known}")
        return text

    return validate


def _command(value: object) -> object:
    if isinstance(value, str):
        words = ", ".join(value.split())
        raise ValueError(f"a command is a list: write [{words}], or [sh, -c, '...'] for a shell")
    return value


def _memory(value: object) -> int:
    match = _MEMORY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{kind(value)} is not an amount of memory; write 512M or 2G")
    return int(match[1]) * _MEMORY_UNITS[match[2]]


def _directory(value: object) -> str:
    text = _text(value)
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is not an absolute path; begin it with '/'")
    return text


def _cron(value: object) -> str:
    text = _text(value)
    if not can_fire(text):
        raise ValueError(f"{text!r} can never fire: there is no such date")
    return text


def _zone(value: object) -> ZoneInfo:
    text = _text(value)
    try:
        return ZoneInfo(text)
    except (ValueError, OSError, LookupError):  # malformed, a directory of the database, unknown
        # IST is the Indian, the Irish and the Israeli time: what resembles an abbreviation helps nobody.
        hint = suggest(text, available_timezones()) if "/" in text else ""
        expected = "; write a name such as Asia/Kolkata or UTC"
        raise ValueError(f"there is no time zone {text!r}{hint or expected}") from None


def _url(value: object) -> str:
    """The rest of it may be a secret, so that no error names more than its scheme and host."""
    text = _text(value)
    shown = "this"
    try:
        parts = urlsplit(text)
        if parts.scheme and parts.hostname:
            shown = repr(f"{parts.scheme}://{parts.hostname}")
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{shown} is not a URL; write https://host/path")
    return text


def _one_or_many(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _pace_map(value: object) -> object:
    if not isinstance(value, Mapping):
        return {PLAIN: value}
    if not value:
        raise ValueError("names no phase; write a duration, or a map such as {open: 5s, closed: 60s}")
    if PLAIN in value:
        raise ValueError(f"{PLAIN!r} is not a phase; a duration alone is a pace for all of them")
    return value


_STRING = {"type": "string"}
_DURATION = {
    "type": "string",
    "pattern": r"^(?=.)(\d+d)?(\d+h)?(\d+m(?!s))?(\d+s)?(\d+ms)?$",
    "examples": ["5s", "1m30s", "2h", "1d"],
}

AnyText: TypeAlias = Annotated[str, Parsed(_any_text, _STRING)]
Text: TypeAlias = Annotated[str, Parsed(_text, {**_STRING, "minLength": 1})]
Target: TypeAlias = Annotated[str, Parsed(_target, {**_STRING, "examples": ["package.module:callable"]})]
Directory: TypeAlias = Annotated[str, Parsed(_directory, {**_STRING, "pattern": "^/"})]
Url: TypeAlias = Annotated[str, Parsed(_url, {**_STRING, "format": "uri"})]
Memory: TypeAlias = Annotated[int, Parsed(_memory, {**_STRING, "pattern": f"^{_MEMORY.pattern}$"})]
CronText: TypeAlias = Annotated[str, Parsed(_cron, {**_STRING, "examples": ["*/15 9-15 * * *", "@daily"]})]
Zone: TypeAlias = Annotated[ZoneInfo, Parsed(_zone, {**_STRING, "examples": ["Asia/Kolkata"]})]
OneAnchor: TypeAlias = Annotated[Anchor, Parsed(_anchor, {**_STRING, "examples": ["09:15", "close+15m"]})]
ToldEventName: TypeAlias = Annotated[
    str, Parsed(_told_event, {**_STRING, "enum": sorted(events.ALL - events.UNTOLD.keys())})
]
EventName: TypeAlias = Annotated[str, Parsed(_event, {**_STRING, "enum": sorted(events.ALL)})]
Variable: TypeAlias = Annotated[str, AfterValidator(_variable)]
Name: TypeAlias = Annotated[str, AfterValidator(_name)]

Duration: TypeAlias = Annotated[int, Parsed(_positive_duration, _DURATION)]
DurationOrZero: TypeAlias = Annotated[int, Parsed(_duration, _DURATION)]
DurationOrNone: TypeAlias = Annotated[
    int | None, Parsed(_duration_or("none"), {"anyOf": [_DURATION, {"const": "none"}]})
]
DurationOrPause: TypeAlias = Annotated[
    int | None, Parsed(_duration_or("pause"), {"anyOf": [_DURATION, {"const": "pause"}]})
]
Pace: TypeAlias = Annotated[
    dict[str, DurationOrPause],
    BeforeValidator(_pace_map, json_schema_input_type=dict[str, DurationOrPause] | Duration),
]
Anchors: TypeAlias = Annotated[
    list[OneAnchor],
    Field(min_length=1),
    BeforeValidator(_one_or_many, json_schema_input_type=list[OneAnchor] | OneAnchor),
]
Phases: TypeAlias = Annotated[
    list[Text], Field(min_length=1), BeforeValidator(_one_or_many, json_schema_input_type=list[Text] | Text)
]
EventNames: TypeAlias = Annotated[
    list[EventName],
    Field(min_length=1),
    BeforeValidator(_one_or_many, json_schema_input_type=list[EventName] | EventName),
]
ToldEventNames: TypeAlias = Annotated[
    list[ToldEventName],
    Field(min_length=1),
    BeforeValidator(_one_or_many, json_schema_input_type=list[ToldEventName] | ToldEventName),
]
Command: TypeAlias = Annotated[
    list[Annotated[str, Parsed(_template(template.NAMES), _STRING)]],
    Field(min_length=1),
    BeforeValidator(_command, json_schema_input_type=list[str]),
]
AlertCommand: TypeAlias = Annotated[
    list[Annotated[str, Parsed(_template(template.OF_ALERTS), _STRING)]],
    Field(min_length=1),
    BeforeValidator(_command, json_schema_input_type=list[str]),
]
