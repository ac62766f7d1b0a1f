"""Sees that configuration files changed: atomic renames and symlink swaps included."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from pathlib import Path

from watchfiles import Change, awatch

_STEP = 400  # milliseconds between looks at what the kernel reported; a save is live within two seconds
_SETTLE = 800  # milliseconds at most to gather what belongs to one save
_SUFFIXES = (".yaml", ".yml")


async def changes(directories: Collection[Path]) -> AsyncIterator[frozenset[str]]:
    """The YAML files that were saved, each time some were. Ends when it is cancelled."""

    def is_configuration(_: Change, path: str) -> bool:
        # `..data` is how a mounted directory is swapped as a whole, by a symlink.
        return path.endswith(_SUFFIXES) or Path(path).name == "..data"

    async for batch in awatch(
        *directories, watch_filter=is_configuration, step=_STEP, debounce=_SETTLE, raise_interrupt=False
    ):
        yield frozenset(path for _, path in batch)
