"""`why` answers by what is in force while a scheduler runs, and says when the files are others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scheduler import explain
from scheduler.configuration import FileLoader, Window
from scheduler.core.messages import SECOND, Record, Status
from scheduler.errors import ConfigurationError, LedgerError
from scheduler.ledger import Ledger
from scheduler.lock import StateLock
from scheduler.settings import Settings
from tests.helpers import instant

NOON = "2026-11-23T12:00:00+05:30"
NOW = instant(NOON)
TASKS = """\
reload: manual
tasks:
  a: {command: ["true"], every: 5m}
"""
DISABLED = TASKS.replace("5m}", "5m, enabled: false}")
WRONG = TASKS.replace("command", "comand")


@pytest.fixture(scope="module")
def calendars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calendars")


@pytest.fixture
def settings(tmp_path: Path, calendars: Path) -> Settings:
    config, state = tmp_path / "config", tmp_path / "state"
    config.mkdir()
    state.mkdir()
    (state / "calendars").symlink_to(calendars)
    (config / "tasks.yaml").write_text(TASKS)
    return Settings(config_dir=config, state_dir=state)


@contextmanager
def scheduler_of(settings: Settings) -> Iterator[None]:
    """What a running one leaves to be seen: its lock, and the files that it goes by."""
    lock = StateLock(settings.state_dir)
    loader = FileLoader(settings)
    loader(Window.around(NOW))
    loader.keep_accepted()
    yield
    lock.release()


def save(settings: Settings, text: str) -> None:
    (settings.config_dir / "tasks.yaml").write_text(text)


def why(settings: Settings, name: str = "a", at: str | None = None) -> dict[str, Any]:
    return dict(explain.why(settings, name, at, NOW))


def test_an_edit_that_waits_is_not_what_is_run(settings: Settings) -> None:
    with scheduler_of(settings):
        assert why(settings)["sentence"].endswith("it is next due 12:05.")
        save(settings, DISABLED)
        row = why(settings)
    assert row["state"] == "due"
    assert row["sentence"].endswith(
        f"; tasks.yaml in {settings.config_dir} has changed since: this is by what is in force."
    )
    save(settings, TASKS)
    assert "changed since" not in why(settings)["sentence"]


@pytest.mark.parametrize("at", [None, "2026-11-23T12:01"])
def test_a_bad_edit_is_no_answer_to_the_question(settings: Settings, at: str | None) -> None:
    with scheduler_of(settings):
        save(settings, WRONG)
        for name in ("a", "NSE", "MCX"):
            sentence = why(settings, name, at)["sentence"]
            assert (
                f"; the files in {settings.config_dir} are wrong ({settings.config_dir}/tasks.yaml:3:"
                in sentence
            )
            assert sentence.endswith("): this is by what is in force.")


def test_files_that_came_or_went_since_are_named(settings: Settings) -> None:
    with scheduler_of(settings):
        (settings.config_dir / "markets.yaml").write_text("default: BSE\n")
        (settings.config_dir / "tasks.d").mkdir()
        (settings.config_dir / "tasks.d" / "more.yaml").write_text('tasks: {b: {command: ["true"]}}\n')
        sentence = why(settings)["sentence"]
    assert f"markets.yaml, tasks.d/more.yaml in {settings.config_dir} have changed since" in sentence


def test_without_a_scheduler_the_files_are_what_counts(settings: Settings) -> None:
    with scheduler_of(settings):
        pass
    save(settings, DISABLED)
    row = why(settings)
    assert row["state"] == "disabled"
    assert row["sentence"].endswith(f"; no scheduler is running with {settings.state_dir}.")
    save(settings, WRONG)
    with pytest.raises(ConfigurationError, match="unknown key 'comand'"):
        why(settings)


def test_what_a_scheduler_of_another_version_keeps_does_not_stand_in_the_way(settings: Settings) -> None:
    with scheduler_of(settings):
        (settings.state_dir / "accepted" / "tasks.yaml").write_text(WRONG)
        assert why(settings)["sentence"].endswith("it is next due 12:05.")


def record(settings: Settings, *records: Record) -> None:
    ledger = Ledger(settings.state_dir / "ledger.db", on_trouble=lambda *_: None)
    for each in records:
        ledger.record(each)
    ledger.close()


def test_the_run_under_way_is_found_behind_what_was_due_since(settings: Settings) -> None:
    due = NOW - 600 * SECOND
    skipped = Record("a", due + 300 * SECOND, 0, Status.SKIPPED, "overlap", count=2, last_due=NOW)
    with scheduler_of(settings):
        record(settings, Record("a", due, 1, Status.RUNNING, "", due), skipped)
        row = why(settings)
        assert (row["state"], row["sentence"].partition(",")[0]) == ("running", "a is running since 11:50")
        assert row["last_run"]["status"] == "skipped"
        ended = NOW - 300 * SECOND
        record(settings, Record("a", due, 1, Status.COMPLETED, "", due, ended))
        assert why(settings)["state"] == "due"
    assert why(settings, at="2026-11-23T11:54:59")["state"] == "running"
    assert why(settings, at="2026-11-23T11:55:01")["state"] == "waiting"


def test_a_state_directory_of_others_is_said_to_be(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scheduler_of(settings):
        monkeypatch.setattr("os.access", lambda *_: False)  # root may read everything
        with pytest.raises(LedgerError, match="ask as the scheduler's user, or with --at"):
            why(settings)
        assert why(settings, at="2026-11-23T12:01")["state"] == "waiting"
