"""Opening pages in the browser: every request, message and error of a page is kept, and must be none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Dialog, Page

__all__ = ["Tab", "opened", "violations"]


class Tab:
    """A page in the browser."""

    def __init__(self, page: Page, path: Path) -> None:
        self.page, self.path = page, path
        self.requests: list[str] = []
        self.messages: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.messages.append(message.text))
        page.on("pageerror", lambda error: self.messages.append(str(error)))
        page.on("dialog", self._dialog)

    def _dialog(self, dialog: Dialog) -> None:
        self.messages.append(f"a dialog: {dialog.message}")  # a script of a name has run
        dialog.dismiss()

    def go(self, address: str = "") -> Tab:
        """Open the page anew, at an address of its own."""
        self.page.goto("about:blank")
        self.requests.clear()
        self.page.goto(self.path.as_uri() + address)
        return self

    def texts(self, selector: str) -> list[str]:
        """The texts of all that a selector finds."""
        found: list[str] = self.page.eval_on_selector_all(selector, "all => all.map(one => one.textContent)")
        return found

    def text(self, selector: str) -> str:
        """The text of the one that a selector finds."""
        return self.page.locator(selector).inner_text()


@contextmanager
def opened(browser: Browser, path: Path, html: str, address: str = "", **options: Any) -> Iterator[Tab]:
    """The page from a file, in a browser that knows nothing yet. It may ask for nothing and complain of nothing."""
    path.write_text(html, encoding="utf-8")
    context = browser.new_context(**options)
    try:
        tab = Tab(context.new_page(), path).go(address)
        yield tab
        others = [url for url in tab.requests if not url.startswith(path.as_uri()) and not url.startswith("data:")]
        assert others == []
        assert tab.messages == []
    finally:
        context.close()


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong with the page as it stands."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['help']}: {[node['html'][:120] for node in one['nodes'][:3]]}" for one in found]
