"""Receipts: whatever a price depends on, a third party verifies them, and accepts nothing else."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import model_oracle
from brivionix_billing import BillingError, PriceBook, Usage
from brivionix_billing.canonical_json import canonical_json, json_digest
from brivionix_billing.invoice import SignatureState, check_signature, document_hash
from brivionix_billing.invoice.receipts import (
    MAX_RECEIPT_BYTES,
    json_schema,
    make_receipt,
    rate_card_list,
    verify_receipt,
)
from model_books import model_books_with_requests
from model_oracle import ModelRequest
from oracle import RefusedError
from paths import ROOT
from profiles import examples
from receipt_kit import KEY, OTHER_KEY, book, forge, samples, text
from receipt_mutations import attack, outcome
from strategies import Data, render

PUBLIC = KEY.public_key()
AT = datetime(2026, 10, 20, 2, 30, tzinfo=UTC)
SAMPLES = list(samples(Random(7), 30))
SCHEMA = Draft202012Validator(json_schema())


def receipt_of(usage: Usage, model: str = "gpt-5.4-mini", prices: str = "shipped", **names: Any) -> bytes:
    """Return the receipt of a usage."""
    charge = book(prices).rate(usage, model=model, group="default", at=AT, **names)
    return make_receipt(charge, request_id="req_1", key=KEY, account="acct_7")


SIMPLE = receipt_of(Usage(input_tokens=12_000, cache_read_tokens=10_000, output_tokens=800))
laws = settings(
    max_examples=examples(8),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


@laws
@given(model_books_with_requests(8))
def test_every_charge_has_a_receipt_that_verifies(case: tuple[Data, list[ModelRequest]]) -> None:
    """A receipt states the price of the oracle, verifies by price file and key, and its rate cards are in the list."""
    data, requests = case
    prices = PriceBook.loads(render(data))
    cards = rate_card_list(prices)["cards"]
    for request in requests:
        try:
            expected = model_oracle.price_request(data, request)
        except RefusedError:
            continue
        charge = prices.rate(
            Usage(**model_oracle.arguments_of(request)),
            model=request.model,
            group=request.group,
            at=request.at,
            service_tier=request.tier,
            region=request.region,
            mode=request.mode,
        )
        content = make_receipt(charge, request_id="req_1", key=KEY)
        report = verify_receipt(content, key=PUBLIC, book=prices, require_signature=True)
        assert (report.ok, report.signature, report.notes) == (True, SignatureState.VALID, []), report
        receipt = json.loads(content)
        assert Fraction(receipt["credits"]) == Fraction(charge.credits)
        assert receipt["charges"][0]["model"] == expected[0]
        for section in receipt["charges"]:
            (card,) = [card for card in cards if applies(card, section, receipt)]
            assert all(card["prices"][name][:4] == price for name, _, *price in section["lines"])


def applies(card: Data, section: Data, receipt: Data) -> bool:
    """Return whether a rate card is that of a section of a receipt."""
    names = ("model", "service_tier", "router", "region", "mode", "window", "price_since", "group_since", "minimum")
    bounds = {name: value for name, value in section.get("context", {}).items() if name != "input_tokens"}
    return (
        card["group"] == receipt["group"]
        and all(card.get(name) == section.get(name) for name in names)
        and card["from"] <= receipt["at"] < card.get("to", "9")
        and card["context"] == bounds
    )


@pytest.mark.parametrize("sample", SAMPLES, ids=range(len(SAMPLES)))
def test_a_receipt_is_small_and_matches_the_schema(sample: Any) -> None:
    """A receipt is below 2 kB, canonical, without JSON numbers, and matches the JSON Schema."""
    assert len(sample.receipt) <= MAX_RECEIPT_BYTES < 2_000
    receipt = json.loads(sample.receipt, parse_int=pytest.fail, parse_float=pytest.fail)
    assert canonical_json(receipt) == sample.receipt
    SCHEMA.validate(receipt)


@settings(max_examples=examples(400), deadline=None)
@given(st.integers(0, 2**64))
def test_no_mutation_is_accepted(seed: int) -> None:
    """Nothing but the bytes that the issuer signed is accepted as the receipt of a request."""
    # benchmarks/receipts.py makes 10 000 of them.
    given_attack = attack(Random(seed), SAMPLES)
    report = outcome(given_attack)
    assert not report.ok, given_attack
    assert report.failed is not None
    assert report.credits is None


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=2_100))
@example(b"")
@example(b"null")
@example(b"[" * 1_999)
@example(b'{"a":' * 390)
@example(b'{"schema":"brivionix-billing/receipt/1","signing_key":[],"signature":{},"hash":1}')
@example(b"1" * 1_999)
@example(b"\xef\xbb\xbf" + SIMPLE)
def test_any_bytes_have_a_report(content: bytes) -> None:
    """Bytes that are no receipt have a report and never raise an error, with or without a key."""
    for key in (None, PUBLIC):
        report = verify_receipt(content, key=key, book=book("shipped"))
        assert report.failed in ("size", "format")


# Size


def richest_usage(numbers: int = 0) -> Usage:
    """Return a usage of all that the prices of a router's model depend on."""
    counts: Data = {
        "input_tokens": 300_000,
        "cache_read_tokens": 100_000,
        "output_tokens": 9_000,
        "reasoning_tokens": 4_000,
    }
    counts |= {"web_search_calls": 3, "robot_minutes": 2.5}
    body: Data = {"model": "alpha", "usage": {"counts": counts, "estimated": True}}
    body["usage"] |= {f"provider_count_{index:03}": index + 1 for index in range(numbers)}
    return Usage.from_response(body)


def test_the_richest_price_fits() -> None:
    """Context tier, window, region, router, foreign currency, custom meter and estimate fit into 2 kB."""
    content = receipt_of(richest_usage(10), "router", "everything", service_tier="ultra", region="us", mode=None)
    assert len(content) <= MAX_RECEIPT_BYTES
    receipt = json.loads(content)
    (section,) = receipt["charges"]
    assert {"router", "region", "window", "context", "list_currency", "minimum", "nominal_meters"} <= section.keys()
    assert (receipt["estimated"], len(receipt["unaccounted"]), len(section["lines"])) == (True, 10, 8)
    assert verify_receipt(content, key=PUBLIC, book=book("everything")).ok


def test_too_many_unaccounted_numbers_are_shortened_by_reference() -> None:
    """A list of unaccounted numbers that is too long becomes its count and the hash of its canonical JSON."""
    usage = richest_usage(200)
    content = receipt_of(usage, "router", "everything", service_tier="ultra")
    numbers = [[path, str(value)] for path, value in usage.unaccounted]
    assert len(numbers) == 200
    assert json.loads(content)["unaccounted"] == {"numbers": "200", "hash": json_digest(numbers)}
    assert verify_receipt(content, key=PUBLIC, book=book("everything")).ok


def meters_book(count: int) -> PriceBook:
    """Return a price book with many meters of its own."""
    names = [f"sensor_{index:03}" for index in range(count)]
    return PriceBook.loads(
        "version: 1\ncredit: {currency: USD, nominal_per_credit: 1}\nmeters:\n"
        + "".join(f"  {name}: {{unit: reading}}\n" for name in names)
        + "models:\n  m: {prices: [{from: 2026-01-01, standard: {input: 1, output: 2"
        + "".join(f", {name}: 0.000125" for name in names)
        + "}}]}\n"
        + "groups:\n  default: {terms: [{from: 2026-01-01, ratio: 0.8, models: ['*']}]}\n"
    )


def test_a_receipt_of_too_many_meters_is_an_error() -> None:
    """Twenty meters fit; a receipt that would be too large is ``receipt_too_large``, and never a part of it."""
    prices = meters_book(60)

    def receipt(count: int) -> bytes:
        quantities = {f"sensor_{index:03}": Decimal("1234.5") for index in range(count)}
        charge = prices.rate(Usage(quantities=quantities), model="m", group="default", at=AT)
        return make_receipt(charge, request_id="req_1", key=KEY)

    assert verify_receipt(receipt(20), key=PUBLIC, book=prices).ok
    with pytest.raises(BillingError, match="at most 1999 are allowed") as caught:
        receipt(60)
    assert caught.value.code == "receipt_too_large"


# Content


def test_a_receipt_has_no_texts_and_no_unstated_account() -> None:
    """A receipt has names, numbers and hashes only: nothing of the answer, and no account if none was given."""
    body = {
        "id": "secret-id",
        "model": "gpt-5.4-mini",
        "choices": [{"message": {"content": "secret-answer"}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "secret-note": "secret-text"},
    }
    charge = book("shipped").rate(Usage.from_response(body), model="gpt-5.4-mini", group="default", at=AT)
    content = make_receipt(charge, request_id="req_1", key=KEY)
    assert b"secret" not in content
    assert "account" not in json.loads(content)


def test_parts_of_a_charge_are_sections_of_its_receipt() -> None:
    """A request that several models served has one section for each, and their sum is the charge."""
    runs = [
        {"type": "message", "input_tokens": 10, "output_tokens": 5},
        {"type": "advisor_message", "model": "beta", "input_tokens": 70, "output_tokens": 30},
    ]
    body = {"model": "alpha", "usage": {"input_tokens": 10, "output_tokens": 5, "iterations": runs}}
    charge = book("model").rate(Usage.from_response(body), model="alpha", group="default", at=AT)
    content = make_receipt(charge, request_id="req_1", key=KEY)
    receipt = json.loads(content)
    assert [section["model"] for section in receipt["charges"]] == ["alpha", "beta"]
    assert Fraction(receipt["credits"]) == Fraction(charge.credits)
    assert verify_receipt(content, key=PUBLIC, book=book("model")).ok
    without_part = forge(content, lambda document: document["charges"].pop())
    assert verify_receipt(without_part, key=PUBLIC, book=book("model")).failed == "arithmetic"


def test_equal_charges_have_equal_receipts() -> None:
    """A retry makes the same bytes, so two receipts of one request can never contradict each other."""
    assert receipt_of(Usage(input_tokens=12_000, cache_read_tokens=10_000, output_tokens=800)) == SIMPLE


def test_the_documented_receipt_is_genuine() -> None:
    """The receipt in docs/receipts.md verifies, without the line ends that were added for reading."""
    (shown,) = re.findall(r"^```json\n(.*?)^```$", (ROOT / "docs/receipts.md").read_text(encoding="utf-8"), re.M | re.S)
    content = canonical_json(json.loads(shown))
    assert verify_receipt(content, key=PUBLIC, book=book("shipped"), request_id="req_1", account="acct_7").ok


def test_the_seal_is_that_of_bills() -> None:
    """Hash and signature of a receipt are made and checked by the functions of bills."""
    receipt = json.loads(SIMPLE)
    assert receipt["hash"] == document_hash(receipt)
    assert check_signature(receipt, PUBLIC) == (SignatureState.VALID, None)


@pytest.mark.parametrize(
    "names", [{"request_id": ""}, {"request_id": "a\n"}, {"request_id": "r", "account": "x" * 257}]
)
def test_an_invalid_name_is_refused(names: dict[str, str]) -> None:
    """An id or account that is not 1 to 256 printable characters is ``invalid_argument``."""
    charge = book("shipped").rate(Usage(input_tokens=1), model="gpt-5.4-mini", group="default", at=AT)
    with pytest.raises(BillingError) as caught:
        make_receipt(charge, key=KEY, **names)
    assert caught.value.code == "invalid_argument"


# What a result states


def test_without_a_key_or_a_price_file_the_report_says_so() -> None:
    """A report names what was not checked; a required signature that was not checked is a difference."""
    report = verify_receipt(SIMPLE)
    assert (report.ok, report.signature, report.id) == (True, SignatureState.UNCHECKED, "req_1")
    assert [note.split(":")[0] for note in report.notes] == [
        "the issuer was not checked",
        "the prices were not checked",
    ]
    required = verify_receipt(SIMPLE, require_signature=True)
    assert (required.ok, required.failed) == (False, "signature")


def test_an_unsigned_receipt_is_none() -> None:
    """Without its signature a receipt never verifies, not even without a key, and the state says why."""
    receipt = json.loads(SIMPLE)
    del receipt["signature"], receipt["signing_key"]
    receipt["hash"] = document_hash(receipt)
    report = verify_receipt(canonical_json(receipt), book=book("shipped"))
    assert (report.ok, report.failed, report.signature) == (False, "format", SignatureState.UNSIGNED)


def test_another_key_is_named() -> None:
    """The report of a receipt by another key has the state "signature not valid"."""
    report = verify_receipt(SIMPLE, key=OTHER_KEY.public_key())
    assert (report.failed, report.signature) == ("signature", SignatureState.INVALID)


def test_prices_may_be_appended_to_the_price_file() -> None:
    """A later price changes the digest of the file, and no receipt of before: the report notes the other digest."""
    later = "      - from: 2099-01-01\n        standard: {input: 9, cache_read: 1, output: 9}\n"
    head, tail = text("shipped").split("  gpt-5.3-codex:\n", 1)
    report = verify_receipt(SIMPLE, key=PUBLIC, book=PriceBook.loads(f"{head}{later}  gpt-5.3-codex:\n{tail}"))
    assert report.ok
    assert report.notes == ["the price file has changed since; the prices of this receipt are the same"]


def test_a_price_difference_names_the_field() -> None:
    """A difference states the place, the receipt's value and that of the price file."""
    report = verify_receipt(SIMPLE, key=PUBLIC, book=book("shipped", altered=True))
    assert [difference.where for difference in report.differences] == ["charges[0].group_since"]
    assert "not '2025-12-12T00:00:00Z'" in str(report.differences[0])
