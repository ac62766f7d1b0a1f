"""Judges a ledger. It imports nothing of the scheduler and takes nothing of the ledger on trust.

In the manner of Jepsen's test of Chronos: work out what had to run, look at what did, and name every
difference. ``check`` returns sentences; an innocent ledger has none.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

from tests.simulation.desk import DESK, Plan, ordeal
from tests.simulation.exchange import SECOND, dues, flips_between, stretches, trading_at

PROMPT = SECOND  # later than this is late, and the catch-up decides
SEEN = 16 * SECOND  # a step of the clock is noticed by then
GRACE = 8 * SECOND  # a run that is stopped has ended by then


class Start(NamedTuple):
    """A run that really began, by its own word; ``passed`` is the time since the beginning."""

    task: str
    due: int
    attempt: int
    wall: int
    passed: int


class Life(NamedTuple):
    """One process, in time passed since the beginning."""

    began: int
    ended: int | None
    crashed: bool


@dataclass
class Story:
    """What really happened, and what the ledger says (its rows, as the reader gives them)."""

    seed: int
    begin: int
    starts: Sequence[Start]
    lives: Sequence[Life]
    steps: Sequence[tuple[int, int]]  # time passed, by how much the wall clock was stepped
    rows: Sequence[Any]

    def wall(self, passed: int) -> int:
        """What the clock on the wall showed."""
        return self.begin + passed + sum(by for at, by in self.steps if at <= passed)

    def latest(self, passed: int) -> int:
        """The latest instant that it had shown by then."""
        peaks = [self.wall(at) - by for at, by in self.steps if at <= passed]
        return max([self.wall(passed), *peaks])

    @cached_property
    def until(self) -> int:
        """Up to here everything due had to be dealt with."""
        ended = self.lives[-1].ended
        assert ended is not None
        return self.latest(ended)

    @cached_property
    def dark(self) -> list[tuple[int, int]]:
        """Where a due run may have been missed: nobody was up, or the clock jumped over it."""
        found = []
        for life, following in zip(self.lives, [*self.lives[1:], None], strict=True):
            assert life.ended is not None
            reborn = self.wall(following.began) if following is not None else 1 << 62
            found.append((self.wall(life.ended), reborn))
        for at, by in self.steps:
            if by > 0:
                found.append((self.wall(at) - by, self.wall(at) + SEEN))
        return found

    def in_the_dark(self, a: int, b: int) -> bool:
        """Whether no part of ``[a, b]`` was seen by a daemon that knew the time."""
        reach = a
        for start, end in sorted(self.dark):
            if start <= reach <= end:
                reach = max(reach, end)
        return reach >= b and any(start <= a <= end for start, end in self.dark)

    def disturbed(self, a: int, b: int) -> bool:
        """Whether any part of ``[a, b]`` was dark."""
        return any(start <= b and a <= end for start, end in self.dark)


def check(story: Story) -> list[str]:
    """Everything that is wrong."""
    problems = list(_starts(story))
    by_task: dict[str, list[Any]] = {name: [] for name in DESK}
    for row in story.rows:
        by_task[row.task].append(row)
    for name, plan in DESK.items():
        rows = sorted(by_task[name], key=lambda row: (row.due, row.attempt))
        problems += [f"{name}: {message}" for message in _task(story, name, plan, rows, by_task)]
    return problems


def _starts(story: Story) -> Iterator[str]:
    """Nothing starts twice, nothing before its due, and the ledger knows of each start."""
    known = {(row.task, row.due, row.attempt): row for row in story.rows}
    crashes = [life.ended for life in story.lives if life.crashed]
    for key, times in Counter(start[:3] for start in story.starts).items():
        if times > 1:
            yield f"{key} was started {times} times"
    for start in story.starts:
        if story.latest(start.passed) < start.due:
            yield f"{start} began before its due"
        row = known.get(start[:3])
        if row is None:
            yield f"{start} is not in the ledger"
        elif row.started is None or not 0 <= start.wall - row.started <= PROMPT:
            yield f"{start} began when the ledger says {row.started}"
    begun = {start[:3] for start in story.starts}
    for key, row in known.items():
        cut = row.status in ("failed", "cancelled") and row.reason in ("interrupted", "stopped", "superseded")
        if row.attempt > 0 and key not in begun and not (cut and (crashes or row.reason != "interrupted")):
            yield f"{row} never began"


def _task(
    story: Story, name: str, plan: Plan, rows: list[Any], by_task: dict[str, list[Any]]
) -> Iterator[str]:
    expected = dues(plan, story.begin, story.until)
    if plan.after is not None:
        expected = sorted(_ended_dues(by_task[plan.after]))
    elif plan.on:
        expected = sorted({row.due for row in rows})  # by law 2 an event's run is due when it happens
    yield from _coverage(plan, rows, expected, story.begin)
    begun = [row for row in rows if row.attempt > 0]
    for row in rows:
        if row.status in ("queued", "running"):
            yield f"{row} has no outcome"
        elif row.status == "missed" and not story.in_the_dark(row.due, _reach(row)):
            ends = [other.ended for other in by_task.get(plan.after or "", ()) if other.due == row.due]
            if not any(end is not None and story.in_the_dark(end, end) for end in ends):
                yield f"{row} was missed although somebody was there"
        elif row.status == "skipped":
            yield from _skip(plan, row, begun[: bisect_left(begun, row.due, key=lambda other: other.due)])
        if row.attempt > 0:
            yield from _conduct(story, plan, row)
    yield from _attempts(story, plan, rows)


def _ended_dues(rows: list[Any]) -> set[int]:
    """Each due of an upstream task that came to its end, skipped and missed ones included."""
    ticks = dues(DESK[rows[0].task], min(row.due for row in rows), max(map(_reach, rows)) + 1) if rows else []
    return {due for row in rows for due in _covered(row, ticks)}


def _reach(row: Any) -> int:
    return int(row.due if row.last_due is None else row.last_due)


def _covered(row: Any, ticks: Sequence[int]) -> Sequence[int]:
    return ticks[bisect_left(ticks, row.due) : bisect_right(ticks, _reach(row))]


def _coverage(plan: Plan, rows: list[Any], expected: list[int], begin: int) -> Iterator[str]:
    """Every due run has one outcome, and nothing else has."""
    outcomes: Counter[int] = Counter({row.due: 1 for row in rows if row.attempt > 0})
    for row in rows:
        if row.attempt == 0:
            covered = _covered(row, expected)
            outcomes.update(covered)
            if len(covered) != row.count:
                yield f"{row} counts {row.count} runs where {len(covered)} were due"
    for due in expected:
        if outcomes[due] != 1:
            yield f"due {due} has {outcomes[due]} outcomes"
    for due in sorted(outcomes.keys() - set(expected)):
        in_mid_stretch = any(start == due < begin < end for start, end in stretches(plan.keep_running))
        if not in_mid_stretch:
            yield f"{due} was not due"


def _conduct(story: Story, plan: Plan, row: Any) -> Iterator[str]:
    """A run began in time, and ended as it was fated to, or as someone made it end."""
    late = row.started - row.due
    clock_driven = plan.after is None and not plan.on
    if row.attempt == 1 and clock_driven and late > PROMPT and not plan.keep_running:
        if late > plan.catchup * SECOND + PROMPT:
            yield f"{row} began {late / SECOND} s late"
        if flips_between(row.due, row.started):
            yield f"{row} began beyond its stretch of the day"
        waits = plan.overlap != "skip"
        if not waits and not story.disturbed(row.due, row.started):
            yield f"{row} began {late / SECOND} s late for no reason"
    if plan.at and flips_between(row.due, row.started):
        yield f"{row} is an appointment that was kept after its time"
    if plan.keep_running and not any(
        a == row.due and row.started < b for a, b in stretches(plan.keep_running)
    ):
        yield f"{row} began outside of its phases"
    yield from _ending(story, plan, row)


def _ending(story: Story, plan: Plan, row: Any) -> Iterator[str]:
    fate, seconds = ordeal(story.seed, row.task, row.due, row.attempt)
    ended = (row.status, row.reason)
    made = {("failed", "interrupted"), ("cancelled", "stopped")}
    if plan.overlap == "cancel-previous":
        made.add(("cancelled", "superseded"))
    if plan.keep_running:
        made.add(("completed", "phase-ended"))
    if ended in made:
        return
    allowed = {
        "ok": ("completed", ""),
        "slow": ("completed", ""),
        "stray": ("completed", ""),
        "raise": ("failed", "error"),
        "key-error": ("failed", "error"),
        "exit": ("failed", "error"),
        "hang": ("failed", "timeout"),
        "stubborn": ("failed", "timeout"),
    }
    if ended != allowed[fate]:
        yield f"{row} ended so although its fate was {fate}"
    if ended == ("failed", "error") and not row.error:
        yield f"{row} has no error"
    if fate in ("hang", "stubborn") and plan.timeout is not None:
        seconds = plan.timeout
    stepped = any(abs(row.ended - row.started) > abs(by) // 2 for _, by in story.steps) and bool(story.steps)
    if not plan.keep_running and not stepped and row.ended - row.started > int(seconds * SECOND) + GRACE:
        yield f"{row} took {(row.ended - row.started) / SECOND} s of {seconds}"


def _skip(plan: Plan, row: Any, earlier: list[Any]) -> Iterator[str]:
    """A run was skipped for a reason that can be seen in the runs due before it."""
    if row.reason == "upstream":
        if plan.after is None:
            yield f"{row} has no upstream"
    elif row.reason == "overlap":
        if not any(other.started <= row.due and _end(other) >= row.due for other in earlier[-8:]):
            yield f"{row} was skipped although nothing ran"
    elif row.reason == "backing-off":
        if plan.restart == "never" or not any(other.status == "failed" for other in earlier[-6:]):
            yield f"{row} was skipped although nothing had failed"
    elif row.reason == "parked":
        failed = [other.ended for other in earlier[-20:] if other.status == "failed"]
        burst = any(c - a < 600 * SECOND + PROMPT for a, c in zip(failed, failed[2:], strict=False))
        if plan.restart != "on-failure" or not burst:
            yield f"{row} was skipped without a burst of failures"
    elif row.reason != "no-slot" or plan.overlap != "queue-one":
        yield f"{row} was skipped for a reason that nobody gave it"


def _end(row: Any) -> int:
    return int(row.ended if row.ended is not None else 1 << 62)


def _attempts(story: Story, plan: Plan, rows: list[Any]) -> Iterator[str]:
    """Attempts count from 1, each after a failure and a backoff."""
    for before, after in pairwise(rows):
        if after.attempt > 1 and (after.due, after.attempt) != (before.due, before.attempt + 1):
            yield f"{after} does not follow an attempt"
        if after.attempt <= 1 or after.due != before.due or before.attempt == 0:
            continue
        again = plan.keep_running or (before.status == "failed" and plan.restart != "never")
        if not again:
            yield f"{after} was tried again after {before.status}"
        gap = after.started - before.ended
        if (plan.keep_running and before.status != "failed") or before.reason == "interrupted":
            continue  # taken up again by the next daemon
        cap = 30 if trading_at(before.ended) else 300
        if not story.disturbed(before.ended, after.started) and not story.steps:
            clipped = plan.priority == "critical" and gap >= 0
            if gap < SECOND * 3 // 4 - 1 and not clipped:
                yield f"{after} was tried again after {gap} ns"
            if gap > cap * SECOND + PROMPT:
                yield f"{after} was tried again after {gap / SECOND} s"
