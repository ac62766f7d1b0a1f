"""The real process as a user starts it: its arguments, its log, its signals, its ledger."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import psutil

Entry: TypeAlias = dict[str, Any]  # a line of the log, or of a --json answer

CHECKOUT = Path(__file__).parents[2]
SCHEDULER = Path(sys.executable).with_name("scheduler")  # the console script
PATIENCE = 60.0  # seconds for something that takes one or two
# What a test sets itself, and what would have every process compile every module again.
_OURS = ("SCHEDULER_", "PYTHONDONTWRITEBYTECODE")
_STORY = 40  # lines of the log
_AT_ONCE = 4  # processes
_POLL = 0.05  # seconds between looks at what the system does not announce


def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait until a condition holds."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(_POLL)


def alive(pid: int) -> bool:
    """Whether a process exists and has not ended (a zombie has)."""
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


class Daemon:
    """A running daemon and the log it has written so far."""

    def __init__(self, command: Iterable[str | Path], environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [str(part) for part in command], stderr=subprocess.PIPE, text=True, env=dict(environment)
        )
        self.log: list[Entry] = []
        self.messages: list[str] = []  # what it wrote to standard error besides the log
        self._read = 0  # entries that `wait_for` has been through
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._pump, daemon=True)
        self._reader.start()

    def _pump(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, event: str, **fields: object) -> Entry:
        """The next entry of this event that has these fields."""
        limit = time.monotonic() + PATIENCE
        while True:
            while self._read < len(self.log):
                entry = self.log[self._read]
                self._read += 1
                if _matches(entry, event, fields):
                    return entry
            left = limit - time.monotonic()
            assert self._take(max(left, 0.0)), f"no {event} {fields}; {self.story()}"

    def find(self, event: str, **fields: object) -> Entry:
        """The first entry of the whole log that matches; waits for it."""
        self._read = 0
        return self.wait_for(event, **fields)

    def seen(self, event: str, **fields: object) -> list[Entry]:
        """Every matching entry that has been read so far; all of them once the daemon has ended."""
        return [entry for entry in self.log if _matches(entry, event, fields)]

    def _take(self, seconds: float) -> bool:
        """Read one line; False when there is none in time, or none any more."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            return False
        if line is None:
            self._lines.put(None)
            return False
        if line.startswith("{"):
            self.log.append(json.loads(line))
        else:
            self.messages.append(line)
        return True

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end, read the rest of its log, and return its exit status."""
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._drain()
            raise AssertionError(f"it does not end; {self.story()}") from None
        self._reader.join(PATIENCE)
        self._drain()
        return status

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop; its exit status."""
        self.send(number)
        return self.ended()

    def insist(self, number: signal.Signals) -> int:
        """Send a signal again and again until it ends; its exit status."""
        time.sleep(0.2)  # a person's second thought, not one signal told twice

        def over() -> bool:
            self.send(number)
            return self.process.poll() is not None

        eventually(over, "it ends")
        return self.ended()

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.ended()

    def _drain(self) -> None:
        while self._take(0.0):
            pass

    def story(self) -> str:
        """What a failed test shows."""
        lines = "".join(f"\n  {json.dumps(entry)}" for entry in self.log[-_STORY:])
        return f"the last of {len(self.log)} lines:{lines}\nand said: {''.join(self.messages)}"

    def close(self) -> None:
        """Leave nothing of it behind, whatever the test found."""
        family = []
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        for child in family:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        self._reader.join(PATIENCE)
        assert self.process.stderr is not None
        self.process.stderr.close()


def _matches(entry: Entry, event: str, fields: Mapping[str, object]) -> bool:
    return entry["event"] == event and all(entry.get(name) == value for name, value in fields.items())


class Desk:
    """A configuration directory, a state directory, modules for tasks, and files that tasks write."""

    def __init__(self, home: Path, calendars: Path) -> None:
        self.config = home / "config"
        self.state = home / "state"
        self.code = home / "code"
        self.files = home / "files"
        for directory in (self.config, self.state, self.code, self.files):
            directory.mkdir()
        # Reading a calendar for the first time costs a second of processor time: once for all tests.
        (self.state / "calendars").symlink_to(calendars)
        self.tasks_file = self.config / "tasks.yaml"
        self._daemons: list[Daemon] = []

    def tasks(self, text: str) -> None:
        """Write tasks.yaml; ``@`` in the text stands for the directory of files that tasks write."""
        self.tasks_file.write_text(text.replace("@", str(self.files)), "utf-8")

    def module(self, name: str, text: str) -> None:
        """Write a module that callables are imported from."""
        (self.code / f"{name}.py").write_text(text.replace("@", str(self.files)), "utf-8")

    def file(self, name: str) -> Path:
        """What tasks know as ``@/name``."""
        return self.files / name

    def lines(self, name: str) -> list[str]:
        """The lines of a file that tasks append to; none while it does not exist."""
        path = self.file(name)
        return path.read_text("utf-8").splitlines() if path.exists() else []

    def environment(self, **more: str) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        ours = {
            "SCHEDULER_STATE_DIR": str(self.state),
            "SCHEDULER_PYTHON_PATH": str(self.code),
            "SCHEDULER_LOG_FORMAT": "json",
            "SCHEDULER_LOG_LEVEL": "debug",
        }
        return inherited | ours | more

    def run(self, **environment: str) -> Daemon:
        """Start ``scheduler run``."""
        return self._start(["run"], environment)

    def rehearse(self, at: str, *options: str | Path, **environment: str) -> Daemon:
        """Start ``scheduler rehearse``; without ``--state`` in the options its state is thrown away."""
        return self._start(["rehearse", "--at", at, *options], environment)

    def live(self, at: str, *options: str) -> Daemon:
        """Start ``scheduler rehearse --live`` on this desk's state directory."""
        return self.rehearse(at, "--live", "--state", self.state, *options)

    def _start(self, arguments: list[str | Path], environment: Mapping[str, str]) -> Daemon:
        command = [sys.executable, "-m", "scheduler", *arguments, "--config", self.config]
        daemon = Daemon(command, self.environment(**environment))
        self._daemons.append(daemon)
        return daemon

    def ask(self, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the console script with this desk's configuration."""
        return run_script([*arguments, "--config", self.config], self.environment(**environment))

    def ask_all(self, questions: Iterable[Sequence[str]]) -> list[subprocess.CompletedProcess[str]]:
        """The answers to several questions, which are asked at the same time."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda question: self.ask(*question), questions))

    def rows(self, *arguments: str) -> list[Entry]:
        """The answer of a command with --json; it must succeed and have no complaints."""
        answer = self.ask(*arguments, "--json")
        assert (answer.returncode, answer.stderr) == (0, "")
        return [json.loads(line) for line in answer.stdout.splitlines()]

    def history(self, task: str, *arguments: str) -> list[Entry]:
        return self.rows("history", "--task", task, *arguments)

    def close(self) -> None:
        for daemon in self._daemons:
            daemon.close()
        for pid in self._left_behind():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _left_behind(self) -> Iterator[int]:
        """Processes that tasks wrote down in files named *.pid: after a kill -9 nobody ends them."""
        for path in self.files.glob("*.pid"):
            yield from (pid for pid in map(int, path.read_text("utf-8").split()) if alive(pid))


def run_script(
    arguments: Iterable[str | Path], environment: Mapping[str, str], *, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the installed ``scheduler`` command to its end."""
    return subprocess.run(
        [str(part) for part in (SCHEDULER, *arguments)],
        env=dict(environment),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def keep_to(port: int, config: Path) -> None:
    """Let the starter configuration in a directory have its feed on this port, free of faults."""
    tasks = config / "tasks.yaml"
    text = tasks.read_text("utf-8")
    tasks.write_text(text.replace("8765", str(port)).replace("fault_every: 200", "fault_every: 0"), "utf-8")
