"""The estimate flag: from a body or an argument to the charge, its explanation, the record and the bill."""

from __future__ import annotations

import copy
import csv
import io
import json
import pickle
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bill_kit import BOOK, OCTOBER, ROOT, billed, body, header, record, verified, written
from brivionix_billing import BillingError, Usage
from brivionix_billing.cli import main
from brivionix_billing.invoice import aggregate_usage, build_invoice, build_note, document_hash, render_text, seal
from brivionix_billing.usage.fields import make_fields
from brivionix_billing.usage.record_file import Record, RejectedRecord, read_records
from profiles import examples
from request_strategies import usage_of
from samples import NOW, code_of, shipped
from strategies import counts

Json = dict[str, Any]
INVALID_FLAGS: list[Any] = [1, 0, None, "true", "", [], {}, 1.0]
KINDS = ("chat", "responses", "whole")


def estimated_record(number: int, estimated: Any = True, **changes: Any) -> Json:
    """Return a record with estimated counts."""
    row = record(number, **changes)
    usage = copy.deepcopy(row["usage"])
    usage.get("usage", usage)["estimated"] = estimated
    return {**row, "usage": usage}


# --- usage and charge ---


@given(counts())
def test_the_estimate_flag_is_part_of_a_usage(arguments: dict[str, int]) -> None:
    """An estimated usage has the same counts as a reported one, but is not equal to it."""
    reported = usage_of(arguments)
    estimate = Usage(**arguments, estimated=True)  # type: ignore[arg-type]  # all arguments are counts
    assert (estimate.estimated, reported.estimated) == (True, False)
    assert (estimate.meters, estimate.total_tokens) == (reported.meters, reported.total_tokens)
    assert estimate != reported
    assert eval(repr(estimate)) == estimate
    assert "estimated=True" in repr(estimate)
    assert "estimated" not in repr(reported)
    assert pickle.loads(pickle.dumps(estimate)) == estimate
    assert Usage(**arguments, estimated=False) == reported  # type: ignore[arg-type]


def test_from_fields_keeps_the_estimate_flag() -> None:
    """``from_fields`` returns the same usage as the constructor, estimated or not."""
    for flag in (True, False):
        assert Usage.from_fields(make_fields(9, 7, 2, 3, 1, None, None, (), flag)) == Usage(
            9, 3, 2, 0, 1, estimated=flag
        )


@pytest.mark.parametrize("value", INVALID_FLAGS, ids=repr)
@pytest.mark.parametrize("source", ["argument", "chat", "responses"])
def test_the_estimate_flag_must_be_true_or_false(source: str, value: Any) -> None:
    """An ``estimated`` that is neither true nor false is ``invalid_usage``, as an argument and in a body."""
    with pytest.raises(BillingError, match=r"^estimated is ") as caught:
        Usage(1, estimated=value) if source == "argument" else Usage.from_response({**body(source), "estimated": value})
    assert code_of(caught) == "invalid_usage"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [True, False])
def test_a_body_may_have_the_estimate_flag(kind: str, value: bool) -> None:
    """``estimated`` in a usage object sets the flag, in a dict or an SDK object, and changes no count."""
    plain = body(kind)
    inner = {**plain.get("usage", plain), "estimated": value}
    given_body = {**plain, "usage": inner} if "usage" in plain else inner
    usage = Usage.from_response(given_body)
    assert usage.estimated is value
    assert usage.meters == Usage.from_response(plain).meters
    assert Usage.from_response(SimpleNamespace(usage=SimpleNamespace(**inner))).estimated is value
    assert Usage.from_response({"usage": {"input_tokens": 10, "output_tokens": 5, "estimated": True}}).estimated


def test_a_charge_states_that_it_is_estimated() -> None:
    """The charge of an estimate costs the same as a reported one, and states in every form that it is estimated."""
    reported, estimate = (
        shipped().rate(Usage(900, 40, estimated=flag), model="gpt-5.4", group="default", at=NOW)
        for flag in (False, True)
    )
    assert reported.credits == estimate.credits
    assert reported != estimate
    assert (reported.estimated, estimate.estimated) == (False, True)
    assert (reported.as_dict()["estimated"], estimate.as_dict()["estimated"]) == (False, True)
    assert "the provider reported no token counts for this request, so they were estimated" in estimate.explain()
    assert "估算" in estimate.explain("zh_CN")
    for locale in ("en", "zh_CN"):
        lines = estimate.explain(locale).splitlines()
        assert [line for line in lines if line not in reported.explain(locale)] == [lines[1]]


# --- records ---


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_record_keeps_the_estimate_flag(number: int) -> None:
    """A record is estimated if its usage has the flag, and not if the flag is ``false`` or missing."""
    for row, flag in (
        (estimated_record(number), True),
        (estimated_record(number, False), False),
        (record(number), False),
    ):
        (parsed,) = read_records([json.dumps(row).encode()])
        assert isinstance(parsed, Record)
        assert (parsed.estimated, parsed.usage.estimated) == (flag, flag)
        assert parsed.usage == Usage.from_response(row["usage"])


def test_an_invalid_estimate_flag_rejects_the_record() -> None:
    """A record whose flag is neither true nor false is rejected."""
    for value in INVALID_FLAGS:
        (parsed,) = read_records([json.dumps(estimated_record(1, value)).encode()])
        assert isinstance(parsed, RejectedRecord)
        assert parsed.code == "invalid_usage"


# --- bills ---


def credits_of(rows: list[Json]) -> Fraction:
    """Return the sum of the charges of these records."""
    total = Fraction(0)
    for row in rows:
        usage = Usage.from_response(row["usage"])
        at = next(r.at for r in read_records([json.dumps(row).encode()]) if isinstance(r, Record))
        charge = BOOK.rate(usage, model=row["model"], group=row["group"], at=at, service_tier=row["service_tier"])
        total += Fraction(charge.credits)
    return total


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(st.sampled_from([None, True, False]), min_size=1, max_size=12))
def test_a_bill_states_its_estimated_part(flags: list[bool | None]) -> None:
    """A bill states the number and Credits of estimated requests, and its lines do not depend on the flag."""
    rows = [record(n) if flag is None else estimated_record(n, flag) for n, flag in enumerate(flags, 1)]
    document = billed(written(rows))
    estimated = [row for row, flag in zip(rows, flags, strict=True) if flag]
    part = document["totals"]["estimated"]
    assert part["requests"] == len(estimated)
    assert Fraction(part["credits"]) == credits_of(estimated)
    plain = billed(written([record(n) for n, _ in enumerate(flags, 1)]))
    assert document["lines"] == plain["lines"]
    assert {**document["totals"], "estimated": 0} == {**plain["totals"], "estimated": 0}
    text = render_text(document)
    shown = Decimal(part["credits"]).quantize(Decimal("0.000001"), ROUND_HALF_UP)  # as the total above
    line = f"{len(estimated)} request{'s' if len(estimated) != 1 else ''}, {shown} Credits of the total above"
    assert (line in text) == ("Estimated" in text) == bool(estimated)


def test_an_estimate_between_equal_reported_requests_is_counted_alone() -> None:
    """An estimated request does not affect equal reported requests before and after it."""
    same = {"at": "2026-10-03T00:00:00Z", "usage": body()}
    rows = [record(1, **same), estimated_record(2, **same), record(3, **same)]
    account = aggregate_usage(written(rows).splitlines(keepends=True), BOOK, OCTOBER).accounts["acct_1"]
    assert sorted((cell.estimated, cell.requests) for cell in account.buckets) == [(False, 2), (True, 1)]


def test_an_altered_estimate_is_found_by_verify() -> None:
    """``verify`` finds an altered estimated part, even with a recomputed hash, and a flag missing in the usage file."""
    rows = [record(1), estimated_record(2), record(3)]
    document = billed(written(rows))
    assert verified(document, written(rows)).differences == []
    altered = {**document, "totals": {**document["totals"], "estimated": {"requests": 0, "credits": "0"}}}
    altered["hash"] = document_hash(altered)
    wheres = {difference.where for difference in verified(altered, written(rows)).differences}
    assert wheres == {"totals.estimated.requests", "totals.estimated.credits"}
    places = {
        difference.where for difference in verified(document, written([record(1), record(2), record(3)])).differences
    }
    assert {"totals.estimated.requests", "evidence.merkle_root"} <= places


def test_a_note_removes_an_estimate() -> None:
    """If reported counts replace an estimate, a note reduces the estimated part, even at the same price."""
    before, after = written([record(1), estimated_record(2)]), written([record(1), record(2)])
    bill = billed(before)
    head = header(number=2, previous=bill)
    correct = build_invoice(
        aggregate_usage(after.splitlines(keepends=True), BOOK, OCTOBER).accounts["acct_1"], head, BOOK
    )
    note = seal(build_note(bill, correct, head, "the provider's counts came"))
    assert note["totals"]["estimated"] == {
        "requests": -1,
        "credits": "-" + bill["totals"]["estimated"]["credits"],
    }
    assert (note["lines"], note["totals"]["credits"], note["kind"]) == ([], "0", "credit_note")
    assert "-1 requests" in render_text(note)
    assert verified(note, after, corrects=bill, previous=bill).differences == []
    with pytest.raises(BillingError, match="nothing to correct"):
        build_note(bill, {**bill}, head, "no reason")


# --- commands ---


def test_the_commands_report_estimates(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """``rate`` reports in JSON and CSV whether a request is estimated, and ``explain`` reports it as text."""
    prices = str(ROOT / "pricing.yaml")
    rows = [build(n, model="gpt-5.4", at="2026-10-20T00:00:00Z") for build, n in ((record, 1), (estimated_record, 2))]
    path = tmp_path / "usage.jsonl"
    path.write_bytes(written(rows))
    assert main(["rate", str(path), "--prices", prices]) == 0
    assert [json.loads(line)["estimated"] for line in capsys.readouterr().out.splitlines()] == [False, True]
    assert main(["rate", str(path), "--prices", prices, "--format", "csv"]) == 0
    assert [row["estimated"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))] == ["false", "true"]
    assert main(["explain", str(path), "--prices", prices, "--request", "req_2"]) == 0
    assert "ESTIMATED: the provider reported no token counts" in capsys.readouterr().out
