from __future__ import annotations

import array
import io
import json
import logging
import os
import pty
import re
import socket
import struct
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import structlog

from scheduler import logs
from scheduler.core import events
from scheduler.logs import journal, pipeline
from scheduler.logs.stream import StreamWriter
from tests.helpers import instant

KOLKATA = ZoneInfo("Asia/Kolkata")
NOW = instant("2026-11-23T09:15:00.002+05:30")


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Logging is one for the process: each test leaves it as it was."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    root = logging.getLogger()
    level, before = root.level, pipeline._pipeline
    yield
    if pipeline._pipeline is not None and pipeline._pipeline.output.journal is not None:
        pipeline._pipeline.output.journal.close()
    pipeline._pipeline = before
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    for handler in [each for each in root.handlers if type(each).__name__ == "_LibraryHandler"]:
        root.removeHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def configured(format_: str, stream: Any = None, level: str = "info", **extra: object) -> io.StringIO:
    """Configure for a stream of text unless another is given, on Monday 23 November, at the open."""
    text = io.StringIO()
    logs.configure(
        format=format_, level=level, stream=stream or text, zone=KOLKATA, now=lambda: NOW, extra=extra
    )
    return text


def lines(text: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.getvalue().splitlines()]


def test_a_json_line_begins_with_time_level_and_event_and_carries_its_offset() -> None:
    text = configured("json")
    logs.announce(events.TASK_RESTARTING, "warning", {"task": "eod-report", "attempt": 2})
    assert text.getvalue() == (
        '{"timestamp": "2026-11-23T09:15:00.002+05:30", "level": "warning", "event": "task.restarting", '
        '"task": "eod-report", "attempt": 2}\n'
    )


def test_a_console_line_shows_the_time_with_its_offset_and_plain_fields() -> None:
    text = configured("console")
    logs.announce(
        events.TASK_RESTARTING, "warning", {"task": "a", "error": "no route", "message": "tried again in 1s"}
    )
    assert text.getvalue() == (
        "2026-11-23 09:15:00.002+05:30 warning  task.restarting       "
        'tried again in 1s task=a error="no route"\n'
    )


def test_extra_fields_are_on_every_line_whoever_writes_it() -> None:
    text = configured("json", rehearsal=True)
    logs.announce(events.DAEMON_READY, "info", {"rehearsal": "no"})
    logs.logger(task="a").info("from a task")
    structlog.get_logger().info("from structlog")
    logging.getLogger("library").warning("from logging")
    assert [line["rehearsal"] for line in lines(text)] == [True] * 4


def test_a_level_below_the_threshold_is_not_written_and_enabled_says_so() -> None:
    text = configured("json", level="warning")
    logs.announce(events.RUN_COMPLETED, "info", {})
    logs.logger().info("no")
    assert (text.getvalue(), logs.enabled("info"), logs.enabled("warning")) == ("", False, True)


def test_fields_named_like_the_heads_of_a_line_do_not_replace_them() -> None:
    text = configured("json")
    logs.announce(events.RUN_FAILED, "error", {"event": "task.stale", "level": "low", "timestamp": 0})
    [line] = lines(text)
    assert (line["event"], line["level"]) == ("run.failed", "error")
    assert (line["field_event"], line["field_level"], line["field_timestamp"]) == ("task.stale", "low", 0)


def test_a_traceback_is_one_field_of_one_line() -> None:
    text = configured("json")
    try:
        raise ValueError("the feed\nis malformed")  # noqa: TRY301 - the traceback is what is tested
    except ValueError as error:
        logs.announce(events.RUN_FAILED, "error", {"task": "a", "exc_info": error})
    [line] = lines(text)
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: the feed\nis malformed")


def test_what_libraries_say_comes_through_from_warning_on_with_the_task_that_called_them() -> None:
    text = configured("json", level="debug")
    with structlog.contextvars.bound_contextvars(task="market-monitoring"):
        logging.getLogger("httpx").info("chatter")
        logging.getLogger("httpx").warning("%d retries", 3)
        misfit = logging.LogRecord("httpx", logging.WARNING, "", 0, "%d retries", ("three",), None)
        logging.getLogger().handlers[-1].handle(misfit)
    assert [(line["event"], line["logger"], line["task"]) for line in lines(text)] == [
        ("3 retries", "httpx", "market-monitoring"),
        ("%d retries", "httpx", "market-monitoring"),
    ]


def test_a_python_warning_is_a_line() -> None:
    text = configured("json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)  # the block above has kept pytest's own way of showing them
        logging.captureWarnings(capture=True)
        warnings.warn("old ways", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    [line] = lines(text)
    assert "DeprecationWarning: old ways" in line["event"]


def test_configuring_again_replaces_and_does_not_double() -> None:
    first = configured("json")
    second = configured("json")
    logging.getLogger("library").warning("once")
    assert (first.getvalue(), len(lines(second))) == ("", 1)


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, {("a", 1): 2}, b"\xff", "\udc80"])
def test_a_value_that_json_does_not_know_is_given_as_text(value: object) -> None:
    text = configured("json")
    logs.announce(events.TASK_TRACEBACK, "info", {"value": value, "count": 1})
    [line] = lines(text)
    assert (type(line["value"]), line["count"]) == (str, 1)


@pytest.mark.parametrize("format_", ["json", "console"])
def test_a_field_whose_text_cannot_be_made_costs_the_field_and_not_the_caller(format_: str) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no text")

        __repr__ = __str__

    text = configured(format_)
    logs.logger().info("still said", value=Broken())
    assert (lines(text)[0]["event"], lines(text)[0]["log_error"]) == ("'still said'", "RuntimeError")


def test_control_characters_cannot_move_the_cursor_or_forge_a_line() -> None:
    text = configured("console")
    logs.logger().info("done\n09:15:00.003 error", **{"out\x1bput": "\x1b[2Jcleared\u2028"})
    assert text.getvalue().count("\n") == 1
    assert "\x1b" not in text.getvalue()
    assert "\u2028" not in text.getvalue()


def test_an_unknown_format_or_level_is_refused() -> None:
    for format_, level in [("xml", "info"), ("json", "loud")]:
        with pytest.raises(ValueError, match="no log"):
            configured(format_, level=level)


def test_before_configuring_nothing_is_announced_and_nothing_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_pipeline", None)
    logs.announce(events.DAEMON_READY, "critical", {})
    logs.flush()
    assert not logs.enabled("critical")


def test_auto_is_coloured_console_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        configured("auto", terminal)
        logs.announce(events.DAEMON_READY, "info", {"tasks": 6})
        seen = os.read(ours, 4096).decode()
        os.close(ours)
    assert seen.endswith("\x1b[2mtasks=\x1b[0m6\r\n")


def test_auto_is_json_on_a_file_and_the_journal_when_systemd_connected_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "log").open("w+") as file:
        assert pipeline._detect(file) == "json"
        status = os.fstat(file.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert pipeline._detect(file) == "journal"
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + 1}")
        assert pipeline._detect(file) == "json"
    assert pipeline._detect(file) == "json", "a closed stream"
    assert pipeline._detect(None) == "json", "no stream at all"


def test_a_stalled_reader_does_not_block_and_is_told_later_what_it_lost() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as read_end, os.fdopen(writer, "w") as stream:
        configured("json", stream)
        for number in range(20_000):  # about 3 MB into a pipe of 64 KB that nobody reads
            logs.announce(events.RUN_FAILED, "error", {"number": number, "filler": "x" * 50})
        os.set_blocking(reader, False)
        seen = b""
        assert pipeline._pipeline is not None
        for _ in range(1000):
            pipeline._pipeline.output.writer.flush(0)
            try:
                seen += os.read(reader, 1 << 20)
            except BlockingIOError:
                break
        logs.announce(events.RUN_FAILED, "error", {"number": 20_000})
        seen += read_end.read() or b""
    rows = seen.decode().splitlines()
    told = re.fullmatch(r"\((\d+) log lines were lost: the reader had stalled\)", rows[-2])
    assert told is not None
    numbers = [json.loads(row)["number"] for row in rows[:-2]]
    assert numbers == list(range(20_000 - int(told[1]))), "what was kept is whole and in order"
    assert json.loads(rows[-1])["number"] == 20_000


def test_a_line_larger_than_the_pipe_arrives_whole_as_it_is_read() -> None:
    program = (
        "import sys, zoneinfo; from scheduler import logs\n"
        "logs.configure(format='json', level='info', stream=sys.stderr, zone=zoneinfo.ZoneInfo('UTC'),"
        " now=lambda: 0)\n"
        "logs.logger().info('x' * 500_000)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, check=True, timeout=60)
    assert len(json.loads(done.stderr)["event"]) == 500_000


def test_a_reader_that_is_gone_and_a_stream_that_is_closed_break_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        configured("json", stream)
        logs.announce(events.DAEMON_READY, "info", {})
    logs.announce(events.DAEMON_STOPPED, "info", {})
    closed = configured("json")
    closed.close()
    logs.announce(events.DAEMON_STOPPED, "info", {})


def test_no_stream_at_all_breaks_nothing() -> None:
    logs.configure(format="auto", level="info", stream=None, zone=KOLKATA, now=lambda: NOW)
    logs.announce(events.DAEMON_READY, "info", {})


def test_a_line_logged_in_the_middle_of_a_write_is_neither_lost_nor_doubled() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as read_end, os.fdopen(writer, "w") as stream:
        inner = StreamWriter(stream)
        inner._busy = True  # as when a finalizer runs between the write and its accounting
        inner.write("from a finalizer")
        inner._busy = False
        inner.write("from the loop")
        stream.close()
        assert read_end.read() == b"from a finalizer\nfrom the loop\n"


class Journald:
    """The receiving end of the native protocol, read back as journald reads it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(10)

    def entry(self) -> dict[str, str]:
        data, ancillary, _, _ = self.socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        for _, _, rights in ancillary:
            [file] = array.array("i", rights)
            with os.fdopen(file, "rb") as handle:
                handle.seek(0)
                data = handle.read()
        fields = {}
        while data:
            head, _, data = data.partition(b"\n")
            name, equals, value = head.partition(b"=")
            if not equals:
                (size,) = struct.unpack_from("<Q", data)
                value, data = data[8 : 8 + size], data[9 + size :]
            fields[name.decode()] = value.decode()
        return fields


@pytest.fixture
def journald(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journald]:
    daemon = Journald(tmp_path / "socket")
    monkeypatch.setattr(journal, "SOCKET", daemon.path)
    yield daemon
    daemon.socket.close()


def test_a_journal_entry_has_a_sentence_a_priority_and_searchable_fields(journald: Journald) -> None:
    configured("journal")
    logs.announce(
        events.TASK_RESTARTING,
        "warning",
        {
            "task": "market-monitoring",
            "attempt": 2,
            "reason": "timeout",
            "priority": "critical",
        },
    )
    assert journald.entry() == {
        "MESSAGE": "market-monitoring: task restarting (attempt 2, reason timeout)",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "scheduler",
        "TIMESTAMP": "2026-11-23T09:15:00.002+05:30",
        "LEVEL": "warning",
        "EVENT": "task.restarting",
        "TASK": "market-monitoring",
        "ATTEMPT": "2",
        "REASON": "timeout",
        "TASK_PRIORITY": "critical",
    }


def test_a_sentence_of_the_caller_is_the_message_and_is_said_once(journald: Journald) -> None:
    configured("journal")
    logs.announce(events.DAEMON_READY, "info", {"message": "6 tasks; NSE is open until 15:30"})
    assert journald.entry()["MESSAGE"] == "6 tasks; NSE is open until 15:30"


@pytest.mark.parametrize("size", [10, 300_000, 5_000_000])
def test_a_journal_entry_of_many_lines_and_any_size_arrives_whole(journald: Journald, size: int) -> None:
    configured("journal")
    output = "first\nsecond=third\n" + "x" * size
    logs.announce(events.TASK_TRACEBACK, "info", {"task": "a", "output": output, "after": "it"})
    entry = journald.entry()
    assert (entry["OUTPUT"], entry["AFTER"]) == (output, "it")


@pytest.mark.parametrize(
    "key, name",
    [
        ("run_id", "RUN_ID"),
        ("_PID", "PID"),
        ("9lives", "LIVES"),
        ("last-price.₹", "LAST_PRICE__"),
        ("message_id", "SCHEDULER_MESSAGE_ID"),
        ("", "SCHEDULER_"),
        ("x" * 80, "X" * 64),
    ],
)
def test_field_names_are_ones_that_the_journal_keeps(key: str, name: str) -> None:
    assert journal.field_name(key) == name
    assert re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", name)


def test_without_a_journal_the_lines_go_to_the_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SOCKET", str(tmp_path / "absent"))
    text = configured("journal")
    logs.announce(events.DAEMON_READY, "info", {})
    assert lines(text)[0]["event"] == "daemon.ready"


def test_a_journal_that_takes_nothing_more_does_not_block(journald: Journald) -> None:
    text = configured("journal")
    for number in range(2000):
        logs.announce(events.TASK_TRACEBACK, "info", {"number": number})
    kept = len(lines(text))
    assert 0 < kept < 2000, "some were taken, the rest went to the stream"
    assert lines(text)[-1]["number"] == 1999
    assert journald.entry()["NUMBER"] == "0"


def test_every_event_name_is_lower_case_with_one_dot_and_listed() -> None:
    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", name) for name in events.ALL)
    assert {events.RUN_COMPLETED, events.TASK_TRACEBACK, events.LEDGER_DEGRADED} < events.ALL
