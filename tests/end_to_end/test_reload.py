"""A saved file goes live in the running daemon, or is refused while the old tasks go on."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.end_to_end.daemon import Daemon, Desk, alive, eventually

TICK = """  {name}: {{command: [/bin/sh, -c, "echo {word} >> @/{name}"], every: 1s}}
"""


def ticking(**words: str) -> str:
    """A task for each name, which appends its word to a file of that name every second."""
    return "tasks:\n" + "".join(TICK.format(name=name, word=word) for name, word in words.items())


def settle(desk: Desk, name: str) -> None:
    """Let a second pass, so that a file saved now is not one saved during the start."""
    eventually(lambda: len(desk.lines(name)) >= 2, f"{name} has run twice")


def wait_for_line(desk: Desk, name: str, line: str) -> None:
    eventually(lambda: line in desk.lines(name), f"{name} writes {line!r}")


@pytest.fixture
def daemon(desk: Desk) -> Iterator[Daemon]:
    """One that runs `kept`, `edited` and `dropped`."""
    desk.tasks(ticking(kept="same", edited="old", dropped="old"))
    started = desk.run()
    started.wait_for("daemon.ready")
    yield started
    assert started.stop() == 0
    assert not started.messages


def save_atomically(desk: Desk, text: str) -> None:
    """As editors and deployments do it: a new file is moved over the old one."""
    fresh = desk.config / "tasks.yaml.new"
    fresh.write_text(text.replace("@", str(desk.files)), "utf-8")
    fresh.replace(desk.tasks_file)


@pytest.mark.parametrize("atomically", [False, True], ids=["written", "renamed"])
def test_a_saved_file_goes_live(desk: Desk, daemon: Daemon, *, atomically: bool) -> None:
    settle(desk, "kept")
    text = ticking(kept="same", edited="new", fresh="new")
    if atomically:
        save_atomically(desk, text)
    else:
        desk.tasks(text)
    reloaded = daemon.wait_for("config.reloaded")
    difference = {key: reloaded[key] for key in ("added", "changed", "removed")}
    assert difference == {"added": ["fresh"], "changed": ["edited"], "removed": ["dropped"]}
    assert "tasks.yaml" in reloaded["cause"]
    wait_for_line(desk, "edited", "new")
    wait_for_line(desk, "fresh", "new")
    dropped = len(desk.lines("dropped"))
    ticks = len(desk.lines("kept"))
    eventually(lambda: len(desk.lines("kept")) >= ticks + 2, "the unchanged task goes on")
    assert len(desk.lines("dropped")) <= dropped + 1  # one may have been on its way


def test_a_file_saved_while_the_daemon_starts_goes_live_too(desk: Desk) -> None:
    """Between the reading of the files and the first run nobody must overlook it."""
    desk.tasks(ticking(edited="old"))
    daemon = desk.run()
    daemon.wait_for("config.loaded")
    desk.tasks(ticking(edited="new"))
    daemon.wait_for("config.reloaded", changed=["edited"])
    assert daemon.stop() == 0


def test_a_broken_edit_is_rejected_with_its_place_and_the_old_tasks_go_on(desk: Desk, daemon: Daemon) -> None:
    save_atomically(desk, 'tasks:\n  kept: {comand: ["true"]}\n')
    rejected = daemon.wait_for("config.rejected")
    assert rejected["level"] == "error"
    assert rejected["problem"].startswith(f"{desk.tasks_file}:2:10: ")
    assert "did you mean 'command'?" in rejected["problem"]
    ticks = len(desk.lines("edited"))
    eventually(lambda: len(desk.lines("edited")) >= ticks + 2, "the old tasks go on")

    save_atomically(desk, "")
    rejected = daemon.wait_for("config.rejected")
    assert "the file is empty" in rejected["problem"]

    save_atomically(desk, ticking(kept="mended"))
    daemon.wait_for("config.reloaded")
    wait_for_line(desk, "kept", "mended")


def test_sighup_reloads_where_saving_alone_does_not(desk: Desk) -> None:
    desk.tasks("reload: manual\n" + ticking(edited="old"))
    daemon = desk.run()
    settle(desk, "edited")
    desk.tasks("reload: manual\n" + ticking(edited="new"))
    daemon.wait_for("config.held_back")
    daemon.send(signal.SIGHUP)
    reloaded = daemon.wait_for("config.reloaded")
    assert (reloaded["cause"], reloaded["changed"]) == ("SIGHUP", ["edited"])
    wait_for_line(desk, "edited", "new")
    assert daemon.stop() == 0


def test_a_directory_tasks_d_comes_and_goes_as_a_whole(desk: Desk, daemon: Daemon) -> None:
    settle(desk, "kept")
    elsewhere, directory = desk.file("tasks.d"), desk.config / "tasks.d"
    elsewhere.mkdir()
    (elsewhere / "more.yaml").write_text('tasks:\n  more: {command: ["true"], every: 1s}\n', "utf-8")
    elsewhere.rename(directory)
    assert daemon.wait_for("config.reloaded")["added"] == ["more"]
    daemon.wait_for("run.completed", task="more")
    directory.rename(elsewhere)
    assert daemon.wait_for("config.reloaded")["removed"] == ["more"]


def test_a_change_of_the_calendar_goes_live(desk: Desk, daemon: Daemon) -> None:
    markets = desk.config / "markets.yaml"
    markets.write_text("markets: {NSE: {changes: {2027-02-06: {name: Drill, open: ordinary}}}}\n", "utf-8")
    assert daemon.wait_for("market.changed")["market"] == "NSE"
    [day] = desk.rows("calendar", "--from", "2027-02-06", "--until", "2027-02-07")
    assert (day["open"], day["layer"]) == (True, "desk")


LOOP = """
tasks:
  {name}:
    command: [/bin/sh, -c, "echo $$ >> @/{name}.pid; exec sleep 600"]
    keep_running: true
    env: {{VERSION: "{version}"}}
"""


def test_a_changed_long_lived_task_is_started_anew_and_a_removed_one_ended(desk: Desk) -> None:
    desk.tasks(LOOP.format(name="feed", version=1))
    daemon = desk.run()
    eventually(lambda: len(desk.lines("feed.pid")) == 1, "the feed runs")
    desk.tasks(LOOP.format(name="feed", version=2))
    daemon.wait_for("config.reloaded")
    eventually(lambda: len(desk.lines("feed.pid")) == 2, "the feed runs by its new definition")
    first, second = (int(line) for line in desk.lines("feed.pid"))
    eventually(lambda: not alive(first), "the old one has ended")
    desk.tasks(LOOP.format(name="other", version=1))
    daemon.wait_for("config.reloaded", added=["other"], removed=["feed"])
    eventually(lambda: not alive(second), "the removed one has ended")
    assert daemon.stop() == 0


def test_a_save_is_live_within_two_seconds(desk: Desk, daemon: Daemon) -> None:
    settle(desk, "kept")
    took = []
    for number in range(5):
        saved = time.time()
        desk.tasks(ticking(kept="same", edited=str(number)))
        live = datetime.fromisoformat(daemon.wait_for("config.reloaded")["timestamp"]).timestamp()
        took.append(live - saved)
    assert sorted(took)[2] < 2, took


def test_what_is_unchanged_runs_on_through_a_reload(desk: Desk, daemon: Daemon) -> None:
    """The same process, the same run, and the next runs when they would have been."""
    loop = LOOP.format(name="feed", version=1)
    desk.tasks(ticking(edited="1") + loop.removeprefix("\ntasks:\n"))
    daemon.wait_for("config.reloaded", added=["feed"])
    eventually(lambda: len(desk.lines("feed.pid")) == 1, "the feed runs")
    for version in ("2", "3"):
        desk.tasks(ticking(edited=version) + loop.removeprefix("\ntasks:\n"))
        assert daemon.wait_for("config.reloaded")["changed"] == ["edited"]
    wait_for_line(desk, "edited", "3")
    assert desk.lines("feed.pid") == [desk.lines("feed.pid")[0]]
    assert alive(int(desk.lines("feed.pid")[0]))
    [row] = desk.history("feed")
    assert (row["status"], row["attempt"]) == ("running", 1)
    dues = [row["due"] for row in desk.history("edited") if row["status"] == "completed"]
    assert len(dues) == len(set(dues)), "nothing was run twice"


def test_half_a_file_is_not_taken(desk: Desk, daemon: Daemon) -> None:
    """It is a good file as far as it goes: only that somebody is still writing it."""
    settle(desk, "kept")
    whole = ticking(kept="same", edited="old", dropped="new").replace("@", str(desk.files))
    half = whole.index("  dropped")
    with desk.tasks_file.open("w", encoding="utf-8") as file:
        file.write(whole[:half])
        file.flush()
        time.sleep(0.3)
        file.write(whole[half:])
    reloaded = daemon.wait_for("config.reloaded")
    assert (reloaded["changed"], reloaded["removed"]) == (["dropped"], [])
    assert not daemon.seen("config.rejected")


def make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


@pytest.mark.parametrize(
    "spoil", [make_directory, make_dangling, Path.unlink], ids=["directory", "link", "gone"]
)
def test_a_file_that_cannot_be_read_any_more_changes_nothing(
    desk: Desk, daemon: Daemon, spoil: Callable[[Path], None]
) -> None:
    settle(desk, "kept")
    spoil(desk.tasks_file)
    assert "tasks.yaml" in daemon.wait_for("config.rejected")["problem"]
    ticks = len(desk.lines("kept"))
    eventually(lambda: len(desk.lines("kept")) >= ticks + 2, "the old tasks go on")
    with suppress(OSError):
        desk.tasks_file.rmdir()
    desk.tasks_file.unlink(missing_ok=True)
    desk.tasks(ticking(kept="mended"))
    daemon.wait_for("config.reloaded")
    wait_for_line(desk, "kept", "mended")


def test_a_mounted_directory_that_is_swapped_by_a_symlink_goes_live(desk: Desk) -> None:
    """As Kubernetes does it with a ConfigMap."""
    for version in ("1", "2", "3"):
        (desk.config / f"..{version}").mkdir()
        text = ticking(edited=version).replace("@", str(desk.files))
        (desk.config / f"..{version}" / "tasks.yaml").write_text(text, "utf-8")
    (desk.config / "..data").symlink_to("..1")
    desk.tasks_file.symlink_to("..data/tasks.yaml")
    daemon = desk.run()
    settle(desk, "edited")
    for version in ("2", "3"):
        (desk.config / "..fresh").symlink_to(f"..{version}")
        (desk.config / "..fresh").replace(desk.config / "..data")
        assert daemon.wait_for("config.reloaded")["changed"] == ["edited"]
        wait_for_line(desk, "edited", version)
    assert daemon.stop() == 0


def test_a_file_elsewhere_that_a_link_leads_to_goes_live_when_it_is_rewritten(desk: Desk) -> None:
    elsewhere = desk.file("shared.yaml")
    elsewhere.write_text(ticking(edited="1").replace("@", str(desk.files)), "utf-8")
    desk.tasks_file.symlink_to(elsewhere)
    daemon = desk.run()
    settle(desk, "edited")
    elsewhere.write_text(ticking(edited="2").replace("@", str(desk.files)), "utf-8")
    assert daemon.wait_for("config.reloaded")["changed"] == ["edited"]
    assert daemon.stop() == 0


def test_what_is_held_back_says_until_when(desk: Desk) -> None:
    noon = f'timezone: "Etc/GMT{datetime.now(UTC).hour - 12:+d}"'  # wherever that is: the market trades
    hours = "weekdays: mon-sun, hours: [{phases: {open: '06:00..18:00'}}]"
    markets = f"default: DAY\nmarkets: {{DAY: {{{noon}, {hours}}}}}\n"
    (desk.config / "markets.yaml").write_text(markets, "utf-8")
    desk.tasks("reload: closed-only\n" + ticking(edited="old"))
    daemon = desk.run()
    settle(desk, "edited")
    desk.tasks("reload: closed-only\n" + ticking(edited="new"))
    held_back = daemon.wait_for("config.held_back")
    assert (held_back["reload"], held_back["files"]) == ("closed-only", [str(desk.tasks_file)])
    assert "the market closes" in held_back["until"]
    daemon.send(signal.SIGHUP)
    assert daemon.wait_for("config.reloaded")["changed"] == ["edited"]
    assert daemon.stop() == 0


INSIDE = (
    "from library import word\n\nasync def run():\n    with open('@/{name}', 'a') as f: print(word, file=f)\n"
)
APART = "import time\nimport library\n\ndef run():\n    time.sleep(600)\n"
CODE = """
tasks:
  inside: {run: "inside:run", every: 1s}
  apart: {run: "inside:run", every: 1s, isolation: process}
  loop: {run: "apart:run", keep_running: true, isolation: process}
  command: {command: ["true"], every: 1s}
"""


def test_code_that_changed_is_told_with_the_tasks_that_still_run_the_old(desk: Desk) -> None:
    desk.module("library", "word = 'old'\n")
    desk.module("inside", INSIDE.format(name="inside"))
    desk.module("apart", APART)
    desk.module("other", "")
    desk.tasks(CODE)
    daemon = desk.run()
    settle(desk, "inside")
    daemon.wait_for("run.completed", task="apart")
    time.sleep(2)  # the watch is up
    desk.module("other", "# nobody's\n")
    desk.module("library", "word = 'new!'\n")
    library = [str(desk.code / "library.py")]
    loop, apart, inside = (daemon.wait_for("code.changed") for _ in range(3))
    assert (loop["tasks"], loop["applies"], loop["level"]) == (["loop"], "a restart of the task", "warning")
    assert (apart["tasks"], apart["level"]) == (["apart"], "info")
    assert (inside["tasks"], inside["applies"]) == (["inside"], "a restart of the scheduler")
    assert loop["files"] == apart["files"] == inside["files"] == library
    wait_for_line(desk, "inside", "new!")  # of the process
    ticks = desk.lines("inside").count("old")
    eventually(lambda: desk.lines("inside").count("old") > ticks, "the daemon runs the old code")
    assert daemon.stop() == 0
    assert len(daemon.seen("code.changed")) == 3
