"""Scheduled changes on the pricing page: their dates, order and texts, with and without scripts."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Browser

from brivionix_billing.pages import pricing_page
from pages_kit import opened
from pricing_page_kit import LANGUAGES
from samples import AUTUMN, book_of


def test_scheduled_changes_have_their_dates(browser: Browser, tmp_path: Path) -> None:
    """Scheduled changes of prices, models and the price of a Credit are listed with dates, in prices of the view."""
    book = book_of(
        "{from: 2026-01-01, standard: {input: 1, output: 2}}, {from: 2026-12-01, standard: {input: 1.25, output: 2}},"
        "{from: 2027-01-15T08:30:00Z, until: 2027-06-01, standard: {input: 1.25, output: 3}}",
        channel="{currency: CNY, prices: [{from: 2026-01-01, price_per_credit: 0.85},"
        " {from: 2027-02-01, price_per_credit: 0.9}]}",
        top="tools: {web_search: [{from: 2026-01-01, per_1000_calls: 10}, {from: 2027-03-01, per_1000_calls: 12}]}\n",
    )
    html = pricing_page(book, at=AUTUMN)
    with opened(browser, tmp_path / "p.html", html) as tab:
        assert tab.texts("#changes-list li") == [
            "Dec 1, 2026m · StandardInput: $1.00 → $1.25",
            "Jan 15, 2027 08:30 UTCm · StandardOutput: $2.00 → $3.00",
            "Feb 1, 20271 Credit through c: CN¥0.85 → CN¥0.90. All Top Up prices of c change with it.",
            "Mar 1, 2027mWeb search: $10.00 → $12.00 per 1,000 calls",
            "Jun 1, 2027m · Standarddiscontinued",
        ]
        tab.go("#view=topup")
        texts = tab.texts("#changes-list li")
        assert texts[0].endswith("Input: CN¥0.85 → CN¥1.0625")  # exact, because rounded prices can look the same
        assert texts[3].endswith("Web search: CN¥9.00 → CN¥10.80 per 1,000 calls")  # at the Credit's price of that day
    with opened(browser, tmp_path / "p.html", html, java_script_enabled=False) as tab:
        assert "Dec 1, 2026: m · Standard: Input: $1.00 → $1.25" in tab.page.locator("body").inner_text()


def test_changes_are_the_same_with_and_without_scripts(browser: Browser, tmp_path: Path) -> None:
    """With and without scripts, the page lists the same scheduled changes, in the same order."""
    long = ", long_context: {above: 1000, input: 2}}"
    longer = long.replace("1000", "2000")
    book = book_of(
        "{from: 2026-01-01, standard: {input: 1}},"
        f"{{from: 2026-12-01, standard: {{input: 1{long}, flex: {{input: 0}}}},"
        f"{{from: 2027-01-01, until: 2027-02-01, standard: {{input: 1{longer}}}",
        channel="{currency: CNY, prices: [{from: 2026-01-01, until: 2027-01-15, price_per_credit: 0.85}]}",
        top="tools: {web_search: [{from: 2026-01-01, per_1000_calls: 10}, {from: 2027-01-01, per_1000_calls: 12}]}\n",
    )
    for language in LANGUAGES:
        html = pricing_page(book, at=AUTUMN, locale=language)
        with opened(browser, tmp_path / "p.html", html) as tab:
            scripted = [re.sub(r"\W", "", text) for text in tab.texts("#changes-list li")]
        with opened(browser, tmp_path / "p.html", html, java_script_enabled=False) as tab:
            static = [re.sub(r"\W", "", text) for text in tab.page.locator("#prices li").all_text_contents()]
        assert scripted == static
        assert len(scripted) == 6


def test_what_begins_later_has_its_names(browser: Browser, tmp_path: Path) -> None:
    """A tier or meter without a current price is named in the changes, but has no filter and no column."""
    book = book_of(
        "{from: 2026-01-01, standard: {input: 1}}, {from: 2026-12-01, standard: {input: 1, audio_input: 40}},"
        "{from: 2026-12-02, flex: {input: 0.5}}"
    )
    with opened(browser, tmp_path / "p.html", pricing_page(book, at=AUTUMN), "#unit=1k") as tab:
        assert tab.texts("#changes-list li") == [
            "Dec 1, 2026m · StandardAudio input: – → $0.04",
            "Dec 2, 2026m · Flexnew; Input: $0.0005",
        ]
        assert "undefined" not in tab.text("body")
        assert "Flex" not in tab.text("#tier")
        assert tab.texts("#table .price") == ["$0.001"]
        # Cached input and output have no price, so the calculator starts without them.
        assert tab.texts("#result dd")[0] == "$0.012"
        assert tab.page.locator("#calc-meters input").count() == 1
