"""Why a task does or does not run: by what a scheduler remembers of it, else by its definition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import tzinfo
from typing import TYPE_CHECKING

from scheduler.core.messages import Facts, Instant, Record, Status, TaskSpec
from scheduler.core.reasons import Answer, Case, Known, reason
from scheduler.core.triggers import After, At, KeepRunning, Trigger
from scheduler.core.why import Explanation
from scheduler.core.wording import date_of, horizon, moment, session_of_day

if TYPE_CHECKING:
    from scheduler.core.market import MarketTable, Session

_ENDED = {
    Status.COMPLETED: "completed",
    Status.FAILED: "failed",
    Status.CANCELLED: "was cancelled",
    Status.SKIPPED: "was skipped",
    Status.MISSED: "was missed",
    Status.RUNNING: "is on record as running",
    Status.QUEUED: "is on record as queued",
}


def why_task(
    spec: TaskSpec,
    at: Instant,
    zone: tzinfo,
    *,
    specs: Mapping[str, TaskSpec],
    tables: Mapping[str, MarketTable],
    known: Known,
) -> Explanation:
    """Why a task does or does not run at an instant. OutsideTableError when the market's table has it not."""
    case = Case(spec, tables[spec.market], at, zone, known, specs, tables)
    answer = reason(case)
    when = moment(at, zone)
    head = f"{spec.name} {answer.words} at {when}" if answer.runs else f"{spec.name} does not run at {when}"
    clauses = [head if answer.runs else f"{head}: it {answer.words}"]
    if answer.barred:
        clauses.append(f"but it {answer.barred}")
    clauses += _outlook(case, answer)
    piece = case.table.phase_at(at)
    if known.last is not None and answer.state != "running":
        clauses.append(_last_words(case, known.last))
    facts = {
        "state": answer.state,
        "cause": answer.cause,
        "priority": spec.priority.label,
        "trigger": spec.trigger.text,
        "next": answer.next,
        "market": spec.market,
        "phase": piece.phase,
        "reason": piece.reason,
        "layer": piece.layer,
        "assumed": piece.assumed,
        "last_run": None if known.last is None else _last_facts(known.last),
        "remembered": dict(known.remembered.get(spec.name, {})),
        "scheduler": known.scheduler,
    }
    return Explanation(tuple(clauses), facts)


def _outlook(case: Case, answer: Answer) -> Iterator[str]:
    """When it is due next, and what is odd about that."""
    head = case
    while isinstance(head.spec.trigger, After):
        head = head.of(head.spec.trigger.upstream)
    table, trigger = head.table, head.spec.trigger
    who = "it" if head is case else head.spec.name
    if answer.next is not None:
        made_by = f" ({trigger.text_at(answer.next, table)})" if isinstance(trigger, At) else ""
        assumed = " (assumed)" if table.phase_at(answer.next).assumed else ""
        yield f"{who} is next due {case.say(answer.next)}{made_by}{assumed}"
        if table.refuses(answer.next):
            known = answer.cause == "horizon"
            yield "but that is refused too" if known else f"but that is refused, as {horizon(table)}"
    elif reason(head).state in ("waiting", "due") and trigger.clock_driven and not _runs_always(trigger):
        yield f"{who} is not due again as far as the calendar goes"
    if isinstance(trigger, At):
        found = [session_of_day(t, table) for t in (case.at, answer.next) if t is not None]
        for session in {session.date: session for session in found if session}.values():
            yield from _misfits(trigger, session, table)


def _runs_always(trigger: Trigger) -> bool:
    return isinstance(trigger, KeepRunning) and trigger.during is None


def _misfits(trigger: At, session: Session, table: MarketTable) -> Iterator[str]:
    """Anchors that are elsewhere on a session with hours of its own, or nowhere."""
    day = date_of(session.midnight, table.zone)
    for anchor in trigger.anchors:
        if anchor.instants(session, table) is None:
            yield f"there is no {anchor.text} on {day}, as that session has no {anchor.phase}"
        elif anchor.clamped(session):
            edge = "close" if anchor.base == "open" else "open"
            yield f"{anchor.text} does not fit the hours of {day} and is moved to its {edge}"


def _last_words(case: Case, last: Record) -> str:
    why = ": ".join(part for part in (last.reason, last.error) if part)
    due = last.due if last.last_due is None else last.last_due
    return f"its last run, due {case.say(due)}, {_ENDED[last.status]}" + (f" ({why})" if why else "")


def _last_facts(last: Record) -> Facts:
    return {
        "due": last.due,
        "attempt": last.attempt,
        "status": last.status.value,
        "reason": last.reason,
        "started": last.started,
        "ended": last.ended,
        "error": last.error,
    }
