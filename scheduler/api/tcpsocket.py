"""TCP sockets, where an operator wants them."""

from __future__ import annotations

import errno
import socket
from typing import Final

from scheduler.api.guard import Door
from scheduler.api.unixsocket import BACKLOG
from scheduler.errors import ConfigurationError, SchedulerError

# Clients that are gone without a word are noticed after a minute at most.
_IDLE: Final = 30  # seconds until an idle client is asked whether it is there
_BETWEEN: Final = 10  # seconds between questions
_QUESTIONS: Final = 3
_UNANSWERED: Final = 30_000  # milliseconds that what was sent may stay without an answer


class TcpSockets:
    """Listens from now on, so that clients wait for a daemon that is still starting."""

    def __init__(self, host: str, port: int, *, names: frozenset[str], token: str, may_change: bool) -> None:
        """``names`` of hosts, besides this one's, by which it is reached; port 0 is any free one.

        ConfigurationError when another listens there; SchedulerError when the host is none (yet).
        """
        self.sockets: list[socket.socket] = []
        try:
            for family, address in _resolved(host):
                self.sockets.append(_bound(family, address, port))
                port = self.sockets[0].getsockname()[1]  # the same for all
        except (OSError, UnicodeError) as error:
            self.close()
            raise _refusal(f"SCHEDULER_LISTEN={_written(host, port)}", error) from None
        own = socket.gethostname().lower()
        ours = {host.lower(), own, own.partition(".")[0]}
        self.door = Door(names | ours, single_labels=False, token=token, may_change=may_change)

    @property
    def places(self) -> list[str]:
        """Where it listens: HOST:PORT."""
        return [_written(*each.getsockname()[:2]) for each in self.sockets]

    def remove(self) -> None:
        """There is no file by which it is found."""

    def close(self) -> None:
        """Stop listening. Idempotent."""
        for each in self.sockets:
            each.close()


def _resolved(host: str) -> list[tuple[int, str]]:
    """The address families and addresses of a host; a name may have several."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((int(family), str(address[0])) for family, _, _, _, address in found))


def _bound(family: int, address: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what a predecessor left is no one's
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _notice_the_dead(listener)
        listener.bind((address, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _notice_the_dead(listener: socket.socket) -> None:
    """Connections inherit it."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, _IDLE),
        (socket.TCP_KEEPINTVL, _BETWEEN),
        (socket.TCP_KEEPCNT, _QUESTIONS),
        (socket.TCP_USER_TIMEOUT, _UNANSWERED),
    ):
        listener.setsockopt(socket.IPPROTO_TCP, option, value)


def _refusal(setting: str, error: OSError | UnicodeError) -> SchedulerError:
    """What will not mend itself is a mistake of the configuration; an address may yet come up."""
    if isinstance(error, UnicodeError):
        return ConfigurationError(f"{setting}: this is not the name of a host")
    if error.errno == errno.EADDRINUSE:
        return ConfigurationError(f"{setting}: another program listens there; choose another port")
    if error.errno == errno.EACCES:
        return ConfigurationError(f"{setting}: this user may not listen there; choose a port above 1023")
    return SchedulerError(f"{setting}: {error.strerror or error}")


def _written(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
