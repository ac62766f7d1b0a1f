from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.messages import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    CacheSpec,
    Isolation,
    Overlap,
    Priority,
    RestartPolicy,
    TaskSpec,
    Work,
)
from scheduler.core.triggers import After, Anchor, At, Cron, Every, KeepRunning, On, share_of
from scheduler.errors import ConfigurationError, Mark, Problem
from scheduler.taskfile import Alert, Config, read_tasks, task_from_options, tasks_schema
from tests.core.tables import always, nse_week, square_off_week

if TYPE_CHECKING:
    from scheduler.core.market import MarketTable

MARKETS: dict[str, MarketTable] = {
    "NSE": nse_week(),
    "MY-DESK": square_off_week(),
    "always": always("2026-11-20", "2026-12-04"),
}

# The example of the design, word for word.
DESIGN = """\
timezone: Asia/Kolkata
cache:                             # namespaces of the shared cache
  market_data: {ttl: 5s, max_entries: 10000}
  news: {ttl: 60s}
  regime: {ttl: 300s, expire_at: phase_change}
priorities:                        # shown are the defaults; a task without one is important
  critical:     {every: {open: 5s,  closed: 60s},   restart: {policy: always, burst: 5, window: 60s, then: keep_trying}, timeout: 60s}
  important:    {every: {open: 30s, closed: 300s},  restart: {policy: on-failure, burst: 3, window: 10m, then: park}, timeout: 5m}
  nice-to-have: {every: {open: 60s, closed: pause}, restart: {policy: never}, timeout: 5m}
tasks:
  market-monitoring:
    run: trademind.market:watch    # module:callable, async or sync; or command: [argv…]
    priority: critical
  signal-generation:
    run: trademind.signals:generate
    priority: critical
    after: market-monitoring
  eod-report:
    command: [/opt/desk/eod.sh, --date, "{session}"]
    at: close+15m                  # or a list; or cron: "*/15 9-15 * * *"
    priority: important
    timeout: 10m
  live-feed:
    run: trademind.feed:stream     # a long-lived loop
    keep_running: true
    during: [pre-open, open]       # started and stopped with the phases
    priority: critical
  page-desk:
    command: [/usr/local/bin/page, "{event}", "{task}"]
    on: [task.crash_looping, task.stale]
alerts:                            # sinks and events; a heartbeat URL called while healthy
  - {webhook: "https://desk.example/hook", events: [task.crash_looping, task.parked, task.stale, market.horizon_near]}
"""  # noqa: E501


DURATION = "is not a duration; write 5s, 1m30s, 2h or 1d"
ANCHOR = "write HH:MM, open, close, PHASE.start or PHASE.end, each with +DURATION or -DURATION if needed"
PACE = "names no phase; write a duration, or a map such as {open: 5s, closed: 60s}"
PROCESS = "needs a process of its own; add `isolation: process`"
ONE_TRIGGER = "a task has one trigger, not every and at; keep one, or make two tasks"
OFFSET = "offset: must be less than the pace, of which it shifts the grid"
IDLE = "the task does nothing; add `run: module:callable` or `command: [program, ...]`"
NAME = "use 1 to 64 of a-z, 0-9, '_', '.' and '-', beginning with a letter or digit"
PRIORITY = "must be one of critical, important, nice-to-have, not"


class Desk:
    """A configuration directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, text: str, name: str = "tasks.yaml") -> None:
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def load(self, text: str | None = None) -> Config:
        if text is not None:
            self.write(text)
        return read_tasks(self.directory).compile(MARKETS, "NSE")

    def task(self, body: str) -> TaskSpec:
        """The only task ``x`` with these lines and, unless they say otherwise, a callable to run."""
        lines = body.splitlines() or ["enabled: true"]
        if not any(line.startswith(("run:", "command:")) for line in lines):
            lines.insert(0, "run: desk.tasks:x")
        return self.load("tasks:\n  x:\n" + "".join(f"    {line}\n" for line in lines)).tasks[0]

    def problems(self, text: str | None = None) -> list[str]:
        with pytest.raises(ConfigurationError) as caught:
            self.load(text)
        assert caught.value.exit_code == 78
        return [str(problem).removeprefix(f"{self.directory}/") for problem in caught.value.problems]

    def task_problems(self, body: str) -> list[str]:
        """The same for the lines of one task that runs something; they begin at line 4, column 5."""
        text = "tasks:\n  x:\n    run: desk.tasks:x\n" + "".join(
            f"    {line}\n" for line in body.splitlines()
        )
        return [problem.removeprefix("tasks.yaml:") for problem in self.problems(text)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_the_example_of_the_design_loads_completely(desk: Desk) -> None:
    config = desk.load(DESIGN)
    assert [task.name for task in config.tasks] == [
        "eod-report", "live-feed", "market-monitoring", "page-desk", "signal-generation",
    ]  # fmt: skip
    eod, feed, monitoring, page, signals = config.tasks
    always_again = RestartPolicy("always", burst=5, window=MINUTE, then="keep_trying")
    pace = {"open": 5 * SECOND, "closed": MINUTE}
    assert monitoring == TaskSpec(
        name="market-monitoring",
        priority=Priority.CRITICAL,
        market="NSE",
        trigger=Every(pace),
        work=Work(target="trademind.market:watch"),
        restart=always_again,
        timeout=MINUTE,
        catchup=MINUTE,
    )
    assert (signals.trigger, signals.catchup, signals.timeout) == (After("market-monitoring"), HOUR, MINUTE)
    assert eod.trigger == At((Anchor("close", 15 * MINUTE),))
    assert eod.work == Work(argv=("/opt/desk/eod.sh", "--date", "{session}"))
    assert (eod.timeout, eod.catchup, eod.priority) == (10 * MINUTE, HOUR, Priority.IMPORTANT)
    assert feed.trigger == KeepRunning(frozenset({"pre-open", "open"}))
    assert (feed.timeout, feed.pace, feed.restart) == (None, Every(pace), always_again)
    assert page.trigger == On(("task.crash_looping", "task.stale"))
    assert (page.overlap, page.timeout) == (Overlap.QUEUE_ONE, 5 * MINUTE)
    assert config.timezone == ZoneInfo("Asia/Kolkata")
    assert config.caches == {
        "market_data": CacheSpec(5 * SECOND, 10_000),
        "news": CacheSpec(MINUTE),
        "regime": CacheSpec(5 * MINUTE, expire_at="phase_change"),
    }
    assert config.alerts == (
        Alert(
            "https://desk.example/hook", (),
            ("task.crash_looping", "task.parked", "task.stale", "market.horizon_near"), None,
        ),
    )  # fmt: skip
    assert (config.reload, config.sources) == ("auto", (desk.directory / "tasks.yaml",))


def test_every_key_of_a_task_is_read(desk: Desk) -> None:
    assert desk.task(
        "priority: critical\nmarket: MY-DESK\nevery: {open: 1m30s, square-off: pause, closed: 1d}\n"
        "during: [open, closed]\noffset: 10s\nspread: true\ntimeout: none\nstop_grace: 0s\n"
        "overlap: cancel-previous\ncatchup: 0s\nif_interrupted: retry\n"
        "restart: {policy: on-failure, burst: 2, window: 1h, then: park}\n"
        "fresh_within: 2h\nfinish_by: square-off.end+1m\nisolation: process\npython: /opt/desk/bin/python\n"
        "with: {depth: 5, names: [a, null]}\nenv: {TZ: UTC, EMPTY: ''}\nworking_directory: /opt/desk\n"
        "memory_limit: 512M\nnice: -5\nenabled: false\n"
    ) == TaskSpec(
        name="x",
        priority=Priority.CRITICAL,
        market="MY-DESK",
        trigger=Every(
            {"open": 90 * SECOND, "square-off": None, "closed": DAY},
            10 * SECOND,
            share_of("x"),
            frozenset({"open", "closed"}),
        ),
        work=Work(
            target="desk.tasks:x",
            isolation=Isolation.PROCESS,
            python="/opt/desk/bin/python",
            arguments={"depth": 5, "names": ["a", None]},
            env={"TZ": "UTC", "EMPTY": ""},
            working_directory="/opt/desk",
            memory_limit=512 * 2**20,
            nice=-5,
        ),
        restart=RestartPolicy("on-failure", burst=2, window=HOUR, then="park"),
        timeout=None,
        catchup=0,
        stop_grace=0,
        overlap=Overlap.CANCEL_PREVIOUS,
        if_interrupted="retry",
        fresh_within=2 * HOUR,
        finish_by=Anchor("square-off.end", MINUTE),
        enabled=False,
    )


def test_a_task_without_a_trigger_has_the_pace_of_its_priority(desk: Desk) -> None:
    assert desk.task("").trigger == Every({"open": 30 * SECOND, "closed": 5 * MINUTE})
    assert desk.task("priority: nice-to-have").trigger == Every({"open": MINUTE, "closed": None})
    assert desk.task("priority: nice-to-have").restart.policy == "never"


@pytest.mark.parametrize(
    ("body", "timeout", "catchup"),
    [
        ("every: 5m", 5 * MINUTE, 5 * MINUTE),
        ("every: {open: 5s, closed: 2m}", 5 * MINUTE, 2 * MINUTE),
        ("every: {open: 5s, closed: pause}", 5 * MINUTE, 5 * SECOND),
        ("at: open", HOUR, HOUR),
        ("cron: '@daily'", HOUR, HOUR),
        ("on: task.stale", 5 * MINUTE, HOUR),
        ("keep_running: true", None, HOUR),
    ],
)
def test_timeout_and_catch_up_depend_on_the_trigger(
    desk: Desk, body: str, timeout: int | None, catchup: int
) -> None:
    spec = desk.task(body)
    assert (spec.timeout, spec.catchup) == (timeout, catchup)


def test_a_trigger_may_be_written_short_or_long(desk: Desk) -> None:
    assert desk.task("every: 5m").trigger == Every({"*": 5 * MINUTE})
    assert desk.task("at: 16:00").trigger == At((Anchor("16:00"),))
    assert desk.task("at: [open-5m, pre-open.start]").trigger == At(
        (Anchor("open", -5 * MINUTE), Anchor("pre-open.start"))
    )
    assert desk.task("on: [task.stale, task.stale]").trigger == On(("task.stale",))
    assert desk.task("keep_running: true\nduring: session").trigger == KeepRunning(frozenset({"session"}))
    assert desk.task("market_hours_only: true\nevery: 5s").trigger == Every(
        {"*": 5 * SECOND}, during=frozenset({"open"})
    )
    cron = Cron("*/15 9-15 * * *", ZoneInfo("Asia/Kolkata"))
    assert desk.task('cron: "*/15 9-15 * * *"').trigger == cron
    assert desk.task("restart: always").restart == RestartPolicy("always", 3, 10 * MINUTE, "park")


def test_what_is_switched_off_counts_as_not_given(desk: Desk) -> None:
    body = "at: open\nspread: false\nmarket_hours_only: false\nkeep_running: false"
    assert desk.task(body).trigger == At((Anchor("open"),))


def test_priorities_replace_defaults_key_by_key_and_a_pace_map_stands_alone(desk: Desk) -> None:
    config = desk.load(
        "priorities:\n  important: {every: {open: 1s}, restart: {burst: 9}}\n  critical: {timeout: none}\n"
        "tasks: {a: {run: m:a}, b: {run: m:b, priority: critical}}\n"
    )
    a, b = config.tasks
    assert a.trigger == Every({"open": SECOND})
    assert (a.restart, a.timeout) == (RestartPolicy("on-failure", 9, 10 * MINUTE, "park"), 5 * MINUTE)
    assert (b.trigger, b.timeout) == (Every({"open": 5 * SECOND, "closed": MINUTE}), None)


@pytest.mark.parametrize(
    ("body", "problems"),
    [
        # keys and plain values
        ("evrey: 5s", ["4:5: unknown key 'evrey'; did you mean 'every'?"]),
        ("zzzz: 5s", ["4:5: unknown key 'zzzz'"]),
        ("every:", ["4:11: every: has no value; write one, or leave the key out"]),
        ("enabled: yes", ["4:14: enabled: must be true or false, not 'yes'"]),
        ("spread: 1", ["4:13: spread: must be true or false, not 1"]),
        ("with: [1]", ["4:11: with: must be a map (`key: value`), not a list"]),
        ("market: 5", ["4:13: market: must be text, not 5; put it into quotes"]),
        ("during: []", ["4:13: during: must not be empty"]),
        ("priority: crtical", [f"4:15: priority: {PRIORITY} 'crtical'; did you mean 'critical'?"]),
        # durations
        ("every: 5", [f"4:12: every: 5 {DURATION}"]),
        ("every: 5M", [f"4:12: every: '5M' {DURATION}"]),
        ("every: [5s]", [f"4:12: every: a list {DURATION}"]),
        ("every: {open: 5}", [f"4:19: open: 5 {DURATION}"]),
        ("every: 0s", ["4:12: every: must be longer than 0"]),
        ("every: {open: 0s}", ["4:19: open: must be longer than 0"]),
        ("every: {}", [f"4:12: every: {PACE}"]),
        ("timeout: -5s", ["4:14: timeout: '-5s' is negative; a duration is 0s or longer"]),
        ("timeout: 0s", ["4:14: timeout: must be longer than 0"]),
        ("fresh_within: 1", [f"4:19: fresh_within: 1 {DURATION}"]),
        # triggers
        ("at: 16:00\nevery: 5s", [f"4:5: {ONE_TRIGGER}"]),
        ("at: closing", [f"4:9: at: 'closing' is not an anchor; {ANCHOR}"]),
        ("at: [open, close+5]", [f"4:16: at: 'close+5' is not an anchor: '5' {DURATION}"]),
        ("at: 960", ["4:9: at: must be text, not 960; put it into quotes"]),
        ("cron: '0 0 30 2 *'", ["4:11: cron: '0 0 30 2 *' can never fire: there is no such date"]),
        ("cron: '61 * * * *'", ["4:11: cron: '61 * * * *' is not a cron expression: Bad minute"]),
        ("on: task.stael", ["4:9: on: there is no event 'task.stael'; did you mean 'task.stale'?"]),
        ("on: daemon.stopped", ["4:5: on: no task hears of daemon.stopped: nothing is started any more"]),
        ("on: config.loaded", ["4:5: on: no task hears of config.loaded: there are no tasks yet"]),
        ("on: task.traceback", ["4:5: on: no task hears of task.traceback: what happens is run.failed"]),
        ("after: y", ["4:12: after: there is no task 'y'"]),
        ("after: x", ["4:12: after: these tasks wait for each other: x -> x"]),
        ("restart_with: y", ["4:19: restart_with: there is no task 'y'"]),
        # markets and phases
        ("market: NES", ["4:13: there is no market 'NES'; did you mean 'NSE'?"]),
        ("every: {opne: 5s}", ["4:13: NSE has no phase 'opne'; did you mean 'open'?"]),
        ("during: pre-opn", ["4:13: NSE has no phase 'pre-opn'; did you mean 'pre-open'?"]),
        ("during: [open, opne]", ["4:20: NSE has no phase 'opne'; did you mean 'open'?"]),
        ("at: [open, square-off.start]", ["4:16: NSE has no phase 'square-off'"]),
        ("finish_by: pst-close.end", ["4:16: NSE has no phase 'pst-close'; did you mean 'post-close'?"]),
        ("at: open\ncatchup_until: x.end", ["5:20: NSE has no phase 'x'"]),
        # never
        ("every: {open: pause, closed: pause}",
         ["2:3: this task can never fire: every open pause, closed pause"]),
        ("every: {open: 5s}\nduring: closed", ["2:3: this task can never fire: every open 5s during closed"]),
        ("cron: '0 3 * * *'\nduring: open", ["2:3: this task can never fire: 0 3 * * *"]),
        # what does not go together
        ("offset: 30s", [f"4:13: {OFFSET}"]),
        ("every: {open: 5s, closed: 1m}\noffset: 5s",
         [f"5:13: {OFFSET}"]),
        ("at: open\noffset: 5s", ["5:5: offset: goes with every, not with at"]),
        ("at: open\nduring: open", ["5:5: during: goes with every, cron or keep_running, not with at"]),
        ("on: task.stale\ncatchup_until: close",
         ["5:5: catchup_until: goes with every, at or cron, not with on"]),
        ("catchup: 1h\ncatchup_until: close",
         ["5:5: catchup_until: stands instead of catchup; keep one of the two"]),
        ("market_hours_only: true\nduring: open",
         ["4:5: market_hours_only: means `during: [open]`; keep one of the two"]),
        ("during: [session, open]",
         ["4:5: during: 'session' already holds from the first phase to the last"]),
        # the work
        ("command: [ls]", ["4:5: a task has either run or command, not both"]),
        ("python: /bin/python", [f"4:5: python: {PROCESS}"]),
        ("env: {A: b}", [f"4:5: env: {PROCESS}"]),
        ("memory_limit: 1G\nisolation: thread",
         [f"4:5: memory_limit: {PROCESS}"]),
        ("isolation: thred",
         ["4:16: isolation: must be one of inline, thread, process, not 'thred'; did you mean 'thread'?"]),
        ("env: {1A: b}", ["4:11: '1A' cannot be the name of an environment variable"]),
        ("env: {A: 1}", ["4:14: A: must be text, not 1; put it into quotes"]),
        ("memory_limit: 512", ["4:19: memory_limit: 512 is not an amount of memory; write 512M or 2G"]),
        ("nice: 20", ["4:11: nice: must be at most 19, not 20"]),
        ("nice: 1.0", ["4:11: nice: must be a whole number, not 1.0"]),
        ("working_directory: desk",
         ["4:24: working_directory: 'desk' is not an absolute path; begin it with '/'"]),
        ("restart: sometimes", ["4:14: policy: must be one of always, on-failure, never, not 'sometimes'"]),
        ("restart: {brust: 4, burst: 0}", ["4:15: unknown key 'brust'; did you mean 'burst'?",
                                           "4:32: burst: must be at least 1, not 0"]),
        # several in one task, of values and of phases alike
        ("timeout: 5\nduring: opne\nnise: 1", [f"4:14: timeout: 5 {DURATION}",
                                               "5:13: NSE has no phase 'opne'; did you mean 'open'?",
                                               "6:5: unknown key 'nise'; did you mean 'nice'?"]),
    ],
)  # fmt: skip
def test_a_mistake_in_a_task_is_named_with_its_place(desk: Desk, body: str, problems: list[str]) -> None:
    assert desk.task_problems(body) == problems


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "1:1: the file is empty; write a map of keys and values"),
        ("timezone: UTC\n", "1:1: no task is defined; add them under `tasks:`"),
        ("tasks: [a]\n", "1:8: tasks: must be a map (`key: value`), not a list"),
        ("tasks: {a: 5}\n", "1:12: a: must be a map (`key: value`), not 5"),
        ("tasks: {a: {}}\n", f"1:9: {IDLE}"),
        ("tasks: {A: {run: 'm:f'}}\n", f"1:9: 'A' cannot be a name; {NAME}"),
        ("tasks: {a: {run: m}}\n", "1:18: run: 'm' does not name a callable; write package.module:callable"),
        ("tasks: {a: {run: 'm: f'}}\n",
         "1:18: run: 'm: f' does not name a callable; write package.module:callable"),
        ("tasks: {a: {command: ls -l}}\n",
         "1:22: command: a command is a list: write [ls, -l], or [sh, -c, '...'] for a shell"),
        ("tasks: {a: {command: []}}\n", "1:22: command: must not be empty"),
        ("tasks: {a: {command: [ls, 5]}}\n", "1:27: command: must be text, not 5; put it into quotes"),
        ('tasks: {a: {command: ["\\0"]}}\n', "1:23: command: must not contain the character NUL"),
        ("tasks: {a: {command: ['{sesion}']}}\n",
         "1:23: command: {sesion} cannot be filled in; did you mean 'session'?"),
        ("tasks: {a: {command: ['{due:%Y}']}}\n",
         "1:23: command: {due:%Y} cannot be filled in; did you mean 'due'?"),
        ("tasks: {a: {command: ['{x']}}\n",
         "1:23: command: '{x' has a single brace; write {{ or }} for a brace itself"),
        ("tasks: {a: {command: [ls], isolation: thread}}\n",
         "1:28: isolation: goes with run, not with command"),
        ("tasks: {}\ntimezone: Asia/Kolkatta\n",
         "2:11: timezone: there is no time zone 'Asia/Kolkatta'; did you mean 'Asia/Kolkata'?"),
        ("tasks: {}\ntimezone: IST\n",
         "2:11: timezone: there is no time zone 'IST'; write a name such as Asia/Kolkata or UTC"),
        ("tasks: {}\nreload: no\n", "2:9: reload: must be one of auto, manual, closed-only, not 'no'"),
        ("tasks: {}\ncahce: {}\n", "2:1: unknown key 'cahce'; did you mean 'cache'?"),
        ("tasks: {}\ncache: {m: {}}\n", "2:9: the key 'ttl' is missing"),
        ("tasks: {}\ncache: {m: {ttl: 0s}}\n", "2:18: ttl: must be longer than 0"),
        ("tasks: {}\ncache: {m: {ttl: 5s, expire_at: never}}\n",
         "2:33: expire_at: must be phase_change, not 'never'"),
        ("tasks: {}\npriorities: {critcal: {}}\n",
         "2:14: must be one of critical, important, nice-to-have, not 'critcal'; did you mean 'critical'?"),
        ("tasks: {}\npriorities: {critical: {every: {opne: 5s}}}\n",
         "2:33: no market in use has a phase 'opne'; did you mean 'open'?"),
        ("tasks: {}\nalerts: [{events: [task.stale]}]\n",
         "2:10: an alert has exactly one of webhook, command and heartbeat"),
        ("tasks: {}\nalerts: [{webhook: 'http://a/b'}]\n",
         "2:10: the key 'events' is missing: a list such as [task.stale]"),
        ("tasks: {}\nalerts: [{webhook: desk, events: task.stale}]\n",
         "2:20: webhook: this is not a URL; write https://host/path"),
        ("tasks: {}\nalerts: [{webhook: 'ftp://a/b', events: task.stale}]\n",
         "2:20: webhook: 'ftp://a' is not a URL; write https://host/path"),
        ("tasks: {}\nalerts: [{webhook: 'http://a/b', events: []}]\n", "2:42: events: must not be empty"),
        ("tasks: {}\nalerts: [{webhook: 'http://a/b', events: [task.stael]}]\n",
         "2:43: events: there is no event 'task.stael'; did you mean 'task.stale'?"),
        ("tasks: {}\nalerts: [{webhook: 'http://a/b', events: [task.stale, alert.failed]}]\n",
         "2:55: events: alert.failed can never be told: an alert that fails cannot tell of itself"),
        ("tasks: {}\nalerts: [{command: [page, '{sumary}'], events: task.stale}]\n",
         "2:27: command: {sumary} cannot be filled in; did you mean 'summary'?"),
        ("tasks: {}\nalerts: [{heartbeat: 'http://a/b', events: task.stale}]\n",
         "2:10: a heartbeat has no events: it is called while all is well"),
    ],
)  # fmt: skip
def test_a_mistake_elsewhere_is_named_with_its_place(desk: Desk, text: str, problem: str) -> None:
    assert desk.problems(text) == [f"tasks.yaml:{problem}"]


@pytest.mark.parametrize(
    "url",
    [
        "htps://hooks.example/T000/SECRET", "hooks.example/T000/SECRET", "https:///T000/SECRET",
        "https://me:SECRET@hooks.example:99999/", "https://[SECRET", "https://hooks.example:0/?key=SECRET",
    ],
)  # fmt: skip
def test_what_is_secret_in_a_url_is_in_no_error(desk: Desk, url: str) -> None:
    for alert in (f"{{webhook: '{url}', events: task.stale}}", f"{{heartbeat: '{url}'}}"):
        [problem] = desk.problems(f"tasks: {{}}\nalerts: [{alert}]\n")
        assert problem.endswith(" is not a URL; write https://host/path")
        assert "SECRET" not in problem


def test_a_heartbeat_needs_no_events(desk: Desk) -> None:
    config = desk.load(
        "tasks: {}\nalerts: [{heartbeat: 'https://a/b'}, {command: [x, '{task}'], events: task.stale}]\n"
    )
    assert config.alerts == (
        Alert(None, (), (), "https://a/b"),
        Alert(None, ("x", "{task}"), ("task.stale",), None),
    )


def test_the_example_of_the_starter_configuration_is_right(desk: Desk) -> None:
    """It is a comment there, to be taken out of it."""
    starter = (Path(__file__).parents[2] / "config" / "tasks.yaml").read_text("utf-8")
    _, _, example = starter.partition("# alerts:\n")
    lines = [line.removeprefix("# ") for line in example.splitlines()]
    config = desk.load("tasks: {}\nalerts:\n" + "\n".join(lines) + "\n")
    assert [bool(a.webhook) + 2 * bool(a.command) + 4 * bool(a.heartbeat) for a in config.alerts] == [1, 2, 4]


def test_braces_can_be_written(desk: Desk) -> None:
    assert desk.task("command: ['{{\"a\": {session}}}']").work.argv == ('{{"a": {session}}}',)


def test_cycles_are_shown_once_each(desk: Desk) -> None:
    text = (
        "tasks:\n"
        "  a: {run: 'm:f', after: b}\n"
        "  b: {run: 'm:f', after: c}\n"
        "  c: {run: 'm:f', after: a}\n"
        "  d: {run: 'm:f', after: a}\n"
        "  e: {run: 'm:f', restart_with: f}\n"
        "  f: {run: 'm:f', restart_with: e}\n"
    )
    assert desk.problems(text) == [
        "tasks.yaml:2:26: after: these tasks wait for each other: a -> b -> c -> a",
        "tasks.yaml:6:33: restart_with: these tasks wait for each other: e -> f -> e",
    ]


def test_what_waits_for_a_task_that_is_not_enabled_can_never_fire(desk: Desk) -> None:
    text = (
        "tasks:\n"
        "  off: {run: 'm:f', enabled: false}\n"
        "  waits: {run: 'm:f', after: off}\n"
        "  waits-on: {run: 'm:f', after: waits}\n"
        "  off-too: {run: 'm:f', after: off, enabled: false}\n"
        "  restarts: {run: 'm:f', restart_with: off}\n"
    )
    [problem] = desk.problems(text)
    assert problem == (
        "tasks.yaml:3:30: after: this task can never fire: 'off' is not enabled; "
        "enable that one, or add `enabled: false` here, too"
    )


def test_a_key_given_twice_hides_no_other_mistake_and_the_first_of_both_counts(desk: Desk) -> None:
    text = (
        "tasks:\n"
        "  a: {run: 'm:f', every: 5s, every: 0s}\n"
        "  b: {run: 'm:f', opne: 5s}\n"
        "  c: {run: 'm:f', after: a}\n"
        "  b: {rnu: 'm:f'}\n"
        "timezone: Asia/Kolkatta\n"
    )
    assert desk.problems(text) == [
        "tasks.yaml:2:30: the key 'every' is given twice; first at line 2, column 19",
        "tasks.yaml:3:19: unknown key 'opne'; did you mean 'on'?",
        "tasks.yaml:5:3: the key 'b' is given twice; first at line 3, column 3",
        "tasks.yaml:6:11: timezone: there is no time zone 'Asia/Kolkatta'; did you mean 'Asia/Kolkata'?",
    ]


def test_a_task_that_is_itself_wrong_still_counts_as_known(desk: Desk) -> None:
    text = "tasks: {a: {run: 'm:f', after: b}, b: {run: m}}\n"
    assert len(desk.problems(text)) == 1


def test_tasks_d_is_merged_by_name_after_the_main_file(desk: Desk) -> None:
    desk.write("tasks: {b: {run: 'm:b', after: z}}\n", "tasks.d/20.yaml")
    desk.write("tasks: {z: {run: 'm:z'}}\ntimezone: UTC\ncache: {n: {ttl: 5s}}\n", "tasks.d/10.yaml")
    desk.write("[", "tasks.d/.#10.yaml")
    desk.write("notes", "tasks.d/README")
    config = desk.load("tasks: {a: {run: 'm:a'}}\ncache: {m: {ttl: 5s}}\n")
    assert [task.name for task in config.tasks] == ["a", "b", "z"]
    assert sorted(config.caches) == ["m", "n"]
    assert config.timezone == ZoneInfo("UTC")
    assert [path.name for path in config.sources] == ["tasks.yaml", "10.yaml", "20.yaml"]


def test_all_mistakes_of_all_files_are_reported_at_once_with_both_places(desk: Desk) -> None:
    desk.write("tasks: {a: {run: 'm:f'}}\ntimezone: UTC\ncache: {m: {ttl: 5s}}\n")
    desk.write(
        "timezone: UTC\ncache: {m: {ttl: 9s}}\ntasks:\n  a: {run: 'm:f'}\n  b: {run: 'm:f'}\n",
        "tasks.d/10.yaml",
    )
    desk.write("tasks: {c: [}\n", "tasks.d/20.yaml")
    desk.write("tasks: {b: {run: 'm:f', opne: 1}}\n", "tasks.d/30.yaml")
    desk.write("tasks: {}\n", "tasks.d/40.yml")
    where = desk.directory
    assert desk.problems() == [
        f"tasks.d/10.yaml:1:1: 'timezone' is defined twice; first at {where}/tasks.yaml:2:1",
        f"tasks.d/10.yaml:2:9: cache 'm' is defined twice; first at {where}/tasks.yaml:3:9",
        f"tasks.d/10.yaml:4:3: the task 'a' is defined twice; first at {where}/tasks.yaml:1:9",
        "tasks.d/20.yaml:1:13: a value is expected here, or a bracket before it is not closed",
        f"tasks.d/30.yaml:1:9: the task 'b' is defined twice; first at {where}/tasks.d/10.yaml:5:3",
        "tasks.d/30.yaml:1:25: unknown key 'opne'; did you mean 'on'?",
        "tasks.d/40.yml:1:1: only *.yaml is read; rename the file, or hide it with a leading dot",
    ]


def test_a_missing_directory_or_a_file_in_its_place_is_a_mistake(desk: Desk) -> None:
    assert desk.problems() == ["tasks.yaml:1:1: there is no such file"]
    desk.write("tasks: {}\n")
    desk.write("x", "tasks.d")
    assert desk.problems() == ["tasks.d:1:1: the directory cannot be read: Not a directory"]


def test_a_guard_may_refuse_a_file_unread(desk: Desk) -> None:
    desk.write("{")

    def guard(path: Path) -> Problem:
        return Problem(Mark(str(path), 1, 1), "not trusted")

    file = read_tasks(desk.directory, guard=guard)
    assert [problem.message for problem in file.problems] == ["not trusted"]


def test_a_market_without_a_table_is_explained_by_who_knows_it(desk: Desk) -> None:
    desk.write("tasks: {a: {run: 'm:f', market: MCX}, b: {run: 'm:f'}}\n")
    file = read_tasks(desk.directory)
    assert file.markets == {"MCX"}
    with pytest.raises(ConfigurationError, match=r"tasks\.yaml:1:33: MCX is ill"):
        file.compile(MARKETS, "NSE", lambda name: f"{name} is ill")
    assert [task.name for task in file.compile(MARKETS, "NSE", lambda _: None).tasks] == ["b"]


def test_a_program_makes_a_task_by_the_same_rules() -> None:
    spec = task_from_options(
        "feed",
        {"priority": "critical", "market_hours_only": True, "every": "5s"},
        markets=MARKETS,
        default_market="NSE",
        target="program:feed",
    )
    assert spec.trigger == Every({"*": 5 * SECOND}, during=frozenset({"open"}))
    assert (spec.work, spec.priority, spec.timeout) == (Work("program:feed"), Priority.CRITICAL, MINUTE)


def test_the_mistakes_of_a_program_have_no_place() -> None:
    def refusal(options: dict[str, object], target: str | None = None) -> str:
        with pytest.raises(ConfigurationError) as caught:
            task_from_options(
                "x", options, markets=MARKETS, default_market="NSE", target=target, others=frozenset({"feed"})
            )
        return str(caught.value)

    assert refusal({"run": "m:f", "evry": "5s"}) == "task 'x': unknown key 'evry'; did you mean 'every'?"
    assert refusal({"every": 5}, "m:f") == (f"task 'x': every: 5 {DURATION}")
    assert refusal({"run": "m:f"}, "m:f") == "task 'x': run: the program brings its own callable"
    assert refusal({"after": "fed"}, "m:f") == "task 'x': after: there is no task 'fed'; did you mean 'feed'?"
    assert "the task does nothing" in refusal({})


def test_a_thousand_tasks_do_not_disturb_each_other(desk: Desk) -> None:
    text = "tasks:\n" + "".join(f"  t{n:04}: {{run: 'm:f', every: 5s}}\n" for n in range(1000))
    assert len(desk.load(text).tasks) == 1000


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70) | st.floats(allow_nan=False) | st.text(max_size=4)
    | st.sampled_from(["5s", "open", "close+1h", "m:f", "task.stale", "x", "*", "pause", "none", "NSE"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["open", "closed", "policy", "ttl", "x", ""]), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip
_KEYS = sorted(tasks_schema()["$defs"]["TaskModel"]["properties"])


@given(options=st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=4))
def test_whatever_a_task_says_it_becomes_a_spec_or_plain_sentences(options: dict[str, object]) -> None:
    said = ""
    try:
        spec = task_from_options("x", {"run": "m:f", **options}, markets=MARKETS, default_market="NSE")
        assert isinstance(spec, TaskSpec)
    except ConfigurationError as error:
        said = str(error)
    assert not re.search(r"Input should|validation|dictionary|instance of|not allowed here", said)


def test_the_schema_for_editors_knows_the_keys_and_refuses_nulls_and_others() -> None:
    schema = tasks_schema()
    text = json.dumps(schema)
    assert '"null"' not in text
    task = schema["$defs"]["TaskModel"]
    assert task["additionalProperties"] is False
    assert {"run", "with", "every", "catchup_until", "memory_limit"} <= set(task["properties"])
    duration = re.compile(task["properties"]["stop_grace"]["pattern"])
    assert all(duration.search(good) for good in ("5s", "1m30s", "2h", "250ms", "1d"))
    assert not any(duration.search(bad) for bad in ("", "5", "5M", "-5s", "5s1m"))
