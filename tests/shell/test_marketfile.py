from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from scheduler.core.marketspec import parse_interval, parse_weekdays
from scheduler.errors import Mark
from scheduler.marketfile import (
    amended,
    amendments_file,
    markets_schema,
    parse_markets,
    read_markets,
    read_overlay,
)
from scheduler.marketfile.layer import AUDIT_KEYS, CHANGE_KEYS, HOURS_KEYS, MARKET_KEYS, TOP_KEYS, Layer
from tests.shell.markets import broken, build, shown

MARK = Mark("markets.yaml", 1, 1)


def problems(text: str, tmp_path: Path, amendments: str = "") -> list[str]:
    """Everything that is wrong with a markets.yaml, as ``line:column: message``."""
    built = build(tmp_path, text, amendments=amendments)
    return [str(problem).removeprefix("markets.yaml:") for problem in built.problems]


BAD = [
    # The file.
    ("market: {}", "1:1: unknown key 'market' in the file; did you mean 'markets'?"),
    ("markets: []", "1:10: markets must be a map"),
    ("default: 5", "1:10: text is expected here"),
    ("default: NSEE", "1:10: there is no market and no calendar 'NSEE'; did you mean 'NSE'?"),
    ("default: NSE\ndefault: BSE", "2:1: the key 'default' is given twice"),
    # Markets.
    ("markets: {X: 5}", "1:14: the market X must be a map of like, calendar"),
    ("markets: {X: {lik: NSE}}", "1:15: unknown key 'lik' in the market X; did you mean 'like'?"),
    ("markets: {X Y: {like: NSE}}", "1:11: 'X Y' cannot be the name of a market"),
    ("markets: {always: {like: NSE}}", "1:11: 'always' is the market that never closes"),
    ("markets: {X: {like: NSEE}}", "1:15: there is no market and no calendar 'NSEE'; did you mean 'NSE'?"),
    ("markets: {X: {calendar: XNYZ}}", "1:15: there is no market and no calendar 'XNYZ'; did you mean 'XN"),
    ("markets: {X: {calendar: NSE}}", "1:15: there is no market and no calendar 'NSE'"),
    (
        "markets: {X: {any_of: [NSE, MCXX]}}",
        "1:15: there is no market and no calendar 'MCXX'; did you mean 'MCX'?",
    ),
    ("markets: {X: {any_of: []}}", "1:23: a list with at least one entry is expected here"),
    ("markets: {X: {phases: {a: open-5m..open}}}", "1:11: there is no market and no calendar 'X'"),
    ("markets: {X: {like: NSE, calendar: XNYS}}", "1:26: like and calendar exclude each other"),
    ("markets: {X: {like: X}}", "1:15: X is defined by itself, in a circle"),
    ("markets: {X: {like: Y}, Y: {any_of: [X]}}", "1:15: X is defined by itself, in a circle"),
    (
        "markets: {X: {like: NSE, timezone: Asia/Tokyo}}",
        "1:26: a market has the timezone of the one that it is like",
    ),
    (
        "markets: {X: {timezone: Mars/Base, weekdays: mon, hours: [{phases: {open: 09:00..10:00}}]}}",
        "1:25: 'Mars/Base' is not a time zone",
    ),
    ("markets: {X: {weekdays: mon-fri}}", "1:15: weekdays without hours; write hours:"),
    (
        "markets: {X: {weekdays: monday, hours: [{phases: {open: 09:00..10:00}}]}}",
        "1:25: 'monday' is not a weekday",
    ),
    (
        "markets: {X: {weekdays: mon-wed-fri, hours: [{phases: {open: 09:00..10:00}}]}}",
        "1:25: 'mon-wed-fri' is not a range of weekdays",
    ),
    (
        "markets: {X: {any_of: [NSE], hours: [{phases: {open: 09:00..10:00}}]}}",
        "1:38: a market with any_of is open when its members are",
    ),
    (
        "markets: {NSE: {beyond_horizon: close}}",
        "1:33: 'close' is none of assume-weekdays, closed, refuse; did you mean 'closed'?",
    ),
    ("markets: {NSE: {known_until: tomorrow}}", "1:30: 'tomorrow' is not a date; write 2027-01-26"),
    (
        "markets: {NSE: {known_since: 2026-01-01, known_until: 2025-01-01}}",
        "1:42: known_until lies before known_since",
    ),
    # Hours and phases.
    ("markets: {X: {like: NSE, hours: [{since: 2026-01-01}]}}", "1:34: hours without phases"),
    (
        "markets: {X: {like: NSE, hours: {phases: {}}}}",
        "1:33: a list with at least one entry is expected here",
    ),
    (
        "markets: {X: {like: NSE, hours: [{phase: {}, phases: {}}]}}",
        "1:35: unknown key 'phase' in a row of X's hours; did you mean 'phases'?",
    ),
    (
        "markets: {X: {like: NSE, hours: [{since: 2026-02-30, phases: {}}]}}",
        "1:42: '2026-02-30' is not a date: there is no",
    ),
    (
        "markets: {NSE: {hours: [{since: 2026-02-02, phases: {}}, {since: 2026-01-01, phases: {}}]}}",
        "1:58: since 2026-01-01 does not come after 2026-02-02",
    ),
    (
        "markets: {X: {like: NSE, hours: [{phases: {a: 09:15}}]}}",
        "1:47: '09:15' is not an interval; write A..B",
    ),
    (
        "markets: {X: {like: NSE, hours: [{phases: {a: 9:15..10:00}}]}}",
        "1:47: '9:15' is not an anchor; write HH:MM",
    ),
    (
        "markets: {X: {like: NSE, hours: [{phases: {a: 24:00..25:00}}]}}",
        "1:47: '24:00' is not an anchor; write HH:MM",
    ),
    (
        "markets: {X: {like: NSE, hours: [{phases: {a: open-5..open}}]}}",
        "1:47: 'open-5' is not an anchor: '5' is not a dur",
    ),
    (
        "markets: {X: {like: NSE, hours: [{phases: {break: 12:00..13:00}}]}}",
        "1:44: 'break' cannot be the name of a phase",
    ),
    (
        "markets: {X: {like: NSE, hours: [{phases: {a b: 12:00..13:00}}]}}",
        "1:44: 'a b' cannot be the name of a phase",
    ),
    (
        "markets: {X: {like: NSE, phases: {open: 12:00..13:00}}}",
        "1:35: the hours of `open` do not belong here",
    ),
    (
        "markets: {X: {like: NSE, phases: {a: poste-close.end..18:00}}}",
        "1:38: X has no phase 'poste-close'; did you mean 'post-close'?",
    ),
    (
        "markets: {X: {like: NSE, phases: {a: b.end..18:00, b: a.end..19:00}}}",
        "1:38: a (b.end..18:00) hangs on itself, in a circle",
    ),
    (
        "markets: {X: {like: NSE, phases: {a: a.start..18:00}}}",
        "1:38: a (a.start..18:00) hangs on itself, in a circle",
    ),
    (
        "markets: {X: {like: NSE, phases: {a: 15:00..16:30}}}",
        "1:38: a (15:00..16:30) lies partly inside of the open hours and partly outside",
    ),
    (
        "markets: {X: {like: NSE, phases: {a: open-5m..open+5m}}}",
        "1:38: a (open-5m..open+5m) lies partly inside",
    ),
    (
        "markets: {X: {like: NSE, phases: {a: close+5m..close+20m}}}",
        "1:38: a (close+5m..close+20m) overlaps post-close (15:40..16:00)",
    ),
    (
        "markets: {X: {like: NSE, phases: {a: 10:00..11:00, b: 10:30..12:00}}}",
        "1:55: b (10:30..12:00) overlaps a (10:00..11:00)",
    ),
    ("markets: {X: {like: NSE, phases: {a: open..open-5m}}}", "1:38: a (open..open-5m) is empty"),
    (
        'markets: {X: {like: NSE, hours: [{phases: {open: ["09:00..12:00", "11:00..15:00"]}}]}}',
        "1:67: 11:00..15:00 begins before the open segment in front of it has ended",
    ),
    ("markets: {X: {like: NSE, hours: [{phases: {open: open..15:00}}]}}", "1:50: open..15:00 is empty"),
    (
        "markets: {T: {calendar: XTKS, phases: {a: 11:00..12:00}}}",
        "1:43: a (11:00..12:00) lies partly inside",
    ),
    (
        "markets: {X: {like: NSE, hours: [{phases: {open: 09:00..15:00}, summer_time: {zone: Asia/Tokyo}}]}}",
        "1:78: summer_time needs a zone and phases",
    ),
    # Changes.
    (
        "markets: {NSE: {changes: {2027-13-01: {closed: true}}}}",
        "1:27: '2027-13-01' is not a date: there is no such day",
    ),
    (
        "markets: {NSE: {changes: {26-01-27: {closed: true}}}}",
        "1:27: '26-01-27' is not a date; write 2027-01-26",
    ),
    (
        "markets: {NSE: {changes: {2027-01-05..2027-01-01: {closed: true}}}}",
        "1:27: '2027-01-05..2027-01-01' ends before it beg",
    ),
    (
        "markets: {NSE: {changes: {2027-01-01..2029-01-01: {closed: true}}}}",
        "1:27: '2027-01-01..2029-01-01' is longer than 400",
    ),
    (
        "markets: {NSE: {changes: {2027-01-01..2027-01-05: {name: A}, 2027-01-05..2027-01-08: {name: B}}}}",
        "1:62: this range overlaps the one from 2027-01-01 to 2027-01-05",
    ),
    (
        "markets: {NSE: {changes: {2027-01-26: {close: true}}}}",
        "1:40: unknown key 'close' in the change of 2027-01-26; did you mean 'closed'?",
    ),
    (
        "markets: {NSE: {changes: {2027-01-26: {}}}}",
        "1:27: this change says nothing; write closed: true or open:",
    ),
    ("markets: {NSE: {changes: {2027-01-26: {closed: false}}}}", "1:48: closed can only be true"),
    ("markets: {NSE: {changes: {2027-01-26: {closed: yes}}}}", "1:48: closed can only be true"),
    (
        "markets: {NSE: {changes: {2027-01-26: {closed: true, open: ordinary}}}}",
        "1:48: closed and open exclude each other",
    ),
    (
        "markets: {NSE: {changes: {2027-01-26: {open: ordinery}}}}",
        "1:46: open is ordinary, unknown or intervals such as [\"09:15..12:30\"]; did you mean 'ordinary'?",
    ),
    ("markets: {NSE: {changes: {2027-01-26: {open: []}}}}", "1:46: open without an interval"),
    (
        "markets: {NSE: {changes: {2027-01-26: {open: 915..1230}}}}",
        "1:46: '915' is not an anchor; write HH:MM",
    ),
    ("markets: {NSE: {changes: {2027-01-26: {name: 5, closed: true}}}}", "1:46: text is expected here"),
    (
        "markets: {NSE: {changes: {2027-01-26: {by: asha, closed: true}}}}",
        "1:40: unknown key 'by' in the change",
    ),
    (
        "markets: {NSE: {changes: {2027-01-26: {closed: true, phases: {a: 09:00..10:00}}}}}",
        "1:62: a day that is not open has no",
    ),
    (
        'markets: {NSE: {changes: {2027-01-26: {open: ["09:15..11:00", "10:00..12:00"]}}}}',
        "1:63: 10:00..12:00 begins before the open segment in front of it has ended",
    ),
    (
        "markets: {NSE: {changes: {2027-01-26: {open: 09:15..11:00, phases: {a: 10:30..12:00}}}}}",
        "1:72: a (10:30..12:00) lies partly inside of the open hours and partly outside",
    ),
    (
        "markets: {NSE: {changes: {2027-01-26: {settled: perhaps, closed: true}}}}",
        "1:49: 'perhaps' is none of announced, high",
    ),
]


@pytest.mark.parametrize("text,expected", BAD)
def test_each_mistake_is_reported_at_its_place_with_what_would_be_right(
    text: str, expected: str, tmp_path: Path
) -> None:
    found = problems(text, tmp_path)
    assert any(problem.startswith(expected) for problem in found), found
    assert all(re.match(r"(india\.yaml:)?\d+:\d+: ", problem) for problem in found), found


def test_every_mistake_of_every_layer_is_reported_at_once(tmp_path: Path) -> None:
    text = """\
default: NSE
markets:
  NSE:
    chnges: {}
    changes:
      2027-01-26: {closed: maybe}
  X: {like: NSEE}
  Y: {like: NSE, phases: {a: 15:00..16:30, b: "nine..ten"}}
"""
    found = problems(text, tmp_path, amendments="markets: {NSE: {changes: {2027-01-27: {open: sometimes}}}}")
    assert [problem.partition(": ")[0] for problem in found] == [
        "4:5", "6:28", "8:47", f"{amendments_file(tmp_path)}:1:46", "8:30", "7:7",
    ]  # fmt: skip


def test_what_is_wrong_in_one_market_leaves_the_others_usable(tmp_path: Path) -> None:
    text = "markets: {X: {like: X}, Y: {like: NSE, changes: {2026-12-01: {closed: true}}}}"
    built = build(tmp_path, text, ("NSE", "X", "Y"))
    assert set(built.tables) == {"NSE", "Y"}
    assert built.market_problem("X") == "X is defined by itself, in a circle"


def test_a_chain_of_a_thousand_markets_is_refused_and_not_followed(tmp_path: Path) -> None:
    chain = ", ".join(f"M{number}: {{any_of: [M{number + 1}]}}" for number in range(1000))
    found = problems(f"markets: {{{chain}, M1000: {{like: NSE}}}}", tmp_path)
    assert found[0] == "1:16: M0 is defined through more than 50 other markets"


def test_unknown_names_cannot_be_told_without_calendars_and_are_no_mistakes_then(tmp_path: Path) -> None:
    built = build(tmp_path, "markets: {X: {calendar: XTKS}}", ("NSE", "X"), runner=broken)
    assert built.problems == ()
    assert "cannot be read" in built.market_problem("X")


def test_a_market_can_be_like_a_calendar_or_be_one_with_changes(tmp_path: Path) -> None:
    text = """\
markets:
  US: {like: NYSE, phases: {late: "close-30m..close"}}
  XNYS: {changes: {2026-12-01: {closed: true}}}
"""
    built = build(tmp_path, text, ("US", "XNYS"))
    assert built.problems == ()
    assert shown(built.tables["US"], "2026-12-01") == "open 09:30-15:30, late 15:30-16:00"
    assert shown(built.tables["XNYS"], "2026-12-01") == "closed: holiday"


def test_hours_of_the_desk_replace_those_of_the_package_from_their_date_on(tmp_path: Path) -> None:
    text = "markets: {NSE: {hours: [{since: 2026-12-01, phases: {open: 10:00..14:00}}]}}"
    built = build(tmp_path, text, ("NSE", "NSE-FO", "BSE"))
    assert shown(built.tables["NSE"], "2026-11-30").endswith("post-close 15:50-16:00")
    assert shown(built.tables["NSE"], "2026-12-01") == "open 10:00-14:00"
    assert shown(built.tables["BSE"], "2026-12-01") == "open 10:00-14:00"
    assert shown(built.tables["NSE-FO"], "2026-12-01").endswith("open 09:15-15:40"), "it has hours of its own"


def test_a_row_without_open_takes_it_from_what_the_market_is_like(tmp_path: Path) -> None:
    text = 'markets: {X: {like: NSE-FO, hours: [{phases: {last: "close-10m..close"}}]}}'
    table = build(tmp_path, text, ("X",)).tables["X"]
    assert shown(table, "2026-07-31") == "open 09:15-15:20, last 15:20-15:30"
    assert shown(table, "2026-08-03") == "open 09:15-15:30, last 15:30-15:40"


def test_phases_may_hang_on_each_other(tmp_path: Path) -> None:
    text = (
        "markets: {X: {like: NSE, phases: {late: post-close.end+10m..late-end, more: late.end..late.end+1h}}}"
    )
    found = problems(text, tmp_path)
    assert [problem for problem in found if "late-end" in problem]
    table = build(tmp_path, text.replace("late-end", "17:00"), ("X",)).tables["X"]
    assert shown(table, "2026-11-23").endswith("late 16:10-17:00, more 17:00-18:00")


def test_a_phase_may_occur_several_times_a_day(tmp_path: Path) -> None:
    text = 'markets: {X: {like: NSE-FO, phases: {auction: ["11:00..11:05", "13:00..13:05"]}}}'
    table = build(tmp_path, text, ("X",)).tables["X"]
    assert shown(table, "2026-11-23") == (
        "pre-open 09:00-09:15, open 09:15-11:00, auction 11:00-11:05, open 11:05-13:00, auction 13:00-13:05, "
        "open 13:05-15:40"
    )


@pytest.mark.parametrize(
    "text,days",
    [("mon-fri", {0, 1, 2, 3, 4}), ("sun-thu", {6, 0, 1, 2, 3}), ("sat", {5}), ("mon, wed-thu", {0, 2, 3})],
)
def test_weekdays_are_ranges_and_lists(text: str, days: set[int]) -> None:
    assert parse_weekdays(text) == days


def test_weekdays_can_be_a_yaml_list(tmp_path: Path) -> None:
    text = "markets: {X: {weekdays: [sun, tue-wed], hours: [{phases: {open: 09:00..10:00}}]}}"
    table = build(tmp_path, text, ("X",)).tables["X"]
    opened = [day.date for day in table.days if day.session >= 0 and "2026-11-22" <= day.date <= "2026-11-28"]
    assert opened == ["2026-11-22", "2026-11-24", "2026-11-25"]


@pytest.mark.parametrize("text", ["09:15..15:30", "open-15m..open", "close-1h30m..post-close.start"])
def test_an_interval_reads_as_it_is_written(text: str) -> None:
    assert parse_interval(text, MARK).text == text


# Files.


def test_absent_files_leave_the_package_alone(tmp_path: Path) -> None:
    markets = amended(read_markets(tmp_path), tmp_path / "state")
    assert markets.problems == ()
    assert markets.default == "NSE"
    assert markets.names == {"NSE", "NSE-CAS", "NSE-FO", "BSE", "CDS", "MCX", "always"}


def test_the_files_of_the_desk_and_the_operator_are_found(tmp_path: Path) -> None:
    (tmp_path / "markets.yaml").write_text("default: MCX\nmarkets:\n")
    file = amendments_file(tmp_path)
    file.parent.mkdir()
    file.write_text('markets: {NSE: {changes: {2026-11-25: {closed: true, by: asha, at: "11:00"}}}}')
    markets = amended(read_markets(tmp_path), tmp_path)
    assert markets.problems == ()
    assert (markets.default, markets.default_mark) == ("MCX", Mark(str(tmp_path / "markets.yaml"), 1, 10))
    (change,) = markets.layers[-1]["NSE"].changes
    assert (change.first, change.closed, change.layer) == (date(2026, 11, 25), True, "amendment")


@pytest.mark.parametrize(
    "make,message",
    [
        (lambda path: path.mkdir(), "this is a directory"),
        (lambda path: path.write_text(""), "the file is empty"),
        (lambda path: path.write_bytes(b"\xff"), "not UTF-8"),
        (lambda path: path.symlink_to("nowhere"), "no such file"),
        (lambda path: path.write_text("markets: [" * 100), "deep"),
    ],
    ids=["directory", "empty", "bytes", "dangling", "deep"],
)
def test_a_file_that_is_none_is_a_problem_with_its_place(make: Any, message: str, tmp_path: Path) -> None:
    make(tmp_path / "markets.yaml")
    (problem,) = read_markets(tmp_path).problems
    assert message in problem.message
    assert problem.mark is not None
    assert problem.mark.file == str(tmp_path / "markets.yaml")


# The package's own data.


def test_every_row_of_the_package_names_its_source_and_how_settled_it_is() -> None:
    layer = read_overlay()
    assert layer.problems == []
    assert len(layer.markets["NSE"].changes) == 129
    change, hours = "2026-12-24: {closed: true, settled: high}", "{phases: {}, source: x}"
    row = f"markets: {{NSE: {{changes: {{{change}}}, hours: [{hours}]}}}}"
    found = [problem.message for problem in Layer("india").parse(row, "india.yaml").problems]
    assert found == ["this row does not name its settled", "this row does not name its source"]


def test_every_market_of_the_package_says_since_when_and_until_when_it_is_known(tmp_path: Path) -> None:
    tables = build(tmp_path, names=("NSE", "NSE-CAS", "NSE-FO", "BSE", "CDS", "MCX")).tables
    assert {table.known_until for table in tables.values()} == {tables["NSE"].known_until}
    assert {table.beyond_horizon for table in tables.values()} == {"assume-weekdays"}
    markets = read_overlay().markets
    for definition in markets.values():
        chain = [definition]
        while chain[-1].like:
            chain.append(markets[chain[-1].like])
        for known in ("known_since", "known_until", "beyond_horizon"):
            assert any(getattr(link, known) for link in chain), (definition.name, known)


# The schema.


def test_the_schema_has_the_keys_that_the_reader_takes() -> None:
    schema = markets_schema()
    parts = schema["$defs"]
    assert set(schema["properties"]) == set(TOP_KEYS)
    assert set(parts["market"]["properties"]) == set(MARKET_KEYS)
    assert set(parts["hours"]["properties"]) == set(HOURS_KEYS)
    assert set(parts["change"]["properties"]) == set(CHANGE_KEYS)
    assert not set(AUDIT_KEYS) & set(parts["change"]["properties"]), "those are for amendments"


def test_the_schema_refers_to_nothing_that_is_not_there() -> None:
    text = json.dumps(markets_schema())
    assert set(re.findall(r'"#/\$defs/(\w+)"', text)) <= set(markets_schema()["$defs"])


def test_the_package_is_read_as_any_other_file() -> None:
    assert parse_markets("default: NSE").problems == ()


def test_a_key_given_twice_does_not_hide_the_other_mistakes(tmp_path: Path) -> None:
    text = "default: NSE\ndefault: BSE\nmarket: {}\nmarkets:\n  X: {lik: NSE}\n"
    found = problems(text, tmp_path)
    for place in ("2:1: the key 'default' is given twice", "3:1: unknown key", "5:7: unknown key 'lik'"):
        assert any(problem.startswith(place) for problem in found), found
