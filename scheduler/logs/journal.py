"""The journal's native protocol: one datagram an entry, each field searchable on its own.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import re
import socket
import struct
from collections.abc import Callable, Mapping

from scheduler.render import text_of

SOCKET = "/run/systemd/journal/socket"

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_TOO_LARGE = (errno.EMSGSIZE, errno.ENOBUFS)
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_OTHER_NAMES = {"priority": "TASK_PRIORITY"}  # PRIORITY is an entry's severity
# Fields that mean something to the journal; ours of these names get a prefix.
_RESERVED = re.compile(
    r"MESSAGE|MESSAGE_ID|PRIORITY|CODE_.*|ERRNO|SYSLOG_.*|INVOCATION_ID|DOCUMENTATION|TID|UNIT"
)


def field_name(key: str) -> str:
    """The key as the journal accepts it: ``[A-Z][A-Z0-9_]{0,63}``; others it would drop in silence."""
    if key in _OTHER_NAMES:
        return _OTHER_NAMES[key]
    name = re.sub(r"[^A-Z0-9_]", "_", key.upper()).lstrip("_0123456789")
    return (f"SCHEDULER_{name}" if not name or _RESERVED.fullmatch(name) else name)[:64]


def serialize(fields: Mapping[str, str]) -> bytes:
    """An entry in the protocol's format; names must already be valid."""
    parts = []
    for name, text in fields.items():
        value = text.encode("utf-8", "backslashreplace")
        if b"\n" in value:
            parts.append(b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(value)), value))
        else:
            parts.append(b"%s=%s\n" % (name.encode(), value))
    return b"".join(parts)


class JournalWriter:
    """Sends entries to journald; what it does not take at once goes to ``fall_back``."""

    def __init__(self, fall_back: Callable[[Mapping[str, object]], None], path: str | None = None) -> None:
        self._fall_back = fall_back
        self._path = path or SOCKET
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    def write(self, sentence: str, line: Mapping[str, object]) -> None:
        """Send one entry: ``line`` as fields, with the sentence as its message. Never blocks or raises."""
        fields = {
            "MESSAGE": sentence,
            "PRIORITY": str(_PRIORITIES.get(str(line["level"]), 6)),
            "SYSLOG_IDENTIFIER": "scheduler",
        }
        fields.update({field_name(key): text_of(value) for key, value in line.items()})
        entry = serialize(fields)
        try:
            self._send(entry)
        except OSError:  # no journald, or its queue is full
            self._fall_back(line)

    def close(self) -> None:
        self._socket.close()

    def _send(self, entry: bytes) -> None:
        try:
            self._socket.sendto(entry, self._path)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno not in _TOO_LARGE:
                raise
            self._send_file(entry)

    def _send_file(self, entry: bytes) -> None:
        """Pass a sealed file in memory: how the protocol takes what a datagram cannot hold."""
        file = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            rest = memoryview(entry)
            while rest:
                rest = rest[os.write(file, rest) :]
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))
            self._socket.sendmsg([], [rights], 0, self._path)
        finally:
            os.close(file)
