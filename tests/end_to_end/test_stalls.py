"""A task that blocks the loop of the real daemon: named while it does, and shed for only while it lasts."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise

from tests.end_to_end.daemon import Desk, Entry, eventually

BLOCKING = """
import time


def wait_for_the_exchange():
    time.sleep(1.5)


async def watch(ctx):
    ctx.log.info("desk.begins")
    wait_for_the_exchange()
    ctx.log.info("desk.ends")


async def pulse():
    pass


async def crawl():
    with open("@/crawl", "a") as file:  # until told to be quick
        file.write("x\\n")
    if not quick():
        time.sleep(0.8)


def quick():
    try:
        open("@/quick").close()
    except FileNotFoundError:
        return False
    return True
"""


def at(entry: Entry) -> datetime:
    return datetime.fromisoformat(entry["timestamp"])


def test_a_task_that_blocks_is_named_with_its_frame_before_it_ends_and_a_task_may_hear_of_it(
    desk: Desk,
) -> None:
    desk.module("blocking", BLOCKING)
    desk.tasks(
        """
tasks:
  market-monitoring: {run: "blocking:watch", every: 5s, market: always}
  pulse: {run: "blocking:pulse", every: 1s, market: always, priority: critical}
  page: {command: [/bin/sh, -c, "echo {event} {task} >> @/paged"], on: [loop.stalled]}
"""
    )
    daemon = desk.run()
    recovered = daemon.wait_for("loop.recovered", task="market-monitoring")
    eventually(lambda: desk.lines("paged"), "the stall was heard of")
    assert daemon.stop() == 0

    run_id = recovered["run_id"]
    [begins] = daemon.seen("desk.begins", run_id=run_id)
    [ends] = daemon.seen("desk.ends", run_id=run_id)
    [stalled] = daemon.seen("loop.stalled", run_id=run_id)
    assert at(begins) < at(stalled) < at(ends) <= at(recovered)
    assert stalled["culprit"] == "market-monitoring"
    code = desk.code / "blocking.py"
    assert stalled["frame"] == f"{code}:6 in wait_for_the_exchange"
    assert stalled["stack"] == [f"{code}:11 in watch", stalled["frame"]]
    assert 0.5 <= stalled["seconds"] < recovered["seconds"]
    assert "isolation: thread" in stalled["hint"]
    assert desk.lines("paged")[0] == "loop.stalled market-monitoring"


def test_in_a_thread_or_a_process_the_same_task_blocks_nothing(desk: Desk) -> None:
    desk.module("blocking", BLOCKING)
    desk.tasks(
        """
tasks:
  threaded: {run: "blocking:watch", isolation: thread, every: 3s, market: always}
  processed: {run: "blocking:watch", isolation: process, every: 3s, market: always}
"""
    )
    daemon = desk.run()
    for task in ("threaded", "processed"):
        daemon.find("run.completed", task=task)
    assert daemon.stop() == 0
    assert not daemon.seen("loop.stalled", task="threaded")
    assert not daemon.seen("loop.stalled", task="processed")


def test_under_lasting_lag_the_nice_to_have_is_shed_each_run_on_record_and_critical_never(desk: Desk) -> None:
    desk.module("blocking", BLOCKING)
    desk.tasks(
        """
tasks:
  crawl: {run: "blocking:crawl", every: 1s, market: always, priority: critical}
  pulse: {run: "blocking:pulse", every: 1s, market: always, priority: critical}
  nice: {run: "blocking:pulse", every: 1s, market: always, priority: nice-to-have}
"""
    )
    daemon = desk.run()
    shedding = daemon.wait_for("load.shedding")
    assert "nice-to-have" in shedding["shed"]
    assert "critical" not in shedding["shed"]
    daemon.wait_for("run.skipped", task="nice", reason="shed")
    desk.file("quick").touch()
    normal = daemon.wait_for("load.normal")
    daemon.wait_for("run.completed", task="nice")
    assert daemon.stop() == 0

    rows = desk.history("nice")
    shed = [row for row in rows if (row["status"], row["reason"]) == ("skipped", "shed")]
    assert shed
    since, until = at(shedding) - timedelta(seconds=1), at(normal) + timedelta(seconds=1)
    assert all(since <= datetime.fromisoformat(row["due"]) <= until for row in shed)
    for task in ("nice", "pulse"):
        every = [
            datetime.fromisoformat(row["due"]) + timedelta(seconds=n)
            for row in sorted(desk.history(task), key=lambda row: str(row["due"]))
            for n in range(row["count"])
        ]
        assert all(after - before == timedelta(seconds=1) for before, after in pairwise(every)), every
    outcomes = Counter(row["reason"] for row in desk.history("pulse"))
    assert "shed" not in outcomes
