from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from scheduler.notify import Heartbeat, Notifier


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
        notifier.stopping("waiting for 2 runs", 25.5),
    ]
    heard = [receiver.recv(4096).decode() for _ in said]
    notifier.close()
    assert said == [True] * 5
    assert heard == [
        "READY=1\nSTATUS=6 tasks READY=0",
        "STATUS=NSE open",
        "WATCHDOG=1",
        "RELOADING=1\nMONOTONIC_USEC=12345678",
        "STOPPING=1\nEXTEND_TIMEOUT_USEC=25500000\nSTATUS=waiting for 2 runs",
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


class Watched:
    """A daemon with a heartbeat, as its manager sees it."""

    def __init__(self, address: str, receiver: socket.socket, watchdog_usec: str = "100000") -> None:
        self.owed: list[str] = []
        self.line = "NSE open"
        self.told: list[Sequence[str]] = []
        self.receiver = receiver
        self.notifier = Notifier(lambda: 0, {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": watchdog_usec})
        self.heartbeat = Heartbeat(
            self.notifier, overdue=lambda: self.owed, status=lambda: self.line, withheld=self.told.append
        )

    async def hear(self) -> str:
        return (await asyncio.get_running_loop().sock_recv(self.receiver, 4096)).decode()

    def close(self) -> None:
        self.heartbeat.close()
        self.notifier.close()


@pytest.fixture
def address(manager: tuple[str, socket.socket]) -> str:
    manager[1].setblocking(False)
    return manager[0]


async def test_a_loop_that_turns_gives_a_sign_of_life_again_and_again(
    manager: tuple[str, socket.socket], address: str
) -> None:
    daemon = Watched(address, manager[1])
    assert [await daemon.hear() for _ in range(4)] == ["WATCHDOG=1"] * 4
    daemon.close()
    assert daemon.told == []


async def test_the_sign_is_withheld_while_somebody_is_owed_a_run(
    manager: tuple[str, socket.socket], address: str
) -> None:
    daemon = Watched(address, manager[1], watchdog_usec="200000")
    assert await daemon.hear() == "WATCHDOG=1"
    daemon.owed = ["market-monitoring"]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(daemon.hear(), 0.5)
    daemon.owed = []
    assert await daemon.hear() == "WATCHDOG=1"
    daemon.close()
    assert daemon.told == [["market-monitoring"], []]


async def test_the_line_is_told_once_for_all_that_happened_and_only_when_it_is_another(
    manager: tuple[str, socket.socket], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.notify._PAUSE", 0.01)
    daemon = Watched(address, manager[1], watchdog_usec="")
    for _ in range(100):
        daemon.heartbeat.stir()
    assert await daemon.hear() == "STATUS=NSE open"
    daemon.heartbeat.stir()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(daemon.hear(), 0.2)
    daemon.line = "NSE closed"
    daemon.heartbeat.stir()
    assert await daemon.hear() == "STATUS=NSE closed"
    daemon.close()


async def test_a_closed_heartbeat_says_nothing_more(
    manager: tuple[str, socket.socket], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.notify._PAUSE", 0.01)
    daemon = Watched(address, manager[1])
    assert await daemon.hear() == "WATCHDOG=1"
    daemon.heartbeat.stir()
    daemon.close()
    daemon.heartbeat.stir()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(daemon.hear(), 0.2)


async def test_a_sign_of_life_that_got_lost_is_given_again_soon(
    manager: tuple[str, socket.socket], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.notify._AGAIN", 0.01)
    sent = Notifier._send
    lost = [True, True]
    monkeypatch.setattr(
        Notifier, "_send", lambda self, state: not (lost and lost.pop()) and sent(self, state)
    )
    daemon = Watched(address, manager[1], watchdog_usec="60000000")
    assert await asyncio.wait_for(daemon.hear(), 5) == "WATCHDOG=1"
    daemon.close()


async def test_that_it_is_ready_is_said_until_the_manager_has_it_and_then_no_more(
    manager: tuple[str, socket.socket], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.notify._AGAIN", 0.01)
    notifier = Notifier(lambda: 0, {"NOTIFY_SOCKET": address})
    sent = Notifier._send
    lost = [True, True]
    monkeypatch.setattr(
        Notifier, "_send", lambda self, state: not (lost and lost.pop()) and sent(self, state)
    )
    assert notifier.ready("6 tasks") is False
    heartbeat = Heartbeat(notifier, overdue=list, status=str, withheld=print)
    loop = asyncio.get_running_loop()
    assert await asyncio.wait_for(loop.sock_recv(manager[1], 4096), 5) == b"READY=1"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(loop.sock_recv(manager[1], 4096), 0.2)
    heartbeat.close()
    notifier.close()
