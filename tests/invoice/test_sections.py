"""Claims about bills that are split into sections by a property of the records."""

from __future__ import annotations

import copy
import io
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bill_kit import BOOK, OCTOBER, header, record, usages, written
from brivionix_billing.errors import BillingError
from brivionix_billing.invoice import Verifier, aggregate_usage, build_invoice, document_hash, render_text, seal
from brivionix_billing.invoice.aggregation.dimensions import Dimensions
from brivionix_billing.invoice.document import schema_errors
from brivionix_billing.pages import bill_page

Json = dict[str, Any]


def split_bill(records: list[Json], by: str = "project") -> Json | None:
    """Return the bill of acct_1, split; ``None`` if nothing is billed."""
    lines = written(records).splitlines(keepends=True)
    found = aggregate_usage(lines, BOOK, OCTOBER, dimensions=Dimensions([by])).accounts.get("acct_1")
    return None if found is None or not found.requests else seal(build_invoice(found, header(split=by), BOOK))


def plain_bill(records: list[Json]) -> Json:
    """Return the same bill without sections."""
    found = aggregate_usage(written(records).splitlines(keepends=True), BOOK, OCTOBER).accounts["acct_1"]
    return seal(build_invoice(found, header(), BOOK))


@given(usages(), st.lists(st.sampled_from(["", "chat", "search", "请求"]), min_size=12, max_size=12))
@settings(max_examples=50)
def test_sections_add_up_to_the_bill_and_change_nothing_else(records: list[Json], projects: list[str]) -> None:
    """Requests, exact and rounded amounts of the sections add up to the totals; all else is the bill without them."""
    tagged = [{**row, "tags": {"project": name}} for row, name in zip(records, projects, strict=False)]
    bill = split_bill(tagged)
    if bill is None:
        return
    assert schema_errors(bill) == []
    parts, totals = bill["sections"]["parts"], bill["totals"]
    assert sum(part["requests"] for part in parts) == totals["requests"]
    assert sum(Fraction(part["credits"]) for part in parts) == Fraction(totals["credits"])
    for name in ("credits", "nominal"):
        assert sum(Fraction(part["rounded"][name]) for part in parts) == Fraction(totals["rounded"][name])
    for name, amount in totals["rounded"]["channels"].items():
        assert sum(Fraction(part["rounded"]["channels"][name]) for part in parts) == Fraction(amount)
    assert [part["name"] for part in parts] == sorted({part["name"] for part in parts})
    plain = plain_bill(tagged)
    assert {key: value for key, value in bill.items() if key not in ("sections", "hash")} == {
        key: value for key, value in plain.items() if key != "hash"
    }


def test_sections_do_not_change_the_digest_of_the_prices() -> None:
    """A section without any token has the rate card of the others: the digest has each card once."""
    unused = {"prompt_tokens": 0, "completion_tokens": 0}
    records = [record(1, usage=unused), {**record(2), "tags": {"project": "chat"}}]
    bill = split_bill(records)
    assert bill is not None
    assert bill["evidence"]["prices"] == plain_bill(records)["evidence"]["prices"]


RECORDS = [record(n, token=f"key {n % 3}") for n in range(1, 12)]


def test_a_split_bill_verifies_and_an_altered_section_does_not() -> None:
    """verify recomputes the sections; a changed, moved or removed one is a difference."""
    bill = split_bill(RECORDS, "token")
    assert bill is not None
    verifier = Verifier(lambda: io.BytesIO(written(RECORDS)), BOOK)
    assert verifier.verify(bill).differences == []
    assert verifier.verify(plain_bill(RECORDS)).differences == []
    for change in ("requests", "name", "removed"):
        altered = copy.deepcopy(bill)
        parts = altered["sections"]["parts"]
        if change == "requests":
            parts[0]["requests"], parts[1]["requests"] = parts[1]["requests"] + 1, parts[0]["requests"] - 1
        elif change == "name":
            parts[0]["name"] = "key 9"
        else:
            parts.pop()
        altered["hash"] = document_hash(altered)
        assert any("sections" in str(each) for each in verifier.verify(altered).differences), change


@pytest.mark.parametrize("by", ["day", "account", "colour", "tag:"])
def test_a_bill_cannot_be_split_by_anything(by: str) -> None:
    """A bill is split by a property of the records; any other column is an error."""
    with pytest.raises(BillingError, match="a bill cannot be split by"):
        header(split=by)


def test_usage_that_is_not_split_is_an_error() -> None:
    """Sections need usage that was aggregated by the same dimension."""
    found = aggregate_usage(written(RECORDS).splitlines(keepends=True), BOOK, OCTOBER).accounts["acct_1"]
    with pytest.raises(BillingError, match="the usage is not split by token"):
        build_invoice(found, header(split="token"), BOOK)


def test_pages_show_the_sections() -> None:
    """The text page and the HTML page name each section with its figures; requests without a value are one of them."""
    bill = split_bill([*RECORDS, record(20)], "token")
    assert bill is not None
    assert "By token" in render_text(bill)
    assert "(none)" in render_text(bill)
    for locale, title in (("en", "Usage by API token"), ("zh_CN", "按API 令牌的用量")):
        page = bill_page(bill, locale=locale)
        assert title in page
        assert 'data-path="sections.parts.1.rounded.credits"' in page
        assert "key 2" in page
