"""What is wrong with a configuration is said with its place and what would be right; exit status 78."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.daemon import Desk

GOOD = 'tasks:\n  fine: {command: ["true"], every: 5m}\n'
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)

# Lines of tasks.yaml with the column of the mistake and what is said about it.
MISTAKES = [
    ("timezone: Asia/Bombay2", 11, "Asia/Bombay2"),
    ("tsks: {}", 1, "did you mean 'tasks'?"),
    ("tasks:", 0, ""),
    ('  fine: {command: ["true"]}', 0, ""),
    ('  market: {command: ["true"], market: NSEE}', 39, "did you mean 'NSE'?"),
    ('  pace-phase: {command: ["true"], every: {opne: 5s}}', 43, "did you mean 'open'?"),
    ('  during: {command: ["true"], every: 5s, during: [lunch]}', 51, "NSE has no phase 'lunch'"),
    ('  chicken: {command: ["true"], after: egg}', 39, "chicken -> egg -> chicken"),
    ('  egg: {command: ["true"], after: chicken}', 0, ""),
    ('  after: {command: ["true"], after: fin}', 37, "did you mean 'fine'?"),
    ('  triggers: {command: ["true"], every: 5m, at: close}', 44, "trigger"),
    ("  nothing: {every: 5m}", 3, "command"),
    ('  zero: {command: ["true"], every: 0s}', 36, "longer than 0"),
    ('  negative: {command: ["true"], timeout: -5s}', 42, "-5s"),
    ('  bare: {command: ["true"], every: 5}', 36, "5s"),
    ('  misspelt: {comand: ["true"]}', 14, "did you mean 'command'?"),
    ('  fleeting: {command: ["true"], at: "9:15"}', 37, "HH:MM"),
    ('  crontab: {command: ["true"], cron: "* * * *"}', 38, "five"),
    ('  template: {command: [echo, "{sesion}"]}', 30, "sesion"),
    ('  never: {command: ["true"], cron: "0 0 30 2 *"}', 36, "never"),
    ('  twice: {command: ["true"], nice: 1, nice: 2}', 39, "given twice"),
    ('  woken: {command: ["true"], on: [task.stael]}', 35, "did you mean 'task.stale'?"),
    ('  unplugged: {command: ["true"], enabled: false}', 0, ""),
    ('  waiting: {command: ["true"], after: unplugged}', 39, "can never fire: 'unplugged' is not enabled"),
]
# Files of tasks.d: what is in them, the place of the mistake and what is said about it.
FILES = {
    "empty.yaml": ("", "1:1", "the file is empty"),
    "comment.yaml": ("# later\n", "1:1", "the file is empty"),
    "list.yaml": ("- one\n- two\n", "1:1", "must be a map"),
    "bracket.yaml": ('tasks:\n  a: {command: ["true", every: 5m}\n', "2:34", "missing"),
    "key-twice.yaml": ('tasks:\n  b: {command: ["true"], nice: 1, nice: 2}\n', "2:35", "given twice"),
    "name-twice.yaml": (GOOD, "2:3", "fine"),
    "bomb.yaml": (BOMB, "5:45", "aliases"),
    "deep.yaml": ("a: " + "[" * 5000 + "]" * 5000 + "\n", "1:53", "nested more than"),
    "huge.yaml": (GOOD + "# padding\n" * 1_000_000, "1:1", "larger than 1 MiB"),
    "wrong-suffix.yml": (GOOD, "1:1", "rename the file"),
}


def spoil(directory: Path) -> dict[str, tuple[str, str]]:
    """Files that are no files of ours; what is said of each."""
    (directory / "directory.yaml").mkdir()
    os.mkfifo(directory / "pipe.yaml")
    (directory / "latin-1.yaml").write_bytes(b"tasks: {}\n# \xff\n")
    (directory / "dangling.yaml").symlink_to("nowhere.yaml")
    writable = directory / "writable.yaml"
    writable.write_text("tasks: {}\n", "utf-8")
    writable.chmod(writable.stat().st_mode | stat.S_IWOTH)
    return {
        "directory.yaml": ("1:1", "this is a directory"),
        "pipe.yaml": ("1:1", "this is no regular file"),
        "latin-1.yaml": ("2:3", "the file is not UTF-8"),
        "dangling.yaml": ("1:1", "there is no such file"),
        "writable.yaml": ("1:1", "this file can be written by every user"),
    }


def test_every_mistake_of_every_file_is_reported_at_once_with_its_place(desk: Desk) -> None:
    desk.tasks("".join(f"{line}\n" for line, _, _ in MISTAKES))
    expected = {
        f"{desk.tasks_file}:{number}:{column}": explanation
        for number, (_, column, explanation) in enumerate(MISTAKES, 1)
        if column
    }
    directory = desk.config / "tasks.d"
    directory.mkdir()
    for name, (text, place, explanation) in FILES.items():
        (directory / name).write_text(text, "utf-8")
        expected[f"{directory / name}:{place}"] = explanation
    for name, (place, explanation) in spoil(directory).items():
        expected[f"{directory / name}:{place}"] = explanation
    markets = desk.config / "markets.yaml"
    markets.write_text("markets:\n  NSE: {chnges: {}}\n", "utf-8")
    expected[f"{markets}:2:9"] = "did you mean 'changes'?"

    daemon = desk.run()
    assert daemon.ended() == 78
    assert daemon.log == []
    said = dict(message.rstrip().split(": ", 1) for message in daemon.messages)
    wrong = {
        place: (explanation, said.get(place))
        for place, explanation in expected.items()
        if explanation not in said.get(place, "")
    }
    assert not wrong
    assert said.keys() == expected.keys()  # nothing that follows from another mistake, no traceback


def a_directory_instead_of_the_file(desk: Desk) -> None:
    desk.tasks_file.mkdir()


def no_file(_: Desk) -> None:
    pass


def an_empty_file(desk: Desk) -> None:
    desk.tasks("")


def a_directory_that_everyone_may_write(desk: Desk) -> None:
    desk.tasks(GOOD)
    desk.config.chmod(0o777)


@pytest.mark.parametrize(
    "spoilt, explanation",
    [
        (no_file, "there is no such file"),
        (an_empty_file, "the file is empty"),
        (a_directory_instead_of_the_file, "this is a directory"),
        (a_directory_that_everyone_may_write, "can be written by every user"),
    ],
)
def test_the_daemon_does_not_start_with(desk: Desk, spoilt: Callable[[Desk], None], explanation: str) -> None:
    spoilt(desk)
    daemon = desk.run()
    assert daemon.ended() == 78
    [message] = daemon.messages
    assert message.startswith(f"{desk.tasks_file}:1:1: ")
    assert explanation in message


def test_a_configuration_directory_that_is_not_there_leads_to_init(desk: Desk) -> None:
    desk.config.rmdir()
    answer = desk.ask("run")
    assert answer.returncode == 78
    assert answer.stderr.startswith(f"{desk.config} is not a directory")
    assert f"scheduler init {desk.config}" in answer.stderr


def test_a_state_directory_that_cannot_be_written_is_refused(desk: Desk) -> None:
    """A file stands in its place: that stops root, too."""
    desk.tasks(GOOD)
    in_the_way = desk.file("occupied")
    in_the_way.touch()
    socket = str(desk.file("s"))  # beside the state its path would be too long for one
    daemon = desk.run(SCHEDULER_STATE_DIR=str(in_the_way / "state"), SCHEDULER_SOCKET=socket)
    assert daemon.ended() == 78
    [message] = daemon.messages
    assert str(in_the_way / "state") in message
    assert "SCHEDULER_STATE_DIR" in message


def test_a_misspelt_setting_is_refused_with_the_right_name(desk: Desk) -> None:
    desk.tasks(GOOD)
    answer = desk.ask("check", SCHEDULER_STATE_DIRR="/tmp")
    assert answer.returncode == 78
    assert "did you mean SCHEDULER_STATE_DIR?" in answer.stderr


IMPORTS = """
tasks:
  broken:
    run: broken_module:work
    every: 1s
  absent: {run: no_such_package.tasks:work, every: 1s}
  misnamed: {run: good_module:wrok, every: 1s}
  good: {run: good_module:work, every: 1s}
"""


def write_callables(desk: Desk) -> None:
    desk.module("good_module", "def work():\n    pass\n")
    desk.module("broken_module", "import os\n\nrate = 1 / 0\n\ndef work():\n    pass\n")
    desk.tasks(IMPORTS)


def test_check_reports_each_callable_that_does_not_import_with_its_own_error(desk: Desk) -> None:
    write_callables(desk)
    answer = desk.ask("check")
    assert answer.returncode == 78
    said = answer.stderr.splitlines()
    assert len(said) == 3, answer.stderr
    by_place = {line.removeprefix(str(desk.tasks_file)).split(": ")[0]: line for line in said}
    assert "ZeroDivisionError: division by zero" in by_place[":4:10"]
    assert f"{desk.code / 'broken_module.py'}:3" in by_place[":4:10"]
    assert "ModuleNotFoundError: No module named 'no_such_package'" in by_place[":6:17"]
    assert "has no attribute 'wrok'" in by_place[":7:19"]
    assert "Traceback" not in answer.stderr


ARGUMENTS = """
tasks:
  missing: {run: "desk_code:fetch", every: 1s}
  misspelt: {run: "desk_code:fetch", every: 1s, with: {url: x, limt: 5}}
  elsewhere:
    run: desk_code:fetch
    isolation: process
    python: PYTHON
    with: {limit: 5}
  right: {run: "desk_code:fetch", every: 1s, with: {url: x}}
  anything: {run: "desk_code:show", every: 1s, with: {whatever: 5}}
"""


def test_check_compares_the_arguments_with_the_signature(desk: Desk) -> None:
    desk.module("desk_code", "def fetch(ctx, url, limit=5): ...\ndef show(**options): ...\n")
    desk.tasks(ARGUMENTS.replace("PYTHON", sys.executable))
    answer = desk.ask("check")
    assert answer.returncode == 78
    lost = "with: the argument 'url' is missing, without which fetch cannot be called"
    assert sorted(answer.stderr.splitlines()) == [
        f"{desk.tasks_file}:3:18: {lost}",
        f"{desk.tasks_file}:4:64: with: fetch takes no argument 'limt'; it takes limit, url",
        f"{desk.tasks_file}:9:5: {lost}",
    ]


HARMFUL = """\
import asyncio, time


async def poll(ctx):
    asyncio.create_task(asyncio.sleep(1))
    fetch()


def fetch():
    time.sleep(1)


async def loop(ctx):
    while True:
        try:
            await asyncio.sleep(1)
        except BaseException:
            print("still here")


async def spin():
    while True:
        fetch()
"""


def test_check_warns_of_what_will_hurt_in_the_code_and_still_finds_it_good(desk: Desk) -> None:
    desk.module("harmful", HARMFUL)
    desk.tasks(
        "tasks:\n"
        "  poll: {run: harmful:poll, every: 5s}\n"
        "  fetch: {run: harmful:fetch, every: 5s}\n"
        "  loop: {run: harmful:loop, keep_running: true}\n"
        "  spin: {run: harmful:spin, every: 5s}\n"
        "  spun: {run: harmful:spin, every: 5s, isolation: process}\n"
    )
    answer = desk.ask("check")
    assert answer.returncode == 0
    assert answer.stdout.endswith("is good, with 4 warnings\n")
    code = desk.code / "harmful.py"
    places = [line.split(": warning: ")[0] for line in answer.stderr.splitlines()]
    assert places == [f"{code}:{place}" for place in ("5:5", "10:5", "17:9", "22:5")]
    owner, sleep, unheard, endless = answer.stderr.splitlines()
    assert owner.endswith("use ctx.background(...), or keep it and await it (RUF006, task poll)")
    assert sleep.endswith("or give the task `isolation: thread` (ASYNC251, tasks poll, spin)")
    assert unheard.endswith("end with `raise` (SCH002, task loop)")
    assert endless.endswith("or give the task `isolation: process` (SCH001, task spin)")


def test_run_parks_what_does_not_import_and_runs_the_others(desk: Desk) -> None:
    write_callables(desk)
    daemon = desk.run()
    for task, error in {
        "broken": "ZeroDivisionError: division by zero",
        "absent": "ModuleNotFoundError: No module named 'no_such_package'",
        "misnamed": "has no attribute 'wrok'",
    }.items():
        parked = daemon.find("task.parked", task=task)
        assert parked["level"] == "error"
        assert error in parked["reason"]
    daemon.find("run.completed", task="good")
    assert daemon.stop() == 0
    assert {(row["status"], row["reason"]) for row in desk.history("absent")} == {("skipped", "parked")}


def test_an_unknown_namespace_of_the_cache_fails_the_run_with_a_suggestion(desk: Desk) -> None:
    desk.module("caching", "def work(ctx):\n    ctx.cache['market_dta'].put('a', 1)\n")
    desk.tasks("cache: {market_data: {ttl: 5s}}\ntasks:\n  a: {run: caching:work, every: 1s}\n")
    daemon = desk.run()
    failed = daemon.wait_for("run.failed", task="a")
    assert "market_dta" in failed["error"]
    assert "did you mean 'market_data'?" in failed["error"]
    assert daemon.stop() == 0
