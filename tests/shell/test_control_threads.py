"""Who looks does not keep others from acting, and does not look without end."""

from __future__ import annotations

import asyncio
import pwd
import threading
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scheduler.control.access import Access
from scheduler.control.threads import Threads
from scheduler.errors import BusyError
from scheduler.ledger import Ledger, read_acts
from tests.helpers import instant
from tests.shell.execution import until
from tests.shell.test_control import ME, NOON, WHO, control_of
from tests.shell.test_daemon import task

pytestmark = pytest.mark.asyncio

HOPELESS = 10.0  # seconds


async def test_acts_do_not_wait_for_those_who_look(tmp_path: Path) -> None:
    go_on = threading.Event()
    threads = Threads()
    async with control_of(tmp_path, task("slow", NOON), threads=threads) as control:
        looking = [asyncio.ensure_future(threads.read_much(go_on.wait)) for _ in range(8)]
        looking += [asyncio.ensure_future(threads.read(go_on.wait)) for _ in range(8)]
        try:
            async with asyncio.timeout(HOPELESS):
                assert (await control.tasks.run_now("slow", ME, "")).by == WHO
        finally:
            go_on.set()
        await asyncio.gather(*looking)


async def test_of_many_who_look_at_once_the_last_are_told_to_come_again() -> None:
    go_on = threading.Event()
    with closing(Threads()) as threads:
        looking = [asyncio.ensure_future(threads.read_much(go_on.wait)) for _ in range(10)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="ask again later"):
            await threads.read_much(go_on.wait)
        looking[-1].cancel()
        await asyncio.gather(looking[-1], return_exceptions=True)
        looking[-1] = asyncio.ensure_future(threads.read_much(go_on.wait))  # there is room again
        go_on.set()
        assert await asyncio.gather(*looking) == [True] * 10


async def test_what_waits_for_a_thread_is_not_begun_for_one_who_has_gone_or_at_the_end() -> None:
    go_on, begun = threading.Event(), []
    threads = Threads()
    looking = [asyncio.ensure_future(threads.read_much(go_on.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    gone = asyncio.ensure_future(threads.read_much(lambda: begun.append("gone")))
    late = asyncio.ensure_future(threads.read_much(lambda: begun.append("late")))
    await asyncio.sleep(0)
    gone.cancel()
    threads.close()
    go_on.set()
    await asyncio.gather(*looking)
    ended = await asyncio.gather(gone, late, return_exceptions=True)
    assert [type(each) for each in ended] == [asyncio.CancelledError] * 2
    assert begun == []


async def test_a_question_to_the_ledger_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "ledger.db", on_trouble=lambda *_: None)) as ledger:
        for number in range(5_000):
            ledger.record_act(instant("2026-11-23T10:00:00+05:30"), "asha", "pause", "a", str(number), {})
        assert ledger.flush()
    passed = threading.Event()

    def read() -> int:
        passed.wait()
        return len(list(read_acts(tmp_path / "ledger.db")))

    with closing(Threads(longest=0.05)) as threads:
        asyncio.get_running_loop().call_later(0.2, passed.set)
        with pytest.raises(BusyError, match="ask for less"):
            await threads.read(read)
    with closing(Threads()) as threads:
        assert await threads.read(read) == 5_000


async def test_a_user_is_looked_up_once_and_never_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_on, asked = threading.Event(), []

    def look_up(uid: int) -> Any:
        asked.append(uid)
        go_on.wait()
        return SimpleNamespace(pw_name="asha")

    monkeypatch.setattr(pwd, "getpwuid", look_up)
    monkeypatch.setattr("scheduler.control.access._NAMING", 0.05)
    with closing(Threads()) as threads:
        access = Access(SimpleNamespace(), threads)  # type: ignore[arg-type]  # asked for names only
        assert await access.name(ME) == f"uid {ME.uid}"
        go_on.set()
        await until(threads._names._work_queue.empty)
        monkeypatch.undo()
        monkeypatch.setattr(pwd, "getpwuid", look_up)
        assert await access.name(ME) == "asha"
        before = len(asked)
        assert await access.name(ME) == "asha"
        assert len(asked) == before
