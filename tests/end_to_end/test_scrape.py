"""What the real process answers to whoever scrapes it."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.daemon import Desk, eventually
from tests.helpers import required_program

EVERY_SECOND = """
tasks:
  fine: {command: ["true"], every: 1s, market: always, priority: critical}
"""


def scrape(path: Path) -> str:
    with closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: scheduler\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    assert b"text/plain; version=0.0.4" in head
    return body.decode()


def value(text: str, name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_what_a_crash_made_it_miss_is_told_by_the_next_daemon_from_its_first_scrape_on(desk: Desk) -> None:
    desk.tasks(EVERY_SECOND)
    daemon, place = desk.run(), desk.state / "scheduler.sock"
    daemon.wait_for("daemon.ready")
    ran = {"task": "fine", "status": "completed"}
    eventually(lambda: value(scrape(place), "scheduler_runs_total", **ran) >= 2, "two runs are told")
    daemon.send(signal.SIGKILL)
    daemon.ended()
    time.sleep(3)  # some dues come while nobody is there
    after = desk.run()
    after.wait_for("daemon.ready")
    text = scrape(place)
    missed = value(text, "scheduler_runs_total", task="fine", status="missed", reason="downtime")
    assert missed >= 1
    assert value(text, "scheduler_runs_due_total", task="fine") >= missed
    promtool = required_program("promtool")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert after.stop() == 0
