from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """What systemd holds: the address it puts into the environment, and its end of the socket."""
    abstract = request.param == "abstract"
    address = f"@scheduler-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind("\0" + address[1:] if abstract else address)
    receiver.settimeout(10)
    yield address, receiver
    receiver.close()


def test_each_state_is_one_datagram(manager: tuple[str, socket.socket]) -> None:
    address, receiver = manager
    notifier = Notifier(lambda: 12_345_678_901, {"NOTIFY_SOCKET": address})
    said = [
        notifier.ready("6 tasks\nREADY=0"),
        notifier.status("NSE open"),
        notifier.alive(),
        notifier.reloading(),
        notifier.stopping("waiting for 2 runs"),
    ]
    heard = [receiver.recv(4096).decode() for _ in said]
    notifier.close()
    assert said == [True] * 5
    assert heard == [
        "READY=1\nSTATUS=6 tasks READY=0",
        "STATUS=NSE open",
        "WATCHDOG=1",
        "RELOADING=1\nMONOTONIC_USEC=12345678",
        "STOPPING=1\nSTATUS=waiting for 2 runs",
    ]


def test_without_systemd_nothing_is_said_and_nothing_breaks() -> None:
    notifier = Notifier(lambda: 0, {})
    assert notifier.ready("") is False
    notifier.close()
    notifier.close()


def test_a_manager_that_is_gone_breaks_nothing(tmp_path: Path) -> None:
    notifier = Notifier(lambda: 0, {"NOTIFY_SOCKET": str(tmp_path / "absent")})
    assert notifier.alive() is False
    notifier.close()
    assert notifier.alive() is False


def test_a_manager_that_does_not_listen_blocks_nothing(manager: tuple[str, socket.socket]) -> None:
    address, _ = manager
    notifier = Notifier(lambda: 0, {"NOTIFY_SOCKET": address})
    answers = [notifier.alive() for _ in range(2000)]
    notifier.close()
    assert answers[0] is True
    assert answers[-1] is False


@pytest.mark.parametrize(
    "environ, expected",
    [
        ({"WATCHDOG_USEC": "30000000"}, 30_000_000_000),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30_000_000_000),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_the_one_meant_for_this_process(
    environ: dict[str, str], expected: int | None
) -> None:
    assert Notifier(lambda: 0, environ).watchdog == expected
