"""The short-lived process that loads exchange-calendars: ``python -m scheduler.calendars.child``.

Reads ``{"calendars": [name, ...], "first": date, "last": date}`` from standard input and prints one
JSON object, described in `raw`. Nothing else may import this module: pandas costs 70 MB.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from typing import Any

import exchange_calendars
import pandas as pd
from pandas.tseries.holiday import AbstractHolidayCalendar

from scheduler.calendars.raw import FORMAT

PACKAGES = ("exchange-calendars", "pandas", "tzdata")
# pandas 3.1 drops XBOM's Saturday sessions without a word. This was one.
_SATURDAY = pd.Timestamp("2025-02-01")
# Holidays this near to a window are known as well: one may be observed on another day than it falls on.
_ROUND = pd.DateOffset(months=1)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Every calendar that was asked for, in the window that it knows."""
    first, last = pd.Timestamp(request["first"]), pd.Timestamp(request["last"])
    return {
        "format": FORMAT,
        "versions": {package: version(package) for package in PACKAGES},
        "names": sorted(exchange_calendars.get_calendar_names(include_aliases=True)),
        "calendars": {name: _entry(name, first, last) for name in request["calendars"]},
    }


def _entry(name: str, first: pd.Timestamp, last: pd.Timestamp) -> dict[str, Any]:
    """One calendar, or ``{"error": why}``: a broken one must not take the others with it."""
    try:
        code = exchange_calendars.resolve_alias(name)
        if code == "XBOM" and not _knows_saturdays():
            return {"error": "this version of pandas loses sessions: XBOM has none on Saturday 2025-02-01"}
        return _calendar(code, first, last)
    except exchange_calendars.errors.InvalidCalendarName:
        return {"error": "exchange-calendars does not know it"}
    except Exception as error:  # noqa: BLE001 - whatever the library does, the answer says so
        return {"error": f"{type(error).__name__}: {error}"}


def _knows_saturdays() -> bool:
    few = _read("XBOM", pd.Timestamp("2025-01-30"), pd.Timestamp("2025-02-05"))
    return _SATURDAY in few.sessions


def _read(code: str, first: pd.Timestamp, last: pd.Timestamp) -> Any:
    """A calendar from ``first`` to ``last``; ValueError when it does not reach so far.

    Left alone, the library works out every holiday from 1970 to 2200, which takes most of its time.
    """
    AbstractHolidayCalendar.start_date = first - _ROUND
    AbstractHolidayCalendar.end_date = last + _ROUND
    # Without explicit dates it would end about a year after its own import.
    return exchange_calendars.get_calendar(code, start=first, end=last)


def _calendar(code: str, first: pd.Timestamp, last: pd.Timestamp) -> dict[str, Any]:
    try:
        calendar = _read(code, first, last)
    except ValueError:  # the window reaches beyond the bounds, which only the calendar's class tells
        kind = type(_read(code, pd.Timestamp("2020-01-02"), pd.Timestamp("2020-01-10")))
        last = min(last, kind.bound_max() or last)
        # Beyond its end a calendar still tells what its last year was like.
        first = max(min(first, last - pd.DateOffset(years=1)), kind.bound_min() or first)
        calendar = _read(code, first, last)
    bound = type(calendar).bound_max()
    special = set(calendar.late_opens) | set(calendar.early_closes)
    columns = (calendar.opens, calendar.closes, calendar.break_starts, calendar.break_ends)
    sessions = [
        [day.date().isoformat(), *(None if pd.isna(at) else int(at.value) for at in edges), day in special]
        for day, *edges in zip(calendar.sessions, *columns, strict=True)
    ]
    return {
        "code": code,
        "zone": str(calendar.tz),
        "first": first.date().isoformat(),
        "last": last.date().isoformat(),
        "bound": None if bound is None else bound.date().isoformat(),
        "weekmask": calendar.weekmask,
        "sessions": sessions,
        "holidays": _holiday_names(calendar, first, last),
    }


def _holiday_names(calendar: Any, first: pd.Timestamp, last: pd.Timestamp) -> dict[str, str]:
    rules = calendar.regular_holidays
    if rules is None:
        return {}
    names = rules.holidays(first, last, return_name=True)
    return {day.date().isoformat(): str(name) for day, name in names.items()}


def main() -> None:
    json.dump(answer(json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()
