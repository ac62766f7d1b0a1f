from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scheduler.core.messages import Isolation, Work
from scheduler.executors import TargetError
from scheduler.executors.checking import Found, check_target, misfits

MODULE = """\
import functools, sys

print("printed by the import")

def plain(ctx, url, *, limit=5): ...
async def waiting(url): ...
def anything(**options): ...
def by_position(a, /, b=1): ...
def no_context(url): ...

def adds(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, session=1, **kwargs)
    return wrapper

@adds
def added(ctx, session): ...

class Feed:
    def __init__(self, url): ...
    def run(self, ctx, symbol): ...
    def __call__(self, depth): ...

feed = Feed("x")
part = functools.partial(plain, url="y")
number = int
show = print
"""


@pytest.fixture
def path(tmp_path: Path) -> list[str]:
    (tmp_path / "checked_desk.py").write_text(MODULE)
    return [str(tmp_path)]


@pytest.fixture(params=[None, Isolation.THREAD, Isolation.PROCESS])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imported here, or by another interpreter: the answer is the same."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "checked_desk", raising=False)
    return request.param


def found(name: str, path: list[str], where: Any) -> Found:
    answer = check_target(Work(target=f"checked_desk:{name}", isolation=where), path)
    assert answer is not None
    return answer


def missing(argument: str, function: str) -> str:
    return f"the argument {argument!r} is missing, without which {function} cannot be called"


@pytest.mark.parametrize(
    ("name", "given", "problems"),
    [
        ("plain", ["url"], []),
        ("plain", ["url", "limit"], []),
        ("plain", [], [missing("url", "plain")]),
        ("plain", ["url", "limt"], ["plain takes no argument 'limt'; it takes limit, url"]),
        ("plain", ["url", "ctx"], ["ctx is given by the scheduler; take it out, or rename the parameter"]),
        ("waiting", ["url"], []),
        ("anything", ["whatever", "ctx"], []),
        ("no_context", ["url", "ctx"], ["no_context takes no argument 'ctx'; it takes url"]),
        ("by_position", ["b"], [
            "by_position takes 'a' by position only, and arguments are given by name"]),
        ("by_position", ["a"], [
            "by_position takes no argument 'a'; it takes b",
            "by_position takes 'a' by position only, and arguments are given by name"]),
        ("added", [], []),
        ("Feed", [], [missing("url", "Feed.__init__")]),
        ("feed.run", ["symbol"], []),
        ("feed.run", ["self"], [
            "Feed.run takes no argument 'self'; it takes symbol", missing("symbol", "Feed.run")]),
        ("feed", [], [missing("depth", "Feed.__call__")]),
        ("part", [], []),
        ("part", ["limit"], []),
    ],
)  # fmt: skip
def test_arguments_are_compared_with_what_is_called(
    path: list[str], where: Any, name: str, given: list[str], problems: list[str]
) -> None:
    assert [misfit.message for misfit in misfits(found(name, path, where), given)] == problems


def test_a_misfit_names_its_argument_unless_it_is_not_there(path: list[str], where: Any) -> None:
    assert [misfit.name for misfit in misfits(found("plain", path, where), ["limt"])] == ["limt", ""]


def test_what_does_not_tell_its_arguments_takes_any(path: list[str], where: Any) -> None:
    answer = found("number", path, where)._replace(parameters=None)
    assert misfits(answer, ["anything"]) == []


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("plain", "plain"),
        ("added", "added"),
        ("Feed", "Feed.__init__"),
        ("feed", "Feed.__call__"),
        ("feed.run", "Feed.run"),
        ("part", "plain"),
    ],
)
def test_the_code_is_found_under_what_is_wrapped_around_it(
    path: list[str], where: Any, name: str, function: str
) -> None:
    answer = found(name, path, where)
    assert (answer.file, answer.name) == (f"{path[0]}/checked_desk.py", function)


def test_a_builtin_has_no_code(path: list[str], where: Any) -> None:
    assert found("show", path, where).file is None


def test_where_it_runs_is_found_with_it(path: list[str]) -> None:
    assert found("waiting", path, None).isolation is Isolation.INLINE
    assert found("plain", path, None).isolation is Isolation.THREAD
    assert found("waiting", path, Isolation.THREAD).isolation is Isolation.THREAD
    assert found("waiting", path, Isolation.PROCESS).isolation is Isolation.PROCESS
    assert check_target(Work(argv=("sh",))) is None


def test_the_check_of_another_interpreter_prints_its_answer_only(path: list[str]) -> None:
    from scheduler.executors.targets import RUNNER  # noqa: PLC0415 - beside its only use

    command = [sys.executable, "-I", "-S", str(RUNNER), "--check", "checked_desk:plain", *path]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "printed" not in answer.stdout
    assert answer.stdout.startswith('{"file": ')


def test_an_import_that_ends_the_interpreter_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "leaving.py").write_text("import os\nos._exit(0)\n")
    with pytest.raises(TargetError, match="ended while it was imported"):
        check_target(Work(target="leaving:run", isolation=Isolation.PROCESS), [str(tmp_path)])
