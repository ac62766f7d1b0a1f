"""The OpenAPI document, made from the operations and their models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

from pydantic.json_schema import JsonSchemaMode, models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from scheduler.api.models.base import Model, Query
from scheduler.api.models.problems import Problem
from scheduler.api.operations import Operation

PATH: Final = "/openapi.json"
_REFERENCES: Final = "#/components/schemas/{model}"
_ANY_ERRORS: Final = (
    HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.MISDIRECTED_REQUEST,
    HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE,
)  # fmt: skip
_PROBLEM: Final = "application/problem+json"


def document_route(operations: Sequence[Operation]) -> Route:
    """Made when it is first asked for: it takes a while, and hardly anybody asks."""
    made: list[dict[str, Any]] = []

    async def endpoint(_: Request) -> JSONResponse:
        if not made:
            made.append(document(operations))
        return JSONResponse(made[0])

    return Route(PATH, endpoint, methods=["GET"])


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """OpenAPI 3.1."""
    models = {(model, mode) for model, mode in _models(operations)}
    schemas, definitions = models_json_schema(
        sorted(models, key=lambda each: (each[0].__name__, each[1])), ref_template=_REFERENCES
    )
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        paths.setdefault(_shown(each.path), {})[each.method.lower()] = _operation(each, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Trading-hours scheduler", "version": version("trading-hours-scheduler")},
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "over TCP"}},
        },
        "security": [{}, {"token": []}],
    }


def _models(operations: Iterable[Operation]) -> Iterator[tuple[type[Model], JsonSchemaMode]]:
    yield Problem, "serialization"
    for each in operations:
        if isinstance(each.answer, type):
            yield each.answer, "serialization"
        if each.body is not None:
            yield each.body, "validation"


def _operation(each: Operation, schemas: Any) -> dict[str, Any]:
    name = f"{each.method.lower()} {_shown(each.path)}"
    found: dict[str, Any] = {
        "operationId": re.sub(r"[^a-z]+", "_", name).strip("_"),
        "summary": each.summary,
        "parameters": [*_path_parameters(_shown(each.path)), *_query_parameters(each.query)],
        "responses": _responses(each, schemas),
    }
    if each.body is not None:
        schema = schemas[each.body, "validation"]
        needed = any(field.is_required() for field in each.body.model_fields.values())
        found["requestBody"] = {"content": {"application/json": {"schema": schema}}, "required": needed}
    return found


def _shown(path: str) -> str:
    """Without what only the router wants to know of a parameter."""
    return re.sub(r":\w+(?=})", "", path)


def _path_parameters(path: str) -> list[dict[str, Any]]:
    schema = {"type": "string", "minLength": 1}
    return [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _query_parameters(model: type[Query] | None) -> list[dict[str, Any]]:
    if model is None:
        return []
    schema = model.model_json_schema(by_alias=True)
    required = schema.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _given(each)}
        for name, each in schema["properties"].items()
    ]


def _given(schema: dict[str, Any]) -> dict[str, Any]:
    """Not given is not written, so there is no null."""
    choices = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    rest = {key: each for key, each in schema.items() if key not in {"anyOf", "default"}}
    return {**rest, **choices[0]} if len(choices) == 1 else schema


def _responses(each: Operation, schemas: Any) -> dict[str, Any]:
    if isinstance(each.answer, type):
        content = {"application/json": {"schema": schemas[each.answer, "serialization"]}}
    else:
        content = {each.answer: {"schema": {"type": "string"}}}
    found: dict[str, Any] = {"200": {"description": "OK", "content": content}}
    problem = {_PROBLEM: {"schema": schemas[Problem, "serialization"]}}
    errors = {*_ANY_ERRORS, *each.errors}
    errors |= {HTTPStatus.UNSUPPORTED_MEDIA_TYPE} if each.body else set()
    for status in sorted(errors):
        also = content if each.path == "/readyz" and status == HTTPStatus.SERVICE_UNAVAILABLE else {}
        found[str(int(status))] = {"description": status.phrase, "content": {**problem, **also}}
    return found
