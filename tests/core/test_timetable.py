"""The timetable against the plainest thing that could be it: a dict of timers and their instants."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.timetable import Timer, Timetable

RANKS, KINDS = range(4), range(3)
OWNERS = list(product(RANKS, KINDS))  # as in the engine, no two timers have the same rank and kind
CONSTANT = 65  # entries that are garbage before anybody sweeps

owners = st.sampled_from(OWNERS)
instants = st.integers(0, 30)
steps = st.one_of(
    st.tuples(st.just("set"), owners, instants),
    st.tuples(st.just("clear"), owners, st.none()),
    st.tuples(st.just("pop"), st.none(), instants),
    st.tuples(st.just("shift"), st.frozensets(st.sampled_from(KINDS)), st.integers(-5, 5)),
)


def entries(timetable: Timetable) -> int:
    """How much there is in the timetable, garbage included."""
    return sum(map(len, timetable._buckets.values()))


class Model:
    """What is set, in a dict."""

    def __init__(self) -> None:
        self.when: dict[tuple[int, int], int] = {}

    def next(self) -> int | None:
        return min(self.when.values(), default=None)

    def pop_due(self, now: int) -> list[tuple[int, tuple[int, int]]]:
        due = sorted(owner for owner, when in self.when.items() if when <= now)
        return [(self.when.pop(owner), owner) for owner in due]

    def shift(self, by: int, kinds: frozenset[int]) -> None:
        self.when = {(rank, kind): at + by * (kind in kinds) for (rank, kind), at in self.when.items()}


@settings(max_examples=300, deadline=None)
@given(program=st.lists(steps, max_size=60))
def test_it_agrees_with_a_dict_of_timers(program: list[tuple]) -> None:
    timetable: Timetable[str] = Timetable()
    timers = {(rank, kind): Timer("someone", kind, rank) for rank, kind in OWNERS}
    names = {timer: owner for owner, timer in timers.items()}
    model = Model()
    for verb, subject, value in program:
        if verb == "set":
            timetable.set(timers[subject], value)
            model.when[subject] = value
        elif verb == "clear":
            timetable.set(timers[subject], None)
            model.when.pop(subject, None)
        elif verb == "pop":
            popped = [(when, names[timer]) for when, timer in timetable.pop_due(value)]
            assert popped == model.pop_due(value)
        else:
            timetable.shift(value, subject)
            model.shift(value, subject)
        assert len(timetable) == len(model.when)
        assert timetable.next() == model.next()
        assert {owner: timer.when for owner, timer in timers.items() if timer.when is not None} == model.when


def test_due_together_means_due_now_so_that_a_late_critical_timer_goes_before_an_older_lesser_one() -> None:
    timetable: Timetable[str] = Timetable()
    timetable.set(Timer("important", 0, 1), 10)
    timetable.set(Timer("critical", 0, 0), 20)
    assert [timer.owner for _, timer in timetable.pop_due(25)] == ["critical", "important"]


def test_a_timer_that_is_not_due_stays() -> None:
    timetable: Timetable[str] = Timetable()
    timetable.set(Timer("a", 0, 0), 10)
    assert timetable.pop_due(9) == []
    assert timetable.next() == 10


@settings(max_examples=60, deadline=None)
@given(
    live=st.integers(0, 150),
    moves=st.lists(st.tuples(st.integers(0, 149), st.none() | st.integers(0, 1000)), max_size=600),
)
def test_what_was_moved_or_cleared_takes_no_more_room_than_what_is_set(
    live: int, moves: list[tuple[int, int | None]]
) -> None:
    timetable: Timetable[int] = Timetable()
    timers = [Timer(number, 0, number) for number in range(150)]
    for timer in timers[:live]:
        timetable.set(timer, 500)
    for number, when in moves:
        timetable.set(timers[number], when)
        if when is not None:  # what is cleared is swept with the next timer set
            assert entries(timetable) <= 2 * len(timetable) + CONSTANT


def test_one_timer_that_is_moved_for_ever_takes_no_room() -> None:
    timetable: Timetable[str] = Timetable()
    timer = Timer("a", 0, 0)
    for when in range(100_000):
        timetable.set(timer, when)
    assert entries(timetable) <= 2 + CONSTANT
    assert timetable.pop_due(100_000) == [(99_999, timer)]


def test_the_garbage_of_timers_that_have_gone_off_is_swept_with_the_next_one_set() -> None:
    timetable: Timetable[int] = Timetable()
    timers = [Timer(number, 0, number) for number in range(1000)]
    for timer in timers:
        timetable.set(timer, 1000)
    for timer in timers[:990]:
        timetable.set(timer, 1)  # nearly all entries at 1000 are garbage now
    timetable.pop_due(1)
    timetable.set(timers[0], 2)
    assert len(timetable) == 11
    assert entries(timetable) <= 2 * len(timetable) + CONSTANT


def test_timers_that_are_set_go_off_after_a_sweep_too() -> None:
    timetable: Timetable[int] = Timetable()
    timers = [Timer(number, 0, number) for number in range(10)]
    for timer in timers:
        timetable.set(timer, 5000 + timer.owner)
    for when in range(1000):
        timetable.set(timers[0], when)  # swept a dozen times
    assert [(when, timer.owner) for when, timer in timetable.pop_due(9999)] == [
        (999, 0), *((5000 + number, number) for number in range(1, 10)),
    ]  # fmt: skip


def test_it_is_swept_when_garbage_outweighs_what_lives_by_64_entries_and_not_before() -> None:
    timetable: Timetable[int] = Timetable()
    timers = [Timer(number, 0, number) for number in range(10)]
    for timer in timers:
        timetable.set(timer, 5000)
    for when in range(64 + 10):
        timetable.set(timers[0], when)
    assert entries(timetable) == 64 + 2 * 10
    timetable.set(timers[0], 100)
    assert entries(timetable) == 10


def test_it_knows_how_much_is_in_it_whatever_was_taken_out() -> None:
    timetable: Timetable[int] = Timetable()
    timers = [Timer(number, 0, number) for number in range(6)]
    assert timetable._entries == 0
    for timer in timers:
        timetable.set(timer, 10)
    timetable.set(timers[5], 20)
    timetable.set(timers[4], None)
    assert timetable.next() == 10  # which takes two from the end of the first bucket
    assert timetable._entries == entries(timetable) == 5
    timetable.pop_due(10)
    assert timetable._entries == entries(timetable) == 1
