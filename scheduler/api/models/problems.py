"""Errors (RFC 9457)."""

from __future__ import annotations

from pydantic import Field

from scheduler.api.models.base import Model


class Complaint(Model):
    """What is wrong with one value of a request."""

    at: str
    message: str


class Problem(Model):
    """An error, as application/problem+json."""

    title: str
    status: int
    detail: str
    problems: tuple[str, ...] | None = Field(default=None, description="file:line:column: what is wrong")
    errors: tuple[Complaint, ...] | None = None
