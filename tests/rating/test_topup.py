"""Top-up quotes: the same pair of payment and Credits, whichever of the two is requested."""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import oracle
from brivionix_billing import BillingError, Money, Payable, PriceBook
from brivionix_billing.money import minor_digits
from brivionix_billing.topup import Quote
from profiles import examples
from samples import NOW, D, book_of, code_of, shipped, utc
from strategies import Data, channels, render

LATE = utc("2026-07-15")
"""A time after the last price change of every generated channel."""
quote_settings = settings(max_examples=examples(250), deadline=None, suppress_health_check=list(HealthCheck))
ENTRY = "{from: 2026-01-01, standard: {input: 1}}"


def quotes(data: Data, at: datetime = LATE) -> Any:
    """Return a function that quotes through a generated channel, and returns ``None`` if the amount is out of range."""
    book = book_of(ENTRY, channel=f"{render(data, indent=2)}")

    def quote(**amount: Any) -> Quote | None:
        try:
            return book.quote("c", at=at, **amount)
        except BillingError as error:
            code = error.code
        assert code == "amount_out_of_range"
        event("out of range")
        return None

    return quote


def minor(data: Data, count: int) -> Payable:
    """Return an amount in minor units of the currency of a channel."""
    return Payable(count, data["currency"])


def credits_of(micro: int) -> Any:
    """Return the Credits of a number of millionths."""
    return D(micro).scaleb(-6)


amounts = st.one_of(st.integers(1, 300), st.integers(1, 10**6), st.integers(1, 10**12))


@quote_settings
@given(channels(), amounts)
def test_a_payment_buys_the_credits_of_the_oracle(data: Data, count: int) -> None:
    """A payment buys the maximum of Credits at the minimum payment; zero or more than 10^15 Credits are rejected."""
    quote = quotes(data)(pay=minor(data, count).amount)
    most = oracle.micro_credits_for(data, LATE, count)
    assert (quote is None) == (most == 0 or most > 10**21)
    if quote is None:
        return
    assert quote.credits == credits_of(most)
    assert quote.pay.minor == oracle.least_payment(data, LATE, most) <= count
    assert oracle.micro_credits_for(data, LATE, quote.pay.minor) == most
    if quote.pay.minor < count:
        event("payment reduced")


@quote_settings
@given(channels(), amounts)
def test_credits_cost_the_payment_of_the_oracle(data: Data, micro: int) -> None:
    """Requested Credits cost the minimum payment that buys at least as many, and all that it buys are credited."""
    quote = quotes(data)(credits=credits_of(micro))
    assert quote is not None
    assert quote.pay.minor == oracle.least_payment(data, LATE, micro)
    assert quote.credits == credits_of(oracle.micro_credits_for(data, LATE, quote.pay.minor))
    assert quote.credits >= quote.requested_credits == credits_of(micro)


@quote_settings
@given(channels(), amounts, st.sampled_from(["pay", "credits"]))
def test_quoting_a_quote_gives_the_same_quote(data: Data, count: int, by: str) -> None:
    """A quote for the Credits or the payment of a quote is the same quote."""
    quote = quotes(data)
    original = quote(**{by: minor(data, count).amount if by == "pay" else credits_of(count)})
    if original is not None:
        for repeated in (quote(pay=original.pay.amount), quote(credits=original.credits)):
            assert repeated._replace(requested_credits=None) == original._replace(requested_credits=None)


@quote_settings
@given(channels(), amounts, st.integers(0, 2000), st.sampled_from(["pay", "credits"]))
def test_quotes_are_monotonic(data: Data, count: int, more: int, by: str) -> None:
    """A larger payment never buys fewer Credits, and more Credits never cost less, across all thresholds."""
    quote = quotes(data)
    smaller, larger = (
        quote(**{by: minor(data, n).amount if by == "pay" else credits_of(n)}) for n in (count, count + more)
    )
    if smaller is not None:
        assert larger is not None
        assert larger.credits >= smaller.credits
        assert larger.pay.minor >= smaller.pay.minor


@quote_settings
@given(channels(), amounts, st.sampled_from(["pay", "credits"]))
def test_a_quote_has_no_negative_figure(data: Data, count: int, by: str) -> None:
    """Payment and Credits are positive, the discount is not negative, and the undiscounted amount is exact."""
    quote = quotes(data)(**{by: minor(data, count).amount if by == "pay" else credits_of(count)})
    if quote is None:
        return
    assert quote.pay.minor > 0
    assert quote.credits > 0
    assert quote.discount.amount >= 0
    assert Fraction(quote.undiscounted.amount) == Fraction(quote.credits) * Fraction(quote.price_per_credit)
    assert {quote.pay.currency, quote.discount.currency, quote.undiscounted.currency} == {data["currency"]}
    if quote.discount.amount:
        event("discounted")
        assert quote.undiscounted - quote.discount == quote.pay.money
    exponent = quote.pay.amount.as_tuple().exponent
    assert exponent == -minor_digits(data["currency"])


def test_payments_have_the_decimal_places_of_their_currency() -> None:
    """JPY has no decimal places and KWD has three, and a payment with more decimal places is rejected."""
    book = book_of(ENTRY, channel="{currency: JPY, prices: [{from: 2026-01-01, price_per_credit: 17.5}]}")
    quote = book.quote("c", at=NOW, credits="0.5")
    assert (str(quote.pay), quote.credits) == ("9 JPY", D("0.514285"))
    assert str(book.quote("c", at=NOW, pay="100.0").pay) == "100 JPY"
    with pytest.raises(BillingError, match=r"100\.5 has too many decimal places: JPY") as caught:
        book.quote("c", at=NOW, pay="100.5")
    assert code_of(caught) == "invalid_money"
    dinar = book_of(ENTRY, channel="{currency: KWD, prices: [{from: 2026-01-01, price_per_credit: 0.037}]}")
    assert str(dinar.quote("c", at=NOW, credits=1).pay) == "0.037 KWD"
    assert str(dinar.quote("c", at=NOW, pay="0.001").pay) == "0.001 KWD"


def test_a_payment_that_buys_no_credits_is_rejected() -> None:
    """A payment below the price of 0.000001 Credit is rejected, and an unusable minor unit is not charged."""
    book = book_of(ENTRY, channel="{currency: LBP, prices: [{from: 2026-01-01, price_per_credit: 10740}]}")
    with pytest.raises(BillingError, match=r"0\.01 LBP buys less than 0\.000001 Credit") as caught:
        book.quote("c", at=NOW, pay="0.01")
    assert code_of(caught) == "amount_out_of_range"
    quote = book.quote("c", at=NOW, pay="0.15")
    assert (str(quote.pay), quote.credits) == ("0.14 LBP", D("0.000013"))


def test_a_discount_is_never_negative() -> None:
    """If rounding the payment up exceeds the discount, the discount is zero."""
    channel = (
        "{currency: CNY, prices: [{from: 2026-01-01, price_per_credit: 0.333333}], volume_discounts: "
        "[{from: 2026-01-01, applies_to: above, tiers: [{at_least: 0.03, discount: 0.05}]}]}"
    )
    quote = book_of(ENTRY, channel=channel).quote("c", at=NOW, pay="0.01")
    assert (quote.credits, quote.undiscounted) == (D("0.03"), Money("0.00999999", "CNY"))
    assert quote.discount == Money(0, "CNY")


def test_the_shipped_channels_quote_their_prices() -> None:
    """One Credit costs 0.85 CNY or 0.12 USD in the shipped price file."""
    book = shipped()
    assert book.quote("rmb", at=NOW, credits=100) == Quote(
        "rmb", NOW, Payable("85.00", "CNY"), D(100), D(100), D("0.85"), Money(85, "CNY"), Money(0, "CNY")
    )
    quote = book.quote("stripe", at=NOW, pay="10")
    assert (quote.credits, quote.pay, quote.requested_credits) == (D("83.333333"), Payable(1000, "USD"), None)
    assert book.quote("rmb", at=NOW, credits="0.000001").pay == Payable(1, "CNY")
    assert book.quote("rmb", at=NOW, credits=10**15).pay == Payable("850000000000000", "CNY")


def test_prices_and_discounts_apply_from_their_instants() -> None:
    """The price and the discount of a channel change at their instants, and no price applies before the first one."""
    channel = (
        "{currency: CNY, prices: [{from: 2026-01-01, price_per_credit: 1}, {from: 2026-03-01, price_per_credit: 2}], "
        "volume_discounts: [{from: 2026-02-01, until: 2026-04-01, applies_to: all, "
        "tiers: [{at_least: 10, discount: 0.5}]}]}"
    )
    book = book_of(ENTRY, channel=channel)
    payments = {
        at: book.quote("c", at=utc(at), credits=10).pay.minor for at in ("2026-01-31", "2026-02-01", "2026-03-01")
    }
    assert payments == {"2026-01-31": 1000, "2026-02-01": 500, "2026-03-01": 1000}
    assert book.quote("c", at=utc("2026-04-01"), credits=10).pay.minor == 2000
    with pytest.raises(BillingError, match="channel c has no price at 2025-12-31T00:00:00Z") as caught:
        book.quote("c", at=utc("2025-12-31"), credits=10)
    assert code_of(caught) == "unknown_channel"
    with pytest.raises(BillingError, match="has no time zone"):
        book.quote("c", at=NOW.replace(tzinfo=None), credits=10)


def test_payments_outside_the_bounds_are_rejected() -> None:
    """A payment below the minimum or above the maximum is rejected, and both bounds are valid payments."""
    channel = (
        "{currency: CNY, min_payment: 5, max_payment: 100.50, prices: [{from: 2026-01-01, price_per_credit: 0.85}]}"
    )
    book = book_of(ENTRY, channel=channel)
    assert [book.quote("c", at=NOW, pay=pay).pay.minor for pay in ("5", "100.50")] == [500, 10_050]
    for amount, message in (
        ({"pay": "4.99"}, "4.99 CNY is below the minimum payment of c; pay at least 5 CNY"),
        ({"pay": "100.51"}, "100.51 CNY is above the maximum payment of c; pay at most 100.5 CNY"),
        ({"credits": "1"}, "0.85 CNY is below the minimum payment"),
    ):
        with pytest.raises(BillingError, match=message) as caught:
            book.quote("c", at=NOW, pay=amount.get("pay"), credits=amount.get("credits"))
        assert (code_of(caught), caught.value.http_status) == ("amount_out_of_range", 400)


@pytest.mark.parametrize(
    ("amount", "code"),
    [
        ({}, "invalid_argument"),
        ({"credits": 1, "pay": 1}, "invalid_argument"),
        ({"credits": 0}, "amount_out_of_range"),
        ({"credits": 10**15 + 1}, "amount_out_of_range"),
        ({"pay": "1e20"}, "amount_out_of_range"),
        ({"pay": "0.00"}, "amount_out_of_range"),
        ({"credits": -1}, "amount_out_of_range"),
        ({"pay": D("-0.01")}, "amount_out_of_range"),
        ({"credits": "0.0000001"}, "invalid_money"),
        ({"pay": "0.001"}, "invalid_money"),
        ({"pay": 1.5}, "invalid_money"),
        ({"pay": True}, "invalid_money"),
        ({"credits": D("NaN")}, "invalid_money"),
        ({"credits": D("Infinity")}, "invalid_money"),
        ({"credits": "1e3000"}, "invalid_money"),
        ({"credits": 10**5000}, "invalid_money"),
        ({"pay": "1,50"}, "invalid_money"),
        ({"pay": [1]}, "invalid_money"),
    ],
)
def test_an_invalid_amount_is_rejected(amount: dict[str, Any], code: str) -> None:
    """Missing, conflicting, out-of-range and inexact amounts are rejected with their error codes."""
    with pytest.raises(BillingError) as caught:
        shipped().quote("rmb", at=NOW, **amount)
    assert code_of(caught) == code


@pytest.mark.parametrize("name", ["RMB", "", None, ["rmb"]])
def test_an_unknown_channel_is_rejected(name: Any) -> None:
    """An unknown channel is ``unknown_channel`` with the known names, and a book may have no channels."""
    with pytest.raises(BillingError, match="use one of: rmb, stripe") as caught:
        shipped().quote(name, at=NOW, credits=1)
    assert code_of(caught) == "unknown_channel"
    without_channels = PriceBook.loads(
        "version: 1\ncredit: {currency: USD, nominal_per_credit: 1}\nmodels: {m: {released: 2026-01-01, encoding: x, "
        "context: {window: 1, max_input: 1, max_output: 1}, prices: [{from: 2026-01-01, standard: {input: 1}}]}}\n"
        "groups: {g: {terms: [{from: 2026-01-01, ratio: 1, models: [m]}]}}\n"
    )
    with pytest.raises(BillingError, match="add a channel to it"):
        without_channels.quote("rmb", at=NOW, credits=1)
