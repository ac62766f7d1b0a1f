"""Judges a ledger. It imports nothing of the scheduler and takes nothing of the ledger on trust.

In the manner of Jepsen's test of Chronos: work out what had to run, look at what did, and name every
difference. ``check`` returns sentences; an innocent ledger has none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from tests.simulation.conduct import conduct
from tests.simulation.health import health
from tests.simulation.story import PROMPT, Case, Key, Start, Story

_PRIORITIES = ("critical", "important", "nice-to-have")


def check(story: Story) -> list[str]:
    """Everything that is wrong."""
    problems = [*_starts(story), *_order(story)]
    odd = [row for row in story.rows if row.attempt > 0 and row.started is None]
    if odd:
        return [*problems, *(f"{row} never began" for row in odd)]
    cases: dict[str, Case] = {}
    for name in sorted({name for epoch in story.epochs for name in epoch.desk}):
        cases[name] = Case(story, name, sorted((r for r in story.rows if r.task == name), key=_by_due))
    strangers = {row.task for row in story.rows} - cases.keys()
    problems += [f"{name} is no task" for name in sorted(strangers)]
    for name, case in cases.items():
        found = [*_coverage(case, cases), *conduct(case, cases), *health(case, cases)]
        problems += [f"{name}: {message}" for message in found]
    return problems


def _by_due(row: Any) -> tuple[int, int]:
    return row.due, row.attempt


def _starts(story: Story) -> Iterator[str]:
    """Nothing starts twice, nothing before its due, and the ledger knows of each start."""
    known = {(row.task, row.due, row.attempt): row for row in story.rows}
    lost = {start for start in story.starts if _lost(story, start)}
    for key, times in Counter(start[:3] for start in story.starts if start not in lost).items():
        if times > 1:
            yield f"{key} was started {times} times"
    for start in story.starts:
        if story.latest(start.passed) < start.due - 10:  # a run by hand may be due right after another
            yield f"{start} began before its due"
        row = known.get(start[:3])
        if start in lost:
            continue
        if row is None:
            yield f"{start} is not in the ledger"
        elif row.started is None or not (0 <= start.wall - row.started <= PROMPT or _went_back(start, row)):
            yield f"{start} began when the ledger says {row.started}"
    yield from _never_begun(story, known)


def _went_back(start: Start, row: Any) -> bool:
    """By the clock it ended before it had begun: then it has begun by that clock."""
    return row.ended is not None and row.started <= row.ended < start.wall


def _never_begun(story: Story, known: dict[Key, Any]) -> Iterator[str]:
    """The ledger knows of no run that did not begin, unless it was cut off before its first step."""
    begun = {start[:3] for start in story.starts}
    for key, row in known.items():
        cut = row.status == "cancelled" or row.reason == "interrupted"
        if row.attempt > 0 and key not in begun and not cut:
            yield f"{row} never began"


def _lost(story: Story, start: Any) -> bool:
    """Whether a run that need not be on record before it begins was under way when a kill came."""
    plan = story.epoch(start.passed).desk.get(start.task)
    return (plan is None or not plan.durable) and any(
        life.recorded is not None and life.ended is not None and life.recorded <= start.passed <= life.ended
        for life in story.lives
    )


def _order(story: Story) -> Iterator[str]:
    """Due together and begun in time: by priority, then name."""
    for before, after in pairwise(story.starts):
        if before.due != after.due or before.passed != after.passed or before.attempt + after.attempt > 2:
            continue
        desk = story.epoch(after.passed).desk
        plans = desk.get(before.task), desk.get(after.task)
        ranks = [
            (_PRIORITIES.index(plan.priority), start.task)
            for plan, start in zip(plans, (before, after), strict=True)
            if plan is not None and plan.every is not None and not plan.sync
        ]
        if len(ranks) == 2 and ranks[0] > ranks[1]:
            yield f"{before} began before {after}"


def _coverage(case: Case, cases: dict[str, Case]) -> Iterator[str]:
    """Every due run has one outcome, and nothing else has."""
    allowed = case.allowed(cases)
    rows = case.rows
    yield from _by_hand(case)
    rows = [row for row in rows if not case.by_hand(row)]
    begun = {row.due for row in rows if row.attempt > 0}
    outcomes: Counter[int] = Counter(begun)
    for row in rows:
        # A loop is run after all when it is resumed in its stretch, and what was missed because the
        # scheduler stopped may be made up by the next one.
        in_the_end = case.is_loop(row.due) or (row.status, row.reason, row.count) == ("missed", "stopped", 1)
        if row.attempt == 0 and not (row.due in begun and in_the_end):
            covered = case.covered(row, allowed)
            outcomes.update(covered)
            if len(covered) != row.count and not case.term(row.due).plan.on:
                yield f"{row} counts {row.count} runs where {len(covered)} were due"
    for due in case.required(cases):
        if outcomes[due] == 0:
            yield f"due {due} has no outcome"
    for due, number in outcomes.items():
        if number > 1:
            yield f"due {due} has {number} outcomes"
    for due in sorted(begun - set(allowed)):
        yield f"{due} was not due"


def _by_hand(case: Case) -> Iterator[str]:
    """Each run that an operator asked for, at the instant at which it was asked for, and no other."""
    story = case.story
    asked = [act.passed for act in story.acts if act.task == case.name and act.kind == "run-now"]
    dues = sorted({row.due for row in case.rows if case.by_hand(row)})
    for passed in asked:
        is_loop = story.epoch(passed).desk[case.name].keep_running  # which is run for the stretch it is in
        if not is_loop and not any(story.wall(passed) <= due <= story.latest(passed) + 10 for due in dues):
            yield f"nothing came of the run asked for at {story.wall(passed)}"
    for due in dues:
        if not any(story.wall(passed) <= due <= story.latest(passed) + 10 for passed in asked):
            yield f"nobody asked for a run at {due}"
