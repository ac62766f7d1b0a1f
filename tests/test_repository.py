"""The rules of the house that linters cannot hold: read from the source, not from memory."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.core.supervision import diagram

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "scheduler"
SOURCES = sorted(PACKAGE.rglob("*.py"))
CORE = sorted((PACKAGE / "core").rglob("*.py"))

CLOCK_READERS = {
    "time": {
        "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time",
        "process_time_ns", "clock_gettime", "clock_gettime_ns", "localtime", "gmtime", "ctime",
    },
    "datetime": {"now", "today", "utcnow"},
    "date": {"today"},
}  # fmt: skip
TASK_STARTERS = {"create_task", "ensure_future", "TaskGroup"}
# What a pure function has no use for: time, the system, concurrency, logging.
IMPURE = {
    "asyncio", "concurrent", "contextvars", "ctypes", "fcntl", "getpass", "glob", "http", "importlib",
    "inspect", "io", "locale", "logging", "mmap", "multiprocessing", "os", "pathlib", "platform",
    "queue", "resource", "sched", "select", "selectors", "shelve", "shutil", "signal", "socket",
    "socketserver", "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "traceback",
    "urllib", "uuid", "warnings", "weakref",
}  # fmt: skip
PURE = (sys.stdlib_module_names - IMPURE) | {"cronsim"}


def trees(*paths: Path) -> Iterator[tuple[str, ast.AST]]:
    for path in paths:
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8"), str(path))


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules that a file imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "."


def clock_readings(tree: ast.AST) -> Iterator[int]:
    """Lines that read a clock: ``time.time()``, ``datetime.now()``, ``from time import monotonic``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            if node.attr in CLOCK_READERS.get(name, ()):
                yield node.lineno
        elif isinstance(node, ast.ImportFrom):
            taken = {alias.name for alias in node.names} if node.module == "time" else set()
            if taken & CLOCK_READERS["time"]:
                yield node.lineno


def started_tasks(tree: ast.AST) -> Iterator[int]:
    """Lines that start an asyncio task, by whatever loop or group."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "asyncio.Task":
            names = TASK_STARTERS
        else:
            names = {getattr(node, "attr", ""), getattr(node, "id", "")}
        if names & TASK_STARTERS:
            yield getattr(node, "lineno", 0)


def test_the_core_imports_the_core_errors_cronsim_and_pure_standard_library_only() -> None:
    wrong = [
        f"{file}: {module}"
        for file, tree in trees(*CORE)
        for module in imports(tree)
        if not (module.startswith("scheduler.core") or module == "scheduler.errors")
        and module.partition(".")[0] not in PURE
    ]
    assert wrong == []


def test_the_core_has_no_coroutines_opens_nothing_and_prints_nothing() -> None:
    wrong = [
        f"{file}:{node.lineno}"
        for file, tree in trees(*CORE)
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncFunctionDef | ast.Await)
        or (isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"open", "print", "input", "exec"})
    ]
    assert wrong == []


def test_only_the_clock_reads_time() -> None:
    wrong = [
        f"{file}:{line}"
        for file, tree in trees(*SOURCES)
        if file != "scheduler/clock.py"
        for line in clock_readings(tree)
    ]
    assert wrong == []


def test_only_runs_starts_asyncio_tasks() -> None:
    # The runner is a program of its own, in the process of one run: what it starts dies with that.
    elsewhere = "scheduler/executors/runner.py"
    wrong = [
        f"{file}:{line}"
        for file, tree in trees(*SOURCES)
        if not file.startswith("scheduler/runs") and file != elsewhere
        for line in started_tasks(tree)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "code",
    [
        "import time\ntime.time()",
        "from time import monotonic",
        "from datetime import datetime\ndatetime.now()",
        "import datetime\ndatetime.datetime.now()",
        "import datetime\ndatetime.date.today()",
    ],
)
def test_reading_a_clock_is_noticed(code: str) -> None:
    assert list(clock_readings(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "asyncio.create_task(f())",
        "asyncio.Task(f())",
        "asyncio.get_running_loop().create_task(f())",
        "from asyncio import ensure_future",
        "async def f():\n  async with asyncio.TaskGroup() as g: ...",
    ],
)
def test_starting_a_task_is_noticed(code: str) -> None:
    assert list(started_tasks(ast.parse(code)))


def test_the_diagram_of_restarts_in_the_readme_is_drawn_from_the_table() -> None:
    assert f"```mermaid\n{diagram()}```\n" in (ROOT / "README.md").read_text("utf-8")


def test_pandas_is_imported_by_the_calendars_child_process_only() -> None:
    importers = {
        file
        for file, tree in trees(*SOURCES)
        if {"pandas", "numpy", "exchange_calendars"} & {module.partition(".")[0] for module in imports(tree)}
    }
    assert importers <= {"scheduler/calendars/child.py"}


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock", "requirements-mutation.lock"])
def test_a_lock_pins_every_package_with_hashes_and_names_no_host(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*-", text.replace("    --hash=sha256:", ""), re.MULTILINE), (
        "an option of an index"
    )
    packages = re.split(r"\n(?=[a-z0-9])", text.strip())
    assert len(packages) > 20
    assert [package for package in packages if "==" not in package or "--hash=sha256:" not in package] == []


def test_the_locks_agree_and_hold_what_the_project_asks_for() -> None:
    run, develop = (pins(ROOT / name) for name in ("requirements.lock", "requirements-dev.lock"))
    assert run <= develop, "one environment can hold both"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    asked = {normalized(text) for text in project["project"]["dependencies"]}
    built = {normalized(text) for text in project["build-system"]["requires"]}
    assert asked | built <= {name for name, _ in run}, "run `make lock`"


def pins(lock: Path) -> set[tuple[str, str]]:
    return set(re.findall(r"^([a-z0-9.-]+)==(\S+)", lock.read_text("utf-8"), re.MULTILINE))


def normalized(requirement: str) -> str:
    return re.split(r"[<>=!~;\[ ]", requirement)[0].lower().replace("_", "-")
