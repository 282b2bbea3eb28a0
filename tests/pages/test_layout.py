"""The layout of the pricing page: any price file fits every width, in light and dark and in both languages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from brivionix_billing import PriceBook
from brivionix_billing.pages import pricing_page
from pages_kit import Tab, opened, violations
from paths import DATA
from pricing_page_kit import look
from samples import AUTUMN, shipped
from token_kit import load_benchmark


def vendors() -> PriceBook:
    """Return twelve models of eight vendors, with prices, names and calendars that need more room than usual."""
    text = (DATA / "vendors.yaml").read_text(encoding="utf-8")
    for old, new in (
        ("models:\n  gpt-5.5:", "models:\n  accounts/inference/models/gpt-5.5-with-a-long-name:"),
        (
            "calendars:\n",
            "calendars:\n  night: {time_zone: Europe/Berlin, rules: [{from: 2026-01-01, hours: ['22:00-06:00']}]}\n"
            "  weekend: {time_zone: America/Lima, rules: [{from: 2026-01-01, weekdays: [sat], hours: ['00:00-24:00']}]}"
            "\n",
        ),
        (
            "windows: {deepseek-peak: {factor: 2}}",
            "windows: {deepseek-peak: {factor: 2}, night: {factor: 0.5}, weekend: {factor: 0.1}}",
        ),
        ("{input: 1, cache_read: 0.1, cache_write: 1.25", "{input: 15000, cache_read: 0.00002625, cache_write: 1.25"),
        ("cache_write_1h: 2, output: 5}", "cache_write_1h: 2, output: 123456.78}"),
        ("premium-with-a-long-name", "premium-customers-of-the-northern-region-with-committed-spend-of-a-year"),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    return PriceBook.loads(text)


BOOKS: dict[str, Callable[[], PriceBook]] = {
    "shipped": shipped,
    "vendors": vendors,
    "many": lambda: PriceBook.loads(load_benchmark("pricefile").price_file(500, groups=4)),
}
WIDTHS = (320, 390, 768, 1024, 1280, 1920)
VIEWS: tuple[dict[str, str], ...] = (
    {},
    {"view": "topup", "lang": "zh_CN", "unit": "1k"},
    {"compare": "input", "lang": "zh_CN"},
)
OPEN = "all => all.slice(0, 12).forEach(one => one.click())"
# Elements beyond the edges of the view, except those in the box of the comparison, which scrolls.
OUTSIDE = """() => {
  const width = document.documentElement.clientWidth, found = [];
  if (document.documentElement.scrollWidth > width) found.push(`the page: ${document.documentElement.scrollWidth}`);
  for (const element of document.querySelectorAll("body *:not(.scroll *, .unseen, option)")) {
    const box = element.getBoundingClientRect();
    if (box.width && (box.right > width + 0.5 || box.left < -0.5)) found.push(element.outerHTML.slice(0, 80));
  }
  return found;
}"""
# Texts of one row that overlap: heads of columns, prices and fields.
OVERLAPS = """() => {
  const found = [];
  const boxOf = (element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    return (element.matches("select, button:not(.price)") ? element : range).getBoundingClientRect();
  };
  for (const row of document.querySelectorAll("#controls, #table tr, .others > div, .calc, .amounts dl > div")) {
    const all = [...row.querySelectorAll("th, td, dt, dd, button, label, select")]
      .filter((element) => !(element.closest(".first") && row.closest(".scroll"))) // it is above the scrolled columns
      .map((element) => [element, boxOf(element)]).filter(([, box]) => box.width > 1 && box.height > 1);
    for (const [one, a] of all) for (const [other, b] of all) {
      if (one.contains(other) || other.contains(one)) continue;
      const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (width > 1 && height > 1) found.push(`${one.textContent} / ${other.textContent}`);
    }
  }
  return found;
}"""


@pytest.fixture(scope="module", params=BOOKS)
def page_of_a_book(
    request: pytest.FixtureRequest, browser: Browser, tmp_path_factory: Any
) -> Iterator[tuple[str, Tab]]:
    """The page of each price file."""
    html = pricing_page(BOOKS[request.param](), at=AUTUMN)
    with opened(browser, tmp_path_factory.mktemp("page") / "pricing.html", html) as tab:
        yield request.param, tab


def test_every_price_file_fits_every_width(page_of_a_book: tuple[str, Tab]) -> None:
    """Nothing is outside the page and no texts overlap, from 320 to 1920 pixels, also with details and comparison."""
    name, tab = page_of_a_book
    for state in VIEWS[:1] if name == "many" else VIEWS:
        tab.page.set_viewport_size({"width": 1280, "height": 900})
        look(tab, state)
        tab.page.eval_on_selector_all("#more, .expand", OPEN)
        for width in (320, 768, 1920) if name == "many" else WIDTHS:
            tab.page.set_viewport_size({"width": width, "height": 900})
            assert tab.page.evaluate(OUTSIDE) == [], (name, state, width)
            assert tab.page.evaluate(OVERLAPS) == [], (name, state, width)
        tab.page.evaluate("openModels.clear()")


def test_the_first_price_is_on_the_first_screen(page_of_a_book: tuple[str, Tab]) -> None:
    """At 390 x 844, search, group and the first price are visible without scrolling; filters and calculator are not."""
    _, tab = page_of_a_book
    tab.page.set_viewport_size({"width": 390, "height": 844})
    for address in ("", "#view=topup&lang=zh_CN", "#compare=output"):
        tab.go(address)
        bottom = tab.page.locator("#table .price").first.evaluate("one => one.getBoundingClientRect().bottom")
        assert bottom < 844
        for field in ("#search", "#group", "#topup"):
            assert tab.page.locator(field).is_visible()
        assert tab.page.locator("#filters").is_hidden()
        assert tab.page.locator("#calc").is_hidden()
    tab.page.click("#more")
    assert tab.page.locator("#tier").is_visible()


AXE_VIEWS: tuple[tuple[str, int, Any, dict[str, str]], ...] = (
    ("shipped", 1280, "light", {}),
    ("shipped", 390, "dark", {"view": "topup", "group": "partner", "sort": "output", "lang": "zh_CN"}),
    ("shipped", 1280, "dark", {"group": "free-trial", "unusable": "1", "n.input": "x"}),
    ("vendors", 390, "light", {"group": "saver"}),
    ("vendors", 768, "dark", {"compare": "input"}),
    ("many", 1280, "light", {"q": "vendor1-"}),
)


def test_axe_finds_nothing(page_of_a_book: tuple[str, Tab]) -> None:
    """With details, comparison and open sections, the page has no accessibility violations in light and dark."""
    name, tab = page_of_a_book
    for book, width, scheme, state in AXE_VIEWS:
        if book == name:
            tab.page.set_viewport_size({"width": width, "height": 844})
            tab.page.emulate_media(color_scheme=scheme)
            look(tab, state)
            tab.page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
            tab.page.eval_on_selector_all("#more, .expand", "all => all.slice(0, 6).forEach(one => one.click())")
            assert violations(tab.page) == [], (name, width, state)
            tab.page.evaluate("openModels.clear()")


def test_decimal_points_are_aligned(page_of_a_book: tuple[str, Tab]) -> None:
    """In each column, the decimal points of prices with up to six places are at the same position."""
    name, tab = page_of_a_book
    tab.page.set_viewport_size({"width": 1280, "height": 900})
    tab.go("#view=topup" if name == "vendors" else "")
    positions = tab.page.evaluate(
        """() => [0, 1, 2].map(column => [...document.querySelectorAll("#table tbody tr")].flatMap(row => {
          const price = row.children[column + 1] && row.children[column + 1].querySelector(":scope > .price");
          if (!price || !price.textContent.includes(".") || price.textContent.split(".")[1].length > 6) return [];
          const text = price.firstChild, range = document.createRange(), at = text.data.indexOf(".");
          range.setStart(text, at);
          range.setEnd(text, at + 1);
          return [range.getBoundingClientRect().left];
        }))"""
    )
    assert sum(map(len, positions)) >= 15
    for column in positions:
        assert max(column) - min(column) < 1.5
