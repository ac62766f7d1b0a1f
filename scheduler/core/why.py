"""Why a market is in its phase: one sentence, and the facts that it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from scheduler.core.wording import because, beside, horizon, is_in, moment, session_of_day

if TYPE_CHECKING:
    from scheduler.core.market import MarketTable, Piece
    from scheduler.core.messages import Instant

INSTANTS: Final = frozenset(
    {"at", "since", "until", "next_open", "known_until", "next", "due", "started", "ended"}
)
"""The facts that are instants, in nanoseconds."""


class Explanation(NamedTuple):
    """Clauses that make one sentence, and facts with plain values."""

    clauses: tuple[str, ...]
    facts: Mapping[str, Any]

    @property
    def sentence(self) -> str:
        return "; ".join(self.clauses) + "."


def why_market(table: MarketTable, at: Instant) -> Explanation:
    """Why a market is in its phase at an instant. OutsideTableError when the table does not have it."""
    piece = table.phase_at(at)
    session = session_of_day(at, table)
    change = table.next_change(at)
    until = change if change < table.last else None
    opening = next_open(table, at)
    trading = ", which is trading time," if piece.trading and piece.phase != "open" else ""
    head = f"{table.name} {is_in(piece)}{trading} at {moment(at, table.zone)}"
    stretch = _stretch(piece, at, until, table)
    clauses = [f"{head}{stretch}: {because(piece, session)} (layer {piece.layer})"]
    if piece.assumed:
        beyond = table.known_until is not None and at >= table.known_until
        clauses.append(f"this is assumed: {horizon(table)}" if beyond else "this is assumed, not settled")
    if session is not None and session.notes:
        clauses.append(f"on this day {', '.join(session.notes)}")
    if not piece.trading:
        clauses.append(_opens(opening, at, table))
    return Explanation(
        tuple(clauses),
        {
            "market": table.name,
            "phase": piece.phase,
            "trading": piece.trading,
            "reason": piece.reason,
            "layer": piece.layer,
            "assumed": piece.assumed,
            "session": session.date if session else None,
            "since": piece.phase_start,
            "until": until,
            "next_open": opening.start if opening else None,
            "known_until": table.known_until,
            "notes": list(session.notes) if session else [],
        },
    )


def next_open(table: MarketTable, at: Instant) -> Piece | None:
    """The piece with which trading begins next, after ``at``."""
    pieces = table.pieces
    following = range(table.index_at(at) + 1, len(pieces))
    return next((pieces[n] for n in following if pieces[n].trading and not pieces[n - 1].trading), None)


def _stretch(piece: Piece, at: Instant, until: Instant | None, table: MarketTable) -> str:
    """Of a phase; that a market is closed is explained by when it opens."""
    if piece.phase == "closed":
        return ""
    end = "" if until is None else f" until {beside(until, at, table.zone)}"
    return f", since {beside(piece.phase_start, at, table.zone)}{end}"


def _opens(opening: Piece | None, at: Instant, table: MarketTable) -> str:
    if opening is None:
        return "it does not open again as far as its calendar goes"
    assumed = " (assumed)" if opening.assumed else ""
    return f"it next opens {beside(opening.start, at, table.zone)}{assumed}"
