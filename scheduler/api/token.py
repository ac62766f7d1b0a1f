"""The secret that clients over TCP have to know."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

from scheduler.errors import ConfigurationError

_SHORTEST: Final = 16  # characters
_LONGEST: Final = 4096  # bytes of the file
_MAKE: Final = "(umask 077; openssl rand -hex 32 > {path})"


def read_token(path: Path | None) -> str:
    """The token in a file, read once: a new one takes a restart. ConfigurationError when it is no secret."""
    if path is None:
        raise ConfigurationError(
            "SCHEDULER_LISTEN wants a token, so that not everyone may ask: make a file with one,\n  "
            + _MAKE.format(path="/etc/scheduler/credentials/api-token")
            + "\nand name it with SCHEDULER_TOKEN_FILE, or give it to the service as a credential:\n"
            "  LoadCredential=api-token:/etc/scheduler/credentials/api-token"
        )
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            content = file.read(_LONGEST + 1)
    except OSError as error:
        raise ConfigurationError(f"{path}, the token's file, cannot be read: {error.strerror}") from None
    if mode & stat.S_IRWXO:
        raise ConfigurationError(
            f"{path}, the token's file, is open to everyone (mode {mode:04o}): chmod o= {path}"
        )
    token = content.decode("ascii", "replace").rstrip("\r\n")
    if not _SHORTEST <= len(token) <= _LONGEST or not token.isascii() or not _is_visible(token):
        raise ConfigurationError(
            f"{path}, the token's file, has to hold one line of at least {_SHORTEST} letters, digits and "
            f"signs, without spaces; for example: {_MAKE.format(path=path)}"
        )
    return token


def _is_visible(token: str) -> bool:
    return token.isprintable() and " " not in token
