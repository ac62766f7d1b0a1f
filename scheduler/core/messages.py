"""The vocabulary: what the engine is told (events), what it is about (specs, runs) and what it
asks for (actions). Everything here is immutable.

Instants and durations are integers: nanoseconds since the Unix epoch in UTC, and nanoseconds.
What is made for every run is a ``NamedTuple`` (the cheapest immutable thing Python has); what is
made once from configuration is a frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from scheduler.core.market import MarketTable
    from scheduler.core.triggers import Anchor, Trigger

Instant: TypeAlias = int
Duration: TypeAlias = int
Level: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]
Facts: TypeAlias = Mapping[str, Any]  # what is remembered of a task under one key; as JSON has it
Remembered: TypeAlias = Mapping[str, Mapping[str, Facts]]  # by task and key
NOTHING: Remembered = {}

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Priority(IntEnum):
    """A bundle of defaults; the lower goes first (law 10)."""

    CRITICAL = 0
    IMPORTANT = 1
    NICE_TO_HAVE = 2

    @property
    def label(self) -> str:
        return self.name.lower().replace("_", "-")


class Status(StrEnum):
    """What has become of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    MISSED = "missed"


class Reason(StrEnum):
    """Why an outcome came about (law 3)."""

    NONE = ""
    # completed
    PHASE_ENDED = "phase-ended"  # a keep_running task whose `during` ended
    # failed
    ERROR = "error"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    # cancelled
    OPERATOR = "operator"
    SUPERSEDED = "superseded"  # overlap: cancel-previous
    RELOADED = "reloaded"  # the task's definition changed or went
    RESTARTED = "restarted"  # restart, or restart_with
    # skipped
    OVERLAP = "overlap"
    BACKING_OFF = "backing-off"
    SHED = "shed"
    PAUSED = "paused"
    PARKED = "parked"
    NO_SLOT = "no-slot"
    UPSTREAM = "upstream"
    # missed
    DOWNTIME = "downtime"
    CLOCK_JUMP = "clock-jump"
    STOPPED = "stopped"  # also: cancelled because the daemon stops
    REFUSED = "refused"


class Overlap(StrEnum):
    """What happens when a run comes due while the task's previous one is still running."""

    SKIP = "skip"
    QUEUE_ONE = "queue-one"
    CANCEL_PREVIOUS = "cancel-previous"


class Isolation(StrEnum):
    """Where a callable runs. Commands have a process of their own and no isolation."""

    INLINE = "inline"
    THREAD = "thread"
    PROCESS = "process"


class Cause(StrEnum):
    """What made a run."""

    TICK = "tick"
    CATCH_UP = "catch-up"
    RETRY = "retry"
    INTERRUPTED = "interrupted"  # once more, by if_interrupted
    AFTER = "after"
    EVENT = "event"
    MANUAL = "manual"
    BACKFILL = "backfill"  # of a due in the past, that an operator wants made


# ---------------------------------------------------------------------------------------- specs


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a failed run is tried again, and when that stops (law 5)."""

    policy: Literal["always", "on-failure", "never"]
    burst: int = 5
    window: Duration = MINUTE
    then: Literal["keep_trying", "park"] = "park"


@dataclass(frozen=True, slots=True)
class Work:
    """What a run executes; the engine never looks inside. Exactly one of target and argv is set."""

    target: str | None = None  # "package.module:callable"
    argv: tuple[str, ...] = ()
    isolation: Isolation | None = None  # None: inline for async, thread for sync
    python: str | None = None  # interpreter for process isolation; None: the daemon's own
    arguments: Mapping[str, Any] = field(default_factory=dict)  # `with:`
    env: Mapping[str, str] = field(default_factory=dict)
    working_directory: str | None = None
    memory_limit: int | None = None  # bytes
    nice: int | None = None


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One task, validated and complete: defaults of its priority are already filled in."""

    name: str
    priority: Priority
    market: str
    trigger: Trigger
    work: Work
    restart: RestartPolicy
    timeout: Duration | None
    catchup: Duration
    stop_grace: Duration = 10 * SECOND
    overlap: Overlap = Overlap.SKIP
    catchup_until: Anchor | None = None
    if_interrupted: Literal["leave", "retry"] = "leave"
    restart_with: str | None = None
    fresh_within: Duration | None = None
    finish_by: Anchor | None = None
    enabled: bool = True
    pace: Trigger | None = None  # what `ctx.ticks()` of a keep_running task follows


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """One namespace of the shared cache."""

    ttl: Duration
    max_entries: int = 10_000
    expire_at: Literal["phase_change"] | None = None
    stale_on_error: Duration | None = None  # how long past its ttl a value may stand in for a failed load


# ----------------------------------------------------------------------------------------- runs


class Run(NamedTuple):
    """One execution. ``(task, due)`` is what it is a run of, ``attempt`` counts from 1."""

    task: str
    due: Instant
    attempt: int = 1
    cause: Cause = Cause.TICK
    event: str = ""  # of an `on` run: the event that made it
    subject: str = ""  # of an `on` run: the task (or market) the event was about

    @property
    def run_id(self) -> str:
        """The same on every host and after every restart: task, due (UTC) and attempt."""
        return run_id(self.task, self.due, self.attempt)


def run_id(task: str, due: Instant, attempt: int) -> str:
    """``eod-report-20261123T101500Z`` with ``.000000001`` for a fraction and ``~2`` for an attempt."""
    seconds, fraction = divmod(due, SECOND)
    text = f"{task}-{_second(seconds)}"
    if fraction:
        text += f".{fraction:09}"
    return f"{text}Z" if attempt == 1 else f"{text}Z~{attempt}"


@lru_cache(maxsize=64)  # many runs are due in the same second
def _second(seconds: int) -> str:
    days, seconds = divmod(seconds, 86_400)
    year, month, day = _civil(days)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    return f"{year:04}{month:02}{day:02}T{hours:02}{minutes:02}{seconds:02}"


def _civil(days: int) -> tuple[int, int, int]:
    """The Gregorian date of a day number since 1970-01-01 (Howard Hinnant's algorithm)."""
    days += 719_468
    era, of_era = divmod(days, 146_097)
    year_of_era = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    day_of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return (
        year_of_era + era * 400 + (month <= 2),
        month,
        day_of_year - (153 * shifted + 2) // 5 + 1,
    )


class Record(NamedTuple):
    """A line for the ledger: an insert or an update of the row ``(task, due, attempt)``. An action.

    ``attempt`` is 0 where nothing was started: skipped, missed, or still waiting (QUEUED), in which case
    the first attempt takes the place of that row.
    ``count`` > 1 is a stretch of missed or skipped runs, ``due`` its first and ``last_due`` its last.
    """

    task: str
    due: Instant
    attempt: int
    status: Status
    reason: str = ""
    started: Instant | None = None
    ended: Instant | None = None
    error: str = ""
    count: int = 1  # type: ignore[assignment]  # hides tuple.count, which nobody asks a record for
    last_due: Instant | None = None
    cause: str = "tick"
    calendar: str = ""  # version of the market's table that the run belongs to


# --------------------------------------------------------------------------------------- events


class Wake(NamedTuple):
    """The instant that ``wake_at`` asked for has come (or something else woke the daemon)."""


class RunEnded(NamedTuple):
    """A run is over. ``status`` is COMPLETED, FAILED or CANCELLED.

    ``lingering``: its thread could not be ended; it keeps the slot until ``RunReturned``.
    """

    run: Run
    status: Status
    reason: str = ""
    error: str = ""
    started: Instant | None = None
    lingering: bool = False


class RunReturned(NamedTuple):
    """A lingering run has come back at last."""

    run: Run


class TaskHistory(NamedTuple):
    """What the ledger knows of one task when the daemon starts."""

    expected_from: Instant  # runs due before this are accounted for
    interrupted: tuple[Record, ...] = ()  # rows found QUEUED or RUNNING
    latest: Record | None = None  # the row of the newest due, its last attempt
    begun: tuple[Instant, int] | None = None  # of a loop: the due of its latest stretch, its attempts so far
    success: Instant | None = None  # when a run of it last completed


class Configure(NamedTuple):
    """The tasks and tables that hold from now on: the first, or a reload's.

    ``refused`` names the tasks whose callable cannot be imported, with the import's own error.
    ``remembered`` is given with the first only, ``history`` later with the tasks that are
    new and with the loops, and at first also with those that are no more and left a run unfinished.
    """

    specs: tuple[TaskSpec, ...]
    tables: Mapping[str, MarketTable]
    refused: Mapping[str, str] = {}
    history: Mapping[str, TaskHistory] = {}
    remembered: Remembered = NOTHING


class ClockStepped(NamedTuple):
    """The wall clock jumped by this much against the monotonic one (a suspend steps forward)."""

    by: Duration


class LoopLag(NamedTuple):
    """The mean lag of the event loop over the last five seconds."""

    mean: Duration


class Happened(NamedTuple):
    """The shell saw something that an `on` task may wait for (a stall, a rejected file)."""

    event: str
    level: Level
    fields: Mapping[str, Any]


class StopRequested(NamedTuple):
    """Start nothing more; end what runs."""


class RunNow(NamedTuple):
    task: str


class CancelRequested(NamedTuple):
    run_id: str


class PauseRequested(NamedTuple):
    task: str
    until: Instant | None = None
    by: str = ""  # whose wish it is
    reason: str = ""


class ResumeRequested(NamedTuple):
    task: str
    by: str = ""  # whose wish it is
    reason: str = ""


class RestartRequested(NamedTuple):
    task: str


class Past(NamedTuple):
    """What the ledger knows of the dues of one task in a stretch of time."""

    attempts: Mapping[Instant, int]  # so far, of each due that has a row of its own
    completed: frozenset[Instant]
    stretches: tuple[tuple[Instant, Instant, int], ...] = ()  # recorded as one: first, last, how many
    began: Instant | None = None  # since when any runs of it were expected; None: it is not known
    since: Instant = 0  # since when its present definition holds


class BackfillRequested(NamedTuple):
    """Dues of the past are to be made, the oldest first. None: nothing of that is made any more.

    ``past``: of the task, and of all that comes after it.
    """

    task: str
    dues: tuple[Instant, ...]
    past: Mapping[str, Past] = {}


Event: TypeAlias = (
    Wake
    | RunEnded
    | RunReturned
    | Configure
    | ClockStepped
    | LoopLag
    | Happened
    | StopRequested
    | RunNow
    | CancelRequested
    | PauseRequested
    | ResumeRequested
    | RestartRequested
    | BackfillRequested
)


# -------------------------------------------------------------------------------------- actions


class StartRun(NamedTuple):
    """Start this run now. ``durable``: only once its record is on the disk."""

    run: Run
    spec: TaskSpec
    durable: bool


class StopRun(NamedTuple):
    """End this run: ask, wait for ``grace``, then force. It is over when ``RunEnded`` comes.

    ``status`` and ``reason`` are what ``RunEnded`` will say if it ends because of this.
    """

    run: Run
    status: Status
    reason: str
    grace: Duration


class Announce(NamedTuple):
    """Something an operator may want to know: a log event with its fields."""

    event: str
    level: Level
    fields: Mapping[str, Any]


class Remember(NamedTuple):
    """Keep this about a task beyond the life of the scheduler; None forgets it."""

    task: str
    key: str
    facts: Facts | None


Action: TypeAlias = StartRun | StopRun | Record | Announce | Remember
