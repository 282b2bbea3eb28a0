"""Changes of the plan: upgrade and downgrade with exact proration of money and Credits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from fractions import Fraction
from math import floor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brivionix_billing import BillingError, Payable
from brivionix_billing.ledger import Entry, Ledger
from brivionix_billing.ledger.notices.notice import Notice
from exports_kit import check_exports
from ledger_kit import NOW, available, forge, got, later, opened, quote, refused, tables
from plan_kit import pay, plan, subscribe, subscription

WEEK = 7 * 86_400
HALF = later(WEEK // 2)
BASIC = plan(credits=100, price="12", period="week")
PRO = plan("pro", 300, "30", period="week")


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with opened("sqlite://") as ledger:
        ledger.open_account("acct", at=NOW)
        yield ledger
        assert ledger.verify() == []
        before = tables(ledger)
        ledger.rebuild()
        assert tables(ledger) == before


def change(ledger: Ledger, to: Any, at: Any = HALF, id: str = "change", **options: Any) -> Entry:
    return ledger.change_plan("acct", "sub", to, id=id, at=at, channel=None if to.is_free else "stripe", **options)


def half_up(value: Fraction) -> int:
    return floor(value + Fraction(1, 2))


def cash(ledger: Ledger) -> Fraction:
    """Return the cash of all entries, whose money must balance."""
    total = Fraction(0)
    for entry in ledger.journal("acct"):
        for accounts in entry.money().values():
            assert sum(Fraction(money.amount) for money in accounts.values()) == 0
            if "cash" in accounts:
                total += Fraction(accounts["cash"].amount)
    return total


def test_an_upgrade_in_the_middle_of_a_period_costs_half_the_difference(ledger: Ledger) -> None:
    """Half of the unused allowance pays for the new plan: 15.00 - 6.00 are due, for the rest of its 150 Credits."""
    subscribe(ledger, BASIC)
    entry = change(ledger, PRO)
    order = ledger.order("change", at=HALF)
    assert order.due == Payable("9", "USD")
    assert got(entry.result["lots"][0]["credits"], order.credits) == ("60", 90)
    assert available(ledger, seconds=WEEK // 2) == 50 + 60
    pay(ledger, "change", HALF)
    current = subscription(ledger, HALF)
    assert got(current.plan, current.remaining, available(ledger, seconds=WEEK // 2)) == ("pro", 150, 200)
    assert {lot.expires for lot in ledger.lots("acct")} == {later(WEEK)}


def test_used_credits_are_not_paid_back(ledger: Ledger) -> None:
    """After 80 of 100 Credits are used, only 20 can pay for the new plan, although half of the period is left."""
    subscribe(ledger, BASIC)
    ledger.charge("acct", 80, id="used", at=NOW)
    change(ledger, PRO)
    assert ledger.order("change", at=HALF).due == Payable("12.60", "USD")


def test_held_credits_stay_with_their_requests(ledger: Ledger) -> None:
    """Credits of an open hold do not pay for the new plan."""
    subscribe(ledger, BASIC)
    ledger.hold("acct", 90, id="req_1", at=HALF)
    change(ledger, PRO)
    assert ledger.order("change", at=HALF).due == Payable("13.80", "USD")
    ledger.settle("req_1", 90, at=HALF)


def test_a_downgrade_at_once_needs_no_payment(ledger: Ledger) -> None:
    """Only what the smaller plan costs moves; the other Credits stay with their old terms until the period ends."""
    subscribe(ledger, PRO)
    entry = change(ledger, BASIC)
    assert "order" not in entry.result
    old, new = ledger.lots("acct")
    assert got(new.credits, new.paid, old.remaining, old.moved_paid) == (50, Payable("6", "USD"), 240, new.paid)


def test_a_downgrade_at_the_end_of_the_period_changes_the_renewal(ledger: Ledger) -> None:
    """The allowance stays, an order for the old plan is cancelled, and the next order is for the new one."""
    subscribe(ledger, PRO)
    ledger.order_period("acct", "sub", id="old", at=HALF)
    change(ledger, BASIC, at_period_end=True)
    assert ledger.order("old", at=HALF).state == "cancelled"
    assert (subscription(ledger, HALF).plan, subscription(ledger, HALF).next_plan) == ("pro", "basic")
    ledger.order_period("acct", "sub", id="new", at=later(WEEK))
    pay(ledger, "new", later(WEEK))
    current = subscription(ledger, later(WEEK))
    assert got(current.plan, current.credits, current.starts) == ("basic", 100, later(WEEK))


def test_a_change_to_a_free_plan_renews_itself_from_then_on(ledger: Ledger) -> None:
    """At the end of the paid period, the ledger opens the first free allowance."""
    subscribe(ledger, BASIC)
    change(ledger, plan("free", 5, None, period="day"), at_period_end=True)
    assert available(ledger, seconds=WEEK) == 5
    assert available(ledger, seconds=WEEK + 86_400) == 5
    current = subscription(ledger, later(WEEK + 3600))
    assert (current.plan, current.starts) == ("free", later(WEEK + 3600))  # the day starts with its first use


def test_an_upgrade_from_a_free_plan_keeps_its_allowance(ledger: Ledger) -> None:
    """A free allowance has no price, so nothing of it pays for the new plan, and nothing is taken."""
    subscribe(ledger, plan("free", 10, None, period="week"))
    change(ledger, PRO)
    pay(ledger, "change", HALF)
    assert got(ledger.order("change", at=HALF).pay, available(ledger, seconds=WEEK // 2)) == (Payable("15", "USD"), 160)
    assert available(ledger, seconds=WEEK) == 0


def test_a_refund_reaches_the_credits_that_moved(ledger: Ledger) -> None:
    """A lot of the new plan is refunded to the payment that its money comes from, with the tax that moved."""
    ledger.subscribe("acct", BASIC, id="sub", at=NOW, channel="stripe")
    ledger.order_period("acct", "sub", id="sub-1", at=NOW, tax_rate="0.19")
    pay(ledger, "sub-1", NOW)
    moved = change(ledger, PRO).result["lots"][0]["lot"]
    entry = ledger.refund("acct", moved, id="back", at=HALF)
    assert got(entry.refund_amount, entry.result["reference"]) == (Payable("7.14", "USD"), "sub-1")


def test_a_dispute_of_the_first_payment_reaches_the_credits_that_moved(ledger: Ledger) -> None:
    """A chargeback of the whole payment with its tax takes the old allowance and what it paid for of the new one."""
    ledger.subscribe("acct", BASIC, id="sub", at=NOW, channel="stripe")
    ledger.order_period("acct", "sub", id="sub-1", at=NOW, tax_rate="0.19")
    pay(ledger, "sub-1", NOW)
    change(ledger, PRO, tax_rate="0.19")
    assert ledger.order("change", at=HALF).due == Payable("10.71", "USD")
    whole = Payable("14.28", "USD")
    notice = Notice(id="dp_1", kind="dispute", channel="stripe", reference="sub-1", amount=whole)
    ledger.post_notice(notice, at=HALF)
    assert got(available(ledger, seconds=WEEK // 2), cash(ledger)) == (0, 0)
    assert sum(payment.refunded.minor for payment in ledger.payments("acct")) == whole.minor


def test_without_overflow_what_is_left_of_the_old_allowance_stays_usable(ledger: Ledger) -> None:
    """The new plan binds requests to its lots, and to those of the plan that it replaces."""
    ledger.top_up("acct", quote("85"), reference="pi", id="wallet", at=NOW)
    subscribe(ledger, BASIC)
    change(ledger, plan("pro", 300, "30", period="week", overflow=False))
    assert ledger.balance("acct", at=HALF, model="m").usable == 110
    ledger.hold("acct", 110, id="req_1", at=HALF)
    ledger.settle("req_1", 110, at=HALF)
    assert ledger.lots("acct")[0].used == 0


def test_an_early_renewal_without_overflow_keeps_the_current_allowance_usable(ledger: Ledger) -> None:
    """The next plan binds requests from its payment on, also to the allowance that is not over yet."""
    subscribe(ledger, BASIC)
    change(ledger, plan("pro", 300, "30", period="week", overflow=False), at_period_end=True)
    ledger.order_period("acct", "sub", id="next", at=HALF)
    pay(ledger, "next", HALF)
    assert ledger.balance("acct", at=HALF, model="m").usable == 400


def test_a_second_change_counts_only_the_rest_of_the_first(ledger: Ledger) -> None:
    """Back to the first plan at once: the money of the moved Credits moves again, and names the same payment."""
    subscribe(ledger, BASIC)
    change(ledger, PRO, later(WEEK // 4))
    change(ledger, BASIC, HALF, "again")
    third = ledger.lots("acct")[-1]
    assert got(third.origin, third.paid, third.credits) == ("pay-sub-1", Payable("6", "USD"), 50)
    assert ledger.order("change", at=HALF).state == "cancelled"


def test_before_the_first_payment_a_change_replaces_the_plan(ledger: Ledger) -> None:
    """The unpaid order is cancelled, and the next one has the price of the new plan."""
    ledger.subscribe("acct", BASIC, id="sub", at=NOW, channel="stripe")
    ledger.order_period("acct", "sub", id="first", at=NOW)
    change(ledger, PRO, NOW)
    order = ledger.order_period("acct", "sub", id="second", at=NOW).result["order"]
    assert (ledger.order("first", at=NOW).state, order["pay"]) == ("cancelled", "30.00")


def test_after_its_period_a_change_applies_to_the_renewal(ledger: Ledger) -> None:
    """Nothing is left of a period that is over, so no money and no Credits move."""
    subscribe(ledger, BASIC)
    entry = change(ledger, PRO, later(WEEK))
    assert got(entry.lot_changes, subscription(ledger, later(WEEK)).next_plan) == ((), "pro")


@pytest.mark.parametrize(
    "to",
    [
        plan("free", 1, None, period="week"),
        plan("pro", 300, "30", period="month"),
        plan("pro", 300, "30", period="week", zone="Asia/Shanghai"),
    ],
)
def test_an_impossible_change_at_once_is_refused(ledger: Ledger, to: Any) -> None:
    """A free plan or another kind of period starts at the end of a period; the error says so."""
    subscribe(ledger, BASIC)
    with pytest.raises(BillingError, match="change it at the end of the period"):
        change(ledger, to)


def test_a_plan_by_another_channel_starts_at_the_end_of_the_period(ledger: Ledger) -> None:
    """There is no exchange rate between the currencies of two channels."""
    subscribe(ledger, BASIC)
    other = plan("pro", 300, None, period="week", prices={"rmb": Payable("200", "CNY")})
    with refused("invalid_argument"):
        ledger.change_plan("acct", "sub", other, id="change", at=HALF, channel="rmb")
    ledger.change_plan("acct", "sub", other, id="change", at=HALF, channel="rmb", at_period_end=True)


def test_a_period_that_is_paid_ahead_cannot_be_changed_at_once(ledger: Ledger) -> None:
    """The next period is paid already, so the plan changes after it."""
    subscribe(ledger, BASIC)
    ledger.order_period("acct", "sub", id="next", at=HALF)
    pay(ledger, "next", HALF)
    with refused("invalid_argument"):
        change(ledger, PRO)


def test_a_cancelled_subscription_cannot_be_changed(ledger: Ledger) -> None:
    """Neither its plan nor its period."""
    subscribe(ledger, BASIC)
    ledger.cancel_plan("acct", "sub", id="cancel", at=HALF)
    operations: list[Callable[[], Entry]] = [
        lambda: change(ledger, PRO),
        lambda: ledger.order_period("acct", "sub", id="next", at=HALF),
        lambda: ledger.cancel_plan("acct", "sub", id="cancel-2", at=HALF),
    ]
    for operation in operations:
        with refused("subscription_closed"):
            operation()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"paid":"6"', '"paid":"5"'),
        ('"credits":"60"', '"credits":"61"'),
        ('"pay":"9.00"', '"pay":"8.00"'),
        ('"credits":"90"', '"credits":"91"'),
        ('"origin":"pay-sub-1"', '"origin":"other"'),
        ('"plan":"pro"', '"plan":"max"'),
    ],
)
def test_verify_finds_a_forged_change(old: str, new: str) -> None:
    """An entry that moves other money or Credits than its terms is an inconsistency, although its hash matches."""
    with opened("sqlite://") as ledger:
        ledger.open_account("acct", at=NOW)
        subscribe(ledger, BASIC)
        change(ledger, PRO)
        assert ledger.verify() == []
        forge(ledger, old, new)
        assert ledger.verify()


def test_exports_have_the_same_money_as_the_lots(ledger: Ledger) -> None:
    """Books and the report of a period balance with plans."""
    subscribe(ledger, BASIC)
    change(ledger, PRO)
    pay(ledger, "change", HALF)
    ledger.charge("acct", 120, id="used", at=HALF)
    ledger.expire(at=later(WEEK))
    check_exports(ledger, later(0), later(WEEK))


@given(
    st.tuples(st.integers(1, 9_999), st.integers(1, 10**9)),
    st.tuples(st.integers(1, 9_999), st.integers(1, 10**9)),
    st.integers(1, WEEK * 10**6 - 1),
    st.integers(0, 100),
)
def test_proration_is_exact(old: tuple[int, int], new: tuple[int, int], after: int, used: int) -> None:
    """Both parts of both plans are the exact shares, each rounded once, and no minor unit is lost (Fraction oracle)."""
    at, left = NOW + timedelta(microseconds=after), Fraction(WEEK * 10**6 - after, WEEK * 10**6)
    prices = [Payable(pay, "USD") for pay, _ in (old, new)]
    credits = [Fraction(units, 1000) for _, units in (old, new)]
    with opened("sqlite://") as ledger:
        ledger.open_account("acct", at=NOW)
        first, second = (
            plan(name, f"{units // 1000}.{units % 1000:03d}", None, period="week", prices={"stripe": price})
            for name, (_, units), price in zip(("old", "new"), (old, new), prices, strict=True)
        )
        subscribe(ledger, first)
        spent = Fraction(floor(credits[0] * used / 100 * 10**3), 10**3)
        if spent:
            ledger.charge("acct", f"{int(spent)}.{int(spent * 1000) % 1000:03d}", id="used", at=NOW)
        entry = change(ledger, second, at)
        share, amount = half_up(new[0] * left), Fraction(floor(credits[1] * left * 10**6), 10**6)
        if not share or not amount:
            share, amount = 0, Fraction(0)
        free = credits[0] - spent
        part = min(free, Fraction(floor(credits[0] * left * 10**18), 10**18))
        worth = half_up(old[0] * free / credits[0]) - half_up(old[0] * (free - part) / credits[0])
        money = min(worth, share)
        bought = Fraction(floor(amount * money / share * 10**6), 10**6) if share else Fraction(0)
        if not bought:
            money = 0
        moved = entry.result["lots"]
        assert [(Fraction(lot["paid"]), Fraction(lot["credits"])) for lot in moved] == (
            [(Fraction(money, 100), bought)] if money else []
        )
        order = entry.result.get("order", {})
        if share > money and amount > bought:
            assert (Fraction(order["pay"]), Fraction(order["credits"])) == (
                Fraction(share - money, 100),
                amount - bought,
            )
            pay(ledger, "change", at)
            assert subscription(ledger, at).remaining == amount
        else:
            assert not order
        assert cash(ledger) == Fraction(old[0] + (share - money if order else 0), 100)
        assert ledger.verify() == []
