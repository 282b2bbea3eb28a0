"""The pricing page in a browser: in every view, its figures are those of the library."""

from __future__ import annotations

import json
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from brivionix_billing import PriceBook
from brivionix_billing.decimals import format_plain, multiply
from brivionix_billing.pages import price_list, pricing_page
from brivionix_billing.pages.messages import METER_LABELS, PRICING_MESSAGES, TIER_LABELS
from brivionix_billing.tabular import quote_formula
from pages_kit import Tab, opened
from pricing_page_kit import LANGUAGES, look
from samples import AUTUMN, SHIPPED, book_of, model, shipped, utc

ROWS = "all => all.map(row => [...row.querySelectorAll('.name, .price')].map(one => one.textContent))"
MAIN = ("input", "cache_read", "output")


def rows(tab: Tab) -> list[list[str]]:
    """Return the displayed table: one list of texts per model, without list prices."""
    texts: list[list[str]] = tab.page.eval_on_selector_all("#table tbody tr:not(.off):not(.detail)", ROWS)
    return texts


def details(tab: Tab) -> list[list[str]]:
    """Return the prices of all rows that the models expand to."""
    expanders = ".expand[aria-expanded=false]"
    tab.page.eval_on_selector_all(expanders, "all => all.forEach(one => one.click())")
    texts: list[list[str]] = tab.page.eval_on_selector_all("#table tr.detail", ROWS)
    tab.page.evaluate("openModels.clear()")
    return texts


@cache
def listed(group: str) -> dict[str, Any]:
    """Return the price list of a group of the shipped file."""
    return price_list(shipped(), at=AUTUMN, groups=[group])


def price_text(row: dict[str, Any], view: str, unit: str, meter: str, language: str) -> str:
    """Return a price of the library: exact, rounded once and formatted by Babel."""
    exact = Decimal((row["nominal"] if view == "nominal" else row["topup"][view])[meter])
    if unit == "1k" and meter in MAIN:
        exact = multiply(exact, Decimal("0.001"))
    currency = {"rmb": "CNY"}.get(view, "USD")
    return LANGUAGES[language].price(exact, currency) if exact else PRICING_MESSAGES[language]["free"]


def expected(group: str, view: str, unit: str, tier: str, language: str) -> list[list[str]]:
    """Return the same table from the library: the prices of a tier for short context."""
    return [
        [row["model"], *(price_text(row, view, unit, meter, language) for meter in MAIN)]
        for row in listed(group)["groups"][0]["prices"]
        if row["service_tier"] == tier and row["context"] in ("any", "short")
    ]


def expected_details(group: str, view: str, unit: str, language: str) -> list[list[str]]:
    """Return the prices of tools of each model that is sold in the standard tier, then those of its other rows."""
    rows_of: dict[str, list[dict[str, Any]]] = {}
    for row in listed(group)["groups"][0]["prices"]:
        rows_of.setdefault(row["model"], []).append(row)
    out = []
    for base, *others in rows_of.values():
        assert (base["service_tier"], base["context"]) in {("standard", "any"), ("standard", "short")}
        for row, meters in [(base, ("web_search", "file_search")), *((row, MAIN) for row in others)]:
            out.append([price_text(row, view, unit, meter, language) for meter in meters])
    return out


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("unit", ["1m", "1k"])
@pytest.mark.parametrize("view", ["nominal", "rmb", "stripe"])
def test_every_view_shows_the_prices_of_the_library(tab: Tab, view: str, unit: str, language: str) -> None:
    """The page shows the figures of the library in each group, view, channel, unit, tier and language."""
    tab.go()
    for group in shipped().groups(at=AUTUMN):
        for tier in ("batch", "flex", "priority", "standard"):
            state = {"group": group, "unit": unit, "tier": tier, "lang": language}
            if view != "nominal":
                state |= {"view": "topup", "channel": view}
            look(tab, state)
            assert rows(tab) == expected(group, view, unit, tier, language), state
        assert details(tab) == expected_details(group, view, unit, language), state


def test_the_page_begins_with_nominal_prices_of_the_first_group(tab: Tab) -> None:
    """Without a hash, the page shows nominal prices per 1 M of the first group, and says that they are nominal."""
    tab.go()
    assert rows(tab) == expected("default", "nominal", "1m", "standard", "en")
    assert tab.text("#prices-heading") == "Prices of group default"
    assert tab.text("#unit") == "USD per 1 M tokens"
    assert "not what you pay" in tab.text("#view")
    assert tab.page.get_attribute("#topup", "aria-checked") == "false"


def test_the_switch_shows_the_price_of_each_channel(tab: Tab) -> None:
    """The switch shows the Top Up prices of the selected channel, each at its own price of a Credit."""
    tab.go()
    tab.page.get_by_role("switch", name="Top Up price").click()
    assert tab.page.get_attribute("#topup", "aria-checked") == "true"
    assert "through rmb: 1 Credit costs CN¥0.85" in tab.text("#view")
    assert rows(tab) == expected("default", "rmb", "1m", "standard", "en")
    tab.page.get_by_text("stripe (USD)").click()
    assert "through stripe: 1 Credit costs $0.12" in tab.text("#view")
    assert rows(tab) == expected("default", "stripe", "1m", "standard", "en")
    tab.page.get_by_role("switch", name="Top Up price").click()
    assert rows(tab) == expected("default", "nominal", "1m", "standard", "en")


def test_groups_have_their_models_and_free_is_free(tab: Tab) -> None:
    """A group shows its own models, others only on request and marked, and a ratio of 0 reads 'free'."""
    tab.go()
    tab.page.select_option("#group", "free-trial")
    assert rows(tab) == [["gpt-5.4-mini", "free", "free", "free"]]
    assert tab.texts("#table tr.off") == []
    tab.page.check("#unusable")
    off = tab.texts("#table tr.off")
    assert len(off) == 4
    assert all("not in this group" in text for text in off)
    assert set(tab.texts("#table .price")) == {"free"}
    tab.page.select_option("#group", "default")
    tab.page.select_option("#tier", "batch")
    assert [
        text for text in tab.texts("#table tr.off") if "not available in this tier" in text and "codex" in text
    ] != []


def test_rows_name_terms_that_differ_from_the_group(tab: Tab) -> None:
    """A row names terms that differ from the ratio of its group."""
    tab.go("#group=partner")
    own = [text for text in tab.texts("#table tbody th") if "group-specific price" in text]
    assert len(own) == 1
    assert own[0].startswith("gpt-5.2")
    tab.go("#group=coding")
    assert "10% below list price" in tab.text("#about")
    assert [text for text in tab.texts("#table th") if "20% below list price" in text] == [
        "gpt-5.3-codex20% below list price"
    ]


def test_search_finds_names_aliases_and_descriptions(tab: Tab) -> None:
    """Search ignores case, covers names and descriptions, and reports the number of models."""
    tab.go()
    tab.page.fill("#search", "CODEX")
    assert tab.texts("#table .name") == ["gpt-5.3-codex"]
    assert tab.text("#count") == "1 model · CODEX"
    tab.page.fill("#search", "best value")
    assert tab.texts("#table .name") == ["gpt-5.4-mini"]
    tab.page.fill("#search", "nothing of the kind")
    assert tab.texts("#table .name") == []
    assert "No model matches" in tab.text("#table")
    assert tab.text("#count").startswith("0 models")
    tab.page.fill("#search", "")
    tab.page.select_option("#window", "1050000")
    assert set(tab.texts("#table .name")) == {"gpt-5.5", "gpt-5.4"}


def test_any_price_sorts_exactly(tab: Tab) -> None:
    """A column heading sorts by exact prices, then in reverse, then in the order of the file."""
    tab.go("#group=partner")
    given = rows(tab)
    exact = "#table tbody tr td:nth-child({}) .price"
    for column in range(2, 5):
        button = f"#table thead th:nth-child({column}) .sort"
        values = [
            Decimal(value)
            for value in tab.page.eval_on_selector_all(exact.format(column), "all => all.map(one => one.dataset.exact)")
        ]
        for order in (sorted(values), sorted(values, reverse=True)):
            tab.page.click(button)
            sorted_values = tab.page.eval_on_selector_all(
                exact.format(column), "all => all.map(one => one.dataset.exact)"
            )
            assert [Decimal(value) for value in sorted_values] == order
            assert tab.page.evaluate("document.activeElement.dataset.sort") is not None
        assert tab.page.get_attribute(f"#table thead th:nth-child({column})", "aria-sort") == "descending"
        tab.page.click(button)
        assert rows(tab) == given


def test_the_language_switches_words_and_forms(tab: Tab) -> None:
    """The language switch changes messages, currency signs, dates and the language of the page."""
    tab.go()
    tab.page.get_by_role("button", name="中文").click()
    assert tab.page.get_attribute("html", "lang") == "zh-CN"
    assert tab.text("h1") == PRICING_MESSAGES["zh_CN"]["title"]
    assert tab.page.title() == PRICING_MESSAGES["zh_CN"]["title"]
    assert "US$5.00" in tab.text("#table")
    assert "2026年10月20日" in tab.page.inner_text("header")
    assert "Prices of" not in tab.page.inner_text("body")
    assert METER_LABELS["zh_CN"]["cache_read"] in tab.text("#table thead")
    assert TIER_LABELS["zh_CN"]["batch"] in tab.page.inner_text("#tier")
    tab.page.get_by_role("button", name="English").click()
    assert tab.text("h1") == PRICING_MESSAGES["en"]["title"]


def test_a_view_is_shared_by_its_address(tab: Tab, browser: Browser) -> None:
    """The hash of a view opens the same view in another browser, and has no defaults."""
    tab.go()
    tab.page.select_option("#group", "partner")
    tab.page.get_by_role("switch", name="Top Up price").click()
    tab.page.get_by_text("stripe (USD)").click()
    tab.page.check("input[value='1k']")
    tab.page.select_option("#tier", "batch")
    tab.page.fill("#search", "gpt-5.4")
    tab.page.click("#table thead th:nth-child(4) .sort")
    tab.page.fill("#calc-output", "77")
    tab.page.fill("#calc-calls", "1000")
    tab.page.get_by_role("button", name="中文").click()
    address = tab.page.evaluate("location.hash")
    shown, sample = rows(tab), tab.texts("#result dd")
    context = browser.new_context()
    other = Tab(context.new_page(), tab.path).go(address)
    assert (rows(other), other.texts("#result dd")) == (shown, sample)
    assert other.page.input_value("#search") == "gpt-5.4"
    context.close()
    tab.page.click("#reset")
    assert tab.page.evaluate("location.hash") == "#lang=zh_CN"


@pytest.mark.parametrize(
    "address",
    [
        "#group=nobody&view=all&channel=x&unit=2&tier=gold&sort=__proto__&dir=up&lang=xx&model=y&window=-1",
        "#constructor=1&__proto__=2&toString=3",
        "#q=%3Cimg%20src=x%20onerror=alert(1)%3E&n.input=%3Cb%3E&n.__proto__=1&conditions=%7B",
        "#q=" + "x" * 5000,
        "#%%%&=&&group",
    ],
)
def test_an_invalid_hash_does_no_harm(tab: Tab, address: str) -> None:
    """An unknown or malicious hash causes no error and runs no code."""
    tab.go(address)
    assert tab.text("h1") == "Model prices"
    assert tab.page.locator("img").count() == 0
    assert tab.page.locator("#result *").count() > 0


def test_unknown_values_of_a_link_are_reported(tab: Tab) -> None:
    """A hash with an unknown group or channel opens the default view and reports the unknown values."""
    tab.go("#group=gone&channel=cheque&view=topup&model=old&window=77")
    assert tab.text("#status") == "This page no longer has some values of the link: gone, cheque, old, 77."
    assert rows(tab) == expected("default", "rmb", "1m", "standard", "en")
    tab.go("#group=partner")
    assert tab.texts("#status") == [""]


def test_pointing_at_a_price_shows_the_exact_one(tab: Tab) -> None:
    """Hovering and focusing show the exact price; Escape hides it."""
    tab.go("#group=partner&view=topup&sort=input")
    price = tab.page.locator("#table .price").first
    assert price.inner_text() == "CN¥0.5419"
    price.hover()
    assert "exactly CN¥0.541875" in tab.text("#tip")
    tab.page.mouse.move(0, 0)
    assert tab.page.locator("#tip").is_hidden()
    price.focus()
    assert "exactly CN¥0.541875" in tab.text("#tip")
    assert tab.page.evaluate("document.activeElement.getAttribute('aria-describedby')") == "tip"
    tab.page.keyboard.press("Escape")
    assert tab.page.locator("#tip").is_hidden()


FOCUSED = "[document.activeElement].map(at => at.id || at.name || at.className || at.tagName)[0]"


def test_the_keyboard_reaches_everything(tab: Tab) -> None:
    """Tab reaches every control, arrow keys move between prices, and Space toggles the switch."""
    tab.go()
    reached = set()
    for _ in range(60):
        tab.page.keyboard.press("Tab")
        reached.add(tab.page.evaluate(FOCUSED))
    assert {
        "group",
        "topup",
        "unit",
        "tier",
        "window",
        "search",
        "unusable",
        "copy-link",
        "reset",
        "sort",
        "expand",
    } <= reached
    assert {
        "calc-model",
        "calc-tier",
        "calc-input",
        "calc-cache_read",
        "calc-output",
        "calc-web_search",
        "calc-calls",
    } <= reached
    tab.page.locator("#topup").focus()
    tab.page.keyboard.press("Space")
    assert tab.page.get_attribute("#topup", "aria-checked") == "true"
    tab.page.locator("#table tbody tr:first-child .price").first.focus()
    steps = [("ArrowRight", 0, 1), ("ArrowDown", 1, 1), ("ArrowLeft", 1, 0), ("ArrowUp", 0, 0), ("End", 0, 2)]
    for key, row, column in (*steps, ("ArrowDown", 1, 2), ("Home", 1, -1)):
        tab.page.keyboard.press(key)
        place = tab.page.evaluate(
            "(() => { const row = document.activeElement.closest('tr');"
            " return [row.sectionRowIndex, [...row.querySelectorAll('.price')].indexOf(document.activeElement)]; })()"
        )
        assert place == [row, column], key
        assert tab.page.locator("#table [tabindex='0']:is(button)").count() == 1  # the table is one tab stop


def test_prices_and_rows_can_be_copied(browser: Browser, tmp_path: Path) -> None:
    """A click copies the exact price, and Copy row copies the row with its headings as TSV."""
    html = pricing_page(shipped(), at=AUTUMN)
    allowed = ["clipboard-read", "clipboard-write"]
    with opened(browser, tmp_path / "p.html", html, "#group=partner&view=topup&sort=input", permissions=allowed) as tab:
        read = "navigator.clipboard.readText()"
        tab.page.locator("#table .price").first.click()
        assert tab.page.evaluate(read) == "0.541875"
        assert tab.text("#status") == "Copied: CN¥0.541875"
        tab.page.get_by_role("button", name="gpt-5.4-mini", exact=True).click()
        tab.page.get_by_role("button", name="Copy model name").click()
        assert tab.page.evaluate(read) == "gpt-5.4-mini"
        tab.page.get_by_role("button", name="Copy the prices of gpt-5.4-mini, Standard").click()
        heads, cells = (line.split("\t") for line in tab.page.evaluate(read).split("\n"))
        row = dict(zip(heads, cells, strict=True))
        assert row["model"] == "gpt-5.4-mini"
        assert (row["group"], row["view"]) == ("partner", "rmb")
        assert (row["input, CNY per 1M tokens"], row["web_search, CNY per 1,000 calls"]) == ("0.541875", "7.225")
        tab.page.click("#copy-link")
        assert tab.page.evaluate(read).endswith("p.html#lang=en&group=partner&view=topup&channel=rmb&sort=input")


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&lt;b&gt; ${x} {{7*7}}"


@pytest.mark.parametrize(("name", "quoted"), [("=1+2", True), ("＝1+2", True), ("﹣1", True), ("a=1", False)])
def test_a_copied_row_is_no_formula(browser: Browser, tmp_path: Path, name: str, quoted: bool) -> None:
    """The name of a model that looks like a formula is copied as text, by the rule of CSV."""
    book = book_of(model("{from: 2026-01-01, standard: {input: 1}}", json.dumps(name, ensure_ascii=False)))
    allowed = ["clipboard-read", "clipboard-write"]
    with opened(browser, tmp_path / "p.html", pricing_page(book, at=AUTUMN), permissions=allowed) as tab:
        tab.page.get_by_role("button", name=name, exact=True).click()
        tab.page.get_by_role("button", name=f"Copy the prices of {name}").click()
        cell = tab.page.evaluate("navigator.clipboard.readText()").split("\n")[1].split("\t")[0]
        assert cell == quote_formula(name) == ("'" if quoted else "") + name


def hostile_book() -> PriceBook:
    """Return a book with markup in descriptions, and with regular expression characters in names."""
    text, quoted = SHIPPED.read_text("utf-8"), json.dumps(HOSTILE)
    for given in ('{en: "Top-up in RMB",', '{en: "Every model at the list price",'):
        assert given in text
        text = text.replace(given, f"{{en: {quoted},")
    text = text.replace('{en: "The largest of the five: hard problems, long documents"', f"{{en: {quoted}")
    return PriceBook.loads(text.replace("  stripe:\n", "  $stripe$1$:\n").replace("gpt-5.2", "gpt-5.2=$1+$_"))


def test_names_and_descriptions_are_text(browser: Browser, tmp_path: Path) -> None:
    """Markup in descriptions, title and notes is displayed as text, creates no element and never runs."""
    html = pricing_page(hostile_book(), at=AUTUMN, title=HOSTILE, notes=[HOSTILE])
    with opened(browser, tmp_path / "p.html", html, "#view=topup") as tab:
        tab.page.locator(".expand").first.click()
        assert tab.page.locator("img, b").count() == 0
        assert tab.page.locator("script").count() == 2
        shown = tab.text("body")
        assert shown.count("<img src=x onerror=alert(2)>") >= 4
        assert "{{7*7}}" in shown
        assert "gpt-5.2=$1+$_" in tab.texts("#table .name")
        tab.page.get_by_text("$stripe$1$ (USD)").click()
        assert "through $stripe$1$: 1 Credit costs $0.12" in tab.text("#view")


def test_a_script_that_is_put_into_the_page_does_not_run(browser: Browser, tmp_path: Path) -> None:
    """The policy of the page blocks scripts and event attributes that were added to the file."""
    html = pricing_page(shipped(), at=AUTUMN).replace(
        "<main>", "<main><script>window.ran = 1</script><p id=x onclick='window.ran = 2'>x</p>"
    )
    path = tmp_path / "p.html"
    path.write_text(html, encoding="utf-8")
    context = browser.new_context()
    tab = Tab(context.new_page(), path).go()
    tab.page.click("#x")
    assert tab.page.evaluate("window.ran") is None
    assert len([message for message in tab.messages if "Content Security Policy" in message]) == 2
    assert rows(tab) == expected("default", "nominal", "1m", "standard", "en")
    context.close()


def test_the_page_works_without_scripts(browser: Browser, tmp_path: Path) -> None:
    """Without JavaScript, the page has the nominal prices of every group and no controls."""
    html = pricing_page(shipped(), at=AUTUMN)
    with opened(browser, tmp_path / "p.html", html, java_script_enabled=False) as tab:
        text = tab.page.locator("body").inner_text()
        for group in shipped().groups(at=AUTUMN):
            assert f"Prices of group {group}" in text
        for price in (
            "$5.00",
            "$0.075",
            "$22.50",
            "free",
            "15% below list price",
            "over 272,000 input tokens",
            "CN¥0.85",
        ):
            assert price in text
        assert tab.page.locator("button:visible, select:visible, input:visible").count() == 0


def test_a_group_is_free_only_if_all_its_prices_are_zero(browser: Browser, tmp_path: Path) -> None:
    """A group with a ratio of 0 is not called free of charge if a model has a group-specific price."""
    free = "        ratio: 0\n        models: [gpt-5.4-mini]"
    own = free + "\n        overrides: {gpt-5.4-mini: {prices: {standard: {input: 3, cache_read: 0, output: 0}}}}"
    text = SHIPPED.read_text("utf-8").replace(free, own)
    assert own in text
    html = pricing_page(PriceBook.loads(text), at=AUTUMN, groups=["free-trial"])
    with opened(browser, tmp_path / "p.html", html) as tab:
        assert "free of charge" not in tab.text("body")
        assert "free, except for some prices" in tab.text("#about")
    assert "free of charge" not in html.partition("<script")[0]


def test_the_time_of_the_page_is_shown_once() -> None:
    """A page whose time is not midnight shows the minute and UTC once."""
    html = pricing_page(shipped(), at=AUTUMN.replace(hour=23, minute=50, second=57))
    assert ">Prices of Oct 20, 2026 23:50 UTC<" in html


def test_the_page_is_smaller_than_150_kb() -> None:
    """The page of five models and five groups has less than 150 kB in both languages."""
    for locale in LANGUAGES:
        assert len(pricing_page(shipped(), at=utc("2026-10-11"), locale=locale).encode()) < 150_000


def test_printed_it_has_no_controls(tab: Tab) -> None:
    """A printed page has the table of the current view and no controls."""
    tab.go("#view=topup")
    tab.page.emulate_media(media="print")
    assert tab.page.locator("#controls").is_hidden()
    assert tab.page.locator("#calc").is_hidden()
    assert tab.page.locator("#table .price").first.is_visible()
    tab.page.emulate_media(media="screen")


def test_sizes_of_numbers_do_not_matter(browser: Browser, tmp_path: Path) -> None:
    """The smallest and the largest possible prices are displayed, and never as zero."""
    book = book_of("{from: 2026-01-01, standard: {input: 0.000000000001, output: 1000000}}", ratio="1")
    with opened(browser, tmp_path / "p.html", pricing_page(book, at=AUTUMN), "#unit=1k&view=topup") as tab:
        least = multiply(Decimal("0.000000000001"), Decimal("0.00085"))
        assert rows(tab) == [["m", f"CN¥{format_plain(least)}", "CN¥850.00"]]
