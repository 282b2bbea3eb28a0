"""Attacks on signed bills through the command line: every output states whether the issuer was checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pypdf import PdfReader

from bill_kit import record, written
from brivionix_billing.invoice import document_hash, read_document
from cli_kit import Run

Json = dict[str, Any]
BILL = "bills/INV-000001/invoice.json"
VALID = "signed, signature valid for the given key"
UNCHECKED = "signed, key not checked"
UNSIGNED = "not signed"
INVALID = "signature not valid"
USAGE = ("--usage", "usage.jsonl")
KEY = ("--key", "issuer.pub")
PROOF = ("--proof", "proof.json")


@pytest.fixture
def signed(run: Run) -> Run:
    """Run commands in a folder with a signed bill, the issuer's keys, and a proof of one request."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (run.folder / "issuer.pem").write_bytes(private)
    (run.folder / "issuer.pub").write_bytes(public)
    args = ("invoice", "usage.jsonl", "--all", "--period", "2026-10", "--out", "bills", "--sign-key", "issuer.pem")
    assert run(*args, "--issuer", "Ours", "--issuer-detail", "IBAN of ours")[0] == 0
    prove(run)
    return run


def prove(run: Run, usage: str = "usage.jsonl", request: str = "req_3") -> None:
    """Write a proof against the present document."""
    status, out, err = run("prove", BILL, "--usage", usage, "--request", request)
    assert (status, err) == (0, "")
    (run.folder / "proof.json").write_text(out)


def rewrite(run: Run, document: Json) -> None:
    """Write a document with a matching hash, as a forger without the key can."""
    document["hash"] = document_hash(document)
    (run.folder / BILL).write_text(json.dumps(document))


def strip(run: Run, **changes: Any) -> None:
    """Remove the signature, and change other values."""
    document = {**read_document(run.folder / BILL), "signing_key": None, **changes}
    del document["signature"]
    rewrite(run, document)


def outcome(run: Run, *args: str) -> tuple[int, str]:
    """Return the exit status and the stated signature of ``verify``, which its text and its JSON must share."""
    status, out, _ = run("verify", BILL, *args, "--format", "json")
    (row,) = json.loads(out)
    status_of_text, text, _ = run("verify", BILL, *args)
    assert (status_of_text, status) == (status, 0 if row["verified"] else 1)
    assert f"({row['signature']})" in text.splitlines()[0]
    assert ("proven" in text) == (args[0] == "--proof" and row["verified"] and row["signature"] == VALID)
    return status, row["signature"]


@pytest.mark.parametrize("checks", [USAGE, PROOF], ids=["bill", "proof"])
def test_every_result_states_the_signature(signed: Run, checks: tuple[str, ...]) -> None:
    """Bills and proofs state a valid, an unchecked and a missing signature, and only a key proves an issuer."""
    assert outcome(signed, *checks, *KEY) == (0, VALID)
    assert outcome(signed, *checks) == (0, UNCHECKED)
    assert "not checked: no public key was given" in signed("verify", BILL, *checks)[1]
    assert outcome(signed, *checks, *KEY, "--require-signature") == (0, VALID)
    assert outcome(signed, *checks, "--require-signature") == (1, UNCHECKED)
    strip(signed)
    prove(signed)
    assert outcome(signed, *checks) == (0, UNSIGNED)
    assert outcome(signed, *checks, *KEY) == (1, UNSIGNED)
    assert outcome(signed, *checks, "--require-signature") == (1, UNSIGNED)


def test_a_forged_merkle_root_is_not_proven(signed: Run) -> None:  # case 63
    """A bill with the Merkle root of other records and its stale signature is never proven."""
    rows = [record(n) for n in range(60, 65)]
    (signed.folder / "forged.jsonl").write_bytes(written(rows))
    args = ("invoice", "forged.jsonl", "--all", "--period", "2026-10", "--out", "forged")
    assert signed(*args)[0] == 0
    document = read_document(signed.folder / BILL)
    document["evidence"] = read_document(signed.folder / "forged/INV-000001/invoice.json")["evidence"]
    rewrite(signed, document)
    prove(signed, "forged.jsonl", rows[0]["request_id"])
    assert outcome(signed, *PROOF, *KEY) == (1, INVALID)
    assert outcome(signed, *PROOF) == (0, UNCHECKED)
    assert "the issuer was not checked" in signed("verify", BILL, *PROOF)[1]
    (row,) = json.loads(signed("verify", BILL, *PROOF, "--format", "json")[1])
    assert any("the issuer was not checked" in note for note in row["notes"])
    assert row["request"] == rows[0]["request_id"]


def test_an_unsigned_bill_that_breaks_the_schema_is_not_proven(signed: Run) -> None:
    """An unsigned document that is no bill by the schema is never proven, although its hash and root match."""
    document = read_document(signed.folder / BILL)
    proof = json.loads((signed.folder / "proof.json").read_text())
    names = ("schema", "id", "customer", "evidence")
    rewrite(signed, {name: document[name] for name in names})
    proof["document"]["hash"] = read_document(signed.folder / BILL)["hash"]
    (signed.folder / "proof.json").write_text(json.dumps(proof))
    for key in ((), KEY):
        assert outcome(signed, *PROOF, *key) == (1, UNSIGNED)
        assert "violates the schema" in signed("verify", BILL, *PROOF, *key)[1]


@pytest.mark.parametrize("checks", [USAGE, PROOF], ids=["bill", "proof"])
def test_a_stripped_bill_with_another_bank_account_is_not_silent(signed: Run, checks: tuple[str, ...]) -> None:
    """A bill without its signature, with the attacker's bank account, is "not signed", and fails with the key."""
    # Case 68: it verified without a word.
    issuer = read_document(signed.folder / BILL)["issuer"]
    strip(signed, issuer={**issuer, "details": ["IBAN of the attacker"]})
    prove(signed)
    assert outcome(signed, *checks) == (0, UNSIGNED)
    assert outcome(signed, *checks, *KEY) == (1, UNSIGNED)


@pytest.mark.parametrize("option", ["--usage", "--previous", "--corrects", "--records"])
def test_options_that_a_proof_does_not_use_are_refused(signed: Run, option: str) -> None:
    """No option is ignored silently next to ``--proof``."""
    status, _, err = signed("verify", BILL, *PROOF, option, "usage.jsonl")
    assert (status, option in err) == (2, True)


def test_a_name_cannot_pretend_a_verdict(signed: Run) -> None:
    """The verdict on a proof precedes the texts of the proof and of the document, which an attacker chooses."""
    pretended = f"req_1 is in INV-000001 ({VALID})"
    (signed.folder / "usage.jsonl").write_bytes(written([record(1, request_id=pretended), record(2)]))
    args = ("invoice", "usage.jsonl", "--all", "--period", "2026-10", "--out", "other")
    assert signed(*args)[0] == 0
    bill = "other/INV-000001/invoice.json"
    _, out, _ = signed("prove", bill, *USAGE, "--request", pretended)
    (signed.folder / "proof.json").write_text(out)
    _, out, _ = signed("verify", bill, *PROOF)
    assert out.startswith(f"{bill}: the proof matches ({UNSIGNED}): ")


def test_the_pages_of_a_command_state_the_signature(signed: Run) -> None:
    """The pages that ``invoice`` and ``render`` write state the signature; ``render --key`` refuses a wrong one."""
    folder = Path(signed.folder, BILL).parent
    assert "not checked here" in (folder / "invoice.txt").read_text("utf-8")
    assert "not checked here" not in (folder / "invoice.html").read_text("utf-8")  # it has the public key
    assert signed("render", BILL, "--html", "page.html")[0] == 0
    assert "Signed; not checked here" in (signed.folder / "page.html").read_text("utf-8")
    strip(signed)
    assert signed("render", BILL, "--html", "page.html", "--locale", "zh_CN")[0] == 0
    assert "未签名" in (signed.folder / "page.html").read_text("utf-8")
    status, _, err = signed("render", BILL, "--html", "page.html", *KEY)
    assert (status, "[invalid_key]" in err, "not signed" in err) == (2, True, True)


@pytest.mark.usefixtures("pango")
def test_a_pdf_never_leaves_the_signature_to_a_script(signed: Run) -> None:
    """A PDF says that the signature is not checked there, also if it was rendered with the public key."""
    assert signed("render", BILL, "--pdf", "page.pdf", *KEY)[0] == 0
    text = " ".join(page.extract_text() for page in PdfReader(signed.folder / "page.pdf").pages)
    assert "Signed; not checked here" in " ".join(text.split())
