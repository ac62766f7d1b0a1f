"""The dashboard in a real Chromium: what is on it, and what the browser complains of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Locator, Page, Request, expect, sync_playwright

from tests.end_to_end.daemon import PATIENCE
from tests.helpers import required_program

# A browser that asks nobody anything but what the page asks for.
_ARGUMENTS: Final = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
_UNREACHABLE: Final = re.compile(
    r"Failed to load resource: (net::ERR_|the server responded with a status of)"
)

expect.set_options(timeout=PATIENCE * 1000)


@contextmanager
def chromium() -> Iterator[Browser]:
    path = required_program("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Dashboard:
    """One page of one browser; far from the market's time zone, as an operator's may be."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.complaints: list[str] = []
        self.abroad: list[str] = []  # requests to other hosts
        settings: dict[str, Any] = {
            "viewport": {"width": 1440, "height": 900},
            "timezone_id": "America/New_York",
            "locale": "en-GB",
        }
        self.context = browser.new_context(**settings | options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.page.on("console", lambda message: self._said(message.type, message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._requested)

    def _said(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(text)

    def _requested(self, request: Request) -> None:
        if urlsplit(request.url).netloc != urlsplit(self.url).netloc and not request.url.startswith("data:"):
            self.abroad.append(request.url)

    def open(self, path: str = "/") -> Dashboard:
        """Go there, and wait until the day is drawn."""
        self.page.goto(self.url + path)
        self.page.wait_for_selector("html[data-ready]")
        return self

    def row(self, task: str) -> Locator:
        return self.page.locator(f'.row[data-task="{task}"]')

    def marks(self, task: str, kind: str) -> Locator:
        """The paths of one outcome in a row."""
        return self.row(task).locator(f'path[data-kind="{kind}"]')

    @property
    def panel(self) -> Locator:
        return self.page.locator("#panel")

    def button(self, name: str) -> Locator:
        return self.panel.get_by_role("button", name=name, exact=True)

    def expect_no_complaints(self, *, but_unreachable: bool = False) -> None:
        """``but_unreachable``: the scheduler was away, or refused something, which browsers call an error."""
        complaints = [each for each in self.complaints if not (but_unreachable and _UNREACHABLE.match(each))]
        assert complaints == []
        assert self.abroad == []

    def nameless(self) -> list[str]:
        """What can be used but has no name for a screen reader, and ids that are there twice."""
        return list(self.page.evaluate(_NAMELESS))

    def weak_texts(self) -> list[tuple[str, str]]:
        """Texts that stand out from what is behind them by less than 4.5 to 1, with that ratio."""
        return [(text, ratio) for text, ratio in self.page.evaluate(_WEAK)]

    def close(self) -> None:
        self.context.close()


_NAMELESS: Final = """() => {
    const named = (each) => each.ariaLabel || each.getAttribute("aria-labelledby") || each.innerText.trim()
        || each.labels?.length;
    const usable = [...document.querySelectorAll("button, input, [role=dialog], dialog, [role=log], aside")];
    const ids = [...document.querySelectorAll("[id]")].map((each) => each.id);
    return [
        ...usable.filter((each) => each.checkVisibility() && !named(each)).map((each) => each.outerHTML),
        ...ids.filter((id, place) => ids.indexOf(id) !== place),
    ];
}"""

_WEAK: Final = """() => {
    const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const rgba = (color) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const luminance = (color) => rgba(color).slice(0, 3).map((part) => part / 255)
        .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, k) => sum + part * [0.2126, 0.7152, 0.0722][k], 0);
    const ground = (node) => {
        for (let each = node; each; each = each.parentElement) {
            const color = getComputedStyle(each).backgroundColor;
            if (rgba(color)[3] === 255) return color;
        }
        return "Canvas";
    };
    const unread = ".unseen, .skip-link, :disabled, :disabled + span, [aria-disabled=true]";
    const weak = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const text = walker.currentNode.data.trim();
        const node = walker.currentNode.parentElement;
        if (!text || !node.checkVisibility({visibilityProperty: true}) || node.closest(unread)) continue;
        const style = getComputedStyle(node);
        const ink = luminance(node.closest("svg") ? style.fill : style.color);
        const behind = luminance(ground(node));
        const ratio = (Math.max(ink, behind) + 0.05) / (Math.min(ink, behind) + 0.05);
        if (ratio < 4.5) weak.push([text, ratio.toFixed(2)]);
    }
    return weak;
}"""
