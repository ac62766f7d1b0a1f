"""From a call to a line: the level filter, the fields every line has, and the choice of a format."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Callable, Mapping, MutableMapping
from datetime import datetime, tzinfo
from typing import Any, NamedTuple, TextIO

import structlog

from scheduler import render
from scheduler.core.messages import MILLISECOND, SECOND, Instant
from scheduler.logs.journal import JournalWriter
from scheduler.logs.stream import StreamWriter

FORMATS = ("auto", "console", "json", "journal")
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}

_FLUSH_AT_EXIT = 200  # milliseconds that a slow reader gets for each chunk of what is pending
_OTHER_NAMES = {
    "warn": "warning",
    "exception": "error",
    "fatal": "critical",
}  # methods of structlog's loggers
_OURS = frozenset({"timestamp", "level", "event"})  # fields of these names are set here and nowhere else


class _Output:
    """Where lines go. structlog calls the method named like the level, with the complete line."""

    def __init__(self, chosen: str, stream: TextIO | None, *, colours: bool) -> None:
        self.writer = StreamWriter(stream)
        self.journal = JournalWriter(self._fall_back) if chosen == "journal" else None
        self._render = render.console(colours=colours) if chosen == "console" else render.json_line

    def emit(self, line: render.Line) -> None:
        try:
            if self.journal is not None:
                self.journal.write(render.sentence(line), line)
            else:
                self.writer.write(self._render(line))
        except Exception as error:  # noqa: BLE001 - a field's own __str__ failed: never the caller's problem
            kept = {key: line[key] for key in ("timestamp", "level")}
            self._fall_back({**kept, "event": repr(line["event"]), "log_error": type(error).__name__})

    debug = info = warning = error = critical = emit

    def _fall_back(self, line: render.Line) -> None:
        self.writer.write(render.json_line(line))


class _Pipeline(NamedTuple):
    """What holds since the last ``configure``."""

    threshold: int
    output: _Output
    log: structlog.typing.FilteringBoundLogger


# One for the process, as the state of structlog and of logging is.
_pipeline: _Pipeline | None = None


def configure(
    *,
    format: str,  # noqa: A002 - the setting's own name
    level: str,
    stream: TextIO | None,
    zone: tzinfo,
    now: Callable[[], Instant],
    extra: Mapping[str, object] | None = None,
) -> None:
    """Send everything at ``level`` and above to ``stream`` (or the journal) from now on.

    ``format`` is one of FORMATS; ``auto`` is console on a terminal, journal when systemd has connected the
    stream to it, else json. Timestamps are ``now()`` in ``zone``. ``extra`` is added to every line.
    ``stream`` is None when the process has no standard error. ValueError for an unknown format or level.
    """
    global _pipeline  # noqa: PLW0603 - see there
    if format not in FORMATS or level not in LEVELS:
        raise ValueError(f"no log format {format!r} or no log level {level!r}")
    chosen = _detect(stream) if format == "auto" else format
    output = _Output(chosen, stream, colours=_is_terminal(stream) and not os.environ.get("NO_COLOR"))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            _completer(zone, now, dict(extra or {})),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: output,
        cache_logger_on_first_use=False,
    )
    if _pipeline is not None and _pipeline.output.journal is not None:
        _pipeline.output.journal.close()
    _pipeline = _Pipeline(LEVELS[level], output, structlog.get_logger().bind())
    _adopt_libraries()


def enabled(level: str) -> bool:
    """Whether a line of this level goes anywhere: ask before computing fields that cost something."""
    return _pipeline is not None and LEVELS[level] >= _pipeline.threshold


def announce(event: str, level: str, fields: Mapping[str, Any]) -> None:
    """Log an event of ``scheduler.core.events``.

    ``fields["exc_info"]`` may be an exception, ``fields["message"]`` a sentence for people.
    """
    if _pipeline is not None and LEVELS[level] >= _pipeline.threshold:
        getattr(_pipeline.log, level)(event, **_without_clashes(fields))


def logger(**fields: Any) -> structlog.typing.FilteringBoundLogger:
    """A logger that carries these fields on each of its lines, for example a task's ``ctx.log``."""
    log = structlog.get_logger() if _pipeline is None else _pipeline.log
    bound: structlog.typing.FilteringBoundLogger = log.bind(**_without_clashes(fields))
    return bound


def flush() -> None:
    """Give a slow reader of the stream a moment to take what is pending. Called at exit."""
    if _pipeline is not None:
        _pipeline.output.writer.flush(_FLUSH_AT_EXIT)


atexit.register(flush)


def _completer(
    zone: tzinfo, now: Callable[[], Instant], extra: Mapping[str, object]
) -> Callable[[Any, str, MutableMapping[str, Any]], tuple[tuple[render.Line], dict[str, Any]]]:
    """The last processor: the line in its final order, as the one argument of the output's method."""

    def complete(
        _output: object, method: str, fields: MutableMapping[str, Any]
    ) -> tuple[tuple[render.Line], dict[str, Any]]:
        event = fields.pop("event", "")
        line = {"timestamp": _iso(now(), zone), "level": _OTHER_NAMES.get(method, method), "event": event}
        line |= _without_clashes(fields)
        return ({**line, **extra},), {}

    return complete


def _iso(instant: Instant, zone: tzinfo) -> str:
    """ISO 8601 to the millisecond, with offset."""
    seconds, rest = divmod(instant, SECOND)
    moment = datetime.fromtimestamp(seconds, zone).replace(microsecond=rest // MILLISECOND * 1000)
    return moment.isoformat(timespec="milliseconds")


def _without_clashes(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    if _OURS.isdisjoint(fields):
        return fields
    return {f"field_{key}" if key in _OURS else key: value for key, value in fields.items()}


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def _detect(stream: TextIO | None) -> str:
    """What ``auto`` means for this stream."""
    if _is_terminal(stream):
        return "console"
    try:
        status = os.fstat(stream.fileno()) if stream is not None else None
    except (OSError, ValueError):  # closed, or not a file of the system's
        status = None
    connected = status is not None and os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
    return "journal" if connected else "json"


class _LibraryHandler(logging.Handler):
    """Brings what libraries say through ``logging`` into the pipeline, tracebacks included."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # the arguments do not fit the format: the library's mistake
            text = str(record.msg)
        fields = {"logger": record.name, "exc_info": record.exc_info or None}
        announce(text, level if level in LEVELS else "warning", fields)


def _adopt_libraries() -> None:
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, _LibraryHandler)]:
        root.removeHandler(handler)
    root.addHandler(_LibraryHandler(logging.WARNING))
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
