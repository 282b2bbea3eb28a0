"""What a bill says beside its usage: title, taxes, terms of payment, decimal places, and the language of its text."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import floor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bill_kit import BOOK, billed, body, header, record, verified, written
from brivionix_billing import BillingError
from brivionix_billing.invoice import Tax, TaxTerms, aggregate_usage, build_invoice, build_note, render_text, seal
from brivionix_billing.invoice.taxes import taxes_section
from brivionix_billing.invoice.text_messages import TEXT_MESSAGES
from samples import code_of
from verify_kit import put

Json = dict[str, Any]
ROWS = [record(n, model=model, usage=body(tokens=700_000 + n)) for n, model in enumerate(["alpha", "beta"], 1)]
USAGE = written(ROWS)
VAT = TaxTerms([Tax("VAT", Decimal("19")), Tax("City", Decimal("0.5"))])
WORDED: Json = {"channel": "rmb", "taxes": VAT, "title": "对账单", "terms": ["14 days net."], "credit_digits": 3}


@given(
    st.integers(-(10**12), 10**12),
    st.lists(st.decimals(0, 100, places=3), min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from([("CNY", 2), ("JPY", 0)]),
)
def test_taxes_are_rounded_once_and_add_up(units: int, rates: list[Decimal], included: bool, money: Any) -> None:
    """Each tax is the exact fraction of the cost, rounded half up (away from zero); net plus taxes is gross."""
    currency, digits = money
    cost = Fraction(units, 10**digits)
    text = f"{Decimal(units).scaleb(-digits):f}"
    section = taxes_section(TaxTerms([Tax("t", rate) for rate in rates], included), text, currency)
    whole = 100 + (sum(map(Fraction, rates)) if included else 0)
    amounts = []
    for rate in rates:
        exact = abs(cost) * Fraction(rate) / whole * 10**digits
        amounts.append(Fraction(floor(exact + Fraction(1, 2)), 10**digits) * (1 if units >= 0 else -1))
    assert [Fraction(line["amount"]) for line in section["lines"]] == amounts
    assert Fraction(section["net"]) + sum(amounts) == Fraction(section["gross"])
    assert Fraction(section["gross" if included else "net"]) == cost


def test_a_worded_bill_verifies() -> None:
    """A bill with title, terms, taxes and other decimal places verifies, and its lines have these decimal places."""
    bill = billed(USAGE, **WORDED)
    assert verified(bill, USAGE).ok
    assert (bill["title"], bill["terms"], bill["taxes"]["lines"][0]["rate"]) == ("对账单", ["14 days net."], "19")
    assert {len(line["rounded"]["credits"].partition(".")[2]) for line in bill["lines"]} == {3}


@pytest.mark.parametrize(
    "path", [("taxes", "net"), ("taxes", "gross"), ("taxes", "lines", 1, "amount"), ("taxes", "lines", 0, "base")]
)
def test_an_altered_tax_is_a_difference(path: tuple[Any, ...]) -> None:
    """Verifying recomputes every amount of the taxes, also if the hash was recomputed."""
    altered = put(billed(USAGE, **WORDED), path, "7.77")
    assert [each.where for each in verified(altered, USAGE).differences if each.where.startswith("taxes")] != []


def test_taxes_require_a_channel_of_payment() -> None:
    """Taxes without a channel of payment are an error, and ``verify`` reports a document that has both removed."""
    with pytest.raises(BillingError, match="channel of payment") as caught:
        billed(USAGE, taxes=VAT)
    assert code_of(caught) == "invalid_argument"
    bill = billed(USAGE, **WORDED)
    assert not verified(seal({**put(bill, ("payment",), None)}), USAGE).ok


@pytest.mark.parametrize("included", [False, True])
def test_the_taxes_of_bill_and_note_add_up(included: bool) -> None:
    """Taxes of a bill and of its note add up to those of the corrected bill, and the note verifies."""
    terms = TaxTerms(VAT.taxes, included)
    bill = billed(USAGE, channel="rmb", taxes=terms)
    right = billed(written(ROWS[:1]), channel="rmb", taxes=terms)
    head = header(number=2, previous=bill)
    usage = aggregate_usage(written(ROWS[:1]).splitlines(), BOOK, head.period).accounts["acct_1"]
    note = seal(build_note(bill, build_invoice(usage, head, BOOK), head, "one record too many"))
    for name in ("net", "gross"):
        assert sum(Decimal(each["taxes"][name]) for each in (bill, note)) == Decimal(right["taxes"][name])
    for index in range(2):
        amounts = [Decimal(each["taxes"]["lines"][index]["amount"]) for each in (bill, note, right)]
        assert amounts[0] + amounts[1] == amounts[2]
    assert verified(note, written(ROWS[:1]), previous=bill, corrects=bill).ok
    cancelled = seal(build_note(bill, None, head, "cancelled"))
    assert Decimal(cancelled["taxes"]["gross"]) == -Decimal(bill["taxes"]["gross"])


@pytest.mark.parametrize(
    ("changes", "title", "statement"),
    [
        ({}, "Usage statement", True),
        ({"due": header().issued}, "Invoice", False),
        ({"channel": "rmb", "taxes": VAT}, "Invoice", False),
        ({"title": "Invoice of October"}, "Invoice of October", True),
    ],
)
def test_a_prepaid_bill_without_tax_is_no_tax_invoice(changes: Json, title: str, statement: bool) -> None:
    """A prepaid bill without taxes is a usage statement, and says that it is no tax invoice whatever its title."""
    page = render_text(billed(USAGE, **changes))
    assert page.startswith(f"{title} INV-000001\n")
    assert ("not a tax invoice" in page) is statement


def test_the_text_has_the_language_and_the_currency_of_the_bill() -> None:
    """The text is in the requested language, with the channel of payment only, or with all channels on request."""
    bill = billed(USAGE, **WORDED)
    page = render_text(bill, locale="zh_CN")
    for part in ("客户", "税费", "City，税率 0.5%", "付款条款", "14 days net.", "未签名", "CNY (rmb)"):
        assert part in page
    assert "stripe" not in page
    assert "USD (stripe)" in render_text(bill, all_channels=True)
    assert TEXT_MESSAGES["en"].keys() == TEXT_MESSAGES["zh_CN"].keys()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Tax.parse("VAT"),
        lambda: TaxTerms([]),
        lambda: TaxTerms([Tax("", Decimal(1))]),
        lambda: TaxTerms([Tax("VAT", Decimal(101))]),
        lambda: TaxTerms([Tax("VAT", Decimal("0.0000001"))]),
        lambda: header(credit_digits=19),
        lambda: header(title=""),
        lambda: header(terms=["\n"]),
    ],
)
def test_invalid_wording_is_refused(make: Any) -> None:
    """A tax without a rate, a rate out of range, empty texts and too many decimal places are errors."""
    with pytest.raises(BillingError) as caught:
        make()
    assert code_of(caught) == "invalid_argument"
