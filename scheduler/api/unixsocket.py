"""The Unix socket: made without a race, taken from the dead but not from the living, removed at the end."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from scheduler.api.guard import Door
from scheduler.errors import ConfigurationError, SocketInUseError

BACKLOG: Final = 64  # connections that wait to be accepted
_TRIES: Final = 100  # to lock the directory
_PAUSE: Final = 0.02  # seconds between them
_MODE: Final = 0o660  # for the daemon's user and group


class ControlSocket:
    """Listens at ``path`` from now on, so that clients wait for a daemon that is still starting."""

    def __init__(self, path: Path, names: frozenset[str] = frozenset()) -> None:
        """``names`` of hosts by which a proxy reaches it.

        SocketInUseError when somebody answers there, ConfigurationError when it cannot be made.
        It takes two seconds at most.
        """
        self._path = path
        self.door = Door(names)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _lock(directory, path)
                _clear(path)
                self.sockets = [_bound(path)]
            finally:
                os.close(directory)
            self._file = _identity(path)
        except OSError as error:
            raise ConfigurationError(
                f"the control socket {path} cannot be made: {error.strerror or error}; "
                "name another with SCHEDULER_SOCKET"
            ) from None

    @property
    def places(self) -> list[str]:
        """Where it listens."""
        return [str(self._path)]

    def remove(self) -> None:
        """Remove the file, unless another has taken its place."""
        with suppress(OSError):  # gone already, or the directory may no longer be written
            if _identity(self._path) == self._file:
                self._path.unlink()
        self._file = (-1, -1)  # the numbers may be given again

    def close(self) -> None:
        """Remove it and stop listening. Idempotent."""
        self.remove()
        for each in self.sockets:
            each.close()


def _lock(directory: int, path: Path) -> None:
    """Without it two daemons would both find, and remove, a dead one's. Anybody may hold it for ever."""
    for _ in range(_TRIES):
        try:
            return fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE)
    raise SocketInUseError(
        f"another program keeps {path.parent} locked, so the control socket {path} cannot be made; "
        "name another with SCHEDULER_SOCKET"
    )


def _clear(path: Path) -> None:
    """Remove what a daemon that was killed has left."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise ConfigurationError(f"{path} is in the way of the control socket: it is no socket")
    if _answers(path):
        raise SocketInUseError(
            f"another scheduler answers at {path}; name another socket with SCHEDULER_SOCKET"
        )
    path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except (BlockingIOError, PermissionError):  # its queue is full; it is not for us
            return True
    return True


def _bound(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The file gets the mode of the socket, less the umask: never more than is wanted.
        os.fchmod(listener.fileno(), _MODE)
        listener.bind(str(path))
        path.chmod(_MODE)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino
