"""Top-ups, holds and charges, on both databases where they could differ."""

from __future__ import annotations

import pickle
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from brivionix_billing import Payable, Usage
from brivionix_billing.ledger import Ledger, ShortfallError
from brivionix_billing.tokens import TokenCounter
from ledger_kit import BOOK, NOW, available, body, charge, got, later, opened, quote, refused, tables, with_credits

SECRET = "sk-" + "x" * 30


def test_a_top_up_is_a_lot_with_its_own_price(database: str) -> None:
    """A top-up opens a lot with the quote's Credits, payment, unit price, channel, reference, time and expiry."""
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
    """The smallest unit and amounts with 27 digits before the decimal point are stored exactly."""
    with opened(database) as ledger:
        ledger.open_account("acct", at=NOW)
        ledger.grant("acct", credits, reason="test", id="g", at=NOW)
        ledger.hold("acct", "0.000000000000000001", id="h", at=NOW)
        has = ledger.balance("acct", at=NOW)
        assert Fraction(has.available) + Fraction(has.held) == Fraction(credits)
        assert has.held == Decimal("1E-18")


def test_a_top_up_of_any_size_is_credited(ledger: Ledger) -> None:
    """CASES 29: top-ups of more than 2^31 and more than 2^63 units are credited exactly."""
    huge = BOOK.quote("stripe", at=NOW, credits="1000000000000000")
    ledger.top_up("acct", huge, reference="pi_huge", id="huge", at=NOW)
    assert available(ledger) == 10**15 + 100
    assert ledger.lots("acct")[1].paid == Payable("120000000000000.00", "USD")


def test_a_repeated_operation_is_done_once(database: str) -> None:
    """CASES 28: an operation repeated with the same id, at any time, returns its first result and changes nothing."""
    with opened(database) as ledger:
        with_credits(ledger)
        first = ledger.top_up("acct", quote("17"), reference="pi", id="evt", at=NOW)
        before = tables(ledger)
        again = ledger.top_up("acct", quote("17"), reference="pi", id="evt", at=later(3600))
        assert got(again.repeated, again.hash, again.at) == (True, first.hash, NOW)
        assert not first.repeated
        assert tables(ledger) == before


def test_one_id_with_other_content_is_a_conflict_that_names_the_difference(ledger: Ledger) -> None:
    """The same id with another amount, kind or account changes nothing, and the message names the difference."""
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


def test_a_payment_is_credited_once_under_any_id(ledger: Ledger) -> None:
    """CASES 28: two webhooks with different ids credit one payment once, to one account."""
    ledger.open_account("other", at=NOW)
    ledger.top_up("acct", quote("17"), reference="pi", id="evt_1", at=NOW)
    for account in ("acct", "other"):
        with refused("payment_already_credited"):
            ledger.top_up(account, quote("17"), reference="pi", id="evt_2", at=NOW)
    assert available(ledger) == 120
    ledger.top_up(
        "acct", quote("1", "stripe"), reference="pi", id="evt_3", at=NOW
    )  # the same reference on another channel


def test_a_dispute_before_its_payment_can_be_retried(ledger: Ledger) -> None:
    """CASES 28: a dispute that arrives before its payment changes nothing, and succeeds after the payment."""
    with refused("unknown_payment") as caught:
        ledger.payment("stripe", "pi_late")
    assert caught.value.http_status == 404
    ledger.top_up("acct", quote("1.20", "stripe"), reference="pi_late", id="evt", at=NOW)
    lot = ledger.payment("stripe", "pi_late")
    assert ledger.dispute("acct", lot.id, id="dp", at=NOW).refund_amount == Payable("1.20", "USD")


def test_a_hold_without_cover_is_rejected_with_the_shortfall(ledger: Ledger) -> None:
    """Held Credits cannot be held again; the error has status 402 and the missing amount."""
    ledger.hold("acct", "99.5", id="r1", at=NOW)
    with pytest.raises(ShortfallError) as caught:
        ledger.hold("acct", "0.75", id="r2", at=NOW)
    error = caught.value
    assert got(error.code, error.http_status) == ("insufficient_credits", 402)
    assert got(error.needed, error.available, error.shortfall) == (Decimal("0.75"), Decimal("0.5"), Decimal("0.25"))
    assert "0.25 short" in str(error)
    assert pickle.loads(pickle.dumps(error)).shortfall == error.shortfall
    ledger.hold("acct", "0.5", id="r3", at=NOW)  # exactly the available amount
    assert available(ledger) == 0


def test_settle_charges_the_usage_and_releases_the_rest(ledger: Ledger) -> None:
    """Settle consumes lots, makes the rest of the hold available, and names the lots."""
    ledger.hold("acct", "0.9", id="r1", at=NOW)
    settled = ledger.settle("r1", charge(), usage=body(), at=later(2))
    assert got(settled.credits, settled.owed) == (Decimal("0.00585"), 0)
    assert [got(use.lot, use.kind, use.credits) for use in settled.lot_changes] == [
        ("lot-acct", "used", Decimal("0.00585"))
    ]
    assert got(settled.at, settled.booked_at) == (NOW, later(2))
    assert available(ledger) == Decimal("99.99415")
    assert ledger.balance("acct", at=NOW).held == 0


def test_a_charge_above_its_hold_takes_available_credits_and_the_rest_is_owed(ledger: Ledger) -> None:
    """A charge above its hold is taken from available Credits, and the rest is owed until Credits are released."""
    ledger.hold("acct", "60", id="r1", at=NOW)
    ledger.hold("acct", "30", id="r2", at=NOW)
    settled = ledger.settle("r1", "75", at=NOW)  # 60 held, 10 available
    assert got(settled.credits, settled.owed) == (75, 5)
    has = ledger.balance("acct", at=NOW)
    assert got(has.available, has.held, has.owed) == (0, 30, 5)
    assert sum(use.credits for use in settled.lot_changes) == 70
    released = ledger.release("r2", at=NOW)  # released Credits settle the debt first
    assert released.owed == -5
    has = ledger.balance("acct", at=NOW)
    assert got(has.available, has.held, has.owed) == (25, 0, 0)


def test_a_top_up_settles_the_debt_first(ledger: Ledger) -> None:
    """A debt is settled from the next lot."""
    ledger.charge("acct", "110", id="batch", at=NOW)
    entry = ledger.top_up("acct", quote("17"), reference="pi", id="evt", at=NOW)
    assert entry.owed == -10
    lot = ledger.lots("acct")[1]
    assert got(lot.used, lot.remaining, lot.recognised) == (10, 10, Payable("8.50", "CNY"))


def test_a_hold_is_resolved_once(ledger: Ledger) -> None:
    """A second settle or release is rejected, and the error names the first resolution."""
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


def test_an_expired_hold_is_released_by_itself(database: str) -> None:
    """CASES 30: the hold of a crashed gateway is released when it expires, in every balance and every operation."""
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


def test_a_request_that_ends_after_its_hold_is_still_charged(ledger: Ledger) -> None:
    """A settle after the hold expired takes available Credits, once."""
    ledger.hold("acct", "1", id="r1", at=NOW, ttl=timedelta(seconds=60))
    late = ledger.settle("r1", charge(), usage=body(), at=later(300))
    assert late.result["late"] is True
    assert got(late.credits, late.postings.get("held")) == (Decimal("0.00585"), None)
    with refused("hold_resolved"):
        ledger.settle("r1", "1", id="again", at=later(301))
    assert available(ledger, seconds=301) == Decimal("99.99415")
    assert ledger.verify() == []


def test_the_group_that_served_is_charged(ledger: Ledger) -> None:
    """CASES 20: a request retried in another group is settled at the price of that group, and its record names it."""
    ledger.hold("acct", "1", id="r1", at=NOW)
    served = BOOK.rate(Usage.from_response(body()), model="gpt-5.4-mini", group="coding", at=NOW)
    settled = ledger.settle("r1", served, usage=body(), at=NOW)
    assert settled.credits == served.credits != charge().credits
    assert settled.content["group"] == "coding"


def test_usage_that_does_not_match_the_charge_is_rejected(ledger: Ledger) -> None:
    """Usage that the charge was not made from is rejected, and nothing is changed."""
    ledger.hold("acct", "1", id="r1", at=NOW)
    with refused("invalid_argument"):
        ledger.settle("r1", charge(), usage=body(output=801), at=NOW)
    settled = ledger.settle("r1", charge(), at=NOW)  # a body is built from common counts
    assert Usage.from_response(settled.content["usage"]) == charge().usage


def test_a_hold_accepts_a_worst_case_and_an_api_token(ledger: Ledger) -> None:
    """A hold accepts a ``WorstCase`` and an ``ApiToken``; a secret passed as an id is not in the error."""
    token = ledger.create_token("acct", id="tok", at=NOW, group="default", secret=SECRET)
    request = {"messages": [{"role": "user", "content": "Hello"}], "max_completion_tokens": 100}
    worst = TokenCounter("gpt-5.4-mini", BOOK).worst_case(request, group="default", at=NOW)
    assert ledger.hold("acct", worst, id="r1", at=NOW, token=token).credits == worst.credits
    with refused("invalid_argument") as caught:
        ledger.hold("acct", "1", id="r2", at=NOW, token=SECRET)
    assert SECRET not in str(caught.value)
    with refused("invalid_argument"):
        ledger.hold("acct", "1", id="r3", at=NOW, ttl=900)  # type: ignore[arg-type]
    with refused("invalid_argument"):
        ledger.hold("acct", "1", id="r" * 241, at=NOW)  # HOLD:settle would be too long
    with refused("invalid_argument"):
        ledger.hold("acct", TokenCounter("gpt-5.4-mini").worst_case(request), id="r4", at=NOW)


def test_the_journal_has_no_model_output(ledger: Ledger) -> None:
    """Of a whole response passed as usage, only the billable part is stored."""
    response = {**body(), "id": "resp_1", "choices": [{"message": {"content": "something private"}}]}
    ledger.hold("acct", "1", id="r1", at=NOW)
    settled = ledger.settle("r1", charge(response), usage=response, at=NOW)
    assert "private" not in str(tables(ledger))
    assert Usage.from_response(settled.content["usage"]) == charge().usage


def test_an_entry_shows_credits(ledger: Ledger) -> None:
    """An entry has its postings in Credits and a short repr, and equals the entry of a retry."""
    first = ledger.hold("acct", "1.5", id="r1", at=NOW)
    assert first.postings_in_credits == {"available": Decimal("-1.5"), "held": Decimal("1.5")}
    assert repr(first) == "<Entry 3 of acct: hold r1, 1.5 Credits>"
    assert ledger.hold("acct", "1.5", id="r1", at=NOW) == first == ledger.entry("r1")


@pytest.mark.parametrize("name", ["", " acct", "acct ", "~acct", "a\nb", "a" * 257, "a\x1b[0m", None, 7])
def test_invalid_ids_are_rejected(ledger: Ledger, name: str) -> None:
    """An id with invisible characters, or one reserved for the ledger, is rejected before any change."""
    with refused("invalid_argument"):
        ledger.open_account(name, at=NOW)
    with refused("invalid_argument"):
        ledger.hold("acct", "1", id=name, at=NOW)
    with refused("invalid_argument"):
        ledger.top_up("acct", quote("1"), reference=name, id="x", at=NOW)


@pytest.mark.parametrize(
    "credits", ["-1", "1e-19", "abc", "1e31", 1.5, None, True, Decimal("NaN"), Decimal("Infinity")]
)
def test_invalid_amounts_are_rejected(ledger: Ledger, credits: object) -> None:
    """Amounts that are negative, too precise, too large or floats are rejected by hold and charge."""
    with refused("invalid_money"):
        ledger.hold("acct", credits, id="r", at=NOW)  # type: ignore[arg-type]
    with refused("invalid_money"):
        ledger.charge("acct", credits, id="c", at=NOW)  # type: ignore[arg-type]
    assert available(ledger) == 100


def test_an_account_is_opened_once(ledger: Ledger) -> None:
    """A retry returns the same account, and another operation gets ``account_exists``."""
    assert ledger.open_account("acct", at=later(5)).repeated
    with refused("account_exists"):
        ledger.open_account("acct", at=NOW, id="another")
    with refused("unknown_account"):
        ledger.hold("nobody", "1", id="r", at=NOW)
