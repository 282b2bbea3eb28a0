"""One bill over recorded bodies of many providers, from the usage file to a verified document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import bill_oracle
import usage_oracle
from bill_kit import OCTOBER, billed, header, verified, written
from brivionix_billing import PriceBook, Usage
from brivionix_billing.cli import main
from brivionix_billing.invoice import aggregate_usage, build_invoice, render_text
from brivionix_billing.usage import billable_body
from recorded_bodies import NOTED, REAL

Json = dict[str, Any]

PRICES = """\
version: 1
credit: {currency: USD, nominal_per_credit: 1}
cache_discount: [{from: 2026-01-01, discount: 0.90}]
tools: {web_search: [{from: 2026-01-01, per_1000_calls: 10}]}
channels: {rmb: {currency: CNY, prices: [{from: 2026-01-01, price_per_credit: 0.85}]}}
models:
  gpt: {RELEASED, prices: [{from: 2026-01-01, standard: {input: 1.25, cache_write: 1.5, output: 10, AUDIO}, BATCH}]}
  claude:
    RELEASED_LINE
    prices:
      - from: 2026-01-01
        standard: {input: 3, cache_read: 0.3, cache_write: 3.75, cache_write_1h: 6, output: 15}
        priority: {input: 18, cache_read: 1.8, cache_write: 22.5, cache_write_1h: 36, output: 90}
        batch: {input: 1.5, cache_read: 0.15, cache_write: 1.875, cache_write_1h: 3, output: 7.5}
  gemini:
    RELEASED_LINE
    prices:
      - from: 2026-01-01
        standard: {input: 0.3, output: 2.5, audio_input: 1, image_input: 0.3, image_output: 30, video_input: 0.35}
        flex: {input: 0.15, output: 1.25, audio_input: 0.5, image_input: 0.15, image_output: 15, video_input: 0.2}
  nova: {RELEASED, prices: [{from: 2026-01-01, standard: {input: 0.8, cache_read: 0.2, cache_write: 1, output: 3.2}}]}
  command: {RELEASED, prices: [{from: 2026-01-01, standard: {input: 2.5, output: 10}}]}
groups: {default: {terms: [{from: 2026-01-01, ratio: 0.8, models: ["*"]}]}}
"""
SIZES = "released: 2026-01-01, encoding: o200k_base, context: {window: 400000, max_input: 272000, max_output: 128000}"
TEXT = (
    PRICES.replace("RELEASED_LINE", SIZES.replace(", encoding", "\n    encoding").replace(", context", "\n    context"))
    .replace("RELEASED", SIZES)
    .replace("AUDIO", "audio_input: 40, audio_output: 80")
    .replace("BATCH", "batch: {input: 0.625, output: 5}")
)
BOOK = PriceBook.loads(TEXT)


def provider(body: Json) -> str:
    """Return the model of the price file that represents the provider of a body."""
    if "usageMetadata" in body:
        return "gemini"
    usage = body.get("usage") or body["meta"]
    if "billed_units" in usage:
        return "command"
    if "inputTokens" in usage:
        return "nova"
    return "claude" if "cache_creation" in usage else "gpt"


def rows(numbers: set[int] | None = None) -> Iterator[Json]:
    """Yield one record per recorded body; every second one has only its billable part, every fifth is an estimate."""
    start = datetime(2026, 10, 1, tzinfo=UTC)
    for index, line in enumerate(REAL):
        if numbers is not None and line["n"] not in numbers:
            continue
        body = billable_body(line["body"]) if index % 2 else json.loads(json.dumps(line["body"]))
        if index % 5 == 0:
            body[next(name for name in ("usage", "usageMetadata", "meta") if name in body)]["estimated"] = True
        yield {
            "request_id": f"req_{line['n']}",
            "at": (start + timedelta(hours=index)).isoformat().replace("+00:00", "Z"),
            "account": "acct_1",
            "group": "default",
            "model": provider(body),
            "usage": body,
        }


OTHER_MODELS = {number for number, noted in NOTED.items() if "parts" in noted}
"""Numbers of bodies with runs of models that the price file does not have."""
VALID = written(rows({line["n"] for line in REAL} - OTHER_MODELS))


def test_a_bill_of_many_providers() -> None:
    """Every figure of a bill over bodies of all formats equals the oracle's, and the bill verifies."""
    document = billed(VALID, BOOK)
    expected = bill_oracle.bill(VALID.splitlines(), bill_oracle.read_book(TEXT), OCTOBER.start, OCTOBER.end, "acct_1")
    assert document["lines"] == expected.lines
    assert (document["totals"], document["savings"]) == (expected.totals, expected.savings)
    assert document["days"] == expected.days
    assert {name: document["evidence"][name] for name in expected.evidence} == expected.evidence
    assert (expected.rejected, document["evidence"]["records"]) == ([], len(REAL) - len(OTHER_MODELS))
    unaccounted = {entry["path"]: entry["numbers"] for entry in document["evidence"]["unaccounted"]}
    assert unaccounted.items() >= {
        ("usage.server_tool_use_details.tool_calls_executed", 1),
        ("usage.total_tokens", 1),
    }
    assert verified(document, VALID, BOOK).differences == []
    meters = {line["meter"] for line in document["lines"]}
    assert meters >= {"cache_read", "cache_write", "audio_input", "image_output", "video_input", "video_cache_read"}
    assert {line["service_tier"] for line in document["lines"]} == {"standard", "flex"}
    assert "Estimated, because the provider reported no usage" in render_text(document)


def test_the_bill_is_the_sum_of_its_requests() -> None:
    """The Credits of the bill, and of its estimated part, are the sums of the charges of its requests."""
    document = billed(VALID, BOOK)
    total = estimated = Fraction(0)
    for row in map(json.loads, VALID.splitlines()):
        charge = BOOK.rate(Usage.from_response(row["usage"]), model=row["model"], group="default", at=OCTOBER.start)
        total += Fraction(charge.credits)
        estimated += Fraction(charge.credits) if usage_oracle.read(row["usage"]).estimated else 0
    assert Fraction(document["totals"]["credits"]) == total
    assert Fraction(document["totals"]["estimated"]["credits"]) == estimated > 0


def test_invalid_bodies_are_rejected() -> None:
    """Bodies with a run of an unknown model are rejected, and change only the count of rejected records."""
    everything = written(rows())
    rejected: list[Any] = []
    aggregated = aggregate_usage(everything.splitlines(keepends=True), BOOK, OCTOBER, on_rejected=rejected.append)
    document = build_invoice(aggregated.accounts["acct_1"], header(), BOOK)
    without = {**billed(VALID, BOOK), "hash": None}
    assert {record.request_id: record.code for record in rejected} == {
        f"req_{n}": "unknown_model" for n in OTHER_MODELS
    }
    assert document["evidence"]["rejected"] == len(OTHER_MODELS)
    document["evidence"]["rejected"] = 0
    assert {**document, "hash": None} == without


def test_the_commands_accept_every_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``rate``, ``invoice`` and ``verify`` accept a file of all formats; a changed count does not verify."""
    prices, usage, out = tmp_path / "pricing.yaml", tmp_path / "usage.jsonl", tmp_path / "bill"
    prices.write_text(TEXT, encoding="utf-8")
    usage.write_bytes(VALID)
    options = ["--prices", str(prices)]
    assert main(["rate", str(usage), *options]) == 0
    charges = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(charges) == len(REAL) - len(OTHER_MODELS)
    assert main(["invoice", str(usage), "--account", "acct_1", "--period", "2026-10", "--out", str(out), *options]) == 0
    assert main(["verify", str(out / "invoice.json"), "--usage", str(usage), *options]) == 0
    assert "verified" in capsys.readouterr().out
    bill = json.loads((out / "invoice.json").read_text(encoding="utf-8"))
    assert sum(Fraction(charge["credits"]) for charge in charges) == Fraction(bill["totals"]["credits"])
    usage.write_bytes(VALID.replace(b'"inputTokens": 22', b'"inputTokens": 21').replace(b"2527", b"2526"))
    assert main(["verify", str(out / "invoice.json"), "--usage", str(usage), *options]) == 1
