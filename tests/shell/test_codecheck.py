from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from scheduler.codecheck import Code, read_code, ruff
from scheduler.core.messages import Isolation

INLINE, THREAD, PROCESS = Isolation.INLINE, Isolation.THREAD, Isolation.PROCESS
EXAMPLES = sorted((Path(__file__).parents[2] / "scheduler" / "examples").glob("*.py"))


HEAD = """\
import asyncio, contextlib, subprocess, time
import urllib.request
from asyncio import CancelledError
import requests, httpx
from time import sleep
from contextlib import suppress

"""


class Reader:
    """Reads modules as the code of tasks."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def problems(self, text: str, *tasks: tuple[str, Isolation]) -> dict[Isolation, list[str]]:
        """``line:column rule`` of each finding, for each way that the tasks run."""
        file = self.directory / "desk.py"
        file.write_text(dedent(text), "utf-8")
        codes = [
            Code(f"{where}-{number}", str(file), name, where) for number, (name, where) in enumerate(tasks)
        ]
        found: dict[Isolation, list[str]] = {INLINE: [], THREAD: [], PROCESS: []}
        for problem in read_code(codes):
            assert problem.mark is not None
            told = re.fullmatch(r"warning: .*; .* \((\w+), tasks? (.*)\)", problem.message)
            assert told is not None
            for where in {Isolation(task.partition("-")[0]) for task in told[2].split(", ")}:
                found[where].append(f"{problem.mark.line}:{problem.mark.column} {told[1]}")
        return found

    def body(self, body: str, define: str = "async def work(ctx, url):") -> dict[Isolation, list[str]]:
        """The same for one function that runs in each way; its body begins at line 9, column 5."""
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        return self.problems(f"{HEAD}{define}\n{lines}", *[("work", where) for where in Isolation])


@pytest.fixture
def code(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("time.sleep(1)", "ASYNC251"),
        ("sleep(1)", "ASYNC251"),
        ("requests.get(url)", "ASYNC210"),
        ("urllib.request.urlopen(url)", "ASYNC210"),
        ("with httpx.Client() as client: client.get(url)", "ASYNC212"),
        ("subprocess.run(['ls'])", "ASYNC221"),
        ("subprocess.Popen(['ls'])", "ASYNC220"),
        ("input()", "ASYNC250"),
    ],
)
def test_what_blocks_in_async_code_hurts_on_the_event_loop_only(code: Reader, body: str, rule: str) -> None:
    found = code.body(body)
    [place] = found[INLINE]
    assert re.fullmatch(rf"9:\d+ {rule}", place)
    assert (found[THREAD], found[PROCESS]) == ([], [])


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("asyncio.create_task(asyncio.sleep(1))", ["9:5 RUF006"]),
        ("asyncio.ensure_future(asyncio.sleep(1))", ["9:5 RUF006"]),
        ("task = asyncio.create_task(asyncio.sleep(1))\nawait task", []),
        ("ctx.background(asyncio.sleep(1))", []),
        ("async with asyncio.timeout(5):\n  print(1)", ["9:5 ASYNC100"]),
        ("async with asyncio.timeout(5):\n  await asyncio.sleep(1)", []),
    ],
)
def test_asyncio_tasks_without_an_owner_are_wrong_everywhere(
    code: Reader, body: str, found: list[str]
) -> None:
    assert code.body(body) == {INLINE: found, THREAD: found, PROCESS: found}


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("try:\n  await ctx\nexcept CancelledError:\n  pass", 11),
        ("try:\n  await ctx\nexcept asyncio.CancelledError as stop:\n  print(stop)", 11),
        ("try:\n  await ctx\nexcept (OSError, CancelledError):\n  pass", 11),
        ("try:\n  await ctx\nexcept BaseException:\n  pass", 11),
        ("try:\n  await ctx\nexcept:\n  pass", 11),
        ("try:\n  async for x in ctx: pass\nexcept OSError: pass\nexcept:\n  pass", 12),
        ("try:\n  async with ctx: pass\nexcept* CancelledError:\n  pass", 11),
        ("with suppress(CancelledError):\n  await ctx", 9),
        ("with contextlib.suppress(OSError, asyncio.CancelledError):\n  await ctx", 9),
        ("try:\n  await ctx\nexcept CancelledError:\n  raise", None),
        ("try:\n  await ctx\nexcept CancelledError:\n  return", None),
        ("try:\n  await ctx\nexcept BaseException as e:\n  if url:\n    raise RuntimeError from e", None),
        ("try:\n  await ctx\nexcept CancelledError:\n  raise\nexcept BaseException:\n  pass", None),
        ("try:\n  await ctx\nexcept Exception:\n  pass", None),
        ("try:\n  print(1)\nexcept BaseException:\n  pass", None),
        ("with suppress(OSError):\n  await ctx", None),
        ("url.cancel()\nwith suppress(CancelledError):\n  await url", None),
        ("url.cancel()\ntry:\n  await url\nexcept CancelledError:\n  pass", None),
        ("url.cancel()\ntry:\n  await ctx\nexcept CancelledError:\n  pass", 12),
        ("try:\n  await ctx\nexcept:  # noqa: SCH002 - the last thing it does\n  pass", None),
        ("try:\n  await ctx\nexcept:  # noqa: SCH001\n  pass", 11),
        ("try:\n  await ctx\nexcept:  # noqa\n  pass", None),
        ("try:\n  await ctx\nexcept CancelledError:\n  def inner():\n    raise OSError", 11),
    ],
)
def test_a_cancellation_that_is_caught_at_an_await_must_go_on(
    code: Reader, body: str, line: int | None
) -> None:
    found = [f"{line}:5 SCH002"] if line else []
    assert code.body(body) == {INLINE: found, THREAD: found, PROCESS: found}


FOREVER = "while True:\n  print(1)"


@pytest.mark.parametrize(
    ("body", "endless"),
    [
        (FOREVER, True),
        ("while 1:\n  for x in url:\n    break", True),
        ("while True:\n  try:\n    print(1)\n  except OSError:\n    continue", True),
        ("while True:\n  async def inner(): await url", True),
        ("while True:\n  await ctx", False),
        ("while True:\n  async for x in url: pass", False),
        ("while True:\n  async with url: pass", False),
        ("while True:\n  print([x async for x in url])", False),
        ("while True:\n  if url: break", False),
        ("while True:\n  for x in url: pass\n  else: break", False),
        ("while True:\n  if url: return", False),
        ("while True:\n  raise OSError", False),
        ("while True:\n  yield 1", False),
        ("while url:\n  print(1)", False),
        ("while False:\n  print(1)", False),
        ("while True:  # noqa: SCH001\n  print(1)", False),
    ],
)
def test_an_async_loop_that_neither_awaits_nor_ends_is_warned_of(
    code: Reader, body: str, endless: bool
) -> None:
    found = ["9:5 SCH001"] if endless else []
    assert code.body(body) == {INLINE: found, THREAD: found, PROCESS: []}  # a process can be killed


@pytest.mark.parametrize(
    ("body", "endless"),
    [
        ("while True:\n  sleep(5)", True),
        ("while not ctx.cancelled.wait(5):\n  print(1)", False),
        ("while True:\n  if ctx.cancelled.wait(5): return", False),
        ("while True:\n  for tick in ctx.ticks(): pass", False),
        ("for tick in ctx.ticks():\n  sleep(1)", False),
    ],
)
def test_a_sync_loop_in_a_thread_has_to_look_whether_it_is_cancelled(
    code: Reader, body: str, endless: bool
) -> None:
    assert code.body(body, "def work(ctx):")[THREAD] == (["9:5 SCH001"] if endless else [])


def test_a_loop_that_sleeps_in_async_code_is_told_once_at_its_sleep(code: Reader) -> None:
    assert code.body("while True:\n  print(1)\n  sleep(5)")[INLINE] == ["11:7 ASYNC251"]


def test_sync_code_that_runs_inline_is_held_to_the_same(code: Reader) -> None:
    text = """\
        import time
        def once(): return time.sleep(5)
        def every():
            while True:
                print(time.sleep(5))
        def spin(ctx):
            while True:
                print(ctx)
        def numbers():
            time.sleep(1)
            yield from [1]
            return 5
        """
    names = ("once", "every", "spin", "numbers")
    assert code.problems(text, *[(name, where) for name in names for where in Isolation]) == {
        INLINE: ["2:20 ASYNC251", "5:15 ASYNC251", "7:5 SCH001", "10:5 ASYNC251"],
        THREAD: ["4:5 SCH001", "7:5 SCH001"],
        PROCESS: [],
    }


CALLS = """\
    import asyncio, functools, time

    def direct(): time.sleep(1)
    def indirect():
        direct()
    def in_lambda(): time.sleep(1)
    def in_thread(): time.sleep(1)
    def in_executor(): time.sleep(1)
    def unused(): time.sleep(1)
    def shadowed(): time.sleep(1)

    class Feed:
        def __init__(self): time.sleep(1)
        async def run(self, ctx):
            self.poll()
            Feed.fixed()
        def poll(self): time.sleep(1)
        @staticmethod
        def fixed(): time.sleep(1)
        def other(self): time.sleep(1)

    async def work(ctx):
        def shadowed(): pass
        def inner(): time.sleep(1)
        def idle(): time.sleep(1)
        indirect()
        shadowed()
        inner()
        work(ctx)
        await ctx.cache["news"].get_or_load("a", lambda: in_lambda())
        await asyncio.to_thread(in_thread)
        await asyncio.to_thread(lambda: in_thread())
        await asyncio.get_running_loop().run_in_executor(None, lambda: in_executor())

    def make():
        async def made(ctx):
            direct()
            deep()
        def deep(): time.sleep(1)
        return made

    async def build():
        Feed()

    @functools.cache
    def decorated(): time.sleep(1)
    async def caller(): decorated()
    """


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("work", [3, 6, 24]),
        ("Feed.run", [17, 19]),
        ("build", [13]),
        ("make.<locals>.made", [3, 39]),
        ("caller", [46]),
        ("nothing", []),
        ("<lambda>", []),
    ],
)
def test_what_a_callable_calls_by_name_in_its_module_is_read_with_it(
    code: Reader, name: str, lines: list[int]
) -> None:
    found = code.problems(CALLS, (name, INLINE))[INLINE]
    assert [int(place.split(":")[0]) for place in found] == lines


def test_what_tasks_share_is_told_once_with_their_names(tmp_path: Path) -> None:
    file = tmp_path / "desk.py"
    file.write_text("import time\nasync def a(): time.sleep(1)\nasync def b(): a()\n")
    codes = [Code("one", str(file), "a", INLINE), Code("two", str(file), "b", INLINE)]
    codes.append(Code("three", str(file), "a", THREAD))
    [problem] = read_code(codes)
    assert str(problem) == (
        f"{file}:2:16: warning: time.sleep blocks the event loop and every inline task; "
        "await asyncio.sleep, or give the task `isolation: thread` (ASYNC251, tasks one, two)"
    )


def test_noqa_counts_and_the_settings_of_ruff_in_the_desk_do_not(
    code: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = code.directory / "ruff.toml"
    settings.write_text("[lint]\nignore = ['ASYNC']\n")
    (code.directory / "ruff.py").write_text("raise SystemExit('not this one')\n")
    monkeypatch.chdir(code.directory)
    monkeypatch.setenv("RUFF_CONFIG", str(settings))
    monkeypatch.setenv("RUFF_OUTPUT_FILE", str(code.directory / "output"))
    body = "time.sleep(1)\ntime.sleep(1)  # noqa: ASYNC251\ntime.sleep(1)  # noqa"
    assert code.body(body)[INLINE] == ["9:5 ASYNC251"]


def test_files_in_other_encodings_and_new_syntax_are_read(tmp_path: Path) -> None:
    file = tmp_path / "latin.py"
    file.write_bytes("# coding: latin-1\nimport time\nasync def a(): 'é' + time.sleep(1)\n".encode("latin-1"))
    [problem] = read_code([Code("a", str(file), "a", INLINE)])
    assert str(problem.mark) == f"{file}:3:22"


@pytest.mark.parametrize("content", [None, b"def (:\n", b"\x00", b"\xff", b"a = " + b"(" * 500 + b")" * 500])
def test_what_cannot_be_read_here_is_left_out(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "other.py"
    if content is not None:
        file.write_bytes(content)
    assert read_code([Code("a", str(file), "a", INLINE)]) == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ([sys.executable, "-P", "-m", "no_such_ruff"], "No module named no_such_ruff"),
        (["/no/such/ruff"], "No such file"),
        ([sys.executable, "-c", "print('{')"], "ruff failed"),
        ([sys.executable, "-m", "ruff", "check", "--select", "NOSUCH1", "-"], "ruff failed"),
    ],
)
def test_without_ruff_that_is_said_once_and_the_rest_is_told(
    code: Reader, monkeypatch: pytest.MonkeyPatch, command: list[str], said: str
) -> None:
    monkeypatch.setattr(ruff, "_COMMAND", command)
    codes = []
    for name in ("one", "two"):
        file = code.directory / f"{name}.py"
        file.write_text(
            f"import time\nasync def work():\n    time.sleep(1)\n    {FOREVER.replace('  ', '      ')}\n"
        )
        codes.append(Code(name, str(file), "work", INLINE))
    first, *others = map(str, read_code(codes))
    assert first.startswith("warning: the tasks' code was not searched for what blocks: ")
    assert said in first
    assert [re.search(r"\w+\.py:\d+", line)[0] for line in others] == ["one.py:4", "two.py:4"]  # type: ignore[index]


def test_every_rule_is_one_of_ruffs_and_none_needs_its_preview() -> None:
    assert ruff.read_by_ruff("") == []
    assert not ruff.BLOCKING.keys() & ruff.ELSEWHERE_TOO.keys()


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_the_examples_have_nothing_that_hurts(file: Path) -> None:
    module = importlib.import_module(f"scheduler.examples.{file.stem}")
    codes = [
        Code(name, str(file), name, INLINE if value.__code__.co_flags & 0x80 else THREAD)
        for name, value in vars(module).items()
        if hasattr(value, "__code__") and value.__module__ == module.__name__
    ]
    assert read_code(codes) == []
