"""What becomes of the tables when the calendars' child process fails: real children, each with a fault.

A directory in front of the installed packages holds the ``exchange_calendars`` that a fault needs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from scheduler.calendars import Built, Calendars, run_child
from scheduler.calendars.source import Runner
from scheduler.marketfile import parse_markets
from tests.shell.markets import INDIA, NOTHING, assert_partition, row_of, shown

ROOT = Path(__file__).parents[2]
WINDOW = date(2026, 11, 1), date(2026, 12, 31)
NEXT_YEAR = date(2026, 11, 1), date(2027, 1, 31)
Break: TypeAlias = Callable[[str], None]


@pytest.fixture
def break_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Break:
    """From now on children load this in the place of exchange-calendars."""
    package = tmp_path / "fault"
    package.mkdir()

    def apply(code: str) -> None:
        (package / "exchange_calendars.py").write_text(code, "utf-8")
        monkeypatch.setenv("PYTHONPATH", str(package))

    return apply


def build(state: Path, window: tuple[date, date] = WINDOW, runner: Runner = run_child) -> Built:
    return Calendars(state, runner).build(parse_markets(NOTHING), ("NSE", "XNYS"), window, INDIA)


Entry: TypeAlias = dict[str, Any]  # a calendar of an answer


@pytest.fixture(scope="module")
def answer() -> str:
    """What a child says when all is well."""
    return run_child(json.dumps({"calendars": ["XBOM", "XNYS"], "first": "2026-01-01", "last": "2026-12-31"}))


def printing(output: str) -> str:
    """A library that makes its process print something and end as if all were well."""
    return f"import os, sys\nsys.stdout.write({output!r})\nsys.stdout.flush()\nos._exit(0)"


def spoiling(spoil: Callable[[Entry], object]) -> Callable[[str], str]:
    """A library that makes its process print the real answer with something wrong in XNYS."""

    def code(answer: str) -> str:
        entries = json.loads(answer)
        spoil(entries["calendars"]["XNYS"])
        return printing(json.dumps(entries))

    return code


def swap(row: list[Any], at: int) -> None:
    """Exchange two neighbours: two sessions, or the open and close of one."""
    row[at], row[at + 1] = row[at + 1], row[at]


FAULTS: dict[str, tuple[str | Callable[[str], str], str]] = {
    "exit": ("raise SystemExit('no such library')", "failed with status 1: no such library"),
    "signal": ("import os\nos.kill(os.getpid(), 11)", "failed with status -11"),
    "exception": (
        "raise ImportError('numpy is broken')",
        "failed with status 1: ImportError: numpy is broken",
    ),
    "hang": ("import time\ntime.sleep(600)", "gave no answer within 1 s"),
    "deaf": ("import os, time\nos.close(0)\ntime.sleep(600)", "gave no answer within 1 s"),
    "no JSON": (printing("Traceback (most recent call last):"), "printed rubbish"),
    "no text": ("import os\nos.write(1, b'\\xff\\xfe')\nos._exit(0)", "printed rubbish"),
    "nothing": (printing(""), "printed rubbish"),
    "nested": (printing("[" * 100_000), "printed rubbish"),
    "a list": (printing("[]"), "printed rubbish"),
    "cut off": (lambda answer: printing(answer[:-5000]), "printed rubbish"),
    "order": (spoiling(lambda entry: swap(entry["sessions"], 7)), "not in order"),
    "backwards": (spoiling(lambda entry: swap(entry["sessions"][7], 1)), "not in order"),
    "empty session": (spoiling(lambda entry: entry["sessions"].insert(0, [])), "printed rubbish"),
    "no sessions": (spoiling(lambda entry: entry.update(sessions=[])), "XNYS has no sessions"),
    "short week": (spoiling(lambda entry: entry.update(weekmask="11")), "printed rubbish"),
    "no zone": (spoiling(lambda entry: entry.pop("zone")), "printed rubbish"),
}


@pytest.mark.parametrize("fault,message", FAULTS.values(), ids=FAULTS)
def test_a_child_that_fails_leaves_the_last_good_calendars_in_use_and_says_so(
    fault: str | Callable[[str], str], message: str, answer: str, tmp_path: Path, break_library: Break
) -> None:
    good = build(tmp_path, runner=lambda _: answer)
    break_library(fault if isinstance(fault, str) else fault(answer))
    later = build(tmp_path, NEXT_YEAR, partial(run_child, timeout=1))
    assert message in later.warnings[0]
    last_good = [warning for warning in later.warnings if "the last good one is used" in warning]
    assert [warning.partition(":")[0] for warning in last_good] == ["calendar XBOM", "calendar XNYS"]
    for name, table in good.tables.items():
        known = len(table.pieces) - 10
        assert later.tables[name].pieces[:known] == table.pieces[:known]
        assert later.tables[name].version == table.version
        assert_partition(later.tables[name])


def test_the_last_good_calendar_is_the_one_that_knows_the_dates_although_another_is_newer(
    answer: str, tmp_path: Path, break_library: Break
) -> None:
    build(tmp_path, runner=lambda _: answer)
    build(tmp_path, (date(2019, 12, 1), date(2019, 12, 31)))
    break_library("raise SystemExit('no such library')")
    later = build(tmp_path, NEXT_YEAR)
    assert row_of(later.tables["XNYS"], "2026-11-27")["layer"] == "exchange-calendars"
    assert shown(later.tables["XNYS"], "2026-11-27") == "open 09:30-13:00"


def test_without_any_calendar_the_overlay_and_weekdays_are_left(tmp_path: Path, break_library: Break) -> None:
    break_library("raise SystemExit('no such library')")
    built = build(tmp_path)
    assert built.problems == ()
    assert [warning.partition(":")[0] for warning in built.warnings] == [
        "the calendar process failed with status 1", "XNYS has no known hours", "NSE",
    ]  # fmt: skip
    india, york = built.tables["NSE"], built.tables["XNYS"]
    assert shown(india, "2026-11-24") == "closed: Gurunanak Jayanti"
    assert shown(india, "2026-11-25") == "pre-open 09:00-09:15, open 09:15-15:30, post-close 15:50-16:00"
    assert (row_of(india, "2026-11-24")["layer"], row_of(india, "2026-11-25")["layer"]) == (
        "india",
        "assumed",
    )
    assert shown(york, "2026-11-25") == "closed: no hours are known", "nobody invents hours"
    assert row_of(york, "2026-11-25")["layer"] == "assumed"
    assert "no such library" in built.market_problem("XNYS")


def test_what_could_not_be_read_is_asked_for_again(answer: str, tmp_path: Path) -> None:
    answers = [json.loads(answer) for _ in range(2)]
    answers[0]["calendars"]["XNYS"] = {"error": "MemoryError"}
    calendars = Calendars(tmp_path, lambda _: json.dumps(answers.pop(0)))
    first, second, third = (
        calendars.build(parse_markets(NOTHING), ("NSE", "XNYS"), WINDOW, INDIA) for _ in range(3)
    )
    assert (len(first.tables["XNYS"].sessions), second.warnings, answers) == (0, (), [])
    assert third.tables["XNYS"].pieces == second.tables["XNYS"].pieces


LOSING_SATURDAYS = """
from types import SimpleNamespace
from scheduler.calendars import child
real = child.exchange_calendars.get_calendar
def get_calendar(code, start, end):
    found = real(code, start=start, end=end)
    return SimpleNamespace(sessions=found.sessions[found.sessions.weekday < 5]) if code == "XBOM" else found
child.exchange_calendars.get_calendar = get_calendar
child.main()
"""


def test_a_library_that_loses_saturdays_is_not_trusted_with_india(tmp_path: Path) -> None:
    def runner(request: str) -> str:
        command = [sys.executable, "-c", LOSING_SATURDAYS]
        run = subprocess.run(command, input=request, capture_output=True, text=True, check=True, cwd=ROOT)
        return run.stdout

    built = build(tmp_path, (date(2025, 1, 20), date(2025, 2, 10)), runner)
    assert len(built.warnings) == 1
    assert built.warnings[0].startswith("NSE: no calendar XBOM (this version of pandas loses sessions")
    assert row_of(built.tables["NSE"], "2025-02-01")["layer"] == "india"
    assert row_of(built.tables["NSE"], "2025-02-01")["open"]
    assert row_of(built.tables["NSE"], "2025-02-03")["layer"] == "assumed"
    assert row_of(built.tables["XNYS"], "2025-02-03")["layer"] == "exchange-calendars"


def test_ten_markets_take_one_child_and_a_changed_markets_yaml_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one wall-clock bound here is for a machine ten times slower than any."""
    started = 0
    real = subprocess.Popen

    def popen(*args: Any, **options: Any) -> Any:
        nonlocal started
        started += 1
        return real(*args, **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    names = ("NSE", "NSE-CAS", "NSE-FO", "BSE", "CDS", "MCX", "XNYS", "XLON", "XHKG", "XTKS")
    window = date(2025, 11, 22), date(2027, 11, 21)
    calendars = Calendars(tmp_path)
    began = time.monotonic()
    built = calendars.build(parse_markets(NOTHING), names, window, INDIA)
    assert time.monotonic() - began < 20
    assert (started, set(built.tables), built.warnings) == (1, set(names), ())
    text = "markets: {NSE: {changes: {2026-12-01: {closed: true}}}, XLON: {phases: {late: close-5m..close}}}"
    changed = calendars.build(parse_markets(text), names, window, INDIA)
    assert (started, changed.warnings, changed.problems) == (1, (), ())
    assert shown(changed.tables["MCX"], "2026-12-01") == shown(built.tables["MCX"], "2026-12-01")
    assert shown(changed.tables["CDS"], "2026-12-01").startswith("closed")
    assert shown(changed.tables["XLON"], "2026-12-01") == "open 08:00-16:25, late 16:25-16:30"
