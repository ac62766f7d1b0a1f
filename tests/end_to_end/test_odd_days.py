"""The plans of days on which the Indian calendar is odd, written out from what the exchange announced.

Of each day every run is here, by task, phase and session. While the market does not trade `pace` ticks
on the hour, in each open segment every half hour from its start.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.daemon import Desk

TASKS = """
timezone: Asia/Kolkata
tasks:
  pace: {command: ["true"], every: {open: 30m, closed: 1h}}
  early: {command: ["true"], at: [pre-open.start]}
  opening: {command: ["true"], at: open+5m}
  closing: {command: ["true"], at: close-10m}
  feed: {command: ["true"], keep_running: true, during: [pre-open, open]}
  derivatives: {command: ["true"], at: close, market: NSE-FO}
"""

# The outage: cut at 11:40, resumed 15:45-17:00.
OUTAGE = """
pace        closed   2021-02-23  00:00 01:00 02:00 03:00 04:00 05:00 06:00 07:00 08:00
pace        pre-open 2021-02-24  09:00
pace        open     2021-02-24  09:15 09:45 10:15 10:45 11:15
pace        break    2021-02-24  12:00 13:00 14:00 15:00
pace        open     2021-02-24  15:45 16:15 16:45
pace        closed   2021-02-24  17:00 18:00 19:00 20:00 21:00 22:00 23:00
early       pre-open 2021-02-24  09:00
opening     open     2021-02-24  09:20
closing     open     2021-02-24  16:50
feed        pre-open 2021-02-24  09:00
feed        open     2021-02-24  15:45
derivatives closed   2021-02-24  17:00
"""

# A drill on a Saturday: pre-open 09:00-09:08, open 09:15-10:00 and 11:30-12:30 (a second pre-open,
# 11:15-11:23, lies in the break and is part of it). Derivatives at the same hours, without pre-open.
DRILL = """
pace        closed   2024-03-01  00:00 01:00 02:00 03:00 04:00 05:00 06:00 07:00 08:00
pace        pre-open 2024-03-02  09:00
pace        open     2024-03-02  09:15 09:45
pace        break    2024-03-02  10:00 11:00
pace        open     2024-03-02  11:30 12:00
pace        closed   2024-03-02  13:00 14:00 15:00 16:00 17:00 18:00 19:00 20:00 21:00 22:00 23:00
early       pre-open 2024-03-02  09:00
opening     open     2024-03-02  09:20
closing     open     2024-03-02  12:20
feed        pre-open 2024-03-02  09:00
feed        open     2024-03-02  09:15 11:30
derivatives closed   2024-03-02  12:30
"""

# The second drill: open 09:15-10:00 and, not quite certain, 11:30-12:30 (derivatives 11:45-12:40).
UNCERTAIN_DRILL = """
pace        closed   2024-05-17  00:00 01:00 02:00 03:00 04:00 05:00 06:00 07:00 08:00
pace        pre-open 2024-05-18  09:00
pace        open     2024-05-18  09:15 09:45
pace        break    2024-05-18  10:00 11:00
pace        open     2024-05-18  11:30 12:00
pace        closed   2024-05-18  13:00 14:00 15:00 16:00 17:00 18:00 19:00 20:00 21:00 22:00 23:00
early       pre-open 2024-05-18  09:00
opening     open     2024-05-18  09:20
closing     open     2024-05-18  12:20
feed        pre-open 2024-05-18  09:00
feed        open     2024-05-18  11:30
derivatives closed   2024-05-18  12:40
"""

# Muhurat in the afternoon, on a holiday: pre-open 13:30-13:45, open 13:45-14:45.
MUHURAT = """
pace        closed   2025-10-20  00:00 01:00 02:00 03:00 04:00 05:00 06:00 07:00 08:00 09:00 10:00 11:00
pace        closed   2025-10-20  12:00 13:00
pace        open     2025-10-21  13:45 14:15
pace        closed   2025-10-21  15:00 16:00 17:00 18:00 19:00 20:00 21:00 22:00 23:00
early       pre-open 2025-10-21  13:30
opening     open     2025-10-21  13:50
closing     open     2025-10-21  14:35
feed        pre-open 2025-10-21  13:30
derivatives closed   2025-10-21  14:45
"""

# The Union Budget on a Sunday: regular hours, those of February (derivatives to 15:30).
BUDGET = """
pace        closed   2026-01-30  00:00 01:00 02:00 03:00 04:00 05:00 06:00 07:00 08:00
pace        pre-open 2026-02-01  09:00
pace        open     2026-02-01  09:15 09:45 10:15 10:45 11:15 11:45 12:15 12:45 13:15 13:45 14:15 14:45 15:15
pace        closed   2026-02-01  16:00 17:00 18:00 19:00 20:00 21:00 22:00 23:00
early       pre-open 2026-02-01  09:00
opening     open     2026-02-01  09:20
closing     open     2026-02-01  15:20
feed        pre-open 2026-02-01  09:00
derivatives closed   2026-02-01  15:30
"""

# The last day that exchange-calendars knows, with the hours since 2026-08-03 (derivatives to 15:40).
LAST_KNOWN = """
pace        closed   2026-12-30  00:00 01:00 02:00 03:00 04:00 05:00 06:00 07:00 08:00
pace        pre-open 2026-12-31  09:00
pace        open     2026-12-31  09:15 09:45 10:15 10:45 11:15 11:45 12:15 12:45 13:15 13:45 14:15 14:45 15:15
pace        closed   2026-12-31  16:00 17:00 18:00 19:00 20:00 21:00 22:00 23:00
early       pre-open 2026-12-31  09:00
opening     open     2026-12-31  09:20
closing     open     2026-12-31  15:20
feed        pre-open 2026-12-31  09:00
derivatives closed   2026-12-31  15:40
"""

# The day after, of which the exchange has announced nothing yet: an assumed Friday.
FIRST_ASSUMED = """
pace        closed   2026-12-31  00:00 01:00 02:00 03:00 04:00 05:00 06:00 07:00 08:00
pace        pre-open 2027-01-01  09:00
pace        open     2027-01-01  09:15 09:45 10:15 10:45 11:15 11:45 12:15 12:45 13:15 13:45 14:15 14:45 15:15
pace        closed   2027-01-01  16:00 17:00 18:00 19:00 20:00 21:00 22:00 23:00
early       pre-open 2027-01-01  09:00
opening     open     2027-01-01  09:20
closing     open     2027-01-01  15:20
feed        pre-open 2027-01-01  09:00
derivatives closed   2027-01-01  15:40
"""

DAYS = [
    # date, the next date, its plan, whether it is only assumed
    ("2021-02-24", "2021-02-25", OUTAGE, False),
    ("2024-03-02", "2024-03-03", DRILL, False),
    ("2024-05-18", "2024-05-19", UNCERTAIN_DRILL, True),
    ("2025-10-21", "2025-10-22", MUHURAT, False),
    ("2026-02-01", "2026-02-02", BUDGET, False),
    ("2026-12-31", "2027-01-01", LAST_KNOWN, False),
    ("2027-01-01", "2027-01-02", FIRST_ASSUMED, True),
]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, calendars: Path) -> Iterator[Desk]:
    made = Desk(tmp_path_factory.mktemp("odd-days"), calendars)
    made.tasks(TASKS)
    yield made
    made.close()


def written_out(day: str, plan: str) -> list[tuple[str, str, str, str]]:
    """Due, task, phase and session of each run, in the order of the plan."""
    found = []
    for line in plan.strip().splitlines():
        task, phase, session, *times = line.split()
        found += [(f"{day}T{time}:00+05:30", task, phase, session) for time in times]
    return sorted(found)


@pytest.mark.parametrize("day, after, plan, assumed", DAYS, ids=[day for day, *_ in DAYS])
def test_the_plan_of_an_odd_day(day: str, after: str, plan: str, assumed: bool, desk: Desk) -> None:
    rows = desk.rows("plan", "--from", day, "--until", after)
    assert [(r["due"], r["task"], r["phase"], r["session"]) for r in rows] == written_out(day, plan)
    assert {row.get("assumed") for row in rows} == ({True} if assumed else {None})


def test_a_person_is_told_of_an_assumed_day_at_the_end_of_the_line(desk: Desk) -> None:
    day = ["--task", "opening", "--from", "2026-12-31", "--until", "2027-01-02"]
    known, assumed = desk.ask("plan", *day).stdout.splitlines()
    assert known.endswith("open+5m")
    assert assumed.endswith("open+5m  assumed")
