"""The exports of the ledger: contents, hostile names, mappings, errors. Their laws are in the laws of the ledger."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from brivionix_billing import BillingError, Money
from brivionix_billing.cli import main
from brivionix_billing.exports import account_books, journal_csv, period_report, read_account_mapping
from brivionix_billing.exports.beancount import beancount_name
from brivionix_billing.exports.hledger import hledger_name
from brivionix_billing.exports.transactions import Id
from brivionix_billing.ledger import Entry, Ledger, Statement
from brivionix_billing.times import Period
from exports_kit import HAS_BEANCOUNT, HAS_HLEDGER, check_exports, check_tools, exports, run_tool
from ledger_kit import NOW, later, opened, quote, with_credits

NOVEMBER = Period.parse("2026-11", "Asia/Shanghai")
DAY = 86_400
HOSTILE = (
    '客户 "x"{;=cmd',
    "=cmd|' /C calc'!A0",
    "a:b  c;d (e) [f] #g|h",
    "\\n\\",
    "-1",
    "acct__7",
    "acct_7",
    "ACCT-7",
)


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    """Yield a ledger in which everything happened to accounts with hostile names."""
    with opened("sqlite://") as ledger:
        for number, account in enumerate(HOSTILE):
            with_credits(ledger, account=account)
            ledger.top_up(account, quote("20", "stripe"), reference=f"=pi|{account}", id=f'{account}"2', at=later(9))
            ledger.grant(account, "5", reason="gift", id=f"grant {account}", at=later(10), expires=later(3 * DAY))
            ledger.charge(account, f"{7 + number}.123456789", id=f"c1{account}", at=later(DAY))
            ledger.charge(account, "300", id=f"c2{account}", at=later(2 * DAY))
            ledger.top_up(account, quote("300"), reference=f"last {account}", id=f"{account}3", at=later(4 * DAY))
            ledger.dispute(account, f'{account}"2', id=f"d{account}", at=later(5 * DAY))
            ledger.refund(account, f"{account}3", pay="10.00", id=f"r{account}", at=later(6 * DAY))
            ledger.adjust(account, "-1", reason="slip", author="ada", id=f"a{account}", at=later(7 * DAY))
            ledger.reverse(account, f"d{account}", id=f"v{account}", at=later(8 * DAY), reason="won")
        yield ledger


def test_hostile_names_balance_in_all_exports(ledger: Ledger) -> None:
    """Names with quotes, braces, colons and signs of formulas break no export, and no two of them are one account."""
    check_exports(ledger, NOW, later(9 * DAY))
    for name in (beancount_name, hledger_name):
        assert len({name(("Liabilities", "Customers", Id(account))) for account in HOSTILE}) == len(HOSTILE)


def test_control_characters_stay_in_their_line(ledger: Ledger) -> None:
    """A line end in a name, which only an altered ledger can have, adds no line to a file."""
    books = account_books(ledger, "acct_7", NOVEMBER)
    attack = replace(books, account='x\n2026-01-01 open "', bookings=[replace(books.bookings[0], account='x\n"y')])
    from brivionix_billing.exports import beancount_lines, hledger_lines

    for lines in (
        beancount_lines([attack], "2026-11-01", "2026-12-01"),
        hledger_lines([attack], "2026-11-01", "2026-12-01"),
    ):
        assert not [line for line in lines if "\n" in line]


@pytest.mark.skipif(not HAS_BEANCOUNT, reason="beancount is not installed")
def test_bean_check_finds_a_wrong_amount(ledger: Ledger) -> None:
    """The balance assertions are checked: one more Credit in a posting is an error of bean-check."""
    from beancount.loader import load_string

    text = exports(ledger, NOVEMBER)[0]
    assert load_string(text)[1] == []
    assert load_string(text.replace("  5 CREDIT", "  5.1 CREDIT"))[1]


@pytest.mark.skipif(not HAS_HLEDGER, reason="hledger is not installed")
def test_hledger_reports_the_balances_of_the_ledger(ledger: Ledger, tmp_path: Path) -> None:
    """``hledger balance`` of a customer is the balance of ``ledger balance``: available and held, less the debt."""
    path = tmp_path / "ledger.journal"
    path.write_text(exports(ledger, NOVEMBER)[1], encoding="utf-8")
    rows = csv.reader(io.StringIO(run_tool("hledger", "bal", "-O", "csv", "--depth", "3", "-f", path=path)))
    shown = {name: Fraction(amount.split()[0]) for name, amount in rows if name.startswith("liabilities:customers")}
    for account in HOSTILE:
        balance = ledger.balance(account, at=NOVEMBER.end)
        name = hledger_name(("Liabilities", "Customers", Id(account)))
        assert shown.get(name, 0) == -(Fraction(balance.available) + Fraction(balance.held) - Fraction(balance.owed))


def test_the_journal_uses_the_accounts_of_the_mapping(ledger: Ledger, tmp_path: Path) -> None:
    """Each money account is mapped, for all channels or by channel, and texts of formulas are quoted."""
    path = tmp_path / "accounts.yaml"
    path.write_text(
        'cash: {rmb: "1002.10", stripe: 1003}\ndeferred: "2203"\nusage: "6001"\n'
        'breakage: "=6002"\ncorrections: "6603"\n'
    )
    books = [account_books(ledger, account, NOVEMBER) for account in ledger.accounts()]
    rows = list(csv.DictReader(io.StringIO(journal_csv(books, read_account_mapping(path)))))
    assert {row["account"] for row in rows} == {"1002.10", "1003", "2203", "6001", "6603"}
    assert [row["date"] for row in rows] == sorted(row["date"] for row in rows)
    for currency in ("CNY", "USD"):
        ours = [row for row in rows if row["currency"] == currency]
        assert sum(Decimal(row["debit"] or 0) for row in ours) == sum(Decimal(row["credit"] or 0) for row in ours) > 0
    assert not any(row[name].startswith("=") for row in rows for name in ("text", "id"))


@pytest.mark.parametrize(
    "text",
    [
        "[]\n",
        "cash: a\ndeferred: b\nusage: c\nbreakage: d\ncorrections: 1002.10\n",
        "cash: a\ndeferred: b\nusage: c\nbreakage: d\ncorrections: e\nrent: f\n",
        "cash: a\ncash: b\n",
    ],
)
def test_a_mapping_with_mistakes_is_rejected(tmp_path: Path, text: str) -> None:
    """A mapping with a missing, unknown or repeated key, or an account number that YAML would change, is an error."""
    path = tmp_path / "accounts.yaml"
    path.write_text(text)
    with pytest.raises(BillingError) as caught:
        read_account_mapping(path)
    assert caught.value.code == "invalid_document"


def test_a_channel_without_an_account_is_an_error(ledger: Ledger) -> None:
    """A mapping that has no account for a channel drops nothing: it is an error that names the channel."""
    books = [account_books(ledger, "acct_7", NOVEMBER)]
    accounts = {name: {"rmb": "1"} for name in ("cash", "deferred", "usage", "breakage", "corrections")}
    with pytest.raises(BillingError, match="channel 'stripe'"):
        journal_csv(books, accounts)


def test_the_report_adds_up_by_kind(ledger: Ledger) -> None:
    """The report has cash, revenue, breakage and debts, each of which is the sum of the entries of its kind."""
    report = period_report([account_books(ledger, "acct_7", NOVEMBER)])
    rows = {row.currency: row.as_dict() for row in report.rows}
    # 85 + 300 paid, 10 refunded; a Credit costs 0.85, and the stripe lot of 20 USD was disputed and won back.
    assert [rows["CNY"][name] for name in ("opening", "received", "refunded", "disputed")] == [
        "0.00",
        "385.00",
        "-10.00",
        "0.00",
    ]
    assert [rows["USD"][name] for name in ("received", "disputed", "reversed", "cash")] == [
        "20.00",
        "-20.00",
        "20.00",
        "20.00",
    ]
    assert [rows["Credits"][name] for name in ("granted", "expired", "corrected")] == ["5", "0", "-1"]
    assert rows["CNY"]["corrected"] == "-0.85"
    for row in report.rows:
        amounts = row.amounts()
        if row.currency != "Credits":
            assert amounts["revenue"] == -sum(amounts[name] or 0 for name in ("used", "expired", "corrected"))


def test_unknown_entries_are_errors(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry of a kind, a subaccount or a lot change that the exports do not know is never left out."""
    entries = list(ledger.journal("acct_7"))
    top_up = next(entry for entry in entries if entry.kind == "top_up")
    for altered, what in (
        (replace(top_up, kind="gift"), "kind 'gift'"),
        (replace(top_up, postings={**top_up.postings, "lent": 0}), "subaccount 'lent'"),
        (replace(top_up, lot_deltas=(top_up.lot_deltas[0]._replace(kind="moved"),)), "change 'moved'"),
        (replace(top_up, lot_deltas=()), "change of the balance"),
    ):
        monkeypatch.setattr(Ledger, "journal", lambda *_, after=0, altered=altered: iter([] if after else [altered]))
        with pytest.raises(BillingError, match=what) as caught:
            account_books(ledger, "acct_7", NOVEMBER)
        assert caught.value.code == "journal_broken"


def test_money_that_lots_do_not_explain_is_an_error(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """If an entry has money of an unknown account, or other cash than its lot, the exports report it."""
    real = Entry.money
    for account in ("bonus", "cash"):
        monkeypatch.setattr(Entry, "money", lambda self, name=account: {**real(self), "EUR": {name: Money("1", "EUR")}})
        with pytest.raises(BillingError, match=f"money account '{account}'"):
            account_books(ledger, "acct_7", NOVEMBER)


def test_tax_and_fees_are_apart_from_the_money_of_the_lot(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tax on a payment and the fee of its channel change the cash, but not deferred revenue; all exports balance."""
    real = Entry.money

    def money(self: Entry) -> dict[str, dict[str, Money]]:
        accounts = real(self)
        if self.id == "acct_73":  # 300 CNY without tax, 18 CNY tax, and a fee of 2 CNY
            extra = {
                "tax": Money("-18", "CNY"),
                "fees": Money("2", "CNY"),
                "cash": accounts["CNY"]["cash"] + Money("16", "CNY"),
            }
            accounts["CNY"] |= extra
        return accounts

    before = period_report([account_books(ledger, "acct_7", NOVEMBER)]).rows[0].as_dict()
    monkeypatch.setattr(Entry, "money", money)
    check_tools(*exports(ledger, NOVEMBER)[:2])
    books = account_books(ledger, "acct_7", NOVEMBER)
    row = period_report([books]).rows[0].as_dict()
    assert (row["tax"], row["fees"]) == ("18.00", "2.00")
    assert Decimal(row["cash"]) - Decimal(before["cash"]) == 16
    assert {**row, "tax": 0, "fees": 0, "cash": 0} == {**before, "tax": 0, "fees": 0, "cash": 0}
    rows = [row for row in csv.DictReader(io.StringIO(journal_csv([books]))) if row["id"] == "acct_73"]
    assert {row["account"]: row["debit"] or f"-{row['credit']}" for row in rows} == {
        "Cash": "316.00",
        "Payment fees": "2.00",
        "Tax payable": "-18.00",
        "Deferred revenue": "-264.76",
        "Revenue from usage": "-35.24",  # of the debt that the payment settled
    }


def test_books_that_differ_from_the_statement_are_an_error(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The opening and the closing balance are compared with those of the statement, which adds up other tables."""
    real = Ledger.statement
    for name in ("opening", "closing"):
        altered = {name: Decimal("0.000000000000000001")}
        monkeypatch.setattr(Ledger, "statement", lambda *args, altered=altered: replace(real(*args), **altered))
        with pytest.raises(BillingError, match=f"the {name} of its statement is 0.000000000000000001") as caught:
            account_books(ledger, "acct_7", NOVEMBER)
        assert caught.value.code == "journal_broken"


def test_an_entry_that_is_posted_meanwhile_is_in_the_books(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a charge is posted between reading the journal and the statement, both are read again."""
    real = Ledger.statement
    waiting = ["late"]

    def statement(*args: Any) -> Statement:
        if waiting:
            ledger.charge("acct_7", "1", id=waiting.pop(), at=later(9 * DAY))
        return real(*args)

    before = account_books(ledger, "acct_7", NOVEMBER).closing.net
    monkeypatch.setattr(Ledger, "statement", statement)
    assert account_books(ledger, "acct_7", NOVEMBER).closing.net == before - 10**18


def test_a_period_has_whole_days(ledger: Ledger) -> None:
    """A period that starts within a day of its zone is an error, because books have dates."""
    with pytest.raises(BillingError) as caught:
        account_books(ledger, "acct_7", Period.parse("2026-11-01T08:00:00Z/2026-12-01"))
    assert caught.value.code == "invalid_period"


def test_a_late_request_is_a_debt_until_its_lot_is_opened() -> None:
    """A request from before the top-up that pays for it changes the balance on its own day, as in the statement."""
    with opened("sqlite://") as ledger:
        ledger.open_account("acct", at=NOW)
        ledger.grant("acct", "1", reason="gift", id="g", at=NOW)
        ledger.hold("acct", "1", id="req", at=NOW)
        ledger.top_up("acct", quote("85"), reference="p", id="lot", at=later(DAY))
        late = ledger.settle("req", "3", at=later(DAY))
        assert late.at == NOW
        check_exports(ledger, NOW, later(2 * DAY))


def test_commands_write_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands write the same as the functions, and the workbook has both sheets."""
    monkeypatch.chdir(tmp_path)
    with opened("sqlite:///ledger.db") as ledger:
        with_credits(ledger)
        ledger.charge("acct", "40", id="c", at=later(DAY))
        ledger.hold("acct", "1", id="h", at=later(DAY))
        beancount, hledger, journal, _ = exports(ledger, NOVEMBER)
    period = ("--period", "2026-11", "--zone", "Asia/Shanghai")
    for kind, expected in (("beancount", beancount), ("hledger", hledger), ("journal", journal)):
        assert main(["export", kind, *period, "--out", "out"]) == 0
        assert Path("out").read_text(encoding="utf-8") == expected
        assert "account acct has 1 open hold" in capsys.readouterr().err
        assert main(["export", kind, *period]) == 0
        assert capsys.readouterr().out == expected
        assert main(["export", kind]) == 0  # from the first entry to today
        assert "2026-11-01" in capsys.readouterr().out
    assert main(["ledger", "report", *period, "--format", "csv"]) == 0
    row = next(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert (row["received"], row["used"], row["closing"], row["revenue"]) == ("85.00", "-34.00", "51.00", "34.00")
    openpyxl = pytest.importorskip("openpyxl")
    assert main(["ledger", "report", *period, "--format", "xlsx", "--out", "r.xlsx"]) == 0
    sheets = openpyxl.load_workbook("r.xlsx")
    assert sheets.sheetnames == ["Totals", "Accounts"]
    assert [cell.value for cell in sheets["Accounts"][2]][:5] == ["acct", "rmb", "CNY", 0, 85]
    assert main(["ledger", "report", *period, "--format", "xlsx"]) == 2
