"""Restart policy: the table is whole, the backoff has its shape, the burst window counts rightly."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.messages import MINUTE, SECOND, RestartPolicy
from scheduler.core.supervision import TRANSITIONS, Health, Signal, Supervisor, Verdict, backoff, diagram

TRYING = (Verdict.RETRY, Verdict.ALARM_AND_RETRY)
HOPEFUL = RestartPolicy("always", burst=3, window=60 * SECOND, then="keep_trying")
STRICT = RestartPolicy("on-failure", burst=3, window=60 * SECOND, then="park")


def no_jitter() -> float:
    return 0.0


def test_the_table_answers_every_signal_in_every_state() -> None:
    assert set(TRANSITIONS) == set(product(Health, Signal))


@pytest.mark.parametrize("signal", list(Signal))
def test_what_is_parked_is_left_by_success_and_resumption_only(signal: Signal) -> None:
    after, _ = TRANSITIONS[Health.PARKED, signal]
    assert (after is not Health.PARKED) is (signal in {Signal.SUCCEEDED, Signal.RESUMED})


@pytest.mark.parametrize("health", list(Health))
def test_success_and_resumption_always_lead_back_to_health(health: Health) -> None:
    assert TRANSITIONS[health, Signal.SUCCEEDED][0] is Health.HEALTHY
    assert TRANSITIONS[health, Signal.RESUMED][0] is Health.HEALTHY


@pytest.mark.parametrize("health", [Health.HEALTHY, Health.BACKING_OFF])
def test_an_exceeded_burst_is_announced_when_it_is_reached_and_not_again(health: Health) -> None:
    assert TRANSITIONS[health, Signal.BURST_KEEP_TRYING] == (Health.CRASH_LOOPING, Verdict.ALARM_AND_RETRY)
    assert TRANSITIONS[Health.CRASH_LOOPING, Signal.BURST_KEEP_TRYING][1] is Verdict.RETRY
    assert TRANSITIONS[health, Signal.BURST_PARK] == (Health.PARKED, Verdict.PARK)
    assert TRANSITIONS[Health.PARKED, Signal.BURST_PARK][1] is Verdict.NOTHING


def test_only_a_recovery_is_announced_as_one() -> None:
    assert TRANSITIONS[Health.HEALTHY, Signal.SUCCEEDED][1] is Verdict.NOTHING
    ill = set(Health) - {Health.HEALTHY}
    assert {TRANSITIONS[health, Signal.SUCCEEDED][1] for health in ill} == {Verdict.RECOVER}


def test_a_failure_that_nobody_retries_does_not_move_the_state() -> None:
    assert all(TRANSITIONS[health, Signal.GAVE_UP] == (health, Verdict.NOTHING) for health in Health)


def test_the_diagram_shows_every_transition_that_does_something() -> None:
    arrows = [line.split(" / ") for line in diagram().splitlines() if " / " in line]
    told = sum(
        verdict is not Verdict.NOTHING or health is not after
        for (health, _), (after, verdict) in TRANSITIONS.items()
    )
    assert len(arrows) == told
    assert diagram().startswith("stateDiagram-v2\n    [*] --> HEALTHY\n")
    assert diagram().endswith("\n    PARKED --> HEALTHY: resumed / announce that it was resumed\n")


def test_the_backoff_is_a_second_doubling_to_half_a_minute_while_the_market_trades() -> None:
    delays = [backoff(n, trading=True, jitter=no_jitter) // SECOND for n in range(1, 9)]
    assert delays == [1, 2, 4, 8, 16, 30, 30, 30]


def test_the_backoff_is_a_second_doubling_to_five_minutes_while_it_rests() -> None:
    delays = [backoff(n, trading=False, jitter=no_jitter) // SECOND for n in range(1, 12)]
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


@given(failures=st.integers(1, 10_000), trading=st.booleans(), draw=st.floats(0, 1, exclude_max=True))
def test_jitter_takes_off_at_most_a_quarter_and_adds_nothing(
    failures: int, trading: bool, draw: float
) -> None:
    whole = backoff(failures, trading=trading, jitter=no_jitter)
    delay = backoff(failures, trading=trading, jitter=lambda: draw)
    assert whole * 3 // 4 <= delay <= whole


def test_jitter_takes_off_its_share_of_a_quarter() -> None:
    assert backoff(5, trading=True, jitter=lambda: 0.5) == 14 * SECOND
    assert backoff(9, trading=False, jitter=lambda: 0.25) == 240 * SECOND


happenings = st.lists(
    st.tuples(
        st.sampled_from(["failed", "failed", "failed", "failed", "succeeded", "resumed", "stepped"]),
        st.sampled_from([0, 1, 5, 19, 20, 21, 30, 60, 61]),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(
    happenings=happenings,
    burst=st.integers(1, 6),
    window=st.sampled_from([1, 20, 60]),
    then=st.sampled_from(["keep_trying", "park"]),
)
def test_the_burst_window_agrees_with_counting_all_failures_again(
    happenings: list[tuple[str, int]], burst: int, window: int, then: str
) -> None:
    supervisor = Supervisor(RestartPolicy("always", burst, window * SECOND, then))  # type: ignore[arg-type]
    now, wall = 0, 0  # seconds that have passed, and what the wall clock is off by
    failures: list[int] = []  # since health was last proven
    alarmed = False
    for kind, seconds in happenings:
        now += seconds
        if kind == "failed":
            failures.append(now)
            verdict = supervisor.failed((now + wall) * SECOND)
            exceeded = sum(now - window < at <= now for at in failures) >= burst
            if alarmed:
                assert verdict is (Verdict.NOTHING if then == "park" else Verdict.RETRY)
            elif exceeded:
                assert verdict is (Verdict.PARK if then == "park" else Verdict.ALARM_AND_RETRY)
                alarmed = True
            else:
                assert verdict is Verdict.RETRY
            assert supervisor.consecutive == len(failures)
        elif kind == "stepped":
            wall -= 7 * seconds
            supervisor.clock_stepped(-7 * seconds * SECOND)
        else:
            verdict = supervisor.succeeded() if kind == "succeeded" else supervisor.resumed()
            assert (verdict is Verdict.RECOVER) is (kind == "succeeded" and bool(failures))
            assert supervisor.health is Health.HEALTHY
            failures, alarmed = [], False
        assert len(supervisor._recent) <= burst


def test_failures_that_are_a_window_apart_are_not_a_burst() -> None:
    supervisor = Supervisor(STRICT)
    verdicts = [supervisor.failed(at * SECOND) for at in (0, 30, 60, 89)]
    assert verdicts == [Verdict.RETRY, Verdict.RETRY, Verdict.RETRY, Verdict.PARK]


def test_without_restarts_nothing_is_tried_again_and_nothing_is_parked() -> None:
    supervisor = Supervisor(RestartPolicy("never", burst=1))
    assert {supervisor.failed(at) for at in range(20)} == {Verdict.NOTHING}
    assert supervisor.health is Health.HEALTHY


def test_a_crash_loop_is_tried_on_and_over_after_one_success() -> None:
    supervisor = Supervisor(HOPEFUL)
    assert [supervisor.failed(0) for _ in range(4)] == [
        Verdict.RETRY, Verdict.RETRY, Verdict.ALARM_AND_RETRY, Verdict.RETRY,
    ]  # fmt: skip
    assert supervisor.succeeded() is Verdict.RECOVER
    assert supervisor.failed(MINUTE) in TRYING
    assert supervisor.health is Health.BACKING_OFF


def test_a_success_counts_failures_from_nothing_although_nobody_restarts_the_task() -> None:
    for failures in (1, 3):
        supervisor = Supervisor(RestartPolicy("never"))
        for at in range(failures):
            supervisor.failed(at)
        assert supervisor.consecutive == failures
        assert supervisor.succeeded() is Verdict.NOTHING
        assert supervisor.consecutive == 0


def test_what_the_scheduler_before_parked_is_parked_after_as_many_failures() -> None:
    supervisor = Supervisor(STRICT)
    supervisor.park(7)
    assert (supervisor.health, supervisor.consecutive, supervisor.restarts) == (Health.PARKED, 7, 0)
    assert supervisor.failed(MINUTE) is Verdict.NOTHING
    assert supervisor.consecutive == 8
    assert supervisor.succeeded() is Verdict.RECOVER
