"""The vocabulary of the executors: what they are given, and what they answer."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from scheduler.core.messages import Instant, Reason, Run, Status, TaskSpec

if TYPE_CHECKING:
    from scheduler.executors.targets import Target

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_ERROR = 500  # characters; the traceback says the rest
_NAMED = 3  # of the things that a message is about


class Facts(NamedTuple):
    """What the calendar says of the instant at which a run is due."""

    phase: str
    session: str  # ISO date of the session begun latest, or the anchor's own; "" before the first
    zone: tzinfo  # of the market: in which `{due}` and `ctx.due` are shown


class Outcome(NamedTuple):
    """What became of a run. ``lingering``: it could not be ended and its thread goes on."""

    status: Status
    reason: str = ""
    error: str = ""
    lingering: bool = False


DONE = Outcome(Status.COMPLETED)


class Log(Protocol):
    """The part of a structlog bound logger that is used here."""

    def debug(self, event: str, **fields: Any) -> Any: ...
    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...
    def error(self, event: str, **fields: Any) -> Any: ...


class Owner(Protocol):
    """Who owns what a run starts, and hears of what it leaves behind."""

    def background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task that ends with the run at the latest."""

    def leaked(self, kind: str, count: int, where: str) -> None:
        """The run left ``count`` of ``kind`` ("task", "thread", "process") behind."""

    def returned(self) -> None:
        """What lingered has come back."""


class Services(NamedTuple):
    """What every job may need."""

    facts: Callable[[Run, TaskSpec], Facts]
    context: Callable[[Job], Any]
    log: Callable[[Run], Log]
    on_failure: Callable[[Run, str, str], None]


class Flag(threading.Event):
    """An event that is true once it is set, so that `if ctx.cancelled:` means what it says."""

    def __bool__(self) -> bool:
        return self.is_set()


class Job:
    """One run to execute, with all that an executor needs to know."""

    stopping = False  # the run has been asked to end
    forced = False  # and its grace is over
    thread: int | None = None  # the identifier of the thread that it runs in, if not the loop's
    _cancelled: threading.Event | None = None
    _facts: Facts | None = None

    def __init__(
        self, run: Run, spec: TaskSpec, owner: Owner, target: Target | None, services: Services
    ) -> None:
        self.run = run
        self.spec = spec
        self.owner = owner
        self.target = target  # None: nothing is imported into the daemon
        self._services = services

    @property
    def facts(self) -> Facts:
        """What the calendar says; asked for when needed, since most runs do not."""
        if self._facts is None:
            self._facts = self._services.facts(self.run, self.spec)
        return self._facts

    @property
    def log(self) -> Log:
        """A logger bound to the run; made when asked for, since most runs say nothing."""
        return self._services.log(self.run)

    @property
    def due(self) -> datetime:
        return self.moment(self.run.due)

    def moment(self, t: Instant) -> datetime:
        """The instant as an aware datetime in the market's zone."""
        return (_EPOCH + timedelta(microseconds=t // 1000)).astimezone(self.facts.zone)

    @property
    def cancelled(self) -> threading.Event:
        """Set when the run is asked to end. First touched on the loop's thread."""
        if self._cancelled is None:
            self._cancelled = Flag()
            if self.stopping:
                self._cancelled.set()
        return self._cancelled

    def stop(self) -> None:
        """Tell whoever looks at ``cancelled`` that the run is to end."""
        self.stopping = True
        if self._cancelled is not None:
            self._cancelled.set()

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of the callable: those of `with`, and `ctx` if it wants one."""
        arguments = dict(self.spec.work.arguments)
        if self.target is not None and self.target.wants_ctx:
            arguments["ctx"] = self.context()
        return arguments

    def context(self) -> Any:
        """The context as the task sees it."""
        return self._services.context(self)

    def failed(self, problem: BaseException) -> Outcome:
        """The outcome of a run whose task raised; the traceback goes to the failure callback."""
        if self.stopping and isinstance(problem, asyncio.CancelledError):
            return DONE  # what it is called is the business of whoever stopped it
        return self.failed_with(describe(problem), "".join(traceback.format_exception(problem)))

    def stopped(self, at: str = "") -> Outcome:
        """The outcome of a process that was asked to end; its status is for whoever asked to say.

        ``at`` is where it was when it was asked.
        """
        killed = f"it had to be killed, at {at}" if at else "it had to be killed"
        return Outcome(Status.COMPLETED, error=killed if self.forced else "")

    def failed_with(self, error: str, details: str = "") -> Outcome:
        self._services.on_failure(self.run, error, details)
        return Outcome(Status.FAILED, Reason.ERROR, error)


class Executor(Protocol):
    """One way to run a job."""

    async def execute(self, job: Job) -> Outcome:
        """Run the job to its end; never raises.

        A cancellation asks it to end; once ``job.forced`` is set a further one says at once.
        """


def describe(problem: BaseException) -> str:
    """``ValueError: what went wrong``, on one line."""
    try:
        text = " ".join(str(problem).split())
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the failure itself
        text = "(its text cannot be shown)"
    name = type(problem).__name__
    text = f"{name}: {text}" if text else name
    return text if len(text) <= _LONGEST_ERROR else text[: _LONGEST_ERROR - 1] + "…"


def named(things: Iterable[str]) -> str:
    """The first few of them, and how many more there are."""
    texts = list(things)
    more = f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return "; ".join(texts[:_NAMED]) + more


async def outlast(future: asyncio.Future[Any], job: Job, ask: Callable[[], None] | None = None) -> bool:
    """Wait for what cannot be cancelled: the first cancellation asks it to end.

    False when a cancellation found ``job.forced`` set before the future was done.
    """
    asked = False
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            if future.done():
                break
            if job.forced:
                return False
            if ask is not None and not asked:
                ask()
            asked = True
    return True
