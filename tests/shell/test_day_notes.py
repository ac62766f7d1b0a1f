"""What of an ordinary day does not fit a day with hours of its own is noted on its session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shell.markets import build

MY_DESK = """
default: NSE
markets:
  MY-DESK:
    like: NSE
    hours:
      - since: 2019-01-01
        phases:
          pre-open: "09:00..09:15"
          open: "09:15..15:30"
          late: "open+5h..close-20m"
          square-off: "close-20m..close-5m"
    changes:
      2026-11-25: {name: Short, open: ["09:15..09:25"]}
      2026-11-26: {name: Long, open: ["09:15..17:00"]}
      2026-11-27: {name: Its own, open: ["10:00..16:00"], phases: {pre-open: "09:30..10:00"}}
"""
NO_PRE_OPEN = "pre-open (09:00..09:15) does not apply on a day with its own hours"


@pytest.mark.parametrize(
    "day,notes",
    [
        ("2026-11-23", ()),
        (
            "2026-11-25",
            (
                NO_PRE_OPEN,
                "late (open+5h..close-20m) does not fit these hours and is left out",
                "square-off (close-20m..close-5m) is clipped to 09:15..09:20",
            ),
        ),
        ("2026-11-26", (NO_PRE_OPEN,)),
        ("2026-11-27", ()),
    ],
)
def test_a_session_notes_what_was_clipped_or_left_out(
    tmp_path: Path, day: str, notes: tuple[str, ...]
) -> None:
    built = build(tmp_path, MY_DESK, ("MY-DESK",))
    assert not built.problems
    session = next(session for session in built.tables["MY-DESK"].sessions if session.date == day)
    assert session.notes == notes
