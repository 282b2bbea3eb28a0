"""Harnesses: one function per reader. Each takes arbitrary bytes, and raises an error only if the library has a defect.

A harness lets no exception but ``BillingError`` pass as an answer, and checks what the library guarantees about input
that it accepts.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

from brivionix_billing import BillingError, PriceBook, Usage
from brivionix_billing.canonical_json import canonical_json, loads_strict
from brivionix_billing.importing.build import build_price_file
from brivionix_billing.importing.sources import SOURCES, read_catalog
from brivionix_billing.invoice import (
    Header,
    Verifier,
    aggregate_usage,
    build_invoice,
    check_inclusion_proof,
    lines_csv,
    read_document,
    render_text,
    seal,
)
from brivionix_billing.invoice.document import schema_errors
from brivionix_billing.merkle import leaf_hash
from brivionix_billing.pages import bill_page, price_list
from brivionix_billing.streams import StreamUsage
from brivionix_billing.times import Period, parse_instant
from brivionix_billing.usage import billable_body
from brivionix_billing.usage.record_file import Record, read_records

__all__ = ["PERIOD", "READERS", "REFERENCE", "STREAM_REQUESTS", "read"]

REFERENCE: Final = Path(__file__).resolve().parents[1] / "tests" / "data" / "reference"
"""Price files, usage and bills of the tests."""
PERIOD: Final = Period.parse("2026-10")
STREAM_REQUESTS: Final[tuple[Any, ...]] = (
    None,
    {"model": "gpt-5.4", "messages": [{"role": "user", "content": "Hi"}], "stream": True, "n": 2},
    {"model": "gpt-5.4", "input": "Hi", "stream": True},
    {"model": "claude-sonnet-4-5", "max_tokens": 30, "messages": [{"role": "user", "content": "Hi"}]},
)
_MAX_RATED_MODELS: Final = 4
_AT: Final = parse_instant("2026-10-20T08:00:00Z")


class _ByteCounter:
    """A counter of one token per byte. The real vocabularies would hide the time that a reader takes."""

    def text(self, text: str, /) -> int:
        return len(text.encode("utf-8", "replace"))

    def chat(self, request: Any, /) -> int:
        return 10

    def responses(self, request: Any, /) -> int:
        return 20


def read(name: str, data: bytes) -> bool:
    """Run a harness. Returns whether the reader accepted the data; ``BillingError`` rejects it."""
    try:
        READERS[name](data)
    except BillingError as error:
        assert error.message.replace("\n", "").isprintable(), f"{error.code}: a terminal may obey the message"
        return False
    return True


def _usage(data: bytes) -> None:
    """Bodies of providers: the part that a usage file keeps is read like the whole body."""
    body = loads_strict(data, "body")
    usage = Usage.from_response(body)
    assert all(warning.isprintable() for warning in usage.warnings), "a terminal may obey a warning"
    kept = json.loads(json.dumps(billable_body(body)))
    assert _billed(Usage.from_response(kept)) == _billed(usage), f"{kept} is read as other usage"


def _billed(usage: Usage) -> tuple[Any, ...]:
    """Return all of a usage but its warnings. One is about infinite numbers, which JSON cannot hold."""
    served = (usage.service_tier, usage.model, usage.region, usage.mode)
    return usage.meters, usage.unaccounted, usage.parts, usage.estimated, served


def _stream(data: bytes) -> None:
    """Streams: the first two bytes select the size of the pieces and the request. Pieces do not change the result."""
    size, request = (data[:1] or b"\0")[0] % 64 + 1, STREAM_REQUESTS[(data[1:2] or b"\0")[0] % len(STREAM_REQUESTS)]
    content = data[2:]
    whole, pieces = StreamUsage(request, _ByteCounter()), StreamUsage(request, _ByteCounter())
    whole.feed(content)
    for start in range(0, min(len(content), 64 * size), size):
        pieces.feed(content[start : start + size])
    pieces.feed(content[64 * size :])
    one, other = whole.result(), pieces.result()
    assert (one.body, one.estimated, one.usage_error is None) == (
        other.body,
        other.estimated,
        other.usage_error is None,
    ), "the pieces change the result"
    assert all(warning.isprintable() for warning in (*whole.warnings, *one.warnings)), "a terminal may obey a warning"
    if one.body is not None and one.usage_error is None:
        assert Usage.from_response(json.loads(json.dumps(one.body))) == one.usage


def _price_file(data: bytes) -> None:
    """Price files: what loads can be rated and shown, and has a digest that does not depend on the text."""
    book = PriceBook.loads(data)
    assert book.digest.startswith("sha256:")
    usage = Usage(1000, 100, 500)
    for group in list(book.groups(at=_AT))[:2]:
        try:
            models = book.models(group=group, at=_AT)
        except BillingError:  # no terms at this time
            continue
        for model in list(models)[:_MAX_RATED_MODELS]:
            try:
                charge = book.rate(usage, model=model, group=group, at=_AT)
            except BillingError:  # no price at this time
                continue
            assert sum(line.credits for line in charge.lines) == charge.credits
            assert charge.explain()
    price_list(book, at=_AT)


def _usage_file(data: bytes) -> None:
    """Usage files: no line is lost, each leaf is that of its line, and the bill of an account verifies."""
    lines = data.splitlines(keepends=True)
    for line in lines:
        for record in read_records([line]):
            if isinstance(record, Record):
                assert record.leaf == leaf_hash(canonical_json(loads_strict(line, "line")))
    book = _book()
    totals = aggregate_usage(io.BytesIO(data), book, PERIOD)
    for number, (name, account) in enumerate(sorted(totals.accounts.items())):
        if number < _MAX_RATED_MODELS and account.requests:
            header = Header(name, PERIOD, "2026-10", issued=PERIOD.end, issuer="Example Gateway Ltd")
            document = seal(build_invoice(account, header, book))
            report = Verifier(lambda: io.BytesIO(data), book).verify(document)
            assert report.ok, report.differences[:3]


def _document(data: bytes) -> None:
    """Bills, notes and proofs: only an original one verifies, and a valid one has a text, a page and lines."""
    with tempfile.NamedTemporaryFile(prefix="fuzz-") as file:
        file.write(data)
        file.flush()
        document = read_document(file.name)
    bill, originals = _reference_bill()
    if "leaf_index" in document:
        check_inclusion_proof(bill, document)
        return
    report = _verifier().verify(document)
    if report.ok:
        unsigned = {key: value for key, value in document.items() if key != "signature"}
        assert canonical_json(unsigned) in originals, "an altered document verifies"
    if not schema_errors(document):
        render_text(document)
        lines_csv(document)
        bill_page(document)


def _catalog(data: bytes) -> None:
    """Public price data: the first byte selects the source. What is imported is a price file that loads."""
    source = list(SOURCES)[(data[:1] or b"\0")[0] % len(SOURCES)]
    PriceBook.loads(build_price_file(read_catalog(source, data[1:]), "2026-01-01"))


@cache
def _book() -> PriceBook:
    return PriceBook.load(REFERENCE / "inputs" / "rich.yaml")


@cache
def _verifier() -> Verifier:
    """Return a verifier with the usage of the bill below. Other accounts would take time and find nothing."""
    account = b'"' + _reference_bill()[0]["customer"]["account"].encode() + b'"'
    usage = (REFERENCE / "inputs" / "usage.jsonl").read_bytes().splitlines(keepends=True)
    content = b"".join(line for line in usage if account in line)
    return Verifier(lambda: io.BytesIO(content), _book())


@cache
def _reference_bill() -> tuple[dict[str, Any], frozenset[bytes]]:
    """Return the bill of the reference proof, and the canonical texts of all reference documents."""
    paths = sorted((REFERENCE / "bills").rglob("*/invoice.json"))
    documents = [{k: v for k, v in read_document(path).items() if k != "signature"} for path in paths]
    bill = read_document(REFERENCE / "bills" / "bills" / "REF-000002" / "invoice.json")
    return bill, frozenset(map(canonical_json, documents))


READERS: Final[dict[str, Callable[[bytes], None]]] = {
    "usage": _usage,
    "stream": _stream,
    "price_file": _price_file,
    "usage_file": _usage_file,
    "document": _document,
    "catalog": _catalog,
}
"""Name of a reader -> its harness."""
