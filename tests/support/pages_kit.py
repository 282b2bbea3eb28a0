"""Opens pages in the browser, records their requests, messages and errors, and checks that there are none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Dialog, Page

__all__ = ["Tab", "opened", "violations"]


class Tab:
    """A page in the browser, with its requests and messages."""

    def __init__(self, page: Page, path: Path) -> None:
        self.page, self.path = page, path
        self.requests: list[str] = []
        self.messages: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.messages.append(message.text))
        page.on("pageerror", lambda error: self.messages.append(str(error)))
        page.on("dialog", self._dialog)
        page.set_default_timeout(10_000)  # milliseconds

    def _dialog(self, dialog: Dialog) -> None:
        self.messages.append(f"a dialog: {dialog.message}")  # an injected script has run
        dialog.dismiss()

    def go(self, address: str = "") -> Tab:
        """Reload the page with a hash."""
        self.page.goto("about:blank")
        self.requests.clear()
        self.page.goto(self.path.as_uri() + address)
        return self

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all elements that match a selector."""
        texts: list[str] = self.page.eval_on_selector_all(selector, "all => all.map(one => one.textContent)")
        return texts

    def text(self, selector: str) -> str:
        """Return the text of the only element that matches a selector."""
        return self.page.locator(selector).inner_text()


@contextmanager
def opened(browser: Browser, path: Path, html: str, address: str = "", **options: Any) -> Iterator[Tab]:
    """Open a page from a file in a new browser context, and fail on any request or message."""
    path.write_text(html, encoding="utf-8")
    context = browser.new_context(**options)
    try:
        tab = Tab(context.new_page(), path).go(address)
        yield tab
        foreign = [url for url in tab.requests if not url.startswith(path.as_uri()) and not url.startswith("data:")]
        assert foreign == []
        assert tab.messages == []
    finally:
        context.close()


def violations(page: Page) -> list[str]:
    """Return the accessibility violations that axe-core finds in the page."""
    from axe_playwright_python.sync_playwright import Axe

    results = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['help']}: {[node['html'][:120] for node in one['nodes'][:3]]}" for one in results]
