"""Every error of the scheduler: one base, an exit code, a docstring that is the message.

The exit codes are part of the command line's contract: 1 failed, 2 usage, 3 the daemon cannot be
reached, 78 configuration (``EX_CONFIG`` of sysexits.h, which the systemd unit does not restart).
"""

from __future__ import annotations

from typing import NamedTuple


class Mark(NamedTuple):
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Problem(NamedTuple):
    """One mistake in a configuration: where it is, what is wrong and what would be right."""

    mark: Mark | None
    message: str

    def __str__(self) -> str:
        return f"{self.mark}: {self.message}" if self.mark else self.message


class SchedulerError(Exception):
    """the scheduler failed"""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or ""))


class UsageError(SchedulerError):
    """the command was called wrongly"""

    exit_code = 2


class NotReachableError(SchedulerError):
    """the daemon cannot be reached"""

    exit_code = 3


class ConfigurationError(SchedulerError):
    """the configuration cannot be used"""

    exit_code = 78

    def __init__(self, problems: str | list[Problem]) -> None:
        self.problems = [Problem(None, problems)] if isinstance(problems, str) else problems
        super().__init__("\n".join(str(problem) for problem in self.problems))


class CalendarError(SchedulerError):
    """a market calendar could not be built"""


class OutsideTableError(CalendarError):
    """the instant lies outside the stretch of time that the market's table covers"""


class LedgerError(SchedulerError):
    """the ledger cannot be read or written"""


class StateLockedError(SchedulerError):
    """another scheduler runs with this state directory"""


class SocketInUseError(SchedulerError):
    """another scheduler answers at this socket"""


class BusyError(SchedulerError):
    """too much is asked of the scheduler at once"""


class DuplicateRunError(SchedulerError):
    """a run with this id is alive"""


class UnknownTaskError(SchedulerError):
    """no task has this name"""


class UnknownRunError(SchedulerError):
    """no run has this id"""


class UnknownKeyError(SchedulerError):
    """the shared cache has no value for this key"""


class UnknownNamespaceError(SchedulerError, KeyError):
    """the shared cache has no namespace of this name"""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show it quoted
