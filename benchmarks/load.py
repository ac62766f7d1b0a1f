"""Requests at a steady rate over connections that are kept: what monitors, pages and scrapers do."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

SYSTEM = "/api/system/tasks"
Address = str | tuple[str, int]
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Load:
    """What came of it."""

    answered: dict[str, int] = field(default_factory=dict)  # by path
    refused: list[int] = field(default_factory=list)  # statuses other than 200
    seconds: list[float] = field(default_factory=list)  # from when each was to be sent until it was answered
    lags: list[float] = field(default_factory=list)  # of the daemon's loop, as it said in its answers
    shed: set[str] = field(default_factory=set)  # priorities, likewise

    def percentile(self, share: float) -> float:
        """Milliseconds."""
        return sorted(self.seconds)[int(share * (len(self.seconds) - 1))] * 1e3


async def put_load(
    address: str | tuple[str, int],
    *,
    token: str,
    seconds: float,
    rates: dict[str, float],
    connections: int = 8,
) -> Load:
    """Ask for each path of ``rates`` so many times a second; ``connections`` for each path."""
    load = Load()
    begin = time.monotonic() + 0.2
    async with asyncio.TaskGroup() as group:
        for path, rate in rates.items():
            for number in range(connections):
                times = [begin + k / rate for k in range(number, int(seconds * rate), connections)]
                group.create_task(_ask(await connect(address), path, token, times, load))
    return load


async def connect(address: Address) -> Connection:
    """To a Unix socket or a port."""
    if isinstance(address, str):
        return await asyncio.open_unix_connection(address)
    return await asyncio.open_connection(*address)


async def _ask(connection: Connection, path: str, token: str, times: list[float], load: Load) -> None:
    reader, writer = connection
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    for when in times:
        await asyncio.sleep(max(0.0, when - time.monotonic()))
        writer.write(request)
        status, body = await read_answer(reader)
        load.seconds.append(time.monotonic() - when)
        load.answered[path] = load.answered.get(path, 0) + 1
        if status != 200:
            load.refused.append(status)
        elif path == SYSTEM:
            loop: dict[str, Any] = json.loads(body)["loop"]
            load.lags.append(loop["lag_seconds"])
            load.shed.update(loop["shedding"])
    writer.close()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of an answer that says how long it is."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode().strip().split("\r\n")
    length = next(int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:"))
    return int(first.split()[1]), await reader.readexactly(length)
