"""A box with a real systemd as its PID 1, in which the scheduler is installed at /opt/scheduler."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.end_to_end.daemon import CHECKOUT, PATIENCE, Entry, eventually

_SCRIPT = Path(__file__).with_name("box.sh")
_PROGRAMS = ("/lib/systemd/systemd", "systemctl", "journalctl", "unshare", "nsenter", "setpriv")
_ENVIRONMENT = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SYSTEMD_PAGER": "",
    "SYSTEMD_COLORS": "0",
}
_OPT = Path("/opt/scheduler")


def need_box() -> None:
    """Skip the test where no box can be made; under continuous integration that is a failure."""
    reason = _obstacle()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


def _obstacle() -> str:
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"no systemd to boot: {', '.join(missing)} missing"
    if os.geteuid() != 0:
        return "only root can boot a systemd in namespaces"
    refused = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False
    )
    return f"no namespaces here: {refused.stderr.decode().strip()}" if refused.returncode else ""


class Box:
    """A booted box. What it writes stays in memory and goes when it is closed."""

    def __init__(self, place: Path, binds: Mapping[Path, Path]) -> None:
        """``binds``: read-only, target in the box -> file or directory of the host."""
        mounts = [f"{source}:{target}" for target, source in binds.items()]
        place.mkdir()
        command: list[str | Path] = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "bash",
            _SCRIPT,
            place,
            *mounts,
        ]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._since = "0"
        self._init = self._process.stdout.readline().strip()
        if not self._init:
            self.close()
            raise AssertionError("the box did not boot")

    def close(self) -> None:
        """End everything in it."""
        self._process.communicate(timeout=PATIENCE)

    def ask(self, script: str, *, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run a script in the box."""
        enter = f"nsenter -t {self._init} -m -u -i -n -p -C -r -w".split()
        into = 'echo 0 >/sys/fs/cgroup/visitors/cgroup.procs; exec bash -euo pipefail -c "$0"'
        environment = [f"{name}={value}" for name, value in _ENVIRONMENT.items()]
        return subprocess.run(
            [*enter, "env", "-i", *environment, "bash", "-c", into, script],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout,
            check=False,
        )  # fmt: skip

    def run(self, script: str, *, timeout: float = PATIENCE) -> str:
        """What a script prints, which has to succeed."""
        answer = self.ask(script, timeout=timeout)
        assert answer.returncode == 0, f"{script}: {answer.stdout}{answer.stderr}\n{self.story()}"
        return answer.stdout

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file as an editor does: beside it, then renamed."""
        parent, new = str(Path(path).parent), f"{path}.new"
        enter = ["nsenter", "-t", self._init, "-m", "-r", "-w", "--"]
        store = 'mkdir -p "$0" && cat >"$1" && chmod "$2" "$1" && mv "$1" "$3"'
        subprocess.run(
            [*enter, "sh", "-c", store, parent, new, f"{mode:o}", path], input=text, text=True, check=True
        )

    def show(self, what: str, unit: str = "scheduler") -> str:
        """A property of a unit."""
        return self.run(f"systemctl show --value --property={what} {unit}").strip()

    def begin(self) -> None:
        """Forget what was logged so far."""
        self._since = self._entries("-n 1")[-1]["__MONOTONIC_TIMESTAMP"]

    def journal(self, *matches: str) -> list[Entry]:
        """The service's entries of the journal that match."""
        # Not --after-cursor: together with matches it skips the first that matches.
        found = self._entries("-u scheduler", *matches)
        return [entry for entry in found if int(entry["__MONOTONIC_TIMESTAMP"]) > int(self._since)]

    def _entries(self, *arguments: str) -> list[Entry]:
        lines = self.run(f"journalctl --sync; journalctl -o json --all {' '.join(arguments)}")
        return [json.loads(line) for line in lines.splitlines()]

    def wait_for(self, *matches: str) -> Entry:
        """The first entry that matches."""
        found: list[Entry] = []

        def there() -> bool:
            found[:] = self.journal(*matches)
            return bool(found)

        try:
            eventually(there, f"{matches} in the journal")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story()}") from None
        return found[0]

    def rows(self, command: str) -> list[Entry]:
        """The answer of a ``scheduler`` command with --json."""
        state = "SCHEDULER_STATE_DIR=/var/lib/private/scheduler"
        answer = self.run(f"{state} {_OPT}/bin/scheduler {command} --json")
        return [json.loads(line) for line in answer.splitlines()]

    def story(self) -> str:
        """What a failed test shows."""
        return self.ask("systemctl status scheduler; journalctl --no-pager -n 60 -o short-precise").stdout


def boot(place: Path) -> Box:
    """A box with this checkout installed as ``make install`` would, its unit and its configuration."""
    binds = {_OPT: _installation(place / "opt"), **_interpreter()}
    binds[_packages(_OPT) / "scheduler"] = CHECKOUT / "scheduler"
    binds[Path("/opt/packages")] = Path(sysconfig.get_path("purelib"))
    for unit in sorted((CHECKOUT / "systemd").glob("*.service")):
        binds[Path("/etc/systemd/system", unit.name)] = unit
    box = Box(place / "box", binds)
    if Path("/opt/python") in binds:  # a shared library is not where the interpreter expects it
        box.run("echo /opt/python/lib >/etc/ld.so.conf.d/python.conf; ldconfig")
    return box


def _installation(place: Path) -> Path:
    """A virtual environment whose packages are those of this one, and the package that of the checkout.

    Neither is copied, so that a box is made in no time.
    """
    (place / "bin").mkdir(parents=True)
    home = next(iter(_interpreter()), Path(sys.base_prefix)) / "bin"
    (place / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n", "utf-8")
    (place / "bin" / "python").symlink_to(home / f"python3.{sys.version_info.minor}")
    script = place / "bin" / "scheduler"
    script.write_text(f"#!{_OPT}/bin/python\nfrom scheduler.cli import main\n\nmain()\n", "utf-8")
    script.chmod(0o755)
    packages = _packages(place)
    (packages / "scheduler").mkdir(parents=True)
    # Later on the path than the checkout; a .pth file in it, such as the checkout's own, is not followed.
    (packages / "dependencies.pth").write_text("/opt/packages\n", "utf-8")
    return place


def _interpreter() -> dict[Path, Path]:
    """The interpreter, where it is not the system's: a service cannot see one in somebody's home."""
    base = Path(sys.base_prefix)
    return {} if base.is_relative_to("/usr") else {Path("/opt/python"): base}


def _packages(environment: Path) -> Path:
    return environment / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
