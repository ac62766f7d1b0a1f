"""Whether the daemon lives, and does its work."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scheduler.api.models.base import Model


class Health(Model):
    """The loop turns: else there would be no answer."""

    status: Literal["ok"] = "ok"
    version: str
    pid: int


class Concern(Model):
    """Something that an operator should know."""

    kind: Literal["market", "task", "ledger", "files"]
    name: str
    what: str
    blocking: bool = Field(description="what is due is not started because of it")


class Readiness(Model):
    """Whether what is due is started, and what speaks or will speak against it."""

    ready: bool
    concerns: tuple[Concern, ...] = ()
