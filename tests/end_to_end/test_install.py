"""``make install`` and ``make uninstall``: into a directory, and what comes of it under a real systemd."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.end_to_end.box import Box, need_box
from tests.end_to_end.daemon import CHECKOUT

# Where the box has the packages of this environment, which may be in a home or in /tmp.
IN_THE_BOX = Path("/opt/dependencies")


def make(target: str, stage: Path) -> str:
    """Run a target; the packages of the lock are those of this environment."""
    command = ["make", "--no-print-directory", target, f"DESTDIR={stage}", f"PYTHON={sys.executable}"]
    answer = subprocess.run(
        [*command, "INSTALL_LOCKED=true"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory into which it was installed."""
    place = tmp_path_factory.mktemp("stage")
    venv.create(place / "opt" / "scheduler", symlinks=True)
    [packages] = place.glob("opt/scheduler/lib/python3.*/site-packages")
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n{IN_THE_BOX}\n", "utf-8")
    make("install", place)
    return place


def test_the_environment_the_units_and_the_starter_configuration_are_in_their_places(stage: Path) -> None:
    program = stage / "opt" / "scheduler" / "bin" / "scheduler"
    assert program.read_text("utf-8").startswith("#!/opt/scheduler/bin/python\n")
    for name in ("tasks.yaml", "markets.yaml", "scheduler.env"):
        installed = stage / "etc" / "scheduler" / name
        assert installed.read_bytes() == (CHECKOUT / "config" / name).read_bytes()
        assert installed.stat().st_mode & 0o777 == 0o644
    unit = stage / "etc" / "systemd" / "system" / "scheduler.service"
    assert unit.read_bytes() == (CHECKOUT / "systemd" / "scheduler.service").read_bytes()


def test_it_runs_as_a_service(stage: Path, tmp_path: Path) -> None:
    need_box()
    binds = {
        Path("/opt/scheduler"): stage / "opt" / "scheduler",
        Path("/etc/scheduler"): stage / "etc" / "scheduler",
        IN_THE_BOX: Path(sysconfig.get_path("purelib")),
    }
    units = stage / "etc" / "systemd" / "system"
    binds |= {Path("/etc/systemd/system", unit.name): unit for unit in units.iterdir()}
    box = Box(tmp_path / "box", binds)
    try:
        # The interpreter may be in somebody's home.
        box.run("chmod a+rx /root")
        box.write("/etc/systemd/system/scheduler.service.d/home.conf", "[Service]\nProtectHome=read-only\n")
        box.run("systemctl daemon-reload; systemctl enable --now scheduler")
        assert "7 tasks" in box.show("StatusText")
        assert box.ask("systemctl is-enabled scheduler").stdout == "enabled\n"
    finally:
        box.close()


def test_a_second_installation_keeps_the_configuration_and_its_removal_too(stage: Path) -> None:
    tasks = stage / "etc" / "scheduler" / "tasks.yaml"
    tasks.write_text("tasks: {}\n", "utf-8")
    (tasks.parent / "markets.yaml").unlink()
    make("install", stage)
    assert tasks.read_text("utf-8") == "tasks: {}\n"
    assert (tasks.parent / "markets.yaml").exists()
    make("uninstall", stage)
    assert sorted(path.name for path in stage.rglob("*") if path.is_file()) == [
        "markets.yaml", "scheduler.env", "tasks.yaml",
    ]  # fmt: skip
