"""Telling systemd how the daemon does (sd_notify): one datagram to ``$NOTIFY_SOCKET``.

Nothing here raises or blocks; without systemd it does nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping

from scheduler.core.messages import Duration, Instant

_MICROSECOND = 1_000


class Notifier:
    """Sends states to the service manager that started this process."""

    def __init__(self, monotonic: Callable[[], Instant], environ: Mapping[str, str] = os.environ) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the zero byte of an abstract socket.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._monotonic = monotonic
        self._socket: socket.socket | None = None
        self.watchdog = _watchdog(environ)
        """Nanoseconds within which the next ``alive`` is expected; None when nobody watches."""
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    def ready(self, status: str) -> bool:
        """Started, or reloaded, and at work."""
        return self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def reloading(self) -> bool:
        """A reload begins; ``ready`` ends it."""
        return self._send(f"RELOADING=1\nMONOTONIC_USEC={self._monotonic() // _MICROSECOND}")

    def stopping(self, status: str) -> bool:
        return self._send(f"STOPPING=1\nSTATUS={_one_line(status)}")

    def status(self, text: str) -> bool:
        """The line that ``systemctl status`` shows."""
        return self._send(f"STATUS={_one_line(text)}")

    def alive(self) -> bool:
        """The watchdog's sign of life."""
        return self._send("WATCHDOG=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, state: str) -> bool:
        """Whether the manager got it."""
        if self._socket is None:
            return False
        try:
            self._socket.sendto(state.encode("utf-8", "backslashreplace"), self._address)
        except OSError:
            return False  # the manager is gone or its queue is full: the daemon's work does not depend on it
        return True


def _watchdog(environ: Mapping[str, str]) -> Duration | None:
    """``WATCHDOG_USEC``, if it is meant for this process."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) * _MICROSECOND or None


def _one_line(text: str) -> str:
    return " ".join(text.split())
