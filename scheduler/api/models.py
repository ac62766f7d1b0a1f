"""What goes over the wire: strict, so that a misspelt key is an error and no number becomes a text."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it has characters that cannot be printed")
    return text


Reason = Annotated[str, Field(max_length=1_000), AfterValidator(_printable)]


class Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Health(Model):
    """The loop turns: else there would be no answer."""

    status: Literal["ok"] = "ok"
    version: str
    pid: int


class Concern(Model):
    """Something that an operator should know."""

    kind: Literal["market", "task", "ledger"]
    name: str
    what: str
    blocking: bool = Field(description="what is due is not started because of it")


class Readiness(Model):
    """Whether what is due is started, and what speaks or will speak against it."""

    ready: bool
    concerns: tuple[Concern, ...] = ()


class Reloaded(Model):
    """The files are in force, and this is what they changed."""

    accepted: Literal[True] = True
    unchanged: bool = Field(description="nothing differs from what was in force before")
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    settings: tuple[str, ...] = Field((), description="what else of the files changed")
    markets: tuple[str, ...] = Field((), description="markets whose calendar changed")
    differences: tuple[str, ...] = Field((), description="the difference in runs")
    warnings: tuple[str, ...] = ()


class ResumeRequest(Model):
    reason: Reason = ""


class Resumed(Model):
    task: str
    ended: tuple[Literal["parked", "crash-looping", "paused"], ...]
    next: str | None = Field(description="when it is due next; ISO 8601")
    by: str


class Complaint(Model):
    """What is wrong with one value of a request."""

    at: str
    message: str


class Problem(Model):
    """An error (RFC 9457, application/problem+json)."""

    title: str
    status: int
    detail: str
    problems: tuple[str, ...] | None = Field(None, description="file:line:column: what is wrong")
    errors: tuple[Complaint, ...] | None = None
