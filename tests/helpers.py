"""What several tests share: instants from ISO literals, and back; programs that a machine may lack."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(text: str) -> int:
    """Nanoseconds since the epoch of an ISO 8601 time that carries its offset."""
    moment = datetime.fromisoformat(text)
    assert moment.tzinfo is not None, f"{text} has no offset"
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def iso(nanoseconds: int, zone: str = "Asia/Kolkata") -> str:
    """The same instant as an ISO 8601 time in a zone."""
    return (_EPOCH + timedelta(microseconds=nanoseconds // 1000)).astimezone(ZoneInfo(zone)).isoformat()


def required_program(name: str) -> str:
    """Its path; without it the test is skipped, which under continuous integration is a failure."""
    path = shutil.which(name)
    if path is None:
        reason = f"{name} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path
