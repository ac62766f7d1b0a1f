"""What schemathesis is told of the API (SCHEMATHESIS_HOOKS): how to reach its depths, and what is no fault.

It knows the schema, and therefore no task, no namespace and no time at which anything was due: half of what
it makes up is replaced by what there is.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

import schemathesis
from schemathesis import Case, GenerationMode, HookContext, Response
from schemathesis.core.failures import Failure
from schemathesis.openapi.checks import RejectedPositiveData, UseAfterFree

TASKS = ("quick", "appointment", "loop", "off", "upstream", "downstream")
TIMES = (
    "2026-11-23T09:15:00+05:30",
    "2026-11-23",
    "1970-01-02",
    "2099-12-31T23:59:59Z",
    "9999-12-31",
    "0001-01-01",
)
THERE: dict[str, tuple[Any, ...]] = {
    "name": TASKS,
    "task": TASKS,
    "namespace": ("prices",),
    "key": ("NIFTY", "a key"),
    "id": ("quick-20261123T034500Z", "loop-20260230T000000Z", "quick-20261123T034500Z~3"),
    "run_id": ("quick-20261123T034500Z",),
    "from": TIMES,
    "until": TIMES,
    "market": ("NSE", "MCX"),
    "tasks": tuple([name, "quick"] for name in TASKS),
    "ttl": ("5s", "1ms", "0s", "300d"),
}


@schemathesis.hook
def before_call(context: HookContext, case: Case, **_: object) -> None:
    """Put in what there is, unless the case is to be refused for what is in it."""
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    given: Any
    for given in (case.path_parameters, case.query, case.body):
        if isinstance(given, dict):
            for name in THERE.keys() & given.keys():
                draw = crc32(repr((name, given[name])).encode())
                if draw % 2 and given[name] is not None:
                    given[name] = THERE[name][draw // 2 % len(THERE[name])]


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    """Whether it is one."""
    if isinstance(failure, UseAfterFree):  # a run that was cancelled stays on record
        return not case.operation.path.startswith(("/api/runs/", "/tasks/", "/api/tasks/status/"))
    if isinstance(failure, RejectedPositiveData) and response.status_code == 422:
        # A request may be well-formed and yet make no sense: until before from. But the models must agree.
        return any(complaint["at"] for complaint in response.json().get("errors", ()))
    return True
