"""Why a task does not run, or that it does: the first reason that holds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import tzinfo
from typing import TYPE_CHECKING, NamedTuple

from scheduler.core.during import holds
from scheduler.core.memory import HEALTH, ITSELF, PAUSED, REFUSED, SHEDDING, STUCK, WAITING, is_parked
from scheduler.core.messages import NOTHING, Facts, Instant, Record, Remembered, TaskSpec
from scheduler.core.restarts import parking_ends_by
from scheduler.core.supervision import Health
from scheduler.core.triggers import PLAIN, After, Cron, Every, KeepRunning, On, may_run
from scheduler.core.wording import because, beside, horizon, is_in, session_of_day

if TYPE_CHECKING:
    from scheduler.core.market import MarketTable


class Known(NamedTuple):
    """What there is to know beyond the definition."""

    last: Record | None = None  # the run due latest until then
    remembered: Remembered = NOTHING
    scheduler: bool | None = None  # whether one runs; None: the question is not about now
    running: Record | None = None  # the run under way, by the record


class Answer(NamedTuple):
    """The first reason that holds."""

    state: str
    cause: str
    words: str  # with the task as their subject: "is parked since ..."
    next: Instant | None = None
    runs: bool = False  # the words say that it runs, or is due
    barred: str = ""  # why it will not run again after this, as words


class Case(NamedTuple):
    """One question."""

    spec: TaskSpec
    table: MarketTable
    at: Instant
    zone: tzinfo
    known: Known
    specs: Mapping[str, TaskSpec]
    tables: Mapping[str, MarketTable]

    def say(self, t: Instant) -> str:
        return beside(t, self.at, self.zone)

    @property
    def market_words(self) -> str:
        """``NSE is closed (Gurunanak Jayanti, layer india)``."""
        piece = self.table.phase_at(self.at)
        why = because(piece, session_of_day(self.at, self.table))
        return f"{self.table.name} {is_in(piece)} ({why}, layer {piece.layer})"

    def upcoming(self, after: Instant) -> Instant | None:
        return self.spec.trigger.next_after(after, self.table)

    def of(self, task: str) -> Case:
        """The same question about another task; its runs are not known."""
        spec = self.specs[task]
        known = self.known._replace(last=None, running=None)
        return self._replace(spec=spec, table=self.tables[spec.market], known=known)

    def recall(self, key: str) -> Facts | None:
        """What a scheduler remembers; of one that has ended only what its successor will go by."""
        facts = self.known.remembered.get(self.spec.name, {}).get(key)
        if facts is None or self.known.scheduler or key == PAUSED:
            return facts
        return facts if key == HEALTH and is_parked(facts, self.spec) else None


def reason(case: Case) -> Answer:
    """What holds of the task: that it runs, else why not, in the order in which the engine would ask."""
    return _running(case) or _barred(case) or _refused(case) or _held_up(case) or _by_definition(case)


def _running(case: Case) -> Answer | None:
    run = case.known.running
    if run is None or run.started is None or case.known.scheduler is False:
        return None
    words = f"is running since {case.say(run.started)}, as was due {case.say(run.due)},"
    bar = _barred(case)
    if bar is not None:
        return Answer("running", run.cause, words, bar.next, runs=True, barred=bar.words)
    return Answer("running", run.cause, words, case.upcoming(case.at), runs=True)


def _barred(case: Case) -> Answer | None:
    """Nothing of it is started until somebody does something."""
    if not case.spec.enabled:
        return Answer("disabled", "enabled", "is disabled (enabled: false)")
    name, at = case.spec.name, case.at
    refused, health, paused = (case.recall(key) for key in (REFUSED, HEALTH, PAUSED))
    if refused is not None:
        return Answer("refused", "callable", f"cannot be run at all ({refused['reason']})")
    stuck = case.recall(STUCK)
    if stuck is not None:
        return Answer(
            "stuck",
            "timeout",
            f"is not started before its run due {case.say(stuck['due'])} returns, which has timed out and "
            "cannot be ended (a restart of the scheduler ends it)",
        )
    if health is not None and health["health"] == Health.PARKED:
        return Answer(
            "parked",
            "failures",
            f"is parked since {case.say(health['since'])}, after {_failures(health)}, "
            f"until {parking_ends_by(name)}",
        )
    if paused is not None and (paused["until"] is None or at < paused["until"]):
        until = paused["until"]
        end = "it is resumed" if until is None else case.say(until)
        following = None if until is None else case.upcoming(until - 1)
        words = f"was paused by an operator, {case.say(paused['since'])}, until {end}"
        return Answer("paused", "operator", words, following)
    return None


def _refused(case: Case) -> Answer | None:
    """Its market starts nothing that the clock makes due on this day."""
    if not case.spec.trigger.clock_driven or not case.table.refuses(case.at):
        return None
    return Answer("refused", "horizon", f"is refused, as {horizon(case.table)}", case.upcoming(case.at))


def _held_up(case: Case) -> Answer | None:
    """It would run, but for what the scheduler is going through."""
    at, waiting, health = case.at, case.recall(WAITING), case.recall(HEALTH)
    shedding = case.known.remembered.get(ITSELF, {}).get(SHEDDING) if case.known.scheduler else None
    if isinstance(case.spec.trigger, KeepRunning):
        shedding = None  # loops are never shed
    if waiting is not None:
        words = f"waits for a slot since {case.say(waiting['since'])}, as all that it may have are taken"
        return Answer("queued", "slot", words, case.upcoming(at))
    if health is not None and health["until"] is not None and at < health["until"]:
        doing = "is crash-looping" if health["health"] == Health.CRASH_LOOPING else "is backing off"
        words = f"{doing} after {_failures(health)}, and is tried again {case.say(health['until'])}"
        return Answer(health["health"], "failures", words, case.upcoming(at))
    if shedding is not None and case.spec.priority.label in shedding["priorities"]:
        words = (
            f"is shed like all {case.spec.priority.label} tasks since {case.say(shedding['since'])}, "
            "as the event loop lags"
        )
        return Answer("shed", "load", words, case.upcoming(at))
    return None


def _by_definition(case: Case) -> Answer:
    trigger, at = case.spec.trigger, case.at
    if isinstance(trigger, On):
        return Answer("waiting", "on", f"waits for an event: {' or '.join(trigger.events)}")
    if isinstance(trigger, After):
        upstream = reason(case.of(trigger.upstream))
        words = f"waits for {trigger.upstream} to complete, which {upstream.words}"
        return Answer("waiting", "after", words, upstream.next)
    following = case.upcoming(at)
    during = trigger.during if isinstance(trigger, Every | Cron | KeepRunning) else None
    if not holds(during, case.table.phase_at(at), case.table):
        words = f"is outside of its during ({', '.join(sorted(during or ()))}), as {case.market_words}"
        return Answer("waiting", "during", words, following)
    if isinstance(trigger, KeepRunning):
        return _kept_running(case, trigger, following)
    if trigger.last_before(at + 1, case.table) == at:
        words = f"is due ({trigger.text_at(at, case.table)})"
        return Answer("due", type(trigger).__name__.lower(), words, following, runs=True)
    if isinstance(trigger, Every):
        return _paced(case, trigger, following)
    if isinstance(trigger, Cron):
        return Answer("waiting", "cron", f'runs by cron "{trigger.text}"', following)
    return Answer("waiting", "at", f"runs at {trigger.text} of each session of {case.table.name}", following)


def _kept_running(case: Case, trigger: KeepRunning, following: Instant | None) -> Answer:
    span = may_run(trigger, case.at, case.table) or (None, None)
    until = "" if span[1] is None else f" until {case.say(span[1])}"
    since = "" if span[0] is None else f" since {case.say(span[0])}"
    if case.known.scheduler and case.known.last is not None:
        words = f"should be kept running{since}{until}, but no run of it is under way"
        return Answer("waiting", "keep-running", words, following)
    return Answer("due", "keep-running", f"is to be kept running{since}{until}", following, runs=True)


def _paced(case: Case, trigger: Every, following: Instant | None) -> Answer:
    if trigger.pace_at(case.at, case.table) is None:
        pace = f"{case.spec.priority.label}: {trigger.text}"
        return Answer("waiting", "pace", f"pauses by its pace ({pace}), as {case.market_words}", following)
    before = trigger.last_before(case.at, case.table)
    last = "" if before is None else f" and was last due {case.say(before)}"
    phase = is_in(case.table.phase_at(case.at))
    held = "" if PLAIN in trigger.pace else f" while {case.table.name} {phase}"
    return Answer("waiting", "every", f"runs {trigger.text_at(case.at, case.table)}{held}{last}", following)


def _failures(health: Facts) -> str:
    number = health["failures"]
    return f"{number} failure{'s' if number != 1 else ''} in a row ({health['reason']})"
