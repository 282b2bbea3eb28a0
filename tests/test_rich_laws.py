"""Laws of prices that depend on context, time, region, mode, currency and a minimum, against an oracle in fractions."""

from __future__ import annotations

import json
import pickle
import re
from fractions import Fraction
from typing import Any

from hypothesis import given

from bill_kit import OCTOBER
from brivionix_billing import Charge, PriceBook, Usage
from brivionix_billing.invoice import aggregate_usage
from brivionix_billing.invoice.build import credits_used
from request_strategies import book_settings
from rich_books import RichRequest, arguments_of, rich_books_with_requests, rich_price
from strategies import Data, render

Case = tuple[Data, list[RichRequest]]


def charge_of(book: PriceBook, request: RichRequest, *, served: bool) -> Charge:
    """Rate a request, whose region and mode are served ones of the usage, or requested ones of the call."""
    names: dict[str, Any] = {"region": request.region, "mode": request.mode}
    usage = Usage(**arguments_of(request), **(names if served else {}))
    return book.rate(usage, model="m", group="g", at=request.at, **({} if served else names))


@book_settings
@given(rich_books_with_requests())
def test_a_charge_is_the_price_of_the_oracle(case: Case) -> None:
    """A charge is the price by context, region, mode, window, exchange rate, ratio and minimum, exactly."""
    data, requests = case
    book = PriceBook.loads(render(data))
    for request in requests:
        for served in (True, False):
            charge = charge_of(book, request, served=served)
            assert Fraction(charge.nominal.amount) == rich_price(data, request)


@book_settings
@given(rich_books_with_requests())
def test_the_lines_of_a_charge_can_be_recomputed(case: Case) -> None:
    """Lines are quantity x unit price, add up to the charge, and are the same in every form of the record."""
    data, requests = case
    book = PriceBook.loads(render(data))
    per_credit = Fraction(data["credit"]["nominal_per_credit"])
    for request in requests:
        charge = charge_of(book, request, served=True)
        for line in charge.lines:
            assert Fraction(line.credits) == Fraction(line.quantity) * Fraction(line.unit_price) / line.per / per_credit
        assert sum((Fraction(line.credits) for line in charge.lines), Fraction(0)) == Fraction(charge.credits)
        record = charge.as_dict()
        assert json.loads(charge.as_json()) == record
        assert [line["credits"] for line in record["lines"]] == [format(line.credits, "f") for line in charge.lines]
        assert pickle.loads(pickle.dumps(charge)) == charge


@book_settings
@given(rich_books_with_requests())
def test_the_terms_of_an_explanation_add_up(case: Case) -> None:
    """The explanation states one term per line, in both languages, and the terms add up to the nominal price."""
    data, requests = case
    book = PriceBook.loads(render(data))
    for request in requests:
        charge = charge_of(book, request, served=True)
        for locale in ("en", "zh_CN"):
            terms = re.findall(r"^  .* = ([0-9.]+) USD$", charge.explain(locale), re.MULTILINE)
            assert sum(map(Fraction, terms), Fraction(0)) == Fraction(charge.nominal.amount)
            assert len(terms) == len(charge.lines)


@book_settings
@given(rich_books_with_requests())
def test_a_bill_is_the_sum_of_its_charges(case: Case) -> None:
    """A usage file is billed as the sum of the charges of its requests, whatever their prices depend on."""
    data, requests = case
    book = PriceBook.loads(render(data))
    rows = []
    for number, request in enumerate(requests):
        at = request.at.replace(month=10, year=2026, day=min(request.at.day, 31))
        body = {
            "prompt_tokens": int(request.quantities["input"] + request.quantities["cache_read"]),
            "completion_tokens": int(request.quantities["output"]),
            "prompt_tokens_details": {"cached_tokens": int(request.quantities["cache_read"])},
            "completion_tokens_details": {"reasoning_tokens": int(request.quantities["reasoning"])},
        }
        row = {"request_id": f"r{number}", "at": at.isoformat().replace("+00:00", "Z"), "account": "a", "group": "g"}
        rows.append({**row, "model": "m", "usage": body, "region": request.region, "mode": request.mode})
    lines = [json.dumps(row).encode() for row in rows]
    used = aggregate_usage(lines, book, OCTOBER).accounts["a"]
    expected = Fraction(0)
    for number, request in enumerate(requests):
        at = request.at.replace(month=10, year=2026, day=min(request.at.day, 31))
        tokens = {name: request.quantities[name] for name in ("input", "cache_read", "output", "reasoning")}
        expected += rich_price(data, request._replace(at=at, quantities=tokens))
        assert rows[number]["at"]
    assert used.requests == len(requests)
    assert Fraction(credits_used(used)) * Fraction(data["credit"]["nominal_per_credit"]) == expected
