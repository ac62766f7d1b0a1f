"""Telling systemd how the daemon does (sd_notify): one datagram to ``$NOTIFY_SOCKET``.

Nothing here raises or blocks; without systemd it does nothing.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence

from scheduler.core.messages import MICROSECOND, SECOND, Duration, Instant

_PAUSE = 1.0  # seconds from an event to the status line that tells of it, and of all others since
_AGAIN = 1.0  # seconds until a sign of life that was withheld is thought over, or what got lost is repeated


class Notifier:
    """Sends states to the service manager that started this process."""

    def __init__(self, monotonic: Callable[[], Instant], environ: Mapping[str, str] = os.environ) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the zero byte of an abstract socket.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._monotonic = monotonic
        self._socket: socket.socket | None = None
        self._unready = False  # what was said of being ready got lost
        self.watchdog = _watchdog(environ)
        """Nanoseconds within which the next ``alive`` is expected; None when nobody watches."""
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    def ready(self, status: str) -> bool:
        """Started, or reloaded, and at work."""
        sent = self._send(f"READY=1\nSTATUS={_one_line(status)}")
        self._unready = not sent
        return sent

    def ready_again(self) -> bool:
        """Say it once more if it got lost; whether the manager has it now."""
        self._unready = self._unready and not self._send("READY=1")
        return not self._unready

    def reloading(self) -> bool:
        """A reload begins; ``ready`` ends it."""
        return self._send(f"RELOADING=1\nMONOTONIC_USEC={self._monotonic() // MICROSECOND}")

    def stopping(self, status: str, within: float) -> bool:
        """The end begins; the manager is to wait for it so many seconds, whatever its own limit is."""
        self._unready = False
        extend = f"EXTEND_TIMEOUT_USEC={int(within * 1e6)}"
        return self._send(f"STOPPING=1\n{extend}\nSTATUS={_one_line(status)}")

    def status(self, text: str) -> bool:
        """The line that ``systemctl status`` shows."""
        return self._send(f"STATUS={_one_line(text)}")

    def alive(self) -> bool:
        """The watchdog's sign of life."""
        return self._send("WATCHDOG=1")

    @property
    def present(self) -> bool:
        """Whether there is a manager to tell."""
        return self._socket is not None

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


class Heartbeat:
    """What the manager hears of a daemon at work: that it is alive, and a line on how it does.

    The sign of life comes from the event loop, at half of the watchdog's time, so a loop that does not
    turn gives none. It is withheld while the daemon owes somebody a run.
    """

    def __init__(
        self,
        notifier: Notifier,
        *,
        overdue: Callable[[], Sequence[str]],
        status: Callable[[], str],
        withheld: Callable[[Sequence[str]], None],
    ) -> None:
        """``overdue`` names who is owed a run; ``withheld`` is told when that begins (and, with nobody,
        when it is over).
        """
        self._notifier = notifier
        self._overdue = overdue
        self._status = status
        self._withheld = withheld
        self._loop = asyncio.get_running_loop()
        self._beat: asyncio.TimerHandle | None = None
        self._line: asyncio.TimerHandle | None = None
        self._ready: asyncio.TimerHandle | None = None
        self._said = ""
        self._owed = False
        self._closed = not notifier.present
        if self._closed:
            return
        self._repeat()
        if notifier.watchdog is not None:
            self._look(notifier.watchdog / 2 / SECOND)

    def stir(self) -> None:
        """Something has happened: the line may be another one. Costs nothing while nothing happens."""
        if self._line is None and not self._closed:
            self._line = self._loop.call_later(_PAUSE, self._tell)

    def close(self) -> None:
        self._closed = True
        for timer in (self._beat, self._line, self._ready):
            if timer is not None:
                timer.cancel()

    def _look(self, every: float) -> None:
        late = self._overdue()
        if bool(late) != self._owed:
            self._owed = bool(late)
            self._withheld(late)
        given = not late and self._notifier.alive()
        # What was withheld or lost may come late, but not by half a watchdog's time.
        self._beat = self._loop.call_later(every if given else min(every, _AGAIN), self._look, every)

    def _repeat(self) -> None:
        """Until the manager knows that the daemon is ready."""
        if not self._notifier.ready_again():
            self._ready = self._loop.call_later(_AGAIN, self._repeat)

    def _tell(self) -> None:
        self._line = None
        text = self._status()
        if text != self._said and self._notifier.status(text):
            self._said = text


def _watchdog(environ: Mapping[str, str]) -> Duration | None:
    """``WATCHDOG_USEC``, if it is meant for this process."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) * MICROSECOND or None


def _one_line(text: str) -> str:
    return " ".join(text.split())
