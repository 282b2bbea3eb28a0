"""What the ledger promises of each operation, on both databases where they could differ."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from brivionix_billing import BillingError, Money, Payable, PriceBook, Usage
from brivionix_billing.ledger import Ledger, ShortfallError, bearer, prepare
from brivionix_billing.tokens import TokenCounter
from ledger_kit import BOOK, NOW, body, charge, later, opened, quote, schema, tables, with_credits

SECRET = "sk-" + "x" * 30


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger on SQLite, with an account that has 100 Credits for 85 CNY."""
    with opened(f"sqlite:///{tmp_path / 'ledger.db'}") as found:
        yield with_credits(found)


def refused(code: str) -> pytest.RaisesExc[BillingError]:
    return pytest.RaisesExc(BillingError, check=lambda error: error.code == code)


def got(*figures: Any) -> tuple[Any, ...]:
    """Figures to be compared: a Decimal equals the whole number that it is."""
    return figures


def available(ledger: Ledger, account: str = "acct", seconds: float = 0) -> Decimal:
    return ledger.balance(account, at=later(seconds)).available


def test_a_top_up_is_a_lot_with_its_own_price(database: str) -> None:
    """A quote that was paid is a lot that keeps Credits, money, unit price, channel, reference, time and expiry."""
    with opened(database) as ledger:
        with_credits(ledger)
        ledger.top_up("acct", quote("2.40", "stripe"), reference="pi_1", id="b", at=later(1), expires=later(99))
        first, second = ledger.lots("acct")
        assert got(first.credits, first.paid, first.price_per_credit) == (100, Payable("85.00", "CNY"), Decimal("0.85"))
        assert got(first.channel, first.reference, first.at, first.expires) == ("rmb", "pay-acct", NOW, None)
        assert got(second.credits, second.paid, second.price_per_credit) == (
            20,
            Payable("2.40", "USD"),
            Decimal("0.12"),
        )
        assert second.expires == later(99)
        assert ledger.payment("stripe", "pi_1") == second


@pytest.mark.parametrize("credits", ["0.000000000000000001", "123456789012345678901234567.123456789012345678"])
def test_amounts_stay_exact_in_both_databases(database: str, credits: str) -> None:
    """The smallest unit and thirty digits before the point come back as they went in."""
    with opened(database) as ledger:
        ledger.open_account("acct", at=NOW)
        ledger.grant("acct", credits, reason="test", id="g", at=NOW)
        ledger.hold("acct", "0.000000000000000001", id="h", at=NOW)
        has = ledger.balance("acct", at=NOW)
        assert Fraction(has.available) + Fraction(has.held) == Fraction(credits)
        assert has.held == Decimal("1E-18")


def test_a_top_up_of_any_size_is_credited(ledger: Ledger) -> None:
    """CASES 29: more than 2^31, and than 2^63, units of a top-up are credited like any other."""
    huge = BOOK.quote("stripe", at=NOW, credits="1000000000000000")
    ledger.top_up("acct", huge, reference="pi_huge", id="huge", at=NOW)
    assert available(ledger) == 10**15 + 100
    assert ledger.lots("acct")[1].paid == Payable("120000000000000.00", "USD")


def test_the_same_operation_is_done_once(database: str) -> None:
    """CASES 28: whatever comes twice with one id is done once, and gives what it gave, whenever it comes again."""
    with opened(database) as ledger:
        with_credits(ledger)
        first = ledger.top_up("acct", quote("17"), reference="pi", id="evt", at=NOW)
        before = tables(ledger)
        again = ledger.top_up("acct", quote("17"), reference="pi", id="evt", at=later(3600))
        assert got(again.repeated, again.hash, again.at) == (True, first.hash, NOW)
        assert not first.repeated
        assert tables(ledger) == before


def test_one_id_with_other_content_is_a_conflict_that_names_the_difference(ledger: Ledger) -> None:
    """The same id for another amount, kind or account does nothing, and the message says what differs."""
    ledger.open_account("other", at=NOW)
    ledger.top_up("acct", quote("17"), reference="pi", id="evt", at=NOW)
    before = tables(ledger)
    with refused("operation_conflict") as other_amount:
        ledger.top_up("acct", quote("34"), reference="pi", id="evt", at=NOW)
    assert "paid: then '17.00', now '34.00'" in str(other_amount.value)
    with refused("operation_conflict") as other_account:
        ledger.top_up("other", quote("17"), reference="pi", id="evt", at=NOW)
    assert "account: then 'acct', now 'other'" in str(other_account.value)
    with refused("operation_conflict") as other_kind:
        ledger.hold("acct", "1", id="evt", at=NOW)
    assert "kind: then top_up, now hold" in str(other_kind.value)
    assert other_kind.value.http_status == 409
    assert tables(ledger) == before


def test_one_payment_is_credited_once_whatever_its_id(ledger: Ledger) -> None:
    """CASES 28: two webhooks about one payment, with ids of their own, credit it once; to another account neither."""
    ledger.open_account("other", at=NOW)
    ledger.top_up("acct", quote("17"), reference="pi", id="evt_1", at=NOW)
    for account in ("acct", "other"):
        with refused("payment_known"):
            ledger.top_up(account, quote("17"), reference="pi", id="evt_2", at=NOW)
    assert available(ledger) == 120
    ledger.top_up("acct", quote("1", "stripe"), reference="pi", id="evt_3", at=NOW)  # another channel's own reference


def test_webhooks_out_of_order_are_told_to_come_again(ledger: Ledger) -> None:
    """CASES 28: a dispute that comes before its payment changes nothing; after the payment it is done."""
    with refused("unknown_payment") as caught:
        ledger.payment("stripe", "pi_late")
    assert caught.value.http_status == 404
    ledger.top_up("acct", quote("1.20", "stripe"), reference="pi_late", id="evt", at=NOW)
    lot = ledger.payment("stripe", "pi_late")
    assert ledger.dispute("acct", lot.id, id="dp", at=NOW).pay_back == Payable("1.20", "USD")


def test_a_hold_that_is_not_covered_is_refused_with_the_shortfall(ledger: Ledger) -> None:
    """What is held cannot be held again; the refusal is 402 and says how much is lacking."""
    ledger.hold("acct", "99.5", id="r1", at=NOW)
    with pytest.raises(ShortfallError) as caught:
        ledger.hold("acct", "0.75", id="r2", at=NOW)
    error = caught.value
    assert got(error.code, error.http_status) == ("insufficient_credits", 402)
    assert got(error.needed, error.available, error.shortfall) == (Decimal("0.75"), Decimal("0.5"), Decimal("0.25"))
    assert "0.25 short" in str(error)
    assert pickle.loads(pickle.dumps(error)).shortfall == error.shortfall
    ledger.hold("acct", "0.5", id="r3", at=NOW)  # to the last unit
    assert available(ledger) == 0


def test_settling_charges_what_was_used_and_returns_the_rest(ledger: Ledger) -> None:
    """The charge is taken from the lots, its rest is available again, and the lots that paid are named."""
    ledger.hold("acct", "0.9", id="r1", at=NOW)
    settled = ledger.settle("r1", charge(), usage=body(), at=later(2))
    assert got(settled.credits, settled.owed) == (Decimal("0.00585"), 0)
    assert [got(use.lot, use.how, use.credits) for use in settled.uses] == [("lot-acct", "used", Decimal("0.00585"))]
    assert got(settled.at, settled.booked) == (NOW, later(2))
    assert available(ledger) == Decimal("99.99415")
    assert ledger.balance("acct", at=NOW).held == 0


def test_a_charge_above_its_hold_takes_what_is_there_and_the_rest_is_owed(ledger: Ledger) -> None:
    """More than was held is taken from what is available; what nothing covers is owed, and paid by the next top-up."""
    ledger.hold("acct", "60", id="r1", at=NOW)
    ledger.hold("acct", "30", id="r2", at=NOW)
    settled = ledger.settle("r1", "75", at=NOW)  # 60 held, 10 available
    assert got(settled.credits, settled.owed) == (75, 5)
    has = ledger.balance("acct", at=NOW)
    assert got(has.available, has.held, has.owed) == (0, 30, 5)
    assert sum(use.credits for use in settled.uses) == 70
    released = ledger.release("r2", at=NOW)  # what comes back pays the debt first
    assert released.owed == -5
    has = ledger.balance("acct", at=NOW)
    assert got(has.available, has.held, has.owed) == (25, 0, 0)


def test_a_top_up_pays_what_is_owed_first(ledger: Ledger) -> None:
    """Credits that were used without cover are paid from the next lot, as if it had been there."""
    ledger.charge("acct", "110", id="batch", at=NOW)
    entry = ledger.top_up("acct", quote("17"), reference="pi", id="evt", at=NOW)
    assert entry.owed == -10
    lot = ledger.lots("acct")[1]
    assert got(lot.used, lot.remaining, lot.recognised) == (10, 10, Payable("8.50", "CNY"))


def test_a_hold_is_resolved_once(ledger: Ledger) -> None:
    """Settled again, released again, or released after it was settled: the first stands, and the error says which."""
    ledger.hold("acct", "1", id="r1", at=NOW)
    ledger.settle("r1", "0.5", id="first", at=NOW)
    with refused("hold_resolved") as caught:
        ledger.settle("r1", "0.5", id="second", at=NOW)
    assert "settled by operation 'first'" in str(caught.value)
    with refused("hold_resolved"):
        ledger.release("r1", at=NOW)
    assert available(ledger) == Decimal("99.5")
    with refused("operation_conflict"):
        ledger.settle("r1", "0.6", id="first", at=NOW)
    ledger.hold("acct", "1", id="r3", at=NOW)
    ledger.release("r3", at=NOW)
    with refused("hold_resolved"):
        ledger.settle("r3", "0.5", at=NOW)
    with refused("unknown_hold"):
        ledger.settle("r2", "0.5", at=NOW)


def test_an_expired_hold_returns_by_itself(database: str) -> None:
    """CASES 30: what a crashed gateway held is available again when its time is over, whoever looks, booked or not."""
    with opened(database) as ledger:
        with_credits(ledger)
        ledger.hold("acct", "100", id="r1", at=NOW, ttl=timedelta(seconds=60))
        assert available(ledger, seconds=59) == 0
        assert available(ledger, seconds=60) == 100
        assert ledger.hold("acct", "100", id="r2", at=later(60)).credits == 100
        entry = list(ledger.journal("acct"))[-2]
        assert got(entry.kind, entry.id[0], entry.content["hold"]) == ("hold_expired", "~", "r1")
        with refused("hold_resolved"):
            ledger.release("r1", at=later(61))


def test_a_request_that_ends_after_its_hold_is_charged_all_the_same(ledger: Ledger) -> None:
    """The tokens were used: the charge is taken from what is available, once."""
    ledger.hold("acct", "1", id="r1", at=NOW, ttl=timedelta(seconds=60))
    late = ledger.settle("r1", charge(), usage=body(), at=later(300))
    assert late.result["late"] is True
    assert got(late.credits, late.postings.get("held")) == (Decimal("0.00585"), None)
    with refused("hold_resolved"):
        ledger.settle("r1", "1", id="again", at=later(301))
    assert available(ledger, seconds=301) == Decimal("99.99415")
    assert ledger.verify() == []


def test_expiring_lots_and_given_ones_are_used_first() -> None:
    """By default what expires sooner goes first, then what was given, then the oldest."""
    with opened("sqlite://") as ledger:
        ledger.open_account("acct", at=NOW)
        ledger.top_up("acct", quote("0.85"), reference="1", id="bought", at=NOW)
        ledger.grant("acct", "1", reason="x", id="given", at=NOW)
        ledger.grant("acct", "1", reason="x", id="late", at=NOW, expires=later(900))
        ledger.top_up("acct", quote("0.85"), reference="2", id="soon", at=NOW, expires=later(600))
        used = ledger.charge("acct", "3.5", id="c", at=NOW).uses
        assert [use.lot for use in used] == ["soon", "late", "given", "bought"]


def test_the_price_file_says_in_which_order_lots_are_used() -> None:
    """``lots: order`` of the price file decides, and is no part of the digest that prices depend on."""
    source = Path("pricing.yaml").read_text("utf-8")
    book = PriceBook.loads(source + "\nlots:\n  order: [paid, newest]\n")
    assert book.digest == BOOK.digest
    ledger = Ledger.open("sqlite://", book)
    ledger.open_account("acct", at=NOW)
    ledger.grant("acct", "1", reason="x", id="given-1", at=NOW)
    ledger.top_up("acct", quote("0.85"), reference="1", id="bought-1", at=NOW)
    ledger.grant("acct", "1", reason="x", id="given-2", at=NOW)
    ledger.top_up("acct", quote("0.85"), reference="2", id="bought-2", at=NOW)
    assert [use.lot for use in ledger.charge("acct", "3.5", id="c", at=NOW).uses] == [
        *("bought-2", "bought-1", "given-2", "given-1")
    ]
    ledger.close()


@pytest.mark.parametrize(
    ("order", "what"),
    [
        ("[cheapest]", "there is no rule 'cheapest'"),
        ("[oldest, oldest]", "the rule oldest stands twice"),
        ("[promotional, paid]", "promotional and paid are opposites"),
        ("[]", "is not an order of use"),
        ("oldest", "is not an order of use"),
    ],
)
def test_an_order_that_is_none_is_found_in_the_price_file(order: str, what: str) -> None:
    """A rule that nobody knows, twice or against another is told with its place."""
    source = Path("pricing.yaml").read_text("utf-8")
    with pytest.raises(BillingError, match=what):
        PriceBook.loads(source + f"\nlots:\n  order: {order}\n")


def test_a_lot_that_expires_pays_the_requests_that_it_let_in(ledger: Ledger) -> None:
    """A request that was held for while a lot was good is paid from it, even if it ends later; the rest is gone."""
    ledger.grant("acct", "10", reason="x", id="gift", at=NOW, expires=later(60))
    ledger.hold("acct", "104", id="r1", at=later(59))
    assert available(ledger, seconds=60) == 6  # none of the gift is free: r1 may need it
    settled = ledger.settle("r1", "3", at=later(61))
    assert [got(use.lot, use.credits) for use in settled.uses] == [("gift", 3)]
    ledger.expire(at=later(62))
    gift = ledger.lots("acct")[1]
    assert got(gift.used, gift.expired, gift.remaining) == (3, 7, 0)
    assert available(ledger, seconds=62) == 100


def test_a_request_that_came_when_a_lot_had_expired_is_not_paid_from_it(ledger: Ledger) -> None:
    """What is kept of an expired lot is for those who were let in before, to the microsecond."""
    ledger.grant("acct", "10", reason="x", id="gift", at=NOW, expires=later(60))
    ledger.hold("acct", "10", id="before", at=later(59))
    ledger.hold("acct", "10", id="after", at=later(60))
    assert [use.lot for use in ledger.settle("after", "10", at=later(61)).uses] == ["lot-acct"]
    assert [use.lot for use in ledger.settle("before", "10", at=later(62)).uses] == ["gift"]


def test_coins_of_small_charges_add_up_to_what_was_paid(ledger: Ledger) -> None:
    """Most charges recognise no coin, some one; over the life of a lot: paid = recognised + refunded + what remains."""
    ledger.top_up("acct", quote("0.07"), reference="x", id="small", at=NOW)
    lot = ledger.lots("acct")[1]
    ledger.refund("acct", "lot-acct", id="all", at=NOW)
    paid, credits, gone = 7, Fraction(lot.credits), Fraction(0)
    parts = []
    for index in range(40):
        part = min(Fraction("0.00585"), credits - gone)
        entry = ledger.charge("acct", str(Decimal(part.numerator) / part.denominator), id=f"c{index}", at=NOW)
        gone += part
        money = entry.uses[0].money if entry.uses else None
        parts.append(money.minor if money else 0)
        left = ledger.lots("acct")[1]
        assert left.worth is not None
        assert left.worth.minor == int(Fraction(paid) * (credits - gone) / credits + Fraction(1, 2))
        if gone == credits:
            break
    assert sum(parts) == 7
    assert set(parts) == {0, 1}


def test_each_charge_has_its_cost_in_real_money(ledger: Ledger) -> None:
    """The Credits of a charge cost what their lot cost, exactly, and over the life of a lot the costs are its price."""
    charged = ledger.charge("acct", charge(), usage=body(), id="c", at=NOW).uses[0]
    assert charged.cost == charge().cost("rmb") == Money("0.0049725", "CNY")
    odd = ledger.top_up("acct", quote("0.07", "stripe"), reference="x", id="odd", at=NOW)  # 0.583333 Credits
    ledger.refund("acct", "lot-acct", id="all", at=NOW)
    costs = []
    for index in range(7):
        left = ledger.lots("acct")[1].remaining
        amount = left if index == 6 else Decimal("0.012345678901234567")
        (use,) = ledger.charge("acct", amount, id=f"c{index}", at=NOW).uses
        assert use.cost is not None
        exact = Fraction(amount) * Fraction("0.07") / Fraction(odd.credits)
        assert abs(Fraction(use.cost.amount) - exact) <= Fraction(1, 10**18)
        costs.append(Fraction(use.cost.amount))
    assert sum(costs) == Fraction("0.07")
    gift = ledger.grant("acct", "1", reason="x", id="gift", at=NOW)
    assert (gift.uses[0].money, gift.uses[0].cost) == (None, None)


def test_what_is_kept_of_expired_lots_is_no_more_than_is_held(ledger: Ledger) -> None:
    """Two lots that expire keep together what the requests before hold, not each of them."""
    ledger.grant("acct", "5", reason="x", id="gift-1", at=NOW, expires=later(50))
    ledger.grant("acct", "5", reason="x", id="gift-2", at=NOW, expires=later(60))
    ledger.hold("acct", "6", id="before", at=later(49))
    ledger.expire(at=later(61))
    assert [str(lot.expired) for lot in ledger.lots("acct")] == ["0", "0", "4"]


def test_a_refund_gives_back_what_is_unused_at_the_price_it_was_bought_for(database: str) -> None:
    """Partial refunds by Credits and by money, then the rest: channel, reference and coins are those of the payment."""
    with opened(database) as ledger:
        with_credits(ledger)
        ledger.charge("acct", "20", id="c", at=NOW)
        ledger.hold("acct", "10", id="r", at=NOW)
        by_credits = ledger.refund("acct", "lot-acct", id="1", at=NOW, credits="10")
        assert by_credits.pay_back == Payable("8.50", "CNY")
        assert by_credits.result == {"channel": "rmb", "reference": "pay-acct"}
        by_money = ledger.refund("acct", "lot-acct", id="2", at=NOW, pay=Payable("17.00", "CNY"))
        assert got(by_money.credits, by_money.pay_back) == (20, Payable("17.00", "CNY"))
        rest = ledger.refund("acct", "lot-acct", id="3", at=NOW)
        assert got(rest.credits, rest.pay_back) == (40, Payable("34.00", "CNY"))  # 10 are held
        with refused("not_refundable"):
            ledger.refund("acct", "lot-acct", id="4", at=NOW)
        lot = ledger.lots("acct")[0]
        assert got(lot.recognised, lot.refunded, lot.worth) == (
            Payable("17.00", "CNY"),
            Payable("59.50", "CNY"),
            Payable("8.50", "CNY"),
        )


def test_a_refund_is_paid_once_and_no_partial_one_is_lost(ledger: Ledger) -> None:
    """CASES 28: a refund asked for twice is one; a second partial refund with an id of its own is another."""
    for id, expected in (("1", 90), ("1", 90), ("2", 80)):
        ledger.refund("acct", "lot-acct", id=id, at=NOW, credits="10")
        assert available(ledger) == expected


def test_given_credits_are_never_refunded(ledger: Ledger) -> None:
    """Promotional Credits cost nothing: no money goes back for them, by refund or by dispute."""
    ledger.grant("acct", "5", reason="welcome", id="gift", at=NOW)
    for ask in (ledger.refund, ledger.dispute):
        with refused("not_refundable"):
            ask("acct", "gift", id="x", at=NOW)
    assert ledger.lots("acct")[1].paid is None


def test_a_failed_refund_comes_back_once(ledger: Ledger) -> None:
    """A refund that the channel could not pay is undone: Credits and money as before; twice is refused."""
    before = ledger.lots("acct")
    ledger.refund("acct", "lot-acct", id="back", at=NOW, credits="33.333333")
    ledger.reverse("acct", "back", id="failed", at=NOW, reason="the card was closed")
    assert ledger.lots("acct") == before
    with refused("not_reversible"):
        ledger.reverse("acct", "back", id="failed-2", at=NOW, reason="again")
    with refused("not_reversible"):
        ledger.reverse("acct", "lot-acct", id="failed-3", at=NOW, reason="a top-up")


def test_coins_that_round_differently_after_a_reversal_are_accounted_for(ledger: Ledger) -> None:
    """Credits that come back may be worth a coin less with the others than alone: that coin is recognised."""
    ledger.top_up("acct", quote("0.07", "stripe"), reference="x", id="odd", at=NOW)  # 0.583333 Credits
    ledger.refund("acct", "lot-acct", id="all", at=NOW)
    assert ledger.refund("acct", "odd", id="back", at=NOW, credits="0.05").pay_back == Payable(1, "USD")
    ledger.charge("acct", "0.05", id="c", at=NOW)
    ledger.reverse("acct", "back", id="failed", at=NOW, reason="the card was closed")
    lot = ledger.lots("acct")[1]
    assert (lot.recognised, lot.refunded, lot.worth) == (Payable(1, "USD"), Payable(0, "USD"), Payable(6, "USD"))
    assert ledger.verify() == []


def test_a_dispute_takes_what_is_left_and_makes_owed_what_was_used(ledger: Ledger) -> None:
    """Chargeback after 30 of 100 Credits were used: 70 go, 30 are owed, all revenue of the lot is taken back."""
    ledger.charge("acct", "30", id="c", at=NOW)
    entry = ledger.dispute("acct", "lot-acct", id="dp", at=NOW)
    assert got(entry.pay_back, entry.owed) == (Payable("85.00", "CNY"), 30)
    has = ledger.balance("acct", at=NOW)
    assert got(has.available, has.owed) == (0, 30)
    lot = ledger.lots("acct")[0]
    assert got(lot.recognised, lot.refunded, lot.used) == (Payable("0.00", "CNY"), Payable("85.00", "CNY"), 0)
    ledger.reverse("acct", "dp", id="won", at=NOW, reason="won")
    has = ledger.balance("acct", at=NOW)
    assert got(has.available, has.owed) == (70, 0)
    lot = ledger.lots("acct")[0]
    assert got(lot.recognised, lot.refunded) == (Payable("25.50", "CNY"), Payable("0.00", "CNY"))


@pytest.mark.parametrize("used", ["0.2", "0.01"])
def test_all_that_was_used_of_a_disputed_payment_is_owed(ledger: Ledger, used: str) -> None:
    """Whatever coins its use was rounded to, none at all for instance: the Credits that were used are owed."""
    ledger.refund("acct", "lot-acct", id="all", at=NOW)
    ledger.top_up("acct", quote("0.07", "stripe"), reference="x", id="odd", at=NOW)  # 0.583333 Credits
    ledger.charge("acct", used, id="c", at=NOW)
    assert ledger.dispute("acct", "odd", id="dp", at=NOW).owed == Decimal(used)
    assert ledger.lots("acct")[1].refunded == Payable("0.07", "USD")
    assert ledger.verify() == []


def test_a_refund_of_a_coin_is_a_coin_at_the_edge_of_rounding(ledger: Ledger) -> None:
    """Where what is left is a unit short of a half coin, the unit that a division leaves out decides."""
    ledger.refund("acct", "lot-acct", id="all", at=NOW)
    lot = ledger.top_up("acct", quote("0.07", "stripe"), reference="x", id="odd", at=NOW)
    left = 374_999_785_714_285_714  # 7 coins for 0.583333 Credits: these were bought for 4.5 coins, less 2/7 of a unit
    ledger.charge("acct", Decimal(lot.units - left).scaleb(-18), id="c", at=NOW)
    before = ledger.lots("acct")[1].worth
    assert ledger.refund("acct", "odd", id="one", at=NOW, pay=Payable(1, "USD")).pay_back == Payable(1, "USD")
    after = ledger.lots("acct")[1].worth
    assert before is not None
    assert after is not None
    assert before.minor - after.minor == 1


def test_what_comes_back_to_an_expired_lot_pays_what_is_owed_and_is_gone(ledger: Ledger) -> None:
    """A dispute that is won after the lot has expired: what was used is paid again, what was not is expired."""
    ledger.top_up("acct", quote("1.20", "stripe"), reference="x", id="short", at=NOW, expires=later(60))
    ledger.charge("acct", "4", id="c", at=NOW)
    ledger.refund("acct", "lot-acct", id="all", at=NOW)
    assert ledger.dispute("acct", "short", id="dp", at=later(10)).owed == 4
    won = ledger.reverse("acct", "dp", id="won", at=later(90), reason="won")
    has = ledger.balance("acct", at=later(90))
    assert got(won.owed, has.available, has.owed) == (-4, 0, 0)
    lot = ledger.lots("acct")[1]
    assert got(lot.used, lot.expired, lot.returned) == (4, 6, 0)
    assert lot.recognised == Payable("1.20", "USD")
    assert ledger.verify() == []


def test_debts_are_not_paid_from_what_backs_other_requests(ledger: Ledger) -> None:
    """A request gives back what it held of an expired lot: that is gone, and what others hold stays covered."""
    ledger.refund("acct", "lot-acct", id="all", at=NOW)
    ledger.grant("acct", "5", reason="x", id="gift", at=NOW, expires=later(60))
    ledger.hold("acct", "5", id="before", at=later(59))
    ledger.charge("acct", "10", id="debt", at=later(59))
    ledger.grant("acct", "12", reason="x", id="more", at=later(70))
    ledger.hold("acct", "2", id="after", at=later(71))
    ledger.charge("acct", "10", id="debt-2", at=later(72))
    ledger.settle("before", "0", at=later(73))
    has = ledger.balance("acct", at=later(74))
    assert got(has.available, has.held, has.owed) == (0, 2, 10)
    assert ledger.settle("after", "2", at=later(75)).owed == 0
    assert ledger.verify() == []


def test_what_has_expired_is_used_first_whatever_the_order_is(tmp_path: Path) -> None:
    """Only requests that were let in before can use it, so they do, and leave the rest to the others."""
    with opened(f"sqlite:///{tmp_path / 'ledger.db'}") as opened_ledger:
        ledger = with_credits(Ledger(opened_ledger.engine, lot_order=["oldest"]))
        ledger.grant("acct", "5", reason="x", id="gift", at=NOW, expires=later(60))
        ledger.hold("acct", "5", id="before", at=later(59))
        assert [use.lot for use in ledger.settle("before", "4", at=later(61)).uses] == ["gift"]


def test_a_lot_that_has_expired_cannot_come_in(ledger: Ledger) -> None:
    """Credits that nobody could use are a mistake of whoever gives them."""
    with refused("bad_argument"):
        ledger.grant("acct", "5", reason="x", id="gift", at=NOW, expires=NOW)
    with refused("bad_argument"):
        ledger.grant("acct", "0", reason="x", id="gift", at=NOW)


def test_an_expired_lot_is_not_refunded(ledger: Ledger) -> None:
    """What is left of it is kept for requests that were let in before, and for nothing else."""
    ledger.top_up("acct", quote("1.20", "stripe"), reference="x", id="short", at=NOW, expires=later(60))
    ledger.hold("acct", "105", id="r1", at=later(59))
    with refused("not_refundable"):
        ledger.refund("acct", "short", id="back", at=later(61), credits="1")


def test_a_dispute_of_a_part_takes_that_part(ledger: Ledger) -> None:
    """Half of the money disputed: half of the Credits go, unused ones first."""
    ledger.charge("acct", "30", id="c", at=NOW)
    ledger.dispute("acct", "lot-acct", id="dp", at=NOW, pay=Payable("42.50", "CNY"))
    has = ledger.balance("acct", at=NOW)
    assert got(has.available, has.owed) == (20, 0)
    ledger.dispute("acct", "lot-acct", id="dp-2", at=NOW, pay=Payable("34.00", "CNY"))
    has = ledger.balance("acct", at=NOW)
    assert got(has.available, has.owed) == (0, 20)
    with refused("not_refundable"):
        ledger.dispute("acct", "lot-acct", id="dp-3", at=NOW, pay=Payable("8.51", "CNY"))


def test_a_dispute_never_makes_available_negative(ledger: Ledger) -> None:
    """Credits under a hold are taken as well: the newest holds shrink, and what they lack is owed when they settle."""
    ledger.hold("acct", "40", id="r1", at=NOW)
    ledger.hold("acct", "40", id="r2", at=later(1))
    ledger.grant("acct", "50", reason="x", id="gift", at=later(2))
    ledger.dispute("acct", "lot-acct", id="dp", at=later(3))
    has = ledger.balance("acct", at=later(3))
    assert got(has.available, has.held, has.owed) == (0, 50, 0)
    assert ledger.settle("r2", "40", at=later(4)).owed == 30
    assert ledger.settle("r1", "40", at=later(4)).owed == 0
    assert ledger.verify() == []


def test_corrections_by_hand_name_reason_and_author(ledger: Ledger) -> None:
    """Up is a lot that nobody paid for, down takes what is available and no more; both keep who and why."""
    up = ledger.adjust("acct", "5", reason="goodwill", author="Ada", id="up", at=NOW)
    assert got(up.content["reason"], up.content["author"], up.credits) == ("goodwill", "Ada", 5)
    ledger.adjust("acct", "-105", reason="test account", author="Ada", id="down", at=NOW)
    assert available(ledger) == 0
    with refused("insufficient_credits"):
        ledger.adjust("acct", "-0.01", reason="more", author="Ada", id="more", at=NOW)
    for reason, author in (("", "Ada"), ("x", "\x1b[31m")):
        with refused("bad_argument"):
            ledger.adjust("acct", "1", id="none", at=NOW, reason=reason, author=author)


def test_the_group_that_served_is_charged(ledger: Ledger) -> None:
    """CASES 20: a request that was retried in another group settles at that group's price, and its record says so."""
    ledger.hold("acct", "1", id="r1", at=NOW)
    served = BOOK.rate(Usage.from_response(body()), model="gpt-5.4-mini", group="coding", at=NOW)
    settled = ledger.settle("r1", served, usage=body(), at=NOW)
    assert settled.credits == served.credits != charge().credits
    assert settled.content["group"] == "coding"


def test_a_usage_that_is_not_the_charges_is_refused(ledger: Ledger) -> None:
    """What goes into the journal as usage is what the charge was made from, or nothing is done."""
    ledger.hold("acct", "1", id="r1", at=NOW)
    with refused("bad_argument"):
        ledger.settle("r1", charge(), usage=body(output=801), at=NOW)
    made = ledger.settle("r1", charge(), at=NOW)  # of the usual counts a body is made
    assert Usage.from_response(made.content["usage"]) == charge().usage


def test_a_hold_takes_a_worst_case_and_a_token_as_they_are(ledger: Ledger) -> None:
    """What the counter and the token check gave can be handed on; a secret in the place of an id is not repeated."""
    token = ledger.create_token("acct", id="tok", at=NOW, group="default", secret=SECRET)
    request = {"messages": [{"role": "user", "content": "Hello"}], "max_completion_tokens": 100}
    worst = TokenCounter("gpt-5.4-mini", BOOK).worst_case(request, group="default", at=NOW)
    assert ledger.hold("acct", worst, id="r1", at=NOW, token=token).credits == worst.credits
    with refused("bad_argument") as caught:
        ledger.hold("acct", "1", id="r2", at=NOW, token=SECRET)
    assert SECRET not in str(caught.value)
    with refused("bad_argument"):
        ledger.hold("acct", "1", id="r3", at=NOW, ttl=900)  # type: ignore[arg-type]
    with refused("bad_argument"):
        ledger.hold("acct", "1", id="r" * 241, at=NOW)  # HOLD:settle would be too long
    with refused("bad_argument"):
        ledger.hold("acct", TokenCounter("gpt-5.4-mini").worst_case(request), id="r4", at=NOW)


def test_what_a_model_said_does_not_get_into_the_journal(ledger: Ledger) -> None:
    """A whole response may be given as usage: the part that its charge depends on is kept."""
    response = {**body(), "id": "resp_1", "choices": [{"message": {"content": "something private"}}]}
    ledger.hold("acct", "1", id="r1", at=NOW)
    settled = ledger.settle("r1", charge(response), usage=response, at=NOW)
    assert "private" not in str(tables(ledger))
    assert Usage.from_response(settled.content["usage"]) == charge().usage


def test_money_in_another_currency_is_no_quote_of_a_channel(ledger: Ledger) -> None:
    """What was paid is given with its currency, and is not taken for the channel's."""
    assert BOOK.quote("stripe", at=NOW, pay=Payable(120, "USD")).credits == 10
    with refused("currency_mismatch"):
        BOOK.quote("stripe", at=NOW, pay=Payable(1000, "JPY"))
    with refused("currency_mismatch"):
        ledger.refund("acct", "lot-acct", id="x", at=NOW, pay=Payable(100, "USD"))
    first = ledger.refund("acct", "lot-acct", id="back", at=NOW, pay="8.50")
    assert ledger.refund("acct", "lot-acct", id="back", at=NOW, pay=Payable(850, "CNY")).hash == first.hash
    with refused("not_refundable"):
        ledger.refund("acct", "lot-acct", id="y", at=NOW, credits="0.001")  # less than a coin: there is nothing to pay


def test_whoever_reads_an_entry_sees_credits(ledger: Ledger) -> None:
    """Its books in Credits, a short repr, and equal to what comes when it is asked for again."""
    first = ledger.hold("acct", "1.5", id="r1", at=NOW)
    assert first.posted == {"available": Decimal("-1.5"), "held": Decimal("1.5")}
    assert repr(first) == "<Entry 3 of acct: hold r1, 1.5 Credits>"
    assert ledger.hold("acct", "1.5", id="r1", at=NOW) == first == ledger.entry("r1")


class TestTokens:
    """API tokens: who may ask for what, told apart by code."""

    def test_the_secret_is_kept_nowhere(self, ledger: Ledger) -> None:
        """It is told once; the database, the journal and repr have its hash at most."""
        token = ledger.create_token("acct", id="tok", at=NOW, group="default")
        assert token.secret is not None
        assert token.secret.startswith("sk-")
        assert token.secret not in str(tables(ledger))
        assert token.secret not in repr(token)
        assert ledger.authenticate(token.secret, at=NOW).id == "tok"
        again = ledger.create_token("acct", id="tok", at=NOW, group="default")
        assert again.secret is None

    def test_each_reason_has_its_code(self, ledger: Ledger) -> None:
        """Unknown, disabled, expired and exhausted are 401, each with a code of its own."""
        ledger.create_token("acct", id="tok", at=NOW, group="default", limit="1", expires=later(60), secret=SECRET)
        assert ledger.authenticate(SECRET, at=later(59)).group == "default"
        for secret, seconds, code in (("sk-other", 0, "unknown_token"), (SECRET, 60, "token_expired")):
            with refused(code) as caught:
                ledger.authenticate(secret, at=later(seconds))
            assert caught.value.http_status == 401
        ledger.charge("acct", "1", id="c", at=NOW, token="tok")
        with refused("token_exhausted"):
            ledger.authenticate(SECRET, at=NOW)
        ledger.change_token("tok", id="ch", at=NOW, enabled=False)
        with refused("token_disabled"):
            ledger.authenticate(SECRET, at=NOW)

    def test_a_limit_counts_what_is_spent_and_what_is_held(self, ledger: Ledger) -> None:
        """Two requests at once cannot pass a limit that has room for one; raising it lets the second in."""
        ledger.create_token("acct", id="tok", at=NOW, group="default", limit="2", secret=SECRET)
        ledger.hold("acct", "1.5", id="r1", at=NOW, token="tok")
        with refused("token_limit") as caught:
            ledger.hold("acct", "0.6", id="r2", at=NOW, token="tok")
        assert caught.value.http_status == 402
        ledger.settle("r1", "0.4", at=NOW)
        ledger.hold("acct", "1.6", id="r2", at=NOW, token="tok")
        token = ledger.token("tok")
        assert got(token.spent, token.held) == (Decimal("0.4"), Decimal("1.6"))

    def test_a_token_is_of_its_account(self, ledger: Ledger) -> None:
        """No hold of one account goes through the token of another."""
        ledger.open_account("other", at=NOW)
        ledger.create_token("other", id="tok", at=NOW, group="default", secret=SECRET)
        with refused("unknown_token"):
            ledger.hold("acct", "1", id="r1", at=NOW, token="tok")

    @pytest.mark.parametrize(
        "header",
        [None, "", "Bearer", "Bearer ", "Basic abc", "sk-abc", "Bearer a b", "Bearer a\x00", "Bearer " + "x" * 600],
    )
    def test_a_header_without_a_token_is_malformed(self, header: str | None) -> None:
        """Whatever is no ``Bearer TOKEN`` is 401 with a code of its own."""
        with refused("token_malformed") as caught:
            bearer(header)
        assert caught.value.http_status == 401

    def test_settings_that_are_none_are_refused(self, ledger: Ledger) -> None:
        """A misspelt setting is an error, not a token without a limit."""
        ledger.create_token("acct", id="tok", at=NOW, group="default", secret=SECRET)
        with refused("bad_argument"):
            ledger.change_token("tok", id="ch", at=NOW, limits="1")
        with refused("bad_argument"):
            ledger.create_token("acct", id="short", at=NOW, group="default", secret="short")


class TestTransactions:
    """A gateway that has tables of its own."""

    def test_what_is_refused_leaves_nothing_in_the_callers_transaction(self, database: str) -> None:
        """A refusal that the caller catches, and then commits: as if the operation had not been asked for."""
        with opened(database) as ledger:
            with_credits(ledger)
            ledger.grant("acct", "1", reason="x", id="gift", at=NOW, expires=later(10))
            before = tables(ledger)
            with ledger.engine.begin() as connection:
                with refused("insufficient_credits"):
                    ledger.hold("acct", "1000", id="r1", at=later(20), connection=connection)
                with refused("operation_conflict"):
                    ledger.open_account("other", id="lot-acct", at=NOW, connection=connection)
            assert tables(ledger) == before
            assert ledger.verify() == []

    def test_connections_that_hold_nothing_together_are_refused(self, tmp_path: Path, postgres: str) -> None:
        """A connection that commits by itself, one of an engine that was not made fit, and what is no connection."""
        with schema(postgres) as url, opened(url) as ledger:
            with_credits(ledger)
            itself = ledger.engine.execution_options(isolation_level="AUTOCOMMIT")
            with itself.begin() as connection, refused("bad_argument"):
                ledger.hold("acct", "1", id="r1", at=NOW, connection=connection)
            with refused("bad_argument"):
                ledger.hold("acct", "1", id="r1", at=NOW, connection=itself)  # type: ignore[arg-type]
        unfit = create_engine(f"sqlite:///{tmp_path / 'unfit.db'}")
        with (
            opened(f"sqlite:///{tmp_path / 'unfit.db'}") as ledger,
            unfit.begin() as connection,
            refused("bad_argument"),
        ):
            ledger.open_account("acct", at=NOW, connection=connection)
        unfit.dispose()

    def test_an_operation_takes_part_in_the_callers_transaction(self, database: str) -> None:
        """What the caller rolls back is undone here and there; what it commits is done here and there."""
        with opened(database) as ledger:
            with_credits(ledger)
            with ledger.engine.begin() as connection:
                connection.execute(text("CREATE TABLE requests (id TEXT)"))
            with pytest.raises(RuntimeError), ledger.engine.begin() as connection:  # noqa: PT012
                connection.execute(text("INSERT INTO requests VALUES ('r1')"))
                ledger.hold("acct", "1", id="r1", at=NOW, connection=connection)
                raise RuntimeError
            assert available(ledger) == 100
            with ledger.engine.begin() as connection:
                connection.execute(text("INSERT INTO requests VALUES ('r1')"))
                ledger.hold("acct", "1", id="r1", at=NOW, connection=connection)
                ledger.settle("r1", "0.5", at=NOW, connection=connection)
                assert ledger.balance("acct", at=NOW, connection=connection).available == Decimal("99.5")
            assert available(ledger) == Decimal("99.5")
            assert ledger.verify() == []

    def test_a_connection_without_a_transaction_is_refused(self, ledger: Ledger) -> None:
        """Nothing would ever commit it."""
        with ledger.engine.connect() as connection, refused("bad_argument"):
            ledger.hold("acct", "1", id="r1", at=NOW, connection=connection)

    def test_an_engine_of_the_callers_own_serves(self, tmp_path: Path) -> None:
        """An engine that was made elsewhere is prepared once, and the ledger works on it."""
        engine = create_engine(f"sqlite:///{tmp_path / 'own.db'}")
        prepare(engine)
        prepare(engine)
        ledger = Ledger(engine)
        with refused("ledger_version"):
            ledger.balance("acct", at=NOW)
        ledger.migrate()
        with_credits(ledger)
        with engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert available(ledger) == 100
        ledger.close()


@pytest.mark.parametrize("name", ["", " acct", "acct ", "~acct", "a\nb", "a" * 257, "a\x1b[0m", None, 7])
def test_ids_that_are_none_are_refused(ledger: Ledger, name: str) -> None:
    """An id that could hide, or pass for the ledger's own, is told before anything is done."""
    with refused("bad_argument"):
        ledger.open_account(name, at=NOW)
    with refused("bad_argument"):
        ledger.hold("acct", "1", id=name, at=NOW)
    with refused("bad_argument"):
        ledger.top_up("acct", quote("1"), reference=name, id="x", at=NOW)


@pytest.mark.parametrize(
    "credits", ["-1", "1e-19", "abc", "1e31", 1.5, None, True, Decimal("NaN"), Decimal("Infinity")]
)
def test_amounts_that_are_none_are_refused(ledger: Ledger, credits: object) -> None:
    """Negative, too fine, too large, floats: no hold, no charge."""
    with refused("money_invalid"):
        ledger.hold("acct", credits, id="r", at=NOW)  # type: ignore[arg-type]
    with refused("money_invalid"):
        ledger.charge("acct", credits, id="c", at=NOW)  # type: ignore[arg-type]
    assert available(ledger) == 100


def test_an_account_is_opened_once(ledger: Ledger) -> None:
    """The same operation again is the same account; another operation is told that it is there."""
    assert ledger.open_account("acct", at=later(5)).repeated
    with refused("account_exists"):
        ledger.open_account("acct", at=NOW, id="another")
    with refused("unknown_account"):
        ledger.hold("nobody", "1", id="r", at=NOW)
