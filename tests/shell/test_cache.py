from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from scheduler.cache import Namespace, SharedCache
from scheduler.core.messages import SECOND, CacheSpec
from scheduler.errors import SchedulerError, UnknownNamespaceError


class HandClock:
    """Seconds that move only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def quotes(clock: HandClock) -> Namespace:
    return SharedCache({"quotes": CacheSpec(ttl=5 * SECOND, max_entries=3)}, clock)["quotes"]


def lasting(clock: HandClock) -> Namespace:
    """A namespace whose values may stand in for a failed load for a minute past their ttl."""
    return SharedCache({"n": CacheSpec(ttl=5 * SECOND, stale_on_error=60 * SECOND)}, clock)["n"]


def never() -> Any:
    pytest.fail("loaded although it need not be")


class Source:
    """An async loader that counts its calls and answers when released."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.calls = 0
        self.entered = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self) -> Any:
        self.calls += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.entered.set()
        await self.release.wait()
        if isinstance(answer, Exception):
            raise answer
        return answer


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread to get somewhere."""
    for _ in range(5000):
        if condition():
            return
        threading.Event().wait(0.002)
    pytest.fail("waited for ten seconds")


def test_a_value_lives_for_its_ttl_and_no_longer(quotes: Namespace, clock: HandClock) -> None:
    quotes.put("NIFTY", 24_000)
    clock.now += 4.999
    assert quotes.get("NIFTY") == 24_000
    clock.now += 0.001
    assert quotes.get("NIFTY", "gone") == "gone"


def test_a_ttl_of_ones_own_can_only_be_shorter(quotes: Namespace, clock: HandClock) -> None:
    quotes.put("short", 1, ttl=1)
    quotes.put("long", 2, ttl=500)
    clock.now += 1
    assert (quotes.get("short"), quotes.get("long")) == (None, 2)
    clock.now += 4
    assert quotes.get("long") is None


def test_the_least_recently_used_goes_first_when_it_is_full(quotes: Namespace) -> None:
    for key in "abc":
        quotes.put(key, key)
    quotes.get("a")
    quotes.put("d", "d")
    assert [quotes.get(key) for key in "abcd"] == ["a", None, "c", "d"]
    assert quotes.stats()["evictions"] == 1


def test_delete_and_clear_forget(quotes: Namespace) -> None:
    for key in "abc":
        quotes.put(key, key)
    quotes.delete("a")
    quotes.delete("was never there")
    assert (quotes.get("a"), quotes.get("b")) == (None, "b")
    quotes.clear()
    assert quotes.get("b") is None


def test_an_unknown_namespace_is_named_with_the_nearest_known_one(clock: HandClock) -> None:
    cache = SharedCache({"market_data": CacheSpec(ttl=SECOND)}, clock)
    with pytest.raises(UnknownNamespaceError) as caught:
        cache["market-data"]
    assert str(caught.value) == "the cache has no namespace 'market-data'; did you mean 'market_data'?"
    assert isinstance(caught.value, SchedulerError)
    assert isinstance(caught.value, KeyError)
    assert "market-data" not in cache


async def test_a_thousand_askers_cost_one_load(quotes: Namespace) -> None:
    source = Source(24_000)
    askers = [asyncio.create_task(quotes.get_or_load("NIFTY", source)) for _ in range(1000)]
    await source.entered.wait()
    await asyncio.sleep(0)
    source.release.set()
    assert await asyncio.gather(*askers) == [24_000] * 1000
    assert source.calls == 1
    assert await quotes.get_or_load("NIFTY", never) == 24_000
    assert quotes.stats() == {
        "hits": 1, "misses": 1000, "loads": 1, "failures": 0, "evictions": 0, "expirations": 0, "stale": 0,
        "entries": 1,
    }  # fmt: skip


async def test_a_loader_may_be_a_plain_function_and_its_value_may_be_none(quotes: Namespace) -> None:
    answers: list[int | None] = [None]
    assert await quotes.get_or_load("k", answers.pop) is None
    assert await quotes.get_or_load("k", never) is None


def test_threads_share_one_load(quotes: Namespace) -> None:
    release = threading.Event()
    calls: list[int] = []

    def load() -> str:
        calls.append(1)
        release.wait(10)
        return "value"

    with ThreadPoolExecutor(20) as pool:
        askers = [pool.submit(quotes.get_or_load_sync, "k", load) for _ in range(20)]
        until(lambda: quotes.stats()["misses"] == 20)
        release.set()
        assert [asker.result(10) for asker in askers] == ["value"] * 20
    assert len(calls) == 1


async def test_threads_wait_for_a_load_that_a_task_leads(quotes: Namespace) -> None:
    source = Source("value")
    leader = asyncio.create_task(quotes.get_or_load("k", source))
    await source.entered.wait()
    threads = [asyncio.to_thread(quotes.get_or_load_sync, "k", never) for _ in range(3)]
    followers = asyncio.gather(*threads)
    await asyncio.to_thread(until, lambda: quotes.stats()["misses"] == 4)
    source.release.set()
    assert await followers == ["value"] * 3
    assert await leader == "value"


async def test_tasks_wait_for_a_load_that_a_thread_leads_while_the_loop_runs_on(quotes: Namespace) -> None:
    entered, release = threading.Event(), threading.Event()

    def load() -> str:
        entered.set()
        release.wait(10)
        return "value"

    leader = asyncio.create_task(asyncio.to_thread(quotes.get_or_load_sync, "k", load))
    await asyncio.to_thread(entered.wait, 10)
    followers = [asyncio.create_task(quotes.get_or_load("k", never)) for _ in range(3)]
    await asyncio.sleep(0.01)  # the loop is free although a load is under way
    quotes.put("other", 1)
    assert quotes.get("other") == 1
    release.set()
    assert await asyncio.gather(leader, *followers) == ["value"] * 4


async def test_loops_of_several_threads_share_one_load(quotes: Namespace) -> None:
    source = Source("value")
    leader = asyncio.create_task(quotes.get_or_load("k", source))
    await source.entered.wait()
    elsewhere = asyncio.gather(
        *(asyncio.to_thread(asyncio.run, quotes.get_or_load("k", never)) for _ in range(3))
    )
    await asyncio.to_thread(until, lambda: quotes.stats()["misses"] == 4)
    source.release.set()
    assert await elsewhere == ["value"] * 3
    assert await leader == "value"


async def test_a_failure_is_shared_by_those_who_wait_and_not_cached(quotes: Namespace) -> None:
    source = Source(ConnectionError("feed down"), "up again")
    askers = [asyncio.create_task(quotes.get_or_load("k", source)) for _ in range(50)]
    await source.entered.wait()
    await asyncio.sleep(0)
    source.release.set()
    outcomes = await asyncio.gather(*askers, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["feed down"] * 50
    assert all(isinstance(outcome, ConnectionError) for outcome in outcomes)
    assert await quotes.get_or_load("k", source) == "up again"
    assert (source.calls, quotes.stats()["failures"]) == (2, 1)


async def test_the_traceback_of_a_shared_failure_does_not_grow_with_its_waiters(quotes: Namespace) -> None:
    source = Source(ValueError("bad"))
    askers = [asyncio.create_task(quotes.get_or_load("k", source)) for _ in range(100)]
    await source.entered.wait()
    await asyncio.sleep(0)
    source.release.set()
    error = (await asyncio.gather(*askers, return_exceptions=True))[-1]
    assert isinstance(error, ValueError)
    frames, frame = 0, error.__traceback__
    while frame:
        frames, frame = frames + 1, frame.tb_next
    assert frames < 10


async def test_a_cancelled_leader_hands_the_load_to_one_of_the_waiters(quotes: Namespace) -> None:
    source = Source("value")
    leader = asyncio.create_task(quotes.get_or_load("k", source))
    await source.entered.wait()
    waiters = [asyncio.create_task(quotes.get_or_load("k", source)) for _ in range(100)]
    thread = asyncio.create_task(asyncio.to_thread(quotes.get_or_load_sync, "k", lambda: "value"))
    await asyncio.to_thread(until, lambda: quotes.stats()["misses"] == 102)
    leader.cancel()
    source.release.set()
    assert await asyncio.gather(*waiters, thread) == ["value"] * 101
    assert leader.cancelled()
    assert quotes.stats()["loads"] == 2
    assert quotes.stats()["failures"] == 0


async def test_a_cancelled_waiter_disturbs_nobody(quotes: Namespace) -> None:
    source = Source("value")
    first, second, third = (asyncio.create_task(quotes.get_or_load("k", source)) for _ in range(3))
    await source.entered.wait()
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    source.release.set()
    assert await asyncio.gather(first, third) == ["value", "value"]
    assert (second.cancelled(), source.calls) == (True, 1)


async def test_everyone_may_be_cancelled_and_the_key_still_loads(quotes: Namespace) -> None:
    source = Source("value")
    askers = [asyncio.create_task(quotes.get_or_load("k", source)) for _ in range(5)]
    await source.entered.wait()
    await asyncio.sleep(0)
    for asker in askers:
        asker.cancel()
    await asyncio.gather(*askers, return_exceptions=True)
    source.release.set()
    assert await quotes.get_or_load("k", source) == "value"


@pytest.mark.parametrize("change", ["put", "delete", "clear", "phase_changed", "reconfigure"])
async def test_what_was_asked_for_before_a_change_is_not_kept_after_it(clock: HandClock, change: str) -> None:
    spec = CacheSpec(ttl=5 * SECOND, expire_at="phase_change")
    cache = SharedCache({"regime": spec}, clock)
    regime = cache["regime"]
    source = Source("of the old phase")
    asker = asyncio.create_task(regime.get_or_load("k", source))
    await source.entered.wait()
    changes: dict[str, Callable[[], None]] = {
        "put": lambda: regime.put("k", "newer"),
        "delete": lambda: regime.delete("k"),
        "clear": regime.clear,
        "phase_changed": cache.phase_changed,
        "reconfigure": lambda: cache.reconfigure({"regime": CacheSpec(ttl=SECOND)}),
    }
    changes[change]()
    source.release.set()
    assert await asker == "of the old phase"
    assert regime.get("k") == ("newer" if change == "put" else None)


async def test_an_old_value_stands_in_for_a_failed_load_and_shows_its_age(clock: HandClock) -> None:
    values = lasting(clock)
    values.put("k", "old")
    clock.now += 40
    source = Source(TimeoutError("feed"))
    source.release.set()
    assert values.get("k") is None
    assert await values.get_or_load("k", source) == "old"
    assert values.age("k") == 40
    clock.now += 25
    with pytest.raises(TimeoutError):
        await values.get_or_load("k", source)
    assert values.age("k") is None
    counts = values.stats()
    assert (counts["stale"], counts["failures"], counts["expirations"]) == (1, 2, 1)


def test_a_phase_change_drops_even_what_could_have_stood_in(clock: HandClock) -> None:
    specs = {
        "regime": CacheSpec(ttl=300 * SECOND, expire_at="phase_change", stale_on_error=300 * SECOND),
        "news": CacheSpec(ttl=60 * SECOND),
    }
    cache = SharedCache(specs, clock)
    cache["regime"].put("NIFTY", "calm")
    cache["news"].put("NIFTY", "headline")
    cache.phase_changed()
    assert (cache["regime"].get("NIFTY"), cache["regime"].age("NIFTY")) == (None, None)
    assert cache["news"].get("NIFTY") == "headline"
    assert cache.stats()["regime"]["expirations"] == 1


def test_reconfiguring_keeps_what_is_unchanged(clock: HandClock) -> None:
    unchanged = CacheSpec(ttl=60 * SECOND)
    cache = SharedCache({"news": unchanged, "regime": CacheSpec(ttl=SECOND), "old": unchanged}, clock)
    news, regime = cache["news"], cache["regime"]
    for name in cache:
        cache[name].put("k", name)
    cache.reconfigure({"news": unchanged, "regime": CacheSpec(ttl=9 * SECOND), "new": unchanged})
    assert list(cache) == ["news", "regime", "new"]
    assert news is cache["news"]
    assert news.get("k") == "news"
    assert regime.get("k") is None
    regime.put("k", "under the new spec")
    clock.now += 8
    assert cache["regime"].get("k") == "under the new spec"


async def test_a_loader_that_asks_for_its_own_key_is_told_so_instead_of_hanging(quotes: Namespace) -> None:
    async def load() -> int:
        return await quotes.get_or_load("k", load)

    with pytest.raises(RuntimeError, match="asks for 'k' itself"):
        await asyncio.wait_for(quotes.get_or_load("k", load), 5)


async def test_the_form_for_threads_refuses_to_block_an_event_loop(quotes: Namespace) -> None:
    with pytest.raises(RuntimeError, match="use `await get_or_load"):
        quotes.get_or_load_sync("k", never)
