"""Laws of books in which all features of the price file meet, against an oracle in fractions."""

from __future__ import annotations

import decimal
import json
import pickle
import re
from collections import Counter, defaultdict
from copy import deepcopy
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

import model_oracle
from bill_kit import billed, verified
from brivionix_billing import BillingError, Charge, PriceBook, Usage
from brivionix_billing.times import Period
from brivionix_billing.tokens import TokenCounter
from exports_kit import check_focus
from model_books import model_books_with_requests
from model_oracle import ModelRequest, PricedRequest
from oracle import RefusedError
from request_strategies import book_settings
from strategies import Data, render
from token_kit import chat

Case = tuple[Data, list[ModelRequest]]


def rate(book: PriceBook, request: ModelRequest) -> Charge:
    """Rate a request with the library."""
    return book.rate(
        Usage(**model_oracle.arguments_of(request)),
        model=request.model,
        group=request.group,
        at=request.at,
        service_tier=request.tier,
        region=request.region,
        mode=request.mode,
    )


def priced(
    data: Data, book: PriceBook, requests: list[ModelRequest]
) -> list[tuple[ModelRequest, Charge, PricedRequest]]:
    """Return each priced request with its charge and the price of the oracle. Both must refuse the same requests."""
    found = []
    for request in requests:
        try:
            expected = model_oracle.price_request(data, request)
        except RefusedError as refused:
            code = str(refused)
            event(code)
            with pytest.raises(BillingError) as caught:
                rate(book, request)
            assert caught.value.code == code
        else:
            event("priced")
            found.append((request, rate(book, request), expected))
    return found


@book_settings
@given(model_books_with_requests(8))
def test_a_charge_is_that_of_the_oracle(case: Case) -> None:
    """Lines, conditions, context and savings of a charge are those of the oracle, or both refuse for one reason."""
    data, requests = case
    book = PriceBook.loads(render(data))
    for _, charge, expected in priced(data, book, requests):
        assert (charge.model, charge.service_tier, charge.context_tier) == expected[:3]
        record = charge.as_dict()
        assert {name: record[name] for name in ("router", "region", "mode", "window") if name in record} == (
            expected.conditions
        )
        assert {line.meter: Fraction(line.credits) for line in charge.lines} == expected.lines
        assert Fraction(charge.credits) == expected.credits
        assert Fraction(charge.savings.list) == expected.uncached
        assert Fraction(charge.savings.cache) == expected.uncached - expected.at_list


# --- the explanation, recomputed from its text ---

_FIGURE = r"([0-9.]+)"
_LINE = re.compile(
    rf"^  .+?(?:: |\uff1a){_FIGURE} x {_FIGURE} (\w+) / (\d+)(?: x (?:exchange rate|汇率) {_FIGURE})?"
    rf"(?: x (?:ratio|倍率) {_FIGURE})?(?: \(.*\)|（.*）)? = {_FIGURE} USD$",
    re.MULTILINE,
)
_MINIMUM = re.compile(
    rf"^  (?:supplement|最低消费补差).* {_FIGURE} (\w+)(?: x (?:exchange rate|汇率) {_FIGURE})?"
    rf"(?: x (?:ratio|倍率) {_FIGURE})?(?: \(.*\)|（.*）)? = {_FIGURE} USD.*?"
    rf"(?:: |\uff1b){_FIGURE} - {_FIGURE} = {_FIGURE} USD$",
    re.MULTILINE,
)


@book_settings
@given(model_books_with_requests(4), st.sampled_from(["en", "zh_CN"]))
def test_each_term_of_an_explanation_multiplies_out(case: Case, locale: str) -> None:
    """Quantity x price / per x exchange rate x ratio is the term of each meter, and an amount in CNY has a rate.

    The supplement is the minimum charge, listed price x exchange rate x ratio, less all other terms.
    """
    data, requests = case
    book = PriceBook.loads(render(data))
    per_credit = Fraction(data["credit"]["nominal_per_credit"])
    for _, charge, expected in priced(data, book, requests):
        text = charge.explain(locale)
        terms = _LINE.findall(text)
        supplements = _MINIMUM.findall(text)
        assert len(terms) + len(supplements) == len(expected.lines)
        for listed, currency, rate_now, ratio, minimum, minuend, others, nominal in supplements:
            event("minimum")
            product = Fraction(listed) * Fraction(rate_now or 1) * Fraction(ratio or 1)
            assert product == Fraction(minimum) == Fraction(minuend)
            assert Fraction(minuend) - Fraction(others) == Fraction(nominal)
            assert Fraction(nominal) == expected.lines["minimum_charge"] * per_credit
            assert (currency == "CNY") == bool(rate_now)
        lines = [line for line in charge.lines if line.meter != "minimum_charge"]
        for (quantity, price, currency, per, rate_now, ratio, nominal), line in zip(terms, lines, strict=True):
            product = Fraction(quantity) * Fraction(price) / int(per) * Fraction(rate_now or 1) * Fraction(ratio or 1)
            assert product == Fraction(nominal) == expected.lines[line.meter] * per_credit
            assert (currency == "CNY") == bool(rate_now)


# --- records, copies, contexts ---


@book_settings
@given(model_books_with_requests(4))
def test_a_record_is_the_charge_in_every_form(case: Case) -> None:
    """``as_json`` is the text of ``as_dict``, and copies of the charge have the same record and explanation."""
    data, requests = case
    for _, charge, expected in priced(data, PriceBook.loads(render(data)), requests):
        record = charge.as_dict()
        assert charge.as_json() == json.dumps(record, ensure_ascii=False, separators=(",", ":"))
        assert sum(Fraction(line["credits"]) for line in record["lines"]) == expected.credits
        for copy in (pickle.loads(pickle.dumps(charge)), deepcopy(charge)):
            assert (copy, copy.as_dict(), copy.explain()) == (charge, record, charge.explain())


@book_settings
@given(model_books_with_requests(3), st.sampled_from([name for name in dir(decimal) if name.startswith("ROUND_")]))
def test_no_decimal_context_changes_a_figure(case: Case, rounding: str) -> None:
    """Loading, rating and explaining give the same text under a decimal context that traps and rounds."""
    data, requests = case
    text = render(data)

    def records() -> list[str]:
        book = PriceBook.loads(text)
        charges = [charge for _, charge, _ in priced(data, book, requests)]
        return [part for charge in charges for part in (charge.as_json(), charge.explain(), str(charge.savings))]

    expected = records()
    with decimal.localcontext() as context:
        context.prec, context.rounding = 2, rounding
        context.traps[decimal.Inexact] = context.traps[decimal.Rounded] = True
        context.traps[decimal.FloatOperation] = True
        assert records() == expected


def up_to(most: int) -> st.SearchStrategy[int]:
    """Draw a number up to a bound, often the bound itself."""
    return st.one_of(st.just(most), st.integers(0, most))


METERS = ("input", "cache_read", "explicit_cache_read", "cache_write", "output", "citation")

# --- more usage, holds, rate cards ---


@book_settings
@given(model_books_with_requests(3), st.data())
def test_more_of_a_meter_never_costs_less(case: Case, data: st.DataObject) -> None:
    """With the same rate card, a larger quantity of a meter costs the same or more, even with a minimum charge."""
    plain, requests = case
    book = PriceBook.loads(render(plain))
    for request, charge, _ in priced(plain, book, requests):
        if not request.quantities:
            continue
        name = data.draw(st.sampled_from(sorted(request.quantities)))
        quantities = {**request.quantities, name: request.quantities[name] + data.draw(st.integers(1, 10_000))}
        grown = rate(book, request._replace(quantities=quantities))
        if grown.card is charge.card:
            event("the same card")
            assert grown.units >= charge.units


@book_settings
@given(model_books_with_requests(4))
def test_rate_cards_has_the_card_of_every_charge(case: Case) -> None:
    """The card of a charge is among those that ``rate_cards`` lists, and each variation has its tiers in order."""
    data, requests = case
    book = PriceBook.loads(render(data))
    for request, charge, _ in priced(data, book, requests):
        model = charge.card.router or charge.model
        served = charge.model if charge.card.router else None
        cards = book.rate_cards(
            model, group=request.group, at=request.at, service_tier=charge.service_tier, served_model=served
        )
        if served is not None or not book.is_router(model):
            assert sum(card is charge.card for card in cards) == 1
        ranges = Counter((card.variation, card.context.lower is None) for card in cards)
        assert all(ranges[variation, True] == 1 for variation in {card.variation for card in cards})


@book_settings
@given(model_books_with_requests(3), st.data())
def test_a_hold_is_never_below_the_charge(case: Case, data: st.DataObject) -> None:
    """What is held for a request is at least the charge, in any region, by any model of a router, on any meter."""
    plain, requests = case
    book = PriceBook.loads(render(plain))
    for request in requests:
        model = request.model.removeprefix("openai/")
        is_router = "routes_to" in plain["models"][model]
        served = data.draw(st.sampled_from([name for name in plain["models"] if name != "route"]))
        used = request._replace(model=model, served=served if is_router else None)
        usable = [n for n in METERS if model_oracle.outcome(plain, _alone(used, n)) == "priced"]
        if "input" not in usable or "output" not in usable:
            continue
        limit = data.draw(st.integers(1, 3_000))
        unbounded = {"input": "Hi", "conversation": "c", "max_output_tokens": limit}
        body = data.draw(st.sampled_from([chat("Hi", max_tokens=limit), unbounded]))
        body |= {"speed": used.mode} if used.mode else {}
        counter = TokenCounter(model, book, family="gpt-5")
        try:
            worst = counter.worst_case(body, group=used.group, at=used.at, service_tier=used.tier)
        except BillingError as error:
            # Some region, or some model of a router, has no price that could be held: the request is not forwarded.
            if error.code not in ("mode_unavailable", "service_tier_unavailable", "no_price"):
                raise
            event("not forwarded")
            continue
        event("router" if is_router else "model")
        quantities: dict[str, Fraction] = {}
        for most, side in (
            (worst.input_tokens, usable[: usable.index("output")]),
            (worst.output_tokens, usable[usable.index("output") :]),
        ):
            total = data.draw(up_to(most))
            name = data.draw(st.sampled_from(side))
            count = data.draw(up_to(total))
            quantities[name] = quantities.get(name, Fraction(0)) + count
            quantities[side[0]] = quantities.get(side[0], Fraction(0)) + total - count
        outputs = sum((quantities.get(name, Fraction(0)) for name in ("output", "citation")), Fraction(0))
        reasoning = data.draw(up_to(int(outputs)))
        charge = rate(book, used._replace(quantities=quantities, reasoning=reasoning))
        assert charge.units <= worst.credits * 10**18


def _alone(request: ModelRequest, name: str) -> ModelRequest:
    return request._replace(quantities={name: Fraction(1)}, reasoning=0)


# --- bills ---

YEAR = Period.parse("2026-01-01/2027-01-01")


def _record(number: int, request: ModelRequest) -> tuple[Data, ModelRequest]:
    """Return a record of a usage file with the tokens of a request, and the request that it states."""
    tokens = {name: request.quantities.get(name, Fraction(0)) for name in ("input", "cache_read", "output")}
    reasoning = min(request.reasoning, int(tokens["output"]))
    body: Data = {
        "prompt_tokens": int(tokens["input"] + tokens["cache_read"]),
        "completion_tokens": int(tokens["output"]),
        "prompt_tokens_details": {"cached_tokens": int(tokens["cache_read"])},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    record = {
        "request_id": f"r{number}",
        "at": request.at.isoformat().replace("+00:00", "Z"),
        "account": "acct_1",
        **{name: getattr(request, name) for name in ("group", "model", "region", "mode")},
        "service_tier": request.tier,
        "usage": {"usage": body, **({"model": request.served} if request.served else {}), "object": "chat.completion"},
    }
    stated = {name: count for name, count in tokens.items() if count}
    return record, request._replace(quantities=stated, reasoning=reasoning)


@book_settings
@given(model_books_with_requests(12))
def test_the_lines_of_a_bill_are_the_sums_of_the_charges(case: Case) -> None:
    """A bill has the sums of Credits by meter and price, and of savings, rejects the rest, and verifies.

    Its export to FOCUS has the same lines, exactly.
    """
    data, requests = case
    book = PriceBook.loads(render(data))
    records = [_record(number, request) for number, request in enumerate(requests)]
    sums: defaultdict[tuple[Any, ...], Fraction] = defaultdict(Fraction)
    count = 0
    saved = {"list": Fraction(0), "cache": Fraction(0), "group": Fraction(0)}
    for _, _, expected in priced(data, book, [request for _, request in records]):
        count += 1
        saved["list"] += expected.uncached
        saved["cache"] += expected.uncached - expected.at_list
        saved["group"] += expected.at_list - expected.credits
        for meter, credits in expected.lines.items():
            sums[(*expected[:3], tuple(sorted(expected.conditions.items())), meter)] += credits
    usage = b"".join(json.dumps(record).encode() + b"\n" for record, _ in records)
    if not count:
        return
    document = billed(usage, book, period=YEAR, period_name=str(YEAR), issued=YEAR.end)
    found: defaultdict[tuple[Any, ...], Fraction] = defaultdict(Fraction)
    for line in document["lines"]:
        conditions = {name: line[name] for name in ("router", "region", "mode", "window") if name in line}
        names = (line["model"], line["service_tier"], line["context_tier"], tuple(sorted(conditions.items())))
        found[(*names, line["meter"])] += Fraction(line["credits"])
    assert found == sums
    assert {name: Fraction(amount) for name, amount in document["savings"].items()} == saved
    assert document["totals"]["requests"] == count
    assert document["evidence"]["rejected"] == len(requests) - count
    assert Fraction(document["totals"]["credits"]) == sum(sums.values(), Fraction(0))
    assert verified(document, usage, book).differences == []
    if document["totals"]["channels"]:
        check_focus(usage, book, document, YEAR)
