"""The pieces next to one in which ``during`` holds, at the edges of a table."""

from __future__ import annotations

from scheduler.core.during import last_holding, next_holding
from tests.core.tables import table

OPEN, CLOSED = frozenset({"open"}), frozenset({"closed"})
# closed 00:00, pre-open 09:00, open 09:15 to the end of the table
PIECES = table("Asia/Kolkata", [("2026-11-23", [("pre-open", "09:00", "09:15"), ("open", "09:15", "00:00")])])


def test_the_last_piece_before_one_may_be_the_one_right_before_it_or_the_first_of_all() -> None:
    first, _, last = PIECES.pieces
    assert [piece.phase for piece in PIECES.pieces] == ["closed", "pre-open", "open"]
    assert last_holding(CLOSED, 1, PIECES) == first
    assert last_holding(CLOSED, 2, PIECES) == first
    assert last_holding(OPEN, 3, PIECES) == last


def test_where_nothing_holds_before_a_piece_the_end_of_the_table_does_not_count() -> None:
    assert last_holding(OPEN, 2, PIECES) is None
    assert last_holding(OPEN, 0, PIECES) is None


def test_the_next_piece_after_one_is_later_than_it() -> None:
    assert next_holding(OPEN, 1, PIECES) == PIECES.pieces[2]
    assert next_holding(OPEN, 2, PIECES) is None
    assert next_holding(CLOSED, 0, PIECES) is None
