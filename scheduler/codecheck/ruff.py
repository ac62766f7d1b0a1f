"""ruff's rules about async code that concern a daemon, in words for who writes its tasks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from typing import Final

from scheduler.codecheck.rules import Finding

_SLOWEST = 60.0  # seconds

_OR_THREAD = "or give the task `isolation: thread`"
_HTTP = f"this HTTP call blocks the event loop and every inline task; await an async client, {_OR_THREAD}"
_PROGRAM = (
    "this blocks the event loop and every inline task while a program starts or runs; "
    f"await asyncio.create_subprocess_exec, {_OR_THREAD}"
)

# What holds up the loop. Left out of ASYNC on purpose: files (ASYNC230, ASYNC240), which take
# microseconds where the desk keeps them, and what is style or trio's.
BLOCKING: Final = {
    "ASYNC210": _HTTP,
    "ASYNC212": _HTTP,
    "ASYNC220": _PROGRAM,
    "ASYNC221": _PROGRAM,
    "ASYNC222": _PROGRAM,
    "ASYNC250": "input() blocks the event loop, and a daemon has no terminal; take arguments by `with:`",
    "ASYNC251": "time.sleep blocks the event loop and every inline task; await asyncio.sleep, " + _OR_THREAD,
}
# What is wrong wherever it runs.
ELSEWHERE_TOO: Final = {
    "ASYNC100": "nothing is awaited under this timeout, so it can never strike; await in it, or remove it",
    "RUF006": "nobody owns this asyncio task, so it may vanish in the middle, its errors unseen; "
    "use ctx.background(...), or keep it and await it",
}
_MESSAGES: Final = BLOCKING | ELSEWHERE_TOO
_BESIDE_PYTHON = shutil.which("ruff", path=sysconfig.get_path("scripts"))
_COMMAND = [
    *([_BESIDE_PYTHON] if _BESIDE_PYTHON else [sys.executable, "-P", "-m", "ruff"]),
    *("check", "--isolated", "--no-cache", "--quiet", "--exit-zero", "--output-format", "json"),
    *("--select", ",".join(_MESSAGES), "-"),
]


class RuffError(Exception):
    """ruff cannot be run"""


def read_by_ruff(text: str) -> list[Finding]:
    """What it finds in a module; ``# noqa`` counts, the desk's settings of ruff do not. RuffError."""
    try:
        answer = subprocess.run(
            _COMMAND,
            input=text.encode(),
            capture_output=True,
            check=False,
            timeout=_SLOWEST,
            env={name: value for name, value in os.environ.items() if not name.startswith("RUFF_")},
        )
        found = json.loads(answer.stdout) if answer.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise RuffError(f"ruff failed: {error}") from error
    if found is None:
        said = answer.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise RuffError(f"ruff failed: {said[-1].strip()}")
    return [
        Finding(
            problem["location"]["row"],
            problem["location"]["column"],
            problem["code"],
            _MESSAGES[problem["code"]],
            blocks=problem["code"] in BLOCKING,
        )
        for problem in found
        if problem["code"] in _MESSAGES  # a sync generator is no valid async one, which it says too
    ]
