"""The calculator of the pricing page: its costs are those of ``book.rate``."""

from __future__ import annotations

import json
import random
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser

from brivionix_billing import Charge, PriceBook, Usage
from brivionix_billing.decimals import multiply
from brivionix_billing.pages import pricing_page
from pages_kit import Tab, opened
from pricing_page_kit import LANGUAGES, calculate
from samples import AUTUMN, D, book_of, shipped

SAMPLES = [(12_000, 10_000, 800, 0), (272_000, 0, 1, 0), (272_001, 5, 1, 2), (0, 0, 0, 0), (10**12, 10**12, 10**12, 7)]
CALLS = 1_234


def costs(tab: Tab) -> dict[str, list[str]]:
    """Return the costs of a call, a day and a month that the calculator shows, by kind."""
    found: dict[str, list[str]] = tab.page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('#result [data-result]')].map("
        "box => [box.dataset.result, [...box.querySelectorAll('dd')].map(one => one.textContent)]))"
    )
    return found


def expected(charge: Charge, channels: dict[str, str]) -> dict[str, list[str]]:
    """Return the same from a charge."""
    language = LANGUAGES["en"]
    factors = (1, CALLS, CALLS * 30)
    return {
        "nominal": [language.money(multiply(charge.nominal.amount, D(n)), "USD") for n in factors],
        "credits": [language.number(multiply(charge.credits, D(n))) for n in factors],
        **{
            name: [language.money(multiply(charge.cost(name).amount, D(n)), currency) for n in factors]
            for name, currency in channels.items()
        },
    }


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
                    counts = {"n.input": total, "n.cache_read": cached, "n.output": out, "n.web_search": searches}
                    state = {"group": group, "model": model, "mtier": tier, "calls": CALLS, **counts}
                    calculate(tab, state)
                    usage = Usage(
                        input_tokens=total, cache_read_tokens=cached, output_tokens=out, web_search_calls=searches
                    )
                    charge = book.rate(usage, model=model, group=group, at=AUTUMN, service_tier=tier)
                    assert costs(tab) == expected(charge, {"rmb": "CNY", "stripe": "USD"}), state
                    compared += 1
    assert compared > 200


METERS_BOOK = """version: 1
credit: {currency: USD, nominal_per_credit: 1}
meters: {robot_minutes: {unit: minute, per: 60}}
calendars: {night: {time_zone: UTC, rules: [{from: 2026-01-01, hours: ["22:00-23:00"]}]}}
channels: {c: {currency: CNY, prices: [{from: 2026-01-01, price_per_credit: 0.85}]}}
models:
  every:
    prices:
      - from: 2026-01-01
        standard:
          input: 4
          cache_read: 0.4
          cache_write: 5
          output: 16
          reasoning: 20
          audio_input: 32
          audio_cache_read: 0.5
          audio_output: 64
          image_input: 5
          web_search: 10
          robot_minutes: 9
          request: 0.001
          audio_input_seconds: 0.25
          long_context:
            {above: 50000, input: 8, cache_read: 0.8, cache_write: 10, output: 32, reasoning: 40, audio_input: 33,
             audio_cache_read: 1, audio_output: 65, image_input: 6}
          windows: {night: {factor: 2}}
          regions: {us: {factor: 1.1}}
  small: {prices: [{from: 2026-01-01, standard: {input: 1, output: 2, minimum: 0.05}}]}
  speech: {prices: [{from: 2026-01-01, standard: {audio_input: 3, audio_output: 5}}]}
groups: {g: {terms: [{from: 2026-01-01, ratio: 0.7, models: ["*"]}]}}
"""
QUANTITIES = {
    "cache_read": 1_000, "cache_write": 300, "audio_input": 700, "audio_cache_read": 50, "image_input": 90,
    "reasoning": 40, "audio_output": 60, "web_search": 3, "robot_minutes": "7.5", "audio_input_seconds": "1.25",
}  # fmt: skip


@pytest.mark.parametrize(("total", "region"), [(20_000, None), (60_000, None), (60_000, "us")])
def test_the_calculator_has_every_meter_of_a_model(browser: Browser, tmp_path: Path, total: int, region: str) -> None:
    """A call with a quantity of each meter that a model has a price for costs what ``book.rate`` charges."""
    book = PriceBook.loads(METERS_BOOK)
    state = {
        **{f"n.{name}": quantity for name, quantity in QUANTITIES.items()},
        "n.input": total,
        "n.output": 5_000,
        "calls": CALLS,
        **({"conditions": json.dumps({"region": region}, separators=(",", ":"))} if region else {}),
    }
    usage = Usage(
        input_tokens=total, cache_read_tokens=1_050, cache_write_tokens=300, audio_input_tokens=750,
        audio_cache_read_tokens=50, image_input_tokens=90, output_tokens=5_000, reasoning_tokens=40,
        audio_output_tokens=60, web_search_calls=3, audio_input_seconds=D("1.25"),
        quantities={"robot_minutes": D("7.5")},
    )  # fmt: skip
    with opened(browser, tmp_path / "p.html", pricing_page(book, at=AUTUMN), "#" + urlencode(state)) as tab:
        fields = tab.page.eval_on_selector_all("#calc-meters input", "all => all.map(one => one.dataset.count)")
        assert set(fields) == {"input", "output", *QUANTITIES}
        charge = book.rate(usage, model="every", group="g", at=AUTUMN, region=region)
        assert costs(tab) == expected(charge, {"c": "CNY"})


def test_the_calculator_knows_minimum_charges_and_models_of_speech(browser: Browser, tmp_path: Path) -> None:
    """A call costs at least the minimum charge, and audio tokens need no price of text."""
    book = PriceBook.loads(METERS_BOOK)
    with opened(browser, tmp_path / "p.html", pricing_page(book, at=AUTUMN), f"#model=small&calls={CALLS}") as tab:
        charge = book.rate(Usage(input_tokens=12_000, output_tokens=800), model="small", group="g", at=AUTUMN)
        assert costs(tab) == expected(charge, {"c": "CNY"})
        assert "The minimum charge, $0.035, applies." in tab.text("#result")
        tab.go(f"#model=speech&n.audio_input=100&n.audio_output=7&calls={CALLS}")
        usage = Usage(input_tokens=100, audio_input_tokens=100, output_tokens=7, audio_output_tokens=7)
        charge = book.rate(usage, model="speech", group="g", at=AUTUMN)
        assert costs(tab) == expected(charge, {"c": "CNY"})


def test_the_calculator_warns_about_too_much_input(tab: Tab) -> None:
    """A call with more input than the model accepts has a price and a warning."""
    tab.go("#model=gpt-5.4-mini&n.input=272000")
    assert "accepts at most" not in tab.text("#result")
    tab.page.fill("#calc-input", "272001")
    assert "gpt-5.4-mini accepts at most 272,000 input tokens" in tab.text("#result")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"calc-input": "5", "calc-cache_read": "6"}, "The parts of the input have 6 tokens, more than the 5 input"),
        ({"calc-output": "-1"}, "Output tokens: enter a whole number"),
        ({"calc-output": "1e3"}, "Output tokens: enter a whole number"),
        ({"calc-output": "1000000000001"}, "Output tokens: enter a whole number"),
        ({"calc-web_search": "٣"}, "Web search calls: enter a whole number"),
        ({"calc-calls": "1.5"}, "Calls per day: enter a whole number"),
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
        address = f"#n.input=1234567&n.cache_read=0&n.output=89&calls={CALLS}"
        with opened(browser, tmp_path / "p.html", pricing_page(book, at=AUTUMN), address) as tab:
            charge = book.rate(Usage(input_tokens=1_234_567, output_tokens=89), model="m", group="g", at=AUTUMN)
            assert costs(tab) == expected(charge, {"c": "CNY"})
