"""The starter desk's tasks against its real quote server, over HTTP, with the real shared cache."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import ctypes
import errno
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import structlog
from structlog.testing import LogCapture

from scheduler import yamlfile
from scheduler.cache import SharedCache
from scheduler.core.messages import HOUR, SECOND, CacheSpec
from scheduler.examples import (
    feed,
    host_health,
    make_day,
    market_monitoring,
    news_integration,
    regime_monitoring,
    signal_generation,
)
from scheduler.examples.faults import Faults
from scheduler.examples.quote_server import QuoteServer, serve
from scheduler.examples.replay import Replay
from scheduler.marketfile import parse_markets
from scheduler.settings import Settings
from scheduler.taskfile import read_tasks

CONFIG = Path(__file__).parents[2] / "config"
ELEVEN = "2026-11-23T11:00:00+05:30"
NAMESPACES = {
    "market_data": CacheSpec(ttl=5 * SECOND),
    "news": CacheSpec(ttl=60 * SECOND),
    "regime": CacheSpec(ttl=300 * SECOND, expire_at="phase_change"),
    "reported": CacheSpec(ttl=12 * HOUR),
}


@dataclass
class Desk:
    """What the tasks use of a context, and what they logged."""

    cache: Any = field(default_factory=lambda: SharedCache(NAMESPACES, time.monotonic))
    capture: LogCapture = field(default_factory=LogCapture)
    cancelled: threading.Event = field(default_factory=threading.Event)
    due: datetime = field(default_factory=lambda: datetime.fromisoformat(ELEVEN))
    session: str = "2026-11-23"

    @property
    def log(self) -> Any:
        return structlog.wrap_logger(None, processors=[self.capture])

    def at(self, text: str) -> Any:
        self.due = datetime.fromisoformat(text)
        return self

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [dict(entry) for entry in self.capture.entries if entry["event"] == event]


@pytest.fixture
def desk() -> Any:
    return Desk()


@contextlib.contextmanager
def running() -> Iterator[QuoteServer]:
    """A quote server on a free port, served by a thread as the task does it."""
    with QuoteServer(0) as server:
        server.timeout = 0.02
        done = threading.Event()

        def loop() -> None:
            while not done.is_set():
                server.handle_request()

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield server
        finally:
            done.set()
            thread.join()


@pytest.fixture
def server() -> Iterator[QuoteServer]:
    with running() as quote_server:
        yield quote_server


@pytest.fixture
def url(server: QuoteServer) -> str:
    return f"http://127.0.0.1:{server.port}"


def order(url: str, path: str, fault: str) -> None:
    with urlopen(f"{url}{path}?fault={fault}", data=b"", timeout=5) as answer:  # noqa: S310 - our own server
        assert answer.status == 200


@pytest.mark.parametrize(
    "fault,complaint",
    [("error", "HTTP 500 Internal Server Error"), ("timeout", "timed out"), ("malformed", "JSONDecodeError")],
)
def test_a_fault_of_the_feed_fails_market_monitoring_with_a_clear_error_and_the_next_run_works(
    desk: Any, server: QuoteServer, url: str, fault: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "TIMEOUT", 0.3)
    order(url, "/prices", fault)
    with pytest.raises(feed.FeedError, match=complaint) as caught:
        market_monitoring.watch(desk, url)
    assert f"{url}/prices" in str(caught.value)
    market_monitoring.watch(desk, url)
    assert len(desk.logged("market.prices")) == 1
    assert server.faults.stats() == {"requests": {"/prices": 2}, "faults": {fault: 1}}


def test_a_feed_that_nobody_serves_is_a_clear_error(desk: Any) -> None:
    with running() as server:
        port = server.port
    with pytest.raises(feed.FeedError, match="Connection refused"):
        market_monitoring.watch(desk, f"http://127.0.0.1:{port}")


def test_an_answer_without_what_was_asked_for_is_a_clear_error(desk: Any, url: str) -> None:
    with pytest.raises(feed.FeedError, match="KeyError"):
        feed.fetch(url, "stats", desk.due)


def test_every_nth_request_goes_wrong_each_time_differently() -> None:
    faults = Faults(every=3)
    assert [faults.of_request("/prices") for _ in range(12)] == ["", "", "error", "", "", "timeout", "", "",
                                                                 "malformed", "", "", "error"]  # fmt: skip


def test_an_ordered_fault_waits_for_its_own_path() -> None:
    faults = Faults()
    faults.order("/prices", "error")
    assert [faults.of_request("/news"), faults.of_request("/prices"), faults.of_request("/prices")] == [
        "",
        "error",
        "",
    ]


@pytest.mark.parametrize(
    "path,status", [("/prices", 400), ("/prices?at=noon", 400), ("/elsewhere?at=2026-11-23", 404)]
)
def test_a_senseless_request_is_refused(url: str, path: str, status: int) -> None:
    with pytest.raises(HTTPError, match=f"HTTP Error {status}") as refusal:
        urlopen(url + path, timeout=5)  # noqa: S310 - our own server
    refusal.value.close()  # it is itself a response


def test_the_server_task_says_where_it_listens_and_ends_when_cancelled(desk: Any) -> None:
    thread = threading.Thread(target=serve, args=(desk, 0), daemon=True)
    thread.start()
    while not desk.logged("quotes.listening"):
        assert thread.is_alive()
    [listening] = desk.logged("quotes.listening")
    assert "NIFTY" in feed.fetch(f"http://127.0.0.1:{listening['port']}", "prices", desk.due)
    desk.cancelled.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_hanging_request_does_not_hold_up_the_end_and_the_port_is_free_at_once() -> None:
    with running() as server:
        order(f"http://127.0.0.1:{server.port}", "/prices", "timeout")
        client = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        client.sendall(b"GET /prices?at=2026-11-23T11:00:00%2B05:30 HTTP/1.0\r\n\r\n")
        while not server.faults.stats()["faults"]:
            time.sleep(0.01)
    # Closed, so the hanging handler was let go and joined; its client sees the end.
    assert client.recv(1) == b""
    QuoteServer(server.port).server_close()
    client.close()


def test_a_port_in_use_is_named(server: QuoteServer) -> None:
    with pytest.raises(OSError, match=rf"127\.0\.0\.1:{server.port}: Address already in use"):
        QuoteServer(server.port)


def test_the_shipped_prices_are_what_the_generator_makes() -> None:
    lines = files("scheduler.examples").joinpath("day.csv").read_text(encoding="utf-8").splitlines()
    assert "Synthetic" in lines[0]
    shipped = [(time, symbol, price, int(volume)) for time, symbol, price, volume in csv.reader(lines[2:])]
    assert shipped == list(make_day.rows())


def test_the_day_repeats_whatever_the_date_and_the_zone_of_the_asker() -> None:
    replay = Replay()
    eleven = replay.prices_at(datetime.fromisoformat(ELEVEN))
    assert eleven["minute"] == "11:00"
    assert eleven == replay.prices_at(datetime.fromisoformat("2027-03-01T05:30:59+00:00"))
    assert eleven != replay.prices_at(datetime.fromisoformat("2026-11-23T11:01:00+05:30"))


@pytest.mark.parametrize("closed", ["2026-11-22T23:10:00+05:30", "2026-11-23T08:59:59+05:30"])
def test_the_last_prices_stand_while_the_market_is_closed(closed: str) -> None:
    assert Replay().prices_at(datetime.fromisoformat(closed))["minute"] == "15:30"


def test_market_monitoring_reports_all_prices_first_and_then_what_moved(desk: Any, url: str) -> None:
    market_monitoring.watch(desk.at("2026-11-23T13:00:00+05:30"), url)
    market_monitoring.watch(desk.at("2026-11-23T13:00:05+05:30"), url)
    market_monitoring.watch(desk.at("2026-11-23T13:04:00+05:30"), url)
    first, moved = desk.logged("market.prices")
    assert set(make_day.INSTRUMENTS) <= set(first)
    assert first["NIFTY"] == 25891.9
    assert {name for name in moved if name.isupper()} == {"BANKNIFTY", "RELIANCE", "HDFCBANK", "INFY"}


async def test_what_is_due_together_costs_one_request(desk: Any, server: QuoteServer, url: str) -> None:
    await asyncio.gather(
        asyncio.to_thread(market_monitoring.watch, desk, url),
        asyncio.to_thread(regime_monitoring.classify, desk, url),
        signal_generation.generate(desk, url),
    )
    assert server.faults.requests == {"/prices": 1}
    await asyncio.to_thread(market_monitoring.watch, desk.at("2026-11-23T11:00:05+05:30"), url)
    assert server.faults.requests == {"/prices": 2}


async def test_signal_generation_logs_each_change_once_even_when_it_must_ask_itself(
    desk: Any, url: str
) -> None:
    for minute in ("13:00:00", "13:00:05", "14:00:00"):
        await signal_generation.generate(desk.at(f"2026-11-23T{minute}+05:30"), url)
    nifty = [entry["signal"] for entry in desk.logged("signal.changed") if entry["symbol"] == "NIFTY"]
    assert nifty == ["short"]
    await signal_generation.generate(desk.at("2026-11-23T11:05:00+05:30"), url)
    assert desk.logged("signal.changed")[-1]["signal"] == "long"


async def test_a_session_too_young_for_a_slow_average_has_no_signal(desk: Any, url: str) -> None:
    await signal_generation.generate(desk.at("2026-11-23T09:18:00+05:30"), url)
    assert desk.logged("signal.changed") == []


def test_the_fast_average_above_the_slow_one_is_long() -> None:
    assert signal_generation.crossover([1.0, 1.0, 2.0, 3.0], fast=2, slow=4) == "long"
    assert signal_generation.crossover([3.0, 2.0, 1.0, 1.0], fast=2, slow=4) == "short"


@pytest.mark.parametrize(
    "minute,regime", [("11:30", "calm"), ("13:40", "turbulent"), ("15:20", "normal"), ("09:05", None)]
)
def test_regime_monitoring_keeps_the_regime_in_the_cache(
    desk: Any, url: str, minute: str, regime: str | None
) -> None:
    regime_monitoring.classify(desk.at(f"2026-11-23T{minute}:00+05:30"), url)
    assert desk.cache["regime"].get("NIFTY") == regime
    assert [entry["regime"] for entry in desk.logged("regime.changed")] == ([regime] if regime else [])


def test_prices_that_alternate_by_one_per_cent_a_minute_are_very_volatile() -> None:
    # The returns are +-0.995 %: their deviation times the root of the 94,500 minutes of a year.
    assert regime_monitoring.realised_volatility([100.0, 101.0] * 50) == pytest.approx(307, abs=1)


def test_news_integration_logs_each_headline_once_and_keeps_the_newest_by_symbol(desk: Any, url: str) -> None:
    news_integration.read(desk.at("2026-11-23T13:02:00+05:30"), url)
    news_integration.read(desk.at("2026-11-23T13:03:00+05:30"), url)
    headlines = [entry["headline"] for entry in desk.logged("news.headline")]
    assert len(headlines) == len(set(headlines)) == 6
    assert (
        desk.cache["news"].get("BANKNIFTY")
        == headlines[-1]
        == "Bank shares fall sharply after the rate decision"
    )


def test_host_health_reads_this_machine(desk: Any) -> None:
    host_health.check(desk, disk="/")
    [health] = desk.logged("host.health")
    assert 0 < health["memory_percent"] <= 100
    assert 0 < health["disk_percent"] <= 100
    assert health["clock"] in {"synchronised", "unsynchronised", "unknown"}


def test_host_health_warns_of_what_is_amiss(desk: Any) -> None:
    host_health.check(desk, fullest=0)
    [health] = desk.logged("host.health")
    assert health["log_level"] == "warning"
    assert {"disk", "memory"} <= set(health["amiss"])


@pytest.mark.parametrize(
    "answer, has_succeeded, words",
    [
        (5, True, ("unsynchronised", "")),  # what timesyncd once achieved may be long ago
        (0, False, ("synchronised", "")),
        (-1, False, ("unknown", "adjtimex: ")),
        (-1, True, ("synchronised", "systemd-timesyncd has succeeded")),
    ],
)
def test_the_kernels_answer_about_the_clock_is_put_into_words(
    answer: int, has_succeeded: bool, words: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "synchronized"
    if has_succeeded:
        mark.touch()
    monkeypatch.setattr(host_health, "SYNCHRONISED", mark)
    monkeypatch.setattr(ctypes, "CDLL", lambda _, **_options: SimpleNamespace(adjtimex=lambda _: answer))
    state, detail = host_health.clock_state()
    assert state == words[0]
    assert words[1] in detail
    assert bool(detail) == bool(words[1])


def test_host_health_says_why_it_does_not_know_about_the_clock(
    desk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under ProtectClock=: the machine's health is logged all the same, and the clock is not amiss."""
    monkeypatch.setattr(host_health, "SYNCHRONISED", tmp_path / "absent")
    monkeypatch.setattr(ctypes, "CDLL", lambda _, **_options: SimpleNamespace(adjtimex=lambda _: -1))
    monkeypatch.setattr(ctypes, "get_errno", lambda: errno.EPERM)
    host_health.check(desk)
    [health] = desk.logged("host.health")
    assert health["clock"] == "unknown"
    assert health["clock_detail"].startswith("adjtimex: Operation not permitted")
    assert "clock" not in health["amiss"]


def starter() -> Any:
    return yamlfile.read(CONFIG / "tasks.yaml").plain()


def test_the_starter_file_has_no_mistake_and_its_cache_is_the_one_tested_here() -> None:
    file = read_tasks(CONFIG)
    assert file.problems == ()
    assert file.caches == NAMESPACES


def test_every_callable_of_the_starter_file_exists() -> None:
    targets = [task["run"].split(":") for task in starter()["tasks"].values() if "run" in task]
    assert len(targets) == 6
    assert all(callable(getattr(import_module(module), name)) for module, name in targets)


def test_one_line_points_the_whole_desk_at_another_feed() -> None:
    text = (CONFIG / "tasks.yaml").read_text(encoding="utf-8")
    assert text.count("http://") == 1
    tasks: Any = yamlfile.parse(
        text.replace("http://127.0.0.1:8765", "https://feed.example"), "t.yaml"
    ).plain()
    users = {name for name, task in tasks["tasks"].items() if "url" in task.get("with", {})}
    assert users == {"market-monitoring", "signal-generation", "regime-monitoring", "news-integration"}
    assert {tasks["tasks"][name]["with"]["url"] for name in users} == {"https://feed.example"}


def test_the_end_of_day_report_prints_the_session_and_the_disks_use() -> None:
    command = starter()["tasks"]["end-of-day-report"]["command"]
    filled = [part.format(session="2026-11-23", due="2026-11-23T15:45:00+05:30") for part in command]
    done = subprocess.run(filled, capture_output=True, text=True, check=True, timeout=30)
    said, disk = done.stdout.splitlines()
    assert said == "session 2026-11-23 is over, reported for 2026-11-23T15:45:00+05:30"
    assert "%" in disk


def test_the_examples_in_markets_yaml_are_right_once_uncommented() -> None:
    lines = (CONFIG / "markets.yaml").read_text(encoding="utf-8").splitlines()
    markets = parse_markets("\n".join(re.sub(r"^#(?=\S|  )", "", line) for line in lines))
    assert markets.problems == ()
    desk_layer = markets.layers[1]
    assert set(desk_layer) == {"NSE", "MY-DESK", "TOKYO", "DESK-DAY"}


def test_the_environment_file_shows_every_setting_and_no_other() -> None:
    text = (CONFIG / "scheduler.env").read_text(encoding="utf-8")
    shown = re.findall(r"^#SCHEDULER_([A-Z_]+)=\S+$", text, re.MULTILINE)
    assert sorted(shown) == sorted(name.upper() for name in Settings.model_fields)
