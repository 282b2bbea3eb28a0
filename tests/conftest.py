"""A real browser for the tests of pages. Without one they are skipped, but never where it is required."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

REQUIRED = os.environ.get("BRIVIONIX_PAGES") == "required"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


@pytest.fixture(scope="module")  # while it is open, asyncio.run() of other tests would find a loop that runs
def browser() -> Iterator[Browser]:
    """Headless Chromium, of the system's package."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        lacking("no Chromium on this machine, so pages are not tried in a browser (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        yield found
        found.close()


@pytest.fixture(scope="session")
def pango() -> None:
    """What WeasyPrint needs of the system, and a font with Chinese letters."""
    from brivionix_billing import BillingError
    from brivionix_billing.pages.pdf import pdf

    try:
        pdf("<main>账单</main>")
    except BillingError as error:
        lacking(f"no PDF can be made on this machine: {error}")


def lacking(what: str) -> None:
    """Skip, or fail where nothing may be skipped."""
    if REQUIRED:
        pytest.fail(what)
    pytest.skip(what)
