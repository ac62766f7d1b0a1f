"""The shared cache: named namespaces, each with a time to live, a size, and one load per missing key.

A key that many ask for at once is loaded once, by the first asker, in the first asker's own task or
thread; the others wait for its outcome, failure included. If the first asker is cancelled, those who
wait ask again and one of them loads. No lock is held while a loader runs, so neither the event loop
nor a thread ever waits for more than a dictionary operation, except for the outcome itself.

Times here are seconds, as the injected timer counts them.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from difflib import get_close_matches
from types import TracebackType
from typing import Any, NamedTuple, TypeVar, cast, overload

from cachetools import TLRUCache

from scheduler.core.messages import SECOND, CacheSpec
from scheduler.errors import UnknownNamespaceError

V = TypeVar("V")


class _Entry(NamedTuple):
    value: Any
    stored: float
    fresh_until: float


class _Entries(TLRUCache[Hashable, _Entry, float]):
    """cachetools' least recently used cache with a time per entry; counts what it drops."""

    def __init__(self, spec: CacheSpec, timer: Callable[[], float], counts: dict[str, int]) -> None:
        stale = (spec.stale_on_error or 0) / SECOND
        super().__init__(spec.max_entries, lambda _key, entry, _now: entry.fresh_until + stale, timer)
        self._counts = counts

    def popitem(self) -> tuple[Hashable, _Entry]:
        item = super().popitem()
        self._counts["evictions"] += 1
        return item

    def expire(self, time: float | None = None) -> list[tuple[Hashable, _Entry]]:
        expired = super().expire(time)
        self._counts["expirations"] += len(expired)
        return expired


class _Outcome(NamedTuple):
    """How a load ended. Abandoned: its leader was cancelled, so whoever waits asks again."""

    value: Any = None
    error: Exception | None = None
    traceback: TracebackType | None = None
    abandoned: bool = False

    def unwrap(self) -> Any:
        if self.error is not None:
            raise self.error.with_traceback(self.traceback)  # else it grows with every waiter
        return self.value


class _Load:
    """One load under way. Threads wait for ``done``, tasks for its image on their own loop."""

    __slots__ = ("_images", "done", "leader")

    def __init__(self, leader: object) -> None:
        self.leader = leader
        self.done: Future[_Outcome] = Future()
        self._images: dict[asyncio.AbstractEventLoop, asyncio.Future[_Outcome]] = {}

    def on(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[_Outcome]:
        """One future for all the tasks of a loop, which they must shield; called under the lock."""
        if loop not in self._images:
            self._images[loop] = asyncio.wrap_future(self.done, loop=loop)
        return self._images[loop]


class Namespace:
    """One namespace; safe to use from tasks and threads. Values are shared, not copied."""

    def __init__(self, name: str, spec: CacheSpec, timer: Callable[[], float]) -> None:
        self.name = name
        self._timer = timer
        self._lock = threading.Lock()
        self._loading: dict[Hashable, _Load] = {}
        self._counts = dict.fromkeys(
            ("hits", "misses", "loads", "failures", "evictions", "expirations", "stale"), 0
        )
        self._use(spec)

    def get(self, key: Hashable, default: Any = None) -> Any:
        with self._lock:
            entry = self._fresh(key)
            self._counts["hits" if entry else "misses"] += 1
        return entry.value if entry else default

    def put(self, key: Hashable, value: Any, ttl: float | None = None) -> None:
        """Keep a value for ``ttl`` seconds, at most (and by default) the namespace's own."""
        with self._lock:
            self._loading.pop(key, None)  # a load that began earlier must not overwrite this
            self._store(key, value, ttl)

    def delete(self, key: Hashable) -> None:
        """Forget a value; a load of it that is under way is not kept."""
        with self._lock:
            self._loading.pop(key, None)
            with suppress(KeyError):
                del self._entries[key]

    def clear(self) -> None:
        with self._lock:
            self._loading.clear()
            self._entries.clear()

    def age(self, key: Hashable) -> float | None:
        """Seconds since the value was stored; None without one.

        More than the namespace's ttl: the value is past it, and kept only to stand in for a failed load.
        """
        with self._lock:
            entry = self._held(key)
            return None if entry is None else self._timer() - entry.stored

    @overload
    async def get_or_load(self, key: Hashable, loader: Callable[[], Awaitable[V]]) -> V: ...
    @overload
    async def get_or_load(self, key: Hashable, loader: Callable[[], V]) -> V: ...
    async def get_or_load(self, key: Hashable, loader: Callable[[], Any]) -> Any:
        """The cached value, or the loader's, called once however many ask.

        ``loader`` is an async function, or a quick sync one: it runs on the event loop. Its exception
        goes to everyone who waited and is not cached; with ``stale_on_error`` an old value stands in.
        """
        asker = asyncio.current_task()
        while True:
            with self._lock:
                found = self._ask(key, asker)
                if isinstance(found, _Entry):
                    return found.value
                leading = found.leader is asker
                image = None if leading else found.on(asyncio.get_running_loop())
            outcome = await (asyncio.shield(image) if image else self._lead(key, found, loader))
            if not outcome.abandoned:
                return outcome.unwrap()

    def get_or_load_sync(self, key: Hashable, loader: Callable[[], V]) -> V:
        """``get_or_load`` for threads; RuntimeError where it would block an event loop."""
        if _on_event_loop():
            raise RuntimeError(f"cache {self.name}: on the event loop, use `await get_or_load(...)`")
        asker = threading.current_thread()
        while True:
            with self._lock:
                found = self._ask(key, asker)
            if isinstance(found, _Entry):
                return cast("V", found.value)
            leading = found.leader is asker
            outcome = self._lead_sync(key, found, loader) if leading else found.done.result()
            if not outcome.abandoned:
                return cast("V", outcome.unwrap())

    async def _lead(self, key: Hashable, load: _Load, loader: Callable[[], Any]) -> _Outcome:
        try:
            value = loader()
            if inspect.isawaitable(value):
                value = await value
        except BaseException as error:  # noqa: BLE001 - _failed raises again what is no Exception
            return self._failed(key, load, error)
        return self._loaded(key, load, value)

    def _lead_sync(self, key: Hashable, load: _Load, loader: Callable[[], object]) -> _Outcome:
        try:
            value = loader()
        except BaseException as error:  # noqa: BLE001 - _failed raises again what is no Exception
            return self._failed(key, load, error)
        return self._loaded(key, load, value)

    def _ask(self, key: Hashable, asker: object) -> _Entry | _Load:
        """A fresh value, else the load under way, else a new one that the asker leads."""
        entry = self._fresh(key)
        self._counts["hits" if entry else "misses"] += 1
        if entry:
            return entry
        load = self._loading.get(key)
        if load is None:
            load = self._loading[key] = _Load(asker)
            self._counts["loads"] += 1
        elif load.leader is asker:
            raise RuntimeError(f"cache {self.name}: the loader of {key!r} asks for {key!r} itself")
        return load

    def _loaded(self, key: Hashable, load: _Load, value: object) -> _Outcome:
        outcome = _Outcome(value)
        with self._lock:
            if self._loading.get(key) is load:  # else put, deleted or expired since the load began
                del self._loading[key]
                self._store(key, value, None)
        load.done.set_result(outcome)
        return outcome

    def _failed(self, key: Hashable, load: _Load, error: BaseException) -> _Outcome:
        """Share an Exception, or what stands in for it; let the waiters go on after anything else."""
        with self._lock:
            if self._loading.get(key) is load:
                del self._loading[key]
            if not isinstance(error, Exception):
                outcome = _Outcome(abandoned=True)
            else:
                self._counts["failures"] += 1
                old = self._held(key)
                self._counts["stale"] += old is not None and self._timer() >= old.fresh_until
                outcome = _Outcome(old.value) if old else _Outcome(error=error, traceback=error.__traceback__)
        load.done.set_result(outcome)
        if outcome.abandoned:
            raise error
        return outcome

    def _fresh(self, key: Hashable) -> _Entry | None:
        entry = self._held(key)
        return entry if entry and self._timer() < entry.fresh_until else None

    def _held(self, key: Hashable) -> _Entry | None:
        """The value, fresh or kept past its ttl."""
        try:
            return self._entries[key]
        except KeyError:
            return None

    def _store(self, key: Hashable, value: object, ttl: float | None) -> None:
        now = self._timer()
        limit = self.spec.ttl / SECOND
        self._entries[key] = _Entry(value, now, now + (limit if ttl is None else min(ttl, limit)))

    def phase_changed(self) -> None:
        """With ``expire_at: phase_change``, drop everything; not even a failed load brings it back."""
        with self._lock:
            if self.spec.expire_at == "phase_change":
                self._entries.expire()
                self._counts["expirations"] += len(self._entries)
                self._entries.clear()
                self._loading.clear()  # what was asked for in the old phase is not kept in the new one

    def reconfigure(self, spec: CacheSpec) -> None:
        """Start afresh under another spec; an equal one changes nothing."""
        with self._lock:
            if spec != self.spec:
                self._loading.clear()
                self._use(spec)

    def _use(self, spec: CacheSpec) -> None:
        self.spec = spec
        self._entries = _Entries(spec, self._timer, self._counts)

    def stats(self) -> dict[str, int]:
        """Counts since the start, and ``entries``: how many are held now."""
        with self._lock:
            self._entries.expire()
            return {**self._counts, "entries": len(self._entries)}


class SharedCache(Mapping[str, Namespace]):
    """All namespaces: ``cache["news"]``. An unknown name is an UnknownNamespaceError."""

    def __init__(self, specs: Mapping[str, CacheSpec], timer: Callable[[], float]) -> None:
        """``timer`` counts seconds and never goes back."""
        self._timer = timer
        self._namespaces: dict[str, Namespace] = {}
        self.reconfigure(specs)

    def __getitem__(self, name: str) -> Namespace:
        try:
            return self._namespaces[name]
        except KeyError:
            near = get_close_matches(name, self._namespaces, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UnknownNamespaceError(f"the cache has no namespace {name!r}{hint}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._namespaces)

    def __len__(self) -> int:
        return len(self._namespaces)

    def reconfigure(self, specs: Mapping[str, CacheSpec]) -> None:
        """Take over these namespaces. An unchanged one keeps its values, a changed one its counts."""
        namespaces = {}
        for name, spec in specs.items():
            namespace = namespaces[name] = self._namespaces.get(name) or Namespace(name, spec, self._timer)
            namespace.reconfigure(spec)
        self._namespaces = namespaces

    def phase_changed(self) -> None:
        """Drop the values of the namespaces with ``expire_at: phase_change``."""
        for namespace in self._namespaces.values():
            namespace.phase_changed()

    def stats(self) -> dict[str, dict[str, int]]:
        """Per namespace: hits, misses, loads, failures, evictions, expirations, stale, entries."""
        return {name: namespace.stats() for name, namespace in self._namespaces.items()}


def _on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
