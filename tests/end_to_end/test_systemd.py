"""The service under a real systemd: started, watched over, restarted, stopped, and read by journalctl."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from tests.end_to_end.box import Box, boot, need_box
from tests.end_to_end.daemon import CHECKOUT, eventually

PACE = "RestartSec=100ms"  # in place of seconds, for the tests' sake
TICKING = 'tasks:\n  beat: {command: ["true"], every: 1s, priority: critical}\n'


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    need_box()
    box = boot(tmp_path_factory.mktemp("box"))
    yield box
    box.close()


@pytest.fixture
def box(booted: Box) -> Iterator[Box]:
    """The box, with no configuration, no drop-ins, and a ledger that knows nothing."""
    booted.begin()
    yield booted
    booted.run(
        "systemctl kill --signal=KILL scheduler 2>/dev/null || true; systemctl stop scheduler\n"
        "systemctl reset-failed\n"
        "rm -rf /etc/systemd/system/scheduler.service.d /etc/scheduler /var/lib/private/scheduler/*.db*\n"
        "rm -rf /var/lib/private/scheduler/out /run/alerted"
    )


def start(box: Box, tasks: str, *settings: str, **files: str) -> None:
    """Start the service with these tasks, settings of the unit in a drop-in, and modules for tasks."""
    configure(box, *settings, *(["Environment=SCHEDULER_PYTHON_PATH=/etc/scheduler/code"] if files else []))
    for name, text in files.items():
        box.write(f"/etc/scheduler/code/{name}.py", text)
    box.write("/etc/scheduler/tasks.yaml", tasks)
    box.run("systemctl start scheduler")


def configure(box: Box, *settings: str) -> None:
    lines = "\n".join(["[Service]", PACE, "Environment=SCHEDULER_LOG_LEVEL=debug", *settings])
    box.write("/etc/systemd/system/scheduler.service.d/test.conf", f"{lines}\n")
    box.run("systemctl daemon-reload")


def restarted(box: Box, times: int = 1) -> None:
    """Wait until systemd has restarted it so often and it is ready again."""

    def is_so() -> bool:
        return int(box.show("NRestarts")) >= times and box.show("ActiveState") == "active"

    eventually(is_so, f"{times} restarts")


def test_the_units_are_valid_and_the_service_is_hardened(box: Box) -> None:
    box.write("/etc/scheduler/alert", (CHECKOUT / "systemd" / "examples" / "alert").read_text("utf-8"), 0o755)
    box.run("systemd-analyze verify --recursive-errors=no /etc/systemd/system/scheduler.service")
    box.run("systemd-analyze verify --recursive-errors=no /etc/systemd/system/scheduler-alert@x.service")
    exposure = box.run("systemd-analyze security --offline=true --threshold=20 scheduler.service")
    assert "Overall exposure level" in exposure


def test_the_example_of_a_drop_in_is_valid(box: Box) -> None:
    example = (CHECKOUT / "systemd" / "examples" / "other-users.conf").read_text("utf-8")
    box.write("/etc/systemd/system/scheduler.service.d/example.conf", example)
    box.run(
        "getent group desk || groupadd desk; getent passwd desk || useradd -g desk desk; mkdir -p /srv/desk"
    )
    box.run("systemd-analyze verify --recursive-errors=no /etc/systemd/system/scheduler.service")
    start(box, "tasks: {a: {command: [id, -un], every: 1s, nice: 5, working_directory: /srv/desk}}\n")
    assert box.wait_for("EVENT=run.completed", "TASK=a")
    said = [entry["LINE"] for entry in box.journal("EVENT=run.output", "TASK=a")]
    assert said
    assert set(said) == {"desk"}


ASK = """
import json, sys, urllib.request
token = open(sys.argv[2]).read().strip()
request = urllib.request.Request(sys.argv[1], headers={"Authorization": "Bearer " + token})
print(json.load(urllib.request.urlopen(request))["may_change"])
"""


def test_with_the_example_of_a_drop_in_it_listens_and_its_token_is_a_credential(box: Box) -> None:
    example = (CHECKOUT / "systemd" / "examples" / "listen.conf").read_text("utf-8")
    box.write("/etc/systemd/system/scheduler.service.d/listen.conf", example)
    secret = "/etc/scheduler/credentials/api-token"  # noqa: S105 - the place of one
    box.write(secret, "0123456789abcdef\n", 0o600)
    box.write("/etc/scheduler/ask.py", ASK)
    box.run("systemd-analyze verify --recursive-errors=no /etc/systemd/system/scheduler.service")
    start(box, TICKING, "Environment=SCHEDULER_LISTEN=127.0.0.1:0")
    listening = box.wait_for("EVENT=api.listening")
    (port,) = set(re.findall(r"127\.0\.0\.1:(\d+)", str(listening)))
    url = f"http://127.0.0.1:{port}/api/system/tasks"
    assert box.run(f"/opt/scheduler/bin/python /etc/scheduler/ask.py {url} {secret}").strip() == "False"


def test_starting_returns_when_it_is_ready_and_the_status_line_lives(box: Box) -> None:
    start(box, TICKING)
    assert box.show("ActiveState") == "active"
    assert len(box.journal("EVENT=daemon.ready")) == 1
    first = box.show("StatusText")
    market, tasks, coming = first.split(" · ")
    assert market.startswith("NSE ")
    assert " until " in market
    assert tasks == "1 task"
    assert coming.startswith("next beat ")
    eventually(lambda: box.show("StatusText") != first, "the line goes with the time")
    assert f'Status: "{market}' in box.run("systemctl status scheduler")


def test_killed_ten_times_in_a_row_it_is_back_ten_times(box: Box) -> None:
    box.write("/etc/scheduler/alert", "#!/bin/sh\ntouch /run/alerted\n", 0o755)
    start(box, TICKING)
    for times in range(1, 11):
        box.run(f"kill -KILL {box.show('MainPID')}")
        restarted(box, times)
    assert box.show("NRestarts") == "10"
    assert box.wait_for("EVENT=run.completed", "TASK=beat", f"_PID={box.show('MainPID')}")
    assert box.ask("test -e /run/alerted").returncode == 1, "it is up: nobody is to be woken"


def test_a_daemon_that_stands_still_is_aborted_and_comes_back(box: Box) -> None:
    start(box, TICKING, "WatchdogSec=2", "TimeoutAbortSec=2")
    box.run(f"kill -STOP {box.show('MainPID')}")
    restarted(box)
    assert box.wait_for("EVENT=run.completed", "TASK=beat", f"_PID={box.show('MainPID')}")


BLOCKING = """
import asyncio, os, pathlib, time
async def block(ctx):
    been = pathlib.Path(os.environ["STATE_DIRECTORY"], "out")
    if not been.exists():
        been.touch()
        time.sleep(60)
    ctx.log.info("blocks.again")
    await asyncio.sleep(60)
"""


def test_a_task_that_blocks_the_loop_gets_the_daemon_aborted_with_its_stacks_in_the_journal(box: Box) -> None:
    tasks = "tasks:\n  blocks: {run: 'blocking:block', keep_running: true}\n"
    start(box, tasks, "WatchdogSec=3", blocking=BLOCKING)
    restarted(box)
    stalled = box.wait_for("EVENT=loop.stalled")
    assert stalled["TASK"] == "blocks"
    said = "\n".join(str(entry["MESSAGE"]) for entry in box.journal())
    assert "Fatal Python error: Aborted" in said
    assert "code/blocking.py" in said
    interrupted = box.wait_for("EVENT=run.failed", "REASON=interrupted")
    assert interrupted["TASK"] == "blocks"
    assert box.wait_for("EVENT=blocks.again", "TASK=blocks"), "and it goes on"


HANGING = """
import asyncio, time
async def awaits(): await asyncio.sleep(600)
def waits(): time.sleep(600)
def fails(): raise ValueError("always")
"""


def test_hung_and_failing_tasks_do_not_trouble_the_watchdog(box: Box) -> None:
    task = "{{run: 'hanging:{}', every: 1s, priority: critical, stop_grace: 100ms{}}}"
    names = [("awaits", ""), ("waits", ""), ("waits", ", isolation: process"), ("fails", "")]
    tasks = [f"  t{n}: {task.format(name, more)}\n" for n, (name, more) in enumerate(names)]
    start(box, "tasks:\n" + "".join(tasks), "WatchdogSec=2", hanging=HANGING)
    time.sleep(5)  # two and a half times what the watchdog bears
    assert (box.show("NRestarts"), box.show("ActiveState")) == ("0", "active")
    assert " restarting" in box.show("StatusText")
    assert box.journal("EVENT=watchdog.withheld") == []


def test_a_wrong_configuration_stays_down_with_78_and_alerts(box: Box) -> None:
    box.write("/etc/scheduler/alert", '#!/bin/sh\necho "$1" >/run/alerted\n', 0o755)
    with pytest.raises(AssertionError):
        start(box, "tasks: {a: {comand: [ls], every: 1s}}\n")
    assert (box.show("ActiveState"), box.show("ExecMainStatus")) == ("failed", "78")
    assert any("tasks.yaml:1:13: " in str(entry["MESSAGE"]) for entry in box.journal())
    eventually(lambda: box.ask("cat /run/alerted").stdout == "scheduler\n", "the alert has run")
    time.sleep(1)
    assert (box.show("NRestarts"), box.show("ActiveState")) == ("0", "failed")
    box.write("/etc/scheduler/tasks.yaml", TICKING)
    box.run("systemctl start scheduler")


def test_stopping_keeps_to_the_grace_and_leaves_no_process(box: Box) -> None:
    stubborn = 'trap "" TERM; setsid sleep 4711 & while :; do sleep 1; done'
    tasks = f"tasks:\n  stubborn: {{command: [sh, -c, '{stubborn}'], every: 1s, stop_grace: 3s}}\n"
    # systemd itself would wait for less than the task is given, if the daemon did not ask for more.
    start(box, tasks, "TimeoutStopSec=1")
    eventually(lambda: box.ask("pgrep -f 'sleep 4711'").stdout, "it runs")
    began = time.monotonic()
    box.run("systemctl stop scheduler")
    assert 2.5 < time.monotonic() - began < 25
    assert box.show("Result") == "success"
    [stopped] = box.journal("EVENT=daemon.stopped")
    assert "stubborn" in stopped["WAITED_FOR"]
    assert box.ask("pgrep -f 'sleep 4711'").stdout == ""
    [row] = box.rows("history --task stubborn --status cancelled")
    assert row["reason"] == "stopped"


FAILING = """
def fail(): raise ValueError("the feed\\nis malformed")
"""


def test_journalctl_finds_exactly_the_restarts_of_a_task_with_all_that_is_known(box: Box) -> None:
    task = "{run: 'failing:fail', keep_running: true, priority: critical}"
    start(box, f"tasks:\n  market-monitoring: {task}\n  other: {task}\n", failing=FAILING)
    box.wait_for("EVENT=task.restarting", "TASK=market-monitoring", "ATTEMPT=3")
    found = box.journal("EVENT=task.restarting", "TASK=market-monitoring")
    every = [(entry.get("EVENT"), entry.get("TASK")) for entry in box.journal()]
    assert len(found) == every.count(("task.restarting", "market-monitoring"))
    for number, entry in enumerate(found, start=2):
        assert (entry["ATTEMPT"], entry["PRIORITY"], entry["TASK_PRIORITY"]) == (str(number), "4", "critical")
        assert entry["RUN_ID"].startswith("market-monitoring-")
        assert entry["DUE"].endswith("+05:30")
        assert entry["REASON"].startswith("ValueError: the feed")
        assert entry["MESSAGE"].startswith("market-monitoring: task restarting (")
    traceback = box.wait_for("EVENT=task.traceback", "TASK=market-monitoring")
    assert traceback["EXCEPTION"].startswith("Traceback")
    assert traceback["MESSAGE"].endswith(traceback["EXCEPTION"])
    assert "code/failing.py" in traceback["EXCEPTION"]


SECRET = "correct-horse-battery-staple"  # noqa: S105 - that is what is looked for
READING = """
import hashlib, os, pathlib
def read(ctx):
    text = pathlib.Path(os.environ["CREDENTIALS_DIRECTORY"], "token").read_text()
    ctx.log.info("token.read", digest=hashlib.sha256(text.encode()).hexdigest())
async def read_inline(ctx): read(ctx)
"""


def test_credentials_reach_every_kind_of_task_and_nothing_else(box: Box) -> None:
    box.write("/etc/scheduler/credentials/token", SECRET, 0o600)
    script = 'test "$(cat "$CREDENTIALS_DIRECTORY/token")" = "$EXPECTED" && sleep 2'
    tasks = (
        "tasks:\n"
        "  thread: {run: 'reading:read', every: 1s}\n"
        "  inline: {run: 'reading:read_inline', every: 1s}\n"
        "  process: {run: 'reading:read', every: 1s, isolation: process}\n"
        f"  command: {{command: [sh, -c, '{script}'], every: 1s, env: {{EXPECTED: {SECRET}}}}}\n"
    )
    start(box, tasks, "LoadCredential=token:/etc/scheduler/credentials/token", reading=READING)
    box.run("chmod 600 /etc/scheduler/credentials/token")
    for name in ("thread", "inline", "process", "command"):
        assert box.wait_for("EVENT=run.completed", f"TASK={name}")
    assert box.journal("EVENT=run.failed") == []
    seen = box.run(
        "journalctl --sync; journalctl -o export --all; systemctl status scheduler\n"
        "systemctl show scheduler; ps -efww; cat /var/lib/private/scheduler/ledger.db*"
    )
    assert "token.read" in seen
    assert SECRET not in seen
    assert SECRET not in str(box.rows("history"))


# From the end of a session to its report, on a clock sixty times as fast.
FROM_THE_CLOSE = "rehearse --live --at 2026-11-23T15:25:50+05:30 --speed 60 --state /var/lib/scheduler"
MORE = """
tasks:
  in-a-process: {run: 'scheduler.examples.host_health:check', every: 1m, isolation: process}
  limited: {command: [sh, -c, ulimit -v], every: 1m, memory_limit: 512M}
"""


def test_the_whole_starter_desk_works_behind_the_walls_subprocesses_included(box: Box) -> None:
    for file in (CHECKOUT / "config").iterdir():
        text = file.read_text("utf-8").replace("fault_every: 200", "fault_every: 0")
        box.write(f"/etc/scheduler/{file.name}", text)
    box.write("/etc/scheduler/tasks.d/more.yaml", MORE)
    configure(
        box,
        "Type=exec",
        "WatchdogSec=0",
        "ExecStart=",
        f"ExecStart=/opt/scheduler/bin/scheduler {FROM_THE_CLOSE}",
    )
    box.run("systemctl start scheduler")
    names = ["market-monitoring", "signal-generation", "regime-monitoring", "news-integration", "host-health"]
    for name in [*names, "in-a-process", "limited", "end-of-day-report"]:
        assert box.wait_for("EVENT=run.completed", f"TASK={name}")
    assert box.wait_for("EVENT=quotes.listening", "TASK=quote-server")
    [limit] = {entry["LINE"] for entry in box.journal("EVENT=run.output", "TASK=limited")}
    assert limit == str(512 * 1024)
    report = " ".join(entry["LINE"] for entry in box.journal("EVENT=run.output", "TASK=end-of-day-report"))
    assert "session 2026-11-23 is over" in report
    assert {entry["CLOCK"] for entry in box.journal("EVENT=host.health")} <= {
        "synchronised",
        "unsynchronised",
    }
    failed = " ".join(entry["ERROR"] for entry in box.journal("EVENT=run.failed"))
    assert "ermi" not in failed, "nothing is forbidden"  # Operation not permitted, Permission denied


def test_reloading_answers_when_the_answer_is_known(box: Box) -> None:
    start(box, TICKING)
    box.write("/etc/scheduler/tasks.yaml", "reload: manual\n" + TICKING)
    box.run("systemctl reload scheduler")
    assert box.wait_for("EVENT=config.reloaded")
    more = '  more: {command: ["true"], every: 1s}\n'
    box.write("/etc/scheduler/tasks.yaml", "reload: manual\n" + TICKING + more)
    box.run("systemctl reload scheduler")
    eventually(lambda: " 2 tasks " in box.show("StatusText"), "the new task is there")
    box.write("/etc/scheduler/tasks.yaml", "reload: manual\n" + TICKING + more + "  wrong: {}\n")
    refused = box.ask("systemctl reload scheduler")
    assert refused.returncode == 1
    assert box.show("ActiveState") == "active"
    assert "tasks.yaml:" in box.wait_for("EVENT=config.rejected")["PROBLEM"]
    assert any("tasks.yaml:5" in str(entry["MESSAGE"]) for entry in box.journal("_COMM=scheduler"))
    assert " 2 tasks " in box.show("StatusText"), "and it goes on as before"


def test_a_slow_answer_to_a_reload_is_waited_for(box: Box) -> None:
    start(box, TICKING)
    pid = box.show("MainPID")
    took = box.run(
        f"kill -STOP {pid}; (sleep 2; kill -CONT {pid}) & began=$(date +%s%N); systemctl reload scheduler\n"
        "echo $(( ($(date +%s%N) - began) / 1000000 ))"
    )
    assert int(took) > 1500
    assert box.show("ActiveState") == "active"
