"""Laws of rating, which hold for any valid price book and any usage. The oracle computes in fractions."""

from __future__ import annotations

import decimal
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

import oracle
from brivionix_billing import BillingError, PriceBook
from brivionix_billing.meters import METERS
from request_strategies import (
    RatingRequest,
    book_settings,
    books_with_requests,
    drop_unpriced_meters,
    priced_requests,
    usage_of,
)
from strategies import ARGUMENTS, TIERS, Data, N, books, counts, render

Case = tuple[Data, list[RatingRequest]]
TICK = timedelta(microseconds=1)
ROUNDINGS = [name for name in dir(decimal) if name.startswith("ROUND_")]


def frac(value: Decimal) -> Fraction:
    """Return a decimal as a fraction."""
    return Fraction(value)


@contextmanager
def strict_decimal_context(precision: int, rounding: str) -> Iterator[None]:
    """Set a decimal context in which arithmetic that is not exact at this precision raises or rounds."""
    with decimal.localcontext() as context:
        context.prec = precision
        context.rounding = rounding
        context.traps[decimal.Inexact] = context.traps[decimal.Rounded] = True
        context.traps[decimal.FloatOperation] = context.traps[decimal.Subnormal] = True
        yield


@book_settings
@given(books_with_requests(12))
def test_a_charge_matches_the_oracle(case: Case) -> None:
    """Credits, nominal price, lines, context tier and savings of any request exactly equal those of the oracle."""
    data, requests = case
    book = PriceBook.loads(render(data))
    for _, charge, bill in priced_requests(data, book, requests):
        assert frac(charge.credits) == bill.credits
        assert charge.nominal.currency == "USD"
        assert frac(charge.nominal.amount) == bill.nominal
        assert {line.meter: frac(line.credits) for line in charge.lines} == bill.lines
        assert (charge.context_tier == "long") == bill.long
        savings = charge.savings
        assert frac(savings.list) == bill.uncached
        assert frac(savings.cache) == bill.uncached - bill.at_list
        assert frac(savings.list) - frac(savings.cache) - frac(savings.group) == bill.credits


@book_settings
@given(books_with_requests())
def test_the_lines_and_the_channels_add_up(case: Case) -> None:
    """Lines are quantity x unit price and add up to the charge, and a cost is Credits x the price of the channel."""
    data, requests = case
    book = PriceBook.loads(render(data))
    per_credit = Fraction(data["credit"]["nominal_per_credit"])
    for _, charge, _ in priced_requests(data, book, requests):
        assert sum((frac(line.credits) for line in charge.lines), Fraction(0)) == frac(charge.credits)
        for line in charge.lines:
            assert frac(line.credits) == Fraction(line.quantity) * frac(line.unit_price) / line.per / per_credit
            if line.ratio is not None and line.list_price is not None:
                assert frac(line.unit_price) == frac(line.list_price) * frac(line.ratio)
        for name, channel in data["channels"].items():
            entry = oracle.entry_at(channel["prices"], charge.at)
            if entry is None:
                with pytest.raises(BillingError, match="no channel"):
                    charge.cost(name)
            else:
                cost = charge.cost(name)
                assert frac(cost.amount) == frac(charge.credits) * Fraction(entry["price_per_credit"])
                assert cost.currency == channel["currency"]


@book_settings
@given(books_with_requests(3), st.sampled_from(ROUNDINGS), st.integers(1, 3))
def test_no_decimal_context_changes_a_figure(case: Case, rounding: str, precision: int) -> None:
    """Loading, rating, explaining and quoting give the same results under any decimal context."""
    data, requests = case
    text = render(data)

    def results() -> list[Any]:
        """Return all figures of the book and the requests."""
        book = PriceBook.loads(text)
        figures: list[Any] = [book.digest]
        for _, charge, _ in priced_requests(data, book, requests):
            figures += [
                charge.as_dict(),
                charge.explain(),
                charge.savings,
                charge.gateway_quota(),
                charge.nominal,
                charge.lines,
            ]
        for name in data["channels"]:
            for amount in ("7", "123456"):
                try:
                    figures += [
                        book.quote(name, at=requests[0].at, pay=amount),
                        book.quote(name, at=requests[0].at, credits=amount),
                    ]
                except BillingError as error:
                    figures.append(error.code)
        return figures

    expected = results()
    with strict_decimal_context(precision, rounding):
        assert results() == expected


@book_settings
@given(books_with_requests(8))
def test_the_sum_of_charges_is_the_card_times_the_sum_of_tokens(case: Case) -> None:
    """Rating requests one by one equals multiplying one rate card by the sums of the meters."""
    data, requests = case
    book = PriceBook.loads(render(data))
    same_terms = [requests[0]._replace(counts=request.counts) for request in requests]
    charges = [
        charge
        for _, charge, _ in priced_requests(data, book, [drop_unpriced_meters(data, request) for request in same_terms])
    ]
    for card in {id(charge.card): charge.card for charge in charges}.values():
        card_charges = [charge for charge in charges if charge.card is card]
        event(f"{min(len(card_charges), 3)} charges of a card")
        totals: dict[str, int] = {}
        for charge in card_charges:
            for name, quantity in card.billed_quantities(charge.usage):
                totals[name] = totals.get(name, 0) + quantity
        units = sum(quantity * card.unit_rates.get(name, 0) for name, quantity in totals.items())
        assert Fraction(units, 10**18) == sum((frac(charge.credits) for charge in card_charges), Fraction(0))


@book_settings
@given(books_with_requests(3), st.sampled_from(sorted(ARGUMENTS)), st.integers(1, 1000))
def test_more_of_a_meter_adds_its_rate(case: Case, meter: str, more: int) -> None:
    """Within a context tier, n more of a meter add exactly n times its rate, which is never negative."""
    data, requests = case
    book = PriceBook.loads(render(data))
    for request, before, _ in priced_requests(data, book, requests):
        grown = request.counts | {name: request.counts.get(name, 0) + more for name in ARGUMENTS[meter]}
        assert usage_of(grown).meters[meter] == oracle.meters(request.counts).get(meter, 0) + more
        for _, after, _ in priced_requests(data, book, [request._replace(counts=grown)]):
            if after.context_tier == before.context_tier:
                rates = after.card.unit_rates
                rate = rates.get(meter, rates.get(oracle.FALLBACKS.get(meter, ""), 0))
                assert after.units - before.units == more * rate >= 0


@book_settings
@given(books_with_requests(3), st.sampled_from([N("0"), N("0.8"), N("1.5"), N("0.333"), N("1000")]))
def test_a_ratio_is_an_exact_factor(case: Case, ratio: N) -> None:
    """A group with ratio r pays exactly r times the Credits of a group with ratio 1."""
    data, requests = case
    for name, value in (("plain", N("1")), ("other", ratio)):
        data["groups"][name] = {"terms": [{"from": "2026-01-01", "ratio": value, "models": ["*"]}]}
    book = PriceBook.loads(render(data))
    plain, other = (
        [
            charge
            for _, charge, _ in priced_requests(data, book, [request._replace(group=group) for request in requests])
        ]
        for group in ("plain", "other")
    )
    assert [frac(charge.credits) * Fraction(ratio) for charge in plain] == [frac(charge.credits) for charge in other]


@given(counts())
def test_meters_are_disjoint_and_add_up(arguments: dict[str, int]) -> None:
    """Each token is on exactly one meter, as in the oracle, and the meters add up to input plus output."""
    usage = usage_of(arguments)
    assert usage.meters == oracle.meters(arguments)
    tokens = sum(quantity for name, quantity in usage.quantities() if METERS[name].is_token)
    assert tokens == usage.total_tokens == usage.input_tokens + usage.output_tokens
    for name, count in arguments.items():
        if hasattr(usage, name):
            assert getattr(usage, name) == count


# --- the explanation, recomputed from its text ---

_FIGURE = r"(-?\d+(?:\.\d+)?)"
_LINE = re.compile(
    rf"^  .+?(?:: |\uff1a)(\d+) x {_FIGURE} USD / (\d+)(?: x (?:ratio|倍率) {_FIGURE})?.* = {_FIGURE} USD$", re.M
)
_SUM = re.compile(rf"^(?:Nominal price: |名义价格\uff1a)(.+) = {_FIGURE} USD$", re.MULTILINE)
_CREDITS = re.compile(
    rf"^Credits(?:: |\uff1a){_FIGURE} USD / (?:每 Credit )?{_FIGURE} USD.* = {_FIGURE} Credits$", re.MULTILINE
)
_CHANNEL = re.compile(
    rf"^(?:Top-up|充值).+?(?:: |\uff1a){_FIGURE} Credits x {_FIGURE} (\w+) = {_FIGURE} (\w+)$", re.MULTILINE
)
_SAVINGS = re.compile(r"^(?:At list|按官方价).+$", re.MULTILINE)


@book_settings
@given(books_with_requests(3), st.sampled_from(["en", "zh_CN"]))
def test_an_explanation_can_be_recomputed_by_hand(case: Case, locale: str) -> None:
    """The figures in the text, combined as the text states, give every result in it."""
    data, requests = case
    book = PriceBook.loads(render(data))
    for _, charge, bill in priced_requests(data, book, requests):
        text = charge.explain(locale)
        lines = _LINE.findall(text)
        assert len(lines) == len(charge.lines)
        for quantity, price, per, ratio, nominal in lines:
            assert Fraction(quantity) * Fraction(price) / Fraction(per) * Fraction(ratio or 1) == Fraction(nominal)
        nominal = sum((Fraction(line[-1]) for line in lines), Fraction(0))
        assert nominal == bill.nominal
        for terms, total in _SUM.findall(text):
            assert [Fraction(term) for term in terms.split(" + ")] == [Fraction(line[-1]) for line in lines]
            assert Fraction(total) == nominal
        assert len(_SUM.findall(text)) == (len(lines) > 1)
        [(stated, per_credit, credits)] = _CREDITS.findall(text)
        assert Fraction(stated) == nominal
        assert Fraction(stated) / Fraction(per_credit) == Fraction(credits) == bill.credits
        channels = _CHANNEL.findall(text)
        assert len(channels) == len(charge.card.channels)
        for amount, price, currency, cost, cost_currency in channels:
            assert Fraction(amount) == bill.credits
            assert Fraction(amount) * Fraction(price) == Fraction(cost)
            assert currency == cost_currency
        [savings] = _SAVINGS.findall(text)
        list_credits, cache, group = map(Fraction, re.findall(_FIGURE, savings))
        assert list_credits - cache - group == bill.credits
        assert list_credits == bill.uncached


# --- the digest ---


@book_settings
@given(books(), st.integers())
def test_the_digest_ignores_spelling(data: Data, seed: int) -> None:
    """Comments, the order of keys and the spelling of numbers, such as 0.10 or 1e-1, do not change the digest."""
    assert PriceBook.loads(render(data, Random(seed))).digest == PriceBook.loads(render(data)).digest


def _figures(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every number, except those of volume discounts."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        if isinstance(value, N) and "tiers" not in path:
            yield (*path, key)
        yield from _figures(value, (*path, key))


def _changed(data: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    """Return a copy in which the value at a path is changed."""
    if not path:
        return change(data)
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = _changed(copy[path[0]], path[1:], change)
    return copy


@book_settings
@given(books(), st.data())
def test_the_digest_covers_every_price(data: Data, draw: st.DataObject) -> None:
    """A different price, ratio, discount, fee or Credit price anywhere in the book changes the digest."""
    path = draw.draw(st.sampled_from(list(_figures(data))))
    other = _changed(data, path, lambda old: N("0.5") if Fraction(old) != Fraction(1, 2) else N("0.25"))
    assert PriceBook.loads(render(other)).digest != PriceBook.loads(render(data)).digest


@book_settings
@given(books_with_requests(3))
def test_later_entries_do_not_change_earlier_charges(case: Case) -> None:
    """Appended entries that apply from a later time change neither earlier charges nor the digest of earlier prices."""
    data, requests = case
    later = "2027-01-01"
    appended = {
        **data,
        "models": dict(data["models"]),
        "groups": dict(data["groups"]),
        "channels": dict(data["channels"]),
    }
    for name, group in data["groups"].items():
        extra = {"from": later, "ratio": N("3"), "models": ["*"]}
        appended["groups"][name] = {"terms": [*group["terms"], extra]}
    for name, channel in data["channels"].items():
        extra = {"from": later, "price_per_credit": N("7")}
        appended["channels"][name] = {**channel, "prices": [*channel["prices"], extra]}
    first, model = next(iter(data["models"].items()))
    new = {key: value for key, value in model["prices"][-1].items() if key != "until"} | {"from": later}
    tier = next(tier for tier in TIERS if tier in new)
    new[tier] = new[tier] | {"input": N("0.0625")}
    appended["models"][first] = {**model, "prices": [*model["prices"], new]}
    appended["models"]["m-9"] = {**model, "released": later, "aliases": [], "prices": [new]}
    appended["cache_discount"] = [*data["cache_discount"], {"from": later, "discount": N("0.5")}]
    before, after = PriceBook.loads(render(data)), PriceBook.loads(render(appended))
    assert before.digest != after.digest
    charges = [charge.as_dict() for _, charge, _ in priced_requests(data, before, requests)]
    later_charges = [charge.as_dict() for _, charge, _ in priced_requests(data, after, requests)]
    for content in (*charges, *later_charges):
        del content["price_book"]
    assert later_charges == charges
