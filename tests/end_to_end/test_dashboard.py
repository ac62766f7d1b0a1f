"""The dashboard, as an operator sees and uses it: a real browser before the real process."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest
from playwright.sync_api import Browser, expect

from scheduler.core.messages import HOUR, MINUTE, Instant, Status
from tests.end_to_end.browser import Dashboard, chromium
from tests.end_to_end.daemon import CHECKOUT, PATIENCE, Daemon, Desk, eventually
from tests.end_to_end.ledgers import run, write_ledger
from tests.end_to_end.proxy import Proxy
from tests.helpers import instant

# A market with the hours of the NSE on every day, so that no test depends on the calendar of today.
MARKET = """
default: DESK
markets:
  DESK:
    timezone: Asia/Kolkata
    weekdays: mon-sun
    hours: [{phases: {pre-open: "09:00..09:15", open: "09:15..15:30", post-close: "15:50..16:00"}}]
"""
TASKS = """
timezone: Asia/Kolkata
cache: {prices: {ttl: 5s}}
tasks:
  watch: {command: [/bin/sh, -c, "test ! -e @/broken"], every: 1s, priority: critical}
  parks:
    command: ["false"]
    every: 1s
    restart: {policy: on-failure, burst: 1, then: park}
  square-off: {command: ["true"], at: close-20m, priority: critical}
  report: {command: [/bin/sh, -c, "echo ran >> @/report; exec sleep 600"], on: [clock.stepped]}
  news: {command: ["true"], every: 1s, priority: nice-to-have}
"""
DASHBOARD = CHECKOUT / "scheduler" / "dashboard"
Look: TypeAlias = Callable[..., Dashboard]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def served(desk: Desk) -> Iterator[Proxy]:
    """A port that leads to the desk's daemon, whichever that is."""
    (desk.config / "markets.yaml").write_text(MARKET, "utf-8")
    proxy = Proxy(desk.state / "scheduler.sock")
    yield proxy
    proxy.close()


@pytest.fixture
def look(browser: Browser, served: Proxy) -> Iterator[Look]:
    pages: list[Dashboard] = []

    def opened(path: str = "/", **options: object) -> Dashboard:
        pages.append(Dashboard(browser, served.url, **options))
        return pages[-1].open(path)

    yield opened
    for page in pages:
        page.close()


@pytest.fixture
def daemon(desk: Desk, served: Proxy) -> Daemon:
    desk.tasks(TASKS)
    started = desk.run()
    started.wait_for("daemon.ready")
    return started


def day(offset: int) -> str:
    """The market's date, so many days from today."""
    here = datetime.now(UTC) + timedelta(hours=5, minutes=30, days=offset)
    return here.date().isoformat()


def at(date: str, time: str) -> Instant:
    return instant(f"{date}T{time}+05:30")


class Answer(NamedTuple):
    status: int
    headers: Message
    body: bytes


def ask(proxy: Proxy, path: str, headers: dict[str, str] | None = None) -> Answer:
    """The path as it stands, which browsers would tidy up."""
    connection = HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE)
    with closing(connection):
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())


def assets() -> list[str]:
    return sorted(
        path.name for path in (CHECKOUT / "scheduler" / "dashboard").iterdir() if path.name != "index.html"
    )


def test_the_page_shows_phases_and_tasks_by_priority_asks_nobody_else_and_has_no_complaints(
    daemon: Daemon, look: Look
) -> None:
    board = look("/#view=day")
    page = board.page
    expect(page.locator("#connection")).to_have_text("live")
    expect(page.locator("#day-title")).to_contain_text("Today")
    expect(page.locator("#day-note")).to_have_text(re.compile("^00:00 . 00:00 IST$"))
    names = page.locator("#rows .row").evaluate_all("rows => rows.map(row => row.dataset.task)")
    assert names == ["square-off", "watch", "parks", "report", "news"]
    assert page.locator("#rows h3").all_inner_texts() == ["CRITICAL 2", "IMPORTANT 2", "NICE TO HAVE 1"]
    phases = page.locator("#backdrop .phase").evaluate_all("all => all.map(each => each.dataset.phase)")
    assert phases == ["pre-open", "open", "post-close"]
    expect(page.locator("#now-line")).to_have_attribute("display", "inline")
    expect(board.marks("watch", "completed")).to_have_count(1)
    expect(board.marks("watch", "planned")).to_have_count(1)
    expect(page.locator("#cache")).to_contain_text("prices")
    expect(page.locator("#lateness")).to_contain_text("median")
    board.expect_no_complaints()


def test_the_page_lets_nothing_else_in_and_serves_its_own_files_only(daemon: Daemon, served: Proxy) -> None:
    page = ask(served, "/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    again = ask(served, "/", {"if-none-match": page.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    styles = ask(served, "/assets/page.css")
    assert (styles.status, styles.headers["content-type"]) == (200, "text/css; charset=utf-8")
    others = ["index.html", "..%2fdaemon.py", "%2e%2e/daemon.py", "../daemon.py", "nothing.js", "/etc/passwd"]
    assert {path: ask(served, f"/assets/{path}").status for path in others} == dict.fromkeys(others, 404)
    text = page.body + b"".join(ask(served, f"/assets/{name}").body for name in assets())
    assert re.findall(rb"https?://(?!www\.w3\.org/2000/svg)[^\"' ]+", text) == []
    assert re.findall(rb"<script>|<style|style=|onclick=|innerHTML|eval\(", text) == []


def test_a_task_that_fails_is_seen_to_fail_and_to_recover_without_a_touch(
    desk: Desk, daemon: Daemon, look: Look
) -> None:
    board = look("/#view=hour")
    trouble = board.page.locator('.trouble[data-name="watch"]')
    expect(board.row("watch")).to_have_attribute(
        "aria-label", re.compile(r"watch, critical, \w+; last completed")
    )
    expect(trouble).to_have_count(0)
    desk.file("broken").touch()
    expect(trouble).to_contain_text("critical")
    expect(trouble).to_contain_text("exit status 1")
    expect(board.marks("watch", "failed").first).to_be_attached()
    expect(board.page.locator("#log")).to_contain_text("watch failed")
    expect(board.page.locator("#log")).to_contain_text("watch restarting")
    expect(board.page.locator("#announcer")).to_contain_text("watch")
    expect(board.row("watch")).to_have_class(re.compile("troubled"))
    desk.file("broken").unlink()
    expect(trouble).to_have_count(0)
    expect(board.row("watch")).not_to_have_class(re.compile("troubled"))
    board.expect_no_complaints()


def test_what_is_parked_stands_first_and_is_resumed_where_it_stands(daemon: Daemon, look: Look) -> None:
    daemon.wait_for("task.parked", task="parks")
    board = look()
    trouble = board.page.locator('.trouble[data-name="parks"]')
    expect(trouble).to_contain_text("is parked after 1 failures in a row; ")
    expect(board.page).to_have_title("(1) Scheduler")
    trouble.get_by_role("button", name="Resume parks").click()
    assert daemon.wait_for("task.resumed")["task"] == "parks"
    daemon.wait_for("task.parked", task="parks")
    board.expect_no_complaints()


def test_a_pause_and_its_end_by_button(daemon: Daemon, look: Look) -> None:
    board = look("/#task=news")
    expect(board.panel).to_contain_text("it runs every 1s")
    board.button("Pause").click()
    assert daemon.wait_for("task.paused")["task"] == "news"
    expect(board.row("news")).to_have_attribute("data-state", "paused")
    expect(board.page.locator('.trouble[data-name="news"]')).to_contain_text("is paused until it is resumed")
    expect(board.panel.locator(".outcome")).to_have_text("Paused.")
    expect(board.button("Pause")).to_have_attribute("aria-disabled", "true")
    board.button("Resume").click()
    daemon.wait_for("task.resumed", task="news")
    expect(board.row("news")).not_to_have_attribute("data-state", "paused")
    board.expect_no_complaints()


def test_a_run_by_button_and_its_cancellation(desk: Desk, daemon: Daemon, look: Look) -> None:
    board = look("/#task=report")
    board.button("Run now").click()
    expect(board.panel.locator(".outcome")).to_contain_text("Started: report-")
    eventually(lambda: desk.lines("report") == ["ran"], "it ran")
    expect(board.row("report")).to_have_attribute("data-state", "running")
    expect(board.marks("report", "running").first).to_be_attached()
    expect(board.button("Cancel run")).to_have_attribute("aria-disabled", "false")
    board.button("Cancel run").click()
    daemon.wait_for("run.cancelled", task="report")
    expect(board.row("report")).to_have_attribute("data-state", "waiting")
    expect(board.panel.locator("#last-runs")).to_contain_text("cancelled")
    board.expect_no_complaints()


def test_what_is_critical_is_asked_about_once_more_and_the_reason_is_on_record(
    desk: Desk, daemon: Daemon, look: Look
) -> None:
    board = look("/#task=square-off")
    dialog = board.page.get_by_role("dialog", name="Run now: square-off?")
    board.button("Run now").click()
    expect(dialog).to_contain_text("It is critical")
    dialog.get_by_role("button", name="Leave it").click()
    expect(dialog).to_be_hidden()
    board.button("Run now").click()
    dialog.get_by_role("textbox").fill("the feed was late")
    dialog.get_by_role("button", name="Run now").click()
    daemon.wait_for("run.completed", task="square-off")
    expect(board.panel.locator("#last-runs")).to_contain_text("manual")
    expect(board.page.locator("#log")).to_contain_text("the feed was late")
    assert len(desk.history("square-off")) == 1
    board.expect_no_complaints()


def test_why_something_cannot_be_done_stands_beside_the_button(daemon: Daemon, look: Look) -> None:
    board = look("/#task=news")
    board.page.route(
        "**/api/tasks/news/run", lambda route: route.fulfill(status=409, json={"detail": "news is busy"})
    )
    board.button("Run now").click()
    expect(board.panel.locator(".outcome")).to_have_text("news is busy")
    expect(board.panel.locator(".outcome")).to_have_class(re.compile("error"))
    board.expect_no_complaints(but_unreachable=True)


def test_an_open_page_outlives_the_daemon_and_shows_the_next_one(
    desk: Desk, daemon: Daemon, look: Look
) -> None:
    board = look()
    expect(board.page.locator("#connection")).to_have_text("live")
    assert daemon.stop() == 0
    expect(board.page.locator("#connection")).to_contain_text("reconnecting")
    desk.tasks(TASKS + '  fresh: {command: ["true"], every: 1s}\n')
    desk.run().wait_for("daemon.ready")
    expect(board.page.locator("#connection")).to_have_text("live")
    expect(board.row("fresh")).to_be_visible()
    expect(board.marks("fresh", "completed")).to_have_count(1)
    board.expect_no_complaints(but_unreachable=True)


def test_yesterday_is_from_the_ledger_and_tomorrow_from_the_plan(
    desk: Desk, served: Proxy, look: Look
) -> None:
    date = day(-1)
    start = at(date, "10:00:00")
    records = [run("square-off", start + k * MINUTE) for k in range(20)]
    records += [
        run("square-off", start + HOUR, Status.FAILED, "error", "OSError: no broker"),
        run("square-off", start + HOUR, attempt=2),
        run("square-off", start + 2 * HOUR, Status.SKIPPED, "overlap"),
        run("square-off", start + 3 * HOUR, Status.CANCELLED, "operator"),
        run("retired", start),
    ]
    write_ledger(desk.state / "ledger.db", records)
    desk.tasks(TASKS)
    desk.run().wait_for("daemon.ready")
    board = look()
    page = board.page
    page.get_by_role("button", name="Previous day").click()
    expect(page.locator("#day-title")).to_contain_text("Yesterday")
    for kind in ("completed", "failed", "retried", "skipped", "cancelled"):
        expect(board.marks("square-off", kind).first).to_be_attached()
    expect(board.marks("square-off", "planned")).to_have_count(0)
    expect(board.row("retired")).to_have_attribute("aria-label", re.compile("no longer defined"))
    expect(page.locator("#now-line")).to_have_attribute("display", "none")

    lane = board.row("square-off").locator(".lane")
    width = lane.bounding_box()["width"]  # type: ignore[index]
    lane.hover(position={"x": width * 3 / 9, "y": 11})  # 11:00 of 08:00 to 17:00
    expect(page.locator("#tip")).to_contain_text("failed (error)")
    expect(page.locator("#tip")).to_contain_text("11:00:00")
    expect(page.locator("#tip")).to_contain_text("OSError: no broker")

    page.keyboard.press("]")
    page.keyboard.press("]")
    expect(page.locator("#day-title")).to_contain_text("Tomorrow")
    assert f"day={day(1)}" in page.url
    expect(board.marks("square-off", "planned")).to_have_count(1)
    expect(board.marks("square-off", "completed")).to_have_count(0)
    page.get_by_role("button", name="Now", exact=True).click()
    expect(page.locator("#day-title")).to_contain_text("Today")
    board.expect_no_complaints()


def test_the_hour_moves_on_although_an_answer_takes_longer_than_a_tick(daemon: Daemon, look: Look) -> None:
    board = look("/#view=hour")
    page = board.page
    note = page.locator("#day-note").inner_text()
    page.evaluate(_SLOW, {"slow": 2_500, "later": 11 * 60_000})
    expect(page.locator("#day-note")).not_to_have_text(note)
    asked = page.evaluate("asked")
    page.wait_for_timeout(3_000)
    assert page.evaluate("asked") <= asked + 2  # there is enough of the hour left
    board.expect_no_complaints()


_SLOW = """({slow, later}) => {
    const real = window.fetch;
    window.asked = 0;
    window.fetch = async (url, options) => {
        const answer = await real(url, options);
        if (url.startsWith("/api/timeline")) {
            window.asked += 1;
            await new Promise((resolve) => setTimeout(resolve, slow));
        } else if (url.startsWith("/api/system/tasks")) {
            const system = await answer.json();
            system.timestamp = new Date(Date.parse(system.timestamp) + later).toISOString();
            return new Response(JSON.stringify(system));
        }
        return answer;
    };
}"""


def test_times_are_those_of_the_zone_whatever_the_browser_has_and_its_clocks_do(
    daemon: Daemon, look: Look
) -> None:
    board = look()
    expect(board.page.locator("#clock small")).to_have_text("IST")
    script = """async ([name, date]) => {
        const { Zone } = await import("/assets/time.js");
        const zone = new Zone(name);
        const midnight = zone.midnight(date);
        return [new Date(midnight).toISOString().slice(0, 16), zone.date(midnight), zone.clock(midnight)];
    }"""
    midnights = {
        ("Asia/Kolkata", "2026-11-23"): "2026-11-22T18:30",
        ("America/New_York", "2026-03-08"): "2026-03-08T05:00",  # clocks go forward at 02:00
        ("America/New_York", "2026-03-09"): "2026-03-09T04:00",
        ("America/New_York", "2026-11-01"): "2026-11-01T04:00",  # and back
        ("America/New_York", "2026-11-02"): "2026-11-02T05:00",
        ("Pacific/Auckland", "2026-04-05"): "2026-04-04T11:00",
    }
    found = {each: board.page.evaluate(script, list(each)) for each in midnights}
    assert found == {each: [at, each[1], "00:00:00"] for each, at in midnights.items()}


def test_a_tap_tells_of_a_run_and_a_second_one_opens_its_task(daemon: Daemon, look: Look) -> None:
    daemon.wait_for("run.completed", task="watch")
    board = look("/#view=hour", has_touch=True, viewport={"width": 390, "height": 844})
    expect(board.marks("watch", "completed")).to_have_count(1)
    lane = board.row("watch").locator(".lane")
    lane.scroll_into_view_if_needed()
    box = lane.bounding_box()
    assert box is not None
    place = (box["x"] + box["width"] * 0.755, box["y"] + 10)  # 45 of the 60 minutes are over, and half of one
    board.page.touchscreen.tap(*place)
    expect(board.page.locator("#tip")).to_contain_text(re.compile("completed|running"))  # it runs each second
    expect(board.panel).to_be_hidden()
    board.page.touchscreen.tap(*place)
    expect(board.panel).to_be_visible()
    board.expect_no_complaints()


def test_all_of_it_can_be_done_from_the_keyboard(daemon: Daemon, look: Look) -> None:
    daemon.wait_for("run.completed", task="news")
    board = look()
    page = board.page
    expect(board.marks("news", "completed")).to_have_count(1)  # there is a run to go to
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('row')"):
            break
    expect(board.row("square-off")).to_be_focused()  # the first
    page.keyboard.press("End")
    expect(board.row("news")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#tip")).to_be_visible()
    expect(page.locator("#announcer")).to_contain_text(re.compile("completed|running"))
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    expect(board.row("watch")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#panel-title")).to_be_focused()
    expect(page.locator("#panel-title")).to_have_text("watch")
    assert "task=watch" in page.url
    for _ in range(3):  # past the closing button, to the second action
        page.keyboard.press("Tab")
    expect(board.button("Pause")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.type("by hand")  # the reason has the focus
    page.keyboard.press("Enter")
    paused = daemon.wait_for("task.paused", task="watch")
    assert paused["reason"] == "by hand"
    page.keyboard.press("Escape")
    expect(board.panel).to_be_hidden()
    expect(board.row("watch")).to_be_focused()
    board.expect_no_complaints()


def test_all_of_it_has_a_name_for_those_who_hear_it(daemon: Daemon, look: Look) -> None:
    board = look("/#task=watch")
    page = board.page
    expect(board.button("Pause")).to_be_visible()
    expect(board.row("watch")).to_have_attribute(
        "aria-label",
        re.compile(r"^watch, critical, \w+; last completed [\d:]{8}; next [\d:]{8}\. Shown: \d+ completed"),
    )
    assert board.nameless() == []
    page.get_by_role("button", name="Table", exact=True).click()
    table = page.get_by_role("table", name=re.compile("Tasks, and what became of their runs"))
    expect(table.get_by_role("row")).to_have_count(6)
    expect(table.get_by_role("row", name=re.compile("^watch critical"))).to_contain_text("completed")
    board.expect_no_complaints()


def test_over_tcp_it_asks_for_the_token_and_keeps_it_out_of_the_address(
    desk: Desk, browser: Browser, served: Proxy, tmp_path: Path
) -> None:
    secret = tmp_path / "token"
    secret.touch(mode=0o600)
    secret.write_text("a token of the desk\n".replace(" ", "-"), "utf-8")
    desk.tasks(TASKS)
    daemon = desk.run(SCHEDULER_LISTEN="127.0.0.1:0", SCHEDULER_TOKEN_FILE=str(secret))
    place = daemon.wait_for("api.listening")["at"][-1]
    board = Dashboard(browser, f"http://{place}")
    board.page.goto(board.url)
    dialog = board.page.get_by_role("dialog", name="Token")
    dialog.get_by_label("Token", exact=True).fill("a-guess-at-the-token")
    dialog.get_by_role("button", name="Open").click()
    expect(dialog.get_by_role("alert")).to_have_text("That token was refused.")
    dialog.get_by_label("Token", exact=True).fill("a-token-of-the-desk")
    dialog.get_by_role("button", name="Open").click()
    expect(board.row("watch")).to_be_visible()
    expect(board.page.locator("#connection")).to_have_text("live")
    expect(board.page.locator("#facts")).to_contain_text("look only")
    board.page.reload()
    expect(board.row("watch")).to_be_visible()
    board.row("watch").click(position={"x": 30, "y": 10})
    expect(board.panel).to_contain_text("Last runs")
    expect(board.panel.locator(".actions")).to_be_hidden()
    board.expect_no_complaints(but_unreachable=True)
    board.close()

    linked = Dashboard(browser, f"http://{place}").open("/#task=watch&token=a-token-of-the-desk")
    expect(linked.panel).to_contain_text("Last runs")
    assert linked.page.url == f"http://{place}/#task=watch"
    linked.expect_no_complaints()
    linked.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_it_is_readable_light_and_dark_wide_and_narrow(
    daemon: Daemon, look: Look, tmp_path: Path, scheme: str, width: int
) -> None:
    daemon.wait_for("task.parked", task="parks")
    board = look("/", color_scheme=scheme, viewport={"width": width, "height": 844})
    page = board.page
    expect(page.locator(".trouble")).to_have_count(1)
    expect(board.marks("watch", "completed")).to_have_count(1)
    page.screenshot(path=tmp_path / f"{scheme}-{width}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert board.weak_texts() == []
    board.row("parks").click(position={"x": 30, "y": 10})
    expect(board.panel).to_be_visible()
    expect(board.panel.locator("#last-runs")).to_contain_text("failed")
    page.screenshot(path=tmp_path / f"{scheme}-{width}-task.png")
    assert board.weak_texts() == []
    if width == 390:
        box = board.panel.bounding_box()
        assert box is not None
        assert (box["x"], box["width"]) == (0, 390)
    dark = page.evaluate("getComputedStyle(document.documentElement).colorScheme")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Light or dark").click()
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") != dark
    board.expect_no_complaints()
