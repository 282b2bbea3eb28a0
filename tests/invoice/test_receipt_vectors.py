"""The conformance vectors of receipts are right, and the verifiers in Python and JavaScript agree with them."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from brivionix_billing import PriceBook
from brivionix_billing.invoice.receipts import ReceiptCheck, rate_card_list, verify_receipt
from make_receipt_vectors import VECTORS, read_vectors, vector_content
from receipt_forgeries import FORGERIES
from receipt_kit import Json
from receipt_mutations import KINDS

KEYS, PRICES, TESTS = read_vectors()
NODE = shutil.which("node")
RUNNER = VECTORS.parent / "check_vectors.mjs"


@cache
def book(name: str) -> PriceBook:
    """Return a price book of the vectors."""
    return PriceBook.loads(PRICES[name]["price_file"])


def result(vector: Json) -> str:
    """Return the result of the Python verifier: ``valid``, or the check that failed."""
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(KEYS[vector.get("key", "issuer")]["public_key"]))
    report = verify_receipt(
        vector_content(vector, TESTS),
        key=key,
        book=book(vector["prices"]),
        request_id=vector.get("request_id"),
        account=vector.get("account"),
    )
    return report.failed or "valid"


def test_every_vector_has_the_expected_result() -> None:
    """The Python verifier has the expected result for each vector, with the price file."""
    wrong = {
        name: (found, vector["expect"])
        for name, vector in TESTS.items()
        if (found := result(vector)) != vector["expect"]
    }
    assert wrong == {}


def test_the_vectors_cover_everything() -> None:
    """There are at least 1000 vectors in at most 1 MB, with every check, every forgery and every kind of mutation."""
    assert VECTORS.stat().st_size <= 1_000_000
    counts = Counter(vector["expect"] for vector in TESTS.values())
    assert sum(counts.values()) >= 1_000
    assert counts.keys() == {"valid", *ReceiptCheck}
    assert counts["valid"] >= 100
    # A whole other receipt as an edit would be large: these vectors have another id or account instead.
    assert {*KINDS, *FORGERIES} - {vector.get("what") for vector in TESTS.values()} == {"swapped", "other issuer"}


@pytest.mark.parametrize("name", PRICES)
def test_the_rate_cards_are_those_of_the_price_file(name: str) -> None:
    """The rate cards of the vectors are those that the library makes from their price file."""
    assert rate_card_list(book(name)) == PRICES[name]["rate_cards"]


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_javascript_verifier_has_the_expected_results() -> None:
    """The JavaScript verifier has the expected result for each vector, with the rate cards."""
    process = subprocess.run([str(NODE), str(RUNNER)], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (0, f"{len(TESTS)} vectors, 0 wrong\n"), process.stderr


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_runner_reports_a_wrong_result(tmp_path: Path) -> None:
    """A vector with another expected result fails the run of the JavaScript verifier and is named."""
    lines = VECTORS.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if '"id":' not in line or '"id":"genuine-0"' in line]
    changed = "".join(kept).replace('"expect":"valid"', '"expect":"hash"')
    (tmp_path / "vectors.jsonl").write_text(changed, encoding="utf-8")
    process = subprocess.run(
        [str(NODE), str(RUNNER), str(tmp_path / "vectors.jsonl")], capture_output=True, text=True, check=False
    )
    assert process.returncode == 1
    assert process.stdout == "genuine-0: valid, expected hash ()\n1 vectors, 1 wrong\n"


def test_the_javascript_verifier_has_no_dependencies() -> None:
    """The JavaScript verifier imports nothing, so that browsers and Node load the same file."""
    source = (VECTORS.parent / "verify_receipt.mjs").read_text(encoding="utf-8")
    code = [line for line in source.splitlines() if not line.startswith("//")]
    assert not [line for line in code if "import " in line or 'require("' in line or "process." in line]
