"""Every body format: bodies built from disjoint counts are read as these counts, and errors are named."""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from collections.abc import Iterator
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import usage_oracle
from body_builders import FORMATS, BuiltBody, as_namespaces, as_sdk_objects, built_bodies, counted
from brivionix_billing import BillingError, Usage
from brivionix_billing.usage import MAX_COUNT, billable_body
from brivionix_billing.usage.record_file import Record, read_records
from oracle import FEES
from profiles import examples
from samples import code_of
from strategies import containing_arguments

format_settings = settings(max_examples=examples(60), deadline=None)
Json = dict[str, Any]
WITHOUT_TOTAL = ("anthropic", "cohere usage", "cohere meta", "embedding")
"""Formats without a stated total, and one that is recognized by its total."""
NOT_COUNTS = [-1, 10**12 + 1, True, "7.5", "0x7", [7], float("nan"), 1.5]


def expected_usage(built: BuiltBody) -> Usage:
    """Return the expected usage of a body."""
    envelope_fields = {
        "service_tier": built.tier,
        "model": built.model,
        "mode": built.mode,
        "estimated": built.estimated,
    }
    return Usage(**containing_arguments(built.meters), reasoning_tokens=built.reasoning, **envelope_fields)  # type: ignore[arg-type]


def counts_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], int]]:
    """Yield every integer in a usage object, with its path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from counts_in(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from counts_in(item, (*path, index))
    elif type(value) is int:
        yield path, value


def changed(usage: Json, path: tuple[Any, ...], value: Any) -> Json:
    """Return a copy with a different value at a path."""
    result = copy.deepcopy(usage)
    node: Any = result
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return result


def outcome(body: Any) -> Usage | tuple[str, str]:
    """Return the usage, or code and message of the error."""
    try:
        return Usage.from_response(body)
    except BillingError as error:
        return error.code, error.message


# --- reading ---


@pytest.mark.parametrize("body_format", FORMATS)
def test_a_body_is_read_as_its_counts(body_format: str) -> None:
    """A body is read as the disjoint counts that it was built from, as a dict, a mapping or an object of an SDK."""

    @format_settings
    @given(built_bodies(body_format))
    def law(built: BuiltBody) -> None:
        usage = expected_usage(built)
        bodies = (
            built.body,
            as_sdk_objects(built.body),
            as_namespaces(built.body),
            MappingProxyType(built.body),
            OrderedDict(built.body),
        )
        for body in bodies:
            assert counted(Usage.from_response(body)) == usage
        expected = usage_oracle.read(built.body)
        assert (expected.meters, expected.reasoning) == (built.meters, built.reasoning)

    law()


@pytest.mark.parametrize("body_format", FORMATS)
def test_disjoint_meters_add_up_to_the_total(body_format: str) -> None:
    """The token meters add up to input plus output, and to the stated total."""

    @format_settings
    @given(built_bodies(body_format))
    def law(built: BuiltBody) -> None:
        usage = Usage.from_response(built.body)
        tokens = sum(count for name, count in usage.meters.items() if name not in FEES)
        assert tokens == usage.input_tokens + usage.output_tokens == usage.total_tokens == built.tokens
        if built.total is not None:
            assert tokens == built.usage[built.total]

    law()


@pytest.mark.parametrize("body_format", FORMATS)
def test_a_bare_usage_object_gives_the_same_counts(body_format: str) -> None:
    """A usage object without its response envelope gives the same token counts."""

    @format_settings
    @given(built_bodies(body_format))
    def law(built: BuiltBody) -> None:
        usage = Usage.from_response(built.body)
        for bare in (built.usage, as_sdk_objects(built.usage), as_namespaces(built.usage)):
            bare_usage = Usage.from_response(bare)
            for name in ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens", "estimated"):
                assert getattr(bare_usage, name) == getattr(usage, name)

    law()


@pytest.mark.parametrize("body_format", FORMATS)
def test_a_usage_file_line_gives_the_usage_of_its_body(body_format: str) -> None:
    """A line of a usage file gives the usage of its body, whether the body is complete or reduced."""

    @settings(max_examples=examples(25), deadline=None)
    @given(built_bodies(body_format))
    def law(built: BuiltBody) -> None:
        line = {"request_id": "r", "at": "2026-10-01T00:00:00Z", "account": "a", "group": "g", "model": "m"}
        for body in (built.body, billable_body(built.body)):
            (record,) = read_records([json.dumps({**line, "usage": body}).encode()])
            assert isinstance(record, Record)
            assert counted(record.usage) == expected_usage(built)

    law()


# --- rejecting ---


@pytest.mark.parametrize("body_format", [name for name in FORMATS if name not in WITHOUT_TOTAL])
def test_a_total_that_is_not_the_sum_is_noted(body_format: str) -> None:
    """A total above the sum of its parts is unaccounted, any other difference a warning, and the parts are billed."""

    @format_settings
    @given(
        built_bodies(body_format).filter(lambda built: built.total is not None), st.integers(1, 10**6), st.booleans()
    )
    def law(built: BuiltBody, off: int, more: bool) -> None:
        key = str(built.total)
        total = built.usage[key]
        if not more and (off > total or "xai" in body_format):
            return  # xAI's total minus the reasoning tokens is a valid sum too
        stated = total + off if more else total - off
        if built.reasoning and stated == total + built.reasoning and "xai" not in body_format:
            return  # xAI counts reasoning this way
        if built.reasoning and body_format == "chat xai":
            return  # whether the output contains the reasoning follows from the total
        audio = sum(built.meters.get(name, 0) for name in ("audio_input", "audio_cache_read", "audio_cache_write"))
        if audio and stated - total in (audio, audio + built.reasoning):
            return  # Mistral counts audio this way
        body = {**built.body, built.name: {**built.usage, key: stated}}
        cached = sum(built.meters.get(name, 0) for name in ("cache_read", "cache_write", "cache_write_1h"))
        if body_format == "bedrock" and cached and stated == total - cached:
            # Either the total leaves the cache out, or the input contains it: the price is not known.
            assert outcome(body)[0] == "usage_contradiction"
            return
        usage = Usage.from_response(body)
        assert usage.meters == expected_usage(built).meters
        if more and off > 1:
            assert stated in [value for path, value in usage.unaccounted if path.endswith(key)]
        elif stated:
            assert any(str(stated) in warning for warning in usage.warnings)

    law()


@pytest.mark.parametrize("body_format", FORMATS)
@pytest.mark.parametrize("level", ["top", "details"])
def test_a_number_added_anywhere_is_never_dropped(body_format: str, level: str) -> None:
    """A number under an unknown key, at the top or in details, is listed with its path; what was billed stays."""

    @format_settings
    @given(built_bodies(body_format), st.integers(1, 99), st.data())
    def law(built: BuiltBody, count: int, data: st.DataObject) -> None:
        inner = [path for path, _ in counts_in(built.usage) if len(path) > 1]
        if level == "top" or not inner:
            path: tuple[Any, ...] = ("magic_tokens",)
        else:
            path = (*data.draw(st.sampled_from(inner))[:-1], "magic_tokens")
        before = Usage.from_response(built.body)
        for value, end in ((count, "magic_tokens"), ({"deep": [count]}, "magic_tokens.deep[0]"), (count + 0.5, "")):
            usage = Usage.from_response({**built.body, built.name: changed(built.usage, path, value)})
            added = set(usage.unaccounted) - set(before.unaccounted)
            added = {entry for entry in added if not entry[0].endswith("num_server_side_tools_used")}
            assert [(path.endswith(end or "magic_tokens"), float(number)) for path, number in added] == [
                (True, float(count + (0 if end else 0.5)))
            ]
            assert usage.meters == before.meters == expected_usage(built).meters
        assert Usage.from_response({**built.body, built.name: changed(built.usage, path, 0)}) == before

    law()


@pytest.mark.parametrize("body_format", FORMATS)
def test_an_invalid_estimate_flag_is_rejected(body_format: str) -> None:
    """In every format ``estimated`` must be true or false; anything else is ``invalid_usage``."""

    @settings(max_examples=examples(20), deadline=None)
    @given(built_bodies(body_format), st.sampled_from([None, 1, 0, "true", "", [], {}]))
    def law(built: BuiltBody, flag: Any) -> None:
        error = outcome({**built.body, built.name: {**built.usage, "estimated": flag}})
        assert isinstance(error, tuple)
        assert error[0] == "invalid_usage"
        assert error[1].startswith("estimated is ")

    law()


@pytest.mark.parametrize("body_format", FORMATS)
def test_an_invalid_count_is_never_read_as_another_count(body_format: str) -> None:
    """An invalid value in place of a count is rejected, or that count does not affect the usage."""

    @settings(max_examples=examples(100), deadline=None)
    @given(built_bodies(body_format), st.sampled_from(NOT_COUNTS), st.data())
    def law(built: BuiltBody, nonsense: Any, data: st.DataObject) -> None:
        path, _ = data.draw(
            st.sampled_from(sorted(counts_in(built.usage), key=repr) or [(("billed_units", "input_tokens"), 0)])
        )
        body = {**built.body, built.name: changed(built.usage, path, nonsense)}
        result = outcome(body)
        if isinstance(result, Usage):
            assert counted(result) == expected_usage(built)
        else:
            assert result[0] in ("invalid_usage", "usage_contradiction", "unknown_usage_key")
            assert len(result[1]) < 1000
        for other in (as_sdk_objects(body), as_namespaces(body), billable_body(body)):
            other_result = outcome(other)
            if isinstance(result, Usage):
                assert isinstance(other_result, Usage)
                assert counted(other_result) == counted(result)
            else:
                assert other_result[0] == result[0]

    law()


@pytest.mark.parametrize("body_format", FORMATS)
def test_a_count_above_the_total_is_rejected_or_read_like_the_oracle(body_format: str) -> None:
    """A count above the sum of all tokens is rejected, read as the oracle reads it, or noted."""

    @format_settings
    @given(built_bodies(body_format), st.data())
    def law(built: BuiltBody, data: st.DataObject) -> None:
        path, count = data.draw(
            st.sampled_from(sorted(counts_in(built.usage), key=repr) or [(("billed_units", "input_tokens"), 0)])
        )
        body = {**built.body, built.name: changed(built.usage, path, count + built.tokens + 1)}
        result = outcome(body)
        if isinstance(result, Usage):
            if not (result.warnings or result.unaccounted):
                assert result.meters == usage_oracle.read(body).meters
            assert all(0 < count <= 2 * MAX_COUNT for count in result.meters.values())
        else:
            assert result[0] in ("invalid_usage", "usage_contradiction", "unknown_usage_key")

    law()


# --- the body in a record ---


@pytest.mark.parametrize("body_format", FORMATS)
def test_a_billable_body_gives_the_same_usage(body_format: str) -> None:
    """``billable_body`` keeps the fields that give the same usage, and no text of the model."""

    @format_settings
    @given(built_bodies(body_format))
    def law(built: BuiltBody) -> None:
        billable = billable_body(built.body)
        for body in (built.body, as_sdk_objects(built.body), as_namespaces(built.body)):
            reduced = billable_body(body)
            assert Usage.from_response(reduced) == Usage.from_response(body)
            assert counted(Usage.from_response(body)) == expected_usage(built)
            assert json.loads(json.dumps(reduced, allow_nan=False)) == reduced
            assert billable_body(reduced) == reduced
        assert billable[built.name] == built.usage
        assert list(billable[built.name]) == list(built.usage)
        text = json.dumps(billable, ensure_ascii=False)
        assert len(text) < 2000
        assert not any(word in text for word in ("hello", "回答", "xxx", "open_page", 'message": {'))
        assert billable_body(built.usage) == built.usage

    law()


def test_a_billable_body_is_not_validated() -> None:
    """``billable_body`` keeps invalid counts, so that the record is rejected with the reason."""
    wrong = {"prompt_tokens": -1, "completion_tokens": "three", "total_tokens": None, "more": [{"a": 5}]}
    assert billable_body({"usage": wrong, "model": "m", "choices": ["text"]}) == {"usage": wrong, "model": "m"}


@pytest.mark.parametrize("body", [None, {}, {"usage": None}, {"usage": {"tokens": 3}}, {"choices": []}, 7, "text"])
def test_a_body_without_usage_has_no_billable_body(body: Any) -> None:
    """``billable_body`` raises ``unknown_usage_format`` for a body without a usage object of a known format."""
    with pytest.raises(BillingError) as caught:
        billable_body(body)
    assert code_of(caught) == "unknown_usage_format"


def test_a_value_that_json_cannot_represent_is_neither_count_nor_name() -> None:
    """In a billable body, bytes, NaN and objects become text that is read neither as a count nor as a name."""
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "cost": float("inf"), "raw": b"\0", "when": object}
    billable = billable_body({"usage": usage})
    assert json.loads(json.dumps(billable, allow_nan=False)) == billable
    assert Usage.from_response(billable) == Usage(3, 4)
    for value in (b"3", float("nan"), object):
        body = {"usage": {**usage, "prompt_tokens": value}}
        assert outcome(billable_body(body))[0] == outcome(body)[0] == "invalid_usage"
        assert outcome(billable_body({"usage": usage, "model": value})) == Usage(3, 4)
        tier = {"usage": usage, "service_tier": value}
        assert outcome(billable_body(tier))[0] == outcome(tier)[0] == "invalid_usage"


@pytest.mark.parametrize("value", [5, 0, -1, True, None, "5", 2.5, Decimal("5"), b"5", [5], {"a": 5}])
def test_a_usage_object_alone_is_kept_as_one_in_a_response(value: Any) -> None:
    """A usage object without a response has the same billable body as in a response, whatever its values are."""
    for usage in (
        {"input_tokens": value, "output_tokens": 7, "total_tokens": 12},
        {"input_tokens": 5, "output_tokens": 7, "input_tokens_details": {"cached_tokens": value}},
        {"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": {5: value}},
    ):
        if usage.get("input_tokens", 5) is None:
            continue  # without input tokens it is no usage object
        billable = billable_body(usage)
        assert billable == billable_body({"usage": usage})["usage"]
        assert json.loads(json.dumps(billable)) == billable


def test_a_billable_body_shares_nothing_with_the_usage_object() -> None:
    """Counts that change after ``billable_body`` do not change what it returned."""
    usage = {"input_tokens": 5, "output_tokens": 7, "input_tokens_details": {"cached_tokens": 2}}
    billable = billable_body(usage)
    usage["input_tokens_details"]["cached_tokens"] = 4  # type: ignore[index]
    assert billable["input_tokens_details"] == {"cached_tokens": 2}


def test_an_overlong_name_stays_invalid_in_a_billable_body() -> None:
    """A served name of more than 256 characters is truncated in a billable body, but not to a valid name."""
    body = {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    for tier in ("x" * 257, "x" * 10**6):
        billable = billable_body({**body, "service_tier": tier, "model": tier})
        assert len(json.dumps(billable)) < 1000
        assert outcome(billable) == outcome({**body, "service_tier": "x" * 257})
        assert outcome(billable_body({**body, "model": tier})) == outcome({**body, "model": tier}) == Usage(3, 4)


def test_deep_nesting_is_rejected_when_read_and_when_reduced() -> None:
    """Nesting too deep for a reader is rejected by ``billable_body`` too, because text could hide a count."""
    deep: Any = 5
    for _ in range(30):
        deep = {"a": deep}
    body = {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "more": deep}}
    assert outcome(body)[0] == "unknown_usage_format"
    with pytest.raises(BillingError, match="nested more than"):
        billable_body(body)
    shallow = {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "more": [[[[[[[0.5]]]]]]]}}
    assert Usage.from_response(billable_body(shallow)) == Usage.from_response(shallow)
