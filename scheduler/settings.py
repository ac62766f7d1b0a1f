"""What the environment says: ``SCHEDULER_*``, and the directories that systemd gives to a service."""

from __future__ import annotations

import grp
import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, PlainValidator, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from scheduler.core import template
from scheduler.core.durations import parse_duration
from scheduler.core.messages import HOUR
from scheduler.directories import default_socket, default_state_dir, given_by_systemd
from scheduler.errors import ConfigurationError, Problem

_PREFIX = "SCHEDULER_"
_LONGEST_SOCKET = 107  # bytes of a Unix socket's path, by the kernel
_HOST_NAME = re.compile(r"[a-z0-9._-]+", re.ASCII)
# What the daemon tells tasks and alerts; a program of theirs that calls the command line hands it on.
_TOLD = frozenset(name.upper() for name in template.NAMES | template.OF_ALERTS)


class Address(NamedTuple):
    """Where TCP connections are accepted; port 0 is any free one."""

    host: str
    port: int


def _address(value: object) -> Address:
    host, colon, port = str(value).rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdecimal()) or int(port) > 0xFFFF:
        raise ValueError(f"{value!r} is not an address; write HOST:PORT such as 127.0.0.1:8080 or [::1]:8080")
    return Address(host, int(port))


def _absolute(value: object) -> Path:
    return Path(str(value)).absolute()


def _socket_path(value: object) -> Path:
    path = _absolute(value)
    if len(os.fsencode(path)) > _LONGEST_SOCKET:
        raise ValueError(f"{str(path)!r} is longer than {_LONGEST_SOCKET} bytes; choose a shorter path")
    return path


def _paths(value: object) -> object:
    return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _names(value: object) -> object:
    """Of hosts, by commas; they are compared in lower case and without a final dot."""
    if not isinstance(value, str):
        return value
    names = tuple(part.strip().lower().removesuffix(".") for part in value.split(",") if part.strip())
    wrong = next((name for name in names if not _HOST_NAME.fullmatch(name)), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is not the name of a host; write names such as scheduler.desk.example")
    return names


def _yes_or_no(value: object) -> object:
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    found = known.get(str(value).lower())
    if found is None:
        raise ValueError(f"must be true or false, not {value!r}")
    return found


def _duration(value: object) -> int:
    """Nanoseconds, which a default already is."""
    return value if isinstance(value, int) else parse_duration(str(value))


def _group(value: object) -> str:
    try:
        return grp.getgrnam(str(value)).gr_name
    except KeyError:
        raise ValueError(f"there is no group {value!r}") from None


def _default_config_dir() -> Path:
    return given_by_systemd("CONFIGURATION_DIRECTORY") or Path("/etc/scheduler")


def _default_token_file() -> Path | None:
    given = given_by_systemd("CREDENTIALS_DIRECTORY")
    token = None if given is None else given / "api-token"
    return token if token is not None and token.exists() else None


def _default_socket(so_far: dict[str, Any]) -> Path:
    return default_socket(so_far.get("state_dir") or default_state_dir())


class Settings(BaseSettings):
    """The settings of one process. An empty variable counts as not set."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, frozen=True)

    config_dir: Path = Field(default_factory=_default_config_dir)
    state_dir: Annotated[Path, PlainValidator(_absolute)] = Field(default_factory=default_state_dir)
    socket: Annotated[Path, PlainValidator(_socket_path)] = Field(
        default_factory=_default_socket, validate_default=True
    )
    listen: Annotated[Annotated[Address, PlainValidator(_address)] | None, NoDecode] = None
    token_file: Annotated[Path, PlainValidator(_absolute)] | None = Field(default_factory=_default_token_file)
    listen_write: Annotated[bool, BeforeValidator(_yes_or_no)] = False
    hosts: Annotated[tuple[str, ...], BeforeValidator(_names), NoDecode] = ()
    log_format: Annotated[Literal["auto", "console", "json", "journal"], BeforeValidator(_lower)] = "auto"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)
    ] = "info"
    python_path: Annotated[tuple[str, ...], BeforeValidator(_paths), NoDecode] = ()
    long_running: Annotated[int, PlainValidator(_duration)] = HOUR
    config_group: Annotated[str, PlainValidator(_group)] | None = None

    @property
    def config_gids(self) -> frozenset[int]:
        """The group, if one was named, that may write configuration."""
        return frozenset((grp.getgrnam(self.config_group).gr_gid,)) if self.config_group else frozenset()

    @property
    def credentials_dir(self) -> Path | None:
        """Where systemd put the service's credentials."""
        return given_by_systemd("CREDENTIALS_DIRECTORY")


def load_settings(config_dir: Path | None = None) -> Settings:
    """The settings; ``config_dir`` is that of the command line.

    ConfigurationError with the name of each variable that is wrong, or looks like a misspelt one.
    """
    problems = [
        Problem(None, f"{name}: there is no such setting; did you mean {meant}?")
        for name, meant in _strange_variables()
        if meant
    ]
    settings: Settings | None = None
    try:
        settings = Settings() if config_dir is None else Settings(config_dir=config_dir)
    except ValidationError as error:
        problems += [Problem(None, _sentence(details)) for details in error.errors(include_url=False)]
    except RuntimeError:  # of expanduser
        problems.append(Problem(None, "this user has no home directory; set SCHEDULER_STATE_DIR"))
    if settings is None or problems:
        raise ConfigurationError(problems)
    return settings


def unknown_variables() -> list[str]:
    """Variables ``SCHEDULER_*`` that mean nothing here and resemble no setting: worth a warning.

    They are no error because others use the prefix too: Kubernetes sets ``SCHEDULER_SERVICE_HOST``
    in every container beside a service named "scheduler".
    """
    return [name for name, meant in _strange_variables() if meant is None]


def _strange_variables() -> list[tuple[str, str | None]]:
    """Each unknown variable with the one that may be meant."""
    known = {name.upper() for name in Settings.model_fields}
    names = sorted(name for name in os.environ if name.upper().startswith(_PREFIX))
    strange = []
    for name in names:
        rest = name[len(_PREFIX) :].upper()
        if rest not in known | _TOLD:
            close = get_close_matches(rest, sorted(known), n=1, cutoff=0.7)
            strange.append((name, _PREFIX + close[0] if close else None))
    return strange


def _sentence(details: Any) -> str:
    variable = _PREFIX + str(details["loc"][0]).upper()
    context = details.get("ctx", {})
    if details["type"] == "literal_error":
        choices = context["expected"].replace("'", "").replace(" or ", ", ")
        return f"{variable}: must be one of {choices}, not {details['input']!r}"
    return f"{variable}: {context.get('error', details['msg'])}"
