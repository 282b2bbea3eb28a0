"""Writes the conformance vectors of receipts, examples/receipts/vectors.jsonl. docs/receipts.md describes the file.

Run it after a deliberate change of the format: ``python tests/support/make_receipt_vectors.py``. The seed is fixed, so
the same code writes the same file.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.invoice import document_hash, key_id
from brivionix_billing.invoice.receipts import MAX_RECEIPT_BYTES, rate_card_list
from paths import ROOT
from receipt_forgeries import FORGERIES
from receipt_kit import BOOKS, KEY, OTHER_KEY, Json, Sample, altered_text, book, boundary_samples, forge, samples, text
from receipt_mutations import attack, outcome

__all__ = ["VECTORS", "key_lines", "price_lines", "read_vectors", "subject_of", "vector_content"]

VECTORS: Final = ROOT / "examples" / "receipts" / "vectors.jsonl"
_SEED: Final = 18
_GENUINE: Final = 240
_ALTERED: Final = 1_000
_FORGED: Final = {"another peak window": 12}
"""Name of a forgery -> number of vectors; of all others 4, and 1 of those that violate the format."""
_MAX_EDIT: Final = 700
"""Maximum size of an edit, in hexadecimal digits. Larger ones would only make the file larger."""


def _edit(original: bytes, changed: bytes) -> list[Any]:
    """Return (offset, number of removed bytes, inserted bytes in hexadecimal) that turns one into the other."""
    start = 0
    while start < min(len(original), len(changed)) and original[start] == changed[start]:
        start += 1
    end = 0
    while end < min(len(original), len(changed)) - start and original[-1 - end] == changed[-1 - end]:
        end += 1
    return [start, len(original) - start - end, changed[start : len(changed) - end].hex()]


def key_lines() -> Iterator[Json]:
    """Yield the keys: that of the issuer, and another one."""
    for name, key in (("issuer", KEY), ("other", OTHER_KEY)):
        yield {"key": name, "public_key": key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()}


def price_lines() -> Iterator[Json]:
    """Yield the price files, as they are and altered."""
    for name in BOOKS:
        for altered in (False, True):
            yield {
                "prices": f"{name}{' altered' if altered else ''}",
                "price_file": altered_text(name) if altered else text(name),
                "rate_cards": rate_card_list(book(name, altered=altered)),
            }


def subject_of(sample: Sample) -> Json:
    """Return the request and the account that a verifier of a receipt expects."""
    return {"request_id": sample.request_id, **({} if sample.account is None else {"account": sample.account})}


def _pad(document: Json, *, size: int) -> None:
    """Make the receipt as long as ``size``, by its account."""
    document["account"] = ""
    document["account"] = "x" * (size - len(canonical_json(document)))


def _wrong_key_id(receipt: bytes) -> bytes:
    """Return a receipt that names another key than the one that signed it."""
    rest = {name: value for name, value in json.loads(receipt).items() if name not in ("hash", "signature")}
    rest["signing_key"] = key_id(OTHER_KEY.public_key())
    signature = base64.b64encode(KEY.sign(canonical_json(rest))).decode()
    return canonical_json({**rest, "hash": document_hash(rest), "signature": signature})


def make_vectors() -> Iterator[Json]:
    """Yield the lines of the file."""
    random = Random(_SEED)  # not a secret
    yield from key_lines()
    # Of the altered price files, one is enough.
    yield from (line for line in price_lines() if line["prices"] in (*BOOKS, "model altered"))
    genuine = [*boundary_samples(), *samples(random, _GENUINE)]
    ids = {sample.receipt: f"genuine-{number}" for number, sample in enumerate(genuine)}
    for sample in genuine:
        content = sample.receipt.decode()
        yield {
            "id": ids[sample.receipt],
            "receipt": content,
            "prices": sample.book,
            **subject_of(sample),
            "expect": "valid",
        }
    made = 0
    while made < _ALTERED:
        given = attack(random, genuine)
        edit = _edit(given.sample.receipt, given.content)
        if len(edit[2]) > _MAX_EDIT or (given.other_book and given.sample.book != "model"):
            continue
        report = outcome(given)
        assert report.failed is not None, given
        made += 1
        yield {
            "id": f"altered-{made}",
            "what": given.kind,
            "of": ids[given.sample.receipt],
            "edit": edit,
            **({"key": "other"} if given.other_key else {}),
            **({"prices": f"{given.sample.book} altered"} if given.other_book else {}),
            "expect": report.failed,
        }
    for number, sample in enumerate(genuine[:20]):
        subject = {"request_id": f"{sample.request_id}x"} if number % 2 else {"account": "acct_9"}
        yield {"id": f"swapped-{number}", "of": ids[sample.receipt], "edit": [0, 0, ""], **subject, "expect": "subject"}
    for size in (MAX_RECEIPT_BYTES, MAX_RECEIPT_BYTES + 1):
        content = forge(genuine[0].receipt, partial(_pad, size=size)).decode()
        expected = "valid" if size <= MAX_RECEIPT_BYTES else "size"
        yield {"id": f"size-{size}", "receipt": content, "prices": genuine[0].book, "expect": expected}
    for number, sample in enumerate(genuine[:3]):
        content = _wrong_key_id(sample.receipt).decode()
        yield {"id": f"key-id-{number}", "receipt": content, "prices": sample.book, "expect": "signature"}
    for what, (expected, change) in FORGERIES.items():
        count = 0
        for sample in random.sample(genuine, len(genuine)):
            try:
                content = forge(sample.receipt, change).decode()
            except (KeyError, StopIteration, ValueError):
                continue  # the receipt has nothing to change
            count += 1
            yield {
                "id": f"forged-{what.replace(' ', '-')}-{count}",
                "what": what,
                "receipt": content,
                "prices": sample.book,
                **subject_of(sample),
                "expect": expected,
            }
            if count == _FORGED.get(what, 1 if expected == "format" else 4):
                break


def read_vectors() -> tuple[dict[str, Json], dict[str, Json], dict[str, Json]]:
    """Return the keys, the price files and the vectors of the file, by name."""
    lines = [json.loads(line) for line in VECTORS.read_text(encoding="utf-8").splitlines()]
    found: tuple[dict[str, Json], ...] = tuple(
        {line[kind]: line for line in lines if kind in line and (kind == "id" or "id" not in line)}
        for kind in ("key", "prices", "id")
    )
    keys, prices, vectors = found
    for vector in vectors.values():  # what an altered receipt does not state is as in the genuine one
        if "of" in vector:
            genuine = vectors[vector["of"]]
            vector.update({name: value for name, value in genuine.items() if name not in vector and name != "receipt"})
    return keys, prices, vectors


def vector_content(vector: Json, vectors: dict[str, Json]) -> bytes:
    """Return the bytes of a vector."""
    if "receipt" in vector:
        return str(vector["receipt"]).encode()
    original = str(vectors[vector["of"]]["receipt"]).encode()
    start, removed, inserted = vector["edit"]
    return original[:start] + bytes.fromhex(inserted) + original[start + removed :]


def main() -> None:
    """Write the file."""
    lines = [json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in make_vectors()]
    VECTORS.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
