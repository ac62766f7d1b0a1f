"""What the daemon costs a desk: idle wake-ups, resident memory, and calls to the quote server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from scheduler import Scheduler
from scheduler.examples.quote_handler import QuoteHandler
from scheduler.examples.quote_server import QuoteServer

STARTER = Path(__file__).resolve().parent.parent / "config"
IDLE_TASKS = 1_000
# Ten minutes each of an ordinary Monday: while NSE trades, and in the evening.
HOURS = {
    "market hours": ("2026-11-23T10:00:00+05:30", "2026-11-23T10:10:00+05:30"),
    "off hours": ("2026-11-23T20:00:00+05:30", "2026-11-23T20:10:00+05:30"),
}
SPEED = 60


def idle(seconds: int = 20) -> dict[str, float]:
    """Wake-ups and CPU of a daemon whose 1,000 tasks are all an hour away or more."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_idle(seconds))


async def _idle(seconds: int) -> dict[str, float]:
    # Once a day, two hours from now: a plain pace counts from midnight of the market `always`.
    minutes = (int(time.time() / 60) + 120) % (24 * 60)
    with tempfile.TemporaryDirectory() as state:
        scheduler = Scheduler(state_dir=state, market="always", timezone="UTC")
        for number in range(IDLE_TASKS):
            scheduler.register_task(f"task-{number:04}", _nothing, every="1d", offset=f"{minutes}m")
        await scheduler.start()
        await asyncio.sleep(5)
        switches, cpu = voluntary_switches(), time.process_time()
        await asyncio.sleep(seconds)
        switches, cpu = voluntary_switches() - switches, time.process_time() - cpu
        await scheduler.stop()
    return {"seconds": seconds, "tasks": IDLE_TASKS, "wakeups": switches, "cpu_ms": cpu * 1e3}


async def _nothing() -> None:
    """Do nothing, an hour from now."""


def voluntary_switches() -> int:
    """How often this process's threads have slept and been woken; the one wake-up that reads it included."""
    return sum(
        int(found[1])
        for status in Path("/proc/self/task").glob("*/status")
        if (found := re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status.read_text(), re.MULTILINE))
    )


def resident_memory(seconds: int = 15) -> dict[str, float]:
    """Megabytes of the daemon itself (not of what it starts) once the starter desk has run for a while."""
    with tempfile.TemporaryDirectory() as directory, counted_quote_server() as (url, _):
        config = desk(Path(directory), url, cached=True)
        command = [*SCHEDULER, "run", "--config", str(config)]
        daemon = subprocess.Popen(command, env=environment(directory), stderr=subprocess.DEVNULL)
        try:
            time.sleep(seconds)
            status = Path(f"/proc/{daemon.pid}/status").read_text()
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(30)
    found = re.search(r"^VmRSS:\s*(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return {"resident_mb": int(found[1]) / 1024}


def quote_calls() -> dict[str, dict[str, int]]:
    """Calls to the quote server in ten minutes, by hours and cache; ``redundant`` asked the same again."""
    results = {}
    for hours, (begin, end) in HOURS.items():
        for cached in (True, False):
            with tempfile.TemporaryDirectory() as directory, counted_quote_server() as (url, calls):
                config = desk(Path(directory), url, cached=cached)
                command = [*SCHEDULER, "rehearse", "--config", str(config), "--live", "--speed", str(SPEED)]
                subprocess.run(
                    [*command, "--at", begin, "--until", end],
                    env=environment(directory), stderr=subprocess.DEVNULL, check=True, timeout=300,
                )  # fmt: skip
            name = f"{hours}, cache {'on' if cached else 'off'}"
            results[name] = {"calls": len(calls), "redundant": len(calls) - len(set(calls))}
    return results


SCHEDULER = [sys.executable, "-c", "from scheduler.cli import main; main()"]


def environment(directory: str) -> dict[str, str]:
    return {**os.environ, "SCHEDULER_STATE_DIR": f"{directory}/state", "SCHEDULER_LOG_FORMAT": "json"}


def desk(directory: Path, url: str, *, cached: bool) -> Path:
    """A copy of the starter configuration that asks this server; without the cache nothing is kept."""
    config = directory / "config"
    shutil.copytree(STARTER, config)
    file = config / "tasks.yaml"
    # The desk's own quote server stays, on a port that nobody asks.
    replacements = {"http://127.0.0.1:8765": url, "port: 8765": "port: 0"}
    if not cached:
        replacements |= {
            "market_data: {ttl: 5s}": "market_data: {ttl: 1ms}",
            "news: {ttl: 60s}": "news: {ttl: 1ms}",
        }
    text = file.read_text("utf-8")
    for old, new in replacements.items():
        assert old in text, f"the starter configuration no longer says {old!r}"
        text = text.replace(old, new)
    file.write_text(text, "utf-8")
    return config


@contextmanager
def counted_quote_server() -> Iterator[tuple[str, list[str]]]:
    """The desk's own quote server, without faults, that keeps what it was asked for."""
    calls: list[str] = []

    class Counted(QuoteHandler):
        def do_GET(self) -> None:  # noqa: N802 - http.server's name
            calls.append(self.path)
            super().do_GET()

    with QuoteServer(0) as server:
        server.RequestHandlerClass = Counted
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.port}", calls
        finally:
            server.shutdown()
            serving.join()


if __name__ == "__main__":
    measurements: dict[str, Callable[[], object]] = {
        "idle": idle, "memory": resident_memory, "quotes": quote_calls,
    }  # fmt: skip
    print(json.dumps(measurements[sys.argv[1]]()))
