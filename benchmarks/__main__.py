"""Everything, in one command: ``make bench``, or ``python -m benchmarks --help``.

The contestants take turns (A B C, A B C, ...), each run in a process of its own, so that what else the
machine does meets all of them alike. Read the ratios; the microseconds belong to the machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

CONTESTANTS = {"scheduler": "ours", "APScheduler": "apscheduler_peer", "bare floor": "floor"}
MODES = ("spread", "burst")
PARTS = ("dispatch", "parts", "calendars", "idle", "memory", "quotes")

Results = dict[str, Any]


def run(module: str, *arguments: str) -> Any:
    """The JSON that a module of this package prints, run on its own by this same Python."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    print(" ".join(command[1:]), file=sys.stderr)
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=900).stdout)


def dispatch(tasks: int, seconds: int, rounds: int) -> Results:
    """CPU per dispatch and lateness: for each mode and contestant, the runs in the order they were made."""
    results: Results = {mode: {name: [] for name in CONTESTANTS} for mode in MODES}
    options = ["--tasks", str(tasks), "--seconds", str(seconds)]
    for _ in range(rounds):
        for mode in MODES:
            for name, module in CONTESTANTS.items():
                burst = ["--burst"] if mode == "burst" else []
                results[mode][name].append(run(module, *options, *burst))
    return results


def dispatch_table(results: Results) -> list[str]:
    """Medians, and each contestant's CPU as a multiple of APScheduler's in the same round."""
    lines = ["", "CPU per dispatch and lateness; medians of the rounds, ratio: CPU to APScheduler's"]
    lines += [f"{'':8} {'':12} {'CPU us':>8} {'ratio':>6} {'p50 ms':>8} {'p99 ms':>8} {'done':>10} of due"]
    for mode, contestants in results.items():
        peers = contestants["APScheduler"]
        for name, runs in contestants.items():
            cpu, p50, p99 = (median(run[key] for run in runs) for key in ("cpu_us", "p50_ms", "p99_ms"))
            ratio = median(run["cpu_us"] / peer["cpu_us"] for run, peer in zip(runs, peers, strict=True))
            done, due = (sum(int(run[key]) for run in runs) for key in ("done", "due"))
            lines.append(f"{mode:8} {name:12} {cpu:8.1f} {ratio:6.2f} {p50:8.2f} {p99:8.2f} {done:>10} {due}")
    return lines


def parts_table(results: Results) -> list[str]:
    cold, asked = results["cold_key"], results["phase_at"]
    in_order, at_random = asked["in_order_ns"], asked["at_random_ns"]
    return [
        "",
        f"phase_at on twenty years of sessions: {in_order:.0f} ns in order, {at_random:.0f} ns at random",
        f"a cold key asked for by {cold['askers']}: {cold['loads']} load, {cold['answered']} answered",
    ]


def calendars_table(results: Results) -> list[str]:
    first, child, restart, changed = (results[f"{key}_s"] for key in ("first", "child", "restart", "changed"))
    cold = f"{first:.2f} s the first time ({child:.2f} s of them in {results['children']:g} child)"
    kept = f"{restart:.2f} s after a restart, {changed:.2f} s after a change of markets.yaml"
    return ["", f"tables of {results['markets']} markets over two years: {cold}, {kept}"]


def idle_table(results: Results) -> list[str]:
    cost = f"{results['wakeups']} wake-ups and {results['cpu_ms']:.1f} ms of CPU in {results['seconds']} s"
    return ["", f"idle with {results['tasks']} tasks an hour away: {cost}"]


def memory_table(results: Results) -> list[str]:
    return ["", f"resident memory of the daemon with the starter desk: {results['resident_mb']:.1f} MB"]


def quotes_table(results: Results) -> list[str]:
    lines = ["", "calls to the quote server in ten minutes (rehearsed)"]
    lines += [
        f"{name:24} {row['calls']:5} calls, {row['redundant']} redundant" for name, row in results.items()
    ]
    for cache in ("on", "off"):
        busy, quiet = (results[f"{hours}, cache {cache}"]["calls"] for hours in ("market hours", "off hours"))
        lines.append(f"fewer off hours, cache {cache}: {100 * (1 - quiet / max(1, busy)):.0f} %")
    return lines


def machine() -> dict[str, str]:
    """What the figures belong to."""
    info = Path("/proc/cpuinfo").read_text("utf-8")
    models = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    packages = ("trading-hours-scheduler", "APScheduler", "uvloop", "cachetools")
    return {
        "CPU": f"{len(models)} x {models[0]}" if models else platform.machine(),
        "kernel": platform.release(),
        "Python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--tasks", type=int, default=5_000, help="no-op tasks, each due every second")
    parser.add_argument("--seconds", type=int, default=4, help="of each measured window")
    parser.add_argument("--rounds", type=int, default=3, help="how often the contestants take turns")
    parser.add_argument("--only", choices=PARTS, action="append", help="instead of everything; repeatable")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args()

    measured: dict[str, tuple[Callable[[], Results], Callable[[Results], list[str]]]] = {
        "dispatch": (partial(dispatch, options.tasks, options.seconds, options.rounds), dispatch_table),
        "parts": (partial(run, "parts"), parts_table),
        "calendars": (partial(run, "calendars"), calendars_table),
        "idle": (partial(run, "desk", "idle"), idle_table),
        "memory": (partial(run, "desk", "memory"), memory_table),
        "quotes": (partial(run, "desk", "quotes"), quotes_table),
    }
    results: Results = {"machine": machine(), "options": vars(options)}
    tables: list[str] = []
    for name in options.only or PARTS:
        measure, table = measured[name]
        results[name] = measure()
        tables += table(results[name])
    if options.json:
        print(json.dumps(results))
        return 0
    print(", ".join(f"{key} {value}" for key, value in results["machine"].items()))
    print("\n".join(tables))
    print("\nraw:", json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
