"""Transfers between two accounts of one owner: lots move with their price, expiry, restriction and refund rights."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from brivionix_billing import Payable
from brivionix_billing.exports import account_books, journal_csv, period_report
from brivionix_billing.ledger import Ledger, Restriction
from brivionix_billing.ledger.notices import Notice
from brivionix_billing.times import Period
from exports_kit import check_exports
from ledger_kit import BOOK, NOW, available, got, later, opened, payment, refused, schema, tables, with_credits

MONTH = Period.parse("2026-11")


def pair(ledger: Ledger) -> Ledger:
    """Open ``one`` with 100 Credits for 12 USD, 2.40 USD of tax, and 5 promotional Credits; and ``two`` without any."""
    for account in ("one", "two"):
        ledger.open_account(account, at=NOW)
    ledger.receive_payment("one", payment("14.40", 0, "pi", tax=Payable(240, "USD")), id="lot", at=NOW)
    ledger.grant("one", "5", reason="trial", id="gift", at=NOW, expires=later(99), only=Restriction(models=["m"]))
    return ledger


@pytest.fixture
def owner() -> Ledger:
    """Return two accounts of one owner, on SQLite."""
    return pair(Ledger.open("sqlite://", BOOK))


def move(ledger: Ledger, credits: str, id: str = "t", **given: Any) -> Any:
    """Move Credits from ``one`` to ``two``."""
    return ledger.transfer("one", "two", credits, reason="split", id=id, at=later(1), **given)


def test_lots_move_with_their_terms(database: str) -> None:
    """The new lots have price, expiry, restriction and origin; both journals verify and can be rebuilt."""
    with opened(database) as ledger:
        entry = move(pair(ledger), "45")
        gift, lot = ledger.lots("two")
        assert (entry.kind, entry.credits, ledger.entry("~t:in").account) == ("transfer_out", 45, "two")  # type: ignore[union-attr]
        assert got(gift.id, gift.credits, gift.expires, gift.only) == (
            "~t:0001",
            5,
            later(99),
            Restriction(models=["m"]),
        )
        assert got(lot.credits, str(lot.paid), lot.channel, lot.reference, lot.origin) == (
            *(40, "4.80 USD", "stripe", "pi", "lot"),
        )
        source = ledger.lots("one")[0]
        assert got(source.remaining, source.moved, str(source.moved_paid), str(source.deferred)) == (
            *(60, 40, "4.80 USD", "7.20 USD"),
        )
        assert ledger.verify() == []
        before = tables(ledger)
        ledger.rebuild()
        assert tables(ledger) == before
        assert move(ledger, "45").repeated
        with refused("operation_conflict"):
            move(ledger, "44")
        assert tables(ledger) == before


def test_a_refund_goes_to_the_payment(owner: Ledger) -> None:
    """The other account refunds its part with its tax, and both parts together are the payment."""
    move(owner, "40", lot="lot")
    refund = owner.refund("two", "~t:0001", id="back-2", at=later(2))
    assert (str(refund.refund_amount), refund.result["reference"]) == ("5.76 USD", "pi")
    assert str(owner.refund("one", "lot", id="back-1", at=later(2)).refund_amount) == "8.64 USD"
    one, two = owner.payments("one")[0], owner.payments("two")[0]
    assert (str(one.refunded), str(one.moved), str(two.refunded), two.origin) == (
        *("8.64 USD", "5.76 USD", "5.76 USD", "lot"),
    )
    assert owner.verify() == []


def test_only_free_credits_move(owner: Ledger) -> None:
    """Held Credits stay, also if only one lot can cover the hold."""
    owner.hold("one", "70", id="r", at=NOW)
    with refused("insufficient_credits"):
        move(owner, "35.000000000000000001")
    with refused("insufficient_credits"):
        move(owner, "30.000000000000000001", lot="lot")
    assert move(owner, "35").credits == 35
    assert owner.settle("r", "70", at=later(2)).owed == 0
    assert owner.verify() == []


def test_a_transfer_settles_the_debt_of_the_other_account(owner: Ledger) -> None:
    """As any new Credits do; this is revenue of the other account."""
    owner.charge("two", "10", id="c", at=NOW)
    move(owner, "40", lot="lot")
    balance = owner.balance("two", at=later(1))
    assert got(balance.available, balance.owed) == (30, 0)
    assert str(owner.lots("two")[0].recognised) == "1.20 USD"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"credits": "0"}, "insufficient_credits"),
        ({"credits": "-1"}, "invalid_money"),
        ({"credits": "106"}, "insufficient_credits"),
        ({"lot": "other"}, "unknown_lot"),
        ({"to": "one"}, "invalid_argument"),
        ({"to": "three"}, "unknown_account"),
        ({"account": "three"}, "unknown_account"),
        ({"id": "x" * 241}, "invalid_argument"),
        ({"id": "~t"}, "invalid_argument"),
        ({"reason": ""}, "invalid_argument"),
    ],
)
def test_an_invalid_transfer_changes_nothing(owner: Ledger, given: dict[str, str], code: str) -> None:
    """An error leaves both accounts as they were."""
    before = tables(owner)
    all_given: dict[str, Any] = {"account": "one", "to": "two", "credits": "1", "reason": "r", "id": "t", **given}
    account, to, credits = (all_given.pop(name) for name in ("account", "to", "credits"))
    with refused(code):
        owner.transfer(account, to, credits, at=later(1), **all_given)
    assert tables(owner) == before


def test_a_frozen_account_sends_nothing(owner: Ledger) -> None:
    """A freeze after a chargeback cannot be evaded by a transfer; a frozen account still receives."""
    owner.freeze("one", reason="chargeback", id="f", at=NOW)
    with refused("account_frozen"):
        move(owner, "1")
    owner.unfreeze("one", reason="won", id="u", at=NOW)
    owner.freeze("two", reason="chargeback", id="f2", at=NOW)
    assert move(owner, "1").credits == 1


def test_exports_and_reports_balance(owner: Ledger) -> None:
    """Deferred revenue moves between the accounts; no cash and no revenue does, and nothing is in the journal."""
    move(owner, "40", lot="lot")
    owner.transfer("two", "one", "10", reason="back", id="t2", at=later(2))
    owner.charge("two", "3.3", id="c", at=later(3))
    books = [account_books(owner, account, MONTH) for account in ("one", "two")]
    rows = {(row.account, row.currency): row.as_dict() for row in period_report(books).rows}
    assert (rows["one", "USD"]["transferred"], rows["two", "USD"]["transferred"]) == ("-3.60", "3.60")
    assert (rows["two", "USD"]["cash"], rows["two", "USD"]["revenue"]) == ("0.00", "0.40")
    assert "Transfer" not in journal_csv(books)
    labels = [movement.label for movement in owner.statement("two", MONTH).movements]
    assert labels == ["Transfer 2026-11-01 from one: split", "Transfer 2026-11-01 to one: back"]
    check_exports(owner, NOW, later(9))


def test_a_chargeback_of_the_payment_reaches_moved_credits(owner: Ledger) -> None:
    """A notice about the whole payment is posted to all lots that have its Credits, and so is its reversal."""
    move(owner, "40", lot="lot")
    owner.transfer("two", "one", "15", reason="back", id="t2", at=later(2), lot="~t:0001")
    disputed = Notice(id="dp", kind="dispute", channel="stripe", reference="pi", amount=Payable(1440, "USD"))
    entry = owner.post_notice(disputed, at=later(3))
    assert entry is not None
    assert [lot.remaining for account in ("one", "two") for lot in owner.lots(account)] == [0, 5, 0, 0]
    assert str(sum_refunded(owner)) == "14.40 USD"
    assert owner.verify() == []
    again = owner.post_notice(disputed, at=later(4))
    assert (again.hash, again.repeated) == (entry.hash, True)  # type: ignore[union-attr]
    won = Notice(id="dp", kind="dispute_won", channel="stripe", reference="pi")
    for _ in range(2):
        owner.post_notice(won, at=later(5))
    assert str(sum_refunded(owner)) == "0.00 USD"
    assert available(owner, "one", 5) + available(owner, "two", 5) == 105
    assert owner.verify() == []


def sum_refunded(ledger: Ledger) -> Payable:
    """Return what was paid back of the payment from both accounts."""
    rows = [row for account in ("one", "two") for row in ledger.payments(account)]
    return Payable(sum(row.refunded.minor for row in rows), "USD")


def test_a_partial_chargeback_takes_the_first_account_first(owner: Ledger) -> None:
    """The lot of the payment bears it, and only the rest reaches moved Credits; more than the payment is an error."""
    move(owner, "40", lot="lot")
    notice = Notice(id="dp", kind="dispute", channel="stripe", reference="pi", amount=Payable(1000, "USD"))
    owner.post_notice(notice, at=later(3))
    assert [str(owner.payments(account)[0].refunded) for account in ("one", "two")] == ["8.64 USD", "1.36 USD"]
    with refused("not_refundable"):
        owner.post_notice(
            Notice(id="dp2", kind="dispute", channel="stripe", reference="pi", amount=Payable(441, "USD")), at=later(4)
        )
    assert owner.verify() == []


def test_a_tiny_part_moves_without_money(owner: Ledger) -> None:
    """Parts below a minor unit have a price of zero or one, and all parts add up to the payment."""
    for number in range(6):
        move(owner, "0.05", id=f"t{number}", lot="lot")
    paid = [lot.paid for lot in owner.lots("two")]
    assert {str(money) for money in paid} == {"0.00 USD", "0.01 USD"}
    moved = owner.lots("one")[0].moved_paid
    assert moved == Payable(sum(money.minor for money in paid if money), "USD")
    for code, call in (("not_refundable", owner.refund), ("not_refundable", owner.dispute)):
        empty = next(lot.id for lot in owner.lots("two") if str(lot.paid) == "0.00 USD")
        with refused(code):
            call("two", empty, id="x", at=later(2))
    owner.void("two", empty, used="owe", reason="r", author="Ada", id="v", at=later(2))
    owner.charge("two", "1", id="c", at=later(3))
    assert owner.verify() == []


def test_a_missing_half_is_detected(owner: Ledger) -> None:
    """A journal with only one of the two entries is inconsistent, although its own account is valid."""
    move(owner, "40")
    with owner.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE billing_journal SET id = 'x' WHERE id = '~t:in'")
    assert "the other account has no matching entry '~t:in'" in " ".join(map(str, owner.verify()))


def test_opposite_transfers_do_not_deadlock(postgres: str) -> None:
    """Threads that move Credits in both directions at once never wait for each other, and lose no Credit."""
    with schema(postgres) as url, Ledger.open(url, BOOK) as ledger:
        for name in ("one", "two"):
            with_credits(ledger, account=name)
        errors: list[BaseException] = []

        def send(number: int) -> None:
            names = ("one", "two") if number % 2 else ("two", "one")
            try:
                for count in range(5):
                    ledger.transfer(*names, "7", reason="r", id=f"t-{number}-{count}", at=NOW)
            except BaseException as error:
                errors.append(error)

        deadlocks = deadlock_count(ledger)
        threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (errors, deadlock_count(ledger)) == ([], deadlocks)
        assert got(available(ledger, "one"), available(ledger, "two")) == (100, 100)
        assert ledger.verify() == []


def deadlock_count(ledger: Ledger) -> Any:
    """Return the number of deadlocks that the server has resolved."""
    with ledger.engine.connect() as connection:
        return connection.exec_driver_sql(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).scalar()
