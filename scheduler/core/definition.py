"""A task's definition as text: the same in every process, for the ledger to tell a changed task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import tzinfo
from enum import Enum
from hashlib import sha256
from typing import Any, Final

from scheduler.core.messages import TaskSpec

HIDDEN: Final = "(hidden)"


def definition_text(spec: TaskSpec) -> str:
    """JSON with sorted keys. What `env` and `with` say may be a secret: only their names are told."""
    plain = _plain(spec)
    for place in ("env", "arguments"):
        plain["work"][place] = dict.fromkeys(plain["work"][place], HIDDEN)
    return json.dumps(plain, sort_keys=True)


def fingerprint(spec: TaskSpec) -> str:
    """A short text that is the same for the same definition only, secrets included."""
    return sha256(json.dumps(_plain(spec), sort_keys=True).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name
    if is_dataclass(value):
        values = {field.name: _plain(getattr(value, field.name)) for field in fields(value) if field.init}
        return {"is": type(value).__name__, **values}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(_plain(each) for each in value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, tzinfo) else value
