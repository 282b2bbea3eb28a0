"""Claims about the page of a report."""

from __future__ import annotations

import re

import pytest

from bill_kit import body, record
from brivionix_billing import PriceBook
from brivionix_billing.errors import CODES, BillingError
from brivionix_billing.report import report_page
from brivionix_billing.report.messages import MESSAGES
from brivionix_billing.report.rejections import ADVICE
from report_kit import COSTS, cost_text, report

RECORDS = [record(n, account=f"acct_{n % 3}") for n in range(1, 12)]


def text_of(page: str) -> str:
    """Return the visible text of a page."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page[page.index("<main") :]))


@pytest.mark.parametrize("locale", ["en", "zh_CN"])
def test_the_page_shows_every_section_and_loads_nothing(locale: str) -> None:
    """Charts over time, by model and account, savings, margin and other prices are in one file without a script."""
    other = PriceBook.loads(cost_text(ratio="2"))
    found = report(
        [*RECORDS, record(89, model="beta"), record(90, model="gpt-9")], "account,model", costs=COSTS, compare=other
    )
    page = report_page(found, locale=locale)
    words = MESSAGES[locale]
    for name in ("by_model", "by_account", "savings", "rows_margin", "compared", "losses", "not_billed"):
        assert words[name] in page, name
    assert page.count("<svg") >= 6
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "default-src 'none'" in page.policy
    assert "unknown_model" in text_of(page)


def test_the_figures_of_the_page_are_those_of_the_report() -> None:
    """The page shows the rounded figures of each row and of the total, as the bills do."""
    found = report(RECORDS, "account")
    shown = text_of(report_page(found))
    for sums in (*found.rows.values(), found.total):
        assert f"{sums.rounded_credits / 10**6:,.6f}" in shown
        assert f"{sums.rounded_money['rmb'] / 100:,.2f}" in shown


def test_names_are_escaped() -> None:
    """A name with markup is text on the page."""
    page = report_page(report([record(1, account="<img src=x onerror=alert(1)>")], "account"))
    assert "<img" not in page
    assert "&lt;img" in page


def test_a_report_without_usage_has_a_page() -> None:
    """No record is no error; a long report says how many rows it leaves out; an unknown language is an error."""
    assert MESSAGES["en"]["title"] in report_page(report([], "account"))
    many = [
        record(n, account=f"a{n}", usage=body(tokens=5, cached=0, out=1), at="2026-10-02T00:00:00Z")
        for n in range(1005)
    ]
    assert "The first 1000 of 1005 rows" in report_page(report(many, "account"))
    with pytest.raises(BillingError, match="fr"):
        report_page(report([], "account"), locale="fr")


def test_both_languages_have_the_same_messages() -> None:
    """English and Chinese have the same keys and placeholders."""
    assert ADVICE["en"].keys() == ADVICE["zh_CN"].keys() <= CODES.keys()
    english, chinese = MESSAGES["en"], MESSAGES["zh_CN"]
    assert english.keys() == chinese.keys()
    for key, text in english.items():
        assert sorted(re.findall(r"\{\w*\}", text)) == sorted(re.findall(r"\{\w*\}", chinese[key])), key
