"""Verifying bills: whatever is changed in a document, in its chain, in the usage or in past prices is found."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from bill_kit import billed, record, verified, written
from brivionix_billing import BillingError
from brivionix_billing.invoice import document_hash, key_id, seal
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
    """With its hash made to fit again."""
    return {**document, "hash": document_hash(document)}


def test_a_right_bill_verifies() -> None:
    """A bill as it was made verifies: alone, second in its series, and signed."""
    assert verified(BILL, USAGE).differences == []
    assert verified(SECOND, USAGE, previous=FIRST).differences == []
    assert verified(SIGNED, USAGE, key=PUBLIC).differences == []
    assert (verified(BILL, USAGE).notes, verified(SIGNED, USAGE, key=PUBLIC).notes) == ([], [])
    assert BILL["evidence"]["duplicates"] == BILL["evidence"]["rejected"] == 1
    assert len(list(tampered(BILL))) > 1500


@pytest.mark.parametrize("document", [BILL, SECOND, SIGNED], ids=["first", "second", "signed"])
def test_every_change_is_found(document: Json) -> None:
    """Any one value changed, dropped, added, retyped or moved in a document is found."""
    previous = FIRST if document is SECOND else None
    # The three differ in few places, so a quick run changes every place of one of them only.
    for what, changed in tampered(document) if document is BILL else sampled(tampered(document)):
        report = refused(changed, previous=previous, key=PUBLIC if document is SIGNED else None)
        assert all(str(difference) for difference in report.differences), what


HELD_BY_HASH = {"issued", "due", "issuer", "customer", "rounding"}
"""What no usage or price file can tell; hash, signature and chain hold it."""


def test_every_changed_figure_is_found_with_the_hash_made_to_fit() -> None:
    """With the hash recomputed after the change, every figure that can be redone is still found."""
    unseen = set()
    for what, changed in tampered(BILL):
        try:
            changed = resealed(changed)
        except BillingError:
            continue
        if verified(changed, USAGE).ok:
            unseen.add((what, document_hash(changed) == BILL["hash"]))
    free = ["('issued',)", "('due',)", "('issuer',", "('customer', 'name')", "('customer', 'details'"]
    # A balance is held by its equation, a channel by the price file; that there is any of them, only by the hash.
    free += ["('customer', 'tax_number')", "('balance', 'movements', 0, 'label')"]
    free += ["('balance',) := None", "('payment',) := None"]
    open_ = {what for what, same in unseen if not same}
    # One change cannot tell a price file that has grown since from one that was never there; it is told in a note.
    allowed = {what for what in open_ if what.startswith((*free, "('evidence', 'price_book') :="))}
    assert open_ == allowed
    assert not {what for what, same in unseen if same} - {w for w, _ in unseen if w.startswith("('hash',)")}
    assert len(allowed) > 5  # the free text is really free, or this test would not look


def test_lines_swapped_or_doubled_with_the_hash_made_to_fit() -> None:
    """Lines in another order, a line twice, one line for another, all lines gone: found."""
    lines = BILL["lines"]
    assert len(lines) > 4
    for changed in (lines[1:] + lines[:1], lines[::-1], [*lines, lines[0]], [lines[0], *lines[:-1]], [], lines[2:]):
        report = refused(resealed({**BILL, "lines": changed}))
        assert any(difference.where.startswith("lines") for difference in report.differences)


def test_a_signature_holds_everything() -> None:
    """With a signature and the key, every change is found even where the hash was made to fit."""
    for what, changed in sampled(tampered(SIGNED)):
        try:
            changed = resealed(changed)
        except BillingError:
            pass
        report = verified(changed, USAGE, key=PUBLIC)
        # Only a changed hash is mended by mending it.
        assert not report.ok or (changed == SIGNED and "'hash'" in what), what


def test_a_signature_cannot_be_taken_away_or_replaced() -> None:
    """No signature, another key, a signature by another, a signature beside an unsigned bill: found."""
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
    """A predecessor that was changed, dropped, replaced or put out of order is found."""
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
def test_a_predecessor_that_is_no_document(garbage: Any) -> None:
    """What is given as predecessor, or as the bill that a note corrects, may be anything: it is a difference."""
    refused(SECOND, previous=garbage)
    refused(resealed({**SECOND, "previous": "abc"}), previous=FIRST)
    note = resealed({**BILL, "kind": "credit_note", "corrects": {"id": "a", "hash": FIRST["hash"], "reason": ""}})
    refused(note, corrects=garbage)
    refused(note, corrects=put(FIRST, ("totals", "credits"), "abc"))


# --- anything at all ---


@settings(max_examples=examples(150), deadline=None)
@given(bodies, st.sampled_from([path for path, _ in walk(SECOND)][1:]))
def test_any_json_as_a_document(value: Any, path: Path_) -> None:
    """Any JSON as a document, or in any place of one, is reported on and never raises."""
    refused_or_same = verified(put(SECOND, path, value), USAGE, previous=FIRST)
    assert not refused_or_same.ok or put(SECOND, path, value) == SECOND
    if isinstance(value, dict):
        assert not verified(value, USAGE, previous=FIRST, corrects=FIRST).ok


@pytest.mark.parametrize("usage", [b"", b"\0" * 99, b"{", b"[" * 9999, b"\xff\xfe\n" * 9, b"null\n1\n\n"])
def test_any_file_as_usage(usage: bytes) -> None:
    """Any bytes as the usage file are reported on and never raise."""
    refused(BILL, usage)


def test_without_the_files_nothing_is_said_to_verify() -> None:
    """A bill cannot verify without its usage file and its price file."""
    assert not verified(BILL, None).ok
    assert any("cannot be recomputed" in str(difference) for difference in verified(BILL, None).differences)


def test_differences_say_both_figures() -> None:
    """A difference says where it is, what the bill says, and what it is when redone."""
    changed = resealed(put(BILL, ("totals", "credits"), "1"))
    (difference,) = refused(changed).differences
    right = BILL["totals"]["credits"]
    assert str(difference) == f"totals.credits: the bill states '1', but '{right}' was recomputed"
    assert Decimal(right) > 0
