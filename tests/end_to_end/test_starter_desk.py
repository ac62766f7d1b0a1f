"""The starter desk under the real daemon: its feed fails in each way, and market monitoring recovers."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

STARTER = Path(__file__).parents[2] / "config"
SCHEDULER = str(Path(sys.executable).with_name("scheduler"))
PATIENCE = 60.0  # seconds for something that takes a few


class Rehearsal:
    """The real daemon, its real tasks, and a clock in the middle of a trading day, five times as fast."""

    def __init__(self, config: Path, state: Path) -> None:
        command = [
            sys.executable,
            "-m",
            "scheduler",
            "rehearse",
            "--config",
            str(config),
            "--state",
            str(state),
        ]
        command += ["--at", "2026-11-23T10:59:50+05:30", "--speed", "5", "--live"]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=os.environ | {"SCHEDULER_LOG_FORMAT": "json"}
        )
        self.seen: list[dict[str, Any]] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, event: str, task: str | None = None) -> dict[str, Any]:
        """The next log entry of this event (and task); the log so far is what a failure shows."""
        limit = time.monotonic() + PATIENCE
        while (left := limit - time.monotonic()) > 0:
            try:
                line = self._lines.get(timeout=left)
            except queue.Empty:
                break
            assert line is not None, f"the daemon ended; its log: {self.seen}"
            entry: dict[str, Any] = json.loads(line)
            self.seen.append(entry)
            if entry["event"] == event and task in {None, entry.get("task")}:
                return entry
        raise AssertionError(f"no {event} of {task} within {PATIENCE:.0f} s; the log: {self.seen}")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self._reader.join(PATIENCE)
        self.process.stderr.close()


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def desk(tmp_path: Path, port: int) -> Iterator[Rehearsal]:
    """The starter configuration on a free port, its feed well behaved until a test orders otherwise."""
    config = Path(shutil.copytree(STARTER, tmp_path / "config"))
    tasks = config / "tasks.yaml"
    text = tasks.read_text(encoding="utf-8")
    tasks.write_text(text.replace("8765", str(port)).replace("fault_every: 200", "fault_every: 0"), "utf-8")
    rehearsal = Rehearsal(config, tmp_path / "state")
    try:
        yield rehearsal
    finally:
        rehearsal.close()


def test_the_starter_desk_survives_each_fault_of_its_feed(desk: Rehearsal, port: int) -> None:
    desk.wait_for("daemon.ready")
    desk.wait_for("market.prices", "market-monitoring")
    desk.wait_for("signal.changed", "signal-generation")
    for fault, complaint in [
        ("error", "HTTP 500"),
        ("timeout", "timed out"),
        ("malformed", "JSONDecodeError"),
    ]:
        order = f"http://127.0.0.1:{port}/prices?fault={fault}"
        with urlopen(order, data=b"", timeout=10) as answer:
            assert answer.status == 200
        failed = desk.wait_for("run.failed", "market-monitoring")
        assert complaint in str(failed), fault
        desk.wait_for("task.restarting", "market-monitoring")
        desk.wait_for("task.recovered", "market-monitoring")
    assert desk.stop() == 0
