"""What the API costs the daemon's loop: ``python -m benchmarks.api``.

A daemon with thirty tasks is asked over TCP by this process, at a steady rate; then by as many connections as
it takes, each as fast as it is answered. What counts is the lag of the daemon's loop: above 0.25 s it would
shed tasks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.load import SYSTEM, Load, connect, put_load, read_answer

TOKEN = "a-token-of-the-benchmark"  # noqa: S105 - of a daemon that lives for a minute
PRIORITIES = ("critical", "important", "nice-to-have")
FLOODING = 60  # connections


@contextmanager
def daemon(tasks: int) -> Iterator[tuple[str, int]]:
    """A daemon with so many tasks, each due every five seconds; where it listens."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        pace = "every: 5s, spread: true"
        lines = [
            f'  task-{n:03}: {{command: ["true"], {pace}, priority: {PRIORITIES[n % 3]}}}'
            for n in range(tasks)
        ]
        (home / "tasks.yaml").write_text("\n".join(["tasks:", *lines, ""]))
        (home / "token").write_text(TOKEN)
        (home / "token").chmod(0o600)
        settings = {"STATE_DIR": home / "state", "LISTEN": "127.0.0.1:0", "TOKEN_FILE": home / "token",
                    "LOG_FORMAT": "json"}  # fmt: skip
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SCHEDULER_")}
        environment = inherited | {f"SCHEDULER_{name}": str(value) for name, value in settings.items()}
        command = [sys.executable, "-m", "scheduler", "run", "--config", directory]
        log = home / "log"
        with log.open("w") as file, subprocess.Popen(command, env=environment, stderr=file) as process:
            try:
                yield _address(log)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(30)


def _address(log: Path) -> tuple[str, int]:
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        for line in log.read_text().splitlines():
            if '"api.listening"' in line:
                host, _, port = json.loads(line)["at"][1].rpartition(":")
                return host, int(port)
        time.sleep(0.1)
    raise TimeoutError(log.read_text())


async def flood(address: tuple[str, int], seconds: float) -> Load:
    """Each connection asks again as soon as it is answered."""
    load, end = Load(), time.monotonic() + seconds

    async def ask() -> None:
        reader, writer = await connect(address)
        request = f"GET {SYSTEM} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        while (begun := time.monotonic()) < end:
            writer.write(request.encode())
            _, body = await read_answer(reader)
            load.seconds.append(time.monotonic() - begun)
            loop: dict[str, Any] = json.loads(body)["loop"]
            load.lags.append(loop["lag_seconds"])
            load.shed.update(loop["shedding"])
        writer.close()

    await asyncio.gather(*(ask() for _ in range(FLOODING)))
    return load


def line(what: str, load: Load, seconds: float) -> str:
    """For people."""
    rate, p50, p99 = len(load.seconds) / seconds, load.percentile(0.5), load.percentile(0.99)
    shed = f", shed {', '.join(sorted(load.shed))}" if load.shed else ""
    return (
        f"{what:8} {rate:6.0f}/s  p50 {p50:7.2f} ms  p99 {p99:7.2f} ms  lag <= {max(load.lags):.4f} s{shed}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.api", description=__doc__)
    parser.add_argument("--tasks", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each part")
    parser.add_argument("--healthz", type=float, default=500.0, help="requests a second")
    parser.add_argument("--system", type=float, default=50.0, help="requests a second")
    options = parser.parse_args()
    rates = {"/healthz": options.healthz, SYSTEM: options.system}
    with daemon(options.tasks) as address, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        steady = runner.run(put_load(address, token=TOKEN, seconds=options.seconds, rates=rates))
        print(line("steady", steady, options.seconds))
        print(line("flood", runner.run(flood(address, options.seconds)), options.seconds))
    return 1 if steady.refused or steady.shed else 0


if __name__ == "__main__":
    sys.exit(main())
