"""Who may come in: names that are ours, our own page, and over TCP whoever has the token."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.api.guard import Door, objection_to

UNIX = Door()
TCP = Door(frozenset({"desk1", "scheduler.desk.example"}), single_labels=False, token="t" * 16)
LOCAL = ("10.0.0.5", 8080)


def status(
    door: Door, path: str = "/api/tasks", *, method: str = "GET", version: str = "1.1", **headers: str
) -> int:
    """0: nothing speaks against it. A header's name is written with _ for -."""
    given = {"host": "localhost"} | headers
    scope: dict[str, Any] = {
        "type": "http", "method": method, "path": path, "http_version": version,
        "server": LOCAL if door.token else ("/run/sock", None),
        "headers": [
            (name.replace("_", "-").encode(), value.encode()) for name, value in given.items() if value
        ],
    }  # fmt: skip
    found = objection_to(scope, door)
    return 0 if found is None else int(found.status)


def known(**headers: str) -> dict[str, str]:
    return {"authorization": f"Bearer {'t' * 16}", **headers}


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8080",
        "LOCALHOST.",
        "app.localhost:1",
        "127.0.0.1",
        "127.9.9.9:80",
        "[::1]:8080",
    ],
)
def test_names_of_the_loopback_are_ours_everywhere(host: str) -> None:
    assert status(UNIX, host=host) == 0
    assert status(TCP, **known(host=host)) == 0


def test_a_name_without_a_dot_is_ours_at_the_socket_only() -> None:
    assert status(UNIX, host="scheduler") == 0
    assert status(TCP, **known(host="scheduler")) == 421


@pytest.mark.parametrize("host", ["desk1:8080", "Scheduler.Desk.Example", "10.0.0.5:8080"])
def test_over_tcp_the_names_of_this_host_and_the_address_connected_to_are_ours(host: str) -> None:
    assert status(TCP, **known(host=host)) == 0
    assert status(Door(), host=host) == (0 if "." not in host else 421)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example",
        "10.0.0.6", "[2001:db8::1]", "localhost:8080@evil.example", "localhost:", "a b", "-/", "[::1",
        "evil.example, localhost", "localhost\u00e9",
    ],
)  # fmt: skip
def test_any_other_name_is_misdirected(host: str) -> None:
    """As that of a page that was made to point here (DNS rebinding)."""
    assert status(UNIX, host=host) == 421
    assert status(TCP, **known(host=host)) == 421


def test_a_name_that_the_settings_give_is_ours_at_the_socket_too() -> None:
    assert status(Door(frozenset({"scheduler.desk.example"})), host="scheduler.desk.example") == 0


def test_a_request_has_one_host() -> None:
    assert status(UNIX, host="") == 400
    assert status(UNIX, host="", version="1.0") == 0  # of before there were any
    scope = {
        "type": "http", "method": "GET", "path": "/", "http_version": "1.1",
        "headers": [(b"host", b"localhost"), (b"host", b"evil.example")],
    }  # fmt: skip
    found = objection_to(scope, UNIX)
    assert found is not None
    assert found.status == 400


@pytest.mark.parametrize("door", [UNIX, TCP], ids=["socket", "tcp"])
def test_our_own_page_may_ask(door: Door) -> None:
    assert status(door, **known(host="localhost:8080", origin="http://localhost:8080")) == 0
    assert status(door, **known(host="LOCALHOST", origin="http://localhost")) == 0
    assert status(door, **known(host="localhost:443", origin="https://localhost")) == 0  # a proxy spoke TLS
    assert status(door, **known(sec_fetch_site="same-origin")) == 0
    assert status(door, **known(sec_fetch_site="none")) == 0


@pytest.mark.parametrize("door", [UNIX, TCP], ids=["socket", "tcp"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/healthz", "/api/reload", "/assets/page.js"])
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:3000", "host": "localhost:8080"},
        {"origin": "http://localhost", "host": "localhost:8080"},
        {"origin": "localhost", "host": "localhost"},
        {"origin": "://", "host": "localhost"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors", "sec_fetch_dest": "script"},
    ],
)
def test_another_web_site_may_not(door: Door, method: str, path: str, headers: dict[str, str]) -> None:
    assert status(door, path, method=method, **known(**headers)) == 403


def test_a_link_on_another_web_site_may_open_the_page_and_nothing_else() -> None:
    link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert status(UNIX, "/", **link) == 0
    assert status(UNIX, "/api/tasks", **link) == 403
    assert status(UNIX, "/", method="POST", **link) == 403


@pytest.mark.parametrize(
    "given",
    ["", "Bearer", "Bearer ", f"Bearer {'t' * 15}", f"Bearer {'t' * 17}", f"Basic {'t' * 16}", "t" * 16,
     "Bearer \u00e9", f"Bearer {'T' * 16}"],
)  # fmt: skip
def test_over_tcp_nobody_comes_in_without_the_token(given: str) -> None:
    assert status(TCP, authorization=given) == 401
    assert status(UNIX, authorization=given) == 0


def test_the_word_before_the_token_has_no_case() -> None:
    assert status(TCP, authorization=f"bearer {'t' * 16}") == 0


@pytest.mark.parametrize("path", ["/", "/healthz", "/assets/page.js"])
def test_what_holds_no_data_needs_no_token(path: str) -> None:
    assert status(TCP, path) == 0


@pytest.mark.parametrize(
    "path", ["/healthz/", "//", "/assets", "/metrics", "/openapi.json", "/api/events", "/readyz"]
)
def test_everything_else_does(path: str) -> None:
    assert status(TCP, path) == 401
