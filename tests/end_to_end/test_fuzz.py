"""Schemathesis against the running daemon: whatever is asked, the answer is one that the schema knows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.daemon import CHECKOUT, Desk
from tests.end_to_end.listening import TOKEN, Listening

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
EXAMPLES = 25  # of each operation; a minute in all
SEED = 20261123
TASKS = """
cache: {prices: {ttl: 5s}}
tasks:
  quick: {command: [sleep, "0.5"], every: 1s}
  appointment: {command: ["true"], at: close+15m, priority: important}
  loop: {command: [sleep, "600"], keep_running: true, during: session}
  off: {command: ["true"], every: 1s, enabled: false}
  upstream: {command: ["true"], cron: "*/15 9-15 * * *", priority: critical, market: MCX}
  downstream: {command: ["false"], after: upstream}
"""


@pytest.mark.parametrize("write", ["true", "false"], ids=["what may change things", "what may only look"])
def test_every_answer_is_one_that_the_schema_knows(desk: Desk, tmp_path: Path, write: str) -> None:
    desk.tasks(TASKS)
    daemon = Listening(desk, SCHEDULER_LISTEN_WRITE=write)
    found = subprocess.run(
        [
            SCHEMATHESIS, "run", f"http://127.0.0.1:{daemon.port}/openapi.json",
            "--header", f"Authorization: Bearer {TOKEN}", "--checks", "all", "--seed", str(SEED),
            "--max-examples", str(EXAMPLES if write == "true" else 3), "--generation-deterministic",
            "--continue-on-failure", "--no-shrink", "--warnings", "off",
            "--request-timeout", "30", "--exclude-path", "/api/events",  # which does not end by itself
        ],
        cwd=tmp_path,  # where it leaves what it found
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.end_to_end.fuzzing", "PYTHONPATH": str(CHECKOUT)},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    assert daemon.ask("/healthz") == 200
    assert daemon.process.stop() == 0
    for event in ("background.failed", "loop.stalled", "load.shedding", "task.leaked"):
        assert daemon.process.seen(event) == []
    assert daemon.process.messages == []
