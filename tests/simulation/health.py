"""Restarts by policy: a task's failures told over again, with a supervision of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.desk import POLICIES, Plan
from tests.simulation.exchange import SECOND
from tests.simulation.story import GRACE, PROMPT, Case, Start

_SETTLED = 60 * SECOND  # how long a loop must be up to be healthy again
_CAPS = {True: 30, False: 300}  # seconds, by whether the market trades


@dataclass
class _Health:
    """What supervision should think of a task."""

    failures: int = 0
    recent: list[int] = field(default_factory=list)
    parked_at: int | None = None
    looping: bool = False

    def failed(self, plan: Plan, at: int) -> bool:
        """Whether this is worth an alarm."""
        self.failures += 1
        policy = POLICIES.get(plan.restart)
        if policy is None:
            return False
        self.recent = [*(t for t in self.recent if t > at - policy.window * SECOND), at]
        if len(self.recent) < policy.burst or self.parked_at is not None:
            return False
        alarm = not self.looping
        if policy.then == "park":
            self.parked_at = at
        self.looping = True
        return alarm


def health(case: Case, cases: Mapping[str, Case]) -> Iterator[str]:
    """Everything that is wrong with how a task was tried again, parked, and taken up after a kill."""
    known = _Health()
    story, name = case.story, case.name
    following = {(row.due, row.attempt): row for row in case.rows}
    for at, _, kind, row in sorted(_history(case), key=lambda entry: entry[:2]):
        plan = story.epoch(at).desk.get(name)
        parked = known.parked_at
        if kind in ("reset", "healthy"):
            known = _Health()
        elif kind == "born":  # parked outlives a restart, nothing else does
            known = _Health(known.failures, [], parked) if parked is not None else _Health()
        elif kind == "start" and parked is not None and parked < at and row.cause != "manual":
            yield f"{row} began although the task was parked"
        elif kind == "skip" and parked is None:
            yield f"{row} was skipped although nothing had parked it"
        elif kind == "end" and plan is not None:
            if row.reason == "interrupted":
                yield from _interrupted(case, plan, row, at, following)
                continue
            if known.failed(plan, at):
                yield from _heard(case, cases, "page", at)
            yield from _tried_again(case, plan, row, at, known, following)
    yield from _attempts(case)
    yield from _followed(case)


def _history(case: Case) -> Iterator[tuple[int, int, str, Any]]:
    """What supervision hears of, with the time passed; at the same time the lower number goes first."""
    story, name = case.story, case.name
    for life in story.lives:
        yield life.began, 1, "born", None
    pairs = zip(story.epochs, story.epochs[1:], strict=False)
    resets = [after.passed for before, after in pairs if before.desk.get(name) != after.desk.get(name)]
    resets += [act.passed for act in story.acts if act.task == name and act.kind == "resume"]
    for at in resets:
        yield at, 3, "reset", None
    for row in case.begun:
        began, ended = case.span(row)
        yield began, 4, "start", row
        if row.status in ("completed", "failed"):
            yield ended, 5 if began == ended else 0, "healthy" if row.status == "completed" else "end", row
        if case.is_loop(row.due) and ended - began >= _SETTLED:
            yield began + _SETTLED, -1, "healthy", None
    for row in case.rows:
        if row.status == "skipped" and row.reason == "parked":
            at = story.passed(story.decided(row.due) - PROMPT, 0)
            # What waited behind a run is decided about when that has ended, and perhaps parked the task.
            ends = [ended for began, ended in map(case.span, case.begun) if began <= at < ended]
            yield max([at, *ends]), 2, "skip", row


def _tried_again(
    case: Case, plan: Plan, row: Any, at: int, known: _Health, rows: Mapping[tuple[int, int], Any]
) -> Iterator[str]:
    """After a backoff that doubles to its cap; or not, for a reason that can be seen."""
    story, name = case.story, case.name
    again = rows.get((row.due, row.attempt + 1))
    exchange = story.epoch(at).exchange
    cap = _CAPS[exchange.trading_at(row.ended)]
    delay = min(cap, 2 ** min(known.failures - 1, 20)) * SECOND
    clip = exchange.next_change(row.ended) - row.ended if plan.priority == "critical" else delay
    longest = min(delay, clip) + PROMPT
    wanted = plan.restart != "never" and known.parked_at is None
    if again is None or again.started is None:
        if wanted and not _excused(case, plan, row, at, at + longest):
            yield f"{row} was not tried again"
        return
    began = case.span(again)[0]
    meddled = story.stepped(at, began) or story.acted(name, at, began, "restart", "resume", "run-now")
    if story.redefined(name, at, began) or meddled:
        return  # a loop begins again by its new definition
    if not wanted:
        yield f"{again} was tried again although the policy says no"
    elif not min(delay * 3 // 4, clip) - PROMPT // 1000 <= began - at <= longest:
        yield f"{again} was tried again after {(began - at) / SECOND} s, not {delay / SECOND}"


def _excused(case: Case, plan: Plan, row: Any, at: int, until: int) -> bool:
    """Why a failed run may not have been tried again."""
    story, name = case.story, case.name
    exchange = story.epoch(at).exchange
    end = row.ended + until - at
    if plan.keep_running:
        span = exchange.span_at(plan.keep_running, row.ended)
        gone = span is None or span[0] != row.due or end >= span[1]
    else:
        appointment = bool(plan.at or plan.cron)
        gone = appointment and bool(exchange.flips_between(row.due, end))
    instead = any(at - GRACE <= start.passed <= until and start[:3] != row[:2] for start in _of(case, row))
    return (
        gone
        or instead
        or story.stepped(at - GRACE, until)
        or story.redefined(name, at - GRACE, until)
        or len({id(e.exchange) for e in story.epochs if at <= e.passed <= until}) > 0
        or any(since <= until and at <= end for since, end in story.pauses(name))
    )


def _of(case: Case, row: Any) -> Iterator[Start]:
    """The starts of other runs of the task."""
    for other in case.before(row.due + 86_400 * SECOND, 300):
        start = case.start(other)
        if start is not None and other.due != row.due:
            yield start


def _interrupted(
    case: Case, plan: Plan, row: Any, at: int, rows: Mapping[tuple[int, int], Any]
) -> Iterator[str]:
    """Once more, if that is asked for and not too late."""
    story = case.story
    again = rows.get((row.due, row.attempt + 1))
    if plan.keep_running or row.cause == "manual":
        return
    if again is not None and plan.if_interrupted == "leave":
        yield f"{again} was tried again although it is to be left"
    exchange, there = story.epoch(at).exchange, story.wall(at)
    in_time = there <= exchange.latest_start(plan, row.due) and not exchange.flips_between(row.due, there)
    wanted = plan.if_interrupted == "retry" and row.cause != "interrupted" and in_time
    busy = any(abs(start.passed - at) <= PROMPT for start in _of(case, row))
    paused = any(since <= at <= until for since, until in story.pauses(case.name))
    if wanted and again is None and not busy and not paused:
        yield f"{row} was not tried again although that is asked for"


def _attempts(case: Case) -> Iterator[str]:
    """Attempts count from 1, and go on only after a failure or for someone's sake."""
    known = {(row.due, row.attempt): row for row in case.begun}
    for row in case.begun:
        before = known.get((row.due, row.attempt - 1))
        if row.attempt > 1 and before is None:
            yield f"{row} does not follow an attempt"
        elif before is not None and before.status == "completed" and not case.is_loop(row.due):
            yield f"{row} was tried again after it had completed"
        elif before is not None and before.reason in ("operator", "superseded") and not case.is_loop(row.due):
            yield f"{row} was tried again after {before}"


def _heard(case: Case, cases: Mapping[str, Case], listener: str, at: int) -> Iterator[str]:
    """An alarm has its `on` run at the instant at which it is given."""
    story = case.story
    if listener not in cases or listener == case.name:
        return
    wall = story.wall(at)
    rows = cases[listener].rows
    if not any(row.due - PROMPT <= wall <= (row.last_due or row.due) + PROMPT for row in rows):
        yield f"nobody was paged at {wall}"


def _followed(case: Case) -> Iterator[str]:
    """Whoever restarts with another task is restarted whenever that one is tried again."""
    story = case.story
    leaders = [start for start in story.starts if start.attempt > 1]
    for start in leaders:
        plan = story.epoch(start.passed).desk.get(case.name)
        if plan is None or plan.restart_with != start.task:
            continue
        for row in case.begun:
            began, ended = case.span(row)
            reborn = any(life.began - PROMPT <= start.passed <= life.began + PROMPT for life in story.lives)
            if began < start.passed < ended - GRACE and not reborn:
                yield f"{row} went on although {start.task} was restarted"
