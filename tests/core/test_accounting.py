"""The audit's arithmetic against a count of every due by itself."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.accounting import Expected, Finding, Row, examine, expectations
from scheduler.core.messages import MINUTE, SECOND, Status
from scheduler.core.triggers import After, Cron, Every, KeepRunning, On, Trigger
from tests.core.agreement import anchors, enumerate_ticks
from tests.core.desk import NEVER, Desk, bad, endless, spec
from tests.core.tables import drill_week
from tests.helpers import instant, iso

TABLE = drill_week()
MORNING, NOON = instant("2026-11-23T09:00:00+05:30"), instant("2026-11-23T12:00:00+05:30")
PACE = Every({"open": 10 * MINUTE, "closed": None})  # on the 23rd from 09:15 to 15:25
TRIGGERS: Sequence[Trigger] = (
    PACE,
    Every({"*": 7 * MINUTE}),
    Every({"open": 5 * MINUTE, "closed": 30 * MINUTE}),
    Cron("*/20 9-11 * * *", TABLE.zone),
    anchors("open", "close-20m", "10:00"),
    KeepRunning(frozenset({"open"})),
)


def at(time: str) -> int:
    return instant(f"2026-11-23T{time}:00+05:30")


def row(first: str, last: str = "") -> Row:
    return Row(at(first), at(last or first))


def expected(trigger: Trigger = PACE, *in_flight: int) -> Expected:
    return Expected("a", ("a",), trigger, TABLE, in_flight)


@st.composite
def records(draw: st.DrawFn, ticks: Sequence[int]) -> list[Row]:
    """Of some of the ticks, of instants beside them, and stretches that may lie over one another."""
    dues = st.sampled_from(ticks) | st.sampled_from(ticks).map(lambda t: t + SECOND)
    singles = draw(st.lists(dues, max_size=40))
    edges = draw(st.lists(st.tuples(dues, dues), max_size=4))
    return [*(Row(due, due) for due in singles), *(Row(min(pair), max(pair)) for pair in edges)]


@given(st.data())
def test_what_is_open_is_what_no_row_names_or_reaches_over(data: st.DataObject) -> None:
    trigger = data.draw(st.sampled_from(TRIGGERS))
    ticks = enumerate_ticks(trigger, TABLE)[:120]
    edges = st.sampled_from(ticks) | st.sampled_from(ticks).map(lambda t: t + 1)
    since, until = sorted((data.draw(edges), data.draw(edges)))
    rows = data.draw(records(ticks))
    under_way = data.draw(st.lists(st.sampled_from(ticks) | st.just(ticks[0] + 1), max_size=5))
    found = examine(expected(trigger, *under_way), since, until, rows)

    missing = [t for t in ticks if since <= t < until and not any(r.due <= t <= r.last_due for r in rows)]
    in_flight = set(missing) & set(under_way)
    assert (found.in_flight, found.unaccounted) == (len(in_flight), len(missing) - len(in_flight))
    if missing:
        assert (found.since, found.until) == (missing[0], missing[-1] + 1)


def test_a_stretch_is_clipped_by_the_window_and_what_lies_in_it_counts_once() -> None:
    rows = [row("09:15", "10:05"), row("09:45"), row("10:05"), row("10:15"), row("10:15")]
    assert examine(expected(), at("09:30"), at("10:25"), rows).open == 0
    left = examine(expected(), at("09:30"), at("10:45"), rows)
    assert (left.unaccounted, iso(left.since)[11:16]) == (2, "10:25")


def test_a_row_of_a_run_that_was_never_due_makes_up_for_none_that_was() -> None:
    by_hand = row("09:16")
    assert examine(expected(), at("09:15"), at("09:25"), [by_hand]).unaccounted == 1


def test_what_is_under_way_is_not_unaccounted_for_and_a_retry_has_its_outcome_already() -> None:
    task = expected(PACE, at("09:15"), at("09:25"))
    found = examine(task, at("09:15"), at("09:35"), [row("09:25")])
    assert found == Finding(1, 0, at("09:15"), at("09:15") + 1)


def test_findings_of_two_windows_are_joined() -> None:
    assert Finding(1, 2, 50, 60).joined(Finding(3, 4, 10, 20)) == Finding(4, 6, 10, 60)


# What is expected of the tasks of an engine.


def test_what_comes_after_a_task_is_expected_when_that_is_and_under_way_while_that_is() -> None:
    specs = [spec("a", PACE), spec("b", After("a")), spec("c", After("b"))]
    desk = Desk(specs, TABLE, "2026-11-23T09:10:00+05:30", scripts={"a": endless})
    desk.until("2026-11-23T09:16:00+05:30")
    found = {each.name: each for each in expectations(desk.engine.tasks.values())}
    assert found["c"] == Expected("c", ("c", "b", "a"), PACE, TABLE, (at("09:15"),))
    assert found["a"].in_flight == found["b"].in_flight == (at("09:15"),)


def test_what_itself_is_under_way_is_in_flight_although_the_head_of_its_chain_is_done() -> None:
    specs = [spec("a", PACE), spec("b", After("a"))]
    desk = Desk(specs, TABLE, "2026-11-23T09:10:00+05:30", scripts={"b": endless})
    desk.until("2026-11-23T09:16:00+05:30")
    found = {each.name: each.in_flight for each in expectations(desk.engine.tasks.values())}
    assert found == {"a": (), "b": (at("09:15"),)}


def test_a_stretch_that_ends_with_the_first_due_of_all_accounts_for_it() -> None:
    assert examine(expected(), at("09:25"), at("09:26"), [row("09:15", "09:25")]).open == 0
    assert examine(expected(), at("09:25"), at("09:36"), [row("09:15", "09:25")]).open == 1


def test_a_run_that_waits_to_be_tried_again_is_under_way() -> None:
    desk = Desk([spec("a", PACE)], TABLE, "2026-11-23T09:10:00+05:30", scripts={"a": bad()})
    desk.until("2026-11-23T09:15:01+05:30")
    assert expectations(desk.engine.tasks.values())[0].in_flight == (at("09:15"),)


def test_nothing_is_expected_of_what_no_clock_drives_nor_of_a_task_that_is_gone() -> None:
    specs = [spec("a", On(("task.stale",))), spec("b", After("a")), spec("c", PACE, restart=NEVER)]
    desk = Desk(specs, TABLE, "2026-11-23T09:10:00+05:30", scripts={"c": endless})
    desk.until("2026-11-23T09:16:00+05:30")
    assert [each.name for each in expectations(desk.engine.tasks.values()) if each.goes_on] == ["c"]
    desk.engine.tasks["c"].removed = True
    found = {each.name: each for each in expectations(desk.engine.tasks.values())}
    assert not any(each.goes_on for each in found.values())
    assert found["c"].in_flight == (at("09:15"),)  # of before, and still under way


def test_all_that_an_engine_puts_on_record_adds_up() -> None:
    specs = [spec("a", PACE), spec("b", After("a")), spec("c", Every({"*": 7 * MINUTE}), restart=NEVER)]
    desk = Desk(specs, TABLE, "2026-11-23T09:00:00+05:30", scripts={"a": bad(90)})
    desk.until("2026-11-23T10:00:00+05:30").sleep("2026-11-23T11:00:00+05:30")  # what is missed is a stretch
    desk.until("2026-11-23T12:00:00+05:30")
    rows: dict[str, list[Row]] = {name: [] for name in "abc"}
    for record in desk.rows.values():
        if record.status not in (Status.QUEUED, Status.RUNNING):
            rows[record.task].append(Row(record.due, record.last_due or record.due))
    for task in expectations(desk.engine.tasks.values()):
        assert examine(task, MORNING + 1, NOON, rows[task.name]).unaccounted == 0
        assert examine(task, MORNING + 1, NOON, rows[task.name][:-1]).unaccounted > 0
