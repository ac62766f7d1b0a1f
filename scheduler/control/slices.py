"""Much work on the loop, so little at a time that what is due in between is not held up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

T = TypeVar("T")


async def in_slices(things: Sequence[T], size: int) -> AsyncIterator[T]:
    """One after the other; after so many the loop has a turn, in which anything may change."""
    for number, thing in enumerate(things, start=1):
        yield thing
        if number % size == 0:
            await asyncio.sleep(0)
