"""``scheduler init``, and the wheel installed alone: nothing of the checkout is needed."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.end_to_end.daemon import CHECKOUT, PATIENCE, Desk, keep_to, run_script


def test_init_writes_a_configuration_that_check_accepts(desk: Desk, tmp_path: Path) -> None:
    fresh = tmp_path / "made" / "config"
    written = run_script(["init", fresh], desk.environment())
    assert (written.returncode, written.stderr) == (0, "")
    files = sorted(path.name for path in fresh.iterdir())
    assert {"tasks.yaml", "markets.yaml", "scheduler.env"} <= set(files)
    assert sorted(Path(line).name for line in written.stdout.splitlines()) == files
    checked = run_script(["check", "--config", fresh], desk.environment())
    assert (checked.returncode, checked.stderr) == (0, "")


def test_init_overwrites_nothing(desk: Desk) -> None:
    desk.tasks("tasks: {}\n")
    refused = run_script(["init", desk.config], desk.environment())
    assert refused.returncode not in {0, 1}
    assert "tasks.yaml" in refused.stderr
    assert [path.name for path in desk.config.iterdir()] == ["tasks.yaml"]
    assert desk.tasks_file.read_text("utf-8") == "tasks: {}\n"


def test_init_where_nothing_can_be_written_says_so(desk: Desk) -> None:
    in_the_way = desk.file("occupied")
    in_the_way.touch()
    refused = run_script(["init", in_the_way / "config"], desk.environment())
    assert refused.returncode != 0
    assert str(in_the_way / "config") in refused.stderr
    assert "Traceback" not in refused.stderr


def run(
    command: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program that has to succeed."""
    answer = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert answer.returncode == 0, f"{command}: {answer.stdout}{answer.stderr}"
    return answer


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console script of a fresh environment that has the wheel, and this one's other packages."""
    place = tmp_path_factory.mktemp("installed")
    wheels = place / "wheels"
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", wheels], cwd=CHECKOUT)
    [wheel] = wheels.glob("trading_hours_scheduler-*.whl")
    environment = place / "venv"
    venv.create(environment, symlinks=True)
    python: Path = environment / "bin" / "python"
    target = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).stdout.strip()
    # Later on the path than the wheel; a .pth file in it, such as the checkout's own, is not followed.
    Path(target, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    run([sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", wheel])
    return environment / "bin" / "scheduler"


def test_the_wheel_works_alone(installed: Path, desk: Desk, tmp_path: Path, port: int) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def ask(*arguments: str, program: str = "scheduler") -> str:
        """What a program of the new environment prints."""
        answer = run([installed.with_name(program), *arguments], cwd=elsewhere, env=desk.environment())
        return answer.stdout + answer.stderr

    package = ask("-c", "import scheduler; print(scheduler.__file__)", program="python").strip()
    assert Path(package).is_relative_to(installed.parents[1])
    ask("init", "config")
    # All of the starter configuration, the code of its tasks and the data that it replays.
    ask("check", "--config", "config")
    shown = ask("calendar", "--config", "config", "--from", "2026-11-23", "--until", "2026-11-24")
    assert shown.startswith("2026-11-23  NSE")
    ask("-c", "from scheduler.api.routes import page; page.routes()", program="python")  # its files are there
    keep_to(port, elsewhere / "config")
    moment = ["--at", "2026-11-23T10:59:50+05:30", "--until", "2026-11-23T11:00:11+05:30"]
    log = ask("rehearse", "--config", "config", *moment, "--speed", "10", "--live")
    assert '"event": "market.prices", "task": "market-monitoring"' in log
    assert '"event": "run.failed"' not in log


def test_check_works_with_the_little_that_systemd_gives_a_service(installed: Path, desk: Desk) -> None:
    desk.tasks('tasks:\n  a: {command: ["true"], every: 1s}\n')
    given = {"STATE_DIRECTORY": str(desk.state), "CONFIGURATION_DIRECTORY": str(desk.config)}
    checked = run([installed, "check"], env={"PATH": os.defpath, **given}, cwd=Path("/"))
    assert "1 task" in checked.stdout
