"""The parts of a bill other than its lines: tax numbers, payment, balance; and the lines as CSV."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from fractions import Fraction
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import bill_oracle
from bill_kit import TEXT, billed, body, header, loaded, record, text, usages, verified, written
from brivionix_billing import BillingError, PriceBook
from brivionix_billing.invoice import Balance, build_note, document_hash, json_schema, lines_csv, render_text, seal
from brivionix_billing.invoice.files import write_bill
from profiles import examples

Json = dict[str, Any]
SCHEMA = Draft202012Validator(json_schema())
ROW = record(1, at="2026-10-02T00:00:00Z", model="beta", usage=body(tokens=400_000, cached=0, out=0))
USAGE = written([ROW])
"""0.3 Credits: 400 000 input tokens of beta at 0.75 USD per million."""


def build_error(**changes: Any) -> BillingError:
    """Return the error that building the bill with these changes raises."""
    with pytest.raises(BillingError) as caught:
        billed(USAGE, **changes)
    return caught.value


def changed(document: Json, **parts: Any) -> Json:
    """Return the document with other parts and a recomputed hash."""
    other = {**document, **parts}
    return {**other, "hash": document_hash(other)}


# --- parties and payment ---


def test_tax_numbers_are_listed_with_their_parties() -> None:
    """A tax number is in the document and on the text page, next to its party; without one it is null."""
    document = billed(USAGE, issuer_tax_number="DE 811", customer_tax_number="91310000", customer="Ada")
    assert (document["issuer"]["tax_number"], document["customer"]["tax_number"]) == ("DE 811", "91310000")
    page = render_text(document).splitlines()
    index = page.index("Issuer    Example Gateway Ltd")
    assert [line.strip() for line in page[index + 1 : index + 4]] == [
        "Tax number DE 811",
        "Customer  Ada (account acct_1)",
        "Tax number 91310000",
    ]
    bare = billed(USAGE)
    assert (bare["issuer"]["tax_number"], bare["customer"]["tax_number"]) == (None, None)
    assert "Tax number" not in render_text(bare)


@pytest.mark.parametrize("value", ["", "x" * 257, "a\nb", "\x1b[31m", "\ud800", 5, b"x"])
@pytest.mark.parametrize("name", ["issuer_tax_number", "customer_tax_number", "channel"])
def test_an_invalid_text_is_rejected(name: str, value: Any) -> None:
    """A tax number or a channel that is not 1 to 256 printable characters is rejected."""
    error = build_error(**{name: value})
    assert error.code == "invalid_argument"
    assert str(error).isprintable()


def test_the_channel_of_payment() -> None:
    """The channel of payment is in the bill with its currency; an unknown channel is rejected."""
    document = billed(USAGE, channel="konbini")
    assert document["payment"] == {"channel": "konbini", "currency": "JPY"}
    assert "Payment   konbini (JPY)" in render_text(document)
    assert billed(USAGE)["payment"] is None
    error = build_error(channel="paypal")
    assert error.code == "unknown_channel"
    assert "rmb" in str(error)


def test_verify_checks_the_channel_of_payment() -> None:
    """A channel that the price book does not have, and another currency, are reported with their path."""
    document = billed(USAGE, channel="konbini")
    assert verified(document, USAGE).differences == []
    gone = verified(changed(document, payment={"channel": "paypal", "currency": "JPY"}), USAGE).differences
    assert [difference.where for difference in gone] == ["payment.channel"]
    other = verified(changed(document, payment={"channel": "konbini", "currency": "USD"}), USAGE).differences
    assert [str(difference) for difference in other] == [
        "payment.currency: the bill states 'USD', but 'JPY' was recomputed"
    ]
    without = PriceBook.loads(text().replace("  konbini:", "  seven:"))
    assert "payment.channel" in {difference.where for difference in verified(document, USAGE, without).differences}


# --- the balance ---


def test_a_balance_by_hand() -> None:
    """100 plus a top-up of 50 minus a refund of 20.5 minus 0.3 used is 129.2; bill and text page list them."""
    given_balance = Balance("100", [("Top-up 2026-10-03", 50), ("Refund", Decimal("-20.50"))], "129.2")
    document = billed(USAGE, balance=given_balance)
    assert document["totals"]["credits"] == "0.3"
    assert document["balance"] == {
        "opening": "100",
        "movements": [{"label": "Top-up 2026-10-03", "credits": "50"}, {"label": "Refund", "credits": "-20.5"}],
        "closing": "129.2",
    }
    page = [line.split() for line in render_text(document).splitlines()]
    for row in (
        ["Opening", "100.000000"],
        ["Refund", "-20.500000"],
        ["Used,", "as", "billed", "-0.300000"],
        ["Closing", "129.200000"],
    ):
        assert row in page
    assert verified(document, USAGE).differences == []
    assert list(SCHEMA.iter_errors(document)) == []
    assert "Opening" not in render_text(billed(USAGE))


def test_a_balance_that_does_not_reconcile() -> None:
    """The error states the account, all figures, the difference and the fix; a difference of 10^-18 counts."""
    error = build_error(balance=Balance("100", [("a", "50"), ("b", "-1")], "149"))
    assert error.code == "invalid_argument"
    for part in ("'acct_1'", "100", "movements 49", "used 0.3", "= 148.7", "closing is 149", "difference of 0.3"):
        assert part in str(error)
    assert "as movements" in str(error)
    assert "difference of -0.000000000000000001" in str(
        build_error(balance=Balance("0.3", [], "-0.000000000000000001"))
    )


AMOUNTS: list[Any] = [1.5, True, None, "", "1.", "01", "1_000", "nan", "1e99", "9" * 61, b"1", Decimal("NaN")]
AMOUNTS += [10**30, -(10**30), "1e30", "0.0000000000000000001", Decimal("Infinity"), Decimal("1E+999999"), [1]]
AMOUNTS += [Decimal("1E-999999"), 10**5000, "\u0661", "\ud800", "1\n", {}]


@pytest.mark.parametrize("amount", AMOUNTS, ids=lambda amount: repr(type(amount).__name__))
def test_an_invalid_amount_is_rejected(amount: Any) -> None:
    """Floats, amounts beyond 10^30 or with more than 18 decimal places, and other values are rejected by name."""
    for given_parts, where in (
        ((amount, [], "0"), "opening"),
        (("0", [("a", "1"), ("b", amount)], "0"), "movements[1].credits"),
        (("0", [], amount), "closing"),
    ):
        with pytest.raises(BillingError) as caught:
            Balance(*given_parts)
        assert caught.value.code == "invalid_money"
        assert str(caught.value).startswith(where)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "movements", [[("", 1)], [("a\x1b", 1)], [("x" * 257, 1)], [(5, 1)], [("a",)], ["ab"], [None], repeat(("a", 1))]
)
def test_invalid_movements_are_rejected(movements: Any) -> None:
    """Invalid movements, and more than a thousand, are rejected, even if an iterator never ends."""
    with pytest.raises(BillingError) as caught:
        Balance("0", movements, "0")
    assert caught.value.code == "invalid_argument"


def test_a_thousand_movements_are_accepted() -> None:
    """A thousand movements are accepted, and their sum is exact."""
    document = billed(USAGE, balance=Balance("0", [("cent", "0.01")] * 1000, "9.7"))
    assert len(document["balance"]["movements"]) == 1000
    assert list(SCHEMA.iter_errors(document)) == []


_credits = st.decimals(-(10**6), 10**6, allow_nan=False, places=9)


@settings(max_examples=examples(60), deadline=None)
@given(_credits, st.lists(_credits, max_size=5), usages())
def test_generated_balances(opening: Decimal, moved: list[Decimal], rows: list[Json]) -> None:
    """For generated movements and usage, only the closing balance of the oracle is accepted, and it verifies."""
    usage = written(rows)
    try:
        used = billed(usage)["totals"]["credits"]
    except KeyError:
        return  # nothing is billed
    closing = bill_oracle.closing(str(Fraction(opening)), [str(Fraction(credits)) for credits in moved], used)
    movements = [("moved", credits) for credits in moved]
    document = billed(usage, balance=Balance(opening, movements, closing))
    assert Decimal(document["balance"]["closing"]) == Decimal(closing)
    assert verified(document, usage).differences == []
    with pytest.raises(BillingError, match="does not reconcile"):
        billed(usage, balance=Balance(opening, [*movements, ("more", "0.000000001")], closing))


def test_verify_recomputes_the_balance() -> None:
    """A changed or invalid figure of the balance is reported with its path, also if the hash was recomputed."""
    document = billed(USAGE, balance=Balance("100", [("Top-up", 50)], "149.7"))
    balance = document["balance"]
    for part, where, message in (
        ({"closing": "150"}, "balance.closing", "'149.7' was recomputed"),
        ({"opening": "101"}, "balance.closing", "'150.7' was recomputed"),
        ({"movements": []}, "balance.closing", "'99.7' was recomputed"),
        ({"movements": [{"label": "Top-up", "credits": "50.5"}]}, "balance.closing", "'150.2' was recomputed"),
        ({"opening": "1" * 61}, "balance", "not a plain decimal number"),
        ({"opening": "-0", "closing": "49.7"}, "balance.opening", "'0' was recomputed"),
    ):
        differences = verified(changed(document, balance={**balance, **part}), USAGE).differences
        assert [difference.where for difference in differences] == [where], part
        assert message in str(differences[0])
    more = [{"label": "Top-up", "credits": "50"}, *[{"label": "a", "credits": "0"}] * 1000]
    many = verified(changed(document, balance={**balance, "movements": more}), USAGE)
    assert "balance.movements" in {difference.where for difference in many.differences}


# --- notes ---


def test_a_note_has_the_payment_of_its_bill_and_no_balance() -> None:
    """A note has the payment of its bill and no balance; verify finds a change, and a given balance is rejected."""
    bill = billed(USAGE, channel="rmb", balance=Balance("100", [], "99.7"))
    head = header(number=2, previous=bill, issuer_tax_number="DE 811")
    note = seal(build_note(bill, None, head, "x"))
    assert (note["payment"], note["balance"]) == ({"channel": "rmb", "currency": "CNY"}, None)
    assert note["issuer"]["tax_number"] == "DE 811"
    assert verified(note, None, corrects=bill, previous=bill).differences == []
    for part in ({"payment": None}, {"balance": bill["balance"]}):
        differences = verified(changed(note, **part), None, corrects=bill, previous=bill).differences
        assert [difference.where for difference in differences] == list(part)
    with pytest.raises(BillingError, match="a note has no balance"):
        build_note(bill, None, header(number=2, previous=bill, balance=Balance(0, [], 0)), "x")


# --- the lines as CSV ---


def read_back(document: Json) -> tuple[list[str], list[dict[str, str]]]:
    """Return the header and the rows of a bill's CSV."""
    reader = csv.DictReader(io.StringIO(lines_csv(document), newline=""))
    rows = list(reader)
    return list(reader.fieldnames or []), rows


@settings(max_examples=examples(60), deadline=None)
@given(usages(), usages())
def test_the_lines_as_csv(old: list[Json], new: list[Json]) -> None:
    """Each row of the CSV is a line, and each rounded column adds up to its total, in bills and notes."""
    try:
        bill = billed(written(old))
        documents = [bill, build_note(bill, None, header(number=2, previous=bill), "x")]
        documents.append(build_note(bill, billed(written(new)), header(number=2, previous=bill), "x"))
    except (KeyError, BillingError):
        return  # nothing is billed, or nothing to correct
    for document in documents:
        names, rows = read_back(document)
        rounded = document["totals"]["rounded"]
        columns = {"rounded_credits": rounded["credits"], "rounded_nominal_USD": rounded["nominal"]}
        for channel, currency in (("rmb", "CNY"), ("stripe", "USD"), ("konbini", "JPY")):
            if channel in rounded["channels"]:
                columns[f"rounded_{channel}_{currency}"] = rounded["channels"][channel]
        assert set(names[-len(columns) :]) == set(columns)
        for name, total in columns.items():
            assert sum(Decimal(row[name]) for row in rows) == Decimal(total), name
        assert len(rows) == len(document["lines"])
        for row, line in zip(rows, document["lines"], strict=True):
            for name in ("model", "group", "meter", "quantity", "unit_price", "credits", "price_since"):
                assert row[name] == line[name]
            assert row["list_price"] == (line["list_price"] or "")
            assert (row["bill"], row["account"], row["per"]) == (document["id"], "acct_1", str(line["per"]))


def test_the_columns_of_the_csv() -> None:
    """The columns are the same for a document without lines, and amounts have no exponent."""
    names, rows = read_back(billed(USAGE))
    assert ",".join(names) == (
        "bill,kind,account,period,model,group,service_tier,context_tier,price_since,meter,quantity,per,list_price,ratio,"
        "unit_price,credits,rounded_credits,rounded_nominal_USD,rounded_rmb_CNY,rounded_stripe_USD"
    )
    (row,) = rows
    assert list(row.values())[:6] == ["INV-000001", "invoice", "acct_1", "2026-10", "beta", "default"]
    # 0.3 Credits are 0.255 CNY and 0.036 USD.
    assert ",".join(list(row.values())[9:]) == "input,400000,1000000,0.75,1,0.75,0.3,0.300000,0.30,0.26,0.04"
    document = billed(USAGE)
    assert read_back({**document, "lines": []}) == (names, [])


def test_names_in_the_csv_are_escaped() -> None:
    """A name that a spreadsheet would run is written as text; quotes, commas and other scripts are preserved."""
    for name, expected in (("=1+1", "'=1+1"), ("@x", "'@x"), ('a,"b', 'a,"b'), ("李", "李")):
        document = billed(written([{**ROW, "account": name}]), account=name)
        assert read_back(document)[1][0]["account"] == expected


def test_a_channel_called_nominal_has_a_separate_column() -> None:
    """The column of a channel gets another name if it would equal that of the nominal amount."""
    book = loaded(
        TEXT.replace("NOMINAL", "1").replace("PRICE", "2.5", 1).replace("RATIO", "1").replace("stripe", "nominal")
    )
    document = billed(USAGE, book)
    _, (row,) = read_back(document)
    assert (row["rounded_nominal_USD"], row["rounded_nominal_USD_channel"]) == ("0.30", "0.04")


# --- the folder ---


def test_further_pages_are_written_beside_the_bill(tmp_path: Path) -> None:
    """Further files are written next to the document; if one exists, nothing is written."""
    document = billed(USAGE)
    write_bill(tmp_path / "a", document, None, {"invoice.html": b"<p>\xff"})
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "invoice.json",
        "invoice.txt",
        "invoice.csv",
        "invoice.html",
    }
    assert (tmp_path / "a" / "invoice.html").read_bytes() == b"<p>\xff"
    assert (tmp_path / "a" / "invoice.csv").read_bytes() == lines_csv(document).encode()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "invoice.html").write_bytes(b"mine")
    with pytest.raises(BillingError) as caught:
        write_bill(tmp_path / "b", document, None, {"invoice.html": b""})
    assert caught.value.code == "document_exists"
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["invoice.html"]
    assert (tmp_path / "b" / "invoice.html").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/b", "", ".", "..", ".hidden", "invoice.json", "records.txt", "a\\b", "a\0"]
)
def test_the_name_of_a_page_is_not_a_path(tmp_path: Path, name: str) -> None:
    """A page name with a path, and a reserved name, are rejected."""
    with pytest.raises(BillingError) as caught:
        write_bill(tmp_path / "a", billed(USAGE), None, {name: b""})
    assert caught.value.code == "invalid_argument"
    assert not (tmp_path / "a").exists()
