"""Notes that correct bills, and proofs that a request is in one."""

from __future__ import annotations

import copy
import io
import json
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from bill_kit import BOOK, billed, body, header, record, usages, verified, written
from brivionix_billing import BillingError
from brivionix_billing.invoice import (
    aggregate_usage,
    build_inclusion_proof,
    build_invoice,
    build_note,
    check_inclusion_proof,
    document_hash,
    json_schema,
    render_text,
    seal,
)
from brivionix_billing.invoice.aggregation.aggregate import AccountUsage
from brivionix_billing.invoice.notes import LINE_KEY
from profiles import examples

Json = dict[str, Any]
SCHEMA = Draft202012Validator(json_schema())
ROWS = [record(n) for n in range(1, 12)]
BILL = billed(written(ROWS))


def noted(bill: Json, usage: bytes | None, reason: str = "a reason") -> tuple[Json, Json | None]:
    """A sealed note on a bill, and the bill as it should have been."""
    head = header(number=bill["number"] + 1, previous=bill)
    right = None
    if usage is not None:
        found = aggregate_usage(usage.splitlines(), BOOK, head.period, account="acct_1")
        right = build_invoice(found.accounts.get("acct_1") or AccountUsage("acct_1"), head, BOOK)
    return seal(build_note(bill, right, head, reason)), right


def figures(document: Json | None) -> dict[tuple[str, ...], str]:
    """Every amount of a document by where it stands, zeros left out."""
    found: dict[tuple[str, ...], str] = {}
    if document is None:
        return found

    def take(path: tuple[str, ...], value: Any) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                take((*path, name), inner)
        elif isinstance(value, list):
            for part in value:
                take((*path, part["since"], part["price_per_credit"]), part["credits"])
        elif path[-1] not in ("currency", "per_credit"):
            found[path] = str(value)

    for line in document["lines"]:
        key = tuple(str(line[name]) for name in LINE_KEY)
        take(key, {name: line[name] for name in ("quantity", "credits", "rounded")})
    take(("totals",), document["totals"])
    take(("savings",), document["savings"])
    for row in document["days"]:
        take(("days", row["day"], row["model"]), {name: row[name] for name in ("requests", "credits")})
    return {path: value for path, value in found.items() if Fraction(value)}


def adds_up(bill: Json, note: Json, right: Json | None) -> None:
    """The bill and its note together are the bill as it should have been, in every exact and every shown amount."""
    was, more, must = figures(bill), figures(note), figures(right)
    for path in {*was, *more, *must}:
        total = Fraction(was.get(path, "0")) + Fraction(more.get(path, "0"))
        assert total == Fraction(must.get(path, "0")), path
    lines, shown = note["lines"], note["totals"]["rounded"]
    for column in ("credits", "nominal"):
        assert sum(Decimal(line["rounded"][column]) for line in lines) == Decimal(shown[column])
    for name, total_shown in shown["channels"].items():
        assert sum(Decimal(line["rounded"]["channels"][name]) for line in lines) == Decimal(total_shown)
    assert list(SCHEMA.iter_errors(note)) == []


def test_a_bill_is_cancelled_as_a_whole() -> None:
    """A note without usage takes back every amount of the bill, and verifies."""
    note, right = noted(BILL, None)
    adds_up(BILL, note, right)
    assert (note["kind"], note["evidence"], note["totals"]["requests"]) == ("credit_note", None, -11)
    assert note["totals"]["credits"] == "-" + BILL["totals"]["credits"]
    assert note["corrects"] == {"id": "INV-000001", "hash": BILL["hash"], "reason": "a reason"}
    assert verified(note, None, corrects=BILL, previous=BILL).differences == []


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        (ROWS[:-1], "credit_note"),
        ([*ROWS, record(12)], "debit_note"),
        ([], "credit_note"),
        ([{**row, "group": "half"} for row in ROWS], "credit_note"),
        ([{**row, "service_tier": "priority", "usage": body()} for row in ROWS], "debit_note"),
        ([record(1, model="beta", at="2026-10-30T00:00:00Z"), *ROWS[1:]], "credit_note"),
    ],
    ids=["one less", "one more", "nothing", "another group", "another tier", "another model"],
)
def test_a_bill_is_corrected_in_part(rows: list[Json], kind: str) -> None:
    """Bill and note add up to the right bill; the note is a debit note where too little was billed; it verifies."""
    usage = written(rows)
    note, right = noted(BILL, usage)
    adds_up(BILL, note, right)
    assert note["kind"] == kind
    assert verified(note, usage, corrects=BILL, previous=BILL).differences == []
    assert not verified(note, written(ROWS), corrects=BILL, previous=BILL).ok
    assert render_text(note)


@settings(max_examples=examples(80), deadline=None)
@given(usages(), usages())
def test_any_bill_corrected_to_any_other(old: list[Json], new: list[Json]) -> None:
    """Whatever was billed and whatever should have been: bill and note add up, and the note can be shown and redone."""
    try:
        bill = billed(written(old))
        note, right = noted(bill, written(new))
    except (KeyError, BillingError):
        return  # nothing was billed, or nothing is to be corrected
    adds_up(bill, note, right)
    assert verified(note, written(new), corrects=bill, previous=bill).differences == []
    assert note["kind"] == ("debit_note" if Fraction(note["totals"]["credits"]) > 0 else "credit_note")
    assert render_text(note)


def test_a_channel_that_only_one_of_the_two_has() -> None:
    """A line from before a channel's first price shows nothing for it, and the note can be shown as a page."""
    bill = billed(written([record(1, at="2026-10-02T00:00:00Z", model="beta")]))
    usage = written([record(2, at="2026-10-20T00:00:00Z")])
    assert "konbini" not in bill["totals"]["channels"]
    note, right = noted(bill, usage)
    adds_up(bill, note, right)
    assert {line["rounded"]["channels"].get("konbini") for line in note["lines"] if line["model"] == "beta"} == {"0"}
    assert "JPY (konbini)" in render_text(note)


def test_a_note_that_changes_nothing_is_refused() -> None:
    """A right bill cannot be corrected, and neither can a note."""
    with pytest.raises(BillingError, match="nothing to correct"):
        noted(BILL, written(ROWS[::-1]))
    note, _ = noted(BILL, None)
    with pytest.raises(BillingError, match="only a bill"):
        build_note(note, None, header(number=3, previous=note), "again")


def test_every_changed_figure_of_a_note_is_found() -> None:
    """A figure of a note changed with its hash made to fit is found; so is another bill behind it."""
    usage = written(ROWS[2:])
    note, _ = noted(BILL, usage)
    for part in ("totals", "savings", "rounding", "evidence", "lines", "days"):
        for path in _paths(note[part], (part,)):
            changed = copy.deepcopy(note)
            here: Any = changed
            for step in path[:-1]:
                here = here[step]
            if path == ("evidence", "price_book"):
                continue  # a price file that has grown looks the same
            here[path[-1]] = "7" if here[path[-1]] != "7" else "8"
            changed["hash"] = document_hash(changed)
            assert not verified(changed, usage, corrects=BILL, previous=BILL).ok, path
    other = billed(written([record(1)]))
    assert not verified(note, usage, corrects=other, previous=BILL).ok
    assert not verified(note, usage, previous=BILL).ok
    assert not verified(note, usage, corrects={**BILL, "issued": "2026-12-01T00:00:00Z"}, previous=BILL).ok
    for name, value in (("id", "INV-000009"), ("hash", "sha256:" + "0" * 64)):
        changed = {**note, "corrects": {**note["corrects"], name: value}}
        assert not verified({**changed, "hash": document_hash(changed)}, usage, corrects=BILL, previous=BILL).ok


def _paths(value: Any, path: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [found for step, inner in items for found in _paths(inner, (*path, step))]
    return [path]


# --- proofs ---


def proof_of(request_id: str, rows: list[Json] = ROWS, bill: Json = BILL) -> Json:
    """A proof, as it would come out of a file."""
    made = build_inclusion_proof(bill, io.BytesIO(written(rows)), BOOK, request_id)
    return json.loads(json.dumps(made))  # type: ignore[no-any-return]  # it is an object


def test_every_record_can_be_proven() -> None:
    """Each record of a bill has a proof that holds and shows of the others nothing but hashes."""
    for row in ROWS:
        proof = proof_of(row["request_id"])
        assert check_inclusion_proof(BILL, proof) is None
        assert proof["record"] == row
        rest = json.dumps({name: value for name, value in proof.items() if name != "record"})
        assert not [other for other in ROWS if f'"{other["request_id"]}"' in rest]
        assert sorted(proof) == ["document", "leaf_index", "path", "record", "schema", "tree_size"]
        leaves = sorted(ROWS, key=lambda r: sha256(r["request_id"].encode()).digest())
        assert proof["leaf_index"] == leaves.index(row)


def test_a_proof_of_an_escaped_id() -> None:
    """A request whose id is written with escapes in the file can be proven."""
    rows = [record(1, request_id="请求"), record(2, request_id='a"\\b'), record(3, request_id="x/y")]
    bill = billed(written(rows))
    for row in rows:
        for how in (written(rows), written(rows, ensure_ascii=False), written(rows).replace(b"x/y", b"x\\/y")):
            assert (
                check_inclusion_proof(bill, build_inclusion_proof(bill, io.BytesIO(how), BOOK, row["request_id"]))
                is None
            )


def test_what_is_not_in_the_bill_cannot_be_proven() -> None:
    """No proof is made for a request that the bill does not hold, nor from a file that does not lead to its root."""
    rows = [*ROWS, record(70, model="gone"), record(71, account="acct_2"), record(72, at="2026-12-01T00:00:00Z")]
    for request_id in ("req_70", "req_71", "req_72", "nobody", "", "\ud800", "req_", "account"):
        with pytest.raises(BillingError) as caught:
            proof_of(request_id, rows)
        assert caught.value.code == "not_in_bill"
    for changed in (ROWS[1:], [record(1, group="half"), *ROWS[1:]]):
        with pytest.raises(BillingError, match=r"verify the bill first|has no request"):
            proof_of("req_5", changed)


def test_a_changed_proof_does_not_hold() -> None:
    """A changed record, index, size or path, or another bill, breaks a proof."""
    proof = proof_of("req_5")
    for path in _paths(proof, ()):
        changes: list[Any] = ["x", "0" * 64, 3, 4, -1, True, None, [], 2**70]
        for change in changes:
            changed = copy.deepcopy(proof)
            here: Any = changed
            for step in path[:-1]:
                here = here[step]
            if here[path[-1]] == change and type(here[path[-1]]) is type(change):
                continue
            here[path[-1]] = change
            assert isinstance(check_inclusion_proof(BILL, changed), str), (path, change)
    for name in proof:
        assert check_inclusion_proof(BILL, {n: v for n, v in proof.items() if n != name})
    for siblings in (proof["path"][::-1], proof["path"][1:], [*proof["path"], proof["path"][0]], [], "abc", None):
        assert check_inclusion_proof(BILL, {**proof, "path": siblings})
    assert check_inclusion_proof(BILL, {**proof, "tree_size": 12})
    assert check_inclusion_proof(BILL, {**proof, "tree_size": 10})
    assert check_inclusion_proof(BILL, {})


def test_a_proof_is_for_one_document() -> None:
    """A proof holds for the bill that it was made for and for no other, nor for that bill changed."""
    proof = proof_of("req_5")
    again = billed(written(ROWS), issuer="Other")
    assert "not for this document" in str(check_inclusion_proof(again, proof))
    assert check_inclusion_proof(again, {**proof, "document": {"id": again["id"], "hash": again["hash"]}}) is None
    less = billed(written(ROWS[:-1]))
    assert check_inclusion_proof(less, {**proof, "document": {"id": less["id"], "hash": less["hash"]}})
    assert "was altered" in str(check_inclusion_proof({**BILL, "due": "2027-01-01T00:00:00Z"}, proof))
    other = {**BILL, "customer": {**BILL["customer"], "account": "acct_2"}}
    other["hash"] = document_hash(other)
    forged = {**proof, "document": {"id": other["id"], "hash": other["hash"]}}
    assert "is of account" in str(check_inclusion_proof(other, forged))
    for garbage in ({}, {"hash": "x"}, {"hash": 1, "evidence": 5}, {**BILL, "evidence": None}):
        assert check_inclusion_proof(garbage, proof)


@settings(max_examples=examples(40), deadline=None)
@given(usages(), st.data())
def test_any_record_of_any_bill(rows: list[Json], data: st.DataObject) -> None:
    """Of any generated file, every billed record and no other has a proof."""
    usage = written(rows)
    found = aggregate_usage(usage.splitlines(), BOOK, header().period)
    if not found.accounts.get("acct_1") or not found.accounts["acct_1"].requests:
        return
    bill = billed(usage)
    request_id = data.draw(st.sampled_from(sorted({row["request_id"] for row in rows})))
    held: list[str] = []
    aggregate_usage(usage.splitlines(), BOOK, header().period, account="acct_1", on_leaves=lambda *a: held.extend(a[2]))
    if request_id in held:
        assert check_inclusion_proof(bill, proof_of(request_id, rows, bill)) is None
    else:
        with pytest.raises(BillingError):
            proof_of(request_id, rows, bill)
