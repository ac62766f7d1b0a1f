"""The markets in use: their phases are announced as they change."""

from __future__ import annotations

from collections.abc import Mapping

from scheduler.core import events
from scheduler.core.lifecycle import Lifecycle
from scheduler.core.market import MarketTable
from scheduler.core.messages import Instant
from scheduler.core.tasks import Kind
from scheduler.core.timetable import Timer, Timetable


class Market:
    """One market whose phases are announced."""

    __slots__ = ("table", "timer")

    def __init__(self, table: MarketTable) -> None:
        self.table = table
        self.timer: Timer[object] = Timer(self, Kind.PHASE, -1)


class Phases:
    """Watches the tables of all markets."""

    def __init__(self, life: Lifecycle, timetable: Timetable[object]) -> None:
        self._life = life
        self._timetable = timetable
        self._markets: dict[str, Market] = {}

    def configure(self, tables: Mapping[str, MarketTable]) -> None:
        """These are the markets from now on."""
        for name in [name for name in self._markets if name not in tables]:
            self._timetable.set(self._markets.pop(name).timer, None)
        now = self._life.now
        for name, table in tables.items():
            market = self._markets.setdefault(name, Market(table))
            known, market.table = market.table, table
            self._watch(market)
            if _covers(known, now) and _covers(table, now):
                previous = known.phase_at(now).phase
                if previous != table.phase_at(now).phase:  # by a change that holds at once
                    self._announce(table, previous)

    def changed(self, market: Market, at: Instant) -> None:
        """A phase has ended at ``at``."""
        table = market.table
        if not table.first < at < table.last:
            return  # the table is at its end: nothing is known to have changed
        self._watch(market)
        self._announce(table, table.phase_at(at - 1).phase)

    def _announce(self, table: MarketTable, previous: str) -> None:
        now = self._life.now
        piece, session, ends = table.phase_at(now), table.session_at(now), table.next_change(now)
        doubt = {"assumed": True, "layer": piece.layer} if piece.assumed else {}
        self._life.announce(
            events.MARKET_PHASE_CHANGED, "warning" if piece.assumed else "info", market=table.name,
            previous=previous, phase=piece.phase, until=ends if ends < table.last else None,
            reason=piece.reason, session=session.date if session else "", **doubt,
        )  # fmt: skip

    def _watch(self, market: Market) -> None:
        now = self._life.now
        if _covers(market.table, now):
            self._timetable.set(market.timer, market.table.next_change(now))


def _covers(table: MarketTable, t: Instant) -> bool:
    return table.first <= t < table.last
