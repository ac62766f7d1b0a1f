"""Noticing that files may have changed, on the real file system."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from scheduler import watch
from scheduler.configuration import Configuration
from scheduler.reloading import Reloading
from scheduler.reports import Reloaded
from tests.shell.execution import on_uvloop


@pytest.fixture
def config(tmp_path: Path) -> Path:
    directory = tmp_path / "config"
    directory.mkdir()
    (directory / "tasks.yaml").write_text("tasks: {}\n", "utf-8")
    return directory


def replace(path: Path, text: str) -> None:
    """As editors do it: a new file is moved over the old one."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, "utf-8")
    fresh.replace(path)


def swap_link(link: Path, target: Path) -> None:
    fresh = link.with_name(f".{link.name}.new")
    fresh.symlink_to(target)
    fresh.replace(link)


def test_a_state_of_a_directory_changes_with_every_file_and_with_nothing_else(config: Path) -> None:
    before = watch.snapshot(config)
    (config / "notes.txt").write_text("x", "utf-8")
    assert watch.snapshot(config) == before
    (config / "tasks.d").mkdir()
    assert watch.snapshot(config) == before
    (config / "tasks.d" / "more.yml").write_text("x", "utf-8")
    assert {Path(path).name for path, *_ in watch.snapshot(config) ^ before} == {"more.yml"}


def test_a_file_of_the_same_size_and_date_in_anothers_place_is_another(config: Path) -> None:
    file = config / "tasks.yaml"
    date = file.stat().st_mtime_ns
    before = watch.snapshot(config)
    replace(file, "tasks: []\n")
    os.utime(file, ns=(date, date))
    assert watch.snapshot(config) != before


def test_permissions_are_part_of_a_state(config: Path) -> None:
    before = watch.snapshot(config)
    (config / "tasks.yaml").chmod(0o620)
    assert watch.snapshot(config) != before


def test_a_dangling_link_and_a_missing_directory_are_no_states(config: Path, tmp_path: Path) -> None:
    before = watch.snapshot(config)
    (config / "markets.yaml").symlink_to(tmp_path / "nowhere")
    assert watch.snapshot(config, tmp_path / "absent") == before


def test_every_name_on_the_way_to_a_file_counts(tmp_path: Path) -> None:
    """As Kubernetes mounts it, below a release directory that is a link too."""
    release = tmp_path / "releases" / "42"
    (release / "..1").mkdir(parents=True)
    (release / "..1" / "tasks.yaml").touch()
    (release / "..data").symlink_to("..1")
    (release / "tasks.yaml").symlink_to("..data/tasks.yaml")
    (tmp_path / "current").symlink_to("releases/42")
    shown = {str(name.relative_to(tmp_path)) for name in watch.ways([tmp_path / "current" / "tasks.yaml"])}
    assert {
        "current", "current/tasks.yaml", "current/..data", "releases/42/tasks.yaml", "releases/42/..data",
        "releases/42/..1/tasks.yaml",
    } <= shown  # fmt: skip


def test_links_that_lead_in_a_circle_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c").symlink_to("c/deeper")
    assert watch.ways([tmp_path / "a", tmp_path / "c"])


class Eye:
    """Watches a directory and counts what it sees change, as the daemon does."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.changes = 0
        self.troubles: list[str] = []
        self.seen = watch.snapshot(directory)
        self.soon: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        occasions = watch.occasions(
            lambda: watch.configuration_names(self.directory),
            self.in_thread,
            soon=lambda: self.soon.add(asyncio.create_task(self.later())),
            on_trouble=lambda problem: self.troubles.append(str(problem)),
        )
        async for _ in occasions:
            self.look()

    async def later(self) -> None:
        await asyncio.sleep(1)
        self.look()

    def look(self) -> None:
        seen = watch.snapshot(self.directory)
        self.changes += seen != self.seen
        self.seen = seen

    @staticmethod
    async def in_thread(work: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(work)

    async def sees(self, change: Callable[[], object]) -> None:
        before = self.changes
        change()
        async with asyncio.timeout(12):  # the look of last resort comes after 15
            while self.changes == before:  # noqa: ASYNC110 - what is waited for happens on the disk
                await asyncio.sleep(0.02)


@asynccontextmanager
async def eye(directory: Path) -> AsyncIterator[Eye]:
    made = Eye(directory)
    task = asyncio.create_task(made.run())
    await asyncio.sleep(0.5)
    try:
        yield made
    finally:
        task.cancel()
        for each in made.soon:
            each.cancel()
        await asyncio.gather(task, *made.soon, return_exceptions=True)


@on_uvloop
async def test_files_that_are_written_replaced_removed_and_forbidden_are_seen(config: Path) -> None:
    file = config / "tasks.yaml"
    async with eye(config) as it:
        await it.sees(lambda: file.write_text("tasks: {a: 1}\n", "utf-8"))
        await it.sees(lambda: replace(file, "tasks: {b: 1}\n"))
        await it.sees(lambda: file.chmod(0))
        await it.sees(file.unlink)
        await it.sees(file.mkdir)
        assert it.troubles == []


@on_uvloop
async def test_directories_that_come_go_and_are_replaced_are_seen(config: Path, tmp_path: Path) -> None:
    more = config / "tasks.d" / "more.yaml"
    async with eye(config) as it:
        more.parent.mkdir()
        await asyncio.sleep(2)
        await it.sees(lambda: more.write_text("tasks: {}\n", "utf-8"))
        await it.sees(lambda: shutil.rmtree(more.parent))
        shutil.copytree(config, tmp_path / "fresh")
        shutil.rmtree(config)
        await it.sees(lambda: (tmp_path / "fresh").rename(config))
        await asyncio.sleep(2)
        await it.sees(lambda: (config / "tasks.yaml").write_text("tasks: {z: 1}\n", "utf-8"))
        assert it.troubles == []


@on_uvloop
async def test_links_that_are_swapped_and_files_that_they_lead_to_are_seen(tmp_path: Path) -> None:
    for number in "123":
        (tmp_path / "mount" / f"..{number}").mkdir(parents=True)
        (tmp_path / "mount" / f"..{number}" / "tasks.yaml").write_text(f"# {number}\n", "utf-8")
    config, shared = tmp_path / "mount", tmp_path / "shared" / "markets.yaml"
    (config / "..data").symlink_to("..1")
    (config / "tasks.yaml").symlink_to("..data/tasks.yaml")
    shared.parent.mkdir()
    shared.write_text("# 1\n", "utf-8")
    (config / "markets.yaml").symlink_to(shared)
    (tmp_path / "current").symlink_to("mount")
    shutil.copytree(config, tmp_path / "next", symlinks=True)
    async with eye(tmp_path / "current") as it:
        await it.sees(lambda: swap_link(config / "..data", Path("..2")))
        await it.sees(lambda: swap_link(config / "..data", Path("..3")))
        await it.sees(lambda: shared.write_text("# 2\n", "utf-8"))
        await it.sees(lambda: replace(shared, "# 3\n"))
        await it.sees(lambda: swap_link(tmp_path / "current", Path("next")))
        assert it.troubles == []


@on_uvloop
async def test_where_the_kernel_does_not_let_us_watch_it_is_looked_every_second(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> object:
        raise OSError("no space left on device: the limit of inotify watches was reached")

    monkeypatch.setattr(watch, "awatch", refused)
    async with eye(config) as it:
        await it.sees(lambda: (config / "tasks.yaml").write_text("tasks: {a: 1}\n", "utf-8"))
        await it.sees((config / "tasks.yaml").unlink)
        assert it.troubles == ["no space left on device: the limit of inotify watches was reached"]


async def test_what_is_being_written_is_waited_for() -> None:
    looks = iter(["half", "more", "whole", "whole", "not asked for"])

    async def at_once(work: Callable[[], Any]) -> Any:
        return work()

    assert await watch.settled(lambda: next(looks), "old", at_once) == "whole"
    assert next(looks) == "not asked for"


async def test_what_is_written_without_end_is_taken_after_a_second() -> None:
    looks = iter(range(100))

    async def at_once(work: Callable[[], Any]) -> Any:
        return work()

    assert await watch.settled(lambda: next(looks), -1, at_once) == 4


async def test_nothing_is_waited_for_where_nothing_has_changed() -> None:
    looks = iter(["same"])

    async def at_once(work: Callable[[], Any]) -> Any:
        return work()

    assert await watch.settled(lambda: next(looks), "same", at_once) == "same"


@on_uvloop
async def test_a_busy_neighbour_neither_wakes_the_watch_nor_keeps_it_from_looking(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_LOOK_EVERY", 3)
    looks: list[None] = []
    async with eye(config) as it:
        monkeypatch.setattr(it, "look", lambda: looks.append(None))
        for number in range(70):
            (tmp_path / "ledger").write_text(str(number), "utf-8")
            await asyncio.sleep(0.1)
    assert 2 <= len(looks) <= 4  # a second after the start, and every three seconds


async def test_quiet_that_ends_a_little_early_is_an_occasion_too(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def quiet(*_: object, **__: object) -> AsyncIterator[set[object]]:
        yield set()
        await asyncio.sleep(60)

    monkeypatch.setattr(watch, "awatch", quiet)
    occasions = watch.occasions(
        lambda: watch.configuration_names(config), Eye.in_thread, soon=lambda: None, on_trouble=print
    )
    async with asyncio.timeout(5):
        await anext(occasions)
    await occasions.aclose()


async def test_what_was_refused_by_a_fault_is_tried_again_and_a_look_that_fails_is_told(
    config: Path, tmp_path: Path
) -> None:
    left: list[Reloaded | Exception] = [
        Reloaded(accepted=False, again=True), OSError("the disk"), Reloaded(accepted=False),
    ]  # fmt: skip
    said: list[str] = []

    async def reload(cause: str, *, in_force: bool = False) -> Reloaded:
        assert cause == "saved: tasks.yaml"
        assert not in_force
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    in_force = Configuration((), {}, UTC, reload="auto")
    reloading = Reloading(
        config, tmp_path / "amendments", python_path=None, reload=reload,
        in_force=lambda: (in_force, frozenset()), now=lambda: 0, running=set,
        say=lambda lines: said.extend(line.event for line in lines), in_thread=Eye.in_thread,
        later=lambda work, _: work.close(),
    )  # fmt: skip
    for _ in range(5):
        await reloading._try_look()
    assert left == []
    assert said == ["background.failed"]
