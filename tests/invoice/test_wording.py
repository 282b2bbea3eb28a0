"""What a bill says beside its usage: title, taxes, terms of payment, decimal places, and the language of its text."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import floor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bill_kit import BOOK, billed, body, header, record, verified, written
from brivionix_billing import BillingError
from brivionix_billing.invoice import (
    Tax,
    TaxTerms,
    add_late_usage,
    aggregate_usage,
    build_invoice,
    build_late_usage,
    build_note,
    build_voiding_note,
    order_changes,
    render_text,
    seal,
)
from brivionix_billing.invoice.aggregation.account_usage import AccountUsage
from brivionix_billing.invoice.taxes import taxes_section
from brivionix_billing.invoice.text_messages import TEXT_MESSAGES
from brivionix_billing.times import Period
from profiles import examples
from samples import code_of
from verify_kit import put

Json = dict[str, Any]
ROWS = [record(n, model=model, usage=body(tokens=700_000 + n)) for n, model in enumerate(["alpha", "beta"], 1)]
USAGE = written(ROWS)
VAT = TaxTerms([Tax("VAT", Decimal("19")), Tax("City", Decimal("0.5"))])
WORDED: Json = {"channel": "rmb", "taxes": VAT, "title": "对账单", "terms": ["14 days net."], "credit_digits": 3}


def rounded(amount: Fraction, digits: int) -> Fraction:
    """Return an amount rounded half away from zero to decimal places."""
    sign = 1 if amount >= 0 else -1
    return sign * Fraction(floor(abs(amount) * 10**digits + Fraction(1, 2)), 10**digits)


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
    amounts = [rounded(cost * Fraction(rate) / whole, digits) for rate in rates]
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
    texts = render_text(bill), render_text(note)
    assert ["after this note minus those before it" in text for text in texts] == [False, True]


def bill_over(usage: bytes, **changes: Any) -> Json:
    """Return the bill over some usage, which may be empty."""
    head = header(**changes)
    accounts = aggregate_usage(usage.splitlines(), BOOK, head.period).accounts
    return build_invoice(accounts.get("acct_1") or AccountUsage("acct_1"), head, BOOK)


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(st.integers(300, 10**7), min_size=3, max_size=4, unique=True), st.booleans(), st.data())
def test_taxes_of_a_bill_with_several_notes_add_up(tokens: list[int], included: bool, data: st.DataObject) -> None:
    """Taxes of a bill, its notes and a voiding note add up to the taxes on their whole cost, after each document."""
    files = [written([record(usage=body(tokens=count))] * (count > 300)) for count in tokens]
    terms = TaxTerms(VAT.taxes, included)
    bill = seal(bill_over(files[0], channel="rmb", taxes=terms))
    documents = [bill]
    voided = data.draw(st.integers(1, len(files) - 2))

    def add(usage: bytes | None) -> None:
        last, earlier = documents[-1], order_changes(bill, documents[1:])
        head = header(number=last["number"] + 1, previous=last)
        if usage is None:
            note = build_voiding_note(bill, documents[voided]["id"], head, "void", earlier)
        else:
            note = build_note(bill, bill_over(usage, number=head.number, previous=last), head, "again", earlier)
        documents.append(seal(note))
        find = {each["id"]: each for each in documents}.get
        assert verified(documents[-1], usage, previous=last, corrects=bill, find=find).ok

    for usage in [*files[1:-1], None, files[-1]]:
        add(usage)
        cost = sum(Fraction(each["totals"]["rounded"]["channels"].get("rmb", "0")) for each in documents)
        whole = 100 + (sum(Fraction(tax.rate) for tax in VAT.taxes) if included else 0)
        for index, tax in enumerate(VAT.taxes):
            amounts = [Fraction(each["taxes"]["lines"][index]["amount"]) for each in documents]
            assert sum(amounts) == rounded(cost * Fraction(tax.rate) / whole, 2)
        for each in documents:
            parts = [each["taxes"]["net"], *(line["amount"] for line in each["taxes"]["lines"])]
            assert sum(map(Fraction, parts)) == Fraction(each["taxes"]["gross"])
        assert len(documents) == 2 or documents[-1]["in_effect"]["taxes"]["gross"] == sum_of_gross(documents)


def sum_of_gross(documents: list[Json]) -> str:
    """Return the sum of the gross amounts of documents, with two decimal places."""
    return str(sum(Decimal(each["taxes"]["gross"]) for each in documents))


def test_late_usage_and_taxes_are_not_on_one_bill() -> None:
    """Late usage of a bill with taxes, or on one, and with other decimal places of Credits is an error."""
    late = aggregate_usage(written([*ROWS, record(3)]).splitlines(), BOOK, header().period).accounts["acct_1"]
    later = {"number": 2, "period": Period.parse("2026-11"), "period_name": "2026-11"}

    def next_bill(first: Json, **changes: Any) -> None:
        bill = billed(USAGE, **first)
        corrected = build_invoice(late, header(credit_digits=first.get("credit_digits", 6)), BOOK)
        section = build_late_usage(bill, corrected)
        assert section is not None
        head = header(**later, previous=bill, **changes)
        add_late_usage(build_invoice(late, head, BOOK), [section], None, BOOK)

    next_bill({"credit_digits": 3}, credit_digits=3)
    for first, changes, message in (
        ({"channel": "rmb", "taxes": VAT}, {}, "late usage of a bill with taxes"),
        ({}, {"channel": "rmb", "taxes": VAT}, "a bill with taxes cannot contain late usage"),
        ({"credit_digits": 3}, {}, "3 decimal places of Credits, but the bill has 6"),
    ):
        with pytest.raises(BillingError, match=message) as caught:
            next_bill(first, **changes)
        assert code_of(caught) == "invalid_argument"


def test_taxes_of_an_inconsistent_bill_are_no_crash() -> None:
    """A note on a bill whose taxes do not belong to its payment is an error with a code."""
    bill = billed(USAGE, channel="rmb", taxes=VAT)
    for path, value, code in (
        (("payment",), None, "invalid_argument"),
        (("payment", "currency"), "JPY", "invalid_money"),
    ):
        with pytest.raises(BillingError) as caught:
            build_note(put(bill, path, value), None, header(number=2, previous=bill), "a reason")
        assert code_of(caught) == code


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
