"""Where code is: the line of a frame or of a thread, as messages show it."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from types import FrameType

_LIBRARY = sysconfig.get_paths()["stdlib"]
_SITE = tuple(sysconfig.get_paths()[name] for name in ("purelib", "platlib"))


def place(frame: FrameType) -> str:
    """``file.py:12 in function``."""
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def place_of_thread(ident: int | None) -> str:
    """The innermost place of a running thread that is not the standard library's; "" when it is over."""
    frame = innermost = sys._current_frames().get(ident or 0)  # noqa: SLF001 - the one way to see it
    while frame is not None and is_library(frame):
        frame = frame.f_back
    shown = frame or innermost
    return place(shown) if shown is not None else ""


def is_ours(frame: FrameType) -> bool:
    """It is the scheduler's own code that runs tasks, which tells nobody where a task is."""
    return Path(frame.f_code.co_filename).parent == Path(__file__).parent


def is_library(frame: FrameType) -> bool:
    """It is code of the standard library."""
    file = frame.f_code.co_filename
    return file.startswith((_LIBRARY, "<frozen")) and not file.startswith(_SITE)
