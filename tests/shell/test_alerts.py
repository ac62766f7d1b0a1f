"""Delivery: against a real server that is slow, dribbles, fails, is absent and comes up; real commands."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from scheduler.alerts import Alerts, Teller
from scheduler.alerts import sink as sinks
from scheduler.alerts.heartbeat import Heartbeat
from scheduler.alerts.letters import Letter, SendError
from scheduler.alerts.program import Program
from scheduler.alerts.sink import Sink
from scheduler.alerts.web import Client, Place
from scheduler.clock import SystemClock
from scheduler.core import events
from scheduler.core.alerting import Alert, Message
from scheduler.core.messages import MILLISECOND, Announce, Cause, Record, Status
from scheduler.runs import BackgroundTaskManager
from tests.helpers import instant, iso
from tests.receiver import Receiver, status
from tests.shell.execution import Record as Log
from tests.shell.execution import on_both_loops, until

NOON = instant("2026-11-23T12:00:00+05:30")
LOOPING, RECOVERED = events.TASK_CRASH_LOOPING, events.TASK_RECOVERED


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backoffs and deadlines that a test can wait for."""
    monkeypatch.setattr(sinks, "_FIRST_DELAY", 0.02)
    monkeypatch.setattr(sinks, "_LONGEST_DELAY", 0.1)


class Speaker:
    """What is said, in place of the daemon."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, event: str, level: str, fields: Mapping[str, Any]) -> None:
        self.said.append((event, dict(fields)))

    def fields(self, event: str) -> list[dict[str, Any]]:
        return [fields for said, fields in self.said if said == event]


TELLER = Teller(iso, dict, "desk-1", "1.2.3")


class House(Speaker):
    """Alerts as the daemon has them, and who owns their tasks."""

    def __init__(self, *alerts: Alert) -> None:
        super().__init__()
        self.configured: tuple[Alert, ...] = alerts
        self.why = ""
        self.log = Log()
        self.manager = BackgroundTaskManager(time.time_ns)
        self.alerts = Alerts(
            lambda: self.configured,
            tasks=self.manager,
            teller=TELLER,
            clock=SystemClock(),
            unwell=lambda: self.why,
            say=self,
            log=lambda _sink: self.log,
        )

    def hear(self, event: str, **fields: Any) -> None:
        self.alerts.hear(Announce(event, "error", fields))


@asynccontextmanager
async def house(*alerts: Alert) -> AsyncIterator[House]:
    made = House(*alerts)
    try:
        yield made
    finally:
        await made.alerts.aclose()
        assert made.manager.get_active_task_count() == 0


def webhook(url: str, *wanted: str) -> Alert:
    return Alert(url, (), wanted or (LOOPING,), None)


def command(*argv: str) -> Alert:
    return Alert(None, argv, (LOOPING,), None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def took(work: Any) -> float:
    began = time.monotonic()
    await work
    return time.monotonic() - began


# A webhook.


@on_both_loops
async def test_a_webhook_gets_json_with_all_that_a_receiver_may_want(receiver: Receiver) -> None:
    async with house(webhook(receiver.url)) as desk:
        before = time.time_ns()
        desk.hear(LOOPING, task="feed", failures=5, reason="exit status 1")
        await until(lambda: receiver.got)
        after = time.time_ns()
    ((method, path, headers, body),) = receiver.got
    assert (method, path, headers["Content-Type"]) == ("POST", "/hook?token=secret", "application/json")
    assert headers["Host"] == f"127.0.0.1:{receiver.port}"
    assert headers["User-Agent"] == "trading-hours-scheduler/1.2.3"
    letter = json.loads(body)
    assert before // 1000 * 1000 <= instant(letter.pop("at")) <= after
    assert letter == {
        "event": "task.crash_looping",
        "level": "error",
        "task": "feed",
        "summary": "feed fails again and again (5 times in a row) and is tried on (exit status 1)",
        "fields": {"task": "feed", "failures": 5, "reason": "exit status 1"},
        "host": "desk-1",
        "scheduler": "1.2.3",
        "count": 1,
        "recovered": False,
    }
    assert desk.said == []


@on_both_loops
async def test_recovery_is_told_and_what_nobody_asked_for_is_not(receiver: Receiver) -> None:
    async with house(webhook(receiver.url)) as desk:
        desk.hear(events.TASK_STALE, task="feed")
        desk.hear(LOOPING, task="feed", failures=5)
        desk.hear(RECOVERED, task="feed")
        await until(lambda: len(receiver.got) == 2)
    assert [(letter["event"], letter["recovered"]) for letter in receiver.letters] == [
        (LOOPING, False),
        (RECOVERED, True),
    ]


@on_both_loops
async def test_a_success_ends_what_was_unfinished_at_any_level_of_the_log(receiver: Receiver) -> None:
    done = Record("report", NOON, 1, Status.COMPLETED, started=NOON, ended=NOON + 1500 * MILLISECOND)
    async with house(webhook(receiver.url, events.TASK_UNFINISHED)) as desk:
        desk.hear(events.TASK_UNFINISHED, task="report", due=NOON, finish_by="close")
        desk.alerts.recorded(done._replace(status=Status.FAILED))
        desk.alerts.recorded(done._replace(due=NOON - 1))
        desk.alerts.recorded(done._replace(cause=Cause.BACKFILL))
        desk.alerts.recorded(done)
        desk.alerts.recorded(done._replace(task="feed"))
        desk.hear(events.RUN_COMPLETED, task="report")  # it is heard of by the record
        await until(lambda: len(receiver.got) == 2)
    assert [(letter["event"], letter["fields"].get("seconds")) for letter in receiver.letters] == [
        (events.TASK_UNFINISHED, None),
        (events.RUN_COMPLETED, 1.5),
    ]


@pytest.mark.usefixtures("quick")
@on_both_loops
async def test_an_endpoint_that_fails_gets_everything_in_order_once_it_works(receiver: Receiver) -> None:
    receiver.answer = status(500)
    async with house(webhook(receiver.url)) as desk:
        for name in "abc":
            desk.hear(LOOPING, task=name)
        await until(lambda: len(receiver.got) >= 3)
        receiver.answer = status(200)
        await until(lambda: len({letter["task"] for letter in receiver.letters}) == 3)
        await until(lambda: desk.fields(events.ALERT_RECOVERED))
    tasks = [letter["task"] for letter in receiver.letters]
    assert tasks == sorted(tasks)
    sink = f"127.0.0.1:{receiver.port}"
    assert desk.fields(events.ALERT_FAILED) == [{"sink": sink, "error": "it answers 500", "waiting": 3}]
    assert desk.fields(events.ALERT_RECOVERED) == [{"sink": sink, "attempts": tasks.count("a")}]
    assert desk.fields(events.ALERT_DROPPED) == []
    assert "secret" not in repr(desk.said)


@pytest.mark.usefixtures("quick")
@on_both_loops
async def test_an_endpoint_that_is_absent_is_told_once_it_is_there() -> None:
    port = free_port()
    async with house(webhook(f"http://127.0.0.1:{port}/")) as desk:
        desk.hear(LOOPING, task="feed")
        await until(lambda: desk.fields(events.ALERT_FAILED))
        late = Receiver(port)
        try:
            await until(lambda: desk.fields(events.ALERT_RECOVERED))
        finally:
            late.close()
    assert [letter["task"] for letter in late.letters] == ["feed"]
    assert desk.fields(events.ALERT_FAILED)[0]["waiting"] == 1


@on_both_loops
async def test_a_sink_that_hangs_delays_no_other_and_not_the_loop(receiver: Receiver) -> None:
    other = Receiver()
    receiver.answer = receiver.hang
    try:
        async with house(webhook(receiver.url), webhook(other.url)) as desk:
            desk.hear(LOOPING, task="feed")
            assert await took(until(lambda: other.got)) < 5
            desk.hear(RECOVERED, task="feed")
            await until(lambda: len(other.got) == 2)
            assert len(receiver.got) == 1
            receiver.released.set()
    finally:
        other.close()


@pytest.mark.parametrize("way", ["hang", "dribble"])
@on_both_loops
async def test_a_server_gets_no_longer_than_the_deadline_however_it_passes_the_time(
    receiver: Receiver, way: str
) -> None:
    receiver.answer = getattr(receiver, way)
    client = Client(receiver.url, "test", deadline=0.3)
    with pytest.raises(SendError, match=r"^no answer within 0\.3 s$"):
        await client.send("POST", b"{}")
    assert [thread for thread in threading.enumerate() if thread.name == "alert-lookup"] == []


@on_both_loops
async def test_a_server_that_takes_no_bytes_gets_no_longer_either() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        client = Client(f"http://127.0.0.1:{deaf.getsockname()[1]}/", "test", deadline=0.3)
        with pytest.raises(SendError, match="no answer within"):
            await client.send("POST", b"x" * 50_000_000)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\n\r\n",
         "it answers 302, a redirect, which is not followed"),
        (b"HTTP/1.1 503 Busy\r\n\r\n", "it answers 503"),
        (b"SSH-2.0-OpenSSH\r\n", "it does not answer in HTTP"),
        (b"", "it does not answer in HTTP"),
        (b"x" * 100_000, "it does not answer in HTTP"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 200, "it does not answer in HTTP"),
    ],
)  # fmt: skip
@on_both_loops
async def test_what_is_no_success_says_what_it_is(answer: bytes, problem: str) -> None:
    async with raw_server(answer) as port:
        with pytest.raises(SendError) as error:
            await Client(f"http://127.0.0.1:{port}/", "test").send("GET")
    assert (str(error.value), error.value.refused) == (problem, False)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.0 200\r\n", b"HTTP/1.1 100 Go\r\nA: b\r\n\r\nHTTP/1.1 204 X\r\n"]
)
@on_both_loops
async def test_the_final_status_is_what_counts(answer: bytes) -> None:
    async with raw_server(answer) as port:
        await Client(f"http://127.0.0.1:{port}/", "test").send("GET")


@asynccontextmanager
async def raw_server(answer: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Self-signed, for 127.0.0.1; its key is in the same file."""
    made = tmp_path / "certificate.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=desk"
        f" -addext subjectAltName=IP:127.0.0.1 -keyout {tmp_path}/key.pem -out {made}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    made.write_text(made.read_text("ascii") + (tmp_path / "key.pem").read_text("ascii"), "ascii")
    return made


@asynccontextmanager
async def tls_server(certificate: Path) -> AsyncIterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with raw_server(b"HTTP/1.1 204 Yes\r\n\r\n", context) as port:
        yield f"https://127.0.0.1:{port}/"


@on_both_loops
async def test_a_certificate_that_nobody_vouches_for_is_not_accepted(certificate: Path) -> None:
    async with tls_server(certificate) as url:
        with pytest.raises(SendError, match="its certificate is not accepted"):
            await Client(url, "test").send("GET")


@on_both_loops
async def test_a_certificate_that_the_host_trusts_is_accepted(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with tls_server(certificate) as url:
        await Client(url, "test").send("POST", b"{}")


@on_both_loops
async def test_of_several_addresses_the_first_that_takes_us_is_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def both(*_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0)) for host in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    await Client(f"http://desk.example:{receiver.port}/", "test").send("GET")
    assert receiver.got[0][2]["Host"] == f"desk.example:{receiver.port}"


@on_both_loops
async def test_a_name_that_nobody_knows_is_a_failure_that_says_so() -> None:
    with pytest.raises(SendError, match="it cannot be looked up"):
        await Client("http://desk.invalid/secret", "test").send("GET")


@on_both_loops
async def test_a_host_without_another_thread_is_a_failure_that_says_so(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    client = Client(receiver.url, "test")
    with monkeypatch.context() as patch, pytest.raises(SendError, match="can't start new thread"):
        patch.setattr(threading.Thread, "start", refuse)
        await client.send("GET")
    await client.send("GET")


@on_both_loops
async def test_a_look_up_that_hangs_costs_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hang(*_: object, **__: object) -> list[Any]:
        released.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    client = Client("http://desk.example/", "test", deadline=0.05)
    for _ in range(3):
        with pytest.raises(SendError, match="no answer within"):
            await client.send("GET")
    assert [thread.name for thread in threading.enumerate()].count("alert-lookup") == 1
    released.set()
    await until(lambda: "alert-lookup" not in [thread.name for thread in threading.enumerate()])
    with pytest.raises(SendError, match="try again"):
        await Client("http://desk.example/", "test").send("GET")


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://desk.example/a", Place("desk.example", 443, True, "/a", "", "desk.example")),
        ("http://desk.example", Place("desk.example", 80, False, "/", "", "desk.example")),
        ("http://[::1]:8080/?q=ä b#part",
         Place("::1", 8080, False, "/?q=%C3%A4%20b", "", "[::1]:8080")),
        ("http://desk:p%40ss@desk.example/",
         Place("desk.example", 80, False, "/", "Basic ZGVzazpwQHNz", "desk.example")),
        ("http://desk.example/a%20b/é",
         Place("desk.example", 80, False, "/a%20b/%C3%A9", "", "desk.example")),
    ],
)  # fmt: skip
def test_a_url_is_taken_apart_and_its_name_is_no_secret(url: str, place: Place) -> None:
    assert Place.of(url) == place


# The queue.


class Hand:
    """A sender that does as it is told."""

    name = "hand"

    def __init__(self) -> None:
        self.sent: list[Letter] = []
        self.problem: Exception | None = None

    async def send(self, letter: Letter) -> None:
        if self.problem is not None:
            raise self.problem
        self.sent.append(letter)


@asynccontextmanager
async def sink(hand: Hand, speaker: Speaker, **options: Any) -> AsyncIterator[Sink]:
    made = Sink(hand, [LOOPING], teller=TELLER, clock=SystemClock(), say=speaker, **options)
    manager = BackgroundTaskManager(time.time_ns)
    manager.start_task(made.run(), "sink")
    try:
        yield made
    finally:
        made.close()
        assert await manager.wait_all(10) == []
        manager.close()


def looping(name: str) -> Announce:
    return Announce(LOOPING, "critical", {"task": name})


@pytest.mark.usefixtures("quick")
@on_both_loops
async def test_of_too_many_the_oldest_are_dropped_and_that_is_said() -> None:
    hand, speaker = Hand(), Speaker()
    hand.problem = SendError("down")
    async with sink(hand, speaker, waiting=3) as made:
        for number in range(10):
            made.hear(looping(f"task-{number}"))
        await until(lambda: speaker.fields(events.ALERT_DROPPED))
        hand.problem = None
        await until(lambda: len(hand.sent) == 3)
    assert [letter.values["task"] for letter in hand.sent] == ["task-7", "task-8", "task-9"]
    assert speaker.fields(events.ALERT_DROPPED) == [
        {"sink": "hand", "count": 7, "reason": "more than 3 waited"}
    ]


@pytest.mark.usefixtures("quick")
@on_both_loops
async def test_what_got_too_old_is_dropped_and_that_is_said() -> None:
    hand, speaker = Hand(), Speaker()
    hand.problem = SendError("down")
    async with sink(hand, speaker, oldest=200 * MILLISECOND) as made:
        made.hear(looping("old"))
        await until(lambda: speaker.fields(events.ALERT_DROPPED))
        hand.problem = None
        made.hear(looping("new"))
        await until(lambda: hand.sent)
    assert [letter.values["task"] for letter in hand.sent] == ["new"]
    assert [event for event, _ in speaker.said] == [
        events.ALERT_FAILED,
        events.ALERT_DROPPED,
        events.ALERT_RECOVERED,
    ]


@on_both_loops
async def test_a_letter_that_is_refused_does_not_keep_the_next_ones_waiting(receiver: Receiver) -> None:
    receiver.answer = status(400)
    async with house(webhook(receiver.url)) as desk:
        desk.hear(LOOPING, task="a")
        await until(lambda: desk.said)
        receiver.answer = status(200)
        desk.hear(LOOPING, task="b")
        await until(lambda: len(receiver.got) == 2)
    assert desk.said == [
        (
            events.ALERT_DROPPED,
            {"sink": f"127.0.0.1:{receiver.port}", "count": 1, "reason": "it answers 400"},
        )
    ]


@pytest.mark.usefixtures("quick")
@on_both_loops
async def test_whatever_goes_wrong_with_one_letter_the_next_is_sent() -> None:
    hand, speaker = Hand(), Speaker()
    hand.problem = RuntimeError("a mistake of ours")
    async with sink(hand, speaker) as made:
        made.hear(looping("a"))
        await until(lambda: speaker.fields(events.ALERT_FAILED))
        hand.problem = None
        await until(lambda: hand.sent)
    assert speaker.fields(events.ALERT_FAILED)[0]["error"] == "RuntimeError: a mistake of ours"


@on_both_loops
async def test_a_flood_is_heard_at_once_and_delivered_as_far_as_it_fits() -> None:
    hand = Hand()
    async with sink(hand, Speaker()) as made:
        began = time.process_time()
        for number in range(10_000):
            made.hear(looping(f"task-{number}"))
        assert time.process_time() - began < 2
    assert [letter.values["task"] for letter in hand.sent] == [f"task-{n}" for n in range(9_500, 10_000)]


@on_both_loops
async def test_a_reminder_comes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduler.core.alerting.FIRST_WINDOW", 100 * MILLISECOND)
    hand = Hand()
    async with sink(hand, Speaker()) as made:
        for _ in range(4):
            made.hear(looping("a"))
        await until(lambda: len(hand.sent) == 2)
    assert [letter.values["count"] for letter in hand.sent] == ["1", "3"]


@on_both_loops
async def test_what_is_folded_at_the_end_is_told_then() -> None:
    hand = Hand()
    async with sink(hand, Speaker()) as made:
        made.hear(looping("a"))
        made.hear(looping("a"))
    assert [letter.values["count"] for letter in hand.sent] == ["1", "1"]


def test_a_field_that_json_does_not_know_is_sent_as_its_text() -> None:
    fields = {"price": float("nan"), "path": Path("/a"), "exc_info": ValueError(), "text": "x" * 10_000}
    letter = TELLER.letter(Message(Announce(events.RUN_FAILED, "error", fields), 1, recovered=False), NOON)
    sent = json.loads(letter.body)["fields"]
    assert (sent["price"], sent["path"], len(sent["text"])) == ("nan", "/a", 4001)
    assert "exc_info" not in sent


# The end.


@pytest.mark.parametrize("way", ["hang", "dribble"])
@on_both_loops
async def test_a_sink_that_hangs_at_the_end_gets_the_grace_and_the_loss_is_said(
    receiver: Receiver, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.alerts.alerts.GRACE", 0.3)
    receiver.answer = getattr(receiver, way)
    async with house(webhook(receiver.url)) as desk:
        desk.hear(LOOPING, task="a")
        desk.hear(LOOPING, task="b")
        await until(lambda: receiver.got)
        assert 0.25 < await took(desk.alerts.aclose()) < 5
    assert desk.fields(events.ALERT_DROPPED) == [
        {"sink": f"127.0.0.1:{receiver.port}", "count": 2, "reason": "the scheduler stopped"}
    ]


@on_both_loops
async def test_what_is_told_last_arrives_before_the_end(receiver: Receiver) -> None:
    async with house(webhook(receiver.url, events.DAEMON_STOPPING)) as desk:
        desk.hear(events.DAEMON_STOPPING, waiting_for=[])
        assert await took(desk.alerts.aclose()) < 4
    assert [letter["event"] for letter in receiver.letters] == [events.DAEMON_STOPPING]
    assert desk.said == []


@on_both_loops
async def test_a_sink_that_is_down_does_not_use_up_the_grace() -> None:
    async with house(webhook(f"http://127.0.0.1:{free_port()}/")) as desk:
        desk.hear(LOOPING, task="a")
        await until(lambda: desk.fields(events.ALERT_FAILED))
        assert await took(desk.alerts.aclose()) < 4
    assert [fields["count"] for fields in desk.fields(events.ALERT_DROPPED)] == [1]


# A reload.


@pytest.mark.usefixtures("quick")
@on_both_loops
async def test_a_reload_keeps_what_waits_for_a_sink_that_stays(receiver: Receiver) -> None:
    receiver.answer = status(500)
    async with house(webhook(receiver.url)) as desk:
        desk.hear(LOOPING, task="feed")
        await until(lambda: receiver.got)
        desk.configured = (webhook(receiver.url, LOOPING, events.TASK_STALE),)
        desk.hear(events.TASK_STALE, task="feed")
        receiver.answer = status(200)
        await until(lambda: desk.fields(events.ALERT_RECOVERED))
        await until(lambda: receiver.letters[-1]["event"] == events.TASK_STALE)
    assert desk.fields(events.ALERT_DROPPED) == []


@pytest.mark.usefixtures("quick")
@on_both_loops
async def test_a_sink_that_is_gone_from_the_files_says_what_was_lost(receiver: Receiver) -> None:
    receiver.answer = status(500)
    async with house(webhook(receiver.url)) as desk:
        desk.hear(LOOPING, task="feed")
        await until(lambda: receiver.got)
        desk.configured = ()
        desk.hear(events.CONFIG_RELOADED)
        await until(lambda: desk.fields(events.ALERT_DROPPED))
        await until(lambda: desk.manager.get_active_task_count() == 0)
    assert desk.fields(events.ALERT_DROPPED)[0]["reason"] == "it is no longer configured"


@on_both_loops
async def test_two_entries_for_one_endpoint_are_two_sinks(receiver: Receiver) -> None:
    both = (webhook(receiver.url, LOOPING), webhook(receiver.url, events.TASK_STALE))
    async with house(*both) as desk:
        desk.hear(LOOPING, task="feed")
        desk.hear(events.TASK_STALE, task="feed")
        await until(lambda: len(receiver.got) == 2)
    assert sorted(letter["event"] for letter in receiver.letters) == [LOOPING, events.TASK_STALE]


# A command.

SCRIPT = """
echo "$1" > "$0.arguments"
env | grep ^SCHEDULER_ | sort > "$0.environment"
cat > "$0.json"
mv "$0.json" "$0.done"
"""


@on_both_loops
async def test_a_command_gets_words_variables_and_json(tmp_path: Path) -> None:
    out = tmp_path / "out"
    argv = ("/bin/sh", "-c", SCRIPT, str(out), "{event} {task} {{}} {count}: {summary}")
    async with house(command(*argv)) as desk:
        desk.hear(LOOPING, task="feed", failures=5)
        await until(out.with_suffix(".done").exists)
    summary = "feed fails again and again (5 times in a row) and is tried on"
    assert out.with_suffix(".arguments").read_text("utf-8") == f"task.crash_looping feed {{}} 1: {summary}\n"
    assert json.loads(out.with_suffix(".done").read_bytes())["fields"] == {"task": "feed", "failures": 5}
    variables = dict(
        line.split("=", 1) for line in out.with_suffix(".environment").read_text("utf-8").splitlines()
    )
    assert variables["SCHEDULER_EVENT"] == LOOPING
    assert variables["SCHEDULER_TASK"] == variables["SCHEDULER_SUBJECT"] == "feed"
    assert variables["SCHEDULER_SUMMARY"] == summary
    assert variables["SCHEDULER_RECOVERED"] == "false"
    assert desk.said == []


def letter() -> Letter:
    return TELLER.letter(Message(looping("feed"), 1, recovered=False), NOON)


def program(*argv: str, timeout: float = 10.0) -> tuple[Program, Log]:
    log = Log()
    return Program(argv, time.time_ns, lambda _sink: log, timeout), log


@on_both_loops
async def test_a_command_that_fails_says_how_and_its_output_is_logged() -> None:
    made, log = program("/bin/sh", "-c", "echo no pager; exit 3")
    with pytest.raises(SendError, match=r"^exit status 3: no pager$"):
        await made.send(letter())
    assert log.lines == ["no pager"]


@on_both_loops
async def test_a_command_that_is_not_there_is_a_failure() -> None:
    made, _ = program("/no/such/pager")
    with pytest.raises(SendError, match="No such file"):
        await made.send(letter())


@on_both_loops
async def test_a_command_that_reads_nothing_is_no_failure() -> None:
    made, _ = program("/bin/true")
    await made.send(letter())


@on_both_loops
async def test_a_command_that_hangs_is_killed_with_its_whole_group(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    made, _ = program("/bin/sh", "-c", f"sleep 60 & echo $! $$ > {pids}; wait", timeout=0.3)
    with pytest.raises(SendError, match=r"^timed out after 0\.3 s$"):
        await made.send(letter())
    assert [pid for pid in map(int, pids.read_text("utf-8").split()) if _lives(pid)] == []


@on_both_loops
async def test_a_command_that_hangs_at_the_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.alerts.alerts.GRACE", 0.2)
    pid = tmp_path / "pid"
    script = f"trap '' TERM; echo $$ > {pid}.new; mv {pid}.new {pid}; sleep 60"
    async with house(command("/bin/sh", "-c", script)) as desk:
        desk.hear(LOOPING, task="feed")
        await until(pid.exists)
        assert await took(desk.alerts.aclose()) < 5
        assert not _lives(int(pid.read_text("utf-8")))
    assert [event for event, _ in desk.said] == [events.ALERT_DROPPED]


def _lives(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


# The heartbeat.


@on_both_loops
async def test_a_heartbeat_is_given_while_all_is_well_and_withheld_otherwise(receiver: Receiver) -> None:
    speaker, why = Speaker(), [""]
    made = Heartbeat(Client(receiver.url, "test"), lambda: why[0], speaker, every=0.02)
    manager = BackgroundTaskManager(time.time_ns)
    manager.start_task(made.run(), "heartbeat")
    await until(lambda: len(receiver.got) >= 3)
    why[0] = "not ready"
    await until(lambda: speaker.said)
    before = len(receiver.got)
    await asyncio.sleep(0.2)
    assert len(receiver.got) == before
    why[0] = ""
    await until(lambda: len(receiver.got) > before)
    manager.cancel_task("heartbeat")
    assert await manager.wait_all(10) == []
    manager.close()
    name = f"127.0.0.1:{receiver.port}"
    assert receiver.got[0][:2] == ("GET", "/hook?token=secret")
    assert speaker.said == [
        (events.HEARTBEAT_WITHHELD, {"sink": name, "reason": "not ready"}),
        (events.HEARTBEAT_RESUMED, {"sink": name}),
    ]


@on_both_loops
async def test_a_heartbeat_that_does_not_arrive_is_said_once(receiver: Receiver) -> None:
    speaker = Speaker()
    receiver.answer = status(500)
    made = Heartbeat(Client(receiver.url, "test"), lambda: "", speaker, every=0.02)
    manager = BackgroundTaskManager(time.time_ns)
    manager.start_task(made.run(), "heartbeat")
    await until(lambda: len(receiver.got) >= 3)
    receiver.answer = status(200)
    await until(lambda: speaker.fields(events.ALERT_RECOVERED))
    manager.cancel_task("heartbeat")
    assert await manager.wait_all(10) == []
    manager.close()
    assert [event for event, _ in speaker.said] == [events.ALERT_FAILED, events.ALERT_RECOVERED]
    assert speaker.said[0][1]["sink"] == f"heartbeat 127.0.0.1:{receiver.port}"


@on_both_loops
async def test_heartbeats_follow_the_configuration(receiver: Receiver) -> None:
    async with house(Alert(None, (), (), receiver.url)) as desk:
        desk.hear(events.CONFIG_LOADED)
        await until(lambda: receiver.got)
        desk.configured = ()
        desk.hear(events.CONFIG_RELOADED)
        await until(lambda: desk.manager.get_active_task_count() == 0)
