"""Drives a real Chromium over the dashboard's pages, and says what is wrong with them.

with Browser.started() as browser, browser.session(demo.url) as session:
    session.log_in(demo.state.master_key)
    look = session.open("/ui")
    assert look.faults == []
    assert session.axe() == []
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser as Chromium
from playwright.sync_api import (
    CDPSession,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    Response,
    sync_playwright,
)
from playwright.sync_api import Error as BrowserError

from tests.support.chromium import CHROMIUM_ARGUMENTS, chromium_path

__all__ = [
    "FORMS",
    "LOOKS",
    "NARROW",
    "WIDE",
    "Browser",
    "BrowserError",
    "Form",
    "Look",
    "Session",
    "screens_folder",
]

Theme = Literal["light", "dark"]
WIDE, NARROW = 1440, 360
HEIGHT = 900
NARROW_HEIGHT = 780
QUIET_S = 0.15
"""A page is there when it has asked for nothing for so long."""
SETTLE_TIMEOUT_S = 30.0
REDRAWN_TIMEOUT_S = 10.0
PAGE_TIMEOUT_MS = 30_000
_AXE = Path(__file__).parent / "vendor" / "axe-4.14.1.min.js"
_ROOT = Path(__file__).resolve().parents[2]
_RUN_AXE = """
axe.run(document, {resultTypes: ['violations'], %s}).then((found) => found.violations.map((each) =>
  `${each.id} (${each.impact}): ${each.help}: ` +
  each.nodes.slice(0, 4).map((node) => node.html.slice(0, 160)).join(' · ')))
"""
_WIDTHS = """
(() => {
  const page = document.documentElement;
  const beyond = [...document.querySelectorAll('main *')].filter(
    (each) => each.getBoundingClientRect().right > page.clientWidth + 1
  ).slice(0, 5).map((each) => each.outerHTML.slice(0, 120));
  return {inner: page.clientWidth, scroll: page.scrollWidth, beyond: beyond};
})()
"""


@dataclass(frozen=True)
class Form:
    """How a page is looked at."""

    width: int
    theme: Theme

    @property
    def name(self) -> str:
        """Its part of a file's name."""
        return f"{self.width}-{self.theme}"


LOOKS = ("color-contrast", "link-in-text-block", "scrollable-region-focusable", "target-size")
"""The rules of axe-core that depend on a page's width or theme."""

FORMS = tuple(Form(width, theme) for width in (WIDE, NARROW) for theme in ("light", "dark"))


@dataclass
class Look:
    """What happened while a page was opened.

    `faults`: errors of the console (those of the content security policy are there), of scripts,
    requests that failed or had another host, answers of 400 and more. `bytes`: what went over the
    wire, with an empty cache. `seconds` until the page was there.
    """

    status: int = 0
    bytes: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


@cache
def screens_folder() -> Path:
    """Return the folder of screenshots, which git does not see."""
    folder = _ROOT / ".artefacts" / "screens"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Browser:
    """A running Chromium; each session of it has cookies and a cache of its own."""

    def __init__(self, chromium: Chromium) -> None:
        self._chromium = chromium

    @classmethod
    @contextmanager
    def started(cls) -> Iterator["Browser"]:
        """Run a Chromium with a new empty profile."""
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(
                executable_path=chromium_path(), args=list(CHROMIUM_ARGUMENTS)
            )
            try:
                yield cls(chromium)
            finally:
                chromium.close()

    @contextmanager
    def session(
        self, url: str, *, theme: Theme = "light", width: int = WIDE
    ) -> Iterator["Session"]:
        """Open a window on a gateway."""
        context = self._chromium.new_context(
            base_url=url,
            color_scheme=theme,
            reduced_motion="reduce",
            viewport={"width": width, "height": HEIGHT},
            locale="en-GB",
            timezone_id="UTC",
        )
        context.set_default_timeout(PAGE_TIMEOUT_MS)
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=url)
        try:
            yield Session(context.new_page(), url)
        finally:
            context.close()


class Session:
    """One window of somebody who looks at the dashboard. `page` is Playwright's own."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.look = Look()
        self._url = url
        self._bytes = 0
        self.faults: list[str] = []
        """All that was wrong since the window was opened."""
        self._under_way: set[Request] = set()
        self._quiet_since = time.monotonic()
        self._devtools: CDPSession = page.context.new_cdp_session(page)
        self._devtools.send("Network.enable")
        self._devtools.on("Network.loadingFinished", self._on_loaded)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self._fault(f"script: {error}"))
        page.on("dialog", self._on_dialog)
        page.on("request", self._on_request)
        page.on("requestfinished", self._on_end)
        page.on("requestfailed", self._on_failed)
        page.on("response", self._on_response)

    def log_in(self, key: str) -> None:
        """Log in with a key, by the form."""
        self.open("/ui/login")
        self.page.get_by_label("Key", exact=True).fill(key)
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_url(lambda url: "/ui/login" not in url)
        self.settle()

    def open(self, path: str) -> Look:
        """Open a page, wait until it is there, and return what happened meanwhile."""
        self.look = look = Look()
        before = self._bytes
        began = time.monotonic()
        answer = self.page.goto(path)
        self.settle()
        look.seconds = self._quiet_since - began
        look.bytes = self._bytes - before
        look.status = answer.status if answer is not None else 0
        return look

    def open_afresh(self, path: str) -> Look:
        """Open a page with an empty cache: all that it is made of is fetched."""
        self._devtools.send("Network.clearBrowserCache")
        return self.open(path)

    def settle(self) -> None:
        """Wait until nothing is fetched any more, but for streams of events, which stay open."""
        self.page.wait_for_load_state("load")
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while self._under_way or time.monotonic() - self._quiet_since < QUIET_S:
            if time.monotonic() > deadline:
                waiting = [request.url for request in self._under_way]
                raise AssertionError(f"the page does not come to rest: {waiting}")
            self.page.wait_for_timeout(20)

    def show(self, form: Form) -> None:
        """Look at the open page in another width and theme, without opening it again."""
        height = NARROW_HEIGHT if form.width == NARROW else HEIGHT
        self.page.set_viewport_size({"width": form.width, "height": height})
        self.page.emulate_media(color_scheme=form.theme)
        self.settle()

    def axe(self, *rules: str) -> list[str]:
        """Return what axe-core objects to in the open page, as it is shown now.

        `rules`: these of its rules alone; none: all.
        """
        # By the developer tools, which no content security policy keeps from the page.
        self._evaluate(_AXE.read_text() + ";0")
        found: list[str] = self._evaluate(_RUN_AXE % (f"runOnly: {list(rules)}" if rules else ""))
        return found

    def sideways(self) -> list[str]:
        """Return what of the open page is wider than the window; empty where nothing is.

        Charts take their new width a frame or two after the window: they are waited for.
        """
        deadline = time.monotonic() + REDRAWN_TIMEOUT_S
        while True:
            widths = self._evaluate(_WIDTHS)
            if widths["scroll"] <= widths["inner"]:
                return []
            if time.monotonic() > deadline:
                break
            self.page.wait_for_timeout(20)
        return [f"{widths['scroll']} px in {widths['inner']} px", *widths["beyond"]]

    def shoot(self, path: Path) -> None:
        """Keep a picture of the whole open page."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path, full_page=True)

    def _evaluate(self, expression: str) -> Any:
        answer = self._devtools.send(
            "Runtime.evaluate",
            {"expression": expression, "awaitPromise": True, "returnByValue": True},
        )
        if "exceptionDetails" in answer:
            raise AssertionError(str(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def _fault(self, text: str) -> None:
        self.look.faults.append(text)
        self.faults.append(text)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self._fault(f"console: {message.text}")

    def _on_dialog(self, dialog: Dialog) -> None:
        # No page asks in this way: a name was taken for a script.
        self._fault(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _on_loaded(self, event: dict[str, Any]) -> None:
        self._bytes += int(event["encodedDataLength"])

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((self._url, "data:")):
            self._fault(f"another host: {request.url}")
        if request.resource_type != "eventsource":
            self._under_way.add(request)

    def _on_end(self, request: Request) -> None:
        self._under_way.discard(request)
        self._quiet_since = time.monotonic()

    def _on_failed(self, request: Request) -> None:
        self._on_end(request)
        # What a page leaves behind is cut off, and that is well.
        if request.failure != "net::ERR_ABORTED":
            self._fault(f"failed: {request.method} {request.url}: {request.failure}")

    def _on_response(self, response: Response) -> None:
        if response.status >= 400:
            self._fault(f"answer {response.status}: {response.request.method} {response.url}")
