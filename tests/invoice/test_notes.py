"""Notes that correct bills, and inclusion proofs."""

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
    Balance,
    add_late_usage,
    aggregate_usage,
    build_inclusion_proof,
    build_invoice,
    build_late_usage,
    build_note,
    build_voiding_note,
    check_inclusion_proof,
    document_hash,
    figures_in_effect,
    json_schema,
    order_changes,
    render_text,
    seal,
)
from brivionix_billing.invoice.aggregation.account_usage import AccountUsage
from brivionix_billing.invoice.figures import LINE_KEY
from brivionix_billing.times import Period
from profiles import examples

Json = dict[str, Any]
SCHEMA = Draft202012Validator(json_schema())
ROWS = [record(n) for n in range(1, 12)]
BILL = billed(written(ROWS))


def noted(bill: Json, usage: bytes | None, reason: str = "a reason") -> tuple[Json, Json | None]:
    """Return a sealed note that corrects a bill, and the corrected bill."""
    head = header(number=bill["number"] + 1, previous=bill)
    corrected = None
    if usage is not None:
        aggregated = aggregate_usage(usage.splitlines(), BOOK, head.period, account="acct_1")
        corrected = build_invoice(aggregated.accounts.get("acct_1") or AccountUsage("acct_1"), head, BOOK)
    return seal(build_note(bill, corrected, head, reason)), corrected


def figures(document: Json | None) -> dict[tuple[str, ...], str]:
    """Return every non-zero amount of a document by its path."""
    amounts: dict[tuple[str, ...], str] = {}
    if document is None:
        return amounts

    def take(path: tuple[str, ...], value: Any) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                take((*path, name), inner)
        elif isinstance(value, list):
            for period in value:
                take((*path, period["since"], period["price_per_credit"]), period["credits"])
        elif path[-1] not in ("currency", "per_credit"):
            amounts[path] = str(value)

    for line in document["lines"]:
        key = tuple(str(line.get(name)) for name in LINE_KEY)
        take(key, {name: line[name] for name in ("quantity", "credits", "rounded")})
    take(("totals",), document["totals"])
    take(("savings",), document["savings"])
    for row in document["days"]:
        take(("days", row["day"], row["model"]), {name: row[name] for name in ("requests", "credits")})
    return {path: value for path, value in amounts.items() if Fraction(value)}


def check_sums(bill: Json, note: Json, corrected: Json | None) -> None:
    """Check that bill and note add up to the corrected bill, in every exact and every rounded amount."""
    billed_amounts, changes, expected = figures(bill), figures(note), figures(corrected)
    for path in {*billed_amounts, *changes, *expected}:
        total = Fraction(billed_amounts.get(path, "0")) + Fraction(changes.get(path, "0"))
        assert total == Fraction(expected.get(path, "0")), path
    lines, rounded = note["lines"], note["totals"]["rounded"]
    for column in ("credits", "nominal"):
        assert sum(Decimal(line["rounded"][column]) for line in lines) == Decimal(rounded[column])
    for name, channel_total in rounded["channels"].items():
        assert sum(Decimal(line["rounded"]["channels"][name]) for line in lines) == Decimal(channel_total)
    assert list(SCHEMA.iter_errors(note)) == []


def test_a_note_cancels_a_bill() -> None:
    """A note without usage negates every amount of the bill, and verifies."""
    note, corrected = noted(BILL, None)
    check_sums(BILL, note, corrected)
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
def test_a_note_corrects_a_bill(rows: list[Json], kind: str) -> None:
    """Bill and note add up to the corrected bill, and the note verifies; it is a debit note if Credits increase."""
    usage = written(rows)
    note, corrected = noted(BILL, usage)
    check_sums(BILL, note, corrected)
    assert note["kind"] == kind
    assert verified(note, usage, corrects=BILL, previous=BILL).differences == []
    assert not verified(note, written(ROWS), corrects=BILL, previous=BILL).ok
    assert render_text(note)


@settings(max_examples=examples(80), deadline=None)
@given(usages(), usages())
def test_generated_corrections(old: list[Json], new: list[Json]) -> None:
    """For any two generated bills, the note between them adds up, verifies and can be rendered."""
    try:
        bill = billed(written(old))
        note, corrected = noted(bill, written(new))
    except (KeyError, BillingError):
        return  # nothing is billed, or nothing to correct
    check_sums(bill, note, corrected)
    assert verified(note, written(new), corrects=bill, previous=bill).differences == []
    assert note["kind"] == ("debit_note" if Fraction(note["totals"]["credits"]) > 0 else "credit_note")
    assert render_text(note)


def test_a_channel_that_only_one_bill_has() -> None:
    """A line from before the first price of a channel has a zero for it, and the note can be rendered."""
    bill = billed(written([record(1, at="2026-10-02T00:00:00Z", model="beta")]))
    usage = written([record(2, at="2026-10-20T00:00:00Z")])
    assert "konbini" not in bill["totals"]["channels"]
    note, corrected = noted(bill, usage)
    check_sums(bill, note, corrected)
    assert {line["rounded"]["channels"].get("konbini") for line in note["lines"] if line["model"] == "beta"} == {"0"}
    assert "JPY (konbini)" in render_text(note)


def test_a_note_that_changes_nothing_is_rejected() -> None:
    """A correct bill and a note cannot be corrected."""
    with pytest.raises(BillingError, match="nothing to correct"):
        noted(BILL, written(ROWS[::-1]))
    note, _ = noted(BILL, None)
    with pytest.raises(BillingError, match="only a bill"):
        build_note(note, None, header(number=3, previous=note), "again")


def before(number: int) -> Json:
    """Return what a header needs of the document before a number."""
    return {"id": f"INV-{number - 1:06d}", "hash": "sha256:" + "0" * 64, "series": "INV", "number": number - 1}


def changed_by(bill: Json, usage: bytes, *earlier: Json, number: int = 2) -> Json:
    """Return a sealed note that follows the earlier changes of a bill."""
    head = header(number=number, previous=before(number))
    aggregated = aggregate_usage(usage.splitlines(), BOOK, head.period, account="acct_1")
    corrected = build_invoice(aggregated.accounts.get("acct_1") or AccountUsage("acct_1"), head, BOOK)
    return seal(build_note(bill, corrected, head, "again", order_changes(bill, earlier)))


def voiding(bill: Json, voided: Json, *earlier: Json, number: int = 5) -> Json:
    """Return a sealed note that voids another one."""
    head = header(number=number, previous=before(number))
    return seal(build_voiding_note(bill, voided["id"], head, "void", order_changes(bill, earlier)))


def totals_after(bill: Json, *notes: Json) -> Any:
    """Return the Credits of a bill after its notes."""
    return figures_in_effect(bill, order_changes(bill, notes))["totals"]["credits"]


@settings(max_examples=examples(25), deadline=None)
@given(st.lists(usages(), min_size=2, max_size=4))
def test_any_number_of_notes(states: list[list[Json]]) -> None:
    """A bill and all its notes add up to the bill over the last usage, in every amount, and each note verifies."""
    files = [written(rows) for rows in states]
    try:
        bill = billed(files[0])
        notes: list[Json] = []
        for number, usage in enumerate(files[1:], 2):
            notes.append(changed_by(bill, usage, *notes, number=number))
    except (KeyError, BillingError):
        return  # nothing is billed, or nothing to correct
    documents = {document["id"]: document for document in notes}
    for note, usage in zip(notes, files[1:], strict=True):
        report = verified(note, usage, corrects=bill, find=documents.get)
        assert [d for d in report.differences if d.where not in ("previous", "number")] == []
    head = header(number=2, previous=bill)
    aggregated = aggregate_usage(files[-1].splitlines(), BOOK, head.period, account="acct_1")
    expected = figures(build_invoice(aggregated.accounts.get("acct_1") or AccountUsage("acct_1"), head, BOOK))
    amounts = [figures(document) for document in (bill, *notes)]
    for path in {path for found in (*amounts, expected) for path in found}:
        assert sum(Fraction(found.get(path, "0")) for found in amounts) == Fraction(expected.get(path, "0")), path


def test_a_note_is_voided() -> None:
    """A voiding note reverses exactly one note, once; later notes stay in effect, and the totals are stated."""
    one = changed_by(BILL, written(ROWS[:-1]))
    two = changed_by(BILL, written(ROWS[:-3]), one, number=3)
    void = voiding(BILL, one, one, two)
    reversed_amounts = {path: -Fraction(amount) for path, amount in figures(one).items()}
    assert {path: Fraction(amount) for path, amount in figures(void).items()} == reversed_amounts
    expected = Fraction(BILL["totals"]["credits"]) + Fraction(two["totals"]["credits"])
    assert Fraction(void["in_effect"]["credits"]) == Fraction(totals_after(BILL, one, two, void)) == expected
    assert (void["evidence"], void["corrects"]["after"]["id"], list(SCHEMA.iter_errors(void))) == (None, two["id"], [])
    documents = {document["id"]: document for document in (one, two)}
    report = verified(void, None, corrects=BILL, find=documents.get)
    assert [d.where for d in report.differences if d.where != "previous"] == []
    for target, message in ((one, "already voided"), (void, "voids INV-000002"), (BILL, "not a note")):
        with pytest.raises(BillingError, match=message):
            voiding(BILL, target, one, two, void, number=6)
    again = changed_by(BILL, written(ROWS), one, two, void, number=6)
    assert Fraction(again["in_effect"]["credits"]) == Fraction(BILL["totals"]["credits"])


def test_gaps_and_doubles_in_a_chain_are_found() -> None:
    """A missing, an altered and a second note after the same change are found, by ordering and by verifying."""
    one = changed_by(BILL, written(ROWS[:-1]))
    two = changed_by(BILL, written(ROWS[:-2]), one, number=3)
    fork = changed_by(BILL, written(ROWS[:-3]), one, number=4)
    for notes in ([two], [one, two, fork], [one, changed_by(BILL, written(ROWS[:-3]), number=5)]):
        with pytest.raises(BillingError) as caught:
            order_changes(BILL, notes)
        assert caught.value.code == "series_broken"
    altered = {**one, "issued": "2026-12-01T00:00:00Z"}
    altered["hash"] = document_hash(altered)
    for found in (None, altered, {**one, "issued": "2026-12-01T00:00:00Z"}, fork):
        report = verified(two, written(ROWS[:-2]), corrects=BILL, find=lambda _, found=found: found)
        assert "cannot be recomputed" in " ".join(map(str, report.differences))


def test_late_usage_on_the_next_bill() -> None:
    """A later bill contains late usage, verifies with all usage, and further notes follow it; less usage is refused."""
    november = Period.parse("2026-11")
    rows = [record(1, request_id="nov_1", at="2026-11-03T00:00:00Z")]
    everything = written([*ROWS, record(12), *rows])
    one = changed_by(BILL, written([*ROWS[1:]]))
    late = changed_by(BILL, written([*ROWS, record(12)]), one, number=3)  # the same change, as a note

    def section_of(usage: bytes, *earlier: Json) -> Json | None:
        found = aggregate_usage(usage.splitlines(), BOOK, header().period, account="acct_1").accounts["acct_1"]
        return build_late_usage(BILL, build_invoice(found, header(), BOOK), order_changes(BILL, earlier))

    def bill_with(balance: Balance | None) -> Json:
        head = header(period=november, period_name="2026-11", issued=november.end, number=3, previous=one)
        own = aggregate_usage(everything.splitlines(), BOOK, november).accounts["acct_1"]
        section = section_of(everything, one)
        assert section is not None
        return seal(add_late_usage(build_invoice(own, head, BOOK), [section], balance, BOOK))

    bill = bill_with(None)
    assert list(SCHEMA.iter_errors(bill)) == []
    assert bill["late"][0]["totals"] == late["totals"]
    own = billed(everything, period=november, period_name="2026-11")["totals"]["credits"]
    total, extra = Fraction(bill["totals"]["credits"]), Fraction(late["totals"]["credits"])
    assert total == Fraction(own) + extra == sum(Fraction(line["credits"]) for line in bill["lines"])
    for channel in bill["totals"]["channels"].values():
        parts = [channel["credits_without_price"], *(period["credits"] for period in channel["price_periods"])]
        assert sum(map(Fraction, parts)) == total
    documents = {"INV-000001": BILL, "INV-000002": one}
    assert verified(bill, everything, previous=one, find=documents.get).differences == []
    assert not verified(bill, written([*ROWS, *rows]), previous=one, find=documents.get).ok
    assert section_of(everything, one, bill) is None
    last = changed_by(BILL, written(ROWS), one, bill, number=4)
    assert last["corrects"]["after"]["id"] == bill["id"]
    report = verified(last, written(ROWS), corrects=BILL, find={**documents, bill["id"]: bill}.get)
    assert report.differences == []
    with pytest.raises(BillingError, match="less than was billed"):
        section_of(written(ROWS[1:]))
    # The same balance results, whether the late usage is before the opening or within the period.
    before, within = Decimal(100) - Decimal(late["totals"]["credits"]), Decimal(100)
    closing = Decimal(100) - Decimal(bill["totals"]["credits"])
    sections = [bill_with(Balance(opening, [], closing))["balance"] for opening in (before, within)]
    assert sections[0] == sections[1] == {"opening": "100", "movements": [], "closing": str(closing)}


def test_every_altered_figure_of_a_note_is_found() -> None:
    """An altered figure of a note is found, also if the hash was recomputed; another bill is found, too."""
    usage = written(ROWS[2:])
    note, _ = noted(BILL, usage)
    for part in ("totals", "savings", "rounding", "evidence", "lines", "days"):
        for path in _paths(note[part], (part,)):
            changed = copy.deepcopy(note)
            here: Any = changed
            for step in path[:-1]:
                here = here[step]
            if path == ("evidence", "price_book"):
                continue  # indistinguishable from a price file with later entries
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
    """Return a proof, as read from a file."""
    proof = build_inclusion_proof(bill, io.BytesIO(written(rows)), BOOK, request_id)
    return json.loads(json.dumps(proof))  # type: ignore[no-any-return]  # it is an object


def proof_error(document: Any, proof: Any) -> str | None:
    """Return the differences that checking a proof reports, or ``None``."""
    report = check_inclusion_proof(document, proof)
    return None if report.ok else "; ".join(map(str, report.differences))


def test_every_record_can_be_proven() -> None:
    """Each record of a bill has a valid proof, which reveals only hashes of the others."""
    for row in ROWS:
        proof = proof_of(row["request_id"])
        assert proof_error(BILL, proof) is None
        assert proof["record"] == row
        rest = json.dumps({name: value for name, value in proof.items() if name != "record"})
        assert not [other for other in ROWS if f'"{other["request_id"]}"' in rest]
        assert sorted(proof) == ["document", "leaf_index", "path", "record", "schema", "tree_size"]
        leaves = sorted(ROWS, key=lambda r: sha256(r["request_id"].encode()).digest())
        assert proof["leaf_index"] == leaves.index(row)


def test_a_proof_of_an_escaped_id() -> None:
    """A request can be proven if the file writes its id with escapes."""
    rows = [record(1, request_id="请求"), record(2, request_id='a"\\b'), record(3, request_id="x/y")]
    bill = billed(written(rows))
    for row in rows:
        for usage in (written(rows), written(rows, ensure_ascii=False), written(rows).replace(b"x/y", b"x\\/y")):
            assert proof_error(bill, build_inclusion_proof(bill, io.BytesIO(usage), BOOK, row["request_id"])) is None


def test_other_requests_cannot_be_proven() -> None:
    """A request that the bill does not have, and a file that does not lead to its root, give no proof."""
    rows = [*ROWS, record(70, model="gone"), record(71, account="acct_2"), record(72, at="2026-12-01T00:00:00Z")]
    for request_id in ("req_70", "req_71", "req_72", "other", "", "\ud800", "req_", "account"):
        with pytest.raises(BillingError) as caught:
            proof_of(request_id, rows)
        assert caught.value.code == "not_in_bill"
    for changed in (ROWS[1:], [record(1, group="half"), *ROWS[1:]]):
        with pytest.raises(BillingError, match=r"verify the bill first|has no request"):
            proof_of("req_5", changed)


def test_an_altered_proof_is_invalid() -> None:
    """An altered record, index, size or path makes a proof invalid."""
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
            assert isinstance(proof_error(BILL, changed), str), (path, change)
    for name in proof:
        assert proof_error(BILL, {n: v for n, v in proof.items() if n != name})
    for siblings in (proof["path"][::-1], proof["path"][1:], [*proof["path"], proof["path"][0]], [], "abc", None):
        assert proof_error(BILL, {**proof, "path": siblings})
    assert proof_error(BILL, {**proof, "tree_size": 12})
    assert proof_error(BILL, {**proof, "tree_size": 10})
    assert proof_error(BILL, {})


def test_a_proof_is_for_one_document() -> None:
    """A proof is valid only for the unaltered bill that it was built for."""
    proof = proof_of("req_5")
    again = billed(written(ROWS), issuer="Other")
    assert "not for this document" in str(proof_error(again, proof))
    assert proof_error(again, {**proof, "document": {"id": again["id"], "hash": again["hash"]}}) is None
    less = billed(written(ROWS[:-1]))
    assert proof_error(less, {**proof, "document": {"id": less["id"], "hash": less["hash"]}})
    assert "was altered" in str(proof_error({**BILL, "due": "2027-01-01T00:00:00Z"}, proof))
    other = {**BILL, "customer": {**BILL["customer"], "account": "acct_2"}}
    other["hash"] = document_hash(other)
    forged = {**proof, "document": {"id": other["id"], "hash": other["hash"]}}
    assert "is of account" in str(proof_error(other, forged))
    for garbage in ({}, {"hash": "x"}, {"hash": 1, "evidence": 5}, {**BILL, "evidence": None}):
        assert "proves nothing" in str(proof_error(garbage, proof))
    cancelled, _ = noted(BILL, None)
    forged = {**proof, "document": {"id": cancelled["id"], "hash": cancelled["hash"]}}
    assert "has no records" in str(proof_error(cancelled, forged))


@settings(max_examples=examples(40), deadline=None)
@given(usages(), st.data())
def test_generated_proofs(rows: list[Json], data: st.DataObject) -> None:
    """In a generated file, every billed record has a proof, and no other record has one."""
    usage = written(rows)
    aggregated = aggregate_usage(usage.splitlines(), BOOK, header().period)
    if not aggregated.accounts.get("acct_1") or not aggregated.accounts["acct_1"].requests:
        return
    bill = billed(usage)
    request_id = data.draw(st.sampled_from(sorted({row["request_id"] for row in rows})))
    billed_ids: list[str] = []
    aggregate_usage(
        usage.splitlines(), BOOK, header().period, account="acct_1", on_leaves=lambda *args: billed_ids.extend(args[2])
    )
    if request_id in billed_ids:
        assert proof_error(bill, proof_of(request_id, rows, bill)) is None
    else:
        with pytest.raises(BillingError):
            proof_of(request_id, rows, bill)
