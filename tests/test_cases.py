"""Known billing failures of other products, by their number in the list of cases, each with its figures."""

from __future__ import annotations

import decimal
import pickle
import re
from datetime import datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from bill_kit import billed, record, written
from brivionix_billing import BillingError, Charge, Money, PriceBook, PriceFileError, Rounding, Usage
from brivionix_billing.decimals import format_plain
from brivionix_billing.money import allocate
from brivionix_billing.pages import bill_page, price_list, pricing_page
from brivionix_billing.pages.formatting import LocaleFormatter, round_for_display
from brivionix_billing.rating import SERVICE_TIERS, ChannelRate
from samples import AUTUMN, NOW, SHIPPED, D, book_of, code_of, model, shipped, utc


def rate(usage: Usage, model: str, tier: str | None = None, at: datetime = AUTUMN, group: str = "default") -> Charge:
    """Rate a usage with the shipped price file."""
    return shipped().rate(usage, model=model, group=group, at=at, service_tier=tier)


def test_case_01_one_input_and_one_output_token_are_exact() -> None:
    """One input and one output token of gpt-5.4-mini cost exactly 0.00000525."""
    charge = rate(Usage(input_tokens=1, output_tokens=1), "gpt-5.4-mini")
    assert format_plain(charge.credits) == "0.00000525"
    assert charge.nominal == Money("0.00000525", "USD")


def test_case_02_one_more_token_keeps_priority() -> None:
    """gpt-5.5 in tier priority costs more at 272 001 input tokens than at 272 000, and stays priority."""
    below, above = (rate(Usage(input_tokens=n), "gpt-5.5", "priority") for n in (272_000, 272_001))
    assert (below.credits, above.credits) == (D("3.4"), D("3.4000125"))
    assert above.service_tier == "priority"


@pytest.mark.parametrize("tier", ["batch", "flex"])
def test_case_03_codex_is_not_sold_as_batch(tier: str) -> None:
    """A model that is not sold in a tier is rejected with model, tier and the tiers that are sold."""
    with pytest.raises(BillingError, match=f"gpt-5.3-codex is not sold in tier {tier} .*standard, priority$") as caught:
        rate(Usage(input_tokens=1), "gpt-5.3-codex", tier)
    assert code_of(caught) == "service_tier_unavailable"


def test_case_04_an_unknown_tier_is_not_standard() -> None:
    """'wibble' is an error, whether requested or served, and 'Priority' is priority."""
    usage = Usage(input_tokens=1000)
    with pytest.raises(BillingError, match=r"'wibble'.*standard, batch, flex, priority") as caught:
        rate(usage, "gpt-5.4-mini", "wibble")
    assert code_of(caught) == "unknown_service_tier"
    with pytest.raises(BillingError, match="'wibble'"):
        rate(Usage(input_tokens=1000, service_tier="wibble"), "gpt-5.4-mini", "standard")
    assert rate(usage, "gpt-5.4-mini", "Priority").credits == D("0.0015")
    assert rate(usage, "gpt-5.4-mini", "standard").credits == D("0.00075")


def test_case_05_flex_is_rejected_before_it_is_sold() -> None:
    """Flex is rejected one microsecond before it is sold, and costs half from then on."""
    usage = Usage(input_tokens=1_000_000)
    with pytest.raises(BillingError, match=r"not sold in tier flex at 2026-10-11T23:59:59\.999999Z") as caught:
        rate(usage, "gpt-5.4-mini", "flex", utc("2026-10-11T23:59:59.999999"))
    assert code_of(caught) == "service_tier_unavailable"
    assert rate(usage, "gpt-5.4-mini", "flex", utc("2026-10-12")).credits == D("0.375")


@pytest.mark.parametrize(("whole", "cached"), [(100, 200), (56_322, 72_960)])
def test_case_06_more_cached_than_input_is_a_contradiction(whole: int, cached: int) -> None:
    """More cached tokens than input tokens is a contradiction that states both numbers."""
    message = f"cache_read_tokens {cached} .*input_tokens {whole}"
    with pytest.raises(BillingError, match=message) as caught:
        Usage(input_tokens=whole, cache_read_tokens=cached)
    assert code_of(caught) == "usage_contradiction"
    body = {"prompt_tokens": whole, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": cached}}
    with pytest.raises(BillingError, match=message):
        Usage.from_response(body)


@pytest.mark.parametrize(
    "body",
    [
        {"promptTokenCount": 56_322, "cachedContentTokenCount": 72_960},
        {"prompt_tokens": 56_322, "completion_tokens": 0, "num_cached_tokens": 72_960},
        {"inputTokens": 56_322, "outputTokens": 0, "cacheReadInputTokens": 72_960, "totalTokens": 56_322},
    ],
    ids=["Gemini", "Mistral", "Bedrock"],
)
def test_case_06_more_cached_than_input_of_other_providers(body: dict[str, Any]) -> None:
    """More cached tokens than input tokens is a contradiction in the formats of other providers too."""
    with pytest.raises(BillingError, match=r"72960.* 56322|56322.* 72960") as caught:
        Usage.from_response(body)
    assert code_of(caught) == "usage_contradiction"


@pytest.mark.parametrize(("name", "count"), [("input_tokens", -1000), ("output_tokens", -5)])
def test_case_07_negative_counts_are_rejected(name: str, count: int) -> None:
    """A negative count is rejected with its name and number."""
    with pytest.raises(BillingError, match=f"{name} is {count}, which is negative") as caught:
        Usage(**{name: count})  # type: ignore[arg-type]  # any name of a count
    assert code_of(caught) == "invalid_usage"


@pytest.mark.parametrize(
    "body",
    [
        {"input_tokens": -1000, "output_tokens": -5, "cache_read_input_tokens": 0},
        {"promptTokenCount": -1000, "candidatesTokenCount": -5, "totalTokenCount": -1005},
        {"inputTokens": -1000, "outputTokens": -5, "totalTokens": -1005},
        {"billed_units": {"input_tokens": -1000.0, "output_tokens": -5.0}},
    ],
    ids=["Anthropic", "Gemini", "Bedrock", "Cohere"],
)
def test_case_07_negative_counts_are_rejected_in_every_format(body: dict[str, Any]) -> None:
    """A negative count is rejected in the format of every provider."""
    with pytest.raises(BillingError, match="-1000, which is negative") as caught:
        Usage.from_response(body)
    assert code_of(caught) == "invalid_usage"


def test_case_08_more_reasoning_than_output_is_a_contradiction() -> None:
    """80 reasoning tokens in 10 output tokens is a contradiction."""
    with pytest.raises(BillingError, match=r"reasoning_tokens 80 .*output_tokens 10\b") as caught:
        Usage(output_tokens=10, reasoning_tokens=80)
    assert code_of(caught) == "usage_contradiction"


def test_case_08_reported_reasoning_above_the_output_is_a_warning() -> None:
    """A provider's 80 reasoning tokens in 10 output tokens are a warning, and Gemini counts thoughts separately."""
    body = {"input_tokens": 1, "output_tokens": 10, "output_tokens_details": {"reasoning_tokens": 80}}
    usage = Usage.from_response(body)
    assert (usage.output_tokens, usage.reasoning_tokens) == (10, 10)
    assert usage.warnings == (
        "usage.output_tokens_details.reasoning_tokens 80 is more than output_tokens 10, which is billed",
    )
    body = {"input_tokens": 1, "output_tokens": 10, "cache_read_input_tokens": 0}
    usage = Usage.from_response({**body, "output_tokens_details": {"thinking_tokens": 80}})
    assert "thinking_tokens 80 is more than output_tokens 10" in usage.warnings[0]
    usage = Usage.from_response({"promptTokenCount": 1, "candidatesTokenCount": 10, "thoughtsTokenCount": 80})
    assert (usage.output_tokens, usage.reasoning_tokens) == (90, 80)


def test_case_09_cached_audio_is_charged_once() -> None:
    """Cached audio tokens cost only the cached price: 0.03187545, not 0.06487545."""
    prices = "{input: 0.15, cache_read: 0.015, audio_input: 1, audio_cache_read: 0.1, output: 2.5}"
    usage = Usage(
        input_tokens=33_003,
        cache_read_tokens=33_000,
        audio_input_tokens=33_000,
        audio_cache_read_tokens=33_000,
        output_tokens=11_430,
    )
    book = book_of(f"{{from: 2026-01-01, standard: {prices}}}")
    assert book.rate(usage, model="m", group="g", at=NOW).credits == D("0.03187545")
    assert usage.meters == {"input": 3, "output": 11_430, "audio_cache_read": 33_000}
    audio = [{"modality": "AUDIO", "tokenCount": 33_000}]
    gemini = {
        "promptTokenCount": 33_003,
        "promptTokensDetails": audio,
        "cachedContentTokenCount": 33_000,
        "cacheTokensDetails": audio,
        "candidatesTokenCount": 11_430,
        "totalTokenCount": 44_433,
    }
    chat = {
        "prompt_tokens": 33_003,
        "completion_tokens": 11_430,
        "prompt_tokens_details": {
            "cached_tokens": 33_000,
            "audio_tokens": 33_000,
            "cached_tokens_details": {"audio_tokens": 33_000},
        },
    }
    for body in (gemini, chat):
        assert Usage.from_response(body) == usage


def test_case_10_cache_writes_are_billed_once() -> None:
    """250 000 input tokens, 100 000 of them cache writes, cost 0.275, not 0.375."""
    book = book_of("{from: 2026-01-01, standard: {input: 1, cache_write: 1.25, output: 6}}")
    usage = Usage(input_tokens=250_000, cache_write_tokens=100_000)
    assert book.rate(usage, model="m", group="g", at=NOW).credits == D("0.275")
    bodies: list[dict[str, Any]] = [
        {"prompt_tokens": 250_000, "completion_tokens": 0, "prompt_tokens_details": {"cache_write_tokens": 100_000}},
        {"input_tokens": 150_000, "output_tokens": 0, "cache_creation_input_tokens": 100_000},
        {"inputTokens": 150_000, "outputTokens": 0, "cacheWriteInputTokens": 100_000, "totalTokens": 250_000},
    ]
    for body in bodies:
        assert book.rate(Usage.from_response(body), model="m", group="g", at=NOW).credits == D("0.275")


def test_case_11_each_request_has_its_own_context() -> None:
    """Two requests of 150 000 tokens cost the short-context price, although their sum is long context."""
    charges = [rate(Usage(input_tokens=150_000), "gpt-5.4") for _ in range(2)]
    assert [charge.context_tier for charge in charges] == ["short", "short"]
    assert sum(charge.units for charge in charges) == 750_000_000_000_000_000
    assert rate(Usage(input_tokens=300_000), "gpt-5.4").credits == D("1.5")


def test_case_12_long_context_starts_strictly_above_the_bound() -> None:
    """272 000 input tokens, including cached ones, are short context, and 272 001 are long context."""
    for read in (0, 200_000, 272_000):
        at_bound, above = (
            rate(Usage(input_tokens=n, cache_read_tokens=read, output_tokens=1), "gpt-5.4") for n in (272_000, 272_001)
        )
        assert (at_bound.context_tier, above.context_tier) == ("short", "long")
        assert at_bound.credits == (272_000 - read) * D("0.0000025") + read * D("0.00000025") + D("0.000015")
        assert above.credits == (272_001 - read) * D("0.000005") + read * D("0.0000005") + D("0.0000225")


def test_case_13_the_decimal_context_does_not_change_a_charge() -> None:
    """At a decimal precision of 3 digits the charge is still 0.1281015, not 0.128."""
    usage = Usage(input_tokens=50_802, output_tokens=20_000)
    with decimal.localcontext(decimal.Context(prec=3)):
        charge = rate(usage, "gpt-5.4-mini")
        assert str(charge.credits) == "0.1281015"
        assert str(charge.cost("stripe").amount) == "0.01537218"


def test_case_14_unknown_names_are_never_free() -> None:
    """An unknown model or price key is an error, and an unknown count is an error or listed, never dropped."""
    with pytest.raises(BillingError, match=r"no model 'gpt-5\.4-minni'") as caught:
        rate(Usage(input_tokens=1), "gpt-5.4-minni")
    assert (code_of(caught), caught.value.http_status) == ("unknown_model", 404)
    with pytest.raises(PriceFileError, match=r"the key 'inptu' is not known; did you mean 'input'\?"):
        book_of("{from: 2026-01-01, standard: {inptu: 1, output: 6}}")
    with pytest.raises(TypeError, match="no argument 'input_token'"):
        Usage(input_token=1)
    with pytest.raises(BillingError, match="'promt_tokens'") as caught:
        Usage.from_response({"promt_tokens": 9, "completion_tokens": 3})
    assert code_of(caught) == "unknown_usage_format"
    body = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_token": 5}}
    assert Usage.from_response(body).unaccounted == (("usage.prompt_tokens_details.cached_token", 5),)
    with pytest.raises(BillingError, match="no price for it") as caught:
        rate(Usage(audio_output_tokens=1, output_tokens=1), "gpt-5.4-mini")
    assert code_of(caught) == "meter_unpriced"


def test_case_15_callers_cannot_change_prices() -> None:
    """No object that a price book returns can change the price of later requests."""
    book = PriceBook.load(SHIPPED)
    usage = Usage(input_tokens=1000)
    before = book.rate(usage, model="gpt-5.4", group="default", at=NOW)
    card, channel = before.card, book.channel("stripe")
    attempts: list[tuple[Any, str, Any]] = [
        (card, "unit_rates", ()),
        (card, "unit_prices", ()),
        (before, "credits", 0),
        (usage, "input_tokens", 0),
        (book, "digest", ""),
        (channel, "prices", channel.prices),
        (channel.prices, "entries", ()),
        (before.nominal, "amount", D(0)),
    ]
    for target, name, value in attempts:
        with pytest.raises(AttributeError):
            setattr(target, name, value)
    with pytest.raises(TypeError):
        card.channels["stripe"] = ChannelRate("USD", D(99), NOW)  # type: ignore[index]  # the mapping is read-only
    book.channels().clear()
    assert book.rate(usage, model="gpt-5.4", group="default", at=NOW).as_dict() == before.as_dict()


RESPONSE: dict[str, Any] = {
    "model": "gpt-5.4-mini-2026-03-17",
    "service_tier": "flex",
    "output": [
        {"type": "reasoning"},
        {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "a"}},
        {"type": "web_search_call", "status": "completed", "action": {"type": "open_page", "url": "b"}},
        {"type": "web_search_call", "status": "completed"},
        {"type": "file_search_call"},
        {"type": "message", "content": []},
    ],
    "usage": {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100},
}


def as_objects(value: Any) -> Any:
    """Return a body with objects instead of dicts, as an SDK does."""
    if isinstance(value, dict):
        return SimpleNamespace(**{key: as_objects(item) for key, item in value.items()})
    return [as_objects(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("body", [RESPONSE, as_objects(RESPONSE)], ids=["dict", "object"])
def test_case_16_the_served_tier_and_searches_are_billed(body: Any) -> None:
    """The served tier is billed instead of the requested one, and each search has its fee."""
    usage = Usage.from_response(body)
    charge = shipped().rate(usage, group="default", at=AUTUMN, service_tier="priority")
    assert (charge.model, charge.service_tier) == ("gpt-5.4-mini", "flex")
    assert usage.meters == {"input": 1000, "output": 100, "web_search": 2, "file_search": 1}
    served = {"service_tier": "flex", "model": "gpt-5.4-mini-2026-03-17"}
    assert usage == Usage(1000, 100, web_search_calls=2, file_search_calls=1, **served)  # type: ignore[arg-type]
    assert charge.credits == D("0.000375") + D("0.000225") + D("0.02") + D("0.0025")


@pytest.mark.parametrize(
    ("body", "tier", "searches"),
    [
        (
            {
                "model": "m",
                "usage": {
                    "input_tokens": 1000,
                    "output_tokens": 100,
                    "service_tier": "batch",
                    "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
                },
            },
            "batch",
            2,
        ),
        (
            {
                "modelVersion": "m",
                "usageMetadata": {
                    "promptTokenCount": 1000,
                    "candidatesTokenCount": 100,
                    "trafficType": "ON_DEMAND_FLEX",
                },
            },
            "flex",
            0,
        ),
        ({"usage": {"inputTokens": 1000, "outputTokens": 100}, "serviceTier": {"type": "priority"}}, "priority", 0),
        (
            {
                "model": "m",
                "service_tier": "default",
                "usage": {
                    "prompt_tokens": 1000,
                    "completion_tokens": 100,
                    "server_tool_use": {"web_search_requests": 3, "tool_calls_executed": 3},
                },
            },
            "standard",
            3,
        ),
    ],
    ids=["Anthropic", "Vertex", "Bedrock", "OpenRouter"],
)
@pytest.mark.parametrize("convert", [dict, as_objects], ids=["dict", "object"])
def test_case_16_the_served_tier_and_searches_of_other_providers_are_billed(
    body: Any, tier: str, searches: int, convert: Any
) -> None:
    """In the formats of other providers the served tier is billed, and each search has its fee."""
    prices = ", ".join(f"{name}: {{input: {n}, output: {n}}}" for n, name in enumerate(SERVICE_TIERS, 1))
    book = book_of(
        f"{{from: 2026-01-01, {prices}}}", top="tools: {web_search: [{from: 2026-01-01, per_1000_calls: 10}]}\n"
    )
    usage = Usage.from_response(convert(body))
    charge = book.rate(usage, model="m", group="g", at=NOW, service_tier="standard")
    assert (charge.service_tier, usage.meters.get("web_search", 0)) == (tier, searches)
    assert charge.credits == 1100 * (SERVICE_TIERS.index(tier) + 1) * D("0.000001") + searches * D("0.01")


def _entry(date: str, prices: str) -> str:
    """Return an entry of a price file, given its four prices."""
    fields = dict(zip(("input", "cache_read", "cache_write", "output"), prices.split(), strict=True))
    return f"{{from: {date}, standard: {{{', '.join(f'{key}: {value}' for key, value in fields.items())}}}}}"


def test_case_17_a_request_costs_the_price_of_its_own_time() -> None:
    """The prices of gpt-5.6 change exactly on 2026-07-30 and 2026-08-21."""
    changes = {
        "gpt-5.6-terra": ("2026-07-30", "2.5 0.25 3.125 15", "2 0.2 2.5 12"),
        "gpt-5.6-luna": ("2026-07-30", "1 0.1 1.25 6", "0.2 0.02 0.25 1.2"),
        "gpt-5.6-sol": ("2026-08-21", "5 0.5 6.25 30", "4 0.4 5 20"),
    }
    book = book_of(
        "".join(
            model(f"{_entry('2026-01-01', old)}, {_entry(date, new)}", name)
            for name, (date, old, new) in changes.items()
        )
    )
    usage = Usage(
        input_tokens=3_000_000, cache_read_tokens=1_000_000, cache_write_tokens=1_000_000, output_tokens=1_000_000
    )
    for name, (date, old, new) in changes.items():
        instants = (utc(date) - timedelta(microseconds=1), utc(date))
        before, after = (book.rate(usage, model=name, group="g", at=at) for at in instants)
        assert before.credits == sum(map(Decimal, old.split()))
        assert after.credits == sum(map(Decimal, new.split()))


@pytest.mark.parametrize(
    ("credits", "ratio", "quota"), [("0.01", "0.57", 2850), ("0.1", "1.15", 57_500), ("0.000001", "1", 1)]
)
def test_case_18_gateway_quota_is_exact(credits: str, ratio: str, quota: int) -> None:
    """0.01 x 500 000 x 0.57 is 2850 quota, and a positive price is at least 1 quota."""
    book = book_of(f"{{from: 2026-01-01, standard: {{input: {credits}}}}}", ratio=ratio)
    usage = Usage(input_tokens=1_000_000)
    assert book.rate(usage, model="m", group="g", at=NOW).gateway_quota() == quota


def test_case_19_free_is_free_and_an_unknown_group_is_an_error() -> None:
    """A ratio of 0 is billed and displayed as 0, and an unknown group is rejected."""
    usage = Usage(input_tokens=1000, output_tokens=1000)
    free = rate(usage, "gpt-5.4-mini", group="free-trial", at=NOW)
    assert (free.credits, free.gateway_quota(), free.cost("rmb")) == (D(0), 0, Money(0, "CNY"))
    assert [line.ratio for line in free.lines] == [D(0), D(0)]
    assert "x ratio 0 = 0 USD" in free.explain()
    with pytest.raises(BillingError, match="no group 'free-trail'") as caught:
        rate(usage, "gpt-5.4-mini", group="free-trail")
    assert (code_of(caught), caught.value.http_status) == ("unknown_group", 403)


def test_case_20_the_group_that_served_decides() -> None:
    """A usage costs the ratio of the group that served it, not of a group tried before."""
    usage = Usage(input_tokens=1_000_000)
    tried, served = (rate(usage, "gpt-5.3-codex", group=group, at=NOW) for group in ("default", "coding"))
    assert (tried.credits, served.credits) == (D("1.75"), D("1.4"))
    assert rate(usage, "gpt-5.3-codex", group="default", at=NOW).credits == D("1.75")


def test_case_21_counts_are_bounded() -> None:
    """A count above 10^12 is rejected."""
    assert rate(Usage(input_tokens=10**12), "gpt-5.4-mini").credits == D(750_000)
    with pytest.raises(BillingError, match="above 10\\^12"):
        Usage(input_tokens=10**12 + 1)


def test_case_22_each_channel_has_its_own_price() -> None:
    """One Credit costs 0.85 CNY through one channel and 0.12 USD through the other, without an exchange rate."""
    charge = rate(Usage(input_tokens=1_000_000, cache_read_tokens=0), "gpt-5.2")
    assert charge.cost("rmb") == Money("1.4875", "CNY")
    assert charge.cost("stripe") == Money("0.21", "USD")
    row = next(row for row in listed_group("default")["prices"] if row["model"] == "gpt-5.2")
    assert (row["topup"]["rmb"]["input"], row["topup"]["stripe"]["input"]) == ("1.4875", "0.21")


def listed_group(group: str) -> Any:
    """Return a group of the price list."""
    (entry,) = price_list(shipped(), at=AUTUMN, groups=[group])["groups"]
    return entry


@pytest.mark.parametrize(
    ("channel", "price", "pays"), [("stripe", "$0.12", "12.00 USD"), ("rmb", "CN¥0.85", "85.00 CNY")]
)
def test_case_23_the_price_on_the_page_is_the_price_paid(channel: str, price: str, pays: str) -> None:
    """The price per Credit on the page, a quote for 100 Credits and a quote for its payment agree."""
    html = pricing_page(shipped(), at=AUTUMN)
    assert f'<strong>{channel}</strong> <span class="figure big">{price}</span>' in html
    quote = shipped().quote(channel, at=AUTUMN, credits=100)
    assert (str(quote.pay), quote.credits) == (pays, D(100))
    assert shipped().quote(channel, at=AUTUMN, pay=quote.pay.amount).credits == 100
    charge = rate(Usage(web_search_calls=10_000), "gpt-5.5")
    assert charge.cost(channel) == quote.pay.money  # usage of 100 Credits costs the price of 100 Credits


@pytest.mark.parametrize(
    ("applies", "pays"),
    [
        ("all", {"90": "76.50", "99": "80.75", "100": "80.75", "101": "81.56"}),
        ("above", {"99": "84.15", "100": "85.00", "101": "85.81"}),
    ],
)
def test_case_24_a_discount_applies_from_its_threshold_on(applies: str, pays: dict[str, str]) -> None:
    """A discount with threshold 100 Credits applies at 100 Credits and above, not only at exactly 100."""
    volume = f"[{{from: 2026-01-01, applies_to: {applies}, tiers: [{{at_least: 100, discount: 0.05}}]}}]"
    channel = f"{{currency: CNY, prices: [{{from: 2026-01-01, price_per_credit: 0.85}}], volume_discounts: {volume}}}"
    book = book_of("{from: 2026-01-01, standard: {input: 1}}", channel=channel)
    for credits, pay in pays.items():
        assert str(book.quote("c", at=NOW, credits=credits).pay) == f"{pay} CNY"
    # The payment for the threshold buys exactly the threshold.
    assert book.quote("c", at=NOW, pay=pays["100"]).credits == 100
    assert book.quote("c", at=NOW, credits=90).discount == Money(0, "CNY")


def test_case_25_a_price_is_displayed_without_loss() -> None:
    """Prices such as 0.0125 and 0.0045 are displayed in full, and longer ones are rounded only once."""
    exact = [format_plain(D(text)) for text in ("0.0125", "0.0045", "0.00450", "1E-7", "0.000000000001", "12", "1E+2")]
    assert exact == ["0.0125", "0.0045", "0.0045", "0.0000001", "0.000000000001", "12", "100"]
    assert [round_for_display(D(text), "USD") for text in exact] == [D(text) for text in exact]
    # 1.00449995 rounds to 1.004 in one step. Two steps, by way of five digits, would give 1.005.
    assert round_for_display(D("1.00449995"), "USD") == D("1.004")
    assert [LocaleFormatter("en").price(D(text), "USD") for text in ("0.0125", "0.0045")] == ["$0.0125", "$0.0045"]


def test_case_26_each_price_is_under_the_name_of_its_group() -> None:
    """The page has each price under the name of its group, and only prices of the requested groups."""
    html = pricing_page(shipped(), at=AUTUMN, groups=["default", "coding"])
    before, _, after = html.partition("Prices of group coding")
    assert "Prices of group default" in before
    assert ">$14.00<" in before  # gpt-5.3-codex, output
    assert ">$11.20<" not in before
    assert ">$11.20<" in after
    one_group = pricing_page(shipped(), at=AUTUMN, groups=["default"])
    assert "coding" not in one_group
    assert ">$11.20<" not in one_group


def test_case_27_allocated_parts_add_up() -> None:
    """Three equal parts of 100 are 34, 33 and 33, and no part of a positive total is negative."""
    thirds = allocate(100, [1, 1, 1])
    assert (thirds, sum(thirds)) == ([34, 33, 33], 100)
    assert allocate(1, [5, 0, 5]) == [1, 0, 0]
    assert Money("0.005", "USD").rounded(Rounding.HALF_UP).minor == 1


def test_case_27_the_page_of_a_bill_adds_up() -> None:
    """On the page of a bill the displayed lines add up to the displayed total in every column."""
    bill = billed(written([record(n) for n in range(1, 60)]))
    html = bill_page(bill)
    for column in ("credits", "nominal", "channels.rmb", "channels.stripe", "channels.konbini"):
        lines = re.findall(rf'data-path="lines\.\d+\.rounded\.{column}">([\d.,]+)<', html)
        (total,) = set(re.findall(rf'data-path="totals\.rounded\.{column}">([\d.,]+)<', html))
        parts = [D(text.replace(",", "")) for text in lines]
        assert sum(parts) == D(total.replace(",", ""))
        assert len(parts) == len(bill["lines"])


def test_case_29_a_top_up_may_exceed_2_to_the_31() -> None:
    """A top-up of more than 2^31 Credits is credited exactly."""
    quote = shipped().quote("rmb", at=NOW, credits=2**31 + 1)
    assert quote.credits == D(2**31 + 1)
    assert str(quote.pay) == "1825361101.65 CNY"


def test_case_32_an_explanation_needs_only_the_charge() -> None:
    """An explanation is computed from the stored charge only and adds up to it exactly."""
    charge = rate(Usage(input_tokens=12_345, cache_read_tokens=6_789, output_tokens=1_011), "gpt-5.4", group="partner")
    explanation = charge.explain()
    parts = [D(text) for text in re.findall(r"= ([\d.]+) USD$", explanation, re.MULTILINE)][: len(charge.lines)]
    assert sum(parts) == charge.nominal.amount
    assert sum(line.credits for line in charge.lines) == charge.credits
    assert f"= {format_plain(charge.credits)} Credits" in explanation
    stored = pickle.loads(pickle.dumps(charge))  # as a gateway stores it, without the price book
    assert (stored.explain(), stored.credits) == (explanation, charge.credits)
