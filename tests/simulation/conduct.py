"""How each run was treated: begun in time, ended as it had to, left out for a reason that can be seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.simulation.desk import Plan, ordeal
from tests.simulation.exchange import SECOND, Exchange
from tests.simulation.story import GRACE, PROMPT, SEEN, Case, Story, reach

_ENDS = {
    "ok": ("completed", ""),
    "slow": ("completed", ""),
    "stray": ("completed", ""),
    "raise": ("failed", "error"),
    "key-error": ("failed", "error"),
    "exit": ("failed", "error"),
    "hang": ("failed", "timeout"),
    "stubborn": ("failed", "timeout"),
}


def conduct(case: Case, cases: Mapping[str, Case]) -> Iterator[str]:
    """Everything that is wrong with the rows of a task, one by one."""
    pauses = case.story.pauses(case.name)
    for row in case.rows:
        if row.status in ("queued", "running"):
            yield f"{row} has no outcome"
        elif row.status == "missed":
            yield from _missed(case, cases, row)
        elif row.status == "skipped":
            yield from _skipped(case, cases, row, pauses)
        if row.attempt > 0:
            yield from _begun(case, cases, row)
            yield from _barred(case, row, pauses)
        if row.attempt > 0 and row.ended is not None:
            yield from _ended(case, row)


# What began.


def _begun(case: Case, cases: Mapping[str, Case], row: Any) -> Iterator[str]:
    """A run began in time."""
    plan = case.term(row.due).plan
    if case.by_hand(row):
        return
    exchange = case.story.epoch(case.span(row)[0]).exchange  # by the calendar as it was then
    if plan.at and exchange.flips_between(row.due, row.started):
        yield f"{row} is an appointment that was kept after its time"
    if plan.after is not None and row.attempt == 1 and row.cause == "after":
        yield from _came_after(case, cases[plan.after], row)
    if plan.keep_running:
        yield from _in_its_stretch(case, row)
    elif row.attempt == 1 and plan.clock_driven and row.started > row.due + PROMPT:
        yield from _late(case, plan, exchange, row)


def _late(case: Case, plan: Plan, exchange: Exchange, row: Any) -> Iterator[str]:
    """What begins late is made up, within its bounds, and is the newest."""
    late = f"{(row.started - row.due) / SECOND} s late"
    latest = max(each.latest_start(plan, row.due) for each in (exchange, case.term(row.due).exchange))
    if row.started > latest + PROMPT:
        yield f"{row} began {late}"
    if exchange.flips_between(row.due, row.started):
        yield f"{row} began beyond its stretch of the day"
    if plan.overlap == "skip":
        if not case.story.disturbed(row.due, row.started):
            yield f"{row} began {late} for no reason"
        if exchange.dues(case.name, plan, row.due + 1, row.started - PROMPT):
            yield f"{row} was made up although it was not the newest"


def _came_after(case: Case, upstream: Case, row: Any) -> Iterator[str]:
    """Right after a run that completed."""
    story = case.story
    done = [other for other in upstream.of(row.due) if other.status == "completed"]
    if not done:
        yield f"{row} came after nothing"
    for other in done:
        ended, began = upstream.span(other)[1], case.span(row)[0]
        reborn = any(ended <= life.began <= began for life in story.lives)
        if not -PROMPT <= began - ended <= PROMPT and not reborn and not story.stepped(ended, began):
            yield f"{row} came {(began - ended) / SECOND} s after {other}"


def _in_its_stretch(case: Case, row: Any) -> Iterator[str]:
    """A loop is up only while its phases last."""
    story = case.story
    began, ended = case.span(row)
    epoch = story.epoch(began)
    plan = epoch.desk.get(case.name)
    span = epoch.exchange.span_at(plan.keep_running, row.started) if plan else None
    if span is None or (span[0] != row.due and len(story.epochs) == 1):
        yield f"{row} began outside of its phases"
    elif ended > (end := story.passed(span[1], began) + GRACE) and not story.stepped(began, end):
        if story.epoch(end) == epoch:
            yield f"{row} outlived its phases"
    elif row.reason == "phase-ended" and story.epoch(ended) == epoch and row.ended < span[1]:
        yield f"{row} ended with a phase that had not ended"


def _barred(case: Case, row: Any, pauses: list[tuple[int, int]]) -> Iterator[str]:
    """Nothing begins while it is paused or shed, but what an operator asks for."""
    start = case.start(row)
    if start is None or row.cause == "manual":
        return
    at = start.passed
    plan = case.story.epoch(at).desk.get(case.name)
    ended = case.span(row)[1]
    if any(since < at < until for since, until in pauses):
        yield f"{row} began while the task was paused"
    if plan is not None and plan.keep_running and any(at < since < ended - GRACE for since, _ in pauses):
        yield f"{row} went on although the task was paused"
    if plan is not None and row.attempt == 1 and not plan.keep_running and _shed(case.story, plan, at, at):
        yield f"{row} began while its priority was shed"


def _shed(story: Story, plan: Plan, a: int, b: int) -> bool:
    return any(plan.priority == shed and since <= b and a < until for shed, since, until in story.shed)


# How it ended.


def _ended(case: Case, row: Any) -> Iterator[str]:
    """As it was fated to, or as someone made it end."""
    story, how = case.story, (row.status, row.reason)
    began, ended = case.span(row)
    said = story.ends.get((row.task, row.due, row.attempt))
    if said is not None and row.reason != "interrupted":
        told = {story.wall(said), story.wall(said + GRACE) - GRACE}  # the clock may be stepped meanwhile
        if not any(-PROMPT <= row.ended - end <= GRACE for end in told):
            yield f"{row} ended at {story.wall(said)} by its own word"
    if how in _MADE:
        if not _MADE[how](case, began, ended):
            yield f"{row} ended so although nobody did that"
    elif how != ("completed", "phase-ended") or not case.is_loop(row.due):
        yield from _fated(case, row, began, ended)


def _fated(case: Case, row: Any, began: int, ended: int) -> Iterator[str]:
    story, how, plan = case.story, (row.status, row.reason), case.term(row.due).plan
    fate, seconds = ordeal(story.seed, row.task, row.due, row.attempt)
    if how != _ENDS[fate]:
        yield f"{row} ended so although its fate was {fate}"
    if how == ("failed", "error") and not row.error:
        yield f"{row} has no error"
    if fate in ("hang", "stubborn") and plan.timeout is not None:
        seconds = plan.timeout
    took = ended - began
    if not plan.keep_running and took > int(seconds * SECOND) + GRACE:
        yield f"{row} took {took / SECOND} s of {seconds}"
    if not plan.keep_running and took < int(seconds * SECOND) - PROMPT and not story.stepped(began, ended):
        yield f"{row} took {took / SECOND} s of {seconds}"


def _interrupted(case: Case, began: int, _: int) -> bool:
    following = [life for life in case.story.lives if life.ended is not None and life.ended >= began]
    return bool(following) and following[0].crashed


def _stopped(case: Case, _: int, ended: int) -> bool:
    return any(not life.crashed and abs(ended - (life.ended or 0)) <= GRACE for life in case.story.lives)


def _superseded(case: Case, began: int, ended: int) -> bool:
    """A newer run took its place."""
    desks = [case.story.epoch(began).desk, case.story.epoch(ended).desk]
    return any(desk[case.name].overlap == "cancel-previous" for desk in desks if case.name in desk)


def _restarted(case: Case, _: int, ended: int) -> bool:
    story = case.story
    if story.acted(case.name, ended - GRACE, ended, "restart"):
        return True
    leader = case.term(story.wall(ended)).plan.restart_with
    return any(
        start.task == leader and start.attempt > 1 and 0 <= ended - start.passed <= GRACE
        for start in story.starts
    )


_MADE: dict[tuple[str, str], Callable[[Case, int, int], bool]] = {
    ("failed", "interrupted"): _interrupted,
    ("cancelled", "stopped"): _stopped,
    ("cancelled", "superseded"): _superseded,
    ("cancelled", "restarted"): _restarted,
    ("cancelled", "operator"): lambda case, _, end: case.story.acted(case.name, end - GRACE, end, "cancel"),
    ("cancelled", "paused"): lambda case, _, end: case.story.acted(case.name, end - GRACE, end, "pause"),
    ("cancelled", "reloaded"): lambda case, _, end: case.story.redefined(case.name, end - GRACE, end),
}


# What did not begin.


def _missed(case: Case, cases: Mapping[str, Case], row: Any) -> Iterator[str]:
    """Because nobody was there, and then it was too late."""
    story, last = case.story, reach(row)
    _, _, plan, exchange = case.term(last)
    if plan.after is not None:
        upstream = cases[plan.after]
        others = upstream.of(row.due)
        ends = [upstream.span(other)[1] for other in others if other.ended is not None]
        if any(other.status == "missed" for other in others) or any(map(story.down, ends)):
            return
    if _waited(case, row):
        return  # which is on record only once it begins
    if not story.in_the_dark(row.due, last):
        yield f"{row} was missed although somebody was there"
    elif plan.clock_driven and not plan.keep_running:
        # When somebody was there again, it was the newest, and not too late.
        there = story.decided(last) + SEEN
        newest = exchange.dues(case.name, plan, last + 1, there + 1) == []
        in_time = there <= exchange.latest_start(plan, last) and not exchange.flips_between(last, there)
        if newest and in_time and there < story.until and not _hindered(case, last, there):
            yield f"{row} was missed although it could have been made up"


def _hindered(case: Case, due: int, there: int) -> bool:
    """Whether the task was changed, or busy with something else."""
    story = case.story
    edges = [story.wall(epoch.passed) for epoch in story.epochs[1:]]
    busy = any(row.started <= there and (row.ended or 1 << 62) >= due for row in case.begun)
    return busy or any(due <= edge <= there for edge in edges) or bool(case.story.pauses(case.name))


def _waited(case: Case, row: Any) -> list[Any]:
    """The older runs that it had to wait for."""
    plan = case.term(row.due).plan
    if plan.overlap == "skip" and not plan.keep_running:
        return []
    return [o for o in case.before(row.due, 8) if o.started <= row.due <= (o.ended or 1 << 62)]


def _skipped(case: Case, cases: Mapping[str, Case], row: Any, pauses: list[tuple[int, int]]) -> Iterator[str]:
    """A run was skipped for a reason that can be seen."""
    story = case.story
    # Events that happen at the same instant are due a nanosecond apart.
    since, until = story.passed(row.due, 0) - SECOND // 1000, story.passed(story.decided(row.due), 0)
    plan = case.term(row.due).plan
    earlier = [*case.before(row.due + 1, 8), *(r for r in case.begun if case.by_hand(r))]
    waited = _waited(case, row)
    if waited:  # and was given up when its turn came, or a newer one did
        until = max(case.span(other)[1] for other in waited)
    if row.reason == "upstream":
        others = cases[plan.after].of(row.due) if plan.after is not None else None
        if others is None or any(other.status == "completed" for other in others):
            yield f"{row} was skipped although what it comes after completed"
        return
    if row.cause == "manual":
        if not any(_overlaps(case, other, at, at) for at in _asked(case, row) for other in case.begun):
            yield f"{row} was skipped although nothing ran"
        return
    if plan.after is not None:  # it comes when the other one ends
        ends = [other.ended for other in cases[plan.after].of(row.due) if other.ended]
        if ends:
            since = story.passed(max(ends), 0)
            until = since + PROMPT
    reasons = {
        "overlap": any(_overlaps(case, other, since, until) for other in earlier),
        "backing-off": plan.restart != "never" and any(_backs_off(case, o, since, until) for o in earlier),
        "paused": any(a <= until and since <= b for a, b in pauses),
        "shed": _shed(story, plan, since, until),
        "no-slot": bool(waited),
        "parked": plan.restart == "on-failure",  # health looks at it
    }
    if not reasons.get(row.reason, False):
        yield f"{row} was skipped for a reason that nobody gave it"


def _asked(case: Case, row: Any) -> list[int]:
    """When an operator may have asked for a run, in time passed."""
    story = case.story
    acts = [act.passed for act in story.acts if act.task == case.name and act.kind == "run-now"]
    return [at for at in acts if story.wall(at) <= row.due <= story.latest(at) + 10]


def _overlaps(case: Case, other: Any, since: int, until: int) -> bool:
    began, ended = case.span(other)
    return began <= until and ended >= since


def _backs_off(case: Case, other: Any, since: int, until: int) -> bool:
    ended = case.span(other)[1]
    failed = other.status == "failed" or other.reason == "restarted"
    return failed and ended <= until and since <= ended + 301 * SECOND
