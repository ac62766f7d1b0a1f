"""One generated trading day (``day.csv``, ``day_news.csv``) that can be asked about any instant.

Only the time of day counts, so any date replays the same day. From the last row to the first of the
next morning the market is closed and the day's last prices stand.
"""

from __future__ import annotations

import csv
from bisect import bisect_right
from datetime import datetime
from importlib.resources import files
from zoneinfo import ZoneInfo

EXCHANGE_ZONE = ZoneInfo("Asia/Kolkata")


def _read(name: str) -> list[dict[str, str]]:
    lines = files(__package__).joinpath(name).read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


class Replay:
    """The day in memory: minutes as ``HH:MM`` text, which sorts like time."""

    def __init__(self) -> None:
        rows = _read("day.csv")
        self.minutes = sorted({row["time"] for row in rows})
        self.news = _read("day_news.csv")
        self.series: dict[str, list[float]] = {row["symbol"]: [] for row in rows}
        self.traded: dict[str, list[int]] = {row["symbol"]: [] for row in rows}
        for row in rows:
            self.series[row["symbol"]].append(float(row["price"]))
            self.traded[row["symbol"]].append(int(row["volume"]))

    def prices_at(self, at: datetime, minutes: int = 31) -> dict[str, object]:
        """Tell the newest minute and, by symbol, the last prices and the shares traded so far.

        Prices are in rupees, oldest first, at most ``minutes`` of them.
        """
        known = self._known(self.minutes, at)
        return {
            "minute": self.minutes[known - 1],
            "prices": {symbol: series[:known][-minutes:] for symbol, series in self.series.items()},
            "volumes": {symbol: sum(traded[:known]) for symbol, traded in self.traded.items()},
        }

    def news_at(self, at: datetime, newest: int = 5) -> dict[str, object]:
        """Tell the newest headlines, oldest first: ``{"time", "symbol", "headline"}`` each."""
        known = self._known([row["time"] for row in self.news], at)
        return {"news": self.news[:known][-newest:]}

    @staticmethod
    def _known(times: list[str], at: datetime) -> int:
        """Count the times that have come; before the first one, yesterday's whole day stands."""
        return bisect_right(times, f"{at.astimezone(EXCHANGE_ZONE):%H:%M}") or len(times)
