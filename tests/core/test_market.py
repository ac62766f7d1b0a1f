"""MarketTable: what a market is doing at any instant."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.market import MarketTable
from scheduler.errors import OutsideTableError
from tests.core.tables import drill_week, muhurat_week, nse_week, square_off_week
from tests.helpers import instant, iso

NSE = nse_week()
TABLES = [NSE, square_off_week(), drill_week(), muhurat_week()]


def at(text: str) -> int:
    return instant(f"2026-11-{text}+05:30")


@pytest.mark.parametrize(
    "time, phase, trading, reason",
    [
        ("23T08:59:59", "closed", False, "overnight"),
        ("23T09:00:00", "pre-open", False, ""),
        ("23T09:14:59", "pre-open", False, ""),
        ("23T09:15:00", "open", True, ""),
        ("23T15:29:59", "open", True, ""),
        ("23T15:30:00", "closed", False, "between phases"),
        ("23T15:50:00", "post-close", False, ""),
        ("23T16:00:00", "closed", False, "overnight"),
        ("24T12:00:00", "closed", False, "Gurunanak Jayanti"),
        ("28T12:00:00", "closed", False, "weekend"),
    ],
)
def test_a_phase_holds_from_its_start_and_no_longer_at_its_end(
    time: str, phase: str, trading: bool, reason: str
) -> None:
    piece = NSE.phase_at(at(time))
    assert (piece.phase, piece.trading, piece.reason) == (phase, trading, reason)


def test_a_phase_carved_out_of_open_stays_trading_time_of_the_same_segment() -> None:
    table = square_off_week()
    carved, rest = table.phase_at(at("23T15:10:00")), table.phase_at(at("23T15:25:00"))
    assert (carved.phase, carved.trading, rest.phase, rest.trading) == ("square-off", True, "open", True)
    assert carved.segment_start == rest.segment_start == at("23T09:15:00")
    assert (carved.phase_start, rest.phase_start) == (at("23T15:10:00"), at("23T15:25:00"))


@pytest.mark.parametrize("table", TABLES)
def test_pieces_partition_the_table(table: MarketTable) -> None:
    assert (table.pieces[0].start, table.pieces[-1].end) == (table.first, table.last)
    assert all(piece.start < piece.end for piece in table.pieces)
    assert all(a.end == b.start for a, b in pairwise(table.pieces))


@pytest.mark.parametrize("table", TABLES)
@given(data=st.data())
def test_every_question_agrees_with_a_walk_over_the_pieces(table: MarketTable, data: st.DataObject) -> None:
    edges = st.sampled_from([piece.start for piece in table.pieces])
    near = st.builds(int.__add__, edges, st.integers(0, 1))
    t = data.draw(near | st.integers(table.first, table.last - 1))
    number, piece = next(
        (number, piece) for number, piece in enumerate(table.pieces) if piece.start <= t < piece.end
    )
    later = table.pieces[number:]
    assert table.phase_at(t) is piece
    assert table.index_at(t) == number
    assert table.next_change(t) == next((p.start for p in later if p.phase != piece.phase), table.last)
    assert table.next_flip(t) == next((p.start for p in later if p.trading != piece.trading), table.last)
    begun = [session for session in table.sessions if session.start <= t]
    assert table.session_at(t) == (begun[-1] if begun else None)
    assert piece.session == len(begun) - 1
    coming = [index for index, session in enumerate(table.sessions) if session.start >= t]
    assert table.first_session_from(t) == (coming[0] if coming else len(table.sessions))


def test_the_change_after_the_last_is_the_end_of_the_table() -> None:
    evening = instant("2026-12-04T20:00:00+05:30")
    assert iso(NSE.next_change(evening)) == "2026-12-05T00:00:00+05:30"
    assert iso(NSE.next_flip(evening)) == "2026-12-05T00:00:00+05:30"


def test_midnight_is_no_change_of_a_phase() -> None:
    assert iso(NSE.next_change(at("23T16:00:00"))) == "2026-11-25T09:00:00+05:30"


def test_a_carved_phase_is_a_change_but_no_flip() -> None:
    table = square_off_week()
    assert iso(table.next_change(at("23T15:00:00"))) == "2026-11-23T15:10:00+05:30"
    assert iso(table.next_flip(at("23T15:00:00"))) == "2026-11-23T15:30:00+05:30"


def test_a_break_is_a_flip_out_of_trading_and_back() -> None:
    table = drill_week()
    assert iso(table.next_flip(at("28T09:30:00"))) == "2026-11-28T10:00:00+05:30"
    assert table.phase_at(at("28T10:00:00")).phase == "break"
    assert iso(table.next_flip(at("28T10:00:00"))) == "2026-11-28T11:30:00+05:30"


def test_the_session_is_the_one_begun_latest_also_over_the_holiday() -> None:
    session = NSE.session_at(at("24T12:00:00"))
    assert session is not None
    assert session.date == "2026-11-23"
    assert NSE.session_at(at("20T08:59:59")) is None


@pytest.mark.parametrize("time", ["2026-11-19T23:59:59+05:30", "2026-12-05T00:00:00+05:30"])
def test_an_instant_outside_the_table_is_an_error_not_a_guess(time: str) -> None:
    for question in (NSE.phase_at, NSE.index_at):
        with pytest.raises(OutsideTableError, match=r"NSE: .* outside the table"):
            question(instant(time))
