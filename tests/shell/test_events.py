"""The names of what happens: the README and the code agree on what a task can be started on."""

from __future__ import annotations

import re
from pathlib import Path

from scheduler.core import events

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_lists_every_event_that_a_task_can_hear_of_and_no_other() -> None:
    _, _, rest = README.read_text("utf-8").partition("\n| of | events |\n")
    table, _, _ = rest.partition("\n\n")
    listed = re.findall(r"`([a-z]+\.[a-z_]+)`", table)
    assert len(listed) == len(set(listed))
    assert set(listed) == events.ALL - events.UNHEARD.keys()
