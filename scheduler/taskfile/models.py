"""The shape of tasks.yaml as pydantic models, and the JSON Schema that editors get from them.

A field that is None was not given: a YAML null is refused everywhere. What values mean together,
and to the markets, is said in ``taskcompile``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from scheduler.taskfile.values import (
    AlertCommand,
    Anchors,
    AnyText,
    Command,
    CronText,
    Directory,
    Duration,
    DurationOrNone,
    DurationOrZero,
    EventNames,
    Memory,
    Name,
    OneAnchor,
    Pace,
    Phases,
    Target,
    Text,
    ToldEventNames,
    Url,
    Variable,
    Zone,
)

PriorityName: TypeAlias = Literal["critical", "important", "nice-to-have"]
PolicyName: TypeAlias = Literal["always", "on-failure", "never"]


class Model(BaseModel):
    """What all have in common: no unknown keys, no conversions, no nulls."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _something(cls, value: object) -> object:
        if value is None:
            raise ValueError("has no value; write one, or leave the key out")
        return value


class RestartModel(Model):
    """When a failed run is tried again; what is not given comes from the priority."""

    policy: PolicyName | None = None
    burst: Annotated[int, Field(ge=1)] | None = None
    window: Duration | None = None
    then: Literal["keep_trying", "park"] | None = None


def _policy_word(value: object) -> object:
    return {"policy": value} if isinstance(value, str) else value


Restart: TypeAlias = Annotated[
    RestartModel, BeforeValidator(_policy_word, json_schema_input_type=RestartModel | PolicyName)
]


class BundleModel(Model):
    """The defaults that a priority gives to its tasks."""

    every: Pace | None = None
    restart: Restart | None = None
    timeout: DurationOrNone | None = None


class CacheModel(Model):
    """One namespace of the shared cache."""

    ttl: Duration
    max_entries: Annotated[int, Field(ge=1)] = 10_000
    expire_at: Literal["phase_change"] | None = None
    stale_on_error: Duration | None = None


class AlertModel(Model):
    """A sink with the events it gets, or a heartbeat."""

    webhook: Url | None = None
    command: AlertCommand | None = None
    events: ToldEventNames | None = None
    heartbeat: Url | None = None


class TaskModel(Model):
    """One task. Exactly one of run and command; at most one trigger."""

    run: Target | None = None
    command: Command | None = None
    arguments: dict[str, Any] | None = Field(default=None, alias="with")
    isolation: Literal["inline", "thread", "process"] | None = None
    python: Text | None = None
    env: dict[Variable, AnyText] | None = None
    working_directory: Directory | None = None
    memory_limit: Memory | None = None
    nice: Annotated[int, Field(ge=-20, le=19)] | None = None

    priority: PriorityName = "important"
    market: Text | None = None
    enabled: bool = True

    every: Pace | None = None
    at: Anchors | None = None
    cron: CronText | None = None
    on: EventNames | None = None
    after: Text | None = None
    keep_running: bool | None = None
    during: Phases | None = None
    market_hours_only: bool | None = None
    offset: DurationOrZero | None = None
    spread: bool | None = None

    timeout: DurationOrNone | None = None
    stop_grace: DurationOrZero | None = None
    overlap: Literal["skip", "queue-one", "cancel-previous"] | None = None
    catchup: DurationOrZero | None = None
    catchup_until: OneAnchor | None = None
    if_interrupted: Literal["leave", "retry"] = "leave"
    restart: Restart | None = None
    restart_with: Text | None = None
    fresh_within: Duration | None = None
    finish_by: OneAnchor | None = None


class FileModel(Model):
    """tasks.yaml, or one file of tasks.d."""

    timezone: Zone | None = None
    reload: Literal["auto", "manual", "closed-only"] | None = None
    cache: dict[Name, CacheModel] = {}
    priorities: dict[PriorityName, BundleModel] = {}
    tasks: dict[Name, TaskModel] = {}
    alerts: list[AlertModel] = []


_NAMED: dict[str, type[Model]] = {"cache": CacheModel, "priorities": BundleModel, "tasks": TaskModel}
_NAME_AND_KEY = 2  # `tasks`, its name: where the model of one task begins


def keys_at(path: Sequence[str | int]) -> frozenset[str]:
    """The keys that the map at ``path`` of a file may have; empty where they are free."""
    model: type[Model] | None = None
    if not path:
        model = FileModel
    elif path[-1] == "restart":
        model = RestartModel
    elif path[0] == "alerts":
        model = AlertModel
    elif len(path) == _NAME_AND_KEY:
        model = _NAMED.get(str(path[0]))
    fields = model.model_fields if model else {}
    return frozenset(field.alias or name for name, field in fields.items())


def tasks_schema() -> dict[str, Any]:
    """The JSON Schema of tasks.yaml and of the files of tasks.d."""
    schema = FileModel.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Tasks of the trading-hours scheduler"
    return _without_nulls(schema)  # type: ignore[no-any-return] # a map stays a map


def _without_nulls(schema: Any) -> Any:
    """Take out the ``null`` that only says "not given" in the models."""
    if isinstance(schema, list):
        return [_without_nulls(part) for part in schema if part != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    clean = {
        key: _without_nulls(part) for key, part in schema.items() if not (key == "default" and part is None)
    }
    choices = clean.get("anyOf", ())
    if len(choices) == 1:
        del clean["anyOf"]
        clean = {**choices[0], **clean}
    return clean
