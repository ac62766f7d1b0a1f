"""A desk under whatever may happen, with a witness who knows the laws and not the engine.

The witness looks at each start the moment it is asked for; ``World.audit`` counts at the end. What
it holds against the engine is worked out here from the opening hours alone, apart from the number
of ticks (``Trigger.count_between``, which has tests of its own).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from scheduler.core.admission import Admission
from scheduler.core.backfill import wanted
from scheduler.core.market import MarketTable
from scheduler.core.messages import (
    MILLISECOND,
    SECOND,
    BackfillRequested,
    CancelRequested,
    Cause,
    ClockStepped,
    Configure,
    Event,
    Happened,
    Instant,
    LoopLag,
    Past,
    PauseRequested,
    Priority,
    Reason,
    Record,
    Remembered,
    RestartRequested,
    ResumeRequested,
    Run,
    RunEnded,
    RunNow,
    RunReturned,
    Status,
    StopRequested,
    TaskHistory,
    TaskSpec,
    Wake,
)
from scheduler.core.tasks import TaskState
from scheduler.core.triggers import After, At, Cron, KeepRunning, Trigger
from tests.core.desk import Desk, Script
from tests.core.tables import nse_week
from tests.helpers import instant, iso

TABLE = nse_week()
DATES = ("20", "23", "25", "26", "27", "30")  # of November 2026
EARLY = [("pre-open", "09:00", "09:15"), ("open", "09:15", "13:00")]
AMENDED = (
    TABLE,
    nse_week(changes={f"2026-11-{day}": EARLY for day in ("23", "26")}),
    nse_week(changes={"2026-11-25": None, "2026-11-20": EARLY}),
)
Stretches = list[tuple[Instant, Instant]]


def _hours(closes: Mapping[str, str | None]) -> Stretches:
    """From open to close of each date, with other closes, or none at all, on some."""
    days = [(day, closes.get(day, "15:30")) for day in DATES]
    return [
        (instant(f"2026-11-{day}T09:15:00+05:30"), instant(f"2026-11-{day}T{close}:00+05:30"))
        for day, close in days
        if close
    ]


TRADING = dict(
    zip(
        (table.version for table in AMENDED),
        (_hours({}), _hours({"23": "13:00", "26": "13:00"}), _hours({"25": None, "20": "13:00"})),
        strict=True,
    )
)
LONGEST_BACKOFF = 300 * SECOND  # a retry that would come after the stretch is none
CLOCK_DRIVEN = ("tick", "catch-up", "retry")

Identity = tuple[str, int, int]  # task, due, attempt


def stretches(trigger: KeepRunning, table: MarketTable) -> Stretches:
    """Where a loop is to run, all in all."""
    assert trigger.during is not None
    early = 15 * 60 * SECOND if "pre-open" in trigger.during else 0
    return [(opening - early, close) for opening, close in TRADING[table.version]]


def stretch(task: TaskSpec, now: Instant, table: MarketTable) -> tuple[Instant, Instant] | None:
    """Where a keep_running task is to run round an instant."""
    assert isinstance(task.trigger, KeepRunning)
    if task.trigger.during is None:
        return 0, 1 << 62
    return next(((a, b) for a, b in stretches(task.trigger, table) if a <= now < b), None)


def law_4(task: TaskSpec, run: Run, now: Instant, table: MarketTable) -> bool:
    """Whether a run may be started at an instant: on time, or not too late and in its stretch of the day."""
    if run.cause not in (*CLOCK_DRIVEN, "interrupted") or now - run.due <= SECOND:
        return True
    if isinstance(task.trigger, KeepRunning):
        found = stretch(task, now, table)
        return found is not None and found[0] in (run.due, 0)
    crossed = any(run.due < edge <= now for session in TRADING[table.version] for edge in session)
    if run.attempt > 1:
        return not (crossed and isinstance(task.trigger, At | Cron))
    return now - run.due <= task.catchup and not crossed


def _begun(
    task: TaskSpec, rows: Iterable[Record], at: Instant, table: MarketTable
) -> tuple[Instant, int] | None:
    """How often the loop of the latest stretch at an instant was started."""
    if not isinstance(task.trigger, KeepRunning) or task.trigger.during is None:
        return None
    due = max((start for start, _ in stretches(task.trigger, table) if start <= at), default=None)
    return None if due is None else (due, max((row.attempt for row in rows if row.due == due), default=0))


class Witness(Desk):
    """A desk that looks at every start."""

    def __init__(self, *args: Any, keys: set[Identity], latest: Instant, **options: Any) -> None:
        self.keys = keys  # what has been started, ever
        self.latest = latest  # the latest instant there has been
        self.alive: dict[Run, Priority] = {}
        self.shedding: set[Priority] = set()
        self.caused: set[tuple[str, int]] = set()  # runs by hand and for events
        self.lingering: dict[str, Run] = {}
        super().__init__(*args, **options)

    def tell(self, event: Event) -> None:
        self.latest = max(self.latest, self.now)
        if isinstance(event, RunEnded):
            self.alive.pop(event.run, None)
            if event.lingering:
                self.lingering[event.run.task] = event.run
        elif isinstance(event, RunReturned):
            del self.lingering[event.run.task]
        started, said = len(self.started), len(self.said)
        super().tell(event)
        starts = self.started[started:]
        for run in starts:
            self._witness(run)
        if isinstance(event, Wake):
            on_time = [self._rank(run) for run in starts if run.cause == Cause.TICK and run.due == self.now]
            assert on_time == sorted(on_time), "due together go by priority, then name"
        for announced in self.said[said:]:
            if announced.fields.get("reason") == Reason.SHED:
                task = self.engine.tasks[announced.fields["task"]].spec
                assert task.priority is not Priority.CRITICAL, f"{task.name} is critical and was shed"
        self._count_slots()

    def _rank(self, run: Run) -> tuple[Priority, str]:
        return self.engine.tasks[run.task].spec.priority, run.task

    def _witness(self, run: Run) -> None:
        task = self.engine.tasks[run.task].spec
        shown = f"{run.task} due {iso(run.due)} attempt {run.attempt} ({run.cause}) at {iso(self.now)}"
        key = (run.task, run.due, run.attempt)
        assert key not in self.keys, f"started twice: {shown}"
        self.keys.add(key)
        upstream = self.engine.tasks[run.task].upstream
        caused = upstream is not None and (upstream.name, run.due) in self.caused
        # Due at once, or right after what was started last.
        if caused or run.cause in (Cause.MANUAL, Cause.EVENT):
            self.caused.add((run.task, run.due))
        assert run.due <= self.latest or (run.task, run.due) in self.caused, f"before its due: {shown}"
        assert law_4(task, run, self.now, self.table), f"too late: {shown}"
        assert run.task not in self.lingering, f"while its thread has not returned: {shown}"
        if run.cause != Cause.MANUAL:
            assert not self.engine.tasks[run.task].paused, f"while it is paused: {shown}"
        assert all(run.task != other.task for other in self.alive), f"while another runs: {shown}"
        if run.cause in (Cause.TICK, Cause.CATCH_UP) and not isinstance(task.trigger, KeepRunning):
            assert task.priority not in self.shedding, f"although shed: {shown}"
        self.alive[run] = task.priority

    def _count_slots(self) -> None:
        admission = self.engine._admission
        others = sum(priority is not Priority.CRITICAL for priority in self.alive.values())
        assert len(self.alive) <= admission.slots
        assert others <= admission.slots - admission.reserved


class Segment(NamedTuple):
    """A task as it was defined for a while."""

    trigger: Trigger
    table: MarketTable
    since: Instant
    until: Instant | None = None

    @property
    def ticks(self) -> bool:
        """Whether the clock alone says what is due."""
        loop = isinstance(self.trigger, KeepRunning) and self.trigger.during is None
        return self.trigger.clock_driven and not loop


@dataclass(frozen=True)
class Step:
    """Something that happens: ``seconds`` is how long or how far, ``task`` the number of a task."""

    kind: str
    seconds: int = 0
    task: int = 0


class World:
    """Desks one after the other on the same ledger, and what they should have done."""

    def __init__(
        self, tasks: Iterable[TaskSpec], at: str, scripts: Mapping[str, Script], *, slots: int, reserved: int
    ) -> None:
        self.tasks = {task.name: task for task in tasks}
        self.all = dict(self.tasks)
        self._scripts = scripts
        self._slots = slots, reserved
        self.rewound = False
        self.ended_by_hand: set[str] = set()  # a loop that an operator ended is down for its stretch
        self.table = TABLE
        now = instant(at)
        self.segments = {name: [Segment(task.trigger, TABLE, now)] for name, task in self.tasks.items()}
        self.desk = self._desk(now, set(), now, {})

    def _desk(
        self,
        now: Instant,
        keys: set[Identity],
        latest: Instant,
        history: Mapping[str, TaskHistory],
        remembered: Remembered | None = None,
    ) -> Witness:
        return Witness(
            self.tasks.values(), self.table, iso(now), scripts=self._scripts, history=history,
            remembered=remembered, admission=Admission(*self._slots), keys=keys, latest=latest,
        )  # fmt: skip

    def happen(self, step: Step) -> None:
        getattr(self, f"_{step.kind}")(step)
        self.desk.latest = max(self.desk.latest, self.desk.now)

    def _at(self, seconds: int) -> str:
        return iso(self.desk.now + seconds * SECOND)

    def _run(self, step: Step) -> None:
        self.desk.until(self._at(step.seconds))
        self.check_what_is_kept_running()

    def _stall(self, step: Step) -> None:
        self.desk.sleep(self._at(step.seconds)).tell(Wake())

    def _suspend(self, step: Step) -> None:
        self.desk.sleep(self._at(step.seconds)).tell(ClockStepped(step.seconds * SECOND))

    def _back(self, step: Step) -> None:
        self.desk.sleep(self._at(-step.seconds)).tell(ClockStepped(-step.seconds * SECOND))

    def _stop(self, step: Step) -> None:
        """The process ends what runs, for as long as it takes, and another one comes up later."""
        self.desk.tell(StopRequested())
        self.desk.until(self._at(20))  # a stop_grace, and then some
        assert self.desk.engine.idle(), "nothing outlives the stop"
        self._crash(step)

    def _crash(self, step: Step) -> None:
        """The process dies at once and another one comes up some time later."""
        old = self.desk
        self.rewound |= old.now < old.latest  # what waited is due again when its time comes again
        then = old.now + step.seconds * SECOND
        self.desk = self._desk(then, old.keys, old.latest, self.history(then), old.remembered)
        self.desk.on_the_ledger_of(old)

    def _pause(self, step: Step) -> None:
        """For some time, or until somebody resumes it."""
        if name := self._named(step.task):
            self.desk.until(iso(self.desk.now + MILLISECOND))  # a retry may be due at the very instant
            until = self.desk.now + step.seconds * SECOND if step.seconds else None
            self.desk.tell(PauseRequested(name, until))

    def _restart(self, step: Step) -> None:
        if name := self._named(step.task):
            self.desk.tell(RestartRequested(name))

    def _cancel(self, step: Step) -> None:
        for run in [run for run in self.desk.alive if run.task == self._named(step.task)]:
            self.desk.tell(CancelRequested(run.run_id))
            self.ended_by_hand.add(run.task)
            self.desk.until(iso(self.desk.now + MILLISECOND))
            assert run not in self.desk.alive

    def _bell(self, _: Step) -> None:
        """Something that tasks wait for."""
        self.desk.until(iso(self.desk.now + MILLISECOND))  # not in the nanosecond in which somebody asks
        self.desk.tell(Happened("desk.bell", "info", {}))

    def _linger(self, step: Step) -> None:
        """The task's run times out, but its thread does not return."""
        for run in [run for run in self.desk.alive if run.task == self._named(step.task)]:
            self.desk.end(run, RunEnded(run, Status.FAILED, Reason.TIMEOUT, "timed out", lingering=True))

    def _return(self, step: Step) -> None:
        run = self.desk.lingering.get(self._named(step.task) or "")
        if run is not None:
            self.desk.tell(RunReturned(run))

    def _resume(self, step: Step) -> None:
        if name := self._named(step.task):
            self.desk.tell(ResumeRequested(name))

    def _run_now(self, step: Step) -> None:
        if name := self._named(step.task):
            self.desk.until(iso(self.desk.now + MILLISECOND))  # nobody asks twice in a nanosecond
            self.desk.tell(RunNow(name))

    def _backfill(self, step: Step) -> None:
        """An operator has made what did not complete lately, as the control plane asks for it."""
        state = self.desk.engine.tasks.get(self._named(step.task) or "")
        if state is None or not state.source.clock_driven or isinstance(state.source, KeepRunning):
            return
        past = {name: self._past(name) for name in self.tasks}
        start, until = self.desk.now - step.seconds * SECOND, self.desk.now
        found = wanted(state.source, self.table, start, until, past[state.name])
        left = self.desk.engine.backfill_left(state.name)
        dues = tuple(due for due in found.dues if due not in state.in_hand.union(left))
        if dues:
            self.desk.tell(BackfillRequested(state.name, dues, past))

    def _past(self, name: str) -> Past:
        """What a ledger would say of a task's dues."""
        rows = [row for row in self.rows(name) if row.cause not in (Cause.MANUAL, Cause.EVENT)]
        return Past(
            {row.due: row.attempt for row in rows if row.count == 1},
            frozenset(row.due for row in rows if row.status is Status.COMPLETED),
            tuple((row.due, row.last_due or row.due, row.count) for row in rows if row.count > 1),
            self.segments[name][0].since,
            self.segments[name][-1].since,
        )

    def _lag(self, step: Step) -> None:
        self.desk.tell(LoopLag(step.seconds * SECOND // 10))
        lag = step.seconds / 10
        shedding = self.desk.shedding
        for priority, threshold in ((Priority.NICE_TO_HAVE, 0.25), (Priority.IMPORTANT, 1.0)):
            if lag > threshold:
                shedding.add(priority)
            elif lag <= threshold / 2:
                shedding.discard(priority)

    def _remove(self, step: Step) -> None:
        name = self._named(step.task)
        if name and not any(
            isinstance(task.trigger, After) and task.trigger.upstream == name for task in self.tasks.values()
        ):
            self._reload({key: task for key, task in self.tasks.items() if key != name})

    def _restore(self, _: Step) -> None:
        self._reload(self.all)

    def _promote(self, step: Step) -> None:
        """The task gets another priority."""
        if name := self._named(step.task):
            task = self.tasks[name]
            self._reload(self.tasks | {name: replace(task, priority=Priority((task.priority + 1) % 3))})

    def _pace(self, step: Step) -> None:
        """The task goes by the trigger of another one of its kind: a pace or an appointment."""
        if name := self._named(step.task):
            task = self.tasks[name]
            others = [t.trigger for t in self.all.values() if type(t.trigger) is type(task.trigger)]
            if not isinstance(task.trigger, After | KeepRunning):
                self._reload(self.tasks | {name: replace(task, trigger=others[step.task % len(others)])})

    def _amend(self, step: Step) -> None:
        """The market gets other hours."""
        self._reload(self.tasks, AMENDED[step.task % len(AMENDED)])

    def _reload(self, tasks: Mapping[str, TaskSpec], table: MarketTable | None = None) -> None:
        now, table = self.desk.now, table or self.table
        if now < self.desk.latest:
            return  # "after the change" would have two meanings
        for name in self.tasks.keys() | tasks.keys():
            old, new = self.tasks.get(name), tasks.get(name)
            segments = self.segments.setdefault(name, [])
            same = old is not None and new is not None and new.trigger == old.trigger and table is self.table
            if old is not None and not same:
                segments[-1] = segments[-1]._replace(until=now)
            if new is not None and not same:
                segments.append(Segment(new.trigger, table, now))
        history = {
            name: TaskHistory(now + 1, begun=_begun(task, self.rows(name), now, table))
            for name, task in tasks.items()
            if name not in self.desk.engine.tasks or isinstance(task.trigger, KeepRunning)
        }
        self.tasks = dict(tasks)
        self.table = self.desk.table = table
        self.desk.tell(Configure(tuple(tasks.values()), {"NSE": table}, {}, history))

    def _named(self, number: int) -> str | None:
        names = sorted(self.tasks)
        return names[number % len(names)] if names else None

    # What is known and what is expected.

    def rows(self, name: str) -> list[Record]:
        return sorted(
            (r for r in self.desk.rows.values() if r.task == name), key=lambda r: (r.due, r.attempt)
        )

    def ordinary(self, name: str) -> list[Record]:
        """Without what was backfilled: those dues had an outcome before, or were none of this task's."""
        return [row for row in self.rows(name) if row.cause != Cause.BACKFILL]

    def history(self, at: Instant) -> dict[str, TaskHistory]:
        """What a ledger would say now, definitions included, to who starts at an instant."""
        found = {}
        for name in self.tasks:
            rows = self.rows(name)
            accounted = max((r.last_due or r.due for r in rows if r.cause in CLOCK_DRIVEN), default=0)
            since = self.segments[name][-1].since  # by this definition
            interrupted = tuple(r for r in rows if r.status in (Status.RUNNING, Status.QUEUED))
            found[name] = TaskHistory(
                max(accounted + 1, since),
                interrupted,
                rows[-1] if rows else None,
                _begun(self.tasks[name], rows, at, self.table),
            )
        return found

    def check_what_is_kept_running(self) -> None:
        """Whoever is to be restarted always runs, or waits for something that will come.

        Not while the clock repeats a time: a loop that ended with its phase has had its run.
        """
        if self.rewound or self.desk.now < self.desk.latest:
            return
        for name, task in self.tasks.items():
            if not isinstance(task.trigger, KeepRunning) or task.restart.policy != "always":
                continue
            if name in self.ended_by_hand:
                continue
            state = self.desk.engine.tasks[name]
            found = stretch(task, self.desk.now, self.table)
            if found is not None and found[1] - self.desk.now > LONGEST_BACKOFF and not state.paused:
                waits = state.active or state.queued or state.retry_run or state.lingering
                assert waits, f"{name} does not run at {iso(self.desk.now)}"

    def audit(self) -> None:
        """Law 3: what was due is what has an outcome, once, or has yet to get one."""
        for name in self.segments:
            rows = self.ordinary(name)
            if any(not segment.ticks for segment in self.segments[name]):
                continue
            accounted, expected = self.accounted(name, rows), self.expected(name)
            assert accounted <= expected if self.rewound else accounted == expected, name
        for name, segments in self.segments.items():
            [*_, last] = segments
            if len(segments) == 1 and last.until is None and isinstance(last.trigger, After):
                told, over = self._told(name), self._over(last.trigger.upstream)
                assert told == over or self.rewound, (
                    f"{name} has heard of {told} runs, of which {over} are over"
                )

    def _told(self, name: str) -> int:
        """Of how many runs that are over further up its chain a task has an outcome, or will have."""
        state = self.desk.engine.tasks[name]
        rows = [row for row in self.ordinary(name) if row.status is not Status.QUEUED]
        begun = {row.due for row in rows if row.attempt > 0} - {
            row.due for row in rows if row.cause == Cause.MANUAL
        }
        others = [row for row in rows if row.attempt == 0 and row.cause == Cause.AFTER]
        if state.queued is not None and state.queued.cause is Cause.AFTER:
            begun.add(state.queued.due)
        both = [row for row in others if row.due in begun and row.reason != Reason.STOPPED]
        assert not both, f"{name} has two outcomes for {both}"
        # What was missed because the scheduler stopped may be made up, here or further up.
        anew = begun | self._under_way(state.upstream)
        return len(begun) + sum(row.count for row in others if row.due not in anew)

    def _over(self, name: str) -> int:
        state = self.desk.engine.tasks[name]
        under_way = self._under_way(state)
        rows = [row for row in self.ordinary(name) if row.status is not Status.QUEUED]
        begun = {row.due for row in rows if row.attempt > 0}
        others = [row for row in rows if row.attempt == 0 and row.due not in begun | under_way]
        return len(begun - under_way) + sum(row.count for row in others)

    def _under_way(self, state: TaskState | None) -> set[Instant]:
        """The dues that are not over in a task and further up its chain."""
        dues: set[Instant] = set()
        while state is not None:
            runs = (state.active, state.queued, state.retry_run)
            dues |= {run.due for run in runs if run is not None and run.cause is not Cause.BACKFILL}
            state = state.upstream
        return dues

    def expected(self, name: str) -> int:
        now = self.desk.latest  # what a step back repeats was due once
        return sum(
            segment.trigger.count_between(segment.since, segment.until or now, segment.table)
            for segment in self.segments[name]
        )

    def accounted(self, name: str, rows: list[Record]) -> int:
        """The ticks with an outcome, those running or waiting among them."""
        loops = isinstance(self.all[name].trigger, KeepRunning)
        # A loop run by hand is run for the stretch that it is in, other tasks for an instant of their own.
        manual = {r.due for r in rows if r.cause == Cause.MANUAL and not loops}
        rows = [
            r for r in rows
            if r.due not in manual and self._defined(name, r.due) and r.status is not Status.QUEUED
        ]  # fmt: skip
        begun = {r.due for r in rows if r.attempt > 0}
        state = self.desk.engine.tasks.get(name)
        waiting = state.queued if state is not None else None
        if waiting is not None and waiting.cause in CLOCK_DRIVEN and self._defined(name, waiting.due):
            begun.add(waiting.due)
        # What was missed because the scheduler stopped may be made up by the next one.
        made_up = [r for r in rows if r.reason == Reason.STOPPED and r.due in begun]
        others = [r for r in rows if r.attempt == 0 and r not in made_up]
        if loops:
            # What was due while it was paused is run after all when it is resumed in the same stretch.
            others = [r for r in others if r.due not in begun]
        both = begun & {r.due for r in others}
        assert not both, f"{name} has two outcomes for {sorted(map(iso, both))}"
        return len(begun) + sum(r.count for r in others)

    def _defined(self, name: str, due: Instant) -> bool:
        """Whether this was due; a loop defined in mid-phase is run for a due that nobody expected of it."""
        return any(
            segment.since <= due and (segment.until is None or due <= segment.until)
            and segment.trigger.count_between(due, due + 1, segment.table) for segment in self.segments[name]
        )  # fmt: skip
