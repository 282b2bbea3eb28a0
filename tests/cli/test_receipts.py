"""Receipts on the command line: receipt, rate-cards and verify."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bill_kit import record
from brivionix_billing.invoice.receipts import rate_card_list
from brivionix_billing.pricebook import PriceBook
from cli_kit import Run
from receipt_kit import KEY, OTHER_KEY

VALID = "signed, signature valid for the given key"
UNCHECKED = "signed, key not checked"
PROVE = ("--key", "issuer.pub")


@pytest.fixture
def receipt(run: Run) -> Run:
    """Run commands in a folder with the keys of an issuer and the receipt of one request."""
    for name, key in (("issuer", KEY), ("other", OTHER_KEY)):
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (run.folder / f"{name}.pem").write_bytes(private)
        (run.folder / f"{name}.pem").chmod(0o600)
        (run.folder / f"{name}.pub").write_bytes(public)
    issue(run, "req_3")
    return run


def issue(run: Run, request: str, path: str = "receipt.json") -> Path:
    """Write the receipt of a request to a file."""
    status, out, err = run("receipt", "usage.jsonl", "--request", request, "--key", "issuer.pem")
    assert (status, err) == (0, "")
    (run.folder / path).write_bytes(out.encode())
    return run.folder / path


def test_a_receipt_verifies_from_price_file_and_public_key(receipt: Run) -> None:
    """``verify`` recognises a receipt by its content, needs no usage file, and states signature, request and charge."""
    content = json.loads((receipt.folder / "receipt.json").read_bytes())
    assert (content["request_id"], content["account"]) == ("req_3", "acct_1")
    charges = [json.loads(line) for line in receipt("rate", "usage.jsonl")[1].splitlines()]
    (charge,) = [charge for charge in charges if charge["request_id"] == "req_3"]
    assert content["credits"] == charge["credits"]
    status, out, _ = receipt("verify", "receipt.json", *PROVE)
    assert (status, out) == (0, f"receipt.json: verified ({VALID}): request req_3, {charge['credits']} Credits\n")


def test_without_a_key_the_issuer_is_not_proven(receipt: Run) -> None:
    """Without a key, the result is not "verified", and a note says that the issuer was not checked."""
    status, out, _ = receipt("verify", "receipt.json")
    assert status == 0
    assert out.startswith(f"receipt.json: the figures verify ({UNCHECKED}): request req_3")
    assert "note: the issuer was not checked" in out
    assert receipt("verify", "receipt.json", "--require-signature")[0] == 1
    status, out, _ = receipt("verify", "receipt.json", "--key", "other.pub")
    assert status == 1
    assert out.startswith("receipt.json: DOES NOT VERIFY (signature not valid)\n  signature: signed by key")


def test_an_altered_receipt_does_not_verify(receipt: Run) -> None:
    """An altered receipt has exit status 1, in both formats, and the JSON names the check that failed."""
    path = receipt.folder / "receipt.json"
    path.write_bytes(path.read_bytes().replace(b"acct_1", b"acct_2"))
    status, out, _ = receipt("verify", "receipt.json", *PROVE, "--format", "json")
    (row,) = json.loads(out)
    assert (status, row["verified"], row["failed"], row["credits"]) == (1, False, "hash", None)
    status, out, _ = receipt("verify", "receipt.json", *PROVE)
    assert status == 1
    assert out.startswith("receipt.json: DOES NOT VERIFY (signature not valid)\n  hash: ")


def test_an_added_line_end_does_not_verify(receipt: Run) -> None:
    """``receipt`` prints exactly the signed bytes; one more is not the receipt."""
    path = receipt.folder / "receipt.json"
    path.write_bytes(path.read_bytes() + b"\n")
    status, out, _ = receipt("verify", "receipt.json", *PROVE)
    assert (status, "not in canonical form" in out) == (1, True)


def test_the_receipt_of_another_request_does_not_verify(receipt: Run) -> None:
    """With ``--request``, a genuine receipt of another request does not verify."""
    assert receipt("verify", "receipt.json", *PROVE, "--request", "req_3")[0] == 0
    status, out, _ = receipt("verify", "receipt.json", *PROVE, "--request", "req_4")
    assert (status, "the receipt is for 'req_3', not 'req_4'" in out) == (1, True)


def test_several_receipts_are_verified_at_once(receipt: Run) -> None:
    """Each receipt has its result; one that fails decides the exit status."""
    other = issue(receipt, "req_4", "other.json")
    assert receipt("verify", "receipt.json", "other.json", *PROVE)[0] == 0
    other.write_bytes(other.read_bytes().replace(b"req_4", b"req_3"))
    status, out, _ = receipt("verify", "receipt.json", "other.json", *PROVE)
    assert (status, [line.split(" (")[0] for line in out.splitlines() if ".json" in line]) == (
        1,
        ["receipt.json: verified", "other.json: DOES NOT VERIFY"],
    )


def test_a_name_cannot_pretend_a_verdict(receipt: Run) -> None:
    """The verdict precedes the request id, which another person may choose."""
    pretended = f"req_1: verified ({VALID})"
    receipt.usage([record(1, request_id=pretended)])
    issue(receipt, pretended)
    assert receipt("verify", "receipt.json")[1].startswith(f"receipt.json: the figures verify ({UNCHECKED}): ")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("receipt.json", "--usage", "usage.jsonl"), "without --usage"),
        (("receipt.json", "--records", "records.txt"), "without --records"),
        (("receipt.json", "bill/invoice.json"), "bills and receipts were given"),
        (("bill/invoice.json", "--request", "req_3"), "--request is for receipts"),
    ],
    ids=str,
)
def test_options_of_bills_and_receipts_are_not_mixed(receipt: Run, args: tuple[str, ...], message: str) -> None:
    """No option is ignored silently."""
    bill = ("invoice", "usage.jsonl", "--account", "acct_1", "--period", "2026-10", "--out", "bill")
    assert receipt(*bill)[0] == 0
    status, _, err = receipt("verify", *args)
    assert (status, message in err) == (2, True), err


def test_conflicting_records_have_no_receipt(receipt: Run) -> None:
    """A request id with two contents is an error; a repeated equal record is not."""
    args = ("receipt", "usage.jsonl", "--request", "req_3", "--key", "issuer.pem")
    receipt.usage([record(3), record(3)])
    assert receipt(*args)[0] == 0
    receipt.usage([record(3), record(3, group="half")])
    status, _, err = receipt(*args)
    assert (status, "in lines 1 and 2" in err) == (2, True)
    receipt.usage([record(4)])
    assert "no record of request 'req_3'" in receipt(*args)[2]


def test_rate_cards_are_those_of_the_price_file(receipt: Run) -> None:
    """``rate-cards`` prints all cards, or those of a group; an unknown group is an error."""
    book = PriceBook.load(receipt.folder / "pricing.yaml")
    assert json.loads(receipt("rate-cards")[1]) == rate_card_list(book)
    assert json.loads(receipt("rate-cards", "--group", "half")[1]) == rate_card_list(book, groups=["half"])
    assert receipt("rate-cards", "--group", "nobody")[2].endswith("[unknown_group]\n")
