"""Statements of payment processors against the ledger."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from brivionix_billing import BillingError, PriceBook
from brivionix_billing.cli import main
from brivionix_billing.exports import account_books, period_report
from brivionix_billing.ledger import Ledger, ReceivedPayment
from brivionix_billing.ledger.notices import Notice
from brivionix_billing.money import Payable
from brivionix_billing.reconcile.payments.run import PaymentOptions, reconcile_payments
from brivionix_billing.times import Period
from paths import ROOT
from payment_month import Movement, make_month, write_alipay, write_stripe, write_wechat

BOOK = PriceBook.load(ROOT / "pricing.yaml")
AT = datetime(2026, 10, 5, 4, tzinfo=UTC)
WRITERS: dict[str, tuple[str, Callable[[list[Movement]], bytes]]] = {
    "stripe": ("report.csv", write_stripe),
    "wechat": ("bill.csv", write_wechat),
    "alipay": ("bill.zip", write_alipay),
}


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    """An empty ledger in memory."""
    with Ledger.open("sqlite://", BOOK) as opened:
        yield opened


def rows_of(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a result."""
    with (folder / "rows.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def run(
    ledger: Ledger, folder: Path, source: str, movements: list[Movement], *, book: bool = False, **options: Any
) -> list[dict[str, str]]:
    """Reconcile movements, and return the rows."""
    name, write = WRITERS[source]
    (folder / name).write_bytes(write(movements))
    reconcile_payments(
        [str(folder / name)],
        source,
        ledger,
        BOOK,
        folder / "out",
        PaymentOptions(**options),
        book_at=datetime(2026, 11, 2, tzinfo=UTC) if book else None,
    )
    return rows_of(folder / "out")


def top_up(ledger: Ledger, order: str, pay: str = "85", *, at: datetime = AT, channel: str = "rmb") -> None:
    """Credit a payment of account ``acct_1``, which is opened if it does not exist."""
    ledger.open_account("acct_1", at=AT - timedelta(days=30))
    ledger.top_up("acct_1", BOOK.quote(channel, at=at, pay=pay), reference=order, id=f"lot_{order}", at=at)


def payment(order: str, gross: str = "85.00", **values: Any) -> Movement:
    """Return a payment that was booked at ``AT``."""
    id = f"tx_{order.removeprefix('order_')}"
    return Movement(id, order, "payment", AT, Decimal(gross), **({"currency": "CNY"} | values))


@pytest.mark.parametrize("source", WRITERS)
def test_a_month_with_seeded_faults(ledger: Ledger, tmp_path: Path, source: str) -> None:
    """Every row of a month gets the state and the cause of the fault that was seeded, and the sums are exact."""
    month = make_month(ledger, BOOK, source, count=60, each=2)
    channels = ["stripe"] if source == "stripe" else ["rmb"]
    rows = run(ledger, tmp_path, source, month.movements, channels=channels, period="2026-10")
    found: dict[str, tuple[str, str]] = {}
    for row in rows:
        key = row["id"]
        if row["cause"] == "currency" and key in found:
            continue  # one row for each of the two currencies
        found[f"{key}#2" if key in found else key] = (row["state"], row["cause"])
    assert found == month.expected
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    for unit, totals in summary["totals"].items():
        differences = [Decimal(row["difference"]) for row in rows if row["unit"] == unit]
        assert sum(differences) == Decimal(totals["difference"])
    paid = sum(each.gross for each in month.movements if each.currency in ("CNY", "USD"))
    assert Decimal(summary["totals"]["USD" if source == "stripe" else "CNY"]["statement"]) == paid


@pytest.mark.parametrize("voided", ["", "lot_order_1", "lot_tx_1"])
def test_the_second_credit_of_a_payment_is_the_duplicate(ledger: Ledger, tmp_path: Path, voided: str) -> None:
    """The first top-up is that of the payment, whatever time the row has. One that was voided is none."""
    top_up(ledger, "order_1")
    top_up(ledger, "tx_1", at=AT + timedelta(minutes=3))
    if voided:
        at = AT + timedelta(hours=1)
        ledger.void("acct_1", voided, used="owe", reason="credited twice", author="ada", id="void", at=at)
    row = payment("order_1")
    row.at += timedelta(minutes=30)
    rows = run(ledger, tmp_path, "wechat", [row], channels=["rmb"], period="2026-10")
    found = {row["operation"]: (row["state"], row["cause"]) for row in rows}
    valid = "lot_tx_1" if voided == "lot_order_1" else "lot_order_1"
    assert found.pop(valid) == ("matched", "")
    assert set(found.values()) == {("matched", "voided") if voided else ("duplicate", "credited_twice")}


def test_an_empty_statement_of_an_empty_period_compares_nothing(ledger: Ledger, tmp_path: Path) -> None:
    """A month without payments has no finding, and the summary says that nothing was compared."""
    (tmp_path / "report.csv").write_bytes(write_stripe([]))
    files, options = [str(tmp_path / "report.csv")], PaymentOptions(period="2026-10")
    run = reconcile_payments(files, "stripe", ledger, BOOK, tmp_path / "out", options)
    assert run.result.as_text().endswith("Nothing was compared: neither side has a row.")


def test_a_statement_of_another_period_is_an_error(ledger: Ledger, tmp_path: Path) -> None:
    """A statement whose rows are all outside of the period never counts as books that agree."""
    with pytest.raises(BillingError, match=r"the statement is from 2026-10-05T.*: name another --period"):
        run(ledger, tmp_path, "stripe", [payment("order_1", currency="USD")], period="2026-12")


@pytest.mark.parametrize("source", WRITERS)
def test_missing_operations_are_booked_once(ledger: Ledger, tmp_path: Path, source: str) -> None:
    """``--book`` posts missing payments and refunds under the ids of the statement, and a second run posts nothing."""
    ledger.open_account("acct_1", at=AT)
    currency, channel = ("USD", "stripe") if source == "stripe" else ("CNY", "rmb")
    movements = [
        payment("order_1", "85.68", account="acct_1", currency=currency),
        Movement("re_000001", "order_1", "refund", AT + timedelta(hours=1), Decimal("-42.84"), refund="r_1"),
        payment("order_2", "17.85", account="nobody", currency=currency),
    ]
    movements[1].currency = currency
    rows = run(ledger, tmp_path, source, movements, book=True, channels=[channel])
    assert [(row["state"], row["cause"]) for row in rows] == [
        ("matched", "booked"),
        ("matched", "booked"),
        ("only_theirs", "account_unknown"),
    ]
    journal = [entry.as_dict() for entry in ledger.journal("acct_1")]
    assert [(entry["id"], entry["kind"]) for entry in journal[1:]] == [
        ("tx_1", "top_up"),
        ("r_1" if source == "stripe" else "re_000001", "refund"),
    ]
    again = run(ledger, tmp_path, source, movements, book=True, channels=[channel])
    assert [(row["state"], row["cause"]) for row in again] == [
        ("matched", ""),
        ("matched", ""),
        ("only_theirs", "account_unknown"),
    ]
    assert [entry.as_dict() for entry in ledger.journal("acct_1")] == journal


def test_a_dispute_and_its_reversal_are_booked(ledger: Ledger, tmp_path: Path) -> None:
    """A chargeback on the statement becomes a dispute of its lot, and a dispute that was won becomes its reversal."""
    top_up(ledger, "order_1", "12", channel="stripe")
    movements = [
        payment("order_1", "12.00", currency="USD"),
        Movement("txn_d", "order_1", "dispute", AT + timedelta(days=1), Decimal(-12), Decimal(15), refund="dp_1"),
        Movement(
            "txn_w", "order_1", "dispute_reversal", AT + timedelta(days=2), Decimal(12), Decimal(-15), refund="dp_1"
        ),
    ]
    rows = run(ledger, tmp_path, "stripe", movements, book=True)
    assert [(row["kind"], row["cause"]) for row in rows] == [
        ("payment", ""),
        ("dispute", "booked"),
        ("dispute_reversal", "booked"),
    ]
    assert ledger.balance("acct_1", at=AT + timedelta(days=40)).available == 100


def test_a_late_booking_by_the_statement_is_not_late_afterwards(ledger: Ledger, tmp_path: Path) -> None:
    """An operation that was booked a month after its payment is late, unless it was booked from a statement."""
    ledger.open_account("acct_1", at=AT)
    run(ledger, tmp_path, "wechat", [payment("order_1", account="acct_1")], book=True)
    (row,) = run(ledger, tmp_path, "wechat", [payment("order_1")])
    assert (row["state"], row["cause"]) == ("matched", "")
    top_up(ledger, "order_2", at=AT + timedelta(days=10))
    row = run(ledger, tmp_path, "wechat", [payment("order_1"), payment("order_2")])[1]
    assert (row["state"], row["cause"], row["difference"]) == ("differs", "late", "0")


def test_a_payment_without_a_reference_is_matched_by_account_amount_and_time(ledger: Ledger, tmp_path: Path) -> None:
    """A row whose ids the ledger does not know is paired by account, amount and the closest time, or not at all."""
    top_up(ledger, "own_1", at=AT + timedelta(hours=2))
    top_up(ledger, "own_2", at=AT + timedelta(seconds=5))
    rows = run(ledger, tmp_path, "wechat", [payment("order_9", account="acct_1"), payment("order_8")])
    assert [(row["operation"], row["matched_by"], row["state"]) for row in rows] == [
        ("lot_own_2", "account+currency", "matched"),
        ("", "", "only_theirs"),
        ("lot_own_1", "", "only_ours"),
    ]


def test_several_partial_refunds_of_one_payment(ledger: Ledger, tmp_path: Path) -> None:
    """Refunds of one payment are paired by amount, not by their order, and none is taken for a repetition."""
    top_up(ledger, "order_1")
    for number, pay in enumerate(("10", "20", "5")):
        ledger.refund("acct_1", "lot_order_1", id=f"own_{number}", at=AT + timedelta(hours=number), pay=pay)
    amounts = ("-5.00", "-10.00", "-20.00", "-2.00")
    refunds = [
        Movement(f"re_{n}", "order_1", "refund", AT + timedelta(hours=n), Decimal(amount), refund=f"r_{n}")
        for n, amount in enumerate(amounts)
    ]
    rows = run(ledger, tmp_path, "wechat", [payment("order_1"), *refunds])[1:]
    assert [(row["operation"], row["state"]) for row in rows] == [
        ("own_2", "matched"),
        ("own_0", "matched"),
        ("own_1", "matched"),
        ("", "only_theirs"),
    ]


def test_a_shifted_statement_is_recognised(ledger: Ledger, tmp_path: Path) -> None:
    """If all times are shifted by whole hours, the rows match with the cause ``time_zone``, and a note says so."""
    for number in range(4):
        top_up(ledger, f"order_{number}", at=AT + timedelta(hours=number, seconds=3))
    movements = [payment(f"order_{number}") for number in range(4)]
    for number, movement in enumerate(movements):
        movement.at = AT + timedelta(hours=number + 8)
    rows = run(ledger, tmp_path, "wechat", movements)
    assert {(row["state"], row["cause"]) for row in rows} == {("matched", "time_zone")}
    assert "-8 h" in json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))["notes"][0]


def test_another_statement_may_share_the_channel(ledger: Ledger, tmp_path: Path) -> None:
    """Payments that are on the statement of another processor are not missing on this one."""
    top_up(ledger, "order_1")
    top_up(ledger, "order_2")
    (tmp_path / "other.zip").write_bytes(write_alipay([payment("order_2")]))
    others = [("alipay", str(tmp_path / "other.zip"))]
    assert [row["id"] for row in run(ledger, tmp_path, "wechat", [payment("order_1")], others=others)] == ["tx_1"]
    assert len(run(ledger, tmp_path, "wechat", [payment("order_1")])) == 2


def test_metadata_of_many_payments_do_not_join_them(ledger: Ledger, tmp_path: Path) -> None:
    """Metadata that the ledger does not know, such as the name of an account, never make two payments one."""
    top_up(ledger, "pi_order_1", "12", channel="stripe")
    top_up(ledger, "pi_order_2", "24", channel="stripe")
    movements = [
        payment(f"order_{n}", amount, account="acct_1", currency="USD") for n, amount in ((2, "24"), (1, "12"))
    ]
    rows = run(ledger, tmp_path, "stripe", movements)
    assert [(row["operation"], row["state"]) for row in rows] == [
        ("lot_pi_order_2", "matched"),
        ("lot_pi_order_1", "matched"),
    ]


def test_fees_and_payouts_are_figures_of_the_summary(ledger: Ledger, tmp_path: Path) -> None:
    """Fees and payouts are rows without amounts in the ledger's sums, and are summed by kind in the summary."""
    top_up(ledger, "order_1", "12", channel="stripe")
    movements = [
        payment("order_1", "12.00", fee=Decimal("0.65"), currency="USD"),
        Movement("fee_1", "", "fee", AT, Decimal("-2.00")),
        Movement("po_1", "", "payout", AT, Decimal("-9.35")),
    ]
    rows = run(ledger, tmp_path, "stripe", movements)
    assert [(row["state"], row["cause"], row["statement"], row["net"]) for row in rows] == [
        ("matched", "", "12", "11.35"),
        ("matched", "fee", "", "-2"),
        ("matched", "payout", "", "-9.35"),
    ]
    figures = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))["figures"]
    assert figures["statement"]["USD"]["total"] == {"rows": 3, "gross": "0.65", "fee": "0.65", "net": "0"}


def test_a_payment_is_booked_as_its_notice_would_be(ledger: Ledger, tmp_path: Path) -> None:
    """``--book`` posts a payment to its order, with fee and coupon. A notice that arrives later adds nothing."""
    ledger.open_account("acct_1", at=AT)
    quote = BOOK.quote("rmb", at=AT, pay="85")
    ledger.create_order("acct_1", quote, expires=AT + timedelta(days=1), id="order_1", at=AT)
    paid = payment("order_1", "80.00", fee=Decimal("0.48"), coupon=Decimal(5))
    rows = run(ledger, tmp_path, "wechat", [paid], book=True, channels=["rmb"])
    assert [(row["cause"], row["account"], row["difference"]) for row in rows] == [("booked", "acct_1", "0")]
    (parts,) = ledger.payments("acct_1")
    assert (str(parts.gross), str(parts.fee), str(parts.coupon), parts.order) == (
        *("80.00 CNY", "0.48 CNY", "5.00 CNY"),
        "order_1",
    )
    assert ledger.order("order_1", at=AT).state == "paid"
    received = ReceivedPayment(channel="rmb", reference="tx_1", gross=Payable("80", "CNY"), at=AT)
    notice = Notice(id="n", kind="payment", channel="rmb", reference="tx_1", payment=received, order="order_1")
    entry = ledger.post_notice(notice, at=AT + timedelta(days=40))
    assert entry is not None
    assert entry.repeated
    assert ledger.balance("acct_1", at=AT + timedelta(days=40)).available == 100


def test_amounts_are_compared_with_tax(ledger: Ledger, tmp_path: Path) -> None:
    """A payment and its refund that the ledger split into price and tax match the gross amounts of the statement."""
    ledger.open_account("acct_1", at=AT)
    gross, tax = Payable("14.40", "USD"), Payable("2.40", "USD")
    received = ReceivedPayment(channel="stripe", reference="pi_order_1", gross=gross, at=AT, tax=tax)
    ledger.receive_payment("acct_1", received, id="lot", at=AT)
    ledger.refund("acct_1", "lot", id="back", pay="7.20", at=AT + timedelta(hours=1))
    refund = Movement("txn_r", "order_1", "refund", AT + timedelta(hours=1), Decimal("-7.20"), refund="back")
    rows = run(ledger, tmp_path, "stripe", [payment("order_1", "14.40", currency="USD"), refund])
    assert [(row["state"], row["statement"], row["ledger"]) for row in rows] == [
        ("matched", "14.4", "14.4"),
        ("matched", "-7.2", "-7.2"),
    ]


def test_a_refund_has_the_id_of_the_notice(ledger: Ledger, tmp_path: Path) -> None:
    """A dispute of Stripe is booked under its own id, so that a notice that arrives later posts it no second time."""
    top_up(ledger, "pi_order_1", "12", channel="stripe")
    dispute = Movement("txn_d", "order_1", "dispute", AT + timedelta(hours=1), Decimal(-12), refund="dp_1")
    movements = [payment("order_1", "12.00", currency="USD"), dispute]
    assert run(ledger, tmp_path, "stripe", movements, book=True)[1]["operation"] == "dp_1"
    late = Notice(id="dp_1", kind="dispute", channel="stripe", reference="pi_order_1", amount=Payable("12", "USD"))
    entry = ledger.post_notice(late, at=AT + timedelta(days=40))
    assert entry is not None
    assert entry.repeated
    row = run(ledger, tmp_path, "stripe", movements)[1]
    assert (row["state"], row["cause"]) == ("matched", "")


def test_a_voided_top_up_is_no_difference(ledger: Ledger, tmp_path: Path) -> None:
    """A top-up that was voided, because its payment was never received, and its void explain each other."""
    top_up(ledger, "order_1")
    top_up(ledger, "order_2")
    for number in (1, 2):
        at = AT + timedelta(hours=number)
        ledger.void("acct_1", f"lot_order_{number}", used="owe", reason="x", author="ada", id=f"v{number}", at=at)
    rows = run(ledger, tmp_path, "wechat", [payment("order_2")])
    assert [(row["operation"], row["state"], row["cause"], row["difference"]) for row in rows] == [
        ("lot_order_2", "matched", "", "0"),
        ("lot_order_1", "matched", "voided", "-85"),
        ("v1", "matched", "voided", "85"),
        ("v2", "only_ours", "not_in_statement", "85"),
    ]


def test_the_ledger_and_the_journal_have_the_net_of_a_statement(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cash of the ledger and of ``journal.csv`` together change by the net of the statement, fee by fee, once each."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with Ledger.open(url, BOOK) as opened:
        top_up(opened, "pi_order_1", "12", channel="stripe")
    movements = [
        payment("order_1", "12.00", fee=Decimal("0.65"), currency="USD"),
        payment("order_2", "24.00", fee=Decimal("1.00"), currency="USD", account="acct_1"),
        Movement("txn_d", "order_2", "dispute", AT + timedelta(days=1), Decimal(-24), Decimal(15), refund="dp_1"),
        Movement("fee_1", "", "fee", AT, Decimal("-2.00")),
        Movement("=po_1", "", "payout", AT, Decimal("-9.35"), Decimal("0.10")),
        Movement("adj_1", "", "adjustment", AT, Decimal("0.05")),
    ]
    # Files of a statement may overlap.
    (tmp_path / "report.csv").write_bytes(write_stripe([*movements, movements[0], *movements[3:]]))
    (tmp_path / "accounts.yaml").write_text('cash: {stripe: "1012"}\nfees: "6603"\nbank: "1002"\nother: "1221"\n')
    monkeypatch.chdir(tmp_path)
    arguments = ["reconcile", "payments", "report.csv", "--source", "stripe", "--ledger", url, "--out", "out"]
    arguments += ["--prices", str(ROOT / "pricing.yaml"), "--book", "--at", "2026-10-30", "--accounts", "accounts.yaml"]
    for _ in range(2):  # the second run books nothing, and writes the same
        assert main(arguments) == 1
        rows = list(csv.DictReader(Path("out/journal.csv").read_text(encoding="utf-8").splitlines()))
        assert [(row["account"], row["debit"], row["credit"]) for row in rows if row["account"] != "1012"] == [
            ("6603", "0.65", ""),  # that of the second payment is in the ledger
            ("6603", "15.00", ""),
            ("6603", "2.00", ""),
            ("1002", "9.35", ""),
            ("6603", "0.10", ""),
            ("1221", "", "0.05"),
        ]
    cash = sum(Decimal(row["debit"] or 0) - Decimal(row["credit"] or 0) for row in rows if row["account"] == "1012")
    with Ledger.open(url, BOOK) as opened:
        books = period_report([account_books(opened, "acct_1", Period.parse("2026-10"))])
    ledger_cash = next(row.amounts()["cash"] for row in books.totals if row.currency == "USD")
    assert ledger_cash is not None
    assert ledger_cash + cash == sum(each.gross - each.fee for each in movements)


def test_payouts_of_overlapping_files_count_once(ledger: Ledger, tmp_path: Path) -> None:
    """A payout and its rows that two files have are repeated rows, and the payout contains each movement once."""
    movements = [Movement("fee_1", "", "fee", AT, Decimal(-2)), Movement("po_1", "", "payout", AT, Decimal(2))]
    text = write_stripe(movements).decode().replace(",ch_,pi_,,", ",ch_,pi_,po_1,", 1)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
    paths = [str(tmp_path / name) for name in ("a.csv", "b.csv")]
    found = reconcile_payments(paths, "stripe", ledger, BOOK, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert [row["cause"] for row in rows] == ["fee", "payout", "row_repeated", "row_repeated"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["figures"]["payouts"] == [{"id": "po_1", "contained": "-2", "paid_out": "-2"}]
    assert [(each.account, str(each.amount)) for each in found.unbooked] == [("fees", "2.00"), ("bank", "-2.00")]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command exits with 1 while the books disagree, and with 0 after ``--book`` has made them agree."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with Ledger.open(url, BOOK) as opened:
        top_up(opened, "order_1")
    (tmp_path / "bill.csv").write_bytes(write_wechat([payment("order_1"), payment("order_2", account="acct_1")]))
    arguments = ["reconcile", "payments", str(tmp_path / "bill.csv"), "--source", "wechat", "--ledger", url]
    arguments += ["--prices", str(ROOT / "pricing.yaml"), "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "not_booked" in capsys.readouterr().out
    first = (tmp_path / "out" / "rows.csv").read_bytes()
    assert main(arguments) == 1
    assert (tmp_path / "out" / "rows.csv").read_bytes() == first
    assert main([*arguments, "--book", "--at", "2026-11-01"]) == 0
    assert main(arguments) == 0


def test_a_refund_of_used_credits_is_booked_as_a_dispute_once(ledger: Ledger, tmp_path: Path) -> None:
    """The ledger rejects a refund of used Credits. A dispute that was booked for it by hand is its counterpart."""
    top_up(ledger, "order_1")
    ledger.adjust("acct_1", "-90", reason="used", author="test", id="used", at=AT)
    refund = Movement("re_000001", "order_1", "refund", AT + timedelta(hours=1), Decimal("-42.50"), refund="r_1")
    movements = [payment("order_1"), refund]
    row = run(ledger, tmp_path, "wechat", movements, book=True)[1]
    assert (row["state"], row["cause"]) == ("only_theirs", "rejected")
    ledger.dispute("acct_1", "lot_order_1", id="by-hand", at=AT + timedelta(hours=2), pay="42.50")
    row = run(ledger, tmp_path, "wechat", movements, book=True)[1]
    assert (row["state"], row["cause"], row["operation"]) == ("matched", "other_kind", "by-hand")


def test_a_payment_of_another_channel_is_never_credited_again(ledger: Ledger, tmp_path: Path) -> None:
    """``--book`` does not credit a payment that the ledger has on a channel that is not compared."""
    top_up(ledger, "order_1")
    rows = run(ledger, tmp_path, "wechat", [payment("order_1", account="acct_1")], book=True, channels=["stripe"])
    assert [(row["state"], row["cause"]) for row in rows] == [("only_theirs", "other_channel")]
    assert len(ledger.lots("acct_1")) == 1


def test_a_payment_of_another_account_differs(ledger: Ledger, tmp_path: Path) -> None:
    """A payment that names one account and was credited to another differs, although the amounts are equal."""
    top_up(ledger, "order_1")
    ledger.open_account("acct_2", at=AT)
    (row,) = run(ledger, tmp_path, "wechat", [payment("order_1", account="acct_2")])
    assert (row["state"], row["cause"], row["difference"]) == ("differs", "account", "0")


def test_refund_numbers_may_repeat_from_payment_to_payment(ledger: Ledger, tmp_path: Path) -> None:
    """Refunds that their merchant numbers from 1 for each payment are told apart, also when they are booked."""
    top_up(ledger, "order_1")
    top_up(ledger, "order_2", "17")
    refunds = [
        Movement("1", f"order_{n}", "refund", AT + timedelta(hours=n), Decimal(amount))
        for n, amount in ((1, "-8.50"), (2, "-1.70"))
    ]
    movements = [payment("order_1"), payment("order_2", "17.00"), *refunds]
    rows = run(ledger, tmp_path, "alipay", movements, book=True)[2:]
    assert [(row["id"], row["cause"]) for row in rows] == [("tx_1/1", "booked"), ("tx_2/1", "booked")]
    assert {row["state"] for row in run(ledger, tmp_path, "alipay", movements)} == {"matched"}


def test_the_second_payment_of_an_order_is_the_duplicate(ledger: Ledger, tmp_path: Path) -> None:
    """Of two payments of one order, the first is matched, also if the second is closer in time to the top-up."""
    top_up(ledger, "order_1", at=AT + timedelta(minutes=10))
    again = Movement("tx_again", "order_1", "payment", AT + timedelta(minutes=11), Decimal(85), account="acct_1")
    rows = run(ledger, tmp_path, "wechat", [payment("order_1", account="acct_1"), again], book=True)
    assert [(row["id"], row["state"], row["cause"]) for row in rows] == [
        ("tx_1", "matched", ""),
        ("tx_again", "duplicate", "paid_twice"),
    ]
    assert len(ledger.lots("acct_1")) == 1


def test_a_refund_number_of_another_payment_is_no_match(ledger: Ledger, tmp_path: Path) -> None:
    """A refund whose number the ledger has for another payment is not taken for that one."""
    top_up(ledger, "order_1")
    top_up(ledger, "order_2")
    ledger.refund("acct_1", "lot_order_1", id="refund_0001", at=AT, pay="10")
    refund = Movement("re_000002", "order_2", "refund", AT + timedelta(hours=1), Decimal(-10), refund="refund_0001")
    rows = run(ledger, tmp_path, "wechat", [payment("order_1"), payment("order_2"), refund])
    assert [(row["id"], row["state"]) for row in rows[2:]] == [
        ("re_000002", "only_theirs"),
        ("refund_0001", "only_ours"),
    ]
