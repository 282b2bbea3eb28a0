"""The laws of rating. Each holds for any sound price book and any usage; the oracle counts in fractions."""

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
from brivionix_billing.meters import METERS, Meter
from request_strategies import Ask, few, fitted, made, priced, questions
from strategies import ARGUMENTS, TIERS, Data, N, books, counts, instant, render

Questions = tuple[Data, list[Ask]]
TICK = timedelta(microseconds=1)
ROUNDINGS = [name for name in dir(decimal) if name.startswith("ROUND_")]


def frac(value: Decimal) -> Fraction:
    return Fraction(value)


@contextmanager
def hostile(precision: int, rounding: str) -> Iterator[None]:
    """A decimal context in which any arithmetic that is not exact in so few digits raises or rounds."""
    with decimal.localcontext() as context:
        context.prec = precision
        context.rounding = rounding
        context.traps[decimal.Inexact] = context.traps[decimal.Rounded] = True
        context.traps[decimal.FloatOperation] = context.traps[decimal.Subnormal] = True
        yield


@few
@given(questions(12))
def test_a_charge_is_what_the_oracle_says(asked: Questions) -> None:
    """Credits, nominal, lines, long context and savings of any request equal the oracle's, to the last digit."""
    data, asks = asked
    book = PriceBook.loads(render(data))
    for _, charge, bill in priced(data, book, asks):
        assert frac(charge.credits) == bill.credits
        assert charge.nominal.currency == "USD"
        assert frac(charge.nominal.amount) == bill.nominal
        assert {line.meter: frac(line.credits) for line in charge.lines} == bill.lines
        assert (charge.context_tier == "long") == bill.long
        saved = charge.savings
        assert frac(saved.list) == bill.uncached
        assert frac(saved.cache) == bill.uncached - bill.at_list
        assert frac(saved.list) - frac(saved.cache) - frac(saved.group) == bill.credits


@few
@given(questions())
def test_the_lines_and_the_channels_add_up(asked: Questions) -> None:
    """Each line is quantity x unit price, the lines sum to the charge, and a cost is Credits x the channel's price."""
    data, asks = asked
    book = PriceBook.loads(render(data))
    per_credit = Fraction(data["credit"]["nominal_per_credit"])
    for _, charge, _ in priced(data, book, asks):
        assert sum((frac(line.credits) for line in charge.lines), Fraction(0)) == frac(charge.credits)
        for line in charge.lines:
            assert frac(line.credits) == line.quantity * frac(line.unit_price) / line.per / per_credit
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


@few
@given(questions(3), st.sampled_from(ROUNDINGS), st.integers(1, 3))
def test_no_decimal_context_changes_a_figure(asked: Questions, rounding: str, precision: int) -> None:
    """Loading, rating, explaining and quoting give the same under any precision, rounding and traps."""
    data, asks = asked
    text = render(data)

    def everything() -> list[Any]:
        book = PriceBook.loads(text)
        found: list[Any] = [book.digest]
        for _, charge, _ in priced(data, book, asks):
            found += [
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
                    found += [book.quote(name, at=asks[0].at, **{by: amount}) for by in ("pay", "credits")]
                except BillingError as error:
                    found.append(error.code)
        return found

    usual = everything()
    with hostile(precision, rounding):
        assert everything() == usual


@few
@given(questions(8))
def test_the_sum_of_charges_is_the_card_times_the_sum_of_tokens(asked: Questions) -> None:
    """Rating one by one, or multiplying one rate card by the summed meters, gives the same bill."""
    data, asks = asked
    book = PriceBook.loads(render(data))
    alike = [asks[0]._replace(counts=ask.counts) for ask in asks]
    charges = [charge for _, charge, _ in priced(data, book, [fitted(data, ask) for ask in alike])]
    for card in {id(charge.card): charge.card for charge in charges}.values():
        own = [charge for charge in charges if charge.card is card]
        event(f"{min(len(own), 3)} charges of a card")
        totals: dict[int, int] = {}
        for charge in own:
            for place, quantity in charge.usage.quantities():
                totals[place] = totals.get(place, 0) + quantity
        whole = sum(quantity * (card.unit_rates[place] or 0) for place, quantity in totals.items())
        assert Fraction(whole, 10**18) == sum((frac(charge.credits) for charge in own), Fraction(0))


@few
@given(questions(3), st.sampled_from(METERS), st.integers(1, 1000))
def test_one_more_of_a_meter_costs_its_price_and_never_less(asked: Questions, meter: Meter, more: int) -> None:
    """Within a context tier, more of a meter adds exactly that many times its rate, which is never negative."""
    data, asks = asked
    book = PriceBook.loads(render(data))
    for ask, before, _ in priced(data, book, asks):
        grown = ask.counts | {name: ask.counts.get(name, 0) + more for name in ARGUMENTS[meter.name]}
        assert made(grown).meters[meter.name] == oracle.meters(ask.counts).get(meter.name, 0) + more
        for _, after, _ in priced(data, book, [ask._replace(counts=grown)]):
            if after.context_tier == before.context_tier:
                assert after.units - before.units == more * (after.card.unit_rates[meter.position] or 0) >= 0


@few
@given(questions(3), st.sampled_from([N("0"), N("0.8"), N("1.5"), N("0.333"), N("1000")]))
def test_a_ratio_is_exactly_a_factor(asked: Questions, ratio: N) -> None:
    """A group of ratio r pays exactly r times what a group of ratio 1 pays; ratio 0 pays nothing."""
    data, asks = asked
    for name, value in (("plain", N("1")), ("other", ratio)):
        data["groups"][name] = {"terms": [{"from": "2026-01-01", "ratio": value, "models": ["*"]}]}
    book = PriceBook.loads(render(data))
    one, other = (
        [charge for _, charge, _ in priced(data, book, [ask._replace(group=group) for ask in asks])]
        for group in ("plain", "other")
    )
    assert [frac(charge.credits) * Fraction(ratio) for charge in one] == [frac(charge.credits) for charge in other]


@given(counts())
def test_meters_are_disjoint_and_add_up(given_counts: dict[str, int]) -> None:
    """Each token is on exactly one meter: they are the oracle's meters and sum to input plus output."""
    usage = made(given_counts)
    assert usage.meters == oracle.meters(given_counts)
    tokens = sum(quantity for place, quantity in usage.quantities() if METERS[place].per == 1_000_000)
    assert tokens == usage.total_tokens == usage.input_tokens + usage.output_tokens
    for name, count in given_counts.items():
        if hasattr(usage, name):
            assert getattr(usage, name) == count


# --- the explanation, redone from its own text ---

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
_SAVED = re.compile(r"^(?:At list|按官方价).+$", re.MULTILINE)


@few
@given(questions(3), st.sampled_from(["en", "zh_CN"]))
def test_an_explanation_can_be_redone_by_hand(asked: Questions, locale: str) -> None:
    """The figures in the text, multiplied and added as the text says, give every result that it states."""
    data, asks = asked
    book = PriceBook.loads(render(data))
    for _, charge, bill in priced(data, book, asks):
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
        for amount, price, currency, cost, shown in channels:
            assert Fraction(amount) == bill.credits
            assert Fraction(amount) * Fraction(price) == Fraction(cost)
            assert currency == shown
        [saved] = _SAVED.findall(text)
        full, cache, group = map(Fraction, re.findall(_FIGURE, saved))
        assert full - cache - group == bill.credits
        assert full == bill.uncached


# --- the digest ---


@few
@given(books(), st.integers())
def test_the_digest_sees_only_content(data: Data, seed: int) -> None:
    """Comments, the order of keys and the spelling of numbers (0.10, 1e-1) do not change the digest."""
    assert PriceBook.loads(render(data, Random(seed))).digest == PriceBook.loads(render(data)).digest


def _figures(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        if isinstance(value, N) and "tiers" not in path:
            yield (*path, key)
        yield from _figures(value, (*path, key))


def _changed(data: Any, path: tuple[Any, ...], how: Callable[[Any], Any]) -> Any:
    if not path:
        return how(data)
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = _changed(copy[path[0]], path[1:], how)
    return copy


@few
@given(books(), st.data())
def test_the_digest_sees_every_price(data: Data, draw: st.DataObject) -> None:
    """Another price, ratio, discount, fee or Credit price anywhere in the book gives another digest."""
    path = draw.draw(st.sampled_from(list(_figures(data))))
    other = _changed(data, path, lambda old: N("0.5") if Fraction(old) != Fraction(1, 2) else N("0.25"))
    assert PriceBook.loads(render(other)).digest != PriceBook.loads(render(data)).digest


@few
@given(questions(3))
def test_later_entries_leave_the_past_alone(asked: Questions) -> None:
    """Appending prices, a model and a group from a later time changes neither a charge before it nor its digest."""
    data, asks = asked
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
    grown = [
        book.has_entries_after(instant(later) + delta) for book in (before, after) for delta in (TICK, timedelta(0))
    ]
    assert grown == [False, False, False, True]
    for end in (instant(later), asks[0].at):
        assert before.digest_before(end) == after.digest_before(end)
    charges = [charge.as_dict() for _, charge, _ in priced(data, before, asks)]
    again = [charge.as_dict() for _, charge, _ in priced(data, after, asks)]
    for each in (*charges, *again):
        del each["price_book"]
    assert again == charges
