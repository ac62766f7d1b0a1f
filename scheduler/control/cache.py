"""The shared cache, for those outside of the process."""

from __future__ import annotations

from pydantic import JsonValue, TypeAdapter, ValidationError

from scheduler.api.control import Peer
from scheduler.api.models.system import Caches, CacheStats, CacheValue
from scheduler.cache import Namespace
from scheduler.control.access import Access
from scheduler.core import events
from scheduler.core.durations import parse_duration
from scheduler.core.messages import SECOND, Announce
from scheduler.errors import SchedulerError, UnknownKeyError, UsageError

_JSON: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)
_NOTHING = object()


class CacheControl:
    """Of one daemon. Keys are texts, values what JSON has."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def stats(self) -> Caches:
        return Caches(namespaces=tuple(self.namespaces()))

    def namespaces(self) -> list[CacheStats]:
        return [
            CacheStats(
                namespace=name, ttl_seconds=namespace.spec.ttl / SECOND,
                max_entries=namespace.spec.max_entries, **namespace.stats(),
            )
            for name, namespace in sorted(self._access.daemon.cache.items())
        ]  # fmt: skip

    def get(self, namespace: str, key: str) -> CacheValue:
        held: Namespace = self._access.daemon.cache[namespace]
        value = held.get(key, _NOTHING)
        if value is _NOTHING:
            raise UnknownKeyError(f"{namespace} has no value for {key!r}")
        try:
            plain = _JSON.validate_python(value, strict=True)
        except ValidationError:
            raise SchedulerError(f"{key!r} is a {type(value).__name__}, which JSON does not have") from None
        return CacheValue(
            namespace=namespace, key=key, value=plain, age_seconds=round(held.age(key) or 0.0, 3)
        )

    async def put(self, namespace: str, key: str, value: JsonValue, ttl: str | None, by: Peer) -> None:
        name = await self._access.name(by)
        held = self._access.daemon.cache[namespace]
        try:
            seconds = None if ttl is None else parse_duration(ttl) / SECOND
        except ValueError as error:
            raise UsageError(f"ttl: {error}") from None
        held.put(key, value, seconds)
        self._say("put", name, namespace, key)

    async def delete(self, namespace: str, key: str, by: Peer) -> None:
        name = await self._access.name(by)
        self._access.daemon.cache[namespace].delete(key)
        self._say("delete", name, namespace, key)

    def _say(self, action: str, by: str, namespace: str, key: str) -> None:
        """For whoever looks; not for the ledger nor for tasks: commands do it all the time."""
        fields = {"action": action, "by": by, "namespace": namespace, "key": key}
        self._access.daemon.voice.announce(Announce(events.CACHE_CHANGED, "debug", fields))
