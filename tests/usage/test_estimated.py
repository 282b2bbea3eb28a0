"""The mark of an estimate: from a body or an argument to the charge, its explanation, the record and the bill."""

from __future__ import annotations

import copy
import csv
import io
import json
import pickle
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
from request_strategies import made
from samples import NOW, code_of, shipped
from strategies import counts

Json = dict[str, Any]
NO_MARKS: list[Any] = [1, 0, None, "true", "", [], {}, 1.0]
KINDS = ("chat", "responses", "whole")


def marked(number: int, estimated: Any = True, **changes: Any) -> Json:
    """A record whose counts were estimated."""
    one = record(number, **changes)
    usage = copy.deepcopy(one["usage"])
    usage.get("usage", usage)["estimated"] = estimated
    return {**one, "usage": usage}


# --- usage and charge ---


@given(counts())
def test_the_mark_is_part_of_a_usage(given_counts: dict[str, int]) -> None:
    """A marked usage has the counts of the unmarked one, is not equal to it, and keeps its mark in repr and pickle."""
    bare = made(given_counts)
    guess = Usage(**given_counts, estimated=True)  # type: ignore[arg-type]  # they are counts only
    assert (guess.estimated, bare.estimated) == (True, False)
    assert (guess.meters, guess.total_tokens) == (bare.meters, bare.total_tokens)
    assert guess != bare
    assert eval(repr(guess)) == guess
    assert "estimated=True" in repr(guess)
    assert "estimated" not in repr(bare)
    assert pickle.loads(pickle.dumps(guess)) == guess
    assert Usage(**given_counts, estimated=False) == bare  # type: ignore[arg-type]


def test_a_usage_put_together_keeps_the_mark() -> None:
    """``assembled`` makes the usage that the constructor makes, with the mark and without."""
    for mark in (True, False):
        assert Usage.from_fields(make_fields(9, 7, 2, 3, 1, None, None, (), mark)) == Usage(
            9, 3, 2, 0, 1, estimated=mark
        )


@pytest.mark.parametrize("value", NO_MARKS, ids=repr)
@pytest.mark.parametrize("shape", ["argument", "chat", "responses"])
def test_a_mark_is_true_or_false(shape: str, value: Any) -> None:
    """Whatever is neither true nor false is no mark: ``invalid_usage``, as argument and in a body."""
    with pytest.raises(BillingError, match=r"^estimated is ") as caught:
        Usage(1, estimated=value) if shape == "argument" else Usage.from_response({**body(shape), "estimated": value})
    assert code_of(caught) == "invalid_usage"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [True, False])
def test_a_body_may_be_marked(kind: str, value: bool) -> None:
    """``estimated`` inside a usage object marks it, as dict or as object, and changes no count."""
    plain = body(kind)
    inner = {**plain.get("usage", plain), "estimated": value}
    given_body = {**plain, "usage": inner} if "usage" in plain else inner
    usage = Usage.from_response(given_body)
    assert usage.estimated is value
    assert usage.meters == Usage.from_response(plain).meters
    assert Usage.from_response(SimpleNamespace(usage=SimpleNamespace(**inner))).estimated is value
    assert Usage.from_response({"usage": {"input_tokens": 10, "output_tokens": 5, "estimated": True}}).estimated


def test_a_charge_says_that_it_was_estimated() -> None:
    """An estimate costs what a reported usage costs; charge, ``as_dict`` and the explanations say that it is one."""
    sure, guess = (
        shipped().rate(Usage(900, 40, estimated=mark), model="gpt-5.4", group="default", at=NOW)
        for mark in (False, True)
    )
    assert sure.credits == guess.credits
    assert sure != guess
    assert (sure.estimated, guess.estimated) == (False, True)
    assert (sure.as_dict()["estimated"], guess.as_dict()["estimated"]) == (False, True)
    assert "the provider reported no token counts for this request, so they were estimated" in guess.explain()
    assert "估算" in guess.explain("zh_CN")
    for locale in ("en", "zh_CN"):
        lines = guess.explain(locale).splitlines()
        assert [line for line in lines if line not in sure.explain(locale)] == [lines[1]]


# --- records ---


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_record_keeps_the_mark(number: int) -> None:
    """A record of a marked usage is marked; one that says ``false``, or nothing, is not."""
    for one, mark in ((marked(number), True), (marked(number, False), False), (record(number), False)):
        (found,) = read_records([json.dumps(one).encode()])
        assert isinstance(found, Record)
        assert (found.estimated, found.usage.estimated) == (mark, mark)
        assert found.usage == Usage.from_response(one["usage"])


def test_a_mark_that_is_none_sets_the_line_aside() -> None:
    """A line whose mark is neither true nor false is set aside, not billed as reported."""
    for value in NO_MARKS:
        (found,) = read_records([json.dumps(marked(1, value)).encode()])
        assert isinstance(found, RejectedRecord)
        assert found.code == "invalid_usage"


# --- bills ---


def credits_of(rows: list[Json]) -> Fraction:
    """What these records cost, one by one."""
    found = Fraction(0)
    for row in rows:
        usage = Usage.from_response(row["usage"])
        at = next(r.at for r in read_records([json.dumps(row).encode()]) if isinstance(r, Record))
        charge = BOOK.rate(usage, model=row["model"], group=row["group"], at=at, service_tier=row["service_tier"])
        found += Fraction(charge.credits)
    return found


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(st.sampled_from([None, True, False]), min_size=1, max_size=12))
def test_a_bill_tells_what_was_estimated(marks: list[bool | None]) -> None:
    """The bill counts the marked requests and their Credits apart, and its lines are those of the unmarked bill."""
    rows = [record(n) if mark is None else marked(n, mark) for n, mark in enumerate(marks, 1)]
    document = billed(written(rows))
    guessed = [row for row, mark in zip(rows, marks, strict=True) if mark]
    part = document["totals"]["estimated"]
    assert part["requests"] == len(guessed)
    assert Fraction(part["credits"]) == credits_of(guessed)
    plain = billed(written([record(n) for n, _ in enumerate(marks, 1)]))
    assert document["lines"] == plain["lines"]
    assert {**document["totals"], "estimated": 0} == {**plain["totals"], "estimated": 0}
    text = render_text(document)
    line = f"{len(guessed)} request{'s' if len(guessed) != 1 else ''}, {part['credits']} Credits of the above"
    assert (line in text) == ("Estimated" in text) == bool(guessed)


def test_an_estimate_beside_a_plain_request_of_its_kind() -> None:
    """A marked request between equal unmarked ones leaves no mark on those before and after it."""
    same = {"at": "2026-10-03T00:00:00Z", "usage": body()}
    rows = [record(1, **same), marked(2, **same), record(3, **same)]
    found = aggregate_usage(written(rows).splitlines(keepends=True), BOOK, OCTOBER).accounts["acct_1"]
    assert sorted((cell.estimated, cell.requests) for cell in found.buckets) == [(False, 2), (True, 1)]


def test_a_spoiled_estimate_does_not_verify() -> None:
    """A bill that hides or makes up estimates, its hash made again, is found; so is a mark taken out of the usage."""
    rows = [record(1), marked(2), record(3)]
    document = billed(written(rows))
    assert verified(document, written(rows)).differences == []
    spoiled = {**document, "totals": {**document["totals"], "estimated": {"requests": 0, "credits": "0"}}}
    spoiled["hash"] = document_hash(spoiled)
    wheres = {difference.where for difference in verified(spoiled, written(rows)).differences}
    assert wheres == {"totals.estimated.requests", "totals.estimated.credits"}
    now = {
        difference.where for difference in verified(document, written([record(1), record(2), record(3)])).differences
    }
    assert {"totals.estimated.requests", "evidence.merkle_root"} <= now


def test_a_note_takes_an_estimate_back() -> None:
    """When the provider's counts arrive after the bill, a note tells that less is estimated, even at the same price."""
    before, after = written([record(1), marked(2)]), written([record(1), record(2)])
    bill = billed(before)
    head = header(number=2, previous=bill)
    right = build_invoice(
        aggregate_usage(after.splitlines(keepends=True), BOOK, OCTOBER).accounts["acct_1"], head, BOOK
    )
    note = seal(build_note(bill, right, head, "the provider's counts came"))
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


def test_the_commands_tell_it(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """``rate`` tells for each request whether it was estimated, as JSON and as CSV; ``explain`` says it in words."""
    prices = str(ROOT / "pricing.yaml")
    rows = [r(n, model="gpt-5.4", at="2026-10-20T00:00:00Z") for r, n in ((record, 1), (marked, 2))]
    path = tmp_path / "usage.jsonl"
    path.write_bytes(written(rows))
    assert main(["rate", str(path), "--prices", prices]) == 0
    assert [json.loads(line)["estimated"] for line in capsys.readouterr().out.splitlines()] == [False, True]
    assert main(["rate", str(path), "--prices", prices, "--format", "csv"]) == 0
    assert [row["estimated"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))] == ["false", "true"]
    assert main(["explain", str(path), "--prices", prices, "--request", "req_2"]) == 0
    assert "ESTIMATED: the provider reported no token counts" in capsys.readouterr().out
