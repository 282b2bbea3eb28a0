"""Verification: every change of the billed usage and of past prices is found; other changes do not matter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bill_kit import BOOK, OCTOBER, TEXT, billed, body, loaded, record, text, verified, written
from brivionix_billing import BillingError, PriceBook
from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.invoice import aggregate_usage
from brivionix_billing.invoice.aggregation.partition_records import format_record_list
from verify_kit import BILL, USAGE, refused, tampered

# --- the usage ---


def list_of(usage: bytes, folder: Path) -> Path:
    """Write the list of records of a bill, and return its path."""
    path = folder / "records.txt"
    with path.open("w", encoding="utf-8") as file:

        def write(account: str, leaves: list[bytes], ids: list[str]) -> None:
            file.write(format_record_list(leaves, ids))

        aggregate_usage(usage.splitlines(), BOOK, OCTOBER, account="acct_1", on_leaves=write)
    return path


RECORDS = {
    "chat": record(3),
    "responses": record(1),
    "whole": record(2),
    "searches": record(90, usage=body("whole", output=[{"type": "web_search_call"}])),
}


@pytest.mark.parametrize("format", RECORDS)
def test_every_altered_value_of_a_record_is_found(format: str, tmp_path: Path) -> None:
    """One value of a record that is changed, removed or added is found, and the record is named."""
    row = RECORDS[format]
    rows = [row, record(7), record(8)]
    document, listed = billed(written(rows)), list_of(written(rows), tmp_path)
    assert verified(document, written(rows), records=listed).ok
    for what, changed in tampered(row):
        usage = written([changed, *rows[1:]])
        if "float" not in what and json.loads(json.dumps(changed)) == row:
            continue
        if canonical_json(changed) == canonical_json(row):
            continue  # 7.0 instead of 7 is the same number in JSON
        report = refused(document, usage, records=listed)
        assert any(d.where == f"record {row['request_id']}" for d in report.differences), what


def test_a_removed_added_or_repeated_record_is_named(tmp_path: Path) -> None:
    """A removed, added, repeated or conflicting record is found and named."""
    rows = [record(n) for n in (1, 2, 3, 4)]
    document, listed = billed(written(rows)), list_of(written(rows), tmp_path)
    for usage, name, message in (
        (rows[:-1], "req_4", "may have been removed"),
        ([*rows, record(5)], "req_5", "not in the bill"),
        ([*rows, record(2)], "req_2", "repeated"),
        ([*rows, record(2, group="half")], "req_2", "different contents"),
        ([*rows[:-1], record(4, model="gone")], "req_4", "no model"),
    ):
        report = refused(document, written(usage), records=listed)
        assert [d for d in report.differences if d.where == f"record {name}" and message in str(d)], (name, message)
        assert refused(document, written(usage)).differences
    nothing = refused(document, b"", records=listed)
    assert {f"record req_{n}" for n in (1, 2, 3, 4)} <= {d.where for d in nothing.differences}


def test_records_out_of_scope_do_not_matter() -> None:
    """Records of other accounts and of other months may be added and removed."""
    rows = [record(1), record(2, account="acct_2"), record(3, at="2026-09-01T00:00:00Z")]
    document = billed(written(rows))
    assert verified(document, written([rows[0]])).ok
    assert verified(document, written([*rows, record(4, account="acct_3")])).ok


def test_a_reformatted_usage_file_verifies() -> None:
    """Another order of keys or lines, other spaces and escapes give the same records, so the bill verifies."""
    rows = [json.loads(line) for line in USAGE.splitlines()]

    def reverse_keys(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: reverse_keys(item) for key, item in reversed(value.items())}
        return value

    for usage in (
        written(rows, separators=(",", ":")),
        written(rows, separators=(" , ", "  :  ")),
        written(rows, sort_keys=True),
        written([reverse_keys(row) for row in rows]),
        written(rows[::-1]).replace(b"\n", b"\r\n\n"),
        USAGE.replace(b"08:00", b"08\\u003a00").replace(b":00", b"\\u003A00"),
        USAGE.replace(b"acct", b"\\u0061cct"),
        b"\xef\xbb\xbf" + USAGE,
    ):
        assert usage != USAGE
        assert verified(BILL, usage).differences == []


def test_a_list_of_records_is_not_trusted(tmp_path: Path) -> None:
    """The list of another bill gives a note, and no list makes a bill verify."""
    usage = written([record(1), record(2)])
    document = billed(usage)
    other = list_of(written([record(1), record(3)]), tmp_path)
    assert verified(document, usage, records=other).ok  # it is read only if the root differs
    assert any(
        "does not lead to the Merkle root" in note
        for note in refused(document, written([record(1)]), records=other).notes
    )
    for content in (b"zz req_1\n", b"\xff\xfe", b"\n", b""):
        other.write_bytes(content)
        refused(document, written([record(1)]), records=other)
    with pytest.raises(BillingError) as caught:  # not a failure of the document
        verified(document, written([record(1)]), records=tmp_path / "none")
    assert caught.value.code == "file_unreadable"


# --- the prices ---


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("output: 15\n", "output: 15.5\n"),
        ("price_per_credit: 0.85", "price_per_credit: 0.86"),
        ("per_1000_calls: 12.5", "per_1000_calls: 12"),
        ("discount: 0.90", "discount: 0.91"),
        ("RATIO", "0.51"),
        ("from: 2026-10-15", "from: 2026-10-16"),
        ("NOMINAL", "2"),
    ],
)
def test_an_altered_price_that_the_bill_used_is_found(old: str, new: str) -> None:
    """An altered price, date, ratio or name that the bill depends on is found."""
    assert old in TEXT
    changed = TEXT.replace(old, new)
    book = PriceBook.loads(changed.replace("NOMINAL", "1").replace("PRICE", "2.5", 1).replace("RATIO", "0.5"))
    report = refused(BILL, book=book)
    assert "evidence.prices" in {difference.where for difference in report.differences}
    assert not [note for note in report.notes if "has changed since" in note]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("audio_input: 40", "audio_input: 41"),
        ("batch: {input: 1.25", "batch: {input: 1.3"),
        ('models: ["beta"]', 'models: ["*"]'),
        ("alpha:\n    released: 2026-01-01", "alpha:\n    aliases: [first]\n    released: 2025-12-31"),
        ("beta: {ratio: 0.333}", "beta: {ratio: 0.334}"),
        ("  free: {terms", "  more: {terms: [{from: 2026-01-01, ratio: 2, models: [alpha]}]}\n  free: {terms"),
        ("currency: CNY, prices", "currency: CNY, min_payment: 5, prices"),
    ],
)
def test_a_change_that_the_bill_does_not_depend_on_is_a_note(old: str, new: str) -> None:
    """A bill verifies against a price file in which only other prices, names and limits have changed."""
    assert old in TEXT
    changed = loaded(text().replace(old, new))
    report = verified(BILL, USAGE, book=changed)
    assert report.differences == []
    assert any("has changed since" in note for note in report.notes) == (changed.digest != BOOK.digest)


def test_later_prices_may_be_appended() -> None:
    """A price file with later entries still verifies the bill, and a note says so."""
    grown = (
        text()
        .replace("        batch: {", "        batch: {", 1)
        .replace(
            "      - from: 2026-01-01\n        standard: {input: 0.75, cache_read: 0.075, output: 4.5}\n",
            "      - from: 2026-01-01\n        standard: {input: 0.75, cache_read: 0.075, output: 4.5}\n"
            "      - from: 2026-11-01\n        standard: {input: 0.5, cache_read: 0.05, output: 4}\n",
        )
    )
    assert grown != text()
    report = verified(BILL, USAGE, book=loaded(grown))
    assert report.differences == []
    assert ["has changed since" in note for note in report.notes] == [True]
