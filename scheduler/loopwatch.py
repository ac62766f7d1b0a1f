"""Watches the event loop from a thread: names what blocks it while it does, and measures its lag.

While runs are alive the loop is asked for an answer every 250 ms. How late the answers come is its lag
(law 10). An answer that is half a second late is a stall: it is told by the thread and at once, since
the loop can say nothing before it is free again. A probe costs two wake-ups and some 50 us of CPU.

While no run is alive nothing is asked and the thread sleeps: idle means idle. It only looks, half a
second after each appointment of the loop (the waker's timer), whether that has been kept.

C code that holds the interpreter's lock stops every thread, this one too. It is then seen when it lets
go: still in the frame that called it.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from scheduler.clock import SystemClock
from scheduler.core.admission import LAG_WINDOW, PROBE_EVERY, LagWindow
from scheduler.core.messages import MILLISECOND, SECOND, Duration
from scheduler.executors.places import place

STALL = 500 * MILLISECOND
REPEAT = 10 * SECOND  # after which a stall that lasts is told again
_WORTH_TELLING = 100 * MILLISECOND  # of lag: no threshold of shedding lies below
_LAST_LOOK = 5.0  # seconds that the end waits for a thread in the middle of a line of the log
_MACHINERY = (str(Path(asyncio.__file__).parent), selectors.__file__, __file__)
_RUNNERS = tuple(str(Path(__file__).parent / part) for part in ("runs", "executors"))
_DEEPEST = 12  # frames that are told

_real_time = SystemClock().monotonic  # a stall is one on any clock


class Sight(NamedTuple):
    """What the loop's thread was found doing. Without frames it waits, or is in a callback written in C."""

    culprit: str = "a callback"  # the task, else what asyncio knows
    run_id: str = ""  # of a task of the scheduler
    stack: tuple[str, ...] = ()  # ``file.py:12 in function``, innermost last


class Stall(NamedTuple):
    """The loop does not answer."""

    began: Duration  # monotonic, up to PROBE_EVERY too late
    seconds: float  # so far, or in all
    sight: Sight
    earlier: str = ""  # another culprit, seen just before: many callbacks rather than one

    def fields(self) -> dict[str, Any]:
        """For a line of the log; what is not known is left out."""
        culprit, run_id, stack = self.sight
        told: dict[str, Any] = {"task": culprit, "run_id": run_id} if run_id else {}
        told |= {"culprit": culprit, "frame": stack[-1] if stack else "no Python code"}
        told["seconds"] = round(self.seconds, 2)
        if len(stack) > 1:
            told["stack"] = list(stack)
        if self.earlier:
            told["earlier"] = self.earlier
        if run_id:
            told["hint"] = "give it `isolation: thread` or `isolation: process`"
        return told


class LoopWatch:
    """Watches the loop that it is made in. ``stalls`` counts since the start."""

    def __init__(
        self,
        *,
        appointment: Callable[[], Duration | None],
        busy: Callable[[], bool],
        whose: Callable[[asyncio.Task[Any]], tuple[str, str] | None],
        on_stall: Callable[[Stall], None],
        on_over: Callable[[Stall], None],
        on_lag: Callable[[Duration], None],
    ) -> None:
        """On the watch's thread are called: ``appointment`` for the monotonic time at which the loop
        will wake by itself, ``whose`` for the name and run id of an asyncio task's owner, ``on_stall``
        when a stall is found and every ten seconds while it lasts. On the loop: ``busy``, whether runs
        are alive, ``on_over`` after a stall, ``on_lag`` with the mean while it is worth telling.
        """
        self.stalls = 0
        self._appointment = appointment
        self._busy = busy
        self._whose = whose
        self._on_stall = on_stall
        self._on_over = on_over
        self._on_lag = on_lag
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._base: FrameType | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()  # held while a stall begins or ends, so that its lines are in order
        self._wake = threading.Event()
        self._closed = False
        self._waiting: deque[Duration] = deque()  # when the probes without an answer were due
        self._answered: Duration = 0  # when it answered last: since then at the earliest it is late
        self._stall: Stall | None = None
        self._told: Duration = 0
        self._glimpse: Sight | None = None  # of a loop that is late, but not yet for a stall
        self._window = LagWindow()
        self._lagging = False
        self._resting = False
        self._attended = False  # work has begun since the last answer
        self._failed = False  # to look, and that has been told

    # On the loop.

    def start(self) -> None:
        """Begin. For a coroutine to call; without it nothing else here does anything."""
        self._base = _base_of_the_loop()
        self._thread = threading.Thread(target=self._run, name="loop-watch", daemon=True)
        self._thread.start()

    def attend(self) -> None:
        """Work begins on the loop: what blocks it from now on is found within a second."""
        self._attended = True
        if self._resting:
            self._resting = False
            self._wake.set()

    def close(self) -> None:
        """Watch no more. Idempotent."""
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_LAST_LOOK)
        self._thread = self._base = None

    @property
    def stalled(self) -> float:
        """Seconds that the loop has not answered for, at this moment; 0.0 when it turns. Any thread."""
        stall = self._stall
        return (_real_time() - stall.began) / SECOND if stall is not None else 0.0

    @property
    def mean_lag(self) -> Duration:
        """Over the last five seconds."""
        return self._window.mean(_real_time())

    def _answer(self) -> None:
        now = _real_time()
        with self._lock:
            due, self._answered = self._waiting.popleft(), now
            stall, self._stall, self._glimpse = self._stall, None, None
        if self._closed:
            return
        self._window.note(due, now)
        mean = self._window.mean(now)
        told, self._lagging = self._lagging, mean > _WORTH_TELLING
        attended, self._attended = self._attended, False
        self._resting = not (attended or self._lagging or self._waiting or self._busy())
        if stall is not None:
            self._on_over(stall._replace(seconds=(now - stall.began) / SECOND))
        if self._lagging or told:
            self._on_lag(mean)

    # On the watch's own thread.

    def _run(self) -> None:
        due = _real_time() + PROBE_EVERY
        while not self._closed:
            now = _real_time()
            if self._resting:
                due = self._rest()
            elif now < due:
                self._sleep(due - now)
            else:
                try:
                    self._try_look(due)
                    due = max(due, now - LAG_WINDOW)  # older ones would be forgotten at once
                    while due <= now:  # more than one if this thread has been held up as well
                        self._ask(due)
                        due += PROBE_EVERY
                except RuntimeError:  # the loop has been closed without a word to us
                    return

    def _sleep(self, duration: Duration | None) -> bool:
        """Whether it ended before its time."""
        woken = self._wake.wait(None if duration is None else duration / SECOND)
        self._wake.clear()
        return woken

    def _rest(self) -> Duration:
        """Sleep until there is work or an appointment is missed; when to look at the loop then."""
        while self._resting and not self._closed:
            appointment = self._appointment()
            if appointment is None:
                self._sleep(None)
                continue
            left = appointment + STALL - _real_time()
            if left > 0:
                self._sleep(left)
            elif appointment == self._appointment():
                self._resting = False
                return appointment
        return _real_time() + PROBE_EVERY

    def _ask(self, due: Duration) -> None:
        self._waiting.append(due)
        self._loop.call_soon_threadsafe(self._answer)

    def _try_look(self, due: Duration) -> None:
        """What fails is told once, and the watch goes on. RuntimeError when the loop has been closed."""
        try:
            self._look(due)
        except Exception as problem:  # noqa: BLE001 - the next stall is to be found all the same
            if not self._failed:
                self._failed = True
                trouble = {"message": "the watch of the event loop failed", "exception": problem}
                self._loop.call_soon_threadsafe(self._loop.call_exception_handler, trouble)

    def _look(self, due: Duration) -> None:
        """Is the loop late with an answer? This very probe counts when the thread itself comes late."""
        with self._lock:
            now = max(_real_time(), due)
            began = max(self._waiting[0], self._answered) if self._waiting else due
            if self._closed or self._loop.is_closed() or now - began < PROBE_EVERY:
                return
            sight = self._sight()
            if self._stall is not None:
                if now - self._told >= REPEAT:
                    seconds = (now - self._stall.began) / SECOND
                    self._tell(self._stall._replace(seconds=seconds, sight=sight), now)
            elif now - began < STALL:
                self._glimpse = sight
            elif self._waiting or sight.stack:  # else the whole process stood still
                self.stalls += 1
                before = self._glimpse.culprit if self._glimpse is not None else sight.culprit
                earlier = "" if before == sight.culprit else before
                self._tell(Stall(began, (now - began) / SECOND, sight, earlier), now)

    def _tell(self, stall: Stall, now: Duration) -> None:
        self._stall, self._told = stall, now
        self._on_stall(stall)

    def _sight(self) -> Sight:
        task = asyncio.current_task(self._loop)
        stack = self._stack()
        if task is None:
            return Sight(stack=stack)
        owner = self._whose(task)
        if owner is not None:
            return Sight(*owner, stack)
        return Sight(str(getattr(task.get_coro(), "__qualname__", task.get_name())), "", stack)

    def _stack(self) -> tuple[str, ...]:
        """Where the loop's thread is, without asyncio and what has started the loop."""
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - the one way to see a thread
        frames: list[FrameType] = []
        while frame is not None and frame is not self._base:
            if not frame.f_code.co_filename.startswith(_MACHINERY):
                frames.append(frame)
            frame = frame.f_back
        while len(frames) > 1 and frames[-1].f_code.co_filename.startswith(_RUNNERS):
            frames.pop()
        return tuple(place(frame) for frame in reversed(frames[:_DEEPEST]))


def _base_of_the_loop() -> FrameType | None:
    """The frame of whoever runs the loop: what is above it on the stack is the loop and its callbacks.

    uvloop itself has no Python frames.
    """
    task = asyncio.current_task()
    frame = getattr(task.get_coro(), "cr_frame", None) if task is not None else None
    base: FrameType | None = frame.f_back if frame is not None else None
    while base is not None and base.f_code.co_filename.startswith(_MACHINERY):
        base = base.f_back
    return base
