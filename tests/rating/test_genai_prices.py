"""Against an independent price list: genai-prices of Pydantic, where it is installed."""

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
"""How genai-prices is told the service tier; the others are ``{"service_tier": name}``."""
BOUND = 272_000

# Every known difference, and nothing else is left out: (model, tier, from, to) -> what this library answers.
# genai-prices bills each of them at the standard price of that model without a word (cases 3, 4 and 5).
DIFFERENCES: dict[tuple[str, str, str, str], str] = {
    ("gpt-5.3-codex", "batch", "2026-02-05", "9999-12-31"): "service_tier_unavailable",
    ("gpt-5.3-codex", "flex", "2026-02-05", "9999-12-31"): "service_tier_unavailable",
    **{
        (model, tier, released, sold): "service_tier_unavailable"
        for model, released in (
            ("gpt-5.5", "2026-04-23"),
            ("gpt-5.4", "2026-03-05"),
            ("gpt-5.4-mini", "2026-03-17"),
            ("gpt-5.3-codex", "2026-02-05"),
            ("gpt-5.2", "2025-12-11"),
        )
        for tier, sold in (("flex", "2026-10-12"), ("priority", "2026-10-12"), ("batch", "2026-10-14"))
        if (model, tier) not in (("gpt-5.3-codex", "flex"), ("gpt-5.3-codex", "batch"))
    },
    ("gpt-5.5", "standard", "2025-12-11", "2026-04-23"): "no_price",  # priced there before it was released
    ("gpt-5.2", "Priority", "2025-12-11", "9999-12-31"): "priority",  # a tier in another case is standard there
    ("gpt-5.2", "wibble", "2025-12-11", "9999-12-31"): "unknown_service_tier",
}


def theirs(model: str, tier: str, at: datetime, **usage: int) -> Decimal:
    context: Any = SELECTED.get(tier, {"service_tier": tier})
    found = genai_prices.calc_price(
        genai_prices.Usage(**usage), model, provider_id="openai", genai_request_timestamp=at, price_context=context
    )
    total: Decimal = found.total_price
    return total


def differs(model: str, tier: str, at: datetime) -> str | None:
    for (name, of, start, end), answer in DIFFERENCES.items():
        if (name, of) == (model, tier) and utc(start) <= at < utc(end):
            return answer
    return None


numbers = st.one_of(st.integers(0, 100), st.integers(0, 300_000), st.integers(BOUND - 2, BOUND + 2))
times = st.one_of(
    st.sampled_from([NOW, AUTUMN, utc("2026-10-12"), utc("2026-10-13"), utc("2026-10-14")]),
    st.datetimes(datetime(2026, 4, 23), datetime(2027, 6, 1), timezones=st.just(UTC)),  # noqa: DTZ001  # the zone follows
)


@settings(max_examples=examples(400), deadline=None)
@given(st.sampled_from(shipped().model_names), st.sampled_from(TIERS), times, numbers, numbers, st.integers(0, 10**6))
def test_prices_are_those_of_genai_prices(
    model: str, tier: str, at: datetime, fresh: int, read: int, output: int
) -> None:
    """Every model, tier, length and time costs what genai-prices says, but for the differences in the table."""
    usage = Usage(input_tokens=fresh + read, cache_read_tokens=read, output_tokens=output)
    answer = differs(model, tier, at)
    if answer:
        with pytest.raises(BillingError) as caught:
            shipped().rate(usage, model=model, group="default", at=at, service_tier=tier)
        assert caught.value.code == answer
        return
    charge = shipped().rate(usage, model=model, group="default", at=at, service_tier=tier)
    assert charge.nominal.amount == theirs(
        model, tier, at, input_tokens=fresh + read, cache_read_tokens=read, output_tokens=output
    )


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("model", shipped().model_names)
@pytest.mark.parametrize("tokens", [0, 1, BOUND, BOUND + 1, 900_000])
def test_both_sides_of_the_bound(model: str, tier: str, tokens: int) -> None:
    """At 272 000 tokens and one above, in every tier that is sold, the two agree; web searches cost the same."""
    if differs(model, tier, AUTUMN):
        assert tier not in shipped().service_tiers(model, AUTUMN)
        return
    searches = {} if model == "gpt-5.3-codex" else {"web_searches": 3}  # has no search price there
    usage = Usage(
        input_tokens=tokens,
        cache_read_tokens=tokens // 3,
        output_tokens=7,
        web_search_calls=searches.get("web_searches", 0),
    )
    charge = shipped().rate(usage, model=model, group="default", at=AUTUMN, service_tier=tier)
    expected = theirs(
        model, tier, AUTUMN, input_tokens=tokens, cache_read_tokens=tokens // 3, output_tokens=7, **searches
    )
    assert charge.nominal.amount == expected


@pytest.mark.parametrize(("row", "answer"), DIFFERENCES.items(), ids=lambda part: str(part)[:60])
def test_the_differences_are_real(row: tuple[str, str, str, str], answer: str) -> None:
    """Each row of the table still differs: there a price like standard's, here the answer that the table says."""
    model, tier, start, end = row
    for at in (utc(start), utc(end).replace(year=min(int(end[:4]), 2030))):
        if utc(start) <= at < utc(end):
            usage = Usage(input_tokens=1000, output_tokens=10)
            there = theirs(model, tier, at, input_tokens=1000, output_tokens=10)
            assert there == theirs(model, "standard", at, input_tokens=1000, output_tokens=10)
            if answer == "priority":
                here = shipped().rate(usage, model=model, group="default", at=AUTUMN, service_tier=tier)
                assert here.nominal.amount == 2 * there > D(0)
            else:
                with pytest.raises(BillingError) as caught:
                    shipped().rate(usage, model=model, group="default", at=at, service_tier=tier)
                assert caught.value.code == answer
