"""``scheduler init``, and the wheel installed alone: nothing of the checkout is needed."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.end_to_end.daemon import CHECKOUT, PATIENCE, Desk, run_script, starter_on


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


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console script of a fresh environment that has the wheel, and this one's other packages."""
    place = tmp_path_factory.mktemp("installed")
    wheels = place / "wheels"
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", wheels]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True, timeout=PATIENCE)
    [wheel] = wheels.glob("trading_hours_scheduler-*.whl")
    environment = place / "venv"
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    target = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True, timeout=PATIENCE,
    ).stdout.strip()  # fmt: skip
    # Later on the path than the wheel; a .pth file in it, such as the checkout's own, is not followed.
    Path(target, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    install = ["-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps", wheel]
    subprocess.run([sys.executable, *install], check=True, capture_output=True, timeout=PATIENCE)
    return environment / "bin" / "scheduler"


def test_the_wheel_works_alone(installed: Path, desk: Desk, tmp_path: Path, port: int) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def ask(*arguments: str, python: str = "scheduler") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [installed.with_name(python), *arguments],
            env=desk.environment(), cwd=elsewhere, capture_output=True, text=True, check=True, timeout=PATIENCE,
        )  # fmt: skip

    where = ask("-c", "import scheduler; print(scheduler.__file__)", python="python").stdout
    assert Path(where.strip()).is_relative_to(installed.parents[1])
    assert ask("--version").stdout.startswith("scheduler, version ")
    ask("init", "config")
    # All of the starter configuration, the code of its tasks and the data that it replays.
    ask("check", "--config", "config")
    assert (
        "2026-11-23"
        in ask("calendar", "--config", "config", "--from", "2026-11-23", "--until", "2026-11-24").stdout
    )
    starter_on(port, elsewhere / "config")
    live = [
        "--at",
        "2026-11-23T10:59:50+05:30",
        "--until",
        "2026-11-23T11:00:20+05:30",
        "--speed",
        "10",
        "--live",
    ]
    rehearsed = ask("rehearse", "--config", "config", *live)
    assert '"event": "market.prices", "task": "market-monitoring"' in rehearsed.stderr
    assert '"event": "run.failed"' not in rehearsed.stderr


def test_a_program_is_found_by_its_name_in_the_environment_of_a_service(installed: Path, desk: Desk) -> None:
    """systemd starts it with hardly any variables and from /."""
    desk.tasks('tasks:\n  a: {command: ["true"], every: 1s}\n')
    bare = {
        "PATH": os.defpath,
        "STATE_DIRECTORY": str(desk.state),
        "CONFIGURATION_DIRECTORY": str(desk.config),
    }
    answer = subprocess.run(
        [installed, "check"], env=bare, cwd="/", capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert (answer.returncode, answer.stderr) == (0, "")
