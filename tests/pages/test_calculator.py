"""The calculator of the pricing page: its costs are those of ``book.rate``."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from brivionix_billing import Usage
from brivionix_billing.pages import pricing_page
from pages_kit import Tab, opened
from pricing_page_kit import LANGUAGES, look
from samples import AUTUMN, book_of, shipped

SAMPLES = [(12_000, 10_000, 800, 0), (272_000, 0, 1, 0), (272_001, 5, 1, 2), (0, 0, 0, 0), (10**12, 10**12, 10**12, 7)]


def test_the_calculator_is_book_rate(tab: Tab) -> None:
    """The calculator agrees exactly with ``book.rate`` in each group, model and tier, for any numbers of tokens."""
    book, rng = shipped(), random.Random(5)
    tab.go()
    compared = 0
    for group in book.groups(at=AUTUMN):
        for model in book.models(group=group, at=AUTUMN):
            for tier in book.service_tiers(model, AUTUMN):
                for total, cached, out, searches in (*SAMPLES, tuple(rng.randrange(10**6) for _ in range(4))):
                    cached = min(cached, total)
                    counts = {"input": total, "cached": cached, "output": out, "searches": searches}
                    state = {"group": group, "model": model, "mtier": tier, **counts}
                    look(tab, state)
                    usage = Usage(
                        input_tokens=total, cache_read_tokens=cached, output_tokens=out, web_search_calls=searches
                    )
                    charge = book.rate(usage, model=model, group=group, at=AUTUMN, service_tier=tier)
                    english = LANGUAGES["en"]
                    assert dict(zip(("nominal", "credits", "rmb", "stripe"), tab.texts("#result dd"), strict=True)) == {
                        "nominal": english.money(charge.nominal.amount, "USD"),
                        "credits": english.number(charge.credits),
                        "rmb": english.money(charge.cost("rmb").amount, "CNY"),
                        "stripe": english.money(charge.cost("stripe").amount, "USD"),
                    }, state
                    compared += 1
    assert compared > 200


def test_the_calculator_warns_about_too_much_input(tab: Tab) -> None:
    """A call with more input than the model accepts has a price and a warning."""
    tab.go("#model=gpt-5.4-mini&input=272000")
    assert "takes at most" not in tab.text("#result")
    tab.page.fill("#calc-input", "272001")
    assert "gpt-5.4-mini accepts at most 272,000 input tokens" in tab.text("#result")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"calc-input": "5", "calc-cached": "6"}, "6 cached tokens are more than the 5 input tokens"),
        ({"calc-output": "-1"}, "Output tokens: enter a whole number"),
        ({"calc-output": "1e3"}, "Output tokens: enter a whole number"),
        ({"calc-output": "1000000000001"}, "Output tokens: enter a whole number"),
        ({"calc-searches": "٣"}, "Web searches: enter a whole number"),
    ],
)
def test_the_calculator_rejects_invalid_numbers(tab: Tab, inputs: dict[str, str], message: str) -> None:
    """Invalid numbers and more cached than input tokens are reported, and no price is shown."""
    tab.go()
    for field, text in inputs.items():
        tab.page.fill(f"#{field}", text)
    assert message in tab.text("#result")
    assert tab.texts("#result dd") == []
    assert tab.page.locator(f"#{list(inputs)[-1]}").get_attribute("aria-invalid") == "true"


def test_the_calculator_divides_exactly(browser: Browser, tmp_path: Path) -> None:
    """The calculator agrees with ``book.rate`` for any nominal value of a Credit."""
    for nominal in ("0.04", "2", "0.8"):
        book = book_of("{from: 2026-01-01, standard: {input: 0.3, output: 7}}", nominal=nominal)
        with opened(
            browser, tmp_path / "p.html", pricing_page(book, at=AUTUMN), "#input=1234567&cached=0&output=89"
        ) as tab:
            charge = book.rate(Usage(input_tokens=1_234_567, output_tokens=89), model="m", group="g", at=AUTUMN)
            texts = tab.texts("#result dd")
            assert texts[1] == LANGUAGES["en"].number(charge.credits)
            assert texts[2] == LANGUAGES["en"].money(charge.cost("c").amount, "CNY")
