"""What is shipped for Prometheus and Grafana, against what a real daemon tells."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from scheduler.core.messages import MINUTE, SECOND, CacheSpec, Priority
from scheduler.metrics import Metrics
from tests.helpers import required_program
from tests.shell.test_daemon import NOON, PACE, Host, on_virtual_time, task

MONITORING = Path(__file__).parents[1] / "monitoring"
RULES, DASHBOARD = MONITORING / "prometheus-rules.yml", MONITORING / "grafana-dashboard.json"
_NAME = re.compile(r"\b(?:scheduler|process)_[a-z0-9_]+")


def promtool(*arguments: str | Path, given: bytes = b"") -> None:
    """It has nothing to say against it."""
    command = [required_program("promtool"), *map(str, arguments)]
    done = subprocess.run(command, input=given, capture_output=True, check=False, cwd=MONITORING)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


@pytest.fixture
def exposition(tmp_path: Path) -> bytes:
    """Of a daemon with something of everything to tell."""
    told: list[bytes] = []

    @on_virtual_time(NOON)
    async def live(host: Host) -> None:
        tasks = (
            task("a", PACE, priority=Priority.CRITICAL, fresh_within=MINUTE),
            task("b", PACE, priority=Priority.NICE_TO_HAVE),
        )
        caches = {"news": CacheSpec(ttl=SECOND)}
        daemon = host.daemon(host.configured(*tasks, caches=caches))
        metrics = Metrics(daemon)
        await daemon.start()
        await host.until("2026-11-23T12:01:15+05:30")
        audit = await daemon.accounting.audit()
        daemon.accounting.latest = audit._replace(unaccounted=1, by_task={"b": 1})
        with ThreadPoolExecutor(1) as threads, host.clock.hold():
            told.append(await metrics.exposition(threads))
        await daemon.stop()

    live(tmp_path)
    return told[0]


def names(exposition: bytes) -> set[str]:
    families = text_string_to_metric_families(exposition.decode())
    return {sample.name for family in families for sample in family.samples}


def expressions(node: Any) -> Iterator[str]:
    """Every ``expr`` in what was read from YAML or JSON."""
    if isinstance(node, dict):
        if "expr" in node:
            yield node["expr"]
        node = list(node.values())
    if isinstance(node, list):
        for each in node:
            yield from expressions(each)


def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text("utf-8"))


def of_dashboard() -> list[str]:
    """As Grafana asks them."""
    return [
        expr.replace("$__rate_interval", "5m").replace("$instance", ".*").replace("$task", ".*")
        for expr in expressions(dashboard())
    ]


def test_promtool_has_nothing_to_say_against_the_metrics(exposition: bytes) -> None:
    promtool("check", "metrics", given=exposition)


def test_promtool_has_nothing_to_say_against_the_rules() -> None:
    promtool("check", "rules", RULES)


def test_each_alert_fires_when_it_should_and_is_silent_when_all_is_well() -> None:
    promtool("test", "rules", "prometheus-rules.test.yml")


def test_each_alert_has_a_test() -> None:
    rules = yaml.safe_load(RULES.read_text("utf-8"))["groups"][0]["rules"]
    tests = yaml.safe_load((MONITORING / "prometheus-rules.test.yml").read_text("utf-8"))["tests"]
    cases = [case for test in tests for case in test.get("alert_rule_test", ())]
    fired = {case["alertname"] for case in cases if case["exp_alerts"]}
    assert {rule["alert"] for rule in rules} == fired


def test_every_question_of_the_dashboard_can_be_asked(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(of_dashboard())]
    assert len(rules) > 40
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}), "utf-8")
    promtool("check", "rules", path)


def test_rules_and_dashboard_name_metrics_that_there_are(exposition: bytes) -> None:
    asked = [*of_dashboard(), *expressions(yaml.safe_load(RULES.read_text("utf-8")))]
    named = {name for expr in asked for name in _NAME.findall(expr)}
    assert named - names(exposition) == set()


def test_the_dashboard_shows_every_metric(exposition: bytes) -> None:
    shown = {name for expr in of_dashboard() for name in _NAME.findall(expr)}
    shown |= {name.removesuffix("_bucket") + "_sum" for name in shown}
    shown |= {name.removesuffix("_bucket") + "_count" for name in shown}
    told = {name for name in names(exposition) if name.startswith("scheduler_")}
    assert told - shown == set()


def test_the_dashboard_goes_by_the_data_source_that_is_chosen() -> None:
    shown = dashboard()
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    panels = [panel for panel in shown["panels"] if panel["type"] != "row"]
    assert all(panel["datasource"] == chosen for panel in panels)
    assert all(target["datasource"] == chosen for panel in panels for target in panel["targets"])
    assert (
        shown["templating"]["list"][0] | {"name": "datasource", "type": "datasource"}
        == (shown["templating"]["list"][0])
    )


def test_the_panels_of_the_dashboard_have_places_and_numbers_of_their_own() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24
