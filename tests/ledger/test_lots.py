"""Lots: order of consumption, cost, refunds, disputes, corrections and expiry."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from brivionix_billing import BillingError, Money, Payable, PriceBook
from brivionix_billing.ledger import Ledger
from ledger_kit import BOOK, NOW, available, body, charge, got, later, opened, quote, refused, with_credits


def test_expiring_and_promotional_lots_are_consumed_first() -> None:
    """By default, lots that expire sooner are consumed first, then promotional ones, then the oldest."""
    with opened("sqlite://") as ledger:
        ledger.open_account("acct", at=NOW)
        ledger.top_up("acct", quote("0.85"), reference="1", id="bought", at=NOW)
        ledger.grant("acct", "1", reason="x", id="given", at=NOW)
        ledger.grant("acct", "1", reason="x", id="late", at=NOW, expires=later(900))
        ledger.top_up("acct", quote("0.85"), reference="2", id="soon", at=NOW, expires=later(600))
        used = ledger.charge("acct", "3.5", id="c", at=NOW).lot_changes
        assert [use.lot for use in used] == ["soon", "late", "given", "bought"]


def test_the_price_file_orders_lots() -> None:
    """``lots: order`` of the price file orders lots, and is not part of the digest of prices."""
    source = Path("pricing.yaml").read_text("utf-8")
    book = PriceBook.loads(source + "\nlots:\n  order: [paid, newest]\n")
    assert book.digest == BOOK.digest
    ledger = Ledger.open("sqlite://", book)
    ledger.open_account("acct", at=NOW)
    ledger.grant("acct", "1", reason="x", id="given-1", at=NOW)
    ledger.top_up("acct", quote("0.85"), reference="1", id="bought-1", at=NOW)
    ledger.grant("acct", "1", reason="x", id="given-2", at=NOW)
    ledger.top_up("acct", quote("0.85"), reference="2", id="bought-2", at=NOW)
    assert [use.lot for use in ledger.charge("acct", "3.5", id="c", at=NOW).lot_changes] == [
        *("bought-2", "bought-1", "given-2", "given-1")
    ]
    ledger.close()


@pytest.mark.parametrize(
    ("order", "what"),
    [
        ("[cheapest]", "there is no rule 'cheapest'"),
        ("[oldest, oldest]", "the rule oldest is repeated"),
        ("[promotional, paid]", "promotional and paid are opposites"),
        ("[]", "is not an order of use"),
        ("oldest", "is not an order of use"),
    ],
)
def test_an_invalid_lot_order_is_a_finding_of_the_price_file(order: str, what: str) -> None:
    """An unknown, repeated or contradictory rule is reported with its position."""
    source = Path("pricing.yaml").read_text("utf-8")
    with pytest.raises(BillingError, match=what):
        PriceBook.loads(source + f"\nlots:\n  order: {order}\n")


def test_an_expired_lot_covers_requests_admitted_before(ledger: Ledger) -> None:
    """A request held before a lot expired is charged to the lot, even after its expiry; the rest expires."""
    ledger.grant("acct", "10", reason="x", id="gift", at=NOW, expires=later(60))
    ledger.hold("acct", "104", id="r1", at=later(59))
    assert available(ledger, seconds=60) == 6  # r1 may need all of the gift
    settled = ledger.settle("r1", "3", at=later(61))
    assert [got(use.lot, use.credits) for use in settled.lot_changes] == [("gift", 3)]
    ledger.expire(at=later(62))
    gift = ledger.lots("acct")[1]
    assert got(gift.used, gift.expired, gift.remaining) == (3, 7, 0)
    assert available(ledger, seconds=62) == 100


def test_an_expired_lot_does_not_cover_later_requests(ledger: Ledger) -> None:
    """Retained Credits of an expired lot are only for requests admitted before its expiry, to the microsecond."""
    ledger.grant("acct", "10", reason="x", id="gift", at=NOW, expires=later(60))
    ledger.hold("acct", "10", id="before", at=later(59))
    ledger.hold("acct", "10", id="after", at=later(60))
    assert [use.lot for use in ledger.settle("after", "10", at=later(61)).lot_changes] == ["lot-acct"]
    assert [use.lot for use in ledger.settle("before", "10", at=later(62)).lot_changes] == ["gift"]


def test_minor_units_of_small_charges_add_up_to_the_payment(ledger: Ledger) -> None:
    """Most charges recognise no minor unit, some recognise one; always paid = recognised + refunded + deferred."""
    ledger.top_up("acct", quote("0.07"), reference="x", id="small", at=NOW)
    lot = ledger.lots("acct")[1]
    ledger.refund("acct", "lot-acct", id="all", at=NOW)
    paid, credits, gone = 7, Fraction(lot.credits), Fraction(0)
    parts = []
    for index in range(40):
        part = min(Fraction("0.00585"), credits - gone)
        entry = ledger.charge("acct", str(Decimal(part.numerator) / part.denominator), id=f"c{index}", at=NOW)
        gone += part
        money = entry.lot_changes[0].money if entry.lot_changes else None
        parts.append(money.minor if money else 0)
        left = ledger.lots("acct")[1]
        assert left.deferred is not None
        assert left.deferred.minor == int(Fraction(paid) * (credits - gone) / credits + Fraction(1, 2))
        if gone == credits:
            break
    assert sum(parts) == 7
    assert set(parts) == {0, 1}


def test_each_charge_has_its_cost_in_money(ledger: Ledger) -> None:
    """The cost of a charge is the exact price of its Credits, and all costs of a lot add up to its payment."""
    charged = ledger.charge("acct", charge(), usage=body(), id="c", at=NOW).lot_changes[0]
    assert charged.cost == charge().cost("rmb") == Money("0.0049725", "CNY")
    odd = ledger.top_up("acct", quote("0.07", "stripe"), reference="x", id="odd", at=NOW)  # 0.583333 Credits
    ledger.refund("acct", "lot-acct", id="all", at=NOW)
    costs = []
    for index in range(7):
        left = ledger.lots("acct")[1].remaining
        amount = left if index == 6 else Decimal("0.012345678901234567")
        (use,) = ledger.charge("acct", amount, id=f"c{index}", at=NOW).lot_changes
        assert use.cost is not None
        exact = Fraction(amount) * Fraction("0.07") / Fraction(odd.credits)
        assert abs(Fraction(use.cost.amount) - exact) <= Fraction(1, 10**18)
        costs.append(Fraction(use.cost.amount))
    assert sum(costs) == Fraction("0.07")
    gift = ledger.grant("acct", "1", reason="x", id="gift", at=NOW)
    assert (gift.lot_changes[0].money, gift.lot_changes[0].cost) == (None, None)


def test_expired_lots_retain_no_more_than_is_held(ledger: Ledger) -> None:
    """Two expired lots together retain the Credits of earlier holds, not each of them."""
    ledger.grant("acct", "5", reason="x", id="gift-1", at=NOW, expires=later(50))
    ledger.grant("acct", "5", reason="x", id="gift-2", at=NOW, expires=later(60))
    ledger.hold("acct", "6", id="before", at=later(49))
    ledger.expire(at=later(61))
    assert [str(lot.expired) for lot in ledger.lots("acct")] == ["0", "0", "4"]


def test_a_refund_pays_unused_credits_back_at_their_purchase_price(database: str) -> None:
    """Partial refunds by Credits and by money, and a refund of the rest, match the payment to the minor unit."""
    with opened(database) as ledger:
        with_credits(ledger)
        ledger.charge("acct", "20", id="c", at=NOW)
        ledger.hold("acct", "10", id="r", at=NOW)
        by_credits = ledger.refund("acct", "lot-acct", id="1", at=NOW, credits="10")
        assert by_credits.refund_amount == Payable("8.50", "CNY")
        assert by_credits.result == {"channel": "rmb", "reference": "pay-acct"}
        by_money = ledger.refund("acct", "lot-acct", id="2", at=NOW, pay=Payable("17.00", "CNY"))
        assert got(by_money.credits, by_money.refund_amount) == (20, Payable("17.00", "CNY"))
        rest = ledger.refund("acct", "lot-acct", id="3", at=NOW)
        assert got(rest.credits, rest.refund_amount) == (40, Payable("34.00", "CNY"))  # 10 are held
        with refused("not_refundable"):
            ledger.refund("acct", "lot-acct", id="4", at=NOW)
        lot = ledger.lots("acct")[0]
        assert got(lot.recognised, lot.refunded, lot.deferred) == (
            Payable("17.00", "CNY"),
            Payable("59.50", "CNY"),
            Payable("8.50", "CNY"),
        )


def test_a_repeated_refund_is_one_and_a_second_refund_is_another(ledger: Ledger) -> None:
    """CASES 28: a retried refund is done once; a second partial refund with a new id is done, too."""
    for id, expected in (("1", 90), ("1", 90), ("2", 80)):
        ledger.refund("acct", "lot-acct", id=id, at=NOW, credits="10")
        assert available(ledger) == expected


def test_promotional_credits_are_never_refunded(ledger: Ledger) -> None:
    """Promotional Credits cannot be refunded or disputed, because nothing was paid for them."""
    ledger.grant("acct", "5", reason="welcome", id="gift", at=NOW)
    for ask in (ledger.refund, ledger.dispute):
        with refused("not_refundable"):
            ask("acct", "gift", id="x", at=NOW)
    assert ledger.lots("acct")[1].paid is None


def test_a_failed_refund_is_reversed_once(ledger: Ledger) -> None:
    """Reversing a failed refund restores Credits and money; a second reversal is rejected."""
    before = ledger.lots("acct")
    ledger.refund("acct", "lot-acct", id="back", at=NOW, credits="33.333333")
    ledger.reverse("acct", "back", id="failed", at=NOW, reason="the card was closed")
    assert ledger.lots("acct") == before
    with refused("not_reversible"):
        ledger.reverse("acct", "back", id="failed-2", at=NOW, reason="again")
    with refused("not_reversible"):
        ledger.reverse("acct", "lot-acct", id="failed-3", at=NOW, reason="a top-up")


def test_rounding_of_a_reversal_is_recognised(ledger: Ledger) -> None:
    """If rounding makes restored Credits worth a minor unit less, the minor unit is recognised."""
    ledger.top_up("acct", quote("0.07", "stripe"), reference="x", id="odd", at=NOW)  # 0.583333 Credits
    ledger.refund("acct", "lot-acct", id="all", at=NOW)
    assert ledger.refund("acct", "odd", id="back", at=NOW, credits="0.05").refund_amount == Payable(1, "USD")
    ledger.charge("acct", "0.05", id="c", at=NOW)
    ledger.reverse("acct", "back", id="failed", at=NOW, reason="the card was closed")
    lot = ledger.lots("acct")[1]
    assert (lot.recognised, lot.refunded, lot.deferred) == (Payable(1, "USD"), Payable(0, "USD"), Payable(6, "USD"))
    assert ledger.verify() == []


def test_refunds_and_reversals_never_pay_more_than_the_payment(ledger: Ledger) -> None:
    """If rounding of a reversal paid a minor unit too much back, the next refund withholds it."""
    ledger.refund(
        "acct", "lot-acct", id="a", at=NOW, credits="0.01764705882352941"
    )  # slightly less than 1.5 minor units
    again = ledger.refund(
        "acct", "lot-acct", id="b", at=NOW, credits="0.00000000000000001"
    )  # crosses the rounding boundary: one minor unit
    assert again.refund_amount == Payable(1, "CNY")
    ledger.reverse("acct", "a", id="failed", at=NOW, reason="the card was closed")
    assert ledger.lots("acct")[0].recognised == Payable(-1, "CNY")
    with refused("not_refundable"):
        ledger.refund("acct", "lot-acct", id="c", at=NOW, credits="0.01")  # worth the minor unit that is withheld
    assert ledger.refund("acct", "lot-acct", id="d", at=NOW, pay="1.00").refund_amount == Payable(100, "CNY")
    rest = ledger.refund("acct", "lot-acct", id="rest", at=NOW)
    assert rest.refund_amount == Payable(8_500 - 101, "CNY")
    lot = ledger.lots("acct")[0]
    assert (lot.recognised, lot.refunded) == (Payable(0, "CNY"), Payable(8_500, "CNY"))
    assert ledger.verify() == []


def test_a_dispute_removes_unused_credits_and_used_ones_are_owed(ledger: Ledger) -> None:
    """A chargeback after 30 of 100 Credits were used removes 70, makes 30 owed, and claws back all revenue."""
    ledger.charge("acct", "30", id="c", at=NOW)
    entry = ledger.dispute("acct", "lot-acct", id="dp", at=NOW)
    assert got(entry.refund_amount, entry.owed) == (Payable("85.00", "CNY"), 30)
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
def test_all_used_credits_of_a_disputed_payment_are_owed(ledger: Ledger, used: str) -> None:
    """Used Credits of a disputed payment are owed, even if their use was rounded to no minor unit."""
    ledger.refund("acct", "lot-acct", id="all", at=NOW)
    ledger.top_up("acct", quote("0.07", "stripe"), reference="x", id="odd", at=NOW)  # 0.583333 Credits
    ledger.charge("acct", used, id="c", at=NOW)
    assert ledger.dispute("acct", "odd", id="dp", at=NOW).owed == Decimal(used)
    assert ledger.lots("acct")[1].refunded == Payable("0.07", "USD")
    assert ledger.verify() == []


def test_a_refund_of_a_minor_unit_is_exact_at_a_rounding_boundary(ledger: Ledger) -> None:
    """A refund of a minor unit is exact if the remaining value is a unit below a rounding boundary."""
    ledger.refund("acct", "lot-acct", id="all", at=NOW)
    lot = ledger.top_up("acct", quote("0.07", "stripe"), reference="x", id="odd", at=NOW)
    left = 374_999_785_714_285_714  # worth 4.5 minor units less 2/7 of a unit: 0.583333 Credits cost 7 minor units
    ledger.charge("acct", Decimal(lot.units - left).scaleb(-18), id="c", at=NOW)
    before = ledger.lots("acct")[1].deferred
    assert ledger.refund("acct", "odd", id="one", at=NOW, pay=Payable(1, "USD")).refund_amount == Payable(1, "USD")
    after = ledger.lots("acct")[1].deferred
    assert before is not None
    assert after is not None
    assert before.minor - after.minor == 1


def test_credits_restored_to_an_expired_lot_settle_the_debt_and_expire(ledger: Ledger) -> None:
    """Credits of a won dispute that return to an expired lot settle the debt, and the rest expires."""
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


def test_a_debt_is_not_settled_from_credits_of_other_holds(ledger: Ledger) -> None:
    """Credits of an expired lot that a release frees expire, and other holds stay covered."""
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


def test_expired_lots_are_consumed_first_in_any_order(tmp_path: Path) -> None:
    """Requests that can consume an expired lot consume it before other lots, in any lot order."""
    with opened(f"sqlite:///{tmp_path / 'ledger.db'}") as opened_ledger:
        ledger = with_credits(Ledger(opened_ledger.engine, lot_order=["oldest"]))
        ledger.grant("acct", "5", reason="x", id="gift", at=NOW, expires=later(60))
        ledger.hold("acct", "5", id="before", at=later(59))
        assert [use.lot for use in ledger.settle("before", "4", at=later(61)).lot_changes] == ["gift"]


def test_a_lot_that_has_expired_cannot_be_opened(ledger: Ledger) -> None:
    """A grant that has already expired is rejected."""
    with refused("invalid_argument"):
        ledger.grant("acct", "5", reason="x", id="gift", at=NOW, expires=NOW)
    with refused("invalid_argument"):
        ledger.grant("acct", "0", reason="x", id="gift", at=NOW)


def test_an_expired_lot_is_not_refunded(ledger: Ledger) -> None:
    """Credits that an expired lot retains for holds cannot be refunded."""
    ledger.top_up("acct", quote("1.20", "stripe"), reference="x", id="short", at=NOW, expires=later(60))
    ledger.hold("acct", "105", id="r1", at=later(59))
    with refused("not_refundable"):
        ledger.refund("acct", "short", id="back", at=later(61), credits="1")


def test_a_partial_dispute_removes_its_part(ledger: Ledger) -> None:
    """A dispute of half of the money removes half of the Credits, unused ones first."""
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
    """A dispute of held Credits shrinks the newest holds, and their shortfall is owed when they settle."""
    ledger.hold("acct", "40", id="r1", at=NOW)
    ledger.hold("acct", "40", id="r2", at=later(1))
    ledger.grant("acct", "50", reason="x", id="gift", at=later(2))
    ledger.dispute("acct", "lot-acct", id="dp", at=later(3))
    has = ledger.balance("acct", at=later(3))
    assert got(has.available, has.held, has.owed) == (0, 50, 0)
    assert ledger.settle("r2", "40", at=later(4)).owed == 30
    assert ledger.settle("r1", "40", at=later(4)).owed == 0
    assert ledger.verify() == []


def test_manual_corrections_have_reason_and_author(ledger: Ledger) -> None:
    """Upward corrections open a promotional lot, downward ones take available Credits; both keep reason and author."""
    up = ledger.adjust("acct", "5", reason="goodwill", author="Ada", id="up", at=NOW)
    assert got(up.content["reason"], up.content["author"], up.credits) == ("goodwill", "Ada", 5)
    ledger.adjust("acct", "-105", reason="test account", author="Ada", id="down", at=NOW)
    assert available(ledger) == 0
    with refused("insufficient_credits"):
        ledger.adjust("acct", "-0.01", reason="more", author="Ada", id="more", at=NOW)
    for reason, author in (("", "Ada"), ("x", "\x1b[31m")):
        with refused("invalid_argument"):
            ledger.adjust("acct", "1", id="none", at=NOW, reason=reason, author=author)


def test_money_in_another_currency_is_rejected(ledger: Ledger) -> None:
    """A payment or refund in another currency than that of the channel is rejected."""
    assert BOOK.quote("stripe", at=NOW, pay=Payable(120, "USD")).credits == 10
    with refused("currency_mismatch"):
        BOOK.quote("stripe", at=NOW, pay=Payable(1000, "JPY"))
    with refused("currency_mismatch"):
        ledger.refund("acct", "lot-acct", id="x", at=NOW, pay=Payable(100, "USD"))
    first = ledger.refund("acct", "lot-acct", id="back", at=NOW, pay="8.50")
    assert ledger.refund("acct", "lot-acct", id="back", at=NOW, pay=Payable(850, "CNY")).hash == first.hash
    with refused("not_refundable"):
        ledger.refund("acct", "lot-acct", id="y", at=NOW, credits="0.001")  # less than a minor unit
