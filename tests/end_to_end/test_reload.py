"""A saved file goes live in the running daemon, or is refused while the old tasks go on."""

from __future__ import annotations

import signal
from collections.abc import Iterator

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
