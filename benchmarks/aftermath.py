"""Judges the ledger that a crash left, by arithmetic of its own: it imports nothing of the scheduler.

What had to run follows from the paces and the lives of the processes; what did run is in the runs' own words.
Instants are nanoseconds since the epoch.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

SECOND = 1_000_000_000
PROMPT = SECOND  # a start within a second of its due is on time
SLACK = 2 * SECOND  # what a busy machine may add to anything
WINDOW = SECOND  # of a pace, what began so shortly before a kill need not be on the disk
ORPHANED = SECOND // 2  # so much later a command may say that it has begun
SETTLED = SECOND  # so long after it was ready, a daemon has recorded what it found

PACES = {
    "pace": 1,
    "thread": 1,
    "command": 1,
    "slow": 1,
    "flaky": 3,
    "first": 1,
    "report": 60,
    "minutely": 60,
}
CHAINS = {
    "second": "first",
    "third": "second",
    "mended": "flaky",
    "trailing": "slow",
    "laggard": "first",
    "last": "laggard",
}
DURABLE = ("report", "minutely", "loop")  # on the disk before they begin
CATCHUP = {name: pace if pace < 60 else 3600 for name, pace in PACES.items()}  # seconds
RETRIED = ("report",)  # by `if_interrupted`

OUTCOMES = {
    "completed": {""},
    "failed": {"error", "interrupted"},
    "cancelled": {"stopped"},
    "skipped": {"overlap", "backing-off", "shed", "upstream"},
    "missed": {"downtime", "stopped"},
}


class Life(NamedTuple):
    """One process: when it was started, ready (never, if killed before), told to end, and gone."""

    began: int
    ready: int | None
    told: int
    ended: int
    killed: bool


class Row(NamedTuple):
    """One line of the ledger."""

    task: str
    due: int
    attempt: int  # 0: it was not started
    status: str
    reason: str
    started: int | None
    ended: int | None
    number: int  # of the runs that it stands for
    last_due: int
    cause: str

    @property
    def run_id(self) -> str:
        seconds, fraction = divmod(self.due, SECOND)
        text = f"{self.task}-{datetime.fromtimestamp(seconds, UTC):%Y%m%dT%H%M%S}"
        text += f".{fraction:09}Z" if fraction else "Z"
        return text if self.attempt == 1 else f"{text}~{self.attempt}"


class Witnessed(NamedTuple):
    """A run that began, by its own word."""

    run_id: str
    at: int

    @property
    def task(self) -> str:
        return self.run_id.rpartition("-")[0]


class Story(NamedTuple):
    """What happened, and what the ledger makes of it."""

    lives: Sequence[Life]
    rows: Sequence[Row]
    witnessed: Sequence[Witnessed]

    def of(self, task: str) -> list[Row]:
        """By due and attempt."""
        return [row for row in self.rows if row.task == task]

    def dark(self, since: int, until: int) -> bool:
        """Whether nobody was up, or about to go, at some instant of ``[since, until]``."""
        edges = [(a.ended - WINDOW, (b.ready or b.ended) + SLACK) for a, b in pairwise(self.lives)]
        return any(start <= until and since <= end for start, end in edges)

    def killed_after(self, at: int) -> bool:
        """Whether a kill came so soon after an instant that what began then need not be on the disk."""
        return any(life.killed and at - ORPHANED <= life.ended <= at + WINDOW for life in self.lives)


def read_story(state: Path, witness: Path, lives: Sequence[Life]) -> Story:
    lines = [line.split() for line in witness.read_text("utf-8").splitlines()]
    return Story(lives, rows_of(state), [Witnessed(run_id, int(at)) for run_id, at in lines])


def rows_of(state: Path) -> list[Row]:
    """The rows by task, due and attempt, read from a copy: opening the file itself would mend it."""
    with tempfile.TemporaryDirectory() as directory:
        for file in state.glob("ledger.db*"):
            shutil.copy(file, directory)
        with closing(sqlite3.connect(Path(directory) / "ledger.db")) as connection:
            [[sound]] = connection.execute("PRAGMA integrity_check").fetchall()
            if sound != "ok":
                raise RuntimeError(f"the ledger is corrupt: {sound}")
            found = connection.execute(
                "SELECT name, due, attempt, status, reason, started, ended, count, coalesce(last_due, due),"
                " cause FROM runs JOIN tasks ON tasks.id = runs.task ORDER BY name, due, attempt"
            )
            return [Row(*row) for row in found]


def judge_at_rest(state: Path, life: Life) -> list[str]:
    """After a kill: what the life before had left running, this one had dealt with when it was settled."""
    rows = rows_of(state)
    if life.ready is None or life.ended < life.ready + SETTLED:
        return []
    # What waits may have been made up, and so be due a little before that.
    began = {"running": life.began, "queued": life.began - SLACK}
    left = [row for row in rows if (row.started or row.due) < began.get(row.status, 0)]
    begun = {(row.task, row.due) for row in rows if (row.started or 0) >= life.began}
    return [
        f"still {row.status} after a restart: {row}"
        for row in left
        if row.status == "running" or not any((task, row.due) in begun for task in _upstream(row.task))
    ]


def _upstream(task: str) -> Iterator[str]:
    """What it comes after, directly and further up: what was begun anew there is awaited here."""
    while task in CHAINS:
        task = CHAINS[task]
        yield task


def judge(story: Story) -> list[str]:
    """Everything that is wrong, when all is over."""
    problems = [*_words(story), *_beginnings(story), *_loops(story)]
    for task, pace in PACES.items():
        problems += _coverage(story, task, _grid(story, pace))
    for task, upstream in CHAINS.items():
        problems += _coverage(story, task, _settled(story, upstream))
        problems += _chain(story, task, upstream)
    for task in (*PACES, *CHAINS):
        problems += _attempts(story, task)
    return problems


def _words(story: Story) -> Iterator[str]:
    """Each row says something that can have happened."""
    for row in story.rows:
        if row.reason not in OUTCOMES.get(row.status, ()):
            yield f"no such outcome here: {row}"
        if row.status in OUTCOMES and (row.attempt == 0) != (row.status in ("skipped", "missed")):
            yield f"its attempt does not go with its status: {row}"
        if row.started is not None and row.started < row.due:
            yield f"began before it was due: {row}"
        if row.attempt == 1 and _late(row) > PROMPT + SLACK:
            yield f"began too late: {row}"
        latest = row.last_due + CATCHUP.get(row.task, 60) * SECOND
        if row.reason == "downtime" and not story.dark(row.due, latest):
            yield f"missed while the daemon was up: {row}"


def _late(row: Row) -> int:
    """How much longer than its catch-up lets it, a run was in starting."""
    if row.task not in CATCHUP or row.started is None:
        return 0
    return row.started - row.due - CATCHUP[row.task] * SECOND


def _grid(story: Story, pace: int) -> tuple[list[int], list[int]]:
    """What may have an outcome, and what must: from when the first daemon was ready to its last one's end."""
    first, last = story.lives[0], story.lives[-1]
    step = pace * SECOND
    dues = range(-(-first.began // step) * step, last.ended + 1, step)
    return list(dues), [due for due in dues if (first.ready or first.ended) <= due < last.told]


def _settled(story: Story, upstream: str) -> tuple[list[int], list[int]]:
    """The same of what comes after another task: each due of that one that came to its end."""
    grid, _ = _grid(story, PACES.get(upstream) or PACES[CHAINS[upstream]])
    dues: set[int] = set()
    for row in story.of(upstream):
        dues.update(_covered(row, grid))
    return sorted(dues), sorted(dues)


def _covered(row: Row, dues: Sequence[int]) -> Sequence[int]:
    return dues[bisect_left(dues, row.due) : bisect_right(dues, row.last_due)]


def _coverage(story: Story, task: str, dues: tuple[list[int], list[int]]) -> Iterator[str]:
    """Every due run has exactly one outcome, and nothing else has one."""
    allowed, required = dues
    rows = story.of(task)
    outcomes = Counter({row.due for row in rows if row.attempt})
    for row in rows:
        if row.attempt == 0:
            covered = _covered(row, allowed)
            outcomes.update(covered)
            if len(covered) != row.number:
                yield f"stands for {len(covered)} runs: {row}"
    yield from (f"{task} due {_iso(due)} has no outcome" for due in required if not outcomes[due])
    yield from (f"{task} due {_iso(due)} has {n} outcomes" for due, n in outcomes.items() if n > 1)
    yield from (f"{task} was not due {_iso(due)}" for due in sorted(outcomes.keys() - set(allowed)))


def _attempts(story: Story, task: str) -> Iterator[str]:
    """Attempts count from 1; only what failed is tried again, and what was interrupted where it is wished."""
    attempts: dict[int, list[Row]] = {}
    for row in story.of(task):
        if row.attempt:
            attempts.setdefault(row.due, []).append(row)
    for rows in attempts.values():
        if [row.attempt for row in rows] != list(range(1, len(rows) + 1)) or len(rows) > 2:
            yield f"these are no attempts: {rows}"
        for row in rows[:-1]:
            if row.status != "failed" or (row.reason == "interrupted" and task not in RETRIED):
                yield f"tried again: {row}"
        [*_, last] = rows
        if task in RETRIED and last.reason == "interrupted" and last.attempt == 1:
            yield f"interrupted, and not tried again: {last}"


def _beginnings(story: Story) -> Iterator[str]:
    """Nothing begins twice, and the ledger knows of all that began."""
    begun = {row.run_id: row for row in story.rows if row.attempt}
    seen: set[str] = set()
    lost = {each for each in story.witnessed if each.task not in DURABLE and story.killed_after(each.at)}
    for each in story.witnessed:
        if each.run_id in seen:
            yield f"began twice: {each}"
        if each in lost:
            continue
        seen.add(each.run_id)
        if each.run_id not in begun:
            yield f"began and is not in the ledger: {each}"
    words = {each.run_id for each in story.witnessed}
    for run_id, row in begun.items():
        if run_id not in words and row.status in ("completed", "failed") and row.reason != "interrupted":
            yield f"never began: {row}"


def _loops(story: Story) -> Iterator[str]:
    """In each life one loop from soon after its start, and no two at a time."""
    rows = [row for row in story.of("loop") if row.attempt]
    for before, after in pairwise(rows):
        if before.ended is None or after.started is None or after.started < before.ended:
            yield f"two loops at a time: {before} and {after}"
    for life in story.lives:
        mine = [row for row in rows if row.started is not None and life.began <= row.started <= life.ended]
        settled = life.ready is not None and life.ended - life.ready > SETTLED
        if len(mine) > 1 or (settled and not mine):
            yield f"{len(mine)} loops in the life from {_iso(life.began)} to {_iso(life.ended)}"


def _chain(story: Story, task: str, upstream: str) -> Iterator[str]:
    """What comes after a run that did not complete is not started."""
    completed = {row.due for row in story.of(upstream) if row.status == "completed"}
    for row in story.of(task):
        if row.attempt and row.due not in completed:
            yield f"started although its upstream did not complete: {row}"


def _iso(at: int) -> str:
    return datetime.fromtimestamp(at / SECOND, UTC).isoformat()
