"""A desk for each test, and the calendars that all of them share."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.daemon import Desk


@pytest.fixture(scope="session")
def calendars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calendars")


@pytest.fixture
def desk(tmp_path: Path, calendars: Path) -> Iterator[Desk]:
    made = Desk(tmp_path, calendars)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def port() -> int:
    """A free port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
