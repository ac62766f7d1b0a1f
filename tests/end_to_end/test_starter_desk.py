"""The starter desk under the real daemon: its feed fails in each way, and market monitoring recovers."""

from __future__ import annotations

import shutil
from urllib.request import urlopen

from tests.end_to_end.daemon import CHECKOUT, Desk, keep_to


def test_the_starter_desk_survives_each_fault_of_its_feed(desk: Desk, port: int) -> None:
    """In the middle of a trading day, five times as fast."""
    shutil.copytree(CHECKOUT / "config", desk.config, dirs_exist_ok=True)
    keep_to(port, desk.config)
    daemon = desk.live("2026-11-23T10:59:50+05:30", "--speed", "5")
    daemon.wait_for("daemon.ready")
    daemon.wait_for("market.prices", task="market-monitoring")
    daemon.wait_for("signal.changed", task="signal-generation")
    for fault, complaint in [
        ("error", "HTTP 500"),
        ("timeout", "timed out"),
        ("malformed", "JSONDecodeError"),
    ]:
        order = f"http://127.0.0.1:{port}/prices?fault={fault}"
        with urlopen(order, data=b"", timeout=10) as answer:
            assert answer.status == 200
        failed = daemon.wait_for("run.failed", task="market-monitoring")
        assert complaint in failed["error"], fault
        daemon.wait_for("task.restarting", task="market-monitoring")
        daemon.wait_for("task.recovered", task="market-monitoring")
    assert daemon.stop() == 0
