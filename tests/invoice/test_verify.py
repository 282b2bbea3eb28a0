"""Verification: every change of a document and of its chain is found."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from bill_kit import billed, header, loaded, record, text, verified, written
from brivionix_billing import BillingError, PriceBook
from brivionix_billing.invoice import aggregate_usage, build_invoice, build_note, document_hash, key_id, seal
from profiles import examples, sampled
from strategies import bodies
from verify_kit import (
    BILL,
    FIRST,
    PUBLIC,
    SECOND,
    SIGNED,
    USAGE,
    Json,
    Path_,
    put,
    refused,
    tampered,
    walk,
)

OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))


def resealed(document: Json) -> Json:
    """Return the document with a recomputed hash."""
    return {**document, "hash": document_hash(document)}


def test_an_unaltered_bill_verifies() -> None:
    """An unaltered bill verifies: the first and the second of a series, and a signed one."""
    assert verified(BILL, USAGE).differences == []
    assert verified(SECOND, USAGE, previous=FIRST).differences == []
    assert verified(SIGNED, USAGE, key=PUBLIC).differences == []
    assert (verified(BILL, USAGE).notes, verified(SIGNED, USAGE, key=PUBLIC).notes) == ([], [])
    assert BILL["evidence"]["duplicates"] == BILL["evidence"]["rejected"] == 1
    assert len(list(tampered(BILL))) > 1500


@pytest.mark.parametrize("document", [BILL, SECOND, SIGNED], ids=["first", "second", "signed"])
def test_every_change_is_found(document: Json) -> None:
    """One value that is changed, removed, added, retyped or moved in a document is found."""
    previous = FIRST if document is SECOND else None
    # The three documents differ in few places, so a quick run changes every place of only one of them.
    for what, changed in tampered(document) if document is BILL else sampled(tampered(document)):
        report = refused(changed, previous=previous, key=PUBLIC if document is SIGNED else None)
        assert all(str(difference) for difference in report.differences), what


def test_every_altered_figure_is_found_if_the_hash_is_recomputed() -> None:
    """If the hash is recomputed, every change of a recomputable figure is still found; a quick run tries an eighth."""
    unseen = set()
    for what, changed in sampled(tampered(BILL)):
        try:
            changed = resealed(changed)
        except BillingError:
            continue
        if verified(changed, USAGE).ok:
            unseen.add((what, document_hash(changed) == BILL["hash"]))
    free = ["('issued',)", "('due',)", "('issuer',", "('customer', 'name')", "('customer', 'details'"]
    # The equation protects a balance, and the price file a channel. Only the hash protects their existence.
    free += ["('customer', 'tax_number')", "('balance', 'movements', 0, 'label')"]
    free += ["('balance',) := None", "('payment',) := None"]
    open_ = {what for what, same in unseen if not same}
    # A changed digest of the price file looks like a price file with later entries, which is a note.
    allowed = {what for what in open_ if what.startswith((*free, "('evidence', 'price_book') :="))}
    assert open_ == allowed
    assert not {what for what, same in unseen if same} - {w for w, _ in unseen if w.startswith("('hash',)")}
    assert allowed  # the free texts are in the document


def test_moved_or_repeated_lines_are_found_if_the_hash_is_recomputed() -> None:
    """Lines in another order, repeated lines and missing lines are found."""
    lines = BILL["lines"]
    assert len(lines) > 4
    for changed in (lines[1:] + lines[:1], lines[::-1], [*lines, lines[0]], [lines[0], *lines[:-1]], [], lines[2:]):
        report = refused(resealed({**BILL, "lines": changed}))
        assert any(difference.where.startswith("lines") for difference in report.differences)


def test_a_signature_protects_everything() -> None:
    """With the key, every change of a signed bill is found, also if the hash was recomputed."""
    for what, changed in sampled(tampered(SIGNED)):
        try:
            changed = resealed(changed)
        except BillingError:
            pass
        report = verified(changed, USAGE, key=PUBLIC)
        # Recomputing the hash undoes a change of the hash itself.
        assert not report.ok or (changed == SIGNED and "'hash'" in what), what


def test_a_signature_cannot_be_removed_or_replaced() -> None:
    """A missing signature, one by another key, and one on an unsigned bill are found."""
    bare = {name: value for name, value in SIGNED.items() if name not in ("hash", "signature")}
    unsigned = seal({**bare, "signing_key": None})
    by_other = seal({**bare, "signing_key": key_id(OTHER.public_key())}, OTHER)
    claimed = resealed({**by_other, "signing_key": key_id(PUBLIC)})
    for document, where in (
        (unsigned, "signature"),
        (by_other, "signature"),
        (claimed, "signature"),
        ({**BILL, "signature": SIGNED["signature"]}, "signature"),
        ({**SIGNED, "signature": by_other["signature"]}, "signature"),
        (put(SIGNED, ("signature",), ...), "signature"),
        ({**SIGNED, "signature": SIGNED["signature"] + "\n"}, "signature"),
    ):
        report = refused(document, key=PUBLIC)
        assert where in {difference.where for difference in report.differences}
    refused(SIGNED, key=OTHER.public_key())
    refused(put(SIGNED, ("signature",), ...))
    refused({**BILL, "signature": None})
    assert verified(SIGNED, USAGE).ok
    assert "not checked" in verified(SIGNED, USAGE).notes[0]
    with pytest.raises(BillingError, match="key"):
        seal(bare, OTHER)


# --- the chain ---


def test_the_chain_is_checked() -> None:
    """A previous document that is altered, missing, replaced or out of order is found."""
    other = billed(written([record(7)]))
    third = billed(USAGE, number=3, previous=SECOND)
    assert verified(third, USAGE, previous=SECOND).ok
    for document, previous in (
        (SECOND, put(FIRST, ("issuer", "name"), "x")),
        (SECOND, resealed(put(FIRST, ("issuer", "name"), "x"))),
        (SECOND, other),
        (SECOND, SECOND),
        (third, FIRST),
        (BILL, FIRST),
        (SECOND, put(FIRST, ("hash",), "sha256:" + "0" * 64)),
        (resealed({**SECOND, "previous": None}), None),
        (resealed({**SECOND, "previous": None}), FIRST),
        (resealed({**third, "previous": SECOND["previous"]}), FIRST),
        (resealed({**SECOND, "series": "B", "id": "B-000002"}), FIRST),
    ):
        report = refused(document, previous=previous)
        assert {difference.where for difference in report.differences} & {"previous", "number"}
    assert "not checked" in verified(SECOND, USAGE).notes[0]


GARBAGE: list[Any] = [
    {},
    {"id": 1},
    {"hash": []},
    put(FIRST, ("number",), "1"),
    put(FIRST, ("totals",), 7),
    {"x": 1.5e300},
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_an_invalid_previous_document(garbage: Any) -> None:
    """An invalid previous document, and an invalid bill that a note corrects, are differences."""
    refused(SECOND, previous=garbage)
    refused(resealed({**SECOND, "previous": "abc"}), previous=FIRST)
    note = resealed({**BILL, "kind": "credit_note", "corrects": {"id": "a", "hash": FIRST["hash"], "reason": ""}})
    refused(note, corrects=garbage)
    refused(note, corrects=put(FIRST, ("totals", "credits"), "abc"))


# --- arbitrary input ---


@settings(max_examples=examples(150), deadline=None)
@given(bodies, st.sampled_from([path for path, _ in walk(SECOND)][1:]))
def test_any_json_as_a_document(value: Any, path: Path_) -> None:
    """Any JSON as a document, or in any place of one, gives a report and never raises."""
    report = verified(put(SECOND, path, value), USAGE, previous=FIRST)
    assert not report.ok or put(SECOND, path, value) == SECOND
    if isinstance(value, dict):
        assert not verified(value, USAGE, previous=FIRST, corrects=FIRST).ok


@pytest.mark.parametrize("usage", [b"", b"\0" * 99, b"{", b"[" * 9999, b"\xff\xfe\n" * 9, b"null\n1\n\n"])
def test_any_file_as_usage(usage: bytes) -> None:
    """Any bytes as the usage file give a report and never raise."""
    refused(BILL, usage)


def test_without_its_files_a_bill_does_not_verify() -> None:
    """A bill does not verify without its usage file and its price file."""
    assert not verified(BILL, None).ok
    assert any("cannot be recomputed" in str(difference) for difference in verified(BILL, None).differences)


FURTHER = "channels:\n  wechat: {currency: CNY, prices: [{from: 2026-01-01, price_per_credit: 0.9}]}\n"


def book_with_a_further_channel() -> PriceBook:
    """Return the price book of the bills with one more payment channel, which has prices since January."""
    return loaded(text().replace("channels:\n", FURTHER))


def test_a_bill_verifies_after_a_channel_was_added() -> None:
    """A further channel changes nothing that a bill states, even with prices in the past, and a note names it."""
    book = book_with_a_further_channel()
    report = verified(BILL, USAGE, book)
    assert report.differences == []
    assert report.notes == [
        "the price file has further channels in this period, which the document does not state: wechat",
        "the price file has changed since; the prices that this bill depends on are the same",
    ]
    assert [str(each) for each in verified(billed(USAGE, book), USAGE, book).notes] == []


def test_a_channel_that_the_price_file_lost_is_a_difference() -> None:
    """A bill that states a channel verifies only with the prices of that channel."""
    report = verified(billed(USAGE, book_with_a_further_channel()), USAGE)
    assert any(each.where == "totals.channels.wechat" for each in report.differences)


def test_a_bill_states_the_channel_of_its_payment() -> None:
    """Leaving out the channel through which the customer pays is found, even if all hashes are recomputed."""
    bill = billed(USAGE, channel="rmb")
    assert verified(bill, USAGE).differences == []
    totals = copy.deepcopy(bill["totals"])
    lines = copy.deepcopy(bill["lines"])
    del totals["channels"]["rmb"]
    for rounded in (totals["rounded"], *(line["rounded"] for line in lines)):
        del rounded["channels"]["rmb"]
    report = verified(resealed({**bill, "totals": totals, "lines": lines}), USAGE)
    assert any(each.where == "totals.channels.rmb" for each in report.differences)


def test_a_note_corrects_the_channels_of_its_bill() -> None:
    """A note to an older bill has the channels of that bill, and verifies with a price file that has more."""
    book = book_with_a_further_channel()
    usage = USAGE + written([record(90)])
    head = header(number=2, previous=BILL)
    aggregated = aggregate_usage(usage.splitlines(keepends=True), book, head.period)
    corrected = build_invoice(aggregated.accounts["acct_1"], head, book, channels=BILL["totals"]["channels"])
    note = seal(build_note(BILL, corrected, head, "a late record"))
    assert note["totals"]["channels"].keys() == BILL["totals"]["channels"].keys()
    assert verified(note, usage, book, corrects=BILL, previous=BILL).differences == []


def test_a_difference_states_both_figures() -> None:
    """A difference states its path, the figure of the bill and the recomputed one."""
    changed = resealed(put(BILL, ("totals", "credits"), "1"))
    (difference,) = refused(changed).differences
    expected = BILL["totals"]["credits"]
    assert str(difference) == f"totals.credits: the bill states '1', but '{expected}' was recomputed"
    assert Decimal(expected) > 0
