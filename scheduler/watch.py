"""Notices that files may have changed: saved in place, renamed over, swapped by a symlink on the way.

What has changed is told by looking (``snapshot``, ``states``); the kernel's word, by way of watchfiles,
only says when to look. So nothing depends on which events an editor causes, and on file systems whose
changes the kernel does not report (NFS) a look every 15 s still finds them. Idle it costs 0.03 % of a CPU.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from watchfiles import Change, awatch

T = TypeVar("T")
InThread: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]
Snapshot: TypeAlias = frozenset[tuple[str, int, int, int]]  # path, time of the last change, size, inode

_STEP = 300  # milliseconds between looks at what the kernel reported, and the least that a save may settle
_GATHER = 600  # milliseconds at most to gather what belongs to one save
_LOOK_EVERY = 15  # seconds after which it is looked without a word from the kernel
_LOOK_UNTOLD = 1.0  # seconds, where the kernel cannot be asked to tell
_SETTLE = 0.25  # seconds without a change after which a file counts as written
_SETTLE_AT_MOST = 4  # times that
_MOST_NAMES = 200  # of links on the way to one file: they may lead in a circle
_SUFFIXES = (".yaml", ".yml")
_GLOBS = ("*.y*ml", "tasks.d/*.y*ml")


def snapshot(*directories: Path) -> Snapshot:
    """What tells one state of configuration directories from another."""
    return states(_files(directories))


def states(files: Iterable[Path]) -> Snapshot:
    """What tells one state of files from another; those that are not there are left out."""
    found = ((str(path), state(path)) for path in files)
    return frozenset((path, *known) for path, known in found if known is not None)


def state(file: Path) -> tuple[int, int, int] | None:
    """Neither a content nor permissions change without the first of these, st_ctime. None: it is gone."""
    try:
        status = file.stat()
    except OSError:  # or it is a dangling link: whoever reads it will say so
        return None
    return status.st_ctime_ns, status.st_size, status.st_ino


def configuration_names(*directories: Path) -> frozenset[Path]:
    """The names to watch for configuration directories, their own and `tasks.d` among them."""
    return ways([*directories, *(one / "tasks.d" for one in directories), *_files(directories)])


def names_in(directory: Path) -> frozenset[Path]:
    """The names to watch for one that no other will ever take the place of: not its own."""
    return frozenset((directory / "any", *_files([directory])))


def _files(directories: Iterable[Path]) -> Iterator[Path]:
    return (path for one in directories for glob in _GLOBS for path in one.glob(glob))


def ways(paths: Iterable[Path]) -> frozenset[Path]:
    """The names by which paths are reached: their own, and those of the links on the way and beyond."""
    return frozenset(name for path in paths for name in _way(path.absolute()))


def _way(path: Path) -> set[Path]:
    names: set[Path] = set()
    waiting = [path]
    while waiting and len(names) < _MOST_NAMES:
        name = waiting.pop()
        if name in names:
            continue
        names.add(name)
        for part in (name, *name.parents):
            try:
                led = part.parent / part.readlink()
            except OSError:  # no link, or not there yet
                continue
            names.add(part)
            waiting.append(Path(os.path.normpath(led / name.relative_to(part))))
    return names


async def occasions(
    names: Callable[[], frozenset[Path]],
    in_thread: InThread,
    *,
    soon: Callable[[], None],
    on_trouble: Callable[[Exception], None],
) -> AsyncGenerator[None, None]:
    """Each time one of these names may have changed, and every 15 s. Ends when it is cancelled.

    ``soon`` is asked for a look a second from now: a watch is being set up, and what happens until it is
    up remains untold. ``on_trouble`` is told once when the kernel does not let us watch: no more inotify
    watches, for instance. It is then looked every second.
    """
    troubled = False
    time = asyncio.get_running_loop().time
    while True:
        wanted: frozenset[Path] = await in_thread(names)
        directories: frozenset[Path] = await in_thread(partial(_directories, wanted))
        soon()
        try:
            async with aclosing(_watching(directories)) as batches:
                latest = time() + _LOOK_EVERY
                async for batch in batches:
                    troubled = False
                    paths = {Path(path) for _, path in batch}
                    if (
                        batch  # else 15 quiet seconds are over, by the kernel's own clock
                        and not any(path in wanted or path.suffix in _SUFFIXES for path in paths)
                        and time() < latest
                    ):
                        continue  # others are busy in one of the directories
                    latest = time() + _LOOK_EVERY
                    yield
                    if not directories.isdisjoint(paths):
                        break  # one that changed its name may have another in its place
                    now = await in_thread(names)
                    if now != wanted or await in_thread(partial(_directories, now)) != directories:
                        break
        except Exception as problem:  # noqa: BLE001 - watchfiles has its own, and any would blind us
            if not troubled:
                on_trouble(problem)
            troubled = True
            await asyncio.sleep(_LOOK_UNTOLD)
            yield


def _directories(names: Iterable[Path]) -> frozenset[Path]:
    # Path.is_dir raises where one may not look.
    return frozenset(path for name in names for path in (name, name.parent) if os.path.isdir(path))  # noqa: PTH112


def _watching(directories: frozenset[Path]) -> AsyncGenerator[set[tuple[Change, str]], None]:
    """What the kernel tells of directories, without those below; nothing at all after 15 quiet seconds."""
    return awatch(
        *directories, watch_filter=None, recursive=False, step=_STEP, debounce=_GATHER,
        rust_timeout=_LOOK_EVERY * 1000, yield_on_timeout=True, ignore_permission_denied=True,
    )  # fmt: skip


async def settled(look: Callable[[], T], before: T, in_thread: InThread) -> T:
    """What is seen once nothing has changed for a quarter of a second, or for a second all the time."""
    seen: T = await in_thread(look)
    for _ in range(_SETTLE_AT_MOST):
        if seen == before:
            break
        await asyncio.sleep(_SETTLE)
        before, seen = seen, await in_thread(look)
    return seen
