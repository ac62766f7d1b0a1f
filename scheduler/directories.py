"""Where things are, by the environment. Standard library only: commands that ask the daemon start at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_SOCKET: Final = "scheduler.sock"
_SYSTEM_SOCKET: Final = Path("/run/scheduler") / _SOCKET  # of the service, by its RuntimeDirectory


def given_by_systemd(variable: str) -> Path | None:
    """The first of a colon-separated list."""
    first = os.environ.get(variable, "").split(":")[0]
    return Path(first) if first else None


def default_state_dir() -> Path:
    """RuntimeError when this user has no home directory."""
    given = given_by_systemd("STATE_DIRECTORY")
    if given is not None:
        return given
    base = os.environ.get("XDG_STATE_HOME", "")
    # By the XDG specification a relative path is to be ignored.
    return (Path(base) if base.startswith("/") else Path("~/.local/state").expanduser()) / "scheduler"


def default_socket(state_dir: Path) -> Path:
    """Beside a state directory that was chosen, so that two daemons do not meet at one socket."""
    runtime = given_by_systemd("RUNTIME_DIRECTORY")
    if runtime is None and not os.environ.get("SCHEDULER_STATE_DIR"):
        runtime = given_by_systemd("XDG_RUNTIME_DIR")
    return (runtime or state_dir) / _SOCKET


def daemons_socket() -> Path:
    """The socket of the daemon that is meant here: one of this environment, else the system's service."""
    chosen = os.environ.get("SCHEDULER_SOCKET")
    if chosen:
        return Path(chosen).absolute()
    state = os.environ.get("SCHEDULER_STATE_DIR")
    try:
        own = default_socket(Path(state).absolute() if state else default_state_dir())
    except RuntimeError:
        return _SYSTEM_SOCKET
    named = state or os.environ.get("RUNTIME_DIRECTORY")
    return _SYSTEM_SOCKET if not named and not own.exists() and _SYSTEM_SOCKET.exists() else own
