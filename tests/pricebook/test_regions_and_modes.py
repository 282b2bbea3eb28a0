"""Prices by serving region and by mode."""

from __future__ import annotations

import pytest

from brivionix_billing import BillingError, Usage
from model_kit import AT, MILLION, PEAK, PLAIN, book_of, findings, price, refusal, tier_book
from samples import D


def test_a_factor_multiplies_everything_but_fees() -> None:
    """A factor of a region multiplies the prices of tokens, seconds and requests, and no fee of a tool."""
    book = tier_book("input: 1, request: 2, audio_input_seconds: 3, web_search: 10, regions: {us: {factor: 1.1}}")
    usage = Usage(input_tokens=1_000_000, audio_input_seconds=D("0.5"), web_search_calls=100, region="us")
    assert price(book, usage) == D("1.1") + D("2.2") + D("1.65") + 1


def test_the_served_region_decides() -> None:
    """A region of the usage wins over that of the call, in any case, and its other names mean it."""
    book = tier_book("input: 1, regions: {us: {factor: 2}, eu: {factor: 3}}", "regions: {us: [us-east-1]}")
    assert price(book, Usage(input_tokens=1_000_000, region="us"), region="eu") == 2
    assert price(book, Usage(input_tokens=1_000_000, region="US-EAST-1")) == 2
    assert price(book, region="eu") == 3
    assert price(book, region="global") == 1
    assert refusal(book, MILLION, region="mars") == "region_unavailable"


def test_a_declared_region_may_be_called_global() -> None:
    """``global`` means the usual price, unless the file declares it as a region."""
    book = tier_book("input: 1, regions: {global: {factor: 2}}", "regions: {global: []}")
    assert price(book, region="global") == 2


def test_a_region_without_a_price_says_how_to_declare_it() -> None:
    """The message names the line by which a region costs the usual price, and that line works."""
    with pytest.raises(BillingError, match=r"write regions: \{default: \['eu-1'\]\} at the top") as caught:
        price(tier_book("input: 1, regions: {us: {factor: 2}}"), region="eu-1")
    assert caught.value.code == "region_unavailable"
    assert price(tier_book("input: 1, regions: {us: {factor: 2}}", "regions: {default: ['eu-1']}"), region="eu-1") == 1


def test_a_model_without_regions_has_one_price() -> None:
    """A region that no price depends on changes nothing."""
    assert price(book_of(PLAIN), Usage(input_tokens=1_000_000, region="mars")) == 1


def test_a_mode_has_its_own_prices_or_none() -> None:
    """A mode with prices is priced by them, without prices it is refused, and ``fast`` may mean the tier priority."""
    book = tier_book("input: 1, output: 2, modes: {fast: {input: 6, output: 12}}")
    assert price(book, Usage(input_tokens=1_000_000, mode="fast")) == 6
    assert refusal(book, Usage(input_tokens=1, mode="turbo")) == "mode_unavailable"
    both = book_of("m: {prices: [{from: 2026-01-01, standard: {input: 1}, priority: {input: 5}}]}")
    assert price(both, Usage(input_tokens=1_000_000, mode="fast")) == 5


def test_a_mode_that_repeats_the_tier_changes_nothing() -> None:
    """``fast`` without a price means priority, which may be requested or served as a tier as well, but not another."""
    book = book_of("m: {prices: [{from: 2026-01-01, standard: {input: 1}, priority: {input: 5}, flex: {input: 2}}]}")
    served = Usage(input_tokens=1_000_000, mode="fast", service_tier="priority")
    assert [price(book, served), price(book, MILLION, service_tier="Fast", mode="FAST")] == [5, 5]
    cards = book.possible_rate_cards("m", group="g", at=AT, service_tier="priority", mode="fast")
    assert [card.unit_prices["input"] for card in cards] == [5]
    assert refusal(book, MILLION, service_tier="flex", mode="fast") == "mode_unavailable"


def test_prices_inside_of_a_region_apply_only_there() -> None:
    """A mode or a window inside of a region's prices does not exist outside of the region."""
    inside = "input: 2, modes: {fast: {factor: 5}}, windows: {peak: {factor: 3}}"
    book = tier_book(f"input: 1, regions: {{us: {{{inside}}}}}", PEAK)
    assert price(book) == 1
    assert book.rate(MILLION, model="m", group="g", at=AT).variation.named() == ()
    assert price(book, region="us") == 6
    assert price(book, region="us", mode="fast") == 30
    assert refusal(book, MILLION, mode="fast") == "mode_unavailable"


@pytest.mark.parametrize(
    ("tier", "path", "message"),
    [
        ("regions: {us: {input: 2}}, modes: {fast: {input: 3}}", "regions.us", "which of them applies to both"),
        ("regions: {us: {factor: 2, input: 2}}", "regions.us", "has a factor and prices"),
        ("regions: {us: {}}", "regions.us", "has no price"),
        ("regions: {default: {factor: 2}}", "regions.default", "means the price without a region"),
        ("regions: {Global: {factor: 2}}", "regions.Global", "means the price without a region"),
        ("regions: {not_available: {input: 2}}", "regions.not_available", "means the price without a region"),
        ("modes: {fast: {input: 2, regions: {us: {factor: 2}}}}", "modes.fast.regions", "cannot be inside modes"),
        ("modes: {fast: {output: 2}}", "modes.fast", "has no price for input"),
        ("modes: {fast: {factor: 0}}", "modes.fast.factor", "is out of range"),
    ],
)
def test_a_mistake_in_variants_is_found(tier: str, path: str, message: str) -> None:
    """Two sets of prices may not compete, and each variant is a factor or a complete set of prices."""
    found = findings(tier_book, f"input: 1, {tier}")
    assert any(f.path == f"models.m.prices[0].standard.{path}" and message in f.message for f in found), found
