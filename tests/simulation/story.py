"""What really happened, as the simulation saw it, and what the ledger says. Imports nothing of the scheduler.

Two kinds of time: ``passed`` never steps and counts from the beginning; ``wall`` is what the clock showed.
Both are nanoseconds.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from tests.simulation.desk import Plan
from tests.simulation.exchange import SECOND, Exchange

PROMPT = SECOND  # later than this is late, and the catch-up decides
SEEN = 16 * SECOND  # a step of the clock is noticed by then
GRACE = 8 * SECOND  # a run that is stopped has ended by then

Key = tuple[str, int, int]  # task, due, attempt


class Start(NamedTuple):
    """A run that really began, by its own word."""

    task: str
    due: int
    attempt: int
    wall: int
    passed: int


class Life(NamedTuple):
    """One process, in time passed."""

    began: int
    ended: int | None
    crashed: bool
    recorded: int | None = None  # of a crash: what was recorded until then was on the disk


class Epoch(NamedTuple):
    """The tasks and the calendar in force from an instant on."""

    passed: int
    desk: Mapping[str, Plan]
    exchange: Exchange


class Act(NamedTuple):
    """What an operator did: run-now, pause, resume, restart, cancel."""

    passed: int
    kind: str
    task: str


class Lag(NamedTuple):
    """The loop lagged by so many seconds from one instant to another, in time passed."""

    since: int
    until: int
    mean: float


class Term(NamedTuple):
    """One definition of a task on one calendar, in force for what is due in ``[since, until)``."""

    since: int
    until: int
    plan: Plan
    exchange: Exchange


@dataclass
class Story:
    """What really happened, and what the ledger says (its rows, as the reader gives them)."""

    seed: int
    begin: int
    starts: Sequence[Start]
    ends: Mapping[Key, int]  # when a run was over by its own word, in time passed
    lives: Sequence[Life]
    steps: Sequence[tuple[int, int]]  # time passed, by how much the wall clock was stepped
    rows: Sequence[Any]
    epochs: Sequence[Epoch]
    acts: Sequence[Act] = field(default_factory=tuple)
    lags: Sequence[Lag] = field(default_factory=tuple)

    def wall(self, passed: int) -> int:
        """What the clock on the wall showed."""
        return self.begin + passed + sum(by for at, by in self.steps if at <= passed)

    def latest(self, passed: int) -> int:
        """The latest instant that it had shown by then."""
        peaks = [self.wall(at) - by for at, by in self.steps if at <= passed]
        return max([self.wall(passed), *peaks])

    def passed(self, wall: int, after: int) -> int:
        """When the clock showed this, at or after a time passed."""
        edges = [after, *(at for at, _ in self.steps if at > after)]
        for start, end in zip(edges, [*edges[1:], 1 << 62], strict=True):
            at = start + wall - self.wall(start)
            if start <= at < end:
                return at
            if at < start != after and wall > self.wall(start) - dict(self.steps)[start]:
                return start  # when the clock jumped over it
        return after

    def down(self, passed: int) -> bool:
        """Whether nobody was up, or about to go."""
        return not any(life.began <= passed < (life.recorded or life.ended or 0) for life in self.lives)

    def stepped(self, a: int, b: int) -> bool:
        """Whether the clock was stepped, or nobody was up, within ``[a, b]`` of time passed."""
        return any(a <= at <= b + SEEN for at, _ in self.steps) or any(
            a <= life.began <= b or a <= (life.ended or 0) <= b for life in self.lives
        )

    @cached_property
    def until(self) -> int:
        """Up to here everything due had to be dealt with."""
        ended = self.lives[-1].ended
        assert ended is not None
        return self.latest(ended)

    @cached_property
    def started(self) -> dict[Key, Start]:
        return {start[:3]: start for start in self.starts}

    @cached_property
    def shed(self) -> list[tuple[str, int, int]]:
        """Which priority was shed from when to when: above its threshold, until at half of it."""
        found = []
        for priority, threshold in (("important", 1.0), ("nice-to-have", 0.25)):
            before: Lag | None = None
            was = False
            for lag in self.lags:
                goes_on = was and before is not None and before.until == lag.since
                was = lag.mean > (threshold / 2 if goes_on else threshold)
                before = lag
                if was:
                    found.append((priority, lag.since, lag.until))
        return found

    # Where nobody looked.

    @cached_property
    def dark(self) -> list[tuple[int, int]]:
        """Where a due run may have been missed: nobody was up, or the clock jumped over it. On the wall."""
        found = []
        for life, following in zip(self.lives, [*self.lives[1:], None], strict=True):
            assert life.ended is not None
            since = life.ended if life.recorded is None else life.recorded
            reborn = self.wall(following.began) if following is not None else 1 << 62
            found.append((self.latest(since), reborn))
        for at, _ in self.steps:
            if self.wall(at) + SEEN > self.latest(at - 1):
                found.append((self.latest(at - 1), self.wall(at) + SEEN))
        return sorted(found)

    def in_the_dark(self, a: int, b: int) -> bool:
        """Whether no part of ``[a, b]`` was seen by a daemon that knew the time."""
        reach = a
        for start, end in self.dark:
            if start <= reach <= end:
                reach = max(reach, end)
        return reach >= b and any(start <= a <= end for start, end in self.dark)

    def disturbed(self, a: int, b: int) -> bool:
        """Whether any part of ``[a, b]`` was dark."""
        return any(start <= b and a <= end for start, end in self.dark)

    def decided(self, due: int) -> int:
        """The latest instant by which what was due then had been looked at."""
        for start, end in self.dark:
            if start <= due <= end:
                due = end
        return due + PROMPT

    # What was in force.

    def terms(self, name: str) -> list[Term]:
        """The definitions of a task one after the other."""
        found: list[Term] = []
        for epoch, following in zip(self.epochs, [*self.epochs[1:], None], strict=True):
            if name in epoch.desk:
                since = self.wall(epoch.passed) + (epoch.passed > 0)
                until = self.until + GRACE if following is None else self.wall(following.passed) + 1
                found.append(Term(since, until, epoch.desk[name], epoch.exchange))
        return found

    def epoch(self, passed: int) -> Epoch:
        return [epoch for epoch in self.epochs if epoch.passed <= passed][-1]

    def redefined(self, name: str, a: int, b: int) -> bool:
        """Whether the task was changed, added or removed within ``[a, b]`` of time passed."""
        return any(
            a <= after.passed <= b and before.desk.get(name) != after.desk.get(name)
            for before, after in zip(self.epochs, self.epochs[1:], strict=False)
        )

    def acted(self, name: str, a: int, b: int, *kinds: str) -> bool:
        """Whether an operator did something of this kind to the task within ``[a, b]`` of time passed."""
        return any(act.task == name and act.kind in kinds and a <= act.passed <= b for act in self.acts)

    def pauses(self, name: str) -> list[tuple[int, int]]:
        """From when to when a task was paused, in time passed."""
        found: list[tuple[int, int]] = []
        since: int | None = None
        ends = {"resume"}
        marks = [(act.passed, act.kind) for act in self.acts if act.task == name]
        marks += [(e.passed, "resume") for e in self.epochs if name not in e.desk]
        for at, kind in sorted(marks):
            if kind == "pause" and since is None:
                since = at
            elif kind in ends and since is not None:
                found.append((since, at))
                since = None
        return found if since is None else [*found, (since, 1 << 62)]


class Case:
    """One task: its rows, by due and attempt, and what it should have done."""

    def __init__(self, story: Story, name: str, rows: list[Any]) -> None:
        self.story = story
        self.name = name
        self.rows = rows
        self.terms = story.terms(name)
        self.begun = [row for row in rows if row.attempt > 0]
        self._dues = [row.due for row in rows]
        self._begun_dues = [row.due for row in self.begun]
        manual = {row.due for row in rows if row.cause == "manual"}
        self.dues_by_hand = manual - set(self.clock_dues())
        self._allowed: list[int] | None = None

    def term(self, due: int) -> Term:
        """What was in force for what is due at an instant; the nearest where nothing was."""
        return next((term for term in self.terms if due < term.until), self.terms[-1])

    def is_loop(self, due: int) -> bool:
        return bool(self.term(due).plan.keep_running)

    def by_hand(self, row: Any) -> bool:
        """Whether the run is due because an operator asked for it; a loop in its stretch is run for that."""
        return row.due in self.dues_by_hand

    def start(self, row: Any) -> Start | None:
        return self.story.started.get((row.task, row.due, row.attempt))

    def span(self, row: Any) -> tuple[int, int]:
        """When a run began and when it ended, in time passed."""
        start, end = self.start(row), self.story.ends.get((row.task, row.due, row.attempt))
        began = self.story.passed(row.started, 0) if start is None else start.passed
        if end is None:
            end = self.story.passed(row.ended, began) if row.ended is not None else 1 << 62
        return began, end

    def of(self, due: int) -> list[Any]:
        """The rows of one due, by attempt."""
        return self.rows[bisect_left(self._dues, due) : bisect_right(self._dues, due)]

    def before(self, due: int, count: int) -> list[Any]:
        """The last runs begun that were due before."""
        at = bisect_left(self._begun_dues, due)
        return self.begun[max(0, at - count) : at]

    def clock_dues(self) -> list[int]:
        """What the clock made due."""
        return sorted({
            due for since, until, plan, exchange in self.terms
            for due in exchange.dues(self.name, plan, since, until)
        })  # fmt: skip

    def allowed(self, cases: Mapping[str, Case]) -> list[int]:
        """Every due that may have an outcome."""
        if self._allowed is None:
            found = set(self.clock_dues())
            for since, _, plan, exchange in self.terms:
                if plan.keep_running:  # defined in mid-stretch, it is run for the whole of it
                    span = exchange.span_at(plan.keep_running, since)
                    found |= {span[0]} if span else set()
                    self.dues_by_hand -= found
                elif plan.on:  # by law 2 an event's run is due when it happens
                    found |= {row.due for row in self.rows if row.cause == "event"}
                    for row in self.rows:
                        if row.last_due is not None:
                            found.add(row.last_due)
                elif plan.after is not None:
                    found |= cases[plan.after].outcome_dues(cases)
            self._allowed = sorted(found)
        return self._allowed

    def required(self, cases: Mapping[str, Case]) -> list[int]:
        """Every due that must have an outcome."""
        if all(term.plan.after is None for term in self.terms):
            return [due for due in self.clock_dues() if due < self.story.until]
        found = set()
        for since, until, plan, _ in self.terms:
            upstream = cases[plan.after or ""]
            for row in upstream.rows:
                ended = row.ended if row.ended is not None else self.story.decided(reach(row))
                if since <= row.due and since < ended < until:
                    found |= {row.due, *upstream.covered(row, upstream.allowed(cases))}
        return sorted(found)

    def outcome_dues(self, cases: Mapping[str, Case]) -> set[int]:
        """Each due that came to its end, skipped and missed ones included."""
        allowed = self.allowed(cases)
        return {due for row in self.rows for due in (row.due, *self.covered(row, allowed))}

    def covered(self, row: Any, ticks: Sequence[int]) -> Sequence[int]:
        return ticks[bisect_left(ticks, row.due) : bisect_right(ticks, reach(row))]


def reach(row: Any) -> int:
    """The last due of a stretch."""
    return int(row.due if row.last_due is None else row.last_due)
