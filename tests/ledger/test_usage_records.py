"""Records of a usage file from the journal: whatever was charged, the same price file charges the record the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from brivionix_billing import BillingError, PriceBook, Usage
from brivionix_billing.ledger import Ledger
from brivionix_billing.times import Period
from brivionix_billing.usage.record_file import Record, read_records

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = Period.parse("2026-11-20/2026-11-21")
BOOK = PriceBook.loads("""
version: 1
credit: {currency: USD, nominal_per_credit: 1}
meters:
  ocr_pages: {unit: page, per: 1000}
upstreams:
  beside: {cache_read: beside_input}
unaccounted:
  usage.ocr_pages: ocr_pages
models:
  alpha:
    prices:
      - from: 2026-01-01T00:00:00Z
        standard:
          input: 1
          output: 2
          cache_read: 0.1
          ocr_pages: 3
          regions: {us: {factor: 1.1}}
          modes: {fast: {factor: 6}}
  router:
    routes_to: [alpha]
    prices:
      - from: 2026-01-01T00:00:00Z
        standard: {router_fee: 0.14}
groups:
  default:
    terms: [{from: 2026-01-01T00:00:00Z, ratio: 0.8, models: ["*"]}]
""")
COUNTS = {"prompt_tokens": 1000, "completion_tokens": 200}


def settle(body: dict[str, Any], *, upstream: str | None = None, **rated: Any) -> tuple[str, Record]:
    """Settle a body, and return the Credits of the charge and the record of the journal."""
    conventions = None if upstream is None else BOOK.conventions(upstream)
    charge = BOOK.rate(Usage.from_response(body, conventions=conventions), group="default", at=AT, **rated)
    with Ledger.open("sqlite://", BOOK) as ledger:
        ledger.open_account("acct", at=AT)
        ledger.grant("acct", 5, reason="test", id="grant", at=AT)
        ledger.hold("acct", 1, id="r1", at=AT)
        ledger.settle("r1", charge, usage=body, upstream=upstream, at=AT)
        lines = [json.dumps(record).encode() for record in ledger.records("acct", DAY)]
        assert ledger.verify() == []
    (record,) = read_records(lines, conventions=BOOK.conventions)
    assert isinstance(record, Record), record
    return str(charge.credits), record


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({"usage": {**COUNTS, "cost": 0.5, "cost_details": {"upstream_inference_cost": 0.4}}}, {"model": "alpha"}),
        ({"usage": {**COUNTS, "ocr_pages": 3}}, {"model": "alpha"}),
        ({"usage": {**COUNTS, "odd_tokens": 3}}, {"model": "alpha"}),
        ({"usage": COUNTS}, {"model": "alpha", "region": "US"}),
        ({"usage": COUNTS}, {"model": "alpha", "mode": "fast"}),
        ({"model": "alpha", "usage": COUNTS}, {"model": "router"}),
        ({"usage": {**COUNTS, "prompt_tokens_details": {"cached_tokens": 1500}}}, {"upstream": "beside"}),
    ],
    ids=["ignored cost", "priced path", "reported path", "region", "mode", "router", "upstream"],
)
def test_a_record_of_the_journal_costs_what_was_charged(body: dict[str, Any], options: dict[str, Any]) -> None:
    """The record states region, mode, router and upstream, and a policy on unaccounted numbers applies to it again."""
    credits, record = settle(body, **{"model": "alpha", **options})
    assert str(BOOK.rate_record(record).credits) == credits


def test_an_upstream_needs_a_ledger_that_knows_the_price_book() -> None:
    """Without the book, the ledger cannot check that the charge was made from this usage by these conventions."""
    body = {"usage": {**COUNTS, "prompt_tokens_details": {"cached_tokens": 1500}}}
    usage = Usage.from_response(body, conventions=BOOK.conventions("beside"))
    charge = BOOK.rate(usage, model="alpha", group="default", at=AT)
    with Ledger.open("sqlite://") as ledger:
        ledger.open_account("acct", at=AT)
        with pytest.raises(BillingError, match="open the ledger with the price book"):
            ledger.charge("acct", charge, usage=body, upstream="beside", id="r1", at=AT)
