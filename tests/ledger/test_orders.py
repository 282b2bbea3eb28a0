"""Received payments and orders: tax, fee, coupon; early, late, twice, partial, too much."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from brivionix_billing import BillingError, Payable, PriceBook
from brivionix_billing.ledger import Entry, Ledger, ReceivedPayment
from brivionix_billing.ledger.notices import from_stripe_units, to_stripe_units
from ledger_kit import NOW, got, later, opened, payment, quote, refused, with_credits
from paths import ROOT

PRICES = (ROOT / "pricing.yaml").read_text(encoding="utf-8")


def usd(amount: str) -> Payable:
    return Payable(amount, "USD")


@pytest.fixture
def ordered(ledger: Ledger) -> Iterator[Ledger]:
    """A ledger with an order of 100 Credits for 12.00 USD and 20 % tax, valid for an hour."""
    ledger.create_order("acct", quote("12", "stripe"), id="o", at=NOW, expires=later(3600), tax=usd("2.40"))
    yield ledger
    assert ledger.verify() == []


def pay(ledger: Ledger, gross: str, id: str, seconds: float = 10, **given: Any) -> Entry:
    """Pay the order."""
    return ledger.receive_payment("acct", payment(gross, seconds, id), id=id, at=later(5000), order="o", **given)


def test_credits_follow_from_the_amount_without_tax(ledger: Ledger) -> None:
    """CASES 49: 14.40 with 2.40 VAT buys 100 Credits, and a chargeback of 14.40 takes back all of it."""
    paid = payment("14.40", 0, "pi_1", tax=usd("2.40"), fee=usd("0.72"))
    entry = ledger.receive_payment("acct", paid, id="lot", at=NOW)
    assert got(entry.credits, paid.net) == (100, usd("13.68"))
    money = {name: str(amount.amount) for name, amount in entry.money()["USD"].items()}
    assert money == {"cash": "13.68", "deferred": "-12", "tax": "-2.40", "fees": "0.72"}
    back = ledger.dispute("acct", "lot", id="dp", at=NOW, pay=usd("14.40"))
    assert got(back.refund_amount, back.credits) == (usd("14.40"), 100)
    assert ledger.payments("acct")[1].tax_refunded == usd("2.40")


def test_a_refund_pays_the_tax_back(ledger: Ledger) -> None:
    """A refund by Credits adds their tax; one by money is the gross amount; together they are the payment."""
    ledger.receive_payment("acct", payment("14.40", 0, "pi_1", tax=usd("2.40")), id="lot", at=NOW)
    assert ledger.refund("acct", "lot", id="1", at=NOW, credits="25").refund_amount == usd("3.60")
    by_money = ledger.refund("acct", "lot", id="2", at=NOW, pay=usd("1.00"))
    assert got(by_money.refund_amount, by_money.result["tax"]) == (usd("1.00"), "0.17")
    rest = ledger.refund("acct", "lot", id="3", at=NOW)
    assert rest.refund_amount == usd("9.80")
    paid = ledger.payments("acct")[1]
    assert got(paid.refunded, paid.tax_refunded) == (usd("14.40"), usd("2.40"))
    ledger.reverse("acct", "3", id="failed", at=NOW, reason="closed card")
    assert ledger.payments("acct")[1].refunded == usd("4.60")
    assert ledger.verify() == []


@pytest.mark.parametrize("amount", ["14.41", "41.15"])
def test_no_more_than_the_payment_with_its_tax_is_paid_back(ledger: Ledger, amount: str) -> None:
    """A refund or dispute above the gross amount is refused, also by a cent, and nothing of it is posted as tax."""
    ledger.receive_payment("acct", payment("14.40", 0, "pi_1", tax=usd("2.40")), id="lot", at=NOW)
    for pay_back in (ledger.refund, ledger.dispute):
        with pytest.raises(BillingError) as error:
            pay_back("acct", "lot", id="back", at=NOW, pay=usd(amount))
        assert error.value.code == "not_refundable"
    assert ledger.payments("acct")[1].refunded == usd("0.00")
    assert ledger.verify() == []


def test_a_coupon_gives_the_credits_of_the_full_price(ledger: Ledger) -> None:
    """A payment of 10.00 with a coupon of 2.00 buys the Credits of 12.00, and a refund pays 10.00 back."""
    ledger.receive_payment("acct", payment("10.00", 0, "pi_1", coupon=usd("2.00")), id="lot", at=NOW)
    assert ledger.refund("acct", "lot", id="r", at=NOW).refund_amount == usd("10.00")
    assert ledger.lots("acct")[1].credits == 100


def test_received_money_is_posted_whatever_the_limits_are(database: str) -> None:
    """CASES 50: a payment below the minimum of its channel is refused as a quote, and credited as received money."""
    book = PriceBook.loads(PRICES.replace("  stripe:\n", "  stripe:\n    min_payment: 50\n"))
    with opened(database) as plain:
        ledger = Ledger(plain.engine, book=book)
        ledger.open_account("acct", at=NOW)
        with refused("amount_out_of_range"):
            book.quote("stripe", at=NOW, pay="12")
        assert ledger.receive_payment("acct", payment("12.00", 0, "pi_1"), id="lot", at=NOW).credits == 100
        received = book.quote("stripe", at=NOW, pay=usd("12.00"), received=True)
        assert ledger.top_up("acct", received, reference="pi_2", id="lot-2", at=NOW).credits == 100


def test_an_order_keeps_its_price_until_it_expires(ordered: Ledger) -> None:
    """CASES 51: a payment in time whose notice comes late has the price of the order, and its Credits."""
    entry = pay(ordered, "14.40", "pi_1", seconds=3599)
    assert got(entry.credits, entry.content["tax"]) == (100, "2.40")
    order = ordered.order("o", at=NOW)
    assert got(order.state, order.due, order.received, order.credited) == ("paid", usd("14.40"), usd("12.00"), 100)
    assert pay(ordered, "14.40", "pi_1", seconds=3599).repeated
    with refused("operation_conflict"):
        pay(ordered, "14.40", "pi_1", seconds=3598)


def test_a_late_payment_has_the_price_of_its_time(ordered: Ledger) -> None:
    """A payment after the expiry is credited at the price of its own time, and the order is late."""
    assert ordered.order("o", at=later(3600)).state == "expired"
    book = PriceBook.loads(PRICES.replace("price_per_credit: 0.12", "price_per_credit: 0.15"))
    ledger = Ledger(ordered.engine, book=book)
    assert pay(ledger, "14.40", "pi_1", seconds=3600).credits == 80
    assert ledger.order("o", at=NOW).state == "late"
    with refused("invalid_argument"):  # without a price book
        Ledger(ordered.engine).receive_payment("acct", payment("1", 3600, "x"), id="x", at=NOW, order="o")


def test_partial_payments_add_up(ordered: Ledger) -> None:
    """Payments of 1/3 each buy together what one payment buys; more than the order is credited at its price."""
    first, second, third = (pay(ordered, "4.80", f"pi_{n}") for n in range(3))
    assert got(first.credits, first.credits + second.credits + third.credits) == (Decimal("33.333333"), 100)
    assert ordered.order("o", at=NOW).state == "paid"
    assert pay(ordered, "1.44", "pi_4").credits == 10
    assert ordered.order("o", at=NOW).state == "overpaid"


def test_a_second_payment_of_a_paid_order_is_credited(ordered: Ledger) -> None:
    """A customer who pays twice gets the Credits twice, and one payment is credited once."""
    pay(ordered, "14.40", "pi_1")
    assert pay(ordered, "14.40", "pi_2").credits == 100
    with refused("payment_already_credited"):
        ordered.receive_payment("acct", payment("14.40", 10, "pi_1"), id="other", at=later(20), order="o")


def test_a_cancelled_order_gives_no_price(ordered: Ledger) -> None:
    """A payment of a cancelled order is credited at its own time; a paid order cannot be cancelled."""
    ordered.cancel_order("acct", "o", id="c", at=NOW)
    assert ordered.order("o", at=NOW).state == "cancelled"
    assert got(pay(ordered, "14.40", "pi_1").credits, ordered.order("o", at=NOW).state) == (100, "late")
    with refused("order_closed"):
        ordered.cancel_order("acct", "o", id="c2", at=NOW)


def test_an_order_is_paid_in_its_currency_by_its_account(ordered: Ledger) -> None:
    """Another currency, another account and an unknown order are errors, and nothing is credited."""
    with_credits(ordered, account="other")
    with refused("unknown_order"):
        ordered.receive_payment("other", payment("14.40", 0, "p"), id="p", at=NOW, order="o")
    with refused("unknown_order"):
        ordered.receive_payment("acct", payment("14.40", 0, "p"), id="p", at=NOW, order="none")
    with refused("currency_mismatch"):
        ordered.receive_payment("acct", payment("14.40", 0, "p", "rmb"), id="p", at=NOW, order="o")
    with refused("invalid_argument"):
        ordered.create_order("acct", quote("12", "stripe"), id="x", at=NOW, expires=NOW)
    with refused("currency_mismatch"):
        ordered.create_order("acct", quote("12", "stripe"), id="x", at=NOW, expires=later(1), tax=Payable(1, "CNY"))


def test_the_parts_of_a_payment_are_checked() -> None:
    """Parts in another currency, negative ones, and a tax of the whole amount are rejected."""
    for parts, code in (
        ({"tax": Payable(1, "CNY")}, "currency_mismatch"),
        ({"fee": usd("-1")}, "invalid_money"),
        ({"tax": usd("1")}, "invalid_money"),
        ({"gross": usd("0")}, "invalid_money"),
        ({"gross": "1"}, "invalid_money"),
        ({"reference": ""}, "invalid_argument"),
        ({"at": NOW.replace(tzinfo=None)}, "invalid_time"),
    ):
        with pytest.raises(BillingError) as caught:
            ReceivedPayment(**{"channel": "c", "reference": "r", "gross": usd("1"), "at": NOW, **parts})  # type: ignore[arg-type]
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("units", "currency", "amount"),
    [
        *((170_000, "isk", "1700"), (500, "UGX", "5"), (1_700, "MGA", "1700.00"), (500, "JPY", "500")),
        *((1_200, "usd", "12.00"), (5_120, "KWD", "5.120"), (80_000, "TWD", "800.00"), (1_045, "HUF", "10.45")),
    ],
)
def test_stripes_minor_units(units: int, currency: str, amount: str) -> None:
    """CASES 46: Stripe's integers are read by Stripe's table: 170000 is 1700 ISK, 1700 is 1700 MGA."""
    money = from_stripe_units(units, currency)
    assert (str(money.amount), to_stripe_units(money)) == (amount, units)


@pytest.mark.parametrize(
    ("units", "currency"), [(1_750, "ISK"), (-1, "USD"), (True, "USD"), (1.0, "USD"), ("1", "USD")]
)
def test_amounts_that_stripe_does_not_send(units: Any, currency: str) -> None:
    """Fractions of a krona, negative amounts and other types are rejected; so are currencies Stripe does not have."""
    with refused("invalid_money"):
        from_stripe_units(units, currency)
    with refused("unknown_currency"):
        from_stripe_units(1, "CLF")


def test_1700_isk_at_17_per_credit_are_100_credits(database: str) -> None:
    """CASES 46: 1700 ISK at 17 per Credit credit 100."""
    prices = PRICES.replace("stripe:\n    currency: USD", "stripe:\n    currency: ISK")
    book = PriceBook.loads(prices.replace("price_per_credit: 0.12", "price_per_credit: 17"))
    paid = from_stripe_units(170_000, "isk")
    with opened(database) as plain:
        ledger = Ledger(plain.engine, book=book)
        ledger.open_account("acct", at=NOW)
        received = ReceivedPayment(channel="stripe", reference="pi", gross=paid, at=NOW)
        assert ledger.receive_payment("acct", received, id="lot", at=NOW).credits == 100


def test_a_forged_order_is_found(ordered: Ledger) -> None:
    """``verify`` finds Credits that do not follow from the order, even if every sum is consistent."""
    pay(ordered, "4.80", "pi_1")
    with ordered.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE billing_order SET pay = '6.000000000000000000'")
    assert [found.message for found in ordered.verify()] == ["order o: pay is '6', by the journal '12'"]
    ordered.rebuild()
