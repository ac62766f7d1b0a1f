"""The shared cache, so that commands share it too. Keys are texts here."""

from __future__ import annotations

from http import HTTPStatus

from scheduler.api.control import Control
from scheduler.api.models.system import CacheChanged, CachePut, Caches, CacheValue
from scheduler.api.operations import Asked, Operation


def operations(control: Control) -> list[Operation]:
    cache = control.cache

    async def stats(_: Asked) -> Caches:
        return cache.stats()

    async def get(asked: Asked) -> CacheValue:
        return cache.get(asked.path["namespace"], asked.path["key"])

    async def put(asked: Asked) -> CacheChanged:
        namespace, key = asked.path["namespace"], asked.path["key"]
        await cache.put(namespace, key, asked.body.value, asked.body.ttl, asked.by)
        return CacheChanged(namespace=namespace, key=key)

    async def delete(asked: Asked) -> CacheChanged:
        namespace, key = asked.path["namespace"], asked.path["key"]
        await cache.delete(namespace, key, asked.by)
        return CacheChanged(namespace=namespace, key=key)

    one = "/api/cache/{namespace}/{key:path}"  # a key may have slashes
    unknown = HTTPStatus.NOT_FOUND
    return [
        Operation("GET", "/api/cache", "Statistics.", stats, Caches),
        Operation("GET", one, "A value.", get, CacheValue, errors=(unknown, HTTPStatus.CONFLICT)),
        Operation("PUT", one, "Keep a value.", put, CacheChanged, body=CachePut, changes=True,
                  errors=(unknown,)),
        Operation("DELETE", one, "Forget a value.", delete, CacheChanged, changes=True, errors=(unknown,)),
    ]  # fmt: skip
