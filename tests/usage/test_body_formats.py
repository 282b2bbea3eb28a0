"""Every shape of body: what was built from disjoint counts is read as those counts, and a wrong one by its name."""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import usage_oracle
from body_builders import SHAPES, Made, made, sdk, spaced
from brivionix_billing import BillingError, Usage
from brivionix_billing.usage import MAX_COUNT, billable_body
from brivionix_billing.usage.record_file import Record, read_records
from oracle import FEES
from profiles import examples
from samples import code_of
from strategies import contained

few = settings(max_examples=examples(60), deadline=None)
Json = dict[str, Any]
UNSTATED = ("anthropic", "cohere usage", "cohere meta", "embedding")
"""Shapes that state no total, and one that is told by it."""
NOT_COUNTS = [-1, 10**12 + 1, True, "7", [7], float("nan"), 1.5]


def meant(found: Made) -> Usage:
    """The usage that a body must be read as."""
    served = {"service_tier": found.tier, "model": found.model, "estimated": found.estimated}
    return Usage(**contained(found.meters), reasoning_tokens=found.reasoning, **served)  # type: ignore[arg-type]


def counts_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], int]]:
    """Every whole number in a usage object, and where it stands."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from counts_in(item, (*path, key))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from counts_in(item, (*path, place))
    elif type(value) is int:
        yield path, value


def changed(usage: Json, path: tuple[Any, ...], value: Any) -> Json:
    """A copy with another value in one place."""
    out = copy.deepcopy(usage)
    node: Any = out
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return out


def outcome(body: Any) -> Usage | tuple[str, str]:
    """The usage, or code and words of the refusal."""
    try:
        return Usage.from_response(body)
    except BillingError as error:
        return error.code, error.message


# --- reading ---


@pytest.mark.parametrize("shape", SHAPES)
def test_a_body_means_its_counts(shape: str) -> None:
    """A body of this shape is read as the disjoint counts it was built from, as dict, mapping or SDK object."""

    @few
    @given(made(shape))
    def law(found: Made) -> None:
        usage = meant(found)
        bodies = (
            found.body,
            sdk(found.body),
            spaced(found.body),
            MappingProxyType(found.body),
            OrderedDict(found.body),
        )
        for body in bodies:
            assert Usage.from_response(body) == usage
        told = usage_oracle.read(found.body)
        assert (told.meters, told.reasoning) == (found.meters, found.reasoning)

    law()


@pytest.mark.parametrize("shape", SHAPES)
def test_disjoint_meters_add_up_to_the_total(shape: str) -> None:
    """The meters of tokens add up to input and output, and to the total that the provider states."""

    @few
    @given(made(shape))
    def law(found: Made) -> None:
        usage = Usage.from_response(found.body)
        tokens = sum(count for name, count in usage.meters.items() if name not in FEES)
        assert tokens == usage.input_tokens + usage.output_tokens == usage.total_tokens == found.tokens
        if found.total is not None:
            assert tokens == found.usage[found.total]

    law()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_bare_usage_object_has_the_same_counts(shape: str) -> None:
    """The usage object alone gives the same tokens as the response around it; only what stands around is missing."""

    @few
    @given(made(shape))
    def law(found: Made) -> None:
        usage = Usage.from_response(found.body)
        for bare in (found.usage, sdk(found.usage), spaced(found.usage)):
            alone = Usage.from_response(bare)
            for name in ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens", "estimated"):
                assert getattr(alone, name) == getattr(usage, name)

    law()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_line_of_a_usage_file_is_read_as_its_body(shape: str) -> None:
    """In a usage file a body of this shape gives the usage of the body, by whichever way the line is read."""

    @settings(max_examples=examples(25), deadline=None)
    @given(made(shape))
    def law(found: Made) -> None:
        line = {"request_id": "r", "at": "2026-10-01T00:00:00Z", "account": "a", "group": "g", "model": "m"}
        for body in (found.body, billable_body(found.body)):
            (record,) = read_records([json.dumps({**line, "usage": body}).encode()])
            assert isinstance(record, Record)
            assert record.usage == meant(found)

    law()


# --- refusing ---


@pytest.mark.parametrize("shape", [name for name in SHAPES if name not in UNSTATED])
def test_a_total_that_is_no_sum_is_refused(shape: str) -> None:
    """A stated total that is not the sum of what it contains is ``usage_contradiction``, with both numbers."""

    @few
    @given(made(shape).filter(lambda found: found.total is not None), st.integers(1, 10**6), st.booleans())
    def law(found: Made, off: int, more: bool) -> None:
        key = str(found.total)
        total = found.usage[key]
        if not more and (off > total or "xai" in shape):
            return  # xAI's total less the reasoning is a sum as well
        wrong = total + off if more else total - off
        if found.reasoning and wrong == total + found.reasoning and "xai" not in shape:
            return  # that is how xAI counts
        with pytest.raises(BillingError, match=rf"\b{wrong} is not .*= ") as caught:
            Usage.from_response({**found.body, found.name: {**found.usage, key: wrong}})
        assert code_of(caught) == "usage_contradiction"

    law()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("where", ["top", "inside"])
def test_a_count_that_nobody_knows_is_refused(shape: str, where: str) -> None:
    """A count under a key that is not known is refused by name in every shape and in its details; a zero is not."""

    @few
    @given(made(shape), st.integers(1, 99), st.data())
    def law(found: Made, count: int, data: st.DataObject) -> None:
        inner = [
            path for path, _ in counts_in(found.usage) if len(path) > 1 and path[0] not in ("cost_details", "tokens")
        ]
        if where == "top" or not inner:
            path: tuple[Any, ...] = ("magic_tokens",)
        else:
            path = (*data.draw(st.sampled_from(inner))[:-1], "magic_tokens")
        for value in (count, {"deep": [count]}):
            with pytest.raises(BillingError, match="'magic_tokens'") as caught:
                Usage.from_response({**found.body, found.name: changed(found.usage, path, value)})
            assert code_of(caught) == "unknown_usage_key"
        assert Usage.from_response({**found.body, found.name: changed(found.usage, path, 0)}) == meant(found)

    law()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_mark_that_is_none_is_refused(shape: str) -> None:
    """In every shape the mark of an estimate is true or false; anything else is ``invalid_usage``, never ignored."""

    @settings(max_examples=examples(20), deadline=None)
    @given(made(shape), st.sampled_from([None, 1, 0, "true", "", [], {}]))
    def law(found: Made, mark: Any) -> None:
        told = outcome({**found.body, found.name: {**found.usage, "estimated": mark}})
        assert isinstance(told, tuple)
        assert told[0] == "invalid_usage"
        assert told[1].startswith("estimated is ")

    law()


@pytest.mark.parametrize("shape", SHAPES)
def test_nonsense_in_place_of_a_count_is_never_read_as_another_count(shape: str) -> None:
    """Whatever stands in place of a count, the body is refused by name, or that count was of no matter."""

    @settings(max_examples=examples(100), deadline=None)
    @given(made(shape), st.sampled_from(NOT_COUNTS), st.data())
    def law(found: Made, nonsense: Any, data: st.DataObject) -> None:
        path, _ = data.draw(
            st.sampled_from(sorted(counts_in(found.usage), key=repr) or [(("billed_units", "input_tokens"), 0)])
        )
        body = {**found.body, found.name: changed(found.usage, path, nonsense)}
        told = outcome(body)
        if isinstance(told, Usage):
            assert told == meant(found)
        else:
            assert told[0] in ("invalid_usage", "usage_contradiction", "unknown_usage_key")
            assert len(told[1]) < 1000
        for other in (sdk(body), spaced(body), billable_body(body)):
            again = outcome(other)
            assert again == told if isinstance(told, Usage) else again[0] == told[0]

    law()


@pytest.mark.parametrize("shape", SHAPES)
def test_more_than_a_part_can_hold_is_refused(shape: str) -> None:
    """One count made larger than all tokens is a contradiction, is refused as unknown, or counts as it stands."""

    @few
    @given(made(shape), st.data())
    def law(found: Made, data: st.DataObject) -> None:
        path, count = data.draw(
            st.sampled_from(sorted(counts_in(found.usage), key=repr) or [(("billed_units", "input_tokens"), 0)])
        )
        body = {**found.body, found.name: changed(found.usage, path, count + found.tokens + 1)}
        told = outcome(body)
        if isinstance(told, Usage):
            assert told.meters == usage_oracle.read(body).meters
            assert all(0 < count <= 2 * MAX_COUNT for count in told.meters.values())
        else:
            assert told[0] in ("invalid_usage", "usage_contradiction", "unknown_usage_key")

    law()


# --- what a record keeps ---


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_reported_is_read_the_same(shape: str) -> None:
    """``reported`` keeps of a body, dict or SDK object, what the same usage is read from, small and without a text."""

    @few
    @given(made(shape))
    def law(found: Made) -> None:
        kept = billable_body(found.body)
        for body in (found.body, sdk(found.body), spaced(found.body)):
            again = billable_body(body)
            assert Usage.from_response(again) == Usage.from_response(body) == meant(found)
            assert json.loads(json.dumps(again, allow_nan=False)) == again
            assert billable_body(again) == again
        assert kept[found.name] == found.usage
        assert list(kept[found.name]) == list(found.usage)
        text = json.dumps(kept, ensure_ascii=False)
        assert len(text) < 2000
        assert not any(word in text for word in ("hello", "回答", "xxx", "open_page", 'message": {'))
        assert billable_body(found.usage) == found.usage

    law()


def test_what_is_reported_is_not_checked() -> None:
    """A usage object with wrong counts is kept as it was, so that its line is set aside with the reason."""
    wrong = {"prompt_tokens": -1, "completion_tokens": "three", "total_tokens": None, "more": [{"a": 5}]}
    assert billable_body({"usage": wrong, "model": "m", "choices": ["text"]}) == {"usage": wrong, "model": "m"}


@pytest.mark.parametrize("body", [None, {}, {"usage": None}, {"usage": {"tokens": 3}}, {"choices": []}, 7, "text"])
def test_nothing_is_reported_of_no_usage(body: Any) -> None:
    """A body without a usage object of a known shape is ``unknown_usage_format`` for ``reported`` as for reading."""
    with pytest.raises(BillingError) as caught:
        billable_body(body)
    assert code_of(caught) == "unknown_usage_format"


def test_what_json_cannot_hold_stays_no_count_and_no_name() -> None:
    """Bytes, NaN and objects are no counts and no names; their text is kept in a way that makes them neither."""
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "cost": float("inf"), "raw": b"\0", "when": object}
    kept = billable_body({"usage": usage})
    assert json.loads(json.dumps(kept, allow_nan=False)) == kept
    assert Usage.from_response(kept) == Usage(3, 4)
    for value in (b"3", float("nan"), object):
        body = {"usage": {**usage, "prompt_tokens": value}}
        assert outcome(billable_body(body))[0] == outcome(body)[0] == "invalid_usage"
        assert outcome(billable_body({"usage": usage, "model": value})) == Usage(3, 4)
        tier = {"usage": usage, "service_tier": value}
        assert outcome(billable_body(tier))[0] == outcome(tier)[0] == "invalid_usage"


def test_a_name_that_is_too_long_stays_too_long() -> None:
    """A served name beyond 256 characters is not copied whole, and is refused, or no model, as before."""
    body = {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    for tier in ("x" * 257, "x" * 10**6):
        kept = billable_body({**body, "service_tier": tier, "model": tier})
        assert len(json.dumps(kept)) < 1000
        assert outcome(kept) == outcome({**body, "service_tier": "x" * 257})
        assert outcome(billable_body({**body, "model": tier})) == outcome({**body, "model": tier}) == Usage(3, 4)


def test_a_hostile_depth_is_refused_by_both() -> None:
    """Nesting beyond what a reader looks through is refused, not kept as a text that would hide a count."""
    abyss: Any = 5
    for _ in range(30):
        abyss = {"a": abyss}
    body = {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "more": abyss}}
    assert outcome(body)[0] == "unknown_usage_key"
    with pytest.raises(BillingError, match="nested more than"):
        billable_body(body)
    shallow = {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "more": [[[[[[[0.5]]]]]]]}}
    assert Usage.from_response(billable_body(shallow)) == Usage.from_response(shallow)
