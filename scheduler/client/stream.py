"""What happens, as it happens: server-sent events."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from scheduler.client.connection import Answer, Connection, error_of, explained
from scheduler.errors import NotReachableError, SchedulerError

SILENCE: Final = 40.0  # seconds; the daemon gives a sign of life every fifteen
_AGAIN: Final = 1.0  # seconds between attempts to connect
_CLOSED: Final = "closed"  # the name of the daemon's last words


class Happening(NamedTuple):
    """``log``: an event of the log. ``run``: a change of a run, as a row of the ledger."""

    name: str
    data: Answer


Happenings: TypeAlias = Generator[Happening, None, None]


def listen(path: Path, timeout: float, target: str) -> Happenings:
    """Connected on return: nothing that happens from now on is missed.

    ``timeout``: seconds for the connection. The iterator ends with NotReachableError.
    """
    connection = Connection(path, timeout)
    try:
        with explained(path, f"did not answer within {timeout:g} s"):
            response = connection.ask("GET", target)
            if response.status == http.client.OK:
                response.readline()  # its welcome
                connection.wait_longer(SILENCE)
                happenings = _happenings(connection, response)
                next(happenings)
                return happenings
            refusal = dict(json.loads(response.read()))
    except BaseException:
        connection.close()
        raise
    connection.close()
    raise error_of(response.status, refusal, SchedulerError)


def _happenings(connection: Connection, response: http.client.HTTPResponse) -> Happenings:
    """The first only begins, so that from then on the end of this is the end of the connection."""
    try:
        yield Happening("", {})
        with explained(connection.path, f"has given no sign of life for {SILENCE:g} s"):
            name = ""
            for line in response:
                key, _, text = line.decode().rstrip("\n").partition(": ")
                if key == "event":
                    name = text
                elif key == "data" and name != _CLOSED:
                    yield Happening(name, dict(json.loads(text)))
        raise NotReachableError(f"the scheduler at {connection.path} has ended the stream of events")
    finally:
        response.close()
        connection.close()


def listen_for_ever(
    connect: Callable[[], Happenings], on_loss: Callable[[NotReachableError], object]
) -> Happenings:
    """Connects again and again. ``on_loss`` is told once of each stretch without a connection."""
    is_lost = False
    while True:
        try:
            happenings = connect()
            is_lost = False
            yield from happenings
        except NotReachableError as error:
            if not is_lost:
                on_loss(error)
            is_lost = True
            time.sleep(_AGAIN)
