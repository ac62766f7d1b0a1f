"""Slots, the reservation for critical tasks, and shedding with its hysteresis (law 10)."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.admission import LAG_WINDOW, PROBE_EVERY, Admission, LagWindow
from scheduler.core.messages import MILLISECOND, SECOND, Priority

CRITICAL, IMPORTANT, NICE = Priority


def filled(**taken: int) -> Admission:
    admission = Admission()
    for name, number in taken.items():
        for _ in range(number):
            assert admission.has_slot(Priority[name.upper()])
            admission.take(Priority[name.upper()])
    return admission


def test_sixty_four_slots_are_all_there_is_even_for_critical() -> None:
    admission = filled(critical=64)
    assert not any(admission.has_slot(priority) for priority in Priority)


def test_sixteen_slots_are_kept_for_critical() -> None:
    admission = filled(important=40, nice_to_have=8)
    assert not admission.has_slot(IMPORTANT)
    assert not admission.has_slot(NICE)
    assert admission.has_slot(CRITICAL)
    for _ in range(16):
        admission.take(CRITICAL)
    assert not admission.has_slot(CRITICAL)


def test_critical_runs_may_use_slots_beyond_the_reservation() -> None:
    admission = filled(critical=40)
    assert admission.has_slot(IMPORTANT)
    for _ in range(24):
        admission.take(IMPORTANT)
    assert not any(admission.has_slot(priority) for priority in Priority)


def test_a_slot_that_is_given_back_is_free_for_what_may_have_it() -> None:
    admission = filled(important=48, critical=16)
    admission.release(CRITICAL)
    assert admission.has_slot(CRITICAL)
    assert not admission.has_slot(IMPORTANT)
    admission.release(IMPORTANT)
    assert admission.has_slot(IMPORTANT)


@settings(max_examples=200, deadline=None)
@given(
    program=st.lists(st.tuples(st.booleans(), st.sampled_from(Priority)), max_size=60),
    slots=st.integers(1, 8),
    data=st.data(),
)
def test_it_agrees_with_counting_the_runs(
    program: list[tuple[bool, Priority]], slots: int, data: st.DataObject
) -> None:
    reserved = data.draw(st.integers(0, slots))
    admission = Admission(slots, reserved)
    running: Counter[Priority] = Counter()
    for starts, priority in program:
        others = running[IMPORTANT] + running[NICE]
        room = running.total() < slots and (priority is CRITICAL or others < slots - reserved)
        assert admission.has_slot(priority) is room
        if starts and room:
            admission.take(priority)
            running[priority] += 1
        elif running[priority]:
            admission.release(priority)
            running[priority] -= 1
        assert admission.taken == running.total()


@pytest.mark.parametrize(
    ("mean", "shed"),
    [
        (0, set()),
        (250 * MILLISECOND, set()),
        (250 * MILLISECOND + 1, {NICE}),
        (SECOND, {NICE}),
        (SECOND + 1, {NICE, IMPORTANT}),
        (3600 * SECOND, {NICE, IMPORTANT}),
    ],
)
def test_nice_to_have_is_shed_above_250_ms_and_important_above_a_second_and_critical_never(
    mean: int, shed: set[Priority]
) -> None:
    admission = Admission()
    assert admission.lag(mean) is bool(shed)
    assert admission.shedding == shed


def test_shedding_ends_at_half_the_threshold() -> None:
    admission = Admission()
    admission.lag(2 * SECOND)
    assert not admission.lag(500 * MILLISECOND + 1)
    assert admission.lag(500 * MILLISECOND)
    assert admission.shedding == {NICE}
    assert not admission.lag(125 * MILLISECOND + 1)
    assert admission.lag(125 * MILLISECOND)
    assert not admission.shedding


@given(lags=st.lists(st.integers(0, 2000).map(lambda n: n * MILLISECOND), max_size=40))
def test_whether_a_priority_is_shed_depends_on_its_last_crossing_only(lags: list[int]) -> None:
    admission = Admission()
    for at in range(len(lags)):
        before = admission.shedding
        assert admission.lag(lags[at]) is (admission.shedding != before)
        for priority, threshold in ((NICE, 250 * MILLISECOND), (IMPORTANT, SECOND)):
            above = [n for n in range(at + 1) if lags[n] > threshold]
            below = [n for n in range(at + 1) if lags[n] <= threshold // 2]
            assert (priority in admission.shedding) is (max(above, default=-1) > max(below, default=-1))


def stalled(*stalls: tuple[int, int], until: int) -> list[int]:
    """The means that a window tells, in ms, at each answer, of a loop stalled at (from, to) ms."""
    window, means = LagWindow(), []
    for due in range(0, until, PROBE_EVERY // MILLISECOND):
        answered = next((end for begin, end in stalls if begin <= due < end), due)
        window.note(due * MILLISECOND, answered * MILLISECOND)
        means.append(window.mean(answered * MILLISECOND) // MILLISECOND)
    return means


def test_one_stall_of_450_ms_on_a_quiet_loop_sheds_nothing() -> None:
    assert max(stalled((1000, 1450), until=20_000)) == (450 + 200) // 20


def test_a_loop_that_is_always_300_ms_late_sheds_the_nice_to_have() -> None:
    window, admission = LagWindow(), Admission()
    changes = []
    for due in range(0, 20 * SECOND, PROBE_EVERY):
        window.note(due, due + 300 * MILLISECOND)
        if admission.lag(window.mean(due + 300 * MILLISECOND)):
            changes.append((due, admission.shedding))
    [(since, shed)] = changes
    assert shed == {NICE}
    assert 3 * SECOND < since < LAG_WINDOW  # five seconds are averaged: it takes most of them


def test_a_long_stall_counts_for_five_seconds_and_is_forgotten_with_them() -> None:
    means = stalled((1000, 11_000), until=20_000)
    assert max(means) == pytest.approx(2500, abs=150)  # of what waited in the last five seconds of it
    at_the_end = 11_000 // 250
    assert all(means[n] >= means[n + 1] for n in range(at_the_end, len(means) - 1))
    assert means[16_000 // 250] == 0


def test_a_stretch_without_probes_was_a_quiet_one() -> None:
    window = LagWindow()
    window.note(0, 2 * SECOND)
    assert window.mean(2 * SECOND) == 100 * MILLISECOND
    assert window.mean(4 * SECOND) == 100 * MILLISECOND
    assert window.mean(LAG_WINDOW) == 0


def test_an_answer_before_its_time_is_no_credit() -> None:
    window = LagWindow()
    for probe in range(20):
        window.note(SECOND + probe, SECOND + probe - MILLISECOND)
    assert window.mean(SECOND) == 0


def test_a_mean_is_a_whole_number_of_nanoseconds() -> None:
    window = LagWindow()
    window.note(SECOND, SECOND + 39)
    assert repr(window.mean(SECOND)) == "1"  # a twentieth of it
