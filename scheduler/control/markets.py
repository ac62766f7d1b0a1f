"""The markets as the API shows them."""

from __future__ import annotations

from itertools import groupby

from scheduler.api.models.system import Markets, MarketsQuery, MarketStatus, PhaseStretch
from scheduler.control.access import Access
from scheduler.core.during import overlapping
from scheduler.core.market import MarketTable
from scheduler.core.messages import DAY, Instant
from scheduler.core.walltime import to_wall
from scheduler.errors import UsageError
from scheduler.times import to_iso

_LONGEST = 40 * DAY


def markets(access: Access, wanted: MarketsQuery) -> Markets:
    """All that tasks go by, the default first."""
    configuration, now = access.daemon.configuration, access.now
    window = None
    if wanted.from_ is not None or wanted.until is not None:
        window = access.stretch(wanted.from_, wanted.until, (now, now + DAY))
        if window[1] - window[0] > _LONGEST:
            raise UsageError("phases are given for forty days at most")
    default = configuration.default_market
    tables = sorted(configuration.tables.values(), key=lambda table: (table.name != default, table.name))
    return Markets(default=default, markets=tuple(_market(table, now, window) for table in tables))


def _market(table: MarketTable, now: Instant, window: tuple[Instant, Instant] | None) -> MarketStatus:
    now = min(max(now, table.first), table.last - 1)
    piece, until = table.phase_at(now), table.next_change(now)
    session = table.session_at(now)
    end = table.known_until
    return MarketStatus(
        market=table.name,
        phase=piece.phase,
        reason=piece.reason,
        trading=piece.trading,
        assumed=piece.assumed,
        layer=piece.layer,
        until=to_iso(until, table.zone),
        next_phase=table.phase_at(until).phase if until < table.last else "",
        next_open=_next_open(table, now),
        session=None if session is None else session.date,
        known_until=None if end is None else str(to_wall(end - 1, table.zone).date()),
        horizon_days=None if end is None else max(0, (end - now) // DAY),
        beyond_horizon=table.beyond_horizon,
        timezone=str(table.zone),
        calendar=table.version,
        phases=() if window is None else tuple(_phases(table, *window)),
    )


def _next_open(table: MarketTable, now: Instant) -> str | None:
    for session in table.sessions[max(0, table.first_session_from(now) - 1) :]:
        if session.open > now:
            return to_iso(session.open, table.zone)
    return None


def _phases(table: MarketTable, start: Instant, until: Instant) -> list[PhaseStretch]:
    found = []
    for (phase, begun), pieces in groupby(
        overlapping(start, until, table), key=lambda piece: (piece.phase, piece.phase_start)
    ):
        first, *rest = pieces
        last = rest[-1] if rest else first
        found.append(
            PhaseStretch(
                phase=phase, start=to_iso(max(begun, start), table.zone),
                end=to_iso(min(last.end, until), table.zone), trading=first.trading, reason=first.reason,
            )
        )  # fmt: skip
    return found
