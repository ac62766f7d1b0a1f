from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from scheduler.calendars import template
from scheduler.errors import UsageError
from scheduler.marketfile import parse_markets, read_overlay, read_provisional
from scheduler.marketfile.files import packaged
from scheduler.marketfile.layer import Layer
from tests.shell.markets import build, row_of

LIKE = "markets: {MY-DESK: {like: NSE}}"


def of(market: str, year: int = 2027, text: str = "default: NSE") -> str:
    return template(parse_markets(text), market, year, read_provisional())


def uncommented(text: str) -> str:
    """With every date in it taken as it stands: those after a # and no space."""
    return re.sub(r"^( *)#(?=\S)", r"\1", text, flags=re.MULTILINE)


@pytest.mark.parametrize("market", ["NSE", "NSE-FO", "BSE", "CDS", "MCX", "MY-DESK"])
@pytest.mark.parametrize("year", [2027, 2028, 2040])
def test_it_is_a_good_file_as_it_is_and_with_every_date_taken(market: str, year: int, tmp_path: Path) -> None:
    text = of(market, year, LIKE).replace("  MY-DESK:\n", "  MY-DESK:\n    like: NSE\n")
    window = (f"{year}-01-01", f"{year}-12-31")
    for each in (text, uncommented(text)):
        built = build(tmp_path, each, (market,), window)
        assert built.problems == ()
    table = built.tables[market]
    assert row_of(table, f"{year}-01-26")["reason"] in {"Republic Day", "weekend"}
    assert table.known_until == table.last


def test_as_it_is_it_says_nothing(tmp_path: Path) -> None:
    window = ("2027-01-01", "2027-12-31")
    plain, filled = (build(tmp_path, text, ("NSE",), window) for text in ("default: NSE", of("NSE")))
    assert plain.tables["NSE"].pieces == filled.tables["NSE"].pieces


def test_dates_that_are_the_same_in_every_year_are_in_it_and_weekends_noted() -> None:
    lines = of("NSE").splitlines()
    assert '      #2027-01-26: {name: "Republic Day", closed: true}  # Tuesday; 01-26 in every year' in lines
    assert "      # 2027-08-15 Independence Day is a Sunday: no session anyway" in lines
    assert "      # 2027-02-01 Union Budget is a Monday: an ordinary session anyway" in lines


def test_expected_dates_are_in_it_with_where_they_come_from_and_the_others_without_a_date() -> None:
    lines = of("NSE").splitlines()
    assert (
        '      #2027-03-10: {name: "Id-Ul-Fitr", closed: true}'
        "  # Wednesday; provisional, estimated by the moon"
    ) in lines
    assert (
        '      # 2027-..-..: {name: "Dussehra", closed: true}  # no date yet; the last was 2026-10-20'
    ) in lines
    later = of("NSE", 2028)
    assert '# 2028-..-..: {name: "Id-Ul-Fitr"' in later
    assert "provisional" not in later


def test_what_came_once_or_twice_is_left_out() -> None:
    assert not re.search("polling|consecration|outage|drill|funeral", of("NSE"))


def test_a_market_with_split_holidays_has_them_as_the_last_time() -> None:
    assert '#2027-03-22: {name: "Holi", open: ["17:00..close"]}  # Monday; ' in of("MCX")


def test_every_provisional_date_names_its_source_and_is_known_to_no_calendar() -> None:
    layer = Layer("india").parse(packaged("provisional.yaml"), "provisional.yaml")
    assert layer.problems == []
    expected = {change.first for change in layer.markets["NSE"].changes}
    assert expected == {day for day, _ in read_provisional().values()}
    assert all(change.settled == "low" for change in layer.markets["NSE"].changes)
    known = {change.first for change in read_overlay().markets["NSE"].changes}
    assert not expected & known
    assert min(expected) > date(2026, 12, 31)


@pytest.mark.parametrize(
    ("market", "year", "message"),
    [
        ("NSE", 2026, "NSE is known until 2026-12-31: scheduler calendar NSE --from 2026-01-01"),
        ("NYSE", 2027, "no holidays are known that come again; did you mean 'NSE'"),
        ("always", 2027, "there are BSE, CDS, MCX, NSE, NSE-CAS, NSE-FO"),
    ],
)
def test_a_year_that_is_known_and_a_market_that_is_not_are_refused(
    market: str, year: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        of(market, year)
