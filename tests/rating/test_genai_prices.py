"""Comparison with genai-prices of Pydantic, an independent price list, if it is installed."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brivionix_billing import BillingError, Usage
from profiles import examples
from samples import AUTUMN, NOW, D, shipped, utc

genai_prices = pytest.importorskip("genai_prices", reason="genai-prices is an optional check")

TIERS = ("standard", "batch", "flex", "priority")
SELECTED = {"standard": None, "batch": {"processing": "batch"}}
"""Service tier -> price context of genai-prices. The context of other tiers is ``{"service_tier": name}``."""
BOUND = 272_000

# All known differences, the only cases that are not compared: (model, tier, from, to) -> the result of this library.
# genai-prices silently bills each of them at the standard price of the model (cases 3, 4 and 5).
DIFFERENCES: dict[tuple[str, str, str, str], str] = {
    ("gpt-5.3-codex", "batch", "2026-02-05", "9999-12-31"): "service_tier_unavailable",
    ("gpt-5.3-codex", "flex", "2026-02-05", "9999-12-31"): "service_tier_unavailable",
    **{
        (model, tier, released, first_sold): "service_tier_unavailable"
        for model, released in (
            ("gpt-5.5", "2026-04-23"),
            ("gpt-5.4", "2026-03-05"),
            ("gpt-5.4-mini", "2026-03-17"),
            ("gpt-5.3-codex", "2026-02-05"),
            ("gpt-5.2", "2025-12-11"),
        )
        for tier, first_sold in (("flex", "2026-10-12"), ("priority", "2026-10-12"), ("batch", "2026-10-14"))
        if (model, tier) not in (("gpt-5.3-codex", "flex"), ("gpt-5.3-codex", "batch"))
    },
    ("gpt-5.5", "standard", "2025-12-11", "2026-04-23"): "no_price",  # genai-prices has a price before the release
    (
        "gpt-5.2",
        "Priority",
        "2025-12-11",
        "9999-12-31",
    ): "priority",  # genai-prices bills a tier in another case as standard
    ("gpt-5.2", "wibble", "2025-12-11", "9999-12-31"): "unknown_service_tier",
}


def genai_price(model: str, tier: str, at: datetime, **usage: int) -> Decimal:
    """Return the price in USD according to genai-prices."""
    context: Any = SELECTED.get(tier, {"service_tier": tier})
    calculation = genai_prices.calc_price(
        genai_prices.Usage(**usage), model, provider_id="openai", genai_request_timestamp=at, price_context=context
    )
    total: Decimal = calculation.total_price
    return total


def known_difference(model: str, tier: str, at: datetime) -> str | None:
    """Return the result of this library where it is known to differ, else ``None``."""
    for (name, tier_name, start, end), result in DIFFERENCES.items():
        if (name, tier_name) == (model, tier) and utc(start) <= at < utc(end):
            return result
    return None


token_counts = st.one_of(st.integers(0, 100), st.integers(0, 300_000), st.integers(BOUND - 2, BOUND + 2))
times = st.one_of(
    st.sampled_from([NOW, AUTUMN, utc("2026-10-12"), utc("2026-10-13"), utc("2026-10-14")]),
    st.datetimes(datetime(2026, 4, 23), datetime(2027, 6, 1), timezones=st.just(UTC)),  # noqa: DTZ001  # timezones= adds the zone
)


@settings(max_examples=examples(400), deadline=None)
@given(
    st.sampled_from(shipped().model_names),
    st.sampled_from(TIERS),
    times,
    token_counts,
    token_counts,
    st.integers(0, 10**6),
)
def test_prices_match_genai_prices(model: str, tier: str, at: datetime, fresh: int, read: int, output: int) -> None:
    """The price of every model, tier, length and time is that of genai-prices, except for the known differences."""
    usage = Usage(input_tokens=fresh + read, cache_read_tokens=read, output_tokens=output)
    error_code = known_difference(model, tier, at)
    if error_code:
        with pytest.raises(BillingError) as caught:
            shipped().rate(usage, model=model, group="default", at=at, service_tier=tier)
        assert caught.value.code == error_code
        return
    charge = shipped().rate(usage, model=model, group="default", at=at, service_tier=tier)
    assert charge.nominal.amount == genai_price(
        model, tier, at, input_tokens=fresh + read, cache_read_tokens=read, output_tokens=output
    )


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("model", shipped().model_names)
@pytest.mark.parametrize("tokens", [0, 1, BOUND, BOUND + 1, 900_000])
def test_prices_match_at_the_long_context_bound(model: str, tier: str, tokens: int) -> None:
    """Both price lists agree at 272 000 tokens and at one token more, in every tier that is sold."""
    if known_difference(model, tier, AUTUMN):
        assert tier not in shipped().service_tiers(model, AUTUMN)
        return
    searches = {} if model == "gpt-5.3-codex" else {"web_searches": 3}  # has no search price in genai-prices
    usage = Usage(
        input_tokens=tokens,
        cache_read_tokens=tokens // 3,
        output_tokens=7,
        web_search_calls=searches.get("web_searches", 0),
    )
    charge = shipped().rate(usage, model=model, group="default", at=AUTUMN, service_tier=tier)
    expected = genai_price(
        model, tier, AUTUMN, input_tokens=tokens, cache_read_tokens=tokens // 3, output_tokens=7, **searches
    )
    assert charge.nominal.amount == expected


@pytest.mark.parametrize(("row", "result"), DIFFERENCES.items(), ids=lambda part: str(part)[:60])
def test_every_known_difference_still_exists(row: tuple[str, str, str, str], result: str) -> None:
    """For each known difference, genai-prices gives the standard price and this library the listed result."""
    model, tier, start, end = row
    for at in (utc(start), utc(end).replace(year=min(int(end[:4]), 2030))):
        if utc(start) <= at < utc(end):
            usage = Usage(input_tokens=1000, output_tokens=10)
            standard_price = genai_price(model, tier, at, input_tokens=1000, output_tokens=10)
            assert standard_price == genai_price(model, "standard", at, input_tokens=1000, output_tokens=10)
            if result == "priority":
                charge = shipped().rate(usage, model=model, group="default", at=AUTUMN, service_tier=tier)
                assert charge.nominal.amount == 2 * standard_price > D(0)
            else:
                with pytest.raises(BillingError) as caught:
                    shipped().rate(usage, model=model, group="default", at=at, service_tier=tier)
                assert caught.value.code == result
