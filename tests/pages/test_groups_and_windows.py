"""Discounts, groups side by side and peak windows on the pricing page."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser

from brivionix_billing import PriceBook
from brivionix_billing.pages import price_list, pricing_page
from brivionix_billing.pages.formatting import round_for_display
from brivionix_billing.pages.static_prices import discount_text
from pages_kit import Tab, opened
from paths import DATA
from pricing_page_kit import LANGUAGES, look
from samples import AUTUMN, utc


@pytest.fixture(scope="module")
def vendors() -> PriceBook:
    """Return the price book of twelve models of eight vendors."""
    return PriceBook.load(DATA / "vendors.yaml")


@pytest.fixture(scope="module")
def vendor_tab(browser: Browser, tmp_path_factory: pytest.TempPathFactory, vendors: PriceBook) -> Iterator[Tab]:
    """The page of that book."""
    html = pricing_page(vendors, at=AUTUMN)
    with opened(browser, tmp_path_factory.mktemp("page") / "pricing.html", html) as tab:
        yield tab


def test_discounts_are_said_as_customers_say_them(vendor_tab: Tab) -> None:
    """A group names its discount, and each price that is lower than the list price has that struck through."""
    look(vendor_tab, {"group": "saver"})
    assert vendor_tab.text("#about") == "65% below list price"
    assert "Struck through: list price." in vendor_tab.text("#view")
    assert vendor_tab.texts("#table tbody tr:first-child td") == ["$1.75$5.00", "$0.175$0.50", "$10.50$30.00"]
    assert vendor_tab.texts("#table tbody tr:first-child s") == ["$5.00", "$0.50", "$30.00"]
    look(vendor_tab, {"group": "saver", "lang": "zh_CN"})
    assert vendor_tab.text("#about") == "官方价 3.5 折"
    look(vendor_tab, {"group": "premium-with-a-long-name"})
    assert vendor_tab.text("#about") == "20% above list price"
    assert vendor_tab.texts("#table s") == []


def test_prices_are_compared_within_one_currency(vendor_tab: Tab) -> None:
    """Through a channel, prices are compared with list prices in its currency only: no exchange rate is applied."""
    look(vendor_tab, {"group": "saver", "view": "topup", "channel": "stripe"})
    assert vendor_tab.text("#about") == "95.8% below list price"  # 0.35 x 0.12
    assert vendor_tab.texts("#table tbody tr:first-child s") == ["$5.00", "$0.50", "$30.00"]
    look(vendor_tab, {"group": "saver", "view": "topup", "channel": "rmb"})
    assert vendor_tab.text("#about") == ""
    # DeepSeek's list prices are in CNY, and 12 CNY x 0.14 x 0.35 x 0.85 are less.
    assert vendor_tab.texts("#table s") == ["CN¥12.00", "CN¥0.10", "CN¥24.00"]


def test_the_browser_rounds_and_names_discounts_as_the_library(vendor_tab: Tab) -> None:
    """Rounding for display and the texts of discounts are the same in the browser and in the library."""
    rng = random.Random(18)
    prices = [Decimal(rng.randrange(1, 10 ** rng.randrange(1, 12))).scaleb(-rng.randrange(0, 14)) for _ in range(300)]
    texts = [f"{price:f}" for price in prices]
    ratios = [*texts[:100], "0", "1", "0.35", "0.9995", "0.9999", "1.0001", "2"]
    for name, language in LANGUAGES.items():
        look(vendor_tab, {"lang": name})
        for currency in ("USD", "CNY"):
            shown = vendor_tab.page.evaluate(f"all => all.map(text => roundForDisplay(text, '{currency}'))", texts)
            assert [Decimal(text) for text in shown] == [round_for_display(price, currency) for price in prices]
        said = vendor_tab.page.evaluate("all => all.map(discountText)", ratios)
        assert said == [discount_text(Decimal(ratio), language) for ratio in ratios]


def test_groups_are_shown_side_by_side(vendor_tab: Tab, vendors: PriceBook) -> None:
    """The comparison has the price of each model in each group, beside the list price, and a dash if there is none."""
    vendor_tab.go()
    vendor_tab.page.select_option("#group", label="Compare all groups")
    vendor_tab.page.select_option("#compare", "output")
    groups = price_list(vendors, at=AUTUMN)["groups"]
    heads = vendor_tab.texts("#table thead th")
    assert heads[:3] == ["Model", "List price", "defaultlist price"]
    assert heads[3] == "saver (Saver)65% below list price"
    found = vendor_tab.page.eval_on_selector_all(
        "#table tbody tr", "all => all.map(row => [...row.children].map(cell => cell.textContent))"
    )
    expected = []
    for model in vendors.model_names:
        prices = []
        for group in groups:
            rows = [row for row in group["prices"] if row["model"] == model and row["service_tier"] == "standard"]
            price = rows[0]["nominal"].get("output") if rows else None
            prices.append("–" if price is None else LANGUAGES["en"].price(Decimal(price), "USD"))
        if set(prices) != {"–"}:
            expected.append([model, prices[0], *prices])  # group default has the list prices
    assert found == expected
    assert vendor_tab.page.evaluate("location.hash") == "#compare=output"
    # The names stay in place when the groups are scrolled.
    vendor_tab.page.set_viewport_size({"width": 390, "height": 844})
    moved = vendor_tab.page.evaluate(
        "() => { const name = document.querySelector('#table tbody th'), before = name.getBoundingClientRect().left;"
        " document.querySelector('.scroll').scrollLeft = 100;"
        " return [document.querySelector('.scroll').scrollLeft, name.getBoundingClientRect().left - before]; }"
    )
    vendor_tab.page.set_viewport_size({"width": 1280, "height": 720})
    assert moved == [100, 0]


WINDOWS = (  # 08:30 to 12:00 and 14:00 to 18:00 in Shanghai
    ("2026-10-21T01:00:00", "Europe/Berlin", "peak prices now, until 06:00 (your time zone, Europe/Berlin)."),
    ("2026-10-21T04:00:00", "Asia/Shanghai", "next peak prices from Wed, Oct 21 14:00 to 18:00"),
    ("2026-10-21T11:00:00", "America/New_York", "next peak prices from Wed, Oct 21 20:30 to Thu, Oct 22 00:00"),
    ("2026-10-19T01:00:00", "Europe/Berlin", ""),  # before the time of the page
    ("2027-01-19T01:00:00", "Europe/Berlin", ""),  # the page is too old
)


def test_the_next_peak_window_is_in_the_readers_time_zone(browser: Browser, tmp_path: Path, vendors: PriceBook) -> None:
    """The page names the current or next window of peak prices in the time zone of the reader."""
    with opened(browser, tmp_path / "p.html", pricing_page(vendors, at=AUTUMN)) as tab:
        session = tab.page.context.new_cdp_session(tab.page)
        for now, zone, text in WINDOWS:
            session.send("Emulation.setTimezoneOverride", {"timezoneId": zone})
            tab.page.clock.set_fixed_time(utc(now))
            tab.page.evaluate("renderWindows()")
            shown = tab.texts("#windows")[0]
            assert text in shown, (now, zone)
            assert bool(shown) == bool(text), (now, zone)


def test_windows_of_lower_prices_are_not_called_peaks(vendor_tab: Tab) -> None:
    """A calendar is named by what its prices are beside those at other times, and the details agree."""
    kinds = vendor_tab.page.evaluate("""() => {
      const row = groupRows(currentGroup()).find(({ conditions }) => conditions && conditions.window);
      const { window } = row.conditions, prices = nominalPrices(row), found = [];
      for (const factor of ["1", "0.1", "0.5"]) {
        const changed = Object.entries(prices).map(([meter, price]) => [meter, multiplyTexts(price, factor)]);
        row.nominal = Object.fromEntries(changed);
        found.push(translate(windowKind(window)));
      }
      row.nominal = { ...prices, output: "0" };
      found.push(translate(windowKind(window)));
      row.nominal = prices;
      return found;
    }""")
    assert kinds == ["peak prices", "off-peak prices", "special prices", "special prices"]


def test_windows_are_those_of_the_calendar(vendors: PriceBook) -> None:
    """The windows of a calendar are exactly the minutes that it contains."""
    calendar = vendors.calendars()["deepseek-peak"]
    windows = calendar.windows(AUTUMN, AUTUMN + timedelta(days=3))
    for minute in range(0, 3 * 24 * 60, 7):
        moment = AUTUMN + timedelta(minutes=minute)
        assert calendar.contains(moment) == any(start <= moment < end for start, end in windows)
    inside = datetime(2026, 10, 20, 9, 0, tzinfo=ZoneInfo("Asia/Shanghai")).astimezone(UTC)
    assert calendar.windows(inside, inside + timedelta(minutes=5)) == [(inside, inside + timedelta(minutes=5))]


def test_details_have_what_the_row_leaves_out(vendor_tab: Tab) -> None:
    """A model expands to its facts, its other prices, and each range, window, mode, region and tier."""
    look(vendor_tab, {"unit": "1k"})
    vendor_tab.page.set_viewport_size({"width": 1280, "height": 720})
    vendor_tab.page.get_by_role("button", name="claude-opus-4-8", exact=True).click()
    heads = vendor_tab.texts("#table .detail .variant")
    assert heads == ["mode fast (Fast mode)", "region us", "region us · mode fast (Fast mode)", "Batch"]
    facts = vendor_tab.texts("#table .detail .facts")[0]
    for text in (
        "Long tasks with tools",
        "context 1,000,000",
        "Cache write$0.00625",
        "Web search$10.00 per 1,000 calls",
    ):
        assert text in facts
    # A price that differs anywhere is in every case: a reader must not guess whether a missing one is the usual one.
    written = [text for text in vendor_tab.texts("#table .detail .facts") if "Cache write$" in text]
    assert len(written) == 1 + len(heads)
    assert not any("Web search" in text for text in written[1:])
    vendor_tab.page.get_by_role("button", name="claude-opus-4-8", exact=True).click()
    assert vendor_tab.page.locator("#table .detail").count() == 0
    assert vendor_tab.texts("#table tr:has(.expand[data-model='rerank-v4.0']) td") == ["Queries$2.00 per 1,000 queries"]
