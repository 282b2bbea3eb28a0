"""A browser tab with the pricing page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser

from brivionix_billing.pages import pricing_page
from brivionix_billing.pages.formatting import LocaleFormatter
from pages_kit import Tab, opened
from samples import AUTUMN, shipped

__all__ = ["LANGUAGES", "calculate", "look", "tab"]

LANGUAGES = {name: LocaleFormatter(name) for name in ("en", "zh_CN")}


@pytest.fixture(scope="module")
def tab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """The page of the shipped price file."""
    html = pricing_page(shipped(), at=AUTUMN)
    with opened(browser, tmp_path_factory.mktemp("page") / "pricing.html", html) as page_tab:
        yield page_tab


def look(tab: Tab, state: dict[str, Any]) -> None:
    """Set the hash of a view and render it, without reloading the page."""
    tab.page.evaluate("hash => { location.hash = hash; stateFromHash(); render(); }", urlencode(state))


def calculate(tab: Tab, state: dict[str, Any]) -> None:
    """Set the hash of a view and render its calculator only."""
    tab.page.evaluate("hash => { location.hash = hash; stateFromHash(); renderCalculator(); }", urlencode(state))
