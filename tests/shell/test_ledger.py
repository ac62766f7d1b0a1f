from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from textwrap import dedent

import pytest

from scheduler.core.messages import DAY, MINUTE, SECOND, Cause, Reason, Record, Status
from scheduler.errors import LedgerError
from scheduler.ledger import HistoryRow, Ledger, read_acts, read_history, typical_durations
from tests.helpers import instant

T = instant("2026-11-23T09:15:00+05:30")


class Troubles:
    """What the ledger told of."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, object]]] = []

    def __call__(self, event: str, fields: object) -> None:
        self.told.append((event, dict(fields)))  # type: ignore[call-overload]

    def events(self) -> list[str]:
        return [event for event, _ in self.told]


Opener = Callable[..., Ledger]


@pytest.fixture
def troubles() -> Troubles:
    return Troubles()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def opened(path: Path, troubles: Troubles) -> Iterator[Opener]:
    """Opens ledgers that are closed after the test."""
    ledgers = []

    def begin(**options: object) -> Ledger:
        ledger = Ledger(path, on_trouble=troubles, **options)  # type: ignore[arg-type]
        ledgers.append(ledger)
        return ledger

    yield begin
    for ledger in ledgers:
        ledger.close()


def ran(
    task: str, due: int, status: Status = Status.COMPLETED, *, took: int = SECOND, **more: object
) -> Record:
    ended = None if status is Status.RUNNING else due + took
    return Record(task, due, 1, status, started=due, ended=ended)._replace(**more)  # type: ignore[arg-type]


def running(task: str, due: int) -> Record:
    return ran(task, due, Status.RUNNING)


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread or process to get somewhere."""
    for _ in range(5000):
        if condition():
            return
        threading.Event().wait(0.002)
    pytest.fail("waited for ten seconds")


def dues(path: Path, **wanted: object) -> list[int]:
    """The dues of the rows read, in seconds after T."""
    return [(row.due - T) // SECOND for row in read_history(path, **wanted)]  # type: ignore[arg-type]


async def test_what_durable_waited_for_is_in_the_file_with_every_field(path: Path, opened: Opener) -> None:
    ledger = opened()
    ledger.record(
        Record(
            "eod", T, 2, Status.FAILED, Reason.ERROR, T + 5, T + 9, "boom", cause=Cause.RETRY, calendar="v7"
        )
    )
    ledger.record(Record("eod", T + 1, 0, Status.MISSED, Reason.DOWNTIME, count=3, last_due=T + 3))
    assert await ledger.durable() is True
    assert list(read_history(path)) == [
        HistoryRow(
            "eod", T, "eod-20261123T034500Z~2", 2, "failed", "error", T + 5, T + 9, "boom", 1, None, "retry",
            "v7",
        ),
        HistoryRow(
            "eod", T + 1, "eod-20261123T034500.000000001Z~0", 0, "missed", "downtime", None, None, "", 3,
            T + 3, "tick", "",
        ),
    ]  # fmt: skip


async def test_a_run_is_one_row_however_its_records_meet_the_commits(path: Path, opened: Opener) -> None:
    ledger = opened()
    ledger.record(running("slow", T))
    await ledger.durable()
    assert ledger.unfinished == 1
    ledger.record(ran("slow", T, calendar="v1"))
    ledger.record(running("quick", T))
    ledger.record(ran("quick", T, Status.FAILED, reason="error", error="no"))
    ledger.record(running("still", T))
    await ledger.durable()
    assert {(row.task, row.status, row.calendar, row.error) for row in read_history(path)} == {
        ("slow", "completed", "v1", ""), ("quick", "failed", "", "no"), ("still", "running", "", ""),
    }  # fmt: skip
    assert ledger.unfinished == 1


def test_records_reach_the_disk_although_nobody_waits(path: Path, opened: Opener) -> None:
    ledger = opened()
    for k in range(100):
        ledger.record(ran("t", T + k * SECOND))
    until(lambda: ledger.queued == 0 and ledger.commits > 0)
    until(lambda: len(dues(path)) == 100)
    assert ledger.commits <= 5


async def test_whoever_waits_ends_the_lingering(opened: Opener) -> None:
    ledger = opened(linger=3600.0)
    ledger.record(ran("t", T))
    assert await asyncio.wait_for(ledger.durable(), 30)


async def test_many_may_wait_and_some_may_give_up(opened: Opener) -> None:
    ledger = opened()
    waiters = []
    for k in range(200):
        ledger.record(ran("t", T + k))
        waiters.append(asyncio.create_task(ledger.durable()))
    await asyncio.sleep(0)
    for waiter in waiters[::2]:
        waiter.cancel()
    outcomes = await asyncio.gather(*waiters, return_exceptions=True)
    assert outcomes[1::2] == [True] * 100
    assert await ledger.durable()


async def test_more_than_a_transaction_holds_is_all_written(path: Path, opened: Opener) -> None:
    ledger = opened()
    for k in range(25_000):
        ledger.record(ran(f"task-{k % 1000}", T + k // 1000 * SECOND))
    assert await ledger.durable()
    assert sum(1 for _ in read_history(path)) == 25_000


def test_records_from_several_threads_all_arrive(path: Path, opened: Opener) -> None:
    ledger = opened(linger=0.0)

    def write(name: str) -> None:
        for k in range(2000):
            ledger.record(ran(name, T + k))

    threads = [threading.Thread(target=write, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.flush(30)
    assert sum(1 for _ in read_history(path)) == 8000


def test_closing_writes_everything_and_leaves_no_log_behind(path: Path, opened: Opener) -> None:
    ledger = opened(linger=3600.0)
    ledger.record(ran("t", T))
    assert ledger.close() is True
    assert [entry.name for entry in path.parent.iterdir()] == ["ledger.db"]
    assert dues(path) == [0]
    with pytest.raises(LedgerError, match="closed"):
        ledger.record(ran("t", T + 1))


def test_of_what_waits_for_the_disk_the_latest_of_each_state_is_kept_and_the_rest_is_bounded(
    path: Path, opened: Opener
) -> None:
    ledger = opened(backlog=10, retry=0.01)
    ledger.remember("a", "paused", {"since": 0})
    ledger.flush()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # as a disk that hangs
        for number in range(1, 101):
            ledger.remember("a", "paused", {"since": number})
            ledger.remember("b", "paused", {"since": number} if number < 100 else None)
            ledger.record_act(T + number, "me", "pause", "a", "", {})
        ledger.definition_started("a", T, "1", "{}")
        assert len(ledger._writer._jobs) == 10
        assert ledger.dropped == 100 - 8 + 1
        other.execute("ROLLBACK")
    ledger.flush()
    assert ledger.remembered() == {"a": {"paused": {"since": 100}}}
    assert [act.at for act in read_acts(path)] == [T + number for number in range(8, 0, -1)]
    assert ledger.defined() == {}
    assert ledger._writer._jobs == {}


def test_only_its_owner_may_read_the_ledger(path: Path, opened: Opener) -> None:
    opened().flush()
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_odd_errors_do_not_stop_the_others(path: Path, opened: Opener, troubles: Troubles) -> None:
    ledger = opened(linger=3600.0)
    ledger.record(ran("before", T))
    ledger.record(ran("odd-name", T, Status.FAILED, error="no such file: \udcff\0"))
    ledger.record(ran("long", T, Status.FAILED, error="x" * 1_000_000))
    ledger.record(ran("impossible", 1 << 70))
    ledger.record(ran("after", T))
    assert ledger.flush(30)
    rows = {row.task: row for row in read_history(path)}
    assert sorted(rows) == ["after", "before", "long", "odd-name"]
    assert rows["odd-name"].error == "no such file: ?\0"
    assert len(rows["long"].error) == 8000
    assert troubles.events() == ["ledger.lost"]
    assert troubles.told[0][1]["lost"] == ("impossible", 1 << 70, 1)
    assert ledger.dropped == 1


class TestReading:
    @pytest.fixture(autouse=True)
    def filled(self, opened: Opener) -> None:
        ledger = opened()
        for k in range(10):
            ledger.record(
                ran("a" if k % 2 else "b", T + k * SECOND, Status.FAILED if k == 4 else Status.COMPLETED)
            )
        ledger.record(Record("c", T - 60 * SECOND, 0, Status.MISSED, count=9, last_due=T + 3 * SECOND))
        assert ledger.flush()

    def test_rows_come_by_due_from_either_end(self, path: Path) -> None:
        assert dues(path) == [-60, *range(10)]
        assert dues(path, newest_first=True) == [*range(9, -1, -1), -60]

    def test_an_interval_is_half_open_and_a_stretch_that_reaches_into_it_belongs(self, path: Path) -> None:
        assert dues(path, since=T + 3 * SECOND, until=T + 6 * SECOND) == [-60, 3, 4, 5]
        assert dues(path, since=T + 4 * SECOND, until=T + 6 * SECOND) == [4, 5]
        assert dues(path, since=T + 3 * SECOND, until=T + 6 * SECOND, newest_first=True) == [5, 4, 3, -60]

    def test_tasks_status_and_limit_narrow_it_down(self, path: Path) -> None:
        assert dues(path, tasks=["a"]) == [1, 3, 5, 7, 9]
        assert dues(path, tasks=["a", "b"], status=[Status.FAILED]) == [4]
        assert dues(path, tasks=["b"], newest_first=True, limit=2) == [8, 6]
        assert dues(path, tasks=["nobody"]) == []
        assert dues(path, tasks=[]) == []


async def test_reading_pages_through_many_rows_with_the_same_due(path: Path, opened: Opener) -> None:
    ledger = opened()
    for k in range(25_000):
        ledger.record(ran(f"t{k}", T))
    await ledger.durable()
    assert len({row.task for row in read_history(path)}) == 25_000
    assert len({row.task for row in read_history(path, newest_first=True)}) == 25_000


def test_a_missing_ledger_is_said_to_be_missing(path: Path) -> None:
    with pytest.raises(LedgerError, match="there is no ledger at"):
        list(read_history(path))


def test_what_is_no_ledger_is_not_read_as_one(path: Path) -> None:
    path.write_text("something else entirely" * 100)
    with pytest.raises(LedgerError, match="cannot be read"):
        list(read_history(path))


@pytest.mark.parametrize("state", ["closed", "open", "killed"])
def test_a_reader_who_may_not_write_the_directory_reads_all(state: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else")
    directory = Path(tempfile.mkdtemp())
    path = directory / "ledger.db"
    child = subprocess.Popen(
        [sys.executable, "-c", dedent("""
            import sys, time
            from pathlib import Path
            from scheduler.core.messages import Record, Status
            from scheduler.ledger import Ledger
            ledger = Ledger(Path(sys.argv[1]), on_trouble=print)
            ledger.record(Record("t", 5, 1, Status.COMPLETED))
            ledger.flush()
            if sys.argv[2] == "closed":
                ledger.close()
            print("written", flush=True)
            time.sleep(60)
        """), str(path), state],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with child:
        assert child.stdout
        assert child.stdout.readline() == "written\n"
        if state == "killed":
            child.kill()
            child.wait()
        for file in (directory, *directory.iterdir()):
            file.chmod(0o755 if file.is_dir() else 0o644)
        answer, ask = os.pipe()
        reader = os.fork()
        if reader == 0:
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                os.write(ask, ",".join(row.task for row in read_history(path)).encode())
            finally:
                os._exit(0)
        os.close(ask)
        os.waitpid(reader, 0)
        with open(answer, "rb") as pipe:  # noqa: PTH123 - a descriptor
            assert pipe.read() == b"t"
        child.kill()
    shutil.rmtree(directory)


class TestRestart:
    def test_a_task_never_heard_of_is_expected_from_now_on(self, opened: Opener) -> None:
        history = opened().task_histories(["new"], T)["new"]
        assert (history.expected_from, history.interrupted, history.latest) == (T, (), None)

    def test_a_task_defined_but_never_run_is_expected_from_its_definition(self, opened: Opener) -> None:
        ledger = opened()
        ledger.definition_started("t", T, "f1", "{}")
        ledger.definition_started("t", T + SECOND, "f1", "{}")
        assert ledger.task_histories(["t"], T + DAY)["t"].expected_from == T

    def test_runs_are_expected_after_the_newest_that_the_clock_made(self, opened: Opener) -> None:
        ledger = opened()
        ledger.record(ran("t", T, cause=Cause.TICK))
        ledger.record(Record("t", T + 1, 0, Status.MISSED, count=5, last_due=T + 9, cause=Cause.TICK))
        ledger.record(ran("t", T + 100, cause=Cause.MANUAL, calendar="v2"))
        history = ledger.task_histories(["t"], T + DAY)["t"]
        assert history.expected_from == T + 10
        assert history.latest == ran("t", T + 100, cause="manual", calendar="v2")

    def test_of_a_loop_it_is_known_how_often_its_stretch_was_begun_whatever_came_later(
        self, opened: Opener
    ) -> None:
        ledger = opened()
        ledger.record(ran("loop", T))
        ledger.record(ran("loop", T)._replace(attempt=2))
        ledger.record(ran("loop", T + 100, cause=Cause.MANUAL))
        histories = ledger.task_histories(["loop", "other"], T + DAY, {"loop": T, "other": T})
        assert (histories["loop"].begun, histories["other"].begun) == ((T, 2), (T, 0))

    def test_a_changed_definition_or_calendar_counts_from_the_change_and_a_removed_task_leaves_a_gap(
        self, opened: Opener
    ) -> None:
        ledger = opened()
        for task in ("changed", "amended", "removed", "back"):
            ledger.definition_started(task, T, "f1", "{}", "v1")
        ledger.definition_started("changed", T + 5, "f2", "{}", "v1")
        ledger.definition_started("amended", T + 6, "f1", "{}", "v2")
        ledger.definition_ended("removed", T + 5)
        ledger.definition_ended("back", T + 5)
        ledger.definition_started("back", T + 50, "f1", "{}", "v1")
        histories = ledger.task_histories(["changed", "amended", "removed", "back"], T + DAY)
        assert {name: history.expected_from for name, history in histories.items()} == {
            "changed": T + 5, "amended": T + 6, "removed": T + DAY, "back": T + 50,
        }  # fmt: skip
        assert ledger.oldest_watermark() == T + 5

    def test_the_oldest_watermark_is_that_of_a_task_still_defined(self, opened: Opener) -> None:
        ledger = opened()
        assert ledger.oldest_watermark() is None
        for task, due in (("gone", T), ("slow", T + 10), ("fast", T + 20)):
            ledger.definition_started(task, T - 1, "f", "{}")
            ledger.record(ran(task, due))
        ledger.definition_ended("gone", T + 5)
        assert ledger.oldest_watermark() == T + 11

    @pytest.mark.parametrize("settle_after", [1, 3, 1_000_000])
    def test_watermarks_survive_whenever_they_were_settled(
        self, opened: Opener, monkeypatch: pytest.MonkeyPatch, settle_after: int
    ) -> None:
        monkeypatch.setattr("scheduler.ledger.store.SETTLE_AFTER", settle_after)
        draw = random.Random(settle_after)  # noqa: S311 - rows, not secrets
        newest: dict[str, int] = {}
        clocked: dict[str, int] = {}
        ledger = opened()
        for attempt in range(200):
            task, due = f"t{draw.randrange(5)}", T + draw.randrange(1000)
            cause = draw.choice([Cause.TICK, Cause.CATCH_UP, Cause.MANUAL])
            last_due = draw.choice([None, due + draw.randrange(50)])
            ledger.record(Record(task, due, attempt, Status.SKIPPED, last_due=last_due, cause=cause))
            newest[task] = max(newest.get(task, 0), due)
            if cause is not Cause.MANUAL:
                clocked[task] = max(clocked.get(task, 0), last_due or due)
            if attempt % 3 == 0:
                ledger.flush()
        before = ledger.task_histories(sorted(newest), T)
        ledger.close()
        after = opened().task_histories(sorted(newest), T)
        assert before == after
        assert {name: history.latest.due for name, history in after.items() if history.latest} == newest
        assert {name: history.expected_from - 1 for name, history in after.items()} == clocked

    def test_what_was_running_is_found_interrupted(self, opened: Opener) -> None:
        first = opened()
        first.record(running("t", T))
        first.record(ran("t", T + 1, Status.QUEUED, started=None, ended=None))
        first.record(ran("t", T + 2))
        first.close()
        again = opened()
        interrupted = again.task_histories(["t"], T + DAY)["t"].interrupted
        assert interrupted == (running("t", T), Record("t", T + 1, 1, Status.QUEUED))
        assert all(isinstance(record.status, Status) for record in interrupted)
        assert again.unfinished == 2

    @pytest.mark.parametrize("between", [True, False], ids=["commits apart", "one commit"])
    def test_what_waited_and_has_begun_is_one_row(self, path: Path, opened: Opener, between: bool) -> None:
        ledger = opened()
        ledger.record(Record("t", T, 0, Status.QUEUED))
        ledger.record(Record("u", T, 0, Status.QUEUED))
        ledger.record(Record("v", T, 0, Status.MISSED))  # made up by another scheduler
        if between:
            ledger.flush()
            ledger.close()
            ledger = opened()
        ledger.record(running("t", T))
        ledger.record(ran("v", T))
        ledger.flush()
        assert ledger.unfinished == 2
        found = sorted((row.task, row.attempt, str(row.status)) for row in read_history(path))
        assert found == [
            ("t", 1, "running"),
            ("u", 0, "queued"),
            ("v", 0, "missed"),
            ("v", 1, "completed"),
        ]

    def test_state_is_remembered_and_forgotten(self, opened: Opener) -> None:
        ledger = opened()
        ledger.remember("t", "paused", {"until": T})
        ledger.remember("t", "paused", {"until": None})
        ledger.remember("t", "parked", {"failures": 5})
        ledger.remember("t", "parked", None)
        ledger.close()
        assert opened().remembered() == {"t": {"paused": {"until": None}}}

    def test_the_typical_duration_is_the_median_of_the_last_twenty(self, path: Path, opened: Opener) -> None:
        ledger = opened()
        for k in range(100):
            ledger.record(ran("often", T + k * MINUTE, took=(1000 if k < 80 else k) * SECOND))
        for k in range(3):
            ledger.record(ran("rare", T + k * MINUTE, took=(k + 1) * SECOND))
        ledger.record(ran("rare", T + DAY, Status.FAILED, took=999 * SECOND))
        assert ledger.typical_duration("often") == 89 * SECOND
        assert ledger.typical_duration("never") is None
        assert typical_durations(path, ["often", "rare", "never"]) == {
            "often": 89 * SECOND,
            "rare": 2 * SECOND,
        }


class TestRetention:
    def wait_pruned(self, ledger: Ledger) -> None:
        until(lambda: not ledger._writer._prune and ledger._writer._pruning is None)
        assert ledger.flush()

    def test_old_rows_go_but_never_the_newest_of_a_task_nor_what_runs(
        self, path: Path, opened: Opener
    ) -> None:
        ledger = opened(keep_for=10 * DAY)
        for k in range(2000):
            ledger.record(ran("frequent", T + k * MINUTE))
        ledger.record(ran("yearly", T + 1))
        ledger.record(ran("yearly", T + 2))
        ledger.record(ran("on-event", T + 3, cause=Cause.EVENT))
        ledger.record(Record("missed", T + 4, 0, Status.MISSED, count=3, last_due=T + 9))
        ledger.record(ran("missed", T + 5, cause=Cause.MANUAL))
        ledger.record(running("stuck", T + 6))
        ledger.record(running("stuck", T + 7))
        assert ledger.flush()  # what is not yet written cannot be pruned
        ledger.prune(T + 10 * DAY + 1990 * MINUTE)
        self.wait_pruned(ledger)
        left = [(row.task, row.due - T) for row in read_history(path)]
        assert left == [
            ("yearly", 2), ("on-event", 3), ("missed", 4), ("missed", 5), ("stuck", 6), ("stuck", 7),
            *(("frequent", k * MINUTE) for k in range(1990, 2000)),
        ]  # fmt: skip
        assert ledger.task_histories(["missed"], T)["missed"].expected_from == T + 10

    @pytest.mark.parametrize("stride", [7, 100, 20_000])
    def test_no_more_rows_are_kept_than_asked_for(
        self, path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch, stride: int
    ) -> None:
        monkeypatch.setattr("scheduler.ledger.store.STRIDE", stride)
        ledger = opened(keep_rows=100)
        for k in range(1500):
            ledger.record(ran("t", T + k * SECOND))
        assert ledger.flush()  # what is not yet written cannot be pruned
        ledger.prune(T)
        self.wait_pruned(ledger)
        assert dues(path) == list(range(1400, 1500))

    async def test_commits_go_on_between_the_slices(self, path: Path, opened: Opener) -> None:
        ledger = opened(keep_rows=10)
        for k in range(30_000):
            ledger.record(ran("t", T + k * SECOND))
        await ledger.durable()
        assert ledger.flush()  # what is not yet written cannot be pruned
        ledger.prune(T)
        ledger.record(ran("u", T + DAY))
        assert await ledger.durable()
        assert ledger._writer._pruning is not None
        assert dues(path, tasks=["u"]) == [DAY // SECOND]


class TestFiles:
    def test_a_corrupt_file_is_kept_aside_and_a_fresh_one_begun(
        self, path: Path, opened: Opener, troubles: Troubles
    ) -> None:
        path.write_bytes(b"not a database at all " * 1000)
        ledger = opened()
        ledger.record(ran("t", T))
        assert ledger.flush()
        assert dues(path) == [0]
        [(event, fields)] = troubles.told
        assert event == "ledger.replaced"
        assert Path(str(fields["kept"])).read_bytes().startswith(b"not a database")

    def test_a_file_that_turns_corrupt_in_use_costs_nothing_recorded_since(
        self, path: Path, opened: Opener, troubles: Troubles
    ) -> None:
        first = opened()
        for k in range(5000):
            first.record(ran("t", T + k))
        first.close()
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(4096 * 8)
            file.write(b"\xaa" * (size - 4096 * 8))
        ledger = opened()
        for k in range(5000):
            ledger.record(ran("t", T + DAY + k))
        ledger.flush()
        until(lambda: ledger.queued == 0)
        assert ledger.flush()
        assert "ledger.replaced" in troubles.events()
        assert sum(1 for row in read_history(path) if row.due >= T + DAY) == 5000

    def test_a_ledger_of_a_newer_scheduler_is_refused_and_left_alone(
        self, path: Path, opened: Opener
    ) -> None:
        opened().close()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 99")
        before = path.read_bytes()
        with pytest.raises(LedgerError, match="newer scheduler"):
            opened()
        with pytest.raises(LedgerError, match="newer scheduler"):
            list(read_history(path))
        assert path.read_bytes() == before

    def test_somebody_elses_database_is_refused(self, path: Path, opened: Opener) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE theirs (x)")
        with pytest.raises(LedgerError, match="not a ledger"):
            opened()

    def test_a_ledger_from_before_acts_were_kept_is_brought_up_to_date(
        self, path: Path, opened: Opener
    ) -> None:
        first = opened()
        first.record(ran("t", T))
        first.close()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP TABLE acts")
            connection.execute("ALTER TABLE tasks DROP COLUMN success")
            connection.execute("PRAGMA user_version = 1")
        with pytest.raises(LedgerError, match="start the scheduler to update it"):
            list(read_history(path))
        ledger = opened()
        ledger.record_act(T, "desk", "pause", "t", "holiday", {"until": None})
        ledger.close()
        assert [tuple(act) for act in read_acts(path)] == [
            (T, "desk", "pause", "t", "holiday", {"until": None})
        ]
        assert dues(path) == [0]
        assert opened().task_histories(["t"], T + DAY)["t"].success == T + SECOND

    @pytest.mark.parametrize("settled", [False, True])
    def test_the_last_success_of_a_task_is_known_whatever_came_after_it(
        self, path: Path, opened: Opener, settled: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if settled:
            monkeypatch.setattr("scheduler.ledger.store.SETTLE_AFTER", 1)
        ledger = opened()
        ledger.record(ran("t", T))
        assert ledger.flush()
        ledger.record(ran("t", T + MINUTE, Status.FAILED))
        ledger.record(ran("t", T - DAY, took=2 * DAY)._replace(cause=Cause.BACKFILL))
        assert ledger.flush()
        assert ledger.task_histories(["t"], T + DAY)["t"].success == T + SECOND

    def test_a_directory_in_its_place_is_a_clear_error(self, path: Path, opened: Opener) -> None:
        path.mkdir()
        with pytest.raises(LedgerError, match="cannot be opened"):
            opened()


class TestTrouble:
    def test_a_full_disk_degrades_the_ledger_and_nothing_is_lost_when_there_is_room_again(
        self, tmp_path: Path
    ) -> None:
        on_a_small_disk(
            """
            ledger = Ledger(disk / "ledger.db", on_trouble=listen, retry=0.05)
            filler.write_bytes(b"x" * 500_000)
            recorded = 0

            async def run_on():
                global recorded
                while not ledger.degraded:
                    for _ in range(100):
                        ledger.record(Record("t", recorded, 1, Status.COMPLETED, error="e" * 100))
                        recorded += 1
                    kept = await ledger.durable()
                assert kept is False
                for _ in range(1000):
                    ledger.record(Record("t", recorded, 1, Status.COMPLETED))
                    recorded += 1
                    assert await asyncio.wait_for(ledger.durable(), 5) is False
                await asyncio.sleep(0.3)
                assert [event for event, _ in told] == ["ledger.degraded"], told
                assert "full" in told[0][1]["error"]
                assert ledger.queued >= 1000
                filler.unlink()
                while ledger.degraded:
                    await asyncio.sleep(0.01)
                assert await ledger.durable() is True

            asyncio.run(run_on())
            assert [event for event, _ in told] == ["ledger.degraded", "ledger.recovered"], told
            assert told[1][1]["dropped"] == ledger.dropped == 0
            assert [row.due for row in read_history(ledger.path)] == list(range(recorded))
            assert ledger.close()
            """,
            tmp_path,
        )

    def test_a_backlog_beyond_its_bound_is_dropped_and_counted(self, tmp_path: Path) -> None:
        on_a_small_disk(
            """
            ledger = Ledger(disk / "ledger.db", on_trouble=listen, retry=0.05, backlog=50)
            fill(filler)
            ledger.record(Record("t", 0, 1, Status.RUNNING))
            assert not ledger.flush()
            for due in range(1, 500):
                ledger.record(Record("t", due, 1, Status.COMPLETED))
                time.sleep(0.001)
            ledger.record(Record("t", 0, 1, Status.COMPLETED))  # of a run in the backlog: always taken up
            time.sleep(0.2)
            filler.unlink()
            while ledger.degraded:
                time.sleep(0.01)
            assert ledger.flush()
            rows = list(read_history(ledger.path))
            assert len(rows) + ledger.dropped == 500, (len(rows), ledger.dropped)
            assert len(rows) == 50
            assert rows[0].status == "completed"
            assert told[-1] == ("ledger.recovered", {"written": 50, "dropped": 450}), told
            assert ledger.close()
            """,
            tmp_path,
        )

    def test_a_disk_full_from_the_start_does_not_stop_the_daemon_from_starting(self, tmp_path: Path) -> None:
        on_a_small_disk(
            """
            fill(filler)
            ledger = Ledger(disk / "ledger.db", on_trouble=listen, retry=0.05)
            assert ledger.degraded
            assert ledger.task_histories(["t"], 7)["t"].expected_from == 7
            ledger.record(Record("t", 1, 1, Status.COMPLETED))
            filler.unlink()
            while ledger.degraded:
                time.sleep(0.01)
            assert ledger.flush()
            assert [row.due for row in read_history(ledger.path)] == [1]
            assert [event for event, _ in told] == ["ledger.degraded", "ledger.recovered"], told
            assert ledger.close()
            """,
            tmp_path,
        )

    def test_closing_on_a_full_disk_ends_and_says_what_is_lost(self, tmp_path: Path) -> None:
        on_a_small_disk(
            """
            ledger = Ledger(disk / "ledger.db", on_trouble=listen)
            for due in range(5000):
                ledger.record(Record("t", due, 1, Status.FAILED, error="e" * 1000))
            assert ledger.close() is False
            assert [event for event, _ in told] == ["ledger.degraded", "ledger.lost"], told
            assert told[1][1]["records"] == 5000
            """,
            tmp_path,
        )

    async def test_a_writer_that_is_stuck_cannot_keep_the_daemon_from_ending(
        self, path: Path, opened: Opener, troubles: Troubles
    ) -> None:
        ledger = opened()
        ledger.flush()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # the writer waits for this lock as for a disk that hangs
            ledger.record(ran("t", T))
            assert ledger.close(timeout=0.1) is False
            assert troubles.told[-1][0] == "ledger.lost"
            assert troubles.told[-1][1]["records"] == 1
            other.execute("ROLLBACK")

    def test_a_listener_that_fails_does_not_end_the_writer(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shown = []
        monkeypatch.setattr(threading, "excepthook", lambda args: shown.append(args.exc_type))

        def deaf(_event: str, _fields: object) -> None:
            raise KeyError

        path.write_bytes(b"not a database at all " * 1000)
        ledger = Ledger(path, on_trouble=deaf)
        ledger.record(ran("t", T))
        assert ledger.flush()
        assert ledger.close()
        assert shown == [KeyError]


WRITER = """
    import asyncio, sys
    from pathlib import Path
    from scheduler.core.messages import Record, Status
    from scheduler.ledger import Ledger

    async def main():
        ledger = Ledger(Path(sys.argv[1]), on_trouble=lambda *trouble: print("trouble", trouble, flush=True))
        first = int(sys.argv[2])
        for due in range(first, first + 1_000_000):
            for task in ("a", "b"):
                ledger.record(Record(task, due, 1, Status.RUNNING, started=due))
                ledger.record(Record(task, due, 1, Status.COMPLETED, started=due, ended=due))
            ledger.record(Record("open", due, 1, Status.RUNNING, started=due))
            if due % 3 == 0:
                assert await ledger.durable()
                print(due, flush=True)
            ledger.record(Record("open", due, 1, Status.COMPLETED, started=due, ended=due))

    asyncio.run(main())
"""


def test_nothing_reported_durable_is_lost_to_kill_9_at_any_moment(path: Path, opened: Opener) -> None:
    draw = random.Random()  # noqa: S311 - moments, not secrets
    first = 0
    for _ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", dedent(WRITER), str(path), str(first)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout
            acknowledged = [child.stdout.readline()]
            threading.Timer(draw.uniform(0, 0.3), child.send_signal, [signal.SIGKILL]).start()
            acknowledged += child.stdout.readlines()
        last = int([line for line in acknowledged if line.endswith("\n")][-1])
        rows = list(read_history(path))  # what the kill left, log and all
        completed = {(row.task, row.due) for row in rows if row.status == "completed"}
        assert completed >= {(task, due) for task in ("a", "b") for due in range(last + 1)}
        assert completed >= {("open", due) for due in range(last)}
        assert ("open", last) in {(row.task, row.due) for row in rows}
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        first = max(row.due for row in rows) + 1
        ledger = opened()
        history = ledger.task_histories(["a", "open"], first)
        assert history["a"].expected_from == max(due for task, due in completed if task == "a") + 1
        for record in history["open"].interrupted:  # as the daemon does
            ledger.record(record._replace(status=Status.COMPLETED))
        assert ledger.close()


SMALL_DISK = """
import asyncio, sys, time
from pathlib import Path
from scheduler.core.messages import Record, Status
from scheduler.ledger import Ledger, read_history

disk = Path(sys.argv[1])
filler = disk / "filler"
told = []

def listen(*trouble):
    told.append(trouble)

def fill(path):
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass
"""


def on_a_small_disk(script: str, tmp_path: Path) -> None:
    """Run a script where ``disk`` is a real file system of one megabyte, in a mount namespace of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    program = tmp_path / "script.py"
    program.write_text(SMALL_DISK + dedent(script))
    commands = f"mount -t tmpfs -o size=1m none {disk} || exit 77; exec {sys.executable} {program} {disk}"
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    result = subprocess.run(
        ["unshare", *user, "--mount", "sh", "-c", commands],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if result.returncode == 77 or "unshare failed" in result.stderr:
        pytest.skip(f"no file system of one's own can be mounted here: {result.stderr.strip()}")
    assert result.returncode == 0, result.stderr
