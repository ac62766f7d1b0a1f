from __future__ import annotations

import grp
import os
from pathlib import Path

import pytest

from scheduler.ownership import check_writable_by_others

STRANGER = 54_321


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration file that only its owner can write, in such a directory."""
    directory = tmp_path / "config"
    directory.mkdir(mode=0o755)
    path = directory / "tasks.yaml"
    path.write_text("tasks: {}\n")
    path.chmod(0o644)
    return path


def refusal(path: Path, gids: frozenset[int] = frozenset()) -> str:
    problem = check_writable_by_others(path, allowed_gids=gids)
    return str(problem) if problem else ""


def test_a_file_of_ones_own_is_trusted(file: Path) -> None:
    assert not refusal(file)


def test_a_file_that_everybody_can_write_is_refused(file: Path) -> None:
    file.chmod(0o646)
    assert refusal(file) == (
        f"{file}:1:1: this file can be written by every user, and configuration names programs to run; "
        "chmod o-w it"
    )


def test_a_directory_that_everybody_can_write_is_refused_unless_sticky(file: Path) -> None:
    file.parent.chmod(0o777)
    assert f"{file.parent} can be written by every user" in refusal(file)
    file.parent.chmod(0o1777)
    assert not refusal(file)


def test_what_a_link_leads_to_counts(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.yaml"
    link.symlink_to("config/tasks.yaml")
    assert not refusal(link)
    file.chmod(0o666)
    assert "can be written by every user" in refusal(link)
    file.chmod(0o644)
    file.parent.chmod(0o777)
    assert "can be written by every user" in refusal(link)


def test_the_directory_of_a_link_on_the_way_counts(file: Path, tmp_path: Path) -> None:
    between = tmp_path / "between"
    between.mkdir()
    (between / "link").symlink_to(file)
    (tmp_path / "first").symlink_to("between/link")
    assert not refusal(tmp_path / "first")
    between.chmod(0o777)
    assert f"{between} can be written by every user" in refusal(tmp_path / "first")


def test_a_missing_file_is_left_to_its_reader(tmp_path: Path) -> None:
    assert not refusal(tmp_path / "missing.yaml")
    (tmp_path / "loop").symlink_to("loop")
    assert not refusal(tmp_path / "loop")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
class TestAsRoot:
    """Files of other users and groups."""

    def test_a_file_of_a_stranger_is_refused_and_of_an_allowed_user_is_not(self, file: Path) -> None:
        os.chown(file, STRANGER, 0)
        assert f"this file belongs to user {STRANGER}; only root" in refusal(file)
        assert check_writable_by_others(file, {STRANGER}) is None

    def test_a_directory_of_a_stranger_is_refused_even_if_sticky(self, file: Path) -> None:
        os.chown(file.parent, STRANGER, 0)
        file.parent.chmod(0o1777)
        assert f"{file.parent} belongs to user {STRANGER}" in refusal(file)

    def test_a_group_may_write_only_if_it_is_the_one_named(self, file: Path) -> None:
        os.chown(file, 0, STRANGER)
        file.chmod(0o664)
        assert f"can be written by the group {STRANGER}" in refusal(file)
        assert "SCHEDULER_CONFIG_GROUP" in refusal(file)
        assert not refusal(file, frozenset({STRANGER}))

    def test_a_group_without_other_members_does_no_harm(self, file: Path) -> None:
        if grp.getgrgid(0).gr_mem not in ([], ["root"]):
            pytest.skip("the group root has members here")
        os.chown(file, 0, 0)
        file.chmod(0o664)
        assert not refusal(file)
