"""Attacks on signatures: forged, stripped and foreign ones, on bills, notes, proofs and pages."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pypdf import PdfReader

from bill_kit import BOOK, billed, header, record, verified, written
from brivionix_billing import BillingError
from brivionix_billing.invoice import (
    SignatureState,
    build_inclusion_proof,
    build_note,
    check_inclusion_proof,
    check_signature,
    document_hash,
    key_id,
    render_text,
    seal,
)
from brivionix_billing.pages import bill_page, render_pdf
from verify_kit import BILL, KEY, PUBLIC, SIGNED, USAGE, Json

OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
FORGED_ROWS = [record(n) for n in range(60, 70)]


def resealed(document: Json) -> Json:
    """Return the document with a recomputed hash, as a forger without the key can compute it."""
    return {**document, "hash": document_hash(document)}


def stripped(document: Json, **changes: Any) -> Json:
    """Return the document without its signature and with other values, with a matching hash."""
    bare = {name: value for name, value in document.items() if name != "signature"}
    return resealed({**bare, "signing_key": None, **changes})


def proof_of(document: Json, usage: bytes, request_id: str) -> Json:
    return build_inclusion_proof(document, io.BytesIO(usage), BOOK, request_id)


def with_foreign_evidence() -> tuple[Json, Json]:
    """Return the signed bill with the evidence of other records and its stale signature, and a proof of one of them."""
    usage = written(FORGED_ROWS)
    forged = resealed({**SIGNED, "evidence": billed(usage)["evidence"]})
    assert forged["signature"] == SIGNED["signature"]
    return forged, proof_of(forged, usage, FORGED_ROWS[0]["request_id"])


BANK = {**BILL["issuer"], "details": ["IBAN DE00 0000 0000 (of the attacker)"]}


def test_a_changed_merkle_root_with_a_stale_signature_proves_nothing() -> None:
    """A proof against a bill with another Merkle root fails with the key, although hash and path match."""
    forged, proof = with_foreign_evidence()
    report = check_inclusion_proof(forged, proof, key=PUBLIC)
    assert (report.ok, report.signature) == (False, SignatureState.INVALID)
    assert {difference.where for difference in report.differences} == {"signature", "proof"}
    blind = check_inclusion_proof(forged, proof)
    assert (blind.ok, blind.signature) == (True, SignatureState.UNCHECKED)
    assert "the issuer was not checked" in blind.notes[0]


def test_an_unsigned_bill_that_breaks_the_schema_proves_nothing() -> None:
    """A proof against an invented document with a matching root and hash fails, with and without a key."""
    usage = written(FORGED_ROWS)
    evidence = billed(usage)["evidence"]
    broken: Json = {"schema": BILL["schema"], "id": "INV-000001", "customer": {"account": "acct_1"}}
    broken = resealed({**broken, "evidence": evidence, "period": BILL["period"]})
    for document in (broken, stripped(BILL, evidence=evidence, more=1)):
        proof = proof_of(document, usage, FORGED_ROWS[0]["request_id"])
        for key in (None, PUBLIC):
            report = check_inclusion_proof(document, proof, key=key)
            assert not report.ok
            assert report.signature is SignatureState.UNSIGNED
            assert any("violates the schema" in str(difference) for difference in report.differences)


def test_a_proof_counts_only_with_the_issuers_signature() -> None:
    """A true proof of a signed bill is confirmed by its key, and by no other key; an unsigned bill has no issuer."""
    request_id = SIGNED["evidence"]["first"]["request_id"]
    proof = proof_of(SIGNED, USAGE, request_id)
    report = check_inclusion_proof(SIGNED, proof, key=PUBLIC, require_signature=True)
    assert (report.ok, report.signature, report.notes) == (True, SignatureState.VALID, [])
    assert not check_inclusion_proof(SIGNED, proof, key=OTHER.public_key()).ok
    bare = stripped(SIGNED)
    proof = proof_of(bare, USAGE, request_id)
    report = check_inclusion_proof(bare, proof)
    assert (report.ok, report.signature) == (True, SignatureState.UNSIGNED)
    assert "the issuer was not checked: the document is not signed" in report.notes[0]
    assert not check_inclusion_proof(bare, proof, key=PUBLIC).ok
    assert not check_inclusion_proof(bare, proof, require_signature=True).ok


def test_a_stripped_bill_with_another_bank_account_is_not_silent() -> None:
    """A bill without its signature and with another bank account fails with the key; else the state is unsigned."""
    forged = stripped(SIGNED, issuer=BANK)
    report = verified(forged, USAGE)
    assert (report.ok, report.signature) == (True, SignatureState.UNSIGNED)
    report = verified(forged, USAGE, key=PUBLIC)
    assert (report.ok, report.signature) == (False, SignatureState.UNSIGNED)
    assert not verified(forged, USAGE, require_signature=True).ok


def test_a_bill_that_the_attacker_signed_is_not_silent() -> None:
    """A bill that was changed and signed with another key fails with the key, and else its key is not checked."""
    bare = {name: value for name, value in SIGNED.items() if name not in ("hash", "signature")}
    forged = seal({**bare, "issuer": BANK, "signing_key": key_id(OTHER.public_key())}, OTHER)
    report = verified(forged, USAGE)
    assert (report.ok, report.signature) == (True, SignatureState.UNCHECKED)
    assert key_id(OTHER.public_key()) in report.notes[0]
    report = verified(forged, USAGE, key=PUBLIC)
    assert (report.ok, report.signature) == (False, SignatureState.INVALID)
    assert not verified(forged, USAGE, require_signature=True).ok  # a signature that was not checked


NOTE = seal(build_note(BILL, None, header(number=2, previous=BILL), "cancelled"))
_HEAD = header(number=2, previous=BILL, signing_key=key_id(PUBLIC))
SIGNED_NOTE = seal(build_note(BILL, None, _HEAD, "cancelled"), KEY)


@pytest.mark.parametrize(("bill", "note"), [(BILL, NOTE), (SIGNED, SIGNED_NOTE)], ids=["unsigned", "signed"])
@pytest.mark.parametrize("key", [None, PUBLIC], ids=["no key", "key"])
@pytest.mark.parametrize("require", [False, True], ids=["", "required"])
def test_every_result_states_the_signature(bill: Json, note: Json, key: Any, require: bool) -> None:
    """Reports on bills and notes state the signature; only a checked one passes if a signature is required."""
    if "signature" not in bill:
        expected, passes = SignatureState.UNSIGNED, key is None and not require
    elif key is None:
        expected, passes = SignatureState.UNCHECKED, not require
    else:
        expected, passes = SignatureState.VALID, True
    options: Json = {"key": key, "require_signature": require}
    for report in (verified(bill, USAGE, **options), verified(note, None, previous=BILL, corrects=BILL, **options)):
        assert (report.signature, report.ok) == (expected, passes)
        assert passes or {difference.where for difference in report.differences} == {"signature"}


def test_the_text_page_states_the_signature() -> None:
    """The text page says that a bill is not signed, or that its signature is not checked there."""
    assert "\nSignature    Not signed" in render_text(BILL)
    assert f"\nSignature    Signed by key {key_id(PUBLIC)} (Ed25519); not checked here\n" in render_text(SIGNED)


@pytest.mark.parametrize(
    ("locale", "unsigned", "unchecked"),
    [("en", "Not signed", "Signed; not checked here"), ("zh_CN", "未签名", "已签名；此处未验证")],
)
def test_the_html_page_states_the_signature(locale: str, unsigned: str, unchecked: str) -> None:
    """The HTML page says whether the bill is signed, and without a public key that the signature is not checked."""

    def shown(document: Json, **options: Any) -> str:
        page = bill_page(document, locale=locale, **options)
        return page[page.index("<main") : page.rindex("</main>")]

    assert unsigned in shown(BILL)
    assert unchecked in shown(SIGNED)
    valid = shown(SIGNED, public_key=PUBLIC)
    assert (unsigned in valid, unchecked in valid, key_id(PUBLIC) in valid) == (False, False, True)
    assert ["--key issuer.pub.pem" in page for page in (shown(BILL), shown(SIGNED), valid)] == [False, True, True]


def test_no_page_claims_a_signature_that_is_not_valid() -> None:
    """A page with a public key is rejected if the signature is missing or not valid for this key."""
    forged, _ = with_foreign_evidence()
    for document in (forged, stripped(SIGNED), BILL):
        with pytest.raises(BillingError) as caught:
            bill_page(document, public_key=PUBLIC)
        assert caught.value.code == "invalid_key"


@pytest.mark.usefixtures("pango")
def test_the_pdf_states_the_signature() -> None:
    """The PDF says that a bill is not signed, or that its signature is not checked there."""

    for document, words in ((BILL, "Not signed"), (SIGNED, "Signed; not checked here")):
        text = "".join(page.extract_text() for page in PdfReader(io.BytesIO(render_pdf(bill_page(document)))).pages)
        assert words in " ".join(text.split())


@pytest.mark.parametrize("signature", ["", None, 7, [], {"a": 1}, "AAAA", "é", "A" * 86 + "=="])
@pytest.mark.parametrize("signing_key", [None, "", 7, [], {"a": 1}, "x", key_id(PUBLIC)])
def test_malformed_signatures_are_never_valid(signature: Any, signing_key: Any) -> None:
    """No malformed signature or key id is valid, and none raises."""
    document = {**BILL, "signature": signature, "signing_key": signing_key}
    state, error = check_signature(document, PUBLIC)
    assert state is not SignatureState.VALID
    assert error


def test_states_are_json() -> None:
    """A state is its words in JSON."""
    assert json.dumps([*SignatureState]) == json.dumps(
        [
            "signed, signature valid for the given key",
            "signed, key not checked",
            "not signed",
            "signature not valid",
        ]
    )
