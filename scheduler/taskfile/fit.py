"""Which keys of a task go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.core import events
from scheduler.core.during import SESSION

if TYPE_CHECKING:
    from scheduler.taskfile.models import TaskModel

_TRIGGERS = ("every", "at", "cron", "on", "after", "keep_running")
_NEEDS_TRIGGER = {
    "offset": ("every",),
    "spread": ("every",),
    "during": ("every", "cron", "keep_running"),
    "market_hours_only": ("every", "cron", "keep_running"),
    "catchup": ("every", "at", "cron"),
    "catchup_until": ("every", "at", "cron"),
}
_OF_CALLABLES = ("with", "isolation", "python")
_OF_PROCESSES = ("env", "working_directory", "memory_limit", "nice")

Misfit = tuple[tuple[str, ...], str]  # the path to a key (empty: the task), and what is wrong with it


def misfits(model: TaskModel, *, has_target: bool) -> list[Misfit]:
    """Every key of a task that does not fit the others. ``has_target``: a program brings the callable."""
    given = _given(model)
    return [
        *_work_misfits(given, model, has_target=has_target),
        *_trigger_misfits(given),
        *_value_misfits(given, model),
    ]


def _given(model: TaskModel) -> list[str]:
    """The keys as written; what is switched off (``spread: false``) counts as not given."""
    fields = type(model).model_fields
    return [
        fields[field].alias or field
        for field in fields
        if field in model.model_fields_set and getattr(model, field) is not False
    ]


def _work_misfits(given: list[str], model: TaskModel, *, has_target: bool) -> list[Misfit]:
    wrong: list[Misfit] = []
    kinds = [key for key in ("run", "command") if key in given]
    if has_target:
        wrong += [((key,), f"{key}: the program brings its own callable") for key in kinds]
    elif not kinds:
        wrong.append(((), "the task does nothing; add `run: module:callable` or `command: [program, ...]`"))
    elif len(kinds) > 1:
        wrong.append((("command",), "a task has either run or command, not both"))
    if kinds == ["command"]:
        unfit = [key for key in _OF_CALLABLES if key in given]
        return wrong + [((key,), f"{key}: goes with run, not with command") for key in unfit]
    if model.isolation != "process":
        wrong += [
            ((key,), f"{key}: needs a process of its own; add `isolation: process`")
            for key in ("python", *_OF_PROCESSES)
            if key in given
        ]
    return wrong


def _trigger_misfits(given: list[str]) -> list[Misfit]:
    triggers = [key for key in _TRIGGERS if key in given]
    if len(triggers) > 1:
        named = " and ".join(triggers)
        return [((triggers[-1],), f"a task has one trigger, not {named}; keep one, or make two tasks")]
    trigger = triggers[0] if triggers else "every"
    return [
        ((key,), f"{key}: goes with {_or(fitting)}, not with {trigger}")
        for key, fitting in _NEEDS_TRIGGER.items()
        if key in given and trigger not in fitting
    ]


def _value_misfits(given: list[str], model: TaskModel) -> list[Misfit]:
    wrong: list[Misfit] = []
    if "during" in given and "market_hours_only" in given:
        message = "market_hours_only: means `during: [open]`; keep one of the two"
        wrong.append((("market_hours_only",), message))
    if model.during and SESSION in model.during and len(model.during) > 1:
        wrong.append((("during",), f"during: {SESSION!r} already holds from the first phase to the last"))
    if "catchup" in given and "catchup_until" in given:
        wrong.append((("catchup_until",), "catchup_until: stands instead of catchup; keep one of the two"))
    deaf = [event for event in model.on or () if event in events.UNHEARD]
    wrong += [(("on",), f"on: no task hears of {event}: {events.UNHEARD[event]}") for event in deaf]
    return wrong


def _or(words: tuple[str, ...]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
