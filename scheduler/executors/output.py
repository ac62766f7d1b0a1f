"""What a process prints, as lines for the log: capped in length and in number."""

from __future__ import annotations

from collections.abc import Callable

from scheduler.executors.base import Log

LINE_CAP = 4096  # bytes
LINES_PER_SECOND = 200


class OutputLines:
    """Cuts output into lines; what is above the rate is counted instead of logged."""

    def __init__(self, log: Callable[[], Log], time: Callable[[], float]) -> None:
        self.last = ""  # the last line that was not blank
        self._log = log
        self._time = time
        self._window = time()
        self._budget = LINES_PER_SECOND
        self._suppressed = 0
        self._partial = b""

    @property
    def flooding(self) -> bool:
        """The rate is used up: reading may slow down."""
        return self._budget == 0

    def feed(self, data: bytes) -> None:
        self._next_window()
        *lines, rest = data.split(b"\n", self._budget)
        for line in lines:
            self._write(self._partial + line)
            self._partial = b""
        passed, newline, rest = rest.rpartition(b"\n")
        if newline:  # only above the rate: lines are counted, not looked at
            self._suppressed += passed.count(b"\n") + 1
            self._partial = b""
            self._remember(passed[-LINE_CAP:].rstrip().rpartition(b"\n")[2])
        self._partial = (self._partial + rest)[: LINE_CAP + 1]

    def finish(self) -> None:
        """The output has ended."""
        if self._partial:
            partial, self._partial = self._partial, b""
            if self.flooding:
                self._suppressed += 1
                self._remember(partial)
            else:
                self._write(partial)
        self._tell_suppressed()

    def _write(self, line: bytes) -> None:
        self._budget -= 1
        text = self._remember(line)
        if text:
            self._log().info("run.output", line=text)

    def _remember(self, line: bytes) -> str:
        text = line[:LINE_CAP].decode("utf-8", "replace").rstrip()
        if len(line) > LINE_CAP:
            text += "…"
        if text:
            self.last = text
        return text

    def _next_window(self) -> None:
        now = self._time()
        if now - self._window >= 1.0:
            self._window = now
            self._budget = LINES_PER_SECOND
            self._tell_suppressed()

    def _tell_suppressed(self) -> None:
        if self._suppressed:
            suppressed, self._suppressed = self._suppressed, 0
            self._log().warning("run.output_suppressed", lines=suppressed, limit=LINES_PER_SECOND)
