"""Numbers on no meter: what a price file or a caller says about them, and where they are reported."""

from __future__ import annotations

import json
import pickle
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from bill_kit import billed, verified, written
from brivionix_billing import BillingError, PriceBook, PriceFileError, Usage
from brivionix_billing.invoice import render_text
from samples import NOW, code_of

MODELS = """
  sonar: {prices: [{from: 2026-01-01, standard: {input: 1, output: 1, request_fee: 1}}]}
  deep: {prices: [{from: 2026-01-01, standard: {input: 2, output: 8, citation: 2, reasoning: 3, web_search: 5}}]}
  opus: {prices: [{from: 2026-01-01, standard: {input: 5, output: 25, cache_write_1h: 10}}]}
"""
RULES = """
  usage.cost.request_cost: request_fee
  usage.citation_tokens: citation
  usage.num_search_queries: web_search
  usage.reasoning_tokens: reasoning
  "usage.audio_*": reject
  "usage.free_*": ignore
"""


def book_with(rules: str = RULES) -> PriceBook:
    """Return a price book with rules for numbers on no meter."""
    return PriceBook.loads(
        "version: 1\ncredit: {currency: USD, nominal_per_credit: 1}\n"
        "meters: {request_fee: {unit: dollar, per: 1, label: Fee per request}}\n"
        f"unaccounted: {rules}\nmodels: {MODELS}\n"
        "channels: {rmb: {currency: CNY, prices: [{from: 2026-01-01, price_per_credit: 0.85}]}}\n"
        'groups: {g: {terms: [{from: 2026-01-01, ratio: 1, models: ["*"]}]}}\n'
    )


BOOK = book_with()
CHAT = {"prompt_tokens": 12, "completion_tokens": 300}


def rate(usage: dict[str, Any], model: str = "sonar", **more: Any) -> Any:
    """Rate a usage object."""
    return BOOK.rate(Usage.from_response({"usage": usage}), model=model, group="g", at=NOW, **more)


def test_a_fee_beside_the_counts_is_priced_as_a_meter() -> None:
    """Perplexity's fee per request, 0.005, is charged beside the tokens, and its other costs are ignored."""
    cost = {"input_tokens_cost": 1.2e-05, "output_tokens_cost": 0.0003, "request_cost": 0.005, "total_cost": 0.005312}
    charge = rate({**CHAT, "cost": cost})
    assert (charge.credits, charge.unaccounted) == (Decimal("0.005312"), ())


def test_numbers_on_no_meter_are_priced_as_citations_searches_and_reasoning() -> None:
    """Citations, searches and reasoning beside the completion are charged at their own prices."""
    usage = {"prompt_tokens": 108, "completion_tokens": 3256, "total_tokens": 3364}
    beside = {"citation_tokens": 7299, "num_search_queries": 74, "reasoning_tokens": 73_248}
    charge = rate({**usage, **beside}, "deep")
    expected = Fraction(108 * 2 + 3256 * 8 + 7299 * 2 + 73_248 * 3, 10**6) + Fraction(74 * 5, 1000)
    assert Fraction(charge.credits) == expected == sum(Fraction(line.credits) for line in charge.lines)


def test_every_other_path_is_reported_by_charge_record_and_explanation() -> None:
    """A path that no rule mentions is in the charge, in its record in both forms, and in the explanation."""
    charge = rate({**CHAT, "gold": 7, "free_gold": 1, "queue_time": 0.5})
    assert charge.unaccounted == (("usage.gold", 7),)
    record = charge.as_dict()
    assert record["unaccounted"] == [{"path": "usage.gold", "value": "7"}]
    assert record["warnings"] == ["times have no price: 'queue_time' 0.5"]
    assert json.loads(charge.as_json()) == record
    assert "NOT CHARGED: the provider reports usage.gold 7" in charge.explain()
    assert "【未计费】服务商返回了 usage.gold = 7" in charge.explain("zh_CN")
    assert "unaccounted" not in rate(CHAT).as_dict()


def test_a_rejected_path_is_an_error_with_path_and_number() -> None:
    """A path that is to be rejected raises ``unaccounted_usage``."""
    with pytest.raises(BillingError, match=r"usage\.audio_fee is 0\.5, which the price file rejects") as caught:
        rate({**CHAT, "audio_fee": 0.5})
    assert code_of(caught) == "unaccounted_usage"


def test_the_caller_decides_before_the_price_file() -> None:
    """Rules of the caller come before those of the file, which come before the default ones."""
    usage = {**CHAT, "audio_fee": 0.5, "cost": 0.25}
    rules = {"usage.audio_fee": "request_fee", "usage.cost": "report"}
    charge = rate(usage, unaccounted=rules)
    assert charge.credits == Decimal("0.500312")
    assert charge.unaccounted == (("usage.cost", Decimal("0.25")),)
    with pytest.raises(BillingError, match=r"'gold_meter' for usage\.cost is no action") as caught:
        rate({**CHAT, "cost": 1}, unaccounted={"*": "gold_meter"})
    assert code_of(caught) == "invalid_argument"


def test_a_number_must_fit_the_decimal_places_of_its_meter() -> None:
    """A fraction of a call cannot be charged as calls."""
    with pytest.raises(BillingError, match="has more than 0 decimal places") as caught:
        rate({**CHAT, "num_search_queries": 1.5}, "deep")
    assert code_of(caught) == "invalid_usage"


def test_an_unknown_action_is_a_finding() -> None:
    """An action that is neither a word of the section nor a meter is found when the file is loaded."""
    with pytest.raises(PriceFileError, match="'serch' is no action"):
        book_with("\n  usage.x: serch\n")


def test_the_digest_covers_what_is_priced_or_rejected() -> None:
    """Rules that price or reject change the digest; rules that report or ignore do not."""
    plain = book_with("{}").digest
    assert book_with("{usage.x: ignore, usage.y: report}").digest == plain
    assert len({plain, book_with("{usage.x: reject}").digest, book_with("{usage.x: web_search}").digest}) == 3


# --- runs of other models within a request ---

ADVISED = {
    "input_tokens": 100,
    "output_tokens": 50,
    "cache_read_input_tokens": 0,
    "gold": 7,
    "iterations": [
        {"type": "message", "input_tokens": 100, "output_tokens": 50},
        {
            "type": "advisor_message",
            "model": "opus",
            "input_tokens": 1000,
            "output_tokens": 20,
            "cache_creation": {"ephemeral_1h_input_tokens": 9},
        },
    ],
}
OWN, ADVISOR = Fraction(100 * 2 + 50 * 8, 10**6), Fraction(1000 * 5 + 20 * 25 + 9 * 10, 10**6)


def test_a_request_served_by_two_models_is_one_charge() -> None:
    """The charge is the sum of both models' prices, in Credits, nominal quota, every channel, lines and savings."""
    charge = rate(ADVISED, "deep")
    total = OWN + ADVISOR
    assert Fraction(charge.credits) == Fraction(charge.units, 10**18) == total
    assert Fraction(charge.nominal.amount) == total
    assert Fraction(charge.cost("rmb").amount) == total * Fraction(85, 100)
    assert {line.model for line in charge.lines} == {None, "opus"}
    assert sum(Fraction(line.credits) for line in charge.lines) == total
    assert Fraction(charge.savings.list - charge.savings.cache - charge.savings.group) == total
    assert [(part.model, Fraction(part.credits)) for part in charge.parts] == [("opus", ADVISOR)]
    assert pickle.loads(pickle.dumps(charge)) == charge  # of this test


def test_the_record_and_the_explanation_have_a_part_per_model() -> None:
    """Record and explanation name the other model, and their figures add up to the charge."""
    charge = rate(ADVISED, "deep")
    record = charge.as_dict()
    assert json.loads(charge.as_json()) == record
    assert sum(Fraction(line["credits"]) for line in record["lines"]) == Fraction(record["credits"]) == OWN + ADVISOR
    assert [line.get("model") for line in record["lines"]] == [None, None, "opus", "opus", "opus"]
    text = charge.explain()
    assert "opus, group g, service tier standard" in text
    assert "0.0002 + 0.0004 + 0.005 + 0.0005 + 0.00009 = 0.00619 USD" in text


def test_a_run_of_an_unknown_model_is_an_error() -> None:
    """A part is never free: a model that the file does not have is an error."""
    usage = {**ADVISED, "iterations": [ADVISED["iterations"][0], {**ADVISED["iterations"][1], "model": "gone"}]}  # type: ignore[index]
    with pytest.raises(BillingError, match="no model 'gone'"):
        rate(usage, "deep")


@pytest.mark.parametrize("copies", [1, 2])
def test_a_bill_has_the_parts_and_what_nothing_was_charged_for(copies: int) -> None:
    """A bill adds up the parts on the lines of their models, lists unaccounted numbers, and verifies."""
    rows = [
        {
            "request_id": f"r{number}",
            "at": "2026-10-05T00:00:00Z",
            "account": "acct_1",
            "group": "g",
            "model": "deep",
            "usage": ADVISED,
        }
        for number in (1, 2, 3)
    ]
    usage = written(rows * copies)
    document = billed(usage, BOOK)
    assert Fraction(document["totals"]["credits"]) == 3 * (OWN + ADVISOR)
    assert document["totals"]["requests"] == 3
    by_model = {(line["model"], line["meter"]): line["quantity"] for line in document["lines"]}
    assert by_model["opus", "cache_write_1h"] == "27"
    assert document["evidence"]["unaccounted"] == [{"path": "usage.gold", "numbers": 3, "total": "21"}]
    assert "Not charged: the provider reports usage.gold, in all 21 in 3 numbers" in render_text(document)
    assert verified(document, usage, BOOK).differences == []
