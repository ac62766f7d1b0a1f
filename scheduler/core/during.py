"""``during``: the stretches of the trading day to which a trigger is confined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scheduler.core.market import OPEN

if TYPE_CHECKING:
    from scheduler.core.market import MarketTable, Piece
    from scheduler.core.messages import Instant

SESSION: Final = "session"  # from the first phase of a session to its last


def holds(during: frozenset[str] | None, piece: Piece, table: MarketTable) -> bool:
    """Whether ``during`` holds throughout a piece; None always does.

    ``open`` includes the phases carved out of it, just as they inherit its pace.
    """
    if during is None or piece.phase in during:
        return True
    if piece.trading and OPEN in during:
        return True
    return SESSION in during and piece.session >= 0 and piece.start < table.sessions[piece.session].end


def overlapping(a: Instant, b: Instant, table: MarketTable) -> tuple[Piece, ...]:
    """The pieces that have an instant of ``[a, b)`` in them."""
    a, b = max(a, table.first), min(b, table.last)
    if a >= b:
        return ()
    return table.pieces[table.index_at(a) : table.index_at(b - 1) + 1]


def next_holding(during: frozenset[str] | None, after: int, table: MarketTable) -> Piece | None:
    """The first piece later than the one at index ``after`` in which ``during`` holds."""
    indices = range(after + 1, len(table.pieces))
    return next((table.pieces[at] for at in indices if holds(during, table.pieces[at], table)), None)


def last_holding(during: frozenset[str] | None, before: int, table: MarketTable) -> Piece | None:
    """The last piece earlier than the one at index ``before`` in which ``during`` holds."""
    indices = range(before - 1, -1, -1)
    return next((table.pieces[at] for at in indices if holds(during, table.pieces[at], table)), None)


def begins(during: frozenset[str] | None, at: int, table: MarketTable) -> bool:
    """Whether a stretch of ``during`` begins with piece ``at``.

    What holds from the table's first instant on began before it, nobody knows when.
    """
    pieces = table.pieces
    return at > 0 and holds(during, pieces[at], table) and not holds(during, pieces[at - 1], table)


def stretch_at(
    during: frozenset[str] | None, t: Instant, table: MarketTable
) -> tuple[Instant | None, Instant | None] | None:
    """The longest stretch round ``t`` in which ``during`` holds; None when it does not hold at ``t``.

    An edge is None where the stretch reaches the edge of the table.
    """
    if during is None:
        return None, None
    pieces = table.pieces
    low = high = table.index_at(t)
    if not holds(during, pieces[low], table):
        return None
    while low >= 0 and holds(during, pieces[low], table):
        low -= 1
    while high < len(pieces) and holds(during, pieces[high], table):
        high += 1
    return (
        pieces[low].end if low >= 0 else None,
        pieces[high].start if high < len(pieces) else None,
    )
