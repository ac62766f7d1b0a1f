"""Runs that wait: behind an active one of their task, or for a slot; and how slots come free."""

from __future__ import annotations

from bisect import insort
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from scheduler.core.messages import SECOND, Instant, Reason, Run
from scheduler.core.tasks import CLOCK_DRIVEN, PROMPT, Kind, TaskState
from scheduler.core.timetable import Timer, Timetable

if TYPE_CHECKING:
    from scheduler.core.admission import Admission
    from scheduler.core.lifecycle import Lifecycle

LOOK_EVERY = SECOND  # how often those are sought that have waited too long


class Waiter(NamedTuple):
    """One run in the queue; compared by the first three, of which ``order`` is unique."""

    rank: int
    due: Instant
    order: int
    state: TaskState
    run: Run
    since: Instant  # from when its lateness counts

    @property
    def left(self) -> bool:
        """Replaced, given up or started since."""
        return self.state.queued is not self.run

    def too_late(self, now: Instant) -> bool:
        """Law 4: it may not be started any more. A loop may as long as its phase holds."""
        if now - self.since <= PROMPT:
            return False
        if self.state.keeps_running:
            return not self.state.may_start(self.run.due, now)
        return now > self.state.latest_start(self.since) or not self.state.same_stretch(self.since, now)


class WaitingRoom:
    """A sorted queue: by priority and name, then by due.

    Runs that come due together arrive in order, so that adding is appending.
    """

    def __init__(self) -> None:
        self._queue: deque[Waiter] = deque()
        self._order = 0

    def __bool__(self) -> bool:
        return bool(self._queue)

    def add(self, state: TaskState, run: Run, since: Instant) -> None:
        self._order += 1
        waiter = Waiter(state.rank, run.due, self._order, state, run, since)
        if not self._queue or self._queue[-1] < waiter:
            self._queue.append(waiter)
        else:
            insort(self._queue, waiter)

    def first(self) -> Waiter | None:
        """Who goes next."""
        queue = self._queue
        while queue and queue[0].left:
            queue.popleft()
        return queue[0] if queue else None

    def pop(self) -> None:
        self._queue.popleft()

    def tasks(self) -> set[str]:
        """Whose runs wait."""
        return {waiter.state.name for waiter in self._queue if not waiter.left}

    def too_late(self, now: Instant) -> list[Waiter]:
        """Those who have waited too long; they stay until they are given up."""
        self._queue = deque(waiter for waiter in self._queue if not waiter.left)
        return [waiter for waiter in self._queue if waiter.too_late(now)]


class Queueing:
    """Each task has at most one run that waits, its ``queued``; for as long as that may start late."""

    def __init__(self, life: Lifecycle, timetable: Timetable[object], admission: Admission) -> None:
        self._life = life
        self._timetable = timetable
        self._admission = admission
        self._room = WaitingRoom()  # for a slot
        self._look: Timer[object] = Timer(self, Kind.WAITING, -1)

    def start_or_wait(self, state: TaskState, run: Run) -> None:
        """For a slot."""
        if self._admission.has_slot(state.spec.priority):
            if state.queued is not None:
                self.give_up(state, Reason.NO_SLOT)  # an older one that got none
            self._life.start(state, run)
        else:
            self._take_place(state, run, Reason.NO_SLOT)
            self._room.add(state, run, self._late_from(run))
            if self._look.when is None:
                self._timetable.set(self._look, self._life.now + LOOK_EVERY)

    def wait_behind(self, state: TaskState, run: Run) -> None:
        """For the end of the task's active run."""
        self._take_place(state, run, Reason.OVERLAP)
        if not state.keeps_running:
            self._set_deadline(state, self._late_from(run))

    def _take_place(self, state: TaskState, run: Run, reason: Reason) -> None:
        if state.queued is not None:
            self._life.outcomes.skip(state, state.queued, reason)
        state.queued = run
        if run.cause not in CLOCK_DRIVEN:
            self.put_on_record(state)

    def _late_from(self, run: Run) -> Instant:
        return run.due if run.cause in CLOCK_DRIVEN else self._life.now

    def _set_deadline(self, state: TaskState, since: Instant) -> None:
        latest = state.latest_start(since)
        if state.piece_at(since) is not None:
            latest = min(latest, state.table.next_flip(since) - 1)
        self._timetable.set(state.timer(Kind.DEADLINE), max(latest, since + PROMPT) + 1)

    def deadline(self, state: TaskState) -> None:
        """What waits behind a run may have to give up.

        Unless a newer tick has taken its place, or its stretch of the day has been made longer.
        """
        run = state.queued
        if run is None:
            return
        if state.may_start(run.due, self._life.now):
            self._set_deadline(state, run.due)
        else:
            self.give_up(state, Reason.OVERLAP)

    def give_up(self, state: TaskState, reason: Reason) -> None:
        """What waits, if anything does, is not started any more."""
        run = self._take_out(state)
        if run is not None:
            self._life.outcomes.give_up(state, run, reason)

    def cancel(self, state: TaskState) -> None:
        """Something waits, and an operator does not want it."""
        run = self._take_out(state)
        assert run is not None, "who asks has seen it wait"
        self._life.outcomes.cancel(state, run)

    def _take_out(self, state: TaskState) -> Run | None:
        run, state.queued = state.queued, None
        self._life.clear(state, Kind.DEADLINE)
        return run

    def put_on_record(self, state: TaskState) -> None:
        """So that a crash does not lose what waits, where nothing else says that it was due."""
        run = state.queued
        if run is not None and run.attempt == 1:  # else a failed attempt is on record
            self._life.outcomes.put_on_record(state, run.due, run.cause)

    # Slots come free.

    def release(self, state: TaskState) -> None:
        """Its run is over."""
        slot, state.slot = state.slot, None
        assert slot is not None, "whatever runs, or lingers, has taken one"
        self._admission.release(slot)

    def next(self, state: TaskState) -> None:
        """Something of the task has ended: start what waits for that, and for slots."""
        room, life = self._room, self._life
        if state.queued is not None and state.active is None and not life.stopping:
            life.clear(state, Kind.DEADLINE)
            room.add(state, state.queued, self._late_from(state.queued))  # the room decides who goes first
        while room and (waiter := room.first()) is not None:
            if not self._admission.has_slot(waiter.state.spec.priority):
                return
            room.pop()
            state, run = waiter.state, waiter.run
            refusal = Reason.NO_SLOT if waiter.too_late(life.now) else life.refusal(state, run)
            if refusal is None:
                state.queued = None
                life.start(state, run)
            else:
                self.give_up(state, refusal)

    def give_up_late(self) -> None:
        """Runs that got no slot in the time that law 4 gives them."""
        life = self._life
        for waiter in self._room.too_late(life.now):
            self.give_up(waiter.state, Reason.NO_SLOT)
        waiting = self._room.tasks()
        life.memory.waiting(waiting, life.now)
        self._timetable.set(self._look, life.now + LOOK_EVERY if waiting else None)

    def __bool__(self) -> bool:
        """Whether runs wait for a slot."""
        return bool(self._room)
