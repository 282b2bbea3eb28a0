"""The worst case: the amount that a gateway holds before it forwards a request."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brivionix_billing import BillingError, PriceBook, Usage
from brivionix_billing.tokens import TokenCounter, WorstCase
from profiles import examples
from samples import AUTUMN, book_of, code_of, shipped
from token_kit import chat

NONE: Any = None


def worst(request: dict[str, Any], model: str = "gpt-5.4", **more: Any) -> WorstCase:
    given: dict[str, Any] = {"group": "default", "at": AUTUMN} | more
    return TokenCounter(model, shipped()).worst_case(request, **given)


def credits(worst: WorstCase) -> Fraction:
    return Fraction(worst.credits)


@pytest.mark.parametrize(
    ("more", "output"),
    [
        ({}, 128_000),
        ({"max_tokens": 100}, 100),
        ({"max_completion_tokens": 100, "max_tokens": 70}, 100),
        ({"max_completion_tokens": 100, "n": 3}, 300),
        ({"max_tokens": 10**9}, 128_000),
        ({"max_tokens": 10**9, "n": 2}, 256_000),
        ({"max_tokens": None, "n": None}, 128_000),
        ({"max_tokens": 100, "max_output_tokens": 1}, 100),
        ({"max_output_tokens": 1}, 128_000),
        ({"max_tokens": 100, "prediction": {"type": "content", "content": "one two three"}}, 103),
    ],
)
def test_the_output_is_the_limit_of_the_request(more: dict[str, Any], output: int) -> None:
    """The output is the largest limit of the request, within the model's, for every choice, plus predicted output."""
    assert worst(chat("Hi", **more)).output_tokens == output


@pytest.mark.parametrize(
    "more",
    [
        *({"max_tokens": value} for value in (0, -1, 1.5, True, "9", 10**13)),
        *({"n": value} for value in (0, 129, "2", 10**9)),
        {"max_tool_calls": -1, "tools": [{"type": "web_search"}]},
        {"service_tier": 5},
        {"service_tier": "batch"},
    ],
)
def test_invalid_limits_are_rejected(more: dict[str, Any]) -> None:
    """Negative, fractional, huge or wrong limits, and too many choices, are ``invalid_request`` (CASES 21)."""
    body = chat("Hi", **more)
    if "tools" in body:
        body = {"input": "Hi", **more}
    with pytest.raises(BillingError) as caught:
        worst(body)
    assert code_of(caught) == "invalid_request"


def test_choices_times_limit_is_bounded() -> None:
    """Two choices of 10^12 tokens each are ``invalid_request`` if no limit of the model lowers them."""
    with pytest.raises(BillingError) as caught:
        TokenCounter("gpt-5.4").worst_case(chat("Hi", max_tokens=10**12, n=2))
    assert code_of(caught) == "invalid_request"


def test_the_exact_figure() -> None:
    """7 tokens in and 2 x 100 out of gpt-5.4: (7 x 2.5 + 200 x 15) / 10^6, no cached discount assumed."""
    result = worst(chat("hi", max_tokens=100, n=2))
    assert (result.input_tokens, result.output_tokens, result.is_guaranteed, result.reasons) == (7, 200, True, ())
    assert credits(result) == (7 * Fraction(25, 10) + 200 * 15) / 10**6
    assert result.charge is not None
    assert result.charge.usage.cache_read_tokens == 0
    assert result.charge.usage.estimated  # it was not reported by a provider


def test_the_group_and_the_tier_determine_the_price() -> None:
    """The group's ratio and the requested tier, or the given one, determine the price."""
    body = chat("hi", max_tokens=100)
    standard = credits(worst(body))
    assert credits(worst(body, group="coding")) == standard * Fraction(9, 10)
    assert credits(worst({**body, "service_tier": "priority"})) == standard * 2
    assert credits(worst({**body, "service_tier": "priority"}, service_tier="flex")) == standard / 2
    with pytest.raises(BillingError) as caught:
        worst(body, group="mini-only")
    assert code_of(caught) == "model_not_allowed"


def test_the_more_expensive_context_tier_applies_if_reachable() -> None:
    """An unbounded input reaches the long context, whose price then applies to all of it."""
    body = {"input": "Hi", "previous_response_id": "resp_1", "max_output_tokens": 1_000}
    result = worst(body)
    assert (result.input_tokens, result.is_guaranteed) == (922_000, False)
    assert credits(result) == (922_000 * 5 + 1_000 * Fraction(225, 10)) / 10**6
    assert result.charge is not None
    assert result.charge.context_tier == "long"
    assert "previous_response_id" in result.reasons[0]
    bounded = worst(chat("Hi", max_tokens=1_000))
    assert bounded.charge is not None
    assert bounded.charge.context_tier == "short"


def test_a_cheaper_long_context_is_not_the_worst() -> None:
    """If long context costs less, the worst case is the end of the short context."""
    book = book_of(
        "{from: 2026-01-01, standard: {input: 4, output: 8, long_context: {above: 100000, input: 1, output: 8}}}"
    )
    result = TokenCounter("m", book, family="gpt-5").worst_case(
        {"input": "x", "conversation": "c", "max_output_tokens": 10}, group="g", at=AUTUMN
    )
    assert credits(result) == (100_000 * 4 + 10 * 8 + Fraction(0)) / 10**6


def test_the_most_expensive_meters_are_assumed() -> None:
    """Cache writes, audio or images that cost more than text determine the hold if they can occur."""
    book = book_of(
        "{from: 2026-01-01, standard: {input: 2, output: 8, cache_write: 2.5, cache_read: 0.2, audio_input: 40, "
        "audio_output: 80, image_input: 3}}"
    )
    token_counter = TokenCounter("m", book, family="gpt-4o")
    terms: Any = {"group": "g", "at": AUTUMN}
    plain = token_counter.worst_case(chat("Hi", max_tokens=10), **terms)
    assert credits(plain) == (plain.input_tokens * Fraction(25, 10) + 80) / 10**6
    spoken = token_counter.worst_case(chat("Hi", max_tokens=10, modalities=["text", "audio"]), **terms)
    assert credits(spoken) == (plain.input_tokens * Fraction(25, 10) + 10 * 80) / 10**6
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    seen = token_counter.worst_case({"messages": [{"role": "user", "content": [image]}], "max_tokens": 10}, **terms)
    assert credits(seen) == (seen.input_tokens * Fraction(3) + 80) / 10**6
    audio = {"type": "input_audio", "input_audio": {"data": "AAAA" * 100, "format": "mp3"}}
    heard = token_counter.worst_case({"messages": [{"role": "user", "content": [audio]}], "max_tokens": 10}, **terms)
    assert credits(heard) == (heard.input_tokens * Fraction(40) + 80) / 10**6


@pytest.mark.parametrize(
    ("tools", "more", "given", "searches", "unbounded"),
    [
        ([{"type": "web_search"}], {}, None, (10, 0), True),
        ([{"type": "web_search"}], {"max_tool_calls": 3}, None, (3, 0), False),
        ([{"type": "web_search_preview"}, {"type": "file_search"}], {}, 5, (5, 5), False),
        (({"type": "web_search"},), {}, 5, (5, 0), False),
        ([{"type": "function", "name": "f"}], {}, 5, (0, 0), False),
    ],
)
def test_searches_are_included(
    tools: list[Any], more: dict[str, Any], given: int | None, searches: tuple[int, int], unbounded: bool
) -> None:
    """A search tool counts as often as the request allows, else the caller, else ten times with a reason."""
    body = {"input": "Hi", "tools": tools, "max_output_tokens": 1, **more}
    result = worst(body, max_tool_calls=given)
    assert (result.calls.get("web_search_calls", 0), result.calls.get("file_search_calls", 0)) == searches
    assert any("max_tool_calls" in reason for reason in result.reasons) == unbounded
    fees = Fraction(searches[0] * 10, 1_000) + Fraction(searches[1] * 25, 10_000)
    long = result.input_tokens > 272_000
    rate_in, rate_out = (Fraction(5), Fraction(225, 10)) if long else (Fraction(25, 10), Fraction(15))
    assert credits(result) == (result.input_tokens * rate_in + rate_out) / 10**6 + fees


def test_a_search_in_chat_completions_is_included() -> None:
    """``web_search_options`` is a search with a fee."""
    plain, searching = worst(chat("Hi", max_tokens=9)), worst(chat("Hi", max_tokens=9, web_search_options={}))
    assert (plain.calls, searching.calls) == ({}, {"web_search_calls": 10})
    with pytest.raises(BillingError) as caught:
        worst(chat("Hi", max_tokens=9), max_tool_calls=-1)
    assert code_of(caught) == "invalid_argument"


@pytest.mark.parametrize("kind", ["audio", "image"])
def test_an_output_without_a_price_is_an_error_before_the_call(kind: str) -> None:
    """Requested audio or images without a price are ``meter_unpriced`` at the hold."""
    with pytest.raises(BillingError, match=f"{kind}_output") as caught:
        worst(chat("Hi", max_tokens=9, modalities=("text", kind)))
    assert code_of(caught) == "meter_unpriced"


def test_a_tool_without_a_fee_is_an_error_before_the_call() -> None:
    """A code interpreter counts as one session; without a fee in the price file it is an error."""
    body = {"input": "Hi", "tools": [{"type": "code_interpreter"}], "max_output_tokens": 1}
    with pytest.raises(BillingError, match="code_interpreter") as caught:
        worst(body)
    assert code_of(caught) == "meter_unpriced"
    fees = "tools: {code_interpreter: [{from: 2026-01-01, per_1000_calls: 30}]}\n"
    book = book_of("{from: 2026-01-01, standard: {input: 0, output: 0}}", top=fees)
    result = TokenCounter("m", book, family="gpt-5").worst_case(body, group="g", at=AUTUMN)
    assert result.calls == {"code_interpreter_sessions": 1}
    assert credits(result) == Fraction(30, 1000)


def test_without_a_bound_it_is_an_error() -> None:
    """Without a book, a request without a limit, or with unseen input, is ``cost_unbounded``."""
    token_counter = TokenCounter("gpt-5.4")
    result = token_counter.worst_case(chat("Hi", max_tokens=9))
    assert (result.input_tokens, result.output_tokens, result.charge) == (7, 9, None)
    with pytest.raises(BillingError) as caught:
        assert result.credits
    assert code_of(caught) == "invalid_argument"
    for body in (chat("Hi"), {"input": "Hi", "conversation": "c", "max_output_tokens": 9}):
        with pytest.raises(BillingError) as caught:
            token_counter.worst_case(body)
        assert code_of(caught) == "cost_unbounded"
    with pytest.raises(BillingError) as caught:
        token_counter.worst_case(chat("Hi", max_tokens=9), group="default", at=AUTUMN)
    assert code_of(caught) == "invalid_argument"


def test_a_request_for_another_model_is_an_error() -> None:
    """A body that names another model of the book is an error; a snapshot, or an alias of the gateway, is not."""
    with pytest.raises(BillingError, match=r"gpt-5\.5") as caught:
        worst(chat("Hi", model="gpt-5.5"), model="gpt-5.4-mini")
    assert code_of(caught) == "invalid_argument"
    for name in ("gpt-5.4", "gpt-5.4-2026-03-05", "our-best"):
        assert worst(chat("Hi", model=name)).input_tokens == 7


def test_embeddings_have_no_output() -> None:
    """The worst case of an embedding has no output."""
    result = worst({"input": ["hello world"], "encoding_format": "float"})
    assert (result.input_tokens, result.output_tokens) == (2, 0)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.text(alphabet="ab cé中\n", max_size=30), min_size=1, max_size=6), st.data())
def test_no_usage_within_the_bounds_costs_more(texts: list[str], data: st.DataObject) -> None:
    """A usage within the worst case's tokens, cached or not, costs at most the hold."""
    limit, n = data.draw(st.integers(1, 5_000)), data.draw(st.integers(1, 4))
    model = data.draw(st.sampled_from(shipped().model_names))
    total = worst(chat(*texts, max_tokens=limit, n=n), model)
    used_in = data.draw(st.integers(0, total.input_tokens))
    used_out = data.draw(st.integers(0, total.output_tokens))
    read = data.draw(st.integers(0, used_in))
    usage = Usage(input_tokens=used_in, output_tokens=used_out, cache_read_tokens=read)
    charge = shipped().rate(usage, model=model, group="default", at=AUTUMN)
    assert Fraction(charge.credits) <= credits(total)
    full = Usage(input_tokens=total.input_tokens, output_tokens=total.output_tokens)
    assert Fraction(shipped().rate(full, model=model, group="default", at=AUTUMN).credits) == credits(total)


def test_the_window_bounds_input_and_output_together() -> None:
    """Input and output share the model's window: exact input reduces the output."""
    small = PriceBook.loads(
        "version: 1\ncredit: {currency: USD, nominal_per_credit: 1}\n"
        "channels: {c: {currency: CNY, prices: [{from: 2026-01-01, price_per_credit: 0.85}]}}\nmodels:\n"
        "  m: {released: 2026-01-01, encoding: o200k_base, token_family: gpt-5, "
        "context: {window: 20, max_input: 18, max_output: 16}, "
        "prices: [{from: 2026-01-01, standard: {input: 1, output: 1}}]}\n"
        "groups: {g: {terms: [{from: 2026-01-01, ratio: 1, models: ['*']}]}}\n"
    )
    result = TokenCounter("m", small).worst_case(chat("hi"), group="g", at=AUTUMN)
    assert (result.input_tokens, result.output_tokens) == (7, 13)
