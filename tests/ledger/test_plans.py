"""Plans: subscriptions, their periods, allowances, overflow, cancellation."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brivionix_billing import Payable
from brivionix_billing.ledger import Entry, Ledger, ReceivedPayment, ShortfallError
from brivionix_billing.ledger.notices.notice import Notice
from brivionix_billing.ledger.plans import PlanTerms, period_at
from brivionix_billing.ledger.timestamps import format_timestamp, parse_timestamp
from brivionix_billing.times import load_zone
from ledger_kit import BOOK, NOW, available, forge, got, later, opened, quote, refused, tables
from plan_kit import pay, plan, subscribe, subscription

END = datetime(2026, 12, 1, 12, tzinfo=UTC)
"""End of the first monthly period."""


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with opened("sqlite://") as ledger:
        ledger.open_account("acct", at=NOW)
        yield ledger
        assert ledger.verify() == []
        before = tables(ledger)
        ledger.rebuild()
        assert tables(ledger) == before


def terms(period: str, zone: str) -> PlanTerms:
    return PlanTerms("plan", 1, period, zone, None, None, 0, None, 40, False, True)


def starts(anchor: datetime, period: str, zone: str, count: int) -> list[str]:
    """Return the local dates on which periods start."""
    found, at = [], format_timestamp(anchor)
    for _ in range(count):
        at = period_at(format_timestamp(anchor), terms(period, zone), at)[1]
        found.append(parse_timestamp(at).astimezone(load_zone(zone)).isoformat())
    return found


def test_a_month_without_the_first_day_starts_on_its_last_day() -> None:
    """Periods from 31 January start on 28 February, 31 March and 30 April, at the same local time."""
    anchor = datetime(2026, 1, 31, 23, 30, tzinfo=load_zone("Europe/Berlin"))
    assert starts(anchor, "month", "Europe/Berlin", 3) == [
        "2026-02-28T23:30:00+01:00",
        "2026-03-31T23:30:00+02:00",
        "2026-04-30T23:30:00+02:00",
    ]


def test_a_skipped_local_time_counts_by_the_offset_before() -> None:
    """A day that starts at a time that the clocks skip starts at the instant of the change."""
    anchor = datetime(2026, 3, 28, 2, 30, tzinfo=load_zone("Europe/Berlin"))
    assert starts(anchor, "day", "Europe/Berlin", 2) == ["2026-03-29T03:30:00+02:00", "2026-03-30T02:30:00+02:00"]


@given(
    st.timedeltas(timedelta(0), timedelta(days=47_000)),
    st.timedeltas(timedelta(0), timedelta(days=9_000)),
    st.sampled_from(["day", "week", "month"]),
    st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Apia", "America/Havana"]),
)
def test_periods_are_adjacent_and_include_their_time(
    since: timedelta, after: timedelta, period: str, zone: str
) -> None:
    """Every instant is in one period, whose end is the start of the next one."""
    first = datetime(1970, 1, 1, tzinfo=UTC) + since
    at = format_timestamp(first + after)
    start, end = period_at(format_timestamp(first), terms(period, zone), at)
    assert start <= at < end
    assert period_at(format_timestamp(first), terms(period, zone), end)[0] == end


def test_the_first_payment_starts_the_first_period(ledger: Ledger) -> None:
    """A subscription has no Credits until its first order is paid; the allowance expires a month later."""
    ledger.subscribe("acct", plan(), id="sub", at=NOW, channel="stripe")
    ledger.order_period("acct", "sub", id="order", at=NOW)
    assert got(subscription(ledger, NOW).state, available(ledger)) == ("unpaid", 0)
    pay(ledger, "order", later(60))
    current = subscription(ledger, later(60))
    assert (current.state, current.starts, current.ends) == ("active", later(60), END + timedelta(seconds=60))
    (lot,) = ledger.lots("acct")
    assert got(lot.credits, lot.paid, lot.expires, lot.priority) == (100, Payable("12", "USD"), current.ends, 40)


def test_unused_credits_expire_at_the_end_of_the_period(ledger: Ledger) -> None:
    """What is left of an allowance is revenue without use, as of any lot."""
    subscribe(ledger, plan())
    ledger.charge("acct", "25", id="used", at=NOW)
    assert available(ledger, seconds=40 * 86_400) == 0
    ledger.expire(at=END, ahead=True)
    (lot,) = ledger.lots("acct")
    assert got(lot.used, lot.expired, lot.recognised) == (25, 75, Payable("12", "USD"))


def test_rollover_keeps_unused_credits(ledger: Ledger) -> None:
    """With rollover, an allowance has no expiry."""
    subscribe(ledger, plan(rollover=True))
    assert ledger.balance("acct", at=END).available == 100


def test_the_allowance_is_used_before_the_wallet(ledger: Ledger) -> None:
    """A plan has a lower priority number than other lots, also than those that expire earlier."""
    ledger.grant("acct", 10, reason="gift", id="gift", at=NOW, expires=later(60))
    subscribe(ledger, plan())
    ledger.charge("acct", "5", id="used", at=NOW)
    assert [lot.used for lot in ledger.lots("acct")] == [0, 5]


def test_a_renewal_keeps_the_dates_also_if_it_is_paid_late(ledger: Ledger) -> None:
    """A payment three days late opens the allowance of the period that has begun."""
    subscribe(ledger, plan())
    paid = END + timedelta(days=3)
    ledger.order_period("acct", "sub", id="second", at=END - timedelta(days=3))
    assert subscription(ledger, paid).state == "past_due"
    pay(ledger, "second", paid)
    current = subscription(ledger, paid)
    assert (current.state, current.starts, current.ends) == ("active", END, datetime(2027, 1, 1, 12, tzinfo=UTC))
    assert current.remaining == 100


def test_an_early_renewal_is_usable_at_once(ledger: Ledger) -> None:
    """A renewal paid before its period adds its allowance, and no further period can be ordered meanwhile."""
    subscribe(ledger, plan())
    ledger.order_period("acct", "sub", id="second", at=later(60))
    pay(ledger, "second", later(60))
    assert available(ledger, seconds=60) == 200
    with refused("invalid_argument"):
        ledger.order_period("acct", "sub", id="third", at=later(60))
    ledger.charge("acct", "1", id="used", at=later(60))
    assert [lot.used for lot in ledger.lots("acct")] == [1, 0]


def test_periods_that_were_not_paid_are_skipped(ledger: Ledger) -> None:
    """After two months without a payment, an order is for the current period."""
    subscribe(ledger, plan())
    entry = ledger.order_period("acct", "sub", id="second", at=datetime(2027, 2, 15, tzinfo=UTC))
    assert entry.result["order"]["starts"] == "2027-02-01T12:00:00.000000Z"


def test_a_notice_that_arrives_twice_is_credited_once(ledger: Ledger) -> None:
    """A notice of a payment for a plan is matched to its order, also for the second time."""
    ledger.subscribe("acct", plan(), id="sub", at=NOW, channel="stripe")
    ledger.order_period("acct", "sub", id="order", at=NOW, tax_rate="0.19")
    payment = ReceivedPayment(channel="stripe", reference="pi_1", gross=Payable("14.28", "USD"), at=NOW)
    notice = Notice(id="evt_1", kind="payment", channel="stripe", reference="pi_1", payment=payment, order="order")
    first = ledger.post_notice(notice, at=NOW)
    second = ledger.post_notice(notice, at=later(60))
    assert first is not None
    assert second is not None
    assert got(first.repeated, second.repeated, available(ledger)) == (False, True, 100)
    assert ledger.payments("acct")[0].tax == Payable("2.28", "USD")


def test_parts_of_a_price_open_parts_of_the_allowance(ledger: Ledger) -> None:
    """Two payments open two lots, which add up to the allowance and end together."""
    ledger.subscribe("acct", plan(), id="sub", at=NOW, channel="stripe")
    ledger.order_period("acct", "sub", id="order", at=NOW)
    pay(ledger, "order", NOW, "4", "one")
    pay(ledger, "order", later(600), "8", "two")
    assert [lot.expires for lot in ledger.lots("acct")] == [END, END]
    assert got(available(ledger), ledger.order("order", at=NOW).state) == (100, "paid")


def test_a_payment_after_the_order_is_paid_opens_an_ordinary_lot(ledger: Ledger) -> None:
    """A second payment of an order has its price, but does not expire with the plan."""
    subscribe(ledger, plan(overflow=False))
    pay(ledger, "sub-1", later(60), "6", "again")
    lot = ledger.lots("acct")[-1]
    assert got(lot.credits, lot.expires) == (50, None)


def test_a_payment_whose_period_is_over_opens_an_ordinary_lot(ledger: Ledger) -> None:
    """A payment in time, of which the ledger hears after the period, has the order's price and no expiry."""
    subscribe(ledger, plan())
    ledger.order_period("acct", "sub", id="second", at=END)
    payment = ReceivedPayment(channel="stripe", reference="pi_2", gross=Payable("12", "USD"), at=END)
    ledger.receive_payment("acct", payment, id="late", at=END + timedelta(days=40), order="second")
    lot = ledger.lots("acct")[-1]
    assert got(lot.credits, lot.expires) == (100, None)


def test_a_payment_for_a_cancelled_plan_has_the_price_of_its_time(ledger: Ledger) -> None:
    """The order of a later period is cancelled with the plan; its payment is Credits of the channel."""
    subscribe(ledger, plan(credits=10))
    ledger.order_period("acct", "sub", id="second", at=later(60))
    ledger.cancel_plan("acct", "sub", id="cancel", at=later(60))
    pay(ledger, "second", later(120))
    lot = ledger.lots("acct")[-1]
    assert got(lot.credits, lot.expires) == (100, None)  # 12 USD at 0.12 USD
    assert ledger.order("second", at=later(120)).state == "late"


def test_a_new_order_replaces_one_that_was_not_paid(ledger: Ledger) -> None:
    """Only the last order of a period opens an allowance."""
    subscribe(ledger, plan())
    ledger.order_period("acct", "sub", id="second", at=later(60))
    ledger.order_period("acct", "sub", id="third", at=later(60))
    states = {order.id: order.state for order in ledger.orders("acct", at=later(60))}
    assert states == {"sub-1": "paid", "second": "cancelled", "third": "open"}


def test_the_terms_of_a_payment_for_a_plan_are_those_of_the_plan(ledger: Ledger) -> None:
    """A caller cannot give the allowance another expiry."""
    ledger.subscribe("acct", plan(), id="sub", at=NOW, channel="stripe")
    ledger.order_period("acct", "sub", id="order", at=NOW)
    payment = ReceivedPayment(channel="stripe", reference="pi_1", gross=Payable("12", "USD"), at=NOW)
    with refused("invalid_argument"):
        ledger.receive_payment("acct", payment, id="lot", at=NOW, order="order", priority=10)


def test_without_overflow_requests_use_only_the_plan(ledger: Ledger) -> None:
    """A request that the allowance does not cover is refused with the plan and the end of its period."""
    ledger.top_up("acct", quote("85"), reference="pi", id="wallet", at=NOW)
    subscribe(ledger, plan(overflow=False))
    ledger.hold("acct", 60, id="req_1", at=NOW)
    with pytest.raises(ShortfallError) as caught:
        ledger.hold("acct", 41, id="req_2", at=NOW)
    error = caught.value
    assert got(error.plan, error.resets, error.available, error.restricted) == ("basic", END, 40, 100)
    assert "plan 'basic' (no overflow) is until 2026-12-01T12:00:00Z" in str(error)
    copied = pickle.loads(pickle.dumps(error))
    assert (copied.plan, copied.resets, str(copied)) == (error.plan, error.resets, str(error))
    assert ledger.balance("acct", at=NOW, model="m").usable == 40


def test_a_plan_without_overflow_keeps_the_credits_of_its_holds(ledger: Ledger) -> None:
    """A refund of the allowance cannot take what a hold needs, although the wallet has more."""
    ledger.top_up("acct", quote("85"), reference="pi", id="wallet", at=NOW)
    subscribe(ledger, plan(overflow=False))
    ledger.hold("acct", 60, id="req_1", at=NOW)
    with refused("not_refundable"):
        ledger.refund("acct", "pay-sub-1", id="back", at=NOW, credits=41)
    ledger.settle("req_1", 70, at=NOW)
    assert [lot.used for lot in ledger.lots("acct")] == [0, 70]


def test_a_charge_above_its_hold_is_settled_by_the_wallet(ledger: Ledger) -> None:
    """What the allowance does not cover of a charge is debt, which other Credits settle at once."""
    ledger.top_up("acct", quote("85"), reference="pi", id="wallet", at=NOW)
    subscribe(ledger, plan(overflow=False))
    ledger.hold("acct", 100, id="req_1", at=NOW)
    ledger.settle("req_1", 110, at=NOW)
    assert [lot.used for lot in ledger.lots("acct")] == [10, 100]
    assert ledger.balance("acct", at=NOW).owed == 0


def test_a_plan_without_overflow_binds_until_it_has_ended(ledger: Ledger) -> None:
    """While its renewal is not paid, requests are refused; after a cancellation the wallet is usable again."""
    ledger.top_up("acct", quote("85"), reference="pi", id="wallet", at=NOW)
    subscribe(ledger, plan(overflow=False))
    with refused("insufficient_credits"):
        ledger.hold("acct", 1, id="req_1", at=END)
    ledger.cancel_plan("acct", "sub", id="cancel", at=END)
    assert subscription(ledger, END).state == "ended"
    ledger.hold("acct", 1, id="req_1", at=END)


def test_with_overflow_the_wallet_pays_when_the_plan_is_used_up(ledger: Ledger) -> None:
    """A hold may be larger than the allowance."""
    ledger.top_up("acct", quote("85"), reference="pi", id="wallet", at=NOW)
    subscribe(ledger, plan())
    ledger.hold("acct", 150, id="req_1", at=NOW)
    ledger.settle("req_1", 150, at=NOW)
    assert [lot.used for lot in ledger.lots("acct")] == [50, 100]


def test_an_allowance_may_be_restricted(ledger: Ledger) -> None:
    """Only the models of the plan use its allowance."""
    subscribe(ledger, plan(models=["gpt-*"], overflow=False))
    ledger.hold("acct", 1, id="req_1", at=NOW, model="gpt-5")
    with refused("insufficient_credits"):
        ledger.hold("acct", 1, id="req_2", at=NOW, model="claude")


def test_a_free_plan_renews_itself_with_the_next_operation(ledger: Ledger) -> None:
    """Each period has one allowance, also if it was used up; a period in which nothing happens has none."""
    subscribe(ledger, plan("free", 10, None, period="day"))
    ledger.charge("acct", 10, id="used", at=NOW)
    assert available(ledger, seconds=86_399) == 0
    assert available(ledger, seconds=86_400) == 10
    ledger.hold("acct", 10, id="req_1", at=later(5 * 86_400 + 60))
    current = subscription(ledger, later(5 * 86_400 + 60))
    assert (current.state, current.starts, len(ledger.lots("acct"))) == ("active", later(5 * 86_400), 2)


def test_expire_renews_free_plans(ledger: Ledger) -> None:
    """The maintenance that posts expiries opens due allowances as well."""
    subscribe(ledger, plan("free", 10, None, period="day"))
    assert ledger.expire(at=later(86_400)) == 2
    assert [lot.remaining for lot in ledger.lots("acct")] == [0, 10]


def test_a_cancelled_free_plan_is_not_renewed(ledger: Ledger) -> None:
    """It ends with its period, and another subscription is possible from then on."""
    subscribe(ledger, plan("free", 10, None, period="day"))
    ledger.cancel_plan("acct", "sub", id="cancel", at=later(60))
    assert got(available(ledger, seconds=120), available(ledger, seconds=86_400)) == (10, 0)
    with refused("subscription_active"):
        ledger.subscribe("acct", plan(), id="sub-2", at=later(120), channel="stripe")
    ledger.subscribe("acct", plan(), id="sub-2", at=later(86_400), channel="stripe")
    assert [each.state for each in ledger.subscriptions("acct", at=later(86_400))] == ["ended", "unpaid"]


def test_due_renewals_are_those_that_must_be_paid(ledger: Ledger) -> None:
    """Neither free plans nor cancelled ones nor later periods are among them."""
    for name in ("one", "two", "three"):
        ledger.open_account(name, at=NOW)
    subscribe(ledger, plan())
    subscribe(ledger, plan(period="week"), id="weekly", account="one")
    subscribe(ledger, plan("free", 1, None, period="day"), id="free", account="two")
    subscribe(ledger, plan(period="day"), id="gone", account="three")
    ledger.cancel_plan("three", "gone", id="cancel", at=NOW)
    week = later(8 * 86_400)
    assert [each.id for each in ledger.due_renewals(before=week, at=week)] == ["weekly"]
    assert [each.id for each in ledger.due_renewals(before=END, at=week)] == ["weekly", "sub"]


def test_a_disputed_payment_takes_the_allowance_back(ledger: Ledger) -> None:
    """A chargeback of the first payment removes the unused Credits; used ones become debt."""
    subscribe(ledger, plan())
    ledger.charge("acct", 30, id="used", at=NOW)
    ledger.dispute("acct", "pay-sub-1", id="chargeback", at=later(60))
    balance = ledger.balance("acct", at=later(60))
    assert got(balance.available, balance.owed) == (0, 30)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"credits": 0}, "invalid_money"),
        ({"credits": True}, "invalid_money"),
        ({"credits": "ten"}, "invalid_money"),
        ({"credits": Decimal("NaN")}, "invalid_money"),
        ({"period": "year"}, "invalid_argument"),
        ({"zone": "Mars/Base"}, "invalid_period"),
        ({"prices": {"stripe": Payable(0, "USD")}}, "invalid_money"),
        ({"prices": {"stripe": "12"}}, "invalid_money"),
        ({"models": "gpt-5"}, "invalid_argument"),
        ({"priority": 101}, "invalid_argument"),
        ({"rollover": "yes"}, "invalid_argument"),
        ({"prices": {}, "rollover": True}, "invalid_argument"),
        ({"name": ""}, "invalid_argument"),
    ],
)
def test_invalid_terms_are_refused(changes: dict[str, Any], code: str) -> None:
    """A plan with invalid terms raises an error that names the value."""
    with refused(code):
        plan(**changes)


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        (lambda led: led.subscribe("acct", plan(), id="x", at=NOW), "unknown_channel"),
        (lambda led: led.subscribe("acct", plan(), id="x", at=NOW, channel="rmb"), "unknown_channel"),
        (lambda led: led.subscribe("acct", plan(price=None), id="x", at=NOW, channel="rmb"), "invalid_argument"),
        (lambda led: led.subscribe("acct", "basic", id="x", at=NOW), "invalid_argument"),
        (lambda led: led.order_period("acct", "none", id="x", at=NOW), "unknown_subscription"),
        (lambda led: led.order_period("acct", "sub", id="x", at=NOW), "invalid_argument"),
        (lambda led: led.order_period("acct", "sub", id="x", at=NOW, tax_rate=1), "invalid_argument"),
        (lambda led: led.cancel_plan("acct", "none", id="x", at=NOW), "unknown_subscription"),
    ],
)
def test_an_invalid_operation_changes_nothing(ledger: Ledger, operation: Any, code: str) -> None:
    """An operation on a wrong subscription, plan or channel raises its code."""
    subscribe(ledger, plan("free", 10, None))
    before = tables(ledger)
    with refused(code):
        operation(ledger)
    assert tables(ledger) == before


def test_a_repeated_operation_is_done_once(ledger: Ledger) -> None:
    """Each operation on a plan returns its first result, also after the period, and refuses other content."""
    operations: list[Callable[[datetime], Entry]] = [
        lambda at: ledger.subscribe("acct", plan(), id="sub", at=at, channel="stripe"),
        lambda at: ledger.order_period("acct", "sub", id="order", at=at),
        lambda at: ledger.change_plan("acct", "sub", plan("pro"), id="pro", at=at, channel="stripe"),
        lambda at: ledger.cancel_plan("acct", "sub", id="cancel", at=at),
    ]
    entries = [operation(NOW) for operation in operations]
    before = tables(ledger)
    assert [operation(END).hash for operation in operations] == [entry.hash for entry in entries]
    assert tables(ledger) == before
    with refused("operation_conflict"):
        ledger.subscribe("acct", plan("other"), id="sub", at=NOW, channel="stripe")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"expires":"2026-12-01T12:00:00.000000Z"', '"expires":"2027-12-01T12:00:00.000000Z"'),
        ('"priority":40', '"priority":10'),
        ('"period":["2026-11-01T12:00:00.000000Z"', '"period":["2026-12-01T12:00:00.000000Z"'),
    ],
)
def test_verify_finds_a_forged_allowance(old: str, new: str) -> None:
    """An entry whose allowance does not follow from the plan is an inconsistency, although its hash matches."""
    with opened("sqlite://") as ledger:
        ledger.open_account("acct", at=NOW)
        subscribe(ledger, plan())
        assert ledger.verify() == []
        forge(ledger, old, new)
        assert ledger.verify()


def test_a_plan_of_the_price_of_another_book_needs_no_book(ledger: Ledger) -> None:
    """The journal has the terms, so a ledger without a price book renews and verifies them."""
    subscribe(ledger, plan())
    other = Ledger(ledger.engine)
    assert BOOK is ledger.book
    other.order_period("acct", "sub", id="second", at=END)
    pay(other, "second", END)
    assert got(other.verify(), available(other, seconds=31 * 86_400)) == ([], 100)
