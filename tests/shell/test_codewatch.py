"""Which tasks rest on which files, and what is told when those change. Nothing is imported to find out."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scheduler.codewatch import CodeWatch, Locator, imports_of, reached
from scheduler.core.messages import HOUR, Isolation, TaskSpec, Work
from scheduler.core.triggers import Every, KeepRunning
from scheduler.watch import state
from tests.core.desk import spec


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A desk whose modules would be noticed if anything imported them."""
    write(tmp_path, "desk_feed.py", "import desk_lib.tools\nimport json, yaml\nraise SystemExit\n")
    write(tmp_path, "desk_report.py", "def f():\n    from desk_lib import money as m\n")
    write(tmp_path, "desk_alone.py", "")
    write(tmp_path, "desk_lib/__init__.py", "")
    write(tmp_path, "desk_lib/tools.py", "from . import money\nfrom .deep.end import x\nfrom ... import far")
    write(tmp_path, "desk_lib/money.py", "import desk_lib.tools\n")  # in a circle
    write(tmp_path, "desk_lib/deep/end.py", "from ..rates import *\n")  # a namespace package
    write(tmp_path, "desk_lib/rates.py", "")
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def rests_on(code: Path, module: str) -> set[str]:
    found = reached(module, Locator([str(code)], module.partition(".")[0], sys.path), imports_of)
    return {str(file.relative_to(code)) for file in found}


def test_a_module_rests_on_what_it_imports_wherever_it_does_so(code: Path) -> None:
    library = {f"desk_lib/{name}.py" for name in ("__init__", "tools", "money", "deep/end", "rates")}
    assert rests_on(code, "desk_feed") == {"desk_feed.py", *library}
    assert rests_on(code, "desk_report") == {"desk_report.py", *library}
    assert rests_on(code, "desk_alone") == {"desk_alone.py"}
    assert {"desk_feed", "desk_report", "desk_alone", "desk_lib"}.isdisjoint(sys.modules)


def test_what_is_not_there_or_no_source_rests_on_nothing(code: Path) -> None:
    write(code, "desk_broken.py", "import desk_alone\ndef f(:\n")
    (code / "desk_binary.py").write_bytes(b"\xff\x00")
    assert rests_on(code, "desk_missing") == set()
    assert rests_on(code, "desk_alone.inside") == {"desk_alone.py"}
    assert rests_on(code, "desk_broken") == {"desk_broken.py"}
    assert rests_on(code, "desk_binary") == {"desk_binary.py"}


def test_a_package_beside_the_python_path_is_the_desks_if_the_task_is_in_it(code: Path) -> None:
    locate = Locator([], "desk_lib", [str(code)])
    found = reached("desk_lib.rates", locate, imports_of)
    assert {file.name for file in found} == {"__init__.py", "rates.py"}
    assert locate("desk_alone") is None
    assert Locator([], "json", sys.path)("json") is None  # Python's own


class Desk:
    """A code watch; the modules named by ``load`` count as imported by the daemon."""

    def __init__(self, code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.watch = CodeWatch([str(code)], state)

    def load(self, *modules: str) -> None:
        for name in modules:
            self._monkeypatch.setitem(sys.modules, name, ModuleType(name))

    def told(self, *running: str) -> list[Mapping[str, Any]]:
        changed = self.watch.changed()
        return [
            {**fields, "files": [Path(file).name for file in fields["files"]], "level": level}
            for _, level, fields in (self.watch.tell(changed, running) if changed else [])
        ]


@pytest.fixture
def desk(code: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(code, monkeypatch)


def task(name: str, module: str, *, loop: bool = False, apart: bool = False) -> TaskSpec:
    work = Work(target=f"{module}:run", isolation=Isolation.PROCESS if apart else None)
    return spec(name, KeepRunning() if loop else Every({"*": HOUR}), work=work)


def test_what_the_daemon_has_imported_is_old_until_it_restarts_and_told_once(code: Path, desk: Desk) -> None:
    desk.load("desk_feed", "desk_lib.tools", "desk_report", "desk_alone")
    tasks = (task("feed", "desk_feed"), task("report", "desk_report"), task("other", "desk_alone"))
    assert desk.watch.configure(tasks) == []
    assert desk.told() == []
    write(code, "desk_lib/tools.py", "from . import rates\n")
    told = {"tasks": ["feed", "report"], "files": ["tools.py"], "applies": "a restart of the scheduler"}
    assert desk.told() == [{**told, "level": "warning"}]
    assert desk.told() == []
    write(code, "desk_lib/tools.py", "# newer\n")
    assert desk.told() == [{**told, "level": "warning"}]


def test_what_is_imported_later_is_new_by_itself(code: Path, desk: Desk) -> None:
    desk.load("desk_report")
    desk.watch.configure((task("report", "desk_report"),))
    write(code, "desk_lib/money.py", "# new\n")
    assert desk.told() == []


def test_a_task_that_comes_to_rest_on_old_code_is_told_of_then(code: Path, desk: Desk) -> None:
    desk.load("desk_alone")
    tasks = (task("first", "desk_alone"),)
    desk.watch.configure(tasks)
    write(code, "desk_alone.py", "# new\n")
    assert [each["tasks"] for each in desk.told()] == [["first"]]
    [(_, level, fields)] = desk.watch.configure((*tasks, task("second", "desk_alone")))
    assert (level, fields["tasks"]) == ("warning", ["second"])
    assert desk.watch.configure(tasks) == []


def test_a_process_takes_new_code_with_its_next_run_and_a_loop_when_it_is_restarted(
    code: Path, desk: Desk
) -> None:
    desk.watch.configure(
        (
            task("loop", "desk_feed", loop=True, apart=True),
            task("asleep", "desk_feed", loop=True, apart=True),
            task("each", "desk_report", apart=True),
        )
    )
    write(code, "desk_lib/money.py", "# new\n")
    loop, others = desk.told("loop", "each")
    assert loop == {
        "tasks": ["loop"], "files": ["money.py"], "applies": "a restart of the task", "level": "warning",
    }  # fmt: skip
    assert others == {
        "tasks": ["asleep", "each"], "files": ["money.py"], "applies": "the next run, by itself",
        "level": "info",
    }  # fmt: skip


def test_what_changed_code_imports_now_is_watched_too(code: Path, desk: Desk) -> None:
    desk.watch.configure((task("each", "desk_alone", apart=True),))
    write(code, "desk_alone.py", "import desk_lib.rates\n")
    desk.told()
    assert {file.name for file in desk.watch.files} == {"desk_alone.py", "__init__.py", "rates.py"}
    (code / "desk_lib" / "rates.py").unlink()
    assert [each["files"] for each in desk.told()] == [["rates.py"]]


def test_the_schedulers_own_code_is_not_the_desks(desk: Desk) -> None:
    desk.watch.configure((task("health", "scheduler.examples.regime_monitoring"),))
    assert {file.parent.name for file in desk.watch.files} == {"examples"}


def test_commands_and_tasks_that_are_off_rest_on_nothing(desk: Desk) -> None:
    command = spec("command", Every({"*": HOUR}), work=Work(argv=("true",)))
    off = spec("off", Every({"*": HOUR}), work=Work(target="desk_feed:run"), enabled=False)
    desk.watch.configure((command, off))
    assert desk.watch.files == frozenset()
