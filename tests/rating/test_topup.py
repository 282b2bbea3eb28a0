"""Top-up: a quote is a pair of what is paid and what is credited, and means the same from both ends."""

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
"""Every generated channel has its last price by then."""
many = settings(max_examples=examples(250), deadline=None, suppress_health_check=list(HealthCheck))
ENTRY = "{from: 2026-01-01, standard: {input: 1}}"


def quotes(data: Data, at: datetime = LATE) -> Any:
    """A function that quotes by a generated channel; ``None`` where the amount is refused as out of range."""
    book = book_of(ENTRY, channel=f"{render(data, indent=2)}")

    def quote(**asked: Any) -> Quote | None:
        try:
            return book.quote("c", at=at, **asked)
        except BillingError as error:
            code = error.code
        assert code == "amount_out_of_range"
        event("out of range")
        return None

    return quote


def minor(data: Data, count: int) -> Payable:
    return Payable(count, data["currency"])


def credits_of(micro: int) -> Any:
    return D(micro).scaleb(-6)


amounts = st.one_of(st.integers(1, 300), st.integers(1, 10**6), st.integers(1, 10**12))


@many
@given(channels(), amounts)
def test_a_payment_buys_what_the_oracle_says(data: Data, count: int) -> None:
    """Money buys the most Credits that it pays for, and no coin is taken that buys nothing more.

    Refused is what buys nothing, or more than 10^15 Credits.
    """
    quote = quotes(data)(pay=minor(data, count).amount)
    most = oracle.bought(data, LATE, count)
    assert (quote is None) == (most == 0 or most > 10**21)
    if quote is None:
        return
    assert quote.credits == credits_of(most)
    assert quote.pay.minor == oracle.least_payment(data, LATE, most) <= count
    assert oracle.bought(data, LATE, quote.pay.minor) == most
    if quote.pay.minor < count:
        event("a coin too many")


@many
@given(channels(), amounts)
def test_credits_cost_what_the_oracle_says(data: Data, micro: int) -> None:
    """Credits cost the fewest coins that buy at least as many; what those coins buy is credited."""
    quote = quotes(data)(credits=credits_of(micro))
    assert quote is not None
    assert quote.pay.minor == oracle.least_payment(data, LATE, micro)
    assert quote.credits == credits_of(oracle.bought(data, LATE, quote.pay.minor))
    assert quote.credits >= quote.requested_credits == credits_of(micro)


@many
@given(channels(), amounts, st.sampled_from(["pay", "credits"]))
def test_quoting_a_quote_gives_the_same_quote(data: Data, count: int, by: str) -> None:
    """Asking for a quote's Credits, or with its payment, gives that quote: quote = charge = credit."""
    quote = quotes(data)
    first = quote(**{by: minor(data, count).amount if by == "pay" else credits_of(count)})
    if first is not None:
        for again in (quote(pay=first.pay.amount), quote(credits=first.credits)):
            assert again._replace(requested_credits=None) == first._replace(requested_credits=None)


@many
@given(channels(), amounts, st.integers(0, 2000), st.sampled_from(["pay", "credits"]))
def test_more_never_costs_less(data: Data, count: int, more: int, by: str) -> None:
    """A larger payment never buys less, and more Credits never cost less, across every threshold."""
    quote = quotes(data)
    one, two = (quote(**{by: minor(data, n).amount if by == "pay" else credits_of(n)}) for n in (count, count + more))
    if one is not None:
        assert two is not None
        assert two.credits >= one.credits
        assert two.pay.minor >= one.pay.minor


@many
@given(channels(), amounts, st.sampled_from(["pay", "credits"]))
def test_no_figure_of_a_quote_is_negative(data: Data, count: int, by: str) -> None:
    """Payment and Credits are above zero, the discount is not below; undiscounted is Credits x price, exactly."""
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


def test_a_yen_has_no_parts() -> None:
    """JPY is paid in whole yen, KWD in thousandths; a finer payment is refused, not rounded."""
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


def test_a_coin_that_buys_nothing_is_not_taken() -> None:
    """Where Credits are dear, a payment that buys no step of them is refused, and one that buys 13 steps costs 13."""
    book = book_of(ENTRY, channel="{currency: LBP, prices: [{from: 2026-01-01, price_per_credit: 10740}]}")
    with pytest.raises(BillingError, match=r"0\.01 LBP buys less than 0\.000001 Credit") as caught:
        book.quote("c", at=NOW, pay="0.01")
    assert code_of(caught) == "amount_out_of_range"
    quote = book.quote("c", at=NOW, pay="0.15")
    assert (str(quote.pay), quote.credits) == ("0.14 LBP", D("0.000013"))


def test_a_discount_is_never_shown_as_less_than_nothing() -> None:
    """Where the payment was rounded up by more than the discount, the discount shown is zero."""
    channel = (
        "{currency: CNY, prices: [{from: 2026-01-01, price_per_credit: 0.333333}], volume_discounts: "
        "[{from: 2026-01-01, applies_to: above, tiers: [{at_least: 0.03, discount: 0.05}]}]}"
    )
    quote = book_of(ENTRY, channel=channel).quote("c", at=NOW, pay="0.01")
    assert (quote.credits, quote.undiscounted) == (D("0.03"), Money("0.00999999", "CNY"))
    assert quote.discount == Money(0, "CNY")


def test_the_shipped_channels() -> None:
    """One Credit is 0.85 CNY or 0.12 USD; a quote from the page's figures has no surprise."""
    book = shipped()
    assert book.quote("rmb", at=NOW, credits=100) == Quote(
        "rmb", NOW, Payable("85.00", "CNY"), D(100), D(100), D("0.85"), Money(85, "CNY"), Money(0, "CNY")
    )
    quote = book.quote("stripe", at=NOW, pay="10")
    assert (quote.credits, quote.pay, quote.requested_credits) == (D("83.333333"), Payable(1000, "USD"), None)
    assert book.quote("rmb", at=NOW, credits="0.000001").pay == Payable(1, "CNY")
    assert book.quote("rmb", at=NOW, credits=10**15).pay == Payable("850000000000000", "CNY")


def test_prices_and_discounts_hold_at_their_time() -> None:
    """A channel's price and its discount change at their instants, and before the first there is none."""
    channel = (
        "{currency: CNY, prices: [{from: 2026-01-01, price_per_credit: 1}, {from: 2026-03-01, price_per_credit: 2}], "
        "volume_discounts: [{from: 2026-02-01, until: 2026-04-01, applies_to: all, "
        "tiers: [{at_least: 10, discount: 0.5}]}]}"
    )
    book = book_of(ENTRY, channel=channel)
    paid = {at: book.quote("c", at=utc(at), credits=10).pay.minor for at in ("2026-01-31", "2026-02-01", "2026-03-01")}
    assert paid == {"2026-01-31": 1000, "2026-02-01": 500, "2026-03-01": 1000}
    assert book.quote("c", at=utc("2026-04-01"), credits=10).pay.minor == 2000
    with pytest.raises(BillingError, match="channel c has no price at 2025-12-31T00:00:00Z") as caught:
        book.quote("c", at=utc("2025-12-31"), credits=10)
    assert code_of(caught) == "unknown_channel"
    with pytest.raises(BillingError, match="has no time zone"):
        book.quote("c", at=NOW.replace(tzinfo=None), credits=10)


def test_smallest_and_largest_payments() -> None:
    """A payment outside the channel's bounds is refused by the bound; the bounds themselves are possible."""
    channel = (
        "{currency: CNY, min_payment: 5, max_payment: 100.50, prices: [{from: 2026-01-01, price_per_credit: 0.85}]}"
    )
    book = book_of(ENTRY, channel=channel)
    assert [book.quote("c", at=NOW, pay=pay).pay.minor for pay in ("5", "100.50")] == [500, 10_050]
    for asked, words in (
        ({"pay": "4.99"}, "4.99 CNY is below the minimum payment of c; pay at least 5 CNY"),
        ({"pay": "100.51"}, "100.51 CNY is above the maximum payment of c; pay at most 100.5 CNY"),
        ({"credits": "1"}, "0.85 CNY is below the minimum payment"),
    ):
        with pytest.raises(BillingError, match=words) as caught:
            book.quote("c", at=NOW, **asked)
        assert (code_of(caught), caught.value.http_status) == ("amount_out_of_range", 400)


@pytest.mark.parametrize(
    ("asked", "code"),
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
def test_what_is_no_amount_is_refused(asked: dict[str, Any], code: str) -> None:
    """Nothing, both, zero, negative, too fine, floats, truth values and not-numbers have their own codes."""
    with pytest.raises(BillingError) as caught:
        shipped().quote("rmb", at=NOW, **asked)
    assert code_of(caught) == code


@pytest.mark.parametrize("name", ["RMB", "", None, ["rmb"]])
def test_an_unknown_channel_is_refused(name: Any) -> None:
    """A channel that is not in the file is ``unknown_channel`` with the names that are; a book may have none."""
    with pytest.raises(BillingError, match="use one of: rmb, stripe") as caught:
        shipped().quote(name, at=NOW, credits=1)
    assert code_of(caught) == "unknown_channel"
    none = PriceBook.loads(
        "version: 1\ncredit: {currency: USD, nominal_per_credit: 1}\nmodels: {m: {released: 2026-01-01, encoding: x, "
        "context: {window: 1, max_input: 1, max_output: 1}, prices: [{from: 2026-01-01, standard: {input: 1}}]}}\n"
        "groups: {g: {terms: [{from: 2026-01-01, ratio: 1, models: [m]}]}}\n"
    )
    with pytest.raises(BillingError, match="add a channel to it"):
        none.quote("rmb", at=NOW, credits=1)
