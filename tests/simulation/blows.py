"""What befalls the daemon, drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from tests.helpers import instant
from tests.simulation.desk import DESK
from tests.simulation.exchange import AMENDMENTS, SECOND

DAY = 86_400


class Span(NamedTuple):
    """From when to when a story goes, in instants."""

    begin: int
    end: int


WEEK = Span(instant("2026-11-20T14:50:00.400+05:30"), instant("2026-11-27T16:40:00.400+05:30"))
# A trading day, a night and an open, for when there is no time for a week.
SHORT = Span(instant("2026-11-25T08:40:00.400+05:30"), instant("2026-11-26T10:10:00.400+05:30"))

# When something is worth doing: round the edges of phases, in their midst, and when nothing trades.
_MOMENTS = [
    "09:00", "09:15", "09:40", "11:00", "13:00", "15:09", "15:28", "15:30", "15:46", "17:00", "20:00",
    "02:30", "23:59",
]  # fmt: skip


class Blow(NamedTuple):
    """What happens at an instant of true time, which is that of a clock that nobody steps."""

    at: int
    kind: str
    seconds: float = 0  # of downtime, of a step, of the loop's lag
    what: str = ""  # the task or the amendment that it is about; of a reload its seed

    def __str__(self) -> str:
        return f"{self.kind} {self.what} {self.seconds} s"


def blows(seed: int, span: Span = WEEK) -> list[Blow]:
    """Everything that befalls the daemon, in order."""
    draw = random.Random(f"blows/{seed}")  # noqa: S311
    found: list[Blow] = []
    for kind, most in _KINDS.items():
        for _ in range(draw.randint(most // 2, most)):
            found += _MAKERS.get(kind, _plain)(kind, _moment(draw, span), draw)
    inside = [blow for blow in found if blow.at < span.end - 600 * SECOND]
    if span is WEEK and draw.random() < 0.3:  # from Friday evening to Monday morning
        down = instant("2026-11-20T15:00:00+05:30") + draw.randint(0, 10_000) * SECOND
        inside.append(Blow(down, "stop", draw.choice([200_000, 236_500, 239_000, 240_600])))
    return sorted(inside + _rounds(span))


def _rounds(span: Span) -> list[Blow]:
    """Someone comes round and resumes what is parked, or a week would see little of it."""
    rounds = (
        instant(f"2026-11-{day}T{moment}:00+05:30")
        for day in range(20, 28)
        for moment in ("08:50", "11:40", "14:10", "15:40", "19:00")
    )
    return [Blow(at, "round") for at in rounds if span.begin < at < span.end]


def _moment(draw: random.Random, span: Span) -> int:
    while True:
        day = draw.choice(["20", "21", "23", "24", "25", "26", "27"])
        moment = instant(f"2026-11-{day}T{draw.choice(_MOMENTS)}:00+05:30")
        at = moment + int(draw.uniform(-90, 90) * SECOND)
        if span.begin + 120 * SECOND < at < span.end - 600 * SECOND:
            return at


def _down(kind: str, at: int, draw: random.Random) -> list[Blow]:
    return [Blow(at, kind, draw.choice([1, 20, 300, 2500, 60_000]))]


def _step(kind: str, at: int, draw: random.Random) -> list[Blow]:
    return [Blow(at, kind, draw.choice([3, 40, 700, 7200, -2, -50, -900, -4000, -DAY]))]


def _suspend(kind: str, at: int, draw: random.Random) -> list[Blow]:
    return [Blow(at, kind, draw.choice([40, 700, 7200, DAY]))]


def _lag(kind: str, at: int, draw: random.Random) -> list[Blow]:
    calm = at + draw.choice([40, 400, 4000]) * SECOND
    return [Blow(at, kind, draw.choice([0.2, 0.3, 1.2])), Blow(calm, kind, 0.0)]


def _full(kind: str, at: int, draw: random.Random) -> list[Blow]:
    return [Blow(at, kind), Blow(at + draw.choice([30, 1000, 20_000]) * SECOND, "room")]


def _pause(kind: str, at: int, draw: random.Random) -> list[Blow]:
    task = draw.choice(list(DESK))
    return [
        Blow(at, kind, what=task),
        Blow(at + draw.choice([30, 500, 10_000]) * SECOND, "resume", what=task),
    ]


def _by_hand(kind: str, at: int, draw: random.Random) -> list[Blow]:
    return [Blow(at, kind, what=draw.choice(list(DESK)))]


def _amend(kind: str, at: int, draw: random.Random) -> list[Blow]:
    return [Blow(at, kind, what=draw.choice(list(AMENDMENTS)))]


def _plain(kind: str, at: int, draw: random.Random) -> list[Blow]:
    return [Blow(at, kind, what=str(draw.randrange(1 << 30)))]


_KINDS = {
    "stop": 2, "crash": 2, "step": 2, "suspend": 2, "reload": 4, "amend": 2, "lag": 2, "full": 1,
    "pause": 4, "run-now": 4, "restart": 3, "cancel": 2,
}  # fmt: skip
_MAKERS: dict[str, Callable[[str, int, random.Random], list[Blow]]] = {
    "stop": _down, "crash": _down, "step": _step, "suspend": _suspend, "amend": _amend, "lag": _lag,
    "full": _full, "pause": _pause, "run-now": _by_hand, "restart": _by_hand, "cancel": _by_hand,
}  # fmt: skip
