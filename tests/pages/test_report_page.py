"""Claims about the page of a report, and about the sections of a bill's page, in a browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from bill_kit import BOOK, OCTOBER, header, record, written
from brivionix_billing import PriceBook
from brivionix_billing.invoice import aggregate_usage, build_invoice, seal
from brivionix_billing.invoice.aggregation.dimensions import Dimensions
from brivionix_billing.pages import bill_page
from brivionix_billing.report import report_page
from pages_kit import opened, violations
from report_kit import COSTS, Json, cost_text, report

RECORDS = [record(n, account=f"acct_{n % 3}", token=f"a long name of a key, {n % 3}") for n in range(1, 14)]


@pytest.mark.parametrize(("scheme", "width", "locale"), [("light", 390, "en"), ("dark", 1280, "zh_CN")])
def test_axe_finds_nothing_in_a_report(browser: Browser, tmp_path: Path, scheme: str, width: int, locale: str) -> None:
    """The page of a report has no accessibility violations, asks for nothing, and fits the width of a phone."""
    records = [*RECORDS, record(99, model="gpt-9")]
    found = report(records, "account,day", costs=COSTS, compare=PriceBook.loads(cost_text(ratio="3")))
    options: Json = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    with opened(browser, tmp_path / "r.html", report_page(found, locale=locale), **options) as tab:
        assert violations(tab.page) == []
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_page_of_a_split_bill_checks_its_sections(browser: Browser, tmp_path: Path) -> None:
    """The sections fit a phone, and the page finds an altered figure in them."""
    lines = written([{**row, "account": "acct_1"} for row in RECORDS]).splitlines(keepends=True)
    usage = aggregate_usage(lines, BOOK, OCTOBER, dimensions=Dimensions(["token"])).accounts["acct_1"]
    page = bill_page(seal(build_invoice(usage, header(split="token"), BOOK)))
    marked = 'data-path="sections.parts.0.requests">'
    altered = page.replace(marked + "4", marked + "5")
    assert altered != page
    for html, expected in ((page, "This page is consistent"), (altered, "ALTERED")):
        with opened(browser, tmp_path / "b.html", html, viewport={"width": 390, "height": 800}) as tab:
            tab.page.locator("#verdict", has_text=expected).wait_for(timeout=10_000)
            assert violations(tab.page) == []
            assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390
