"""The files."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scheduler.api.models.base import Model


class Reloaded(Model):
    """The files are in force, and this is what they changed."""

    accepted: Literal[True] = True
    unchanged: bool = Field(description="nothing differs from what was in force before")
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    settings: tuple[str, ...] = Field(default=(), description="what else of the files changed")
    markets: tuple[str, ...] = Field(default=(), description="markets whose calendar changed")
    differences: tuple[str, ...] = Field(default=(), description="the difference in runs")
    warnings: tuple[str, ...] = ()
