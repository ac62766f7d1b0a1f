"""A definition as the ledger keeps it: the same for the same task, and without its secrets."""

from __future__ import annotations

from scheduler.core.definition import definition_text, fingerprint
from scheduler.core.messages import TaskSpec, Work
from scheduler.core.triggers import Every
from tests.core.desk import spec


def task(env: str, argument: str) -> TaskSpec:
    work = Work(target="desk:task", env={"TOKEN": env}, arguments={"password": argument})
    return spec("a", Every({"*": 1}), work=work)


def test_the_text_names_what_is_given_to_a_task_and_hides_it() -> None:
    text = definition_text(task("correct-horse", "battery-staple"))
    assert "correct-horse" not in text
    assert "battery-staple" not in text
    assert '"env": {"TOKEN": "(hidden)"}' in text
    assert '"arguments": {"password": "(hidden)"}' in text


def test_a_changed_secret_is_a_changed_definition() -> None:
    same = fingerprint(task("old", "old"))
    assert same == fingerprint(task("old", "old"))
    assert len({same, fingerprint(task("new", "old")), fingerprint(task("old", "new"))}) == 3
