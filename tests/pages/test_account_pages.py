"""The pages of account statements and top-up receipts: figures, languages, hostile texts, accessibility."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from pypdf import PdfReader

from brivionix_billing import Payable
from brivionix_billing.ledger import Ledger
from brivionix_billing.ledger.statements import KIND_LABELS
from brivionix_billing.pages import Party, receipt_page, render_pdf, statement_page
from brivionix_billing.pages.account_messages import ACCOUNT_MESSAGES
from brivionix_billing.times import Period
from ledger_kit import body, charge, later, opened, payment, refused, with_credits
from pages_kit import opened as in_browser
from pages_kit import violations

Json = dict[str, Any]
MARKUP = "<script>alert(1)</script>"
ISSUER = Party("Example GmbH", "DE123456789", ["Hauptstr. 1"])
PERIOD = Period.parse("2026-11", "Asia/Shanghai")


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    """A ledger with a payment of each kind, and usage of two models."""
    with opened("sqlite://") as ledger:
        with_credits(ledger)
        tax, coupon = Payable("2.40", "USD"), Payable("1.00", "USD")
        ledger.receive_payment("acct", payment("14.40", 1, "pi_2", tax=tax, coupon=coupon), id="lot_2", at=later(2))
        ledger.refund("acct", "lot_2", id="refund", at=later(3), credits="25")
        ledger.dispute("acct", "lot-acct", id="dispute", at=later(4))
        ledger.reverse("acct", "dispute", id="won", at=later(5), reason=MARKUP)
        for number, model in enumerate(("gpt-5.4", "gpt-5.4-mini", "gpt-5.4")):
            at = later(3600 * number)
            ledger.charge("acct", charge(at=at, model=model), usage=body(), id=f"c{number}", at=at)
        ledger.hold("acct", "1", id="open", at=later(9000))
        yield ledger


@pytest.fixture(scope="module")
def statement(ledger: Ledger) -> Json:
    """The statement of the month."""
    return ledger.statement("acct", PERIOD).as_dict()


@pytest.fixture(scope="module")
def receipt(ledger: Ledger) -> Json:
    """The receipt of the payment with tax."""
    return ledger.top_up_receipt("acct", "lot_2").as_dict()


def rows(html: str) -> list[list[str]]:
    """Return the cells of all table rows."""
    cells = re.compile(r"<t[hd][^>]*>(.*?)</t[hd]>", re.DOTALL)
    text = re.compile("<[^>]*>")
    return [
        [unescape(text.sub(" ", cell)).strip() for cell in cells.findall(row)]
        for row in re.findall(r"<tr[^>]*>(.*?)</tr>", html, re.DOTALL)
    ]


def test_statement_payments_are_the_payments(ledger: Ledger) -> None:
    """The payments of statements add up to gross less refunded, and to its tax, of every payment."""
    moved = ledger.statement("acct", PERIOD).payments
    for paid in ledger.payments("acct"):
        of_lot = [movement for movement in moved if movement.lot == paid.lot]
        assert sum(movement.gross.minor for movement in of_lot) == paid.gross.minor - paid.refunded.minor
        assert sum(movement.tax.minor for movement in of_lot) == paid.tax.minor - paid.tax_refunded.minor


def test_the_statement_has_tax_lines_and_adds_up(statement: Json) -> None:
    """The page has a row for each payment, with tax, and their sums; the Credits add up to the closing balance."""
    table = rows(statement_page(statement, issuer=ISSUER))
    assert ["Top-up", "2026-11-01", "stripe · pi_2", "12.00", "2.40", "14.40 USD"] in table
    assert ["Refund", "2026-11-01", "stripe · pi_2", "-2.77", "-0.55", "-3.32 USD"] in table
    assert ["Total, USD", "", "", "9.23", "1.85", "11.08"] in table
    assert ["Total, CNY", "", "", "85.00", "0.00", "85.00"] in table
    start = next(index for index, row in enumerate(table) if row[0] == "Opening balance")
    end = next(index for index, row in enumerate(table) if row[0] == "Closing balance")
    changes = [Decimal(row[3]) for row in table[start:end]]
    assert sum(changes) == Decimal(table[end][3]) == Decimal(statement["closing"])


def test_the_receipt_states_price_tax_and_refunds(receipt: Json) -> None:
    """Price, discount, tax and amount paid add up, and so do the refunds; a tax may have a name."""
    page = receipt_page(receipt, issuer=ISSUER, tax_name="VAT 20 %")
    assert rows(page) == [
        ["Price of 108.333333 Credits", "13.00"],
        ["Discount", "-1.00"],
        ["Net amount", "12.00"],
        ["VAT 20 %", "2.40"],
        ["Amount paid", "14.40"],
        ["Refund 2026-11-01 of it VAT 20 % -0.55", "-3.32"],
        ["Amount paid after refunds", "11.08"],
    ]
    assert "not a tax invoice" not in page


def test_a_receipt_without_tax_is_no_tax_invoice(ledger: Ledger) -> None:
    """A receipt of a payment without tax says that it is not a tax invoice."""
    page = receipt_page(ledger.top_up_receipt("acct", "lot-acct").as_dict(), issuer=ISSUER)
    assert "This is not a tax invoice." in page


def test_days_are_those_of_the_zone(receipt: Json) -> None:
    """A payment late in the evening of UTC is of the next day in Shanghai."""
    late = {**receipt, "at": "2026-11-01T20:00:00Z"}
    days = [
        re.search(r"<dd>(2026-11-\d\d)", receipt_page(late, issuer=ISSUER, zone=zone)) for zone in ("UTC", PERIOD.zone)
    ]
    assert [day and day[1] for day in days] == ["2026-11-01", "2026-11-02"]


def test_the_messages_are_complete() -> None:
    """Both languages have the same messages, and one for every kind of movement."""
    english, chinese = ACCOUNT_MESSAGES["en"], ACCOUNT_MESSAGES["zh_CN"]
    assert english.keys() == chinese.keys()
    assert {f"kind_{kind}" for kind in KIND_LABELS} <= english.keys()
    places = re.compile(r"\{\w+\}")
    assert all(set(places.findall(text)) == set(places.findall(chinese[key])) for key, text in english.items())


def test_the_pdf_is_the_page(receipt: Json) -> None:
    """The PDF of a receipt has the figures and the Chinese words of the page."""
    pdf = PdfReader(io.BytesIO(render_pdf(receipt_page(receipt, issuer=ISSUER, locale="zh_CN"))))
    text = pdf.pages[0].extract_text()
    assert len(pdf.pages) == 1
    assert all(part in text for part in ("充值收据", "税费", "14.40", "11.08", "DE123456789"))


def test_hostile_texts_are_escaped(statement: Json) -> None:
    """Markup and marks of direction in reasons and names are shown, and change nothing."""
    altered = {**statement, "movements": [{**row, "label": f"{row['label']}\u202e"} for row in statement["movements"]]}
    page = statement_page(altered, issuer=ISSUER, customer=Party("<b>Ada</b>"))
    assert "<script>alert" not in page
    assert "<b>Ada" not in page
    assert "\u202e" not in page
    with refused("invalid_argument"):
        statement_page(statement, issuer=Party("Ada\u202e"))


@pytest.mark.parametrize(
    "change", [{"payments": 5}, {"closing": "x"}, {"usage": [{}]}, {"zone": "Nowhere"}, {"from": ""}]
)
def test_other_values_are_refused(statement: Json, change: Json) -> None:
    """Values that are no statement are an error, not a traceback."""
    with refused("invalid_document"):
        statement_page({**statement, **change}, issuer=ISSUER)


@pytest.mark.parametrize(("width", "scheme", "locale"), [(390, "light", "zh_CN"), (1280, "dark", "en")])
@pytest.mark.parametrize("render", [statement_page, receipt_page])
def test_axe_finds_nothing(
    browser: Browser,
    tmp_path: Path,
    statement: Json,
    receipt: Json,
    width: int,
    scheme: Any,
    locale: str,
    render: Callable[..., str],
) -> None:
    """The pages have no accessibility violations, ask for nothing, and fit the width of a phone."""
    values = statement if render is statement_page else receipt
    page = render(values, issuer=ISSUER, customer=Party("Ada"), locale=locale)
    options: Json = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    with in_browser(browser, tmp_path / "s.html", page, **options) as tab:
        assert violations(tab.page) == []
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("locale", "account"), [("en", "the account itself"), ("zh_CN", "账户本身")])
def test_the_usage_of_members_is_a_table(statement: Json, locale: str, account: str) -> None:
    """It has one row per member and one for the account itself; names are escaped; without members it is absent."""
    line = {"requests": 2, "estimated": 0, "input_tokens": 5, "cache_read_tokens": 1, "output_tokens": 3}
    members = [{"member": "", **line, "credits": "1.5"}, {"member": MARKUP, **line, "credits": "2"}]
    html = statement_page({**statement, "members": members}, issuer=ISSUER, locale=locale)
    assert [MARKUP, "2", "5", "1", "3", "2"] in rows(html)
    assert [account, "2", "5", "1", "3", "1.5"] in rows(html)
    assert MARKUP not in html
    assert account not in statement_page(statement, issuer=ISSUER, locale=locale)
