"""Sees that configuration files changed: atomic renames and symlink swaps included."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from pathlib import Path

from watchfiles import Change, awatch

_STEP = 400  # milliseconds between looks at what the kernel reported; a save is live within two seconds
_SETTLE = 800  # milliseconds at most to gather what belongs to one save
_SUFFIXES = (".yaml", ".yml")
_GLOBS = ("*.y*ml", "tasks.d/*.y*ml")
# tasks.d may come and go as a whole; `..data` is the symlink by which a mounted directory is swapped.
_DIRECTORIES = ("tasks.d", "..data")


def snapshot(*directories: Path) -> frozenset[tuple[str, int, int]]:
    """What tells one state of configuration directories from another: names, times and sizes."""
    found = set()
    files = (path for one in directories for glob in _GLOBS for path in one.glob(glob))
    for path in files:
        try:
            status = path.stat()
        except OSError:  # gone, or a dangling link: whoever reads it will say so
            continue
        found.add((str(path), status.st_mtime_ns, status.st_size))
    return frozenset(found)


async def changes(directories: Collection[Path]) -> AsyncIterator[frozenset[str]]:
    """The YAML files that were saved, each time some were. Ends when it is cancelled."""

    def is_configuration(_: Change, path: str) -> bool:
        return path.endswith(_SUFFIXES) or Path(path).name in _DIRECTORIES

    async for batch in awatch(
        *directories, watch_filter=is_configuration, step=_STEP, debounce=_SETTLE, raise_interrupt=False
    ):
        yield frozenset(path for _, path in batch)
