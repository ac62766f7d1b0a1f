"""kill -9 at random moments, hundreds of times: ``make crash``, or ``python -m benchmarks.crashes --help``.

The real daemon with a desk of its own is started and killed again and again, on one state directory: in its
start-up, at any moment of its life, and, most often, within a few milliseconds of a full second, when its
runs begin, end and go to the disk. At rest after each kill, and when all is over, the ledger is judged by
``benchmarks.aftermath``, which shares nothing with the scheduler. Whatever is wrong is printed with the seed
and the directory; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.aftermath import Life, judge, judge_at_rest, read_story

CHECKOUT = Path(__file__).resolve().parent.parent
SCHEDULER = [sys.executable, "-c", "from scheduler.cli import main; main()", "run", "--config"]
PATIENCE = 60.0  # seconds for a start or a stop
START_UP = 3.0  # seconds that a start takes on a busy machine, more or less
LAST_LIFE = 4.0  # seconds in which the last daemon makes up and goes on

# WITNESS, ECHO and MINUTES are filled in. Nothing is parked: what is parked says so, and is another story.
TASKS = """
timezone: UTC
tasks:
  pace: {run: "benchmarks.crash_tasks:quick", every: 1s, priority: critical, WITNESS}
  thread: {run: "benchmarks.crash_tasks:threaded", every: 1s, WITNESS}
  command: {command: ECHO, every: 1s, market: always}
  slow: {run: "benchmarks.crash_tasks:slow", every: 1s, overlap: queue-one, WITNESS}
  flaky: {run: "benchmarks.crash_tasks:flaky", every: 3s, WITNESS,
          restart: {policy: always, burst: 1000, window: 60s, then: keep_trying}}
  first: {run: "benchmarks.crash_tasks:quick", every: 1s, WITNESS}
  second: {run: "benchmarks.crash_tasks:threaded", after: first, WITNESS}
  third: {command: ECHO, after: second, market: always}
  mended: {run: "benchmarks.crash_tasks:quick", after: flaky, WITNESS}
  trailing: {run: "benchmarks.crash_tasks:threaded", after: slow, priority: critical, WITNESS}
  laggard: {run: "benchmarks.crash_tasks:slow", after: first, overlap: queue-one, WITNESS}
  last: {command: ECHO, after: laggard, market: always}
  report: {run: "benchmarks.crash_tasks:slow", at: [MINUTES], if_interrupted: retry, WITNESS}
  minutely: {command: ECHO, cron: "* * * * *", market: always}
  loop: {run: "benchmarks.crash_tasks:loop", keep_running: true, priority: critical, WITNESS}
"""


class Daemon:
    """One life of the real process; its log is read away by a thread, which waits for one line of it."""

    def __init__(self, config: Path, environment: dict[str, str]) -> None:
        self.began = time.time_ns()
        self.ready_at: int | None = None
        self.complaints: list[str] = []
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            [*SCHEDULER, str(config)], stderr=subprocess.PIPE, text=True, env=environment
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if '"daemon.ready"' in line:
                self.ready_at = time.time_ns()
                self._ready.set()
            elif '"level": "critical"' in line or not line.startswith("{") or "ledger." in line:
                self.complaints.append(line.rstrip())

    def wait_until_ready(self) -> None:
        """Also until it has ended without ever being ready, which is a complaint."""
        limit = time.monotonic() + PATIENCE
        while not self._ready.wait(0.2):
            if time.monotonic() > limit or self._process.poll() is not None:
                self.complaints.append(f"it was not ready within {PATIENCE:g} s")
                return

    def end(self, number: signal.Signals) -> Life:
        status = self._process.poll()
        if status is not None:
            self.complaints.append(f"it had ended by itself with status {status}")
        told = time.time_ns()
        self._process.send_signal(number)
        self._process.wait(PATIENCE)
        ended = time.time_ns()
        self._reader.join(PATIENCE)
        assert self._process.stderr is not None
        self._process.stderr.close()
        return Life(self.began, self.ready_at, told, ended, killed=number is signal.SIGKILL)


def desk(home: Path, hours: float) -> tuple[Path, Path]:
    """Write the configuration; the directory, and the file in which runs say that they have begun."""
    config, witness = home / "config", home / "witness"
    config.mkdir()
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    # Every minute of the next hours, so that some are due at a kill and some while nobody is up.
    minutes = sorted({f'"{now + timedelta(minutes=n):%H:%M}"' for n in range(int(hours * 60) + 2)})
    values = {
        "WITNESS": f"market: always, with: {{witness: {witness}}}",
        "ECHO": f"[/bin/sh, -c, 'echo \"$SCHEDULER_RUN_ID $(date +%s%N)\" >> {witness}']",
        "MINUTES": ", ".join(minutes),
    }
    text = TASKS
    for name, value in values.items():
        text = text.replace(name, value)
    (config / "tasks.yaml").write_text(text, "utf-8")
    return config, witness


def environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "SCHEDULER_STATE_DIR": str(home / "state"),
        "SCHEDULER_PYTHON_PATH": str(CHECKOUT),
        "SCHEDULER_LOG_FORMAT": "json",
    }


def wait_for_a_moment(draw: random.Random, daemon: Daemon, longest: float) -> None:
    """Let a daemon live for a while: one in four does not get through its start-up."""
    if draw.random() < 0.25:
        time.sleep(draw.uniform(0.0, START_UP))
        return
    daemon.wait_until_ready()
    after = draw.uniform(0.0, longest)
    if draw.random() < 0.5:
        time.sleep(after)
        return
    # Within 60 ms of a full second of the clock on the wall, at about that time.
    until = round(time.time() + after) + draw.uniform(-0.005, 0.055)
    time.sleep(max(0.0, until - time.time()))


def crash(home: Path, kills: int, longest: float, seed: int) -> dict[str, Any]:
    """Kill as often as told; what was found, and how long it took."""
    draw = random.Random(seed)
    config, witness = desk(home, hours=min(20.0, kills * (longest + 6) / 3600 + 0.5))
    state = home / "state"
    lives: list[Life] = []
    problems: list[str] = []
    began = time.monotonic()
    for number in range(kills + 1):
        daemon = Daemon(config, environment(home))
        if number == 0:
            daemon.wait_until_ready()  # from then on each due run is on the daemons' account
        if number == kills:
            daemon.wait_until_ready()
            time.sleep(LAST_LIFE)
            lives.append(daemon.end(signal.SIGTERM))
        else:
            wait_for_a_moment(draw, daemon, longest)
            lives.append(daemon.end(signal.SIGKILL))
            problems += [f"kill {number + 1}: {found}" for found in judge_at_rest(state, lives[-1])]
        problems += [f"life {number + 1} said: {line}" for line in daemon.complaints]
        if number and number % 25 == 0:
            print(f"{number} of {kills} kills, {len(problems)} problems", file=sys.stderr)
    seconds = time.monotonic() - began
    story = read_story(state, witness, lives)
    return {
        "seed": seed,
        "kills": kills,
        "in_start_up": sum(life.ready is None for life in lives),
        "seconds": seconds,
        "kills_per_second": kills / seconds,
        "runs_begun": len(story.witnessed),
        "interrupted": sum(row.reason == "interrupted" for row in story.rows),
        "missed": sum(row.number for row in story.rows if row.status == "missed"),
        "problems": problems + judge(story),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crashes", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how often")
    parser.add_argument("--longest", type=float, default=2.5, help="the longest life once ready, in seconds")
    parser.add_argument("--seed", type=int, default=None, help="of the moments; drawn if not given")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    home = Path(tempfile.mkdtemp(prefix="crashes-"))
    found = crash(home, options.kills, options.longest, seed)
    problems = found.pop("problems")
    print(
        ", ".join(
            f"{k.replace('_', ' ')} {v:.2f}" if isinstance(v, float) else f"{k.replace('_', ' ')} {v}"
            for k, v in found.items()
        )
    )
    for problem in problems[:100]:
        print(problem)
    print(f"{len(problems)} problems")
    if problems:
        print(f"seed {seed}; everything is in {home}")
        return 1
    shutil.rmtree(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
