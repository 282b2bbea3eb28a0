"""Names of models, patterns, routers and upstreams."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest

from brivionix_billing import BillingError, Usage
from model_kit import AT, MILLION, PLAIN, book_of, findings, price, refusal
from samples import D, code_of

# --- names ---


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("ft:gpt-4o-mini-2024-07-18:acme::abc123", "gpt-4o-mini"),
        ("openai/gpt-4o-mini", "gpt-4o-mini"),
        ("models/openai/gpt-4o-mini", "gpt-4o-mini"),
        ("us.anthropic.claude-sonnet-4@20250514", "claude-sonnet-4"),
        ("openai/special", "special-one"),
        ("gpt-4o-mini-2020-01-01", None),
        ("openai/openai/openai/openai/openai/gpt-4o-mini", None),
        ("openai/nothing", None),
    ],
)
def test_a_pattern_means_one_model(name: str, model: str | None) -> None:
    """Prefixes, fine-tuned names and snapshots are resolved; the pattern with the most characters wins."""
    top = (
        'aliases: {"openai/*": "*", "models/*": "*", "us.anthropic.*": "*", "openai/spec*": special-one, '
        '"loop*": "loop*x"}'
    )
    entry = "prices: [{from: 2025-01-01, standard: {input: 1}}]"
    models = (
        f'gpt-4o-mini: {{released: 2024-07-18, aliases: ["ft:gpt-4o-mini-2024-07-18:*"], {entry}}}\n'
        f"  claude-sonnet-4: {{{entry}}}\n  special-one: {{{entry}}}"
    )
    book = book_of(models, top)
    if model is None:
        with pytest.raises(BillingError, match="no model"):
            book.resolve_model(name)
    else:
        assert book.resolve_model(name) == model
    with pytest.raises(BillingError, match="no model"):
        book.resolve_model("loop")


@pytest.mark.parametrize(
    ("top", "message"),
    [
        ('aliases: {"a*": m, "*a": n}', "match the same names"),
        ('aliases: {"a/*": "*", "*/b": "*"}', "match the same names"),
        ('aliases: {"a*b*": "*"}', "must stand once on each side"),
        ('aliases: {"a*": "**"}', "must stand once on each side"),
        ('aliases: {"a*": q}', "no model 'q' in this file"),
        ('aliases: {"m": n}', "is the name of a model already"),
        ('aliases: {"<script>*": m}', "is not allowed"),
    ],
)
def test_an_ambiguous_pattern_is_a_finding(top: str, message: str) -> None:
    """Every name has exactly one meaning, which is checked when the file is loaded."""
    entry = "{prices: [{from: 2026-01-01, standard: {input: 1}}]}"
    assert any(message in f.message for f in findings(book_of, f"m: {entry}\n  n: {entry}", top))


def test_thousands_of_patterns_are_checked_quickly() -> None:
    """Patterns are compared by their beginnings and ends, and a file that defeats this is a finding."""
    entry = "{prices: [{from: 2026-01-01, standard: {input: 1}}]}"
    models = "\n  ".join(f"m{number}: {entry}" for number in range(2_000))
    aliases = "\n".join(f'  "*/m{number}": m{number}' for number in range(2_000))
    assert book_of(models, f"aliases:\n{aliases}").resolve_model("any/m1999") == "m1999"
    alike = "\n".join(f'  "*-{number:04}*": m{number}' for number in range(2_000))
    (found,) = findings(book_of, models, f"aliases:\n{alike}")[-1:]
    assert "match the same names" in found.message or "too many patterns" in found.message


def test_the_served_model_is_priced_if_the_file_says_so() -> None:
    """``priced_model`` decides whether the requested or the served model is priced."""
    entry = "prices: [{from: 2026-01-01, standard: {input: %s}}]"
    models = f"m: {{{entry % 1}}}\n  n: {{{entry % 2}}}"
    usage = Usage(input_tokens=1_000_000, model="n")
    assert price(book_of(models), usage) == 1
    served = book_of(models, "priced_model: served")
    assert [price(served, usage) for _ in range(2)] == [2, 2]
    assert price(served) == 1


# --- routers ---

ROUTED = (
    "m: {prices: [{from: 2026-01-01, standard: {input: 1, output: 2}}]}\n"
    "  r: {routes_to: [m], prices: [{from: 2026-01-01, standard: {router_fee: 0.14}}]}"
)


def test_a_router_costs_the_served_model_and_a_fee() -> None:
    """A router's charge has the lines of the model that served the request and a line of its fee."""
    book = book_of(ROUTED, groups="{g: {terms: [{from: 2026-01-01, ratio: 0.5, models: [r]}]}}")
    charge = book.rate(Usage(input_tokens=1_000_000, model="m"), model="r", group="g", at=AT)
    assert [(line.meter, line.credits) for line in charge.lines] == [("input", D("0.5")), ("router_fee", D("0.07"))]
    assert (charge.model, charge.as_dict()["router"]) == ("m", "r")
    assert "Requested as r, served by m" in charge.explain()
    assert refusal(book, MILLION, model="r") == "unknown_model"
    assert refusal(book, Usage(model="r"), model="r") == "model_not_allowed"
    assert refusal(book, MILLION) == "model_not_allowed"


@pytest.mark.parametrize(
    ("served", "router", "expected"),
    [
        ("", "currency: CNY, ", {"input": Fraction(1), "router_fee": Fraction("0.14") * Fraction("0.14")}),
        (
            "currency: CNY, ",
            "currency: CNY, ",
            {"input": Fraction("0.14"), "router_fee": Fraction("0.14") * Fraction("0.14")},
        ),
        ("currency: CNY, ", "", {"input": Fraction("0.14"), "router_fee": Fraction("0.14")}),
        (
            "currency: CNY, ",
            "currency: EUR, ",
            {"input": Fraction("0.14"), "router_fee": Fraction("0.14") * Fraction("1.2")},
        ),
    ],
)
def test_the_fee_of_a_router_is_in_the_currency_of_the_router(
    served: str, router: str, expected: dict[str, Fraction]
) -> None:
    """The fee is converted at the rate of the router's own currency, whatever that of the served model is."""
    models = ROUTED.replace("{prices", f"{{{served}prices").replace("{routes_to", f"{{{router}routes_to")
    rates = "exchange_rates: {CNY: [{from: 2026-01-01, rate: 0.14}], EUR: [{from: 2026-01-01, rate: 1.2}]}"
    charge = book_of(models, rates).rate(Usage(input_tokens=1_000_000, model="m"), model="r", group="g", at=AT)
    assert {line.meter: Fraction(line.credits) for line in charge.lines} == expected
    assert sum(expected.values()) == Fraction(charge.savings.list)


def test_a_new_exchange_rate_changes_the_fee_of_a_router() -> None:
    """A card of a router ends when the exchange rate of the router's currency changes, whether it was used or not."""
    models = ROUTED.replace("{routes_to", "{currency: CNY, routes_to")
    later = AT + timedelta(days=1)
    rates = f"exchange_rates: {{CNY: [{{from: 2026-01-01, rate: 0.14}}, {{from: {later.date()}, rate: 0.2}}]}}"
    book = book_of(models, rates)
    usage = Usage(input_tokens=1_000_000, model="m")
    fees = [book.rate(usage, model="r", group="g", at=at).lines[1].credits for at in (AT, later, AT)]
    assert fees == [D("0.0196"), D("0.028"), D("0.0196")]


def test_the_fee_of_a_router_has_no_price_without_an_exchange_rate() -> None:
    """A fee in a currency that has no rate yet is refused, even if the served model is in the nominal currency."""
    models = ROUTED.replace("{routes_to", "{currency: CNY, routes_to")
    later = (AT + timedelta(days=1)).date()
    book = book_of(models, f"exchange_rates: {{CNY: [{{from: {later}, rate: 0.14}}]}}")
    assert refusal(book, Usage(input_tokens=1, model="m"), model="r") == "no_price"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ("r: {prices: {standard: {router_fee: 0.2}}}", {"input": Fraction(1, 2), "router_fee": Fraction("0.2")}),
        (
            "r: {prices: {standard: {router_fee: 0.2}}}, m: {prices: {standard: {input: 3, output: 4}}}",
            {"input": Fraction(3), "router_fee": Fraction("0.2")},
        ),
        ("r: {ratio: 3}, m: {ratio: 7}", {"input": Fraction(3), "router_fee": 3 * Fraction("0.14")}),
    ],
)
def test_a_router_costs_what_its_group_says(overrides: str, expected: dict[str, Fraction]) -> None:
    """Group-specific prices replace the fee, as the price table shows it; the ratio of the router is that of both."""
    terms = f"{{from: 2026-01-01, ratio: 0.5, models: [m, r], overrides: {{{overrides}}}}}"
    book = book_of(ROUTED, groups=f"{{g: {{terms: [{terms}]}}}}")
    charge = book.rate(Usage(input_tokens=1_000_000, model="m"), model="r", group="g", at=AT)
    assert {line.meter: Fraction(line.credits) for line in charge.lines} == expected


def test_a_router_costs_its_fee_if_the_served_model_is_priced() -> None:
    """With ``priced_model: served``, a request to a router costs the served model and the fee all the same."""
    models = ROUTED + "\n  n: {prices: [{from: 2026-01-01, standard: {input: 3}}]}"
    book = book_of(models, 'priced_model: served\naliases: {"azure/*": "*"}')
    usage = Usage(input_tokens=1_000_000, model="m")
    for name in ("r", "azure/r"):
        assert price(book, usage, model=name) == D("1.14")
    assert price(book, usage, model="n") == 1
    assert price(book, usage, model="not in the file") == 1
    assert refusal(book, Usage(model="n"), model="r") == "model_not_allowed"


def test_a_hold_covers_every_model_of_a_router() -> None:
    """The possible rate cards of a router are those of every model that it may serve."""
    cards = book_of(ROUTED.replace("routes_to: [m]", "routes_to: ['*']")).possible_rate_cards("r", group="g", at=AT)
    assert [(card.model, card.router) for card in cards] == [("m", "r")]


# --- upstreams ---


@pytest.mark.parametrize(
    ("settings", "usage", "expected"),
    [
        ("cache_read: beside_input", {"prompt_tokens": 241, "completion_tokens": 56, "total_tokens": 297,
         "prompt_tokens_details": {"cached_tokens": 178}}, (419, 178, 56)),
        ("cache_read: beside_input", {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8,
         "prompt_tokens_details": {"cached_tokens": 163}}, (170, 163, 1)),
        ("reasoning: rest_of_total", {"prompt_tokens": 66, "completion_tokens": 6, "total_tokens": 100}, (66, 0, 34)),
        ("reasoning: beside_output", {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11,
         "completion_tokens_details": {"reasoning_tokens": 4}}, (5, 0, 10)),
    ],
)  # fmt: skip
def test_an_upstream_says_what_its_counts_contain(settings: str, usage: dict[str, Any], expected: Any) -> None:
    """Counts beside the prompt or the completion are added to them, if the price file says so."""
    book = book_of(PLAIN, f"upstreams: {{azure: {{{settings}}}}}")
    read = Usage.from_response({"model": "m", "usage": usage}, conventions=book.conventions("azure"))
    assert (read.input_tokens, read.cache_read_tokens, read.output_tokens) == expected
    with pytest.raises(BillingError) as caught:
        book.conventions("other")
    assert code_of(caught) == "unknown_upstream"
