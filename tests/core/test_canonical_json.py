"""Canonical JSON (RFC 8785): one text and one hash per value, and strict parsing."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brivionix_billing import BillingError
from brivionix_billing.canonical_json import canonical_json, json_digest, loads_strict
from samples import code_of
from strategies import json_texts, json_values


@given(json_values)
def test_canonical_json_parses_to_an_equal_value(value: Any) -> None:
    """Canonical JSON parses to an equal value, and serializing that value gives the same bytes."""
    text = canonical_json(value)
    parsed = json.loads(text)
    assert parsed == value
    assert canonical_json(parsed) == text
    assert loads_strict(text, "a document") == value


@given(st.dictionaries(json_texts, st.integers(-5, 5), max_size=8), st.randoms())
def test_key_order_does_not_change_the_text(value: dict[str, int], random: Any) -> None:
    """Keys are sorted by their UTF-16 code units, whatever the order of the input."""
    items = list(value.items())
    random.shuffle(items)
    text = canonical_json(dict(items))
    assert text == canonical_json(value)
    assert list(json.loads(text)) == sorted(value, key=lambda key: key.encode("utf-16-be"))
    assert json_digest(dict(items)) == json_digest(value)


# RFC 8785, appendix B: the bits of a double -> its ECMAScript text.
DOUBLES = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


@pytest.mark.parametrize(("bits", "text"), DOUBLES.items())
def test_the_number_samples_of_the_rfc_are_reproduced(bits: str, text: str) -> None:
    """Each number sample of RFC 8785, appendix B, is serialized as in the RFC."""
    [number] = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_json(number) == text.encode()
    assert canonical_json([1, {"a": number}]) == f'[1,{{"a":{text}}}]'.encode()


def test_the_document_samples_of_the_rfc_are_reproduced() -> None:
    """The samples of literals, escapes and sorting in RFC 8785, section 3.2, are reproduced byte for byte."""
    literals = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"\u002f",
        "literals": [None, True, False],
    }
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical_json(literals) == expected.encode()
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    assert list(json.loads(canonical_json(dict.fromkeys(keys, 0)))) == [
        "\r",
        "1",
        "\x80",
        "\xf6",
        "\u20ac",
        "\U0001f600",
        "\ufb33",
    ]


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


NOT_JSON_VALUES: list[Any] = [2**53, -(2**53), "\ud800", {"\udfff": 1}, {1: 2}, {None: 1}, {1, 2}, b"x", object()]
NOT_JSON_VALUES += [math.nan, math.inf, -math.inf, nested(65), nested(100_000)]


@pytest.mark.parametrize("value", NOT_JSON_VALUES, ids=range(len(NOT_JSON_VALUES)))
@pytest.mark.parametrize("sibling", [None, 1.5, {"\u00e9": 0}], ids=["alone", "after a float", "after a key"])
def test_a_value_that_json_cannot_represent_is_rejected(value: Any, sibling: Any) -> None:
    """Large integers, lone surrogates, keys that are not strings, NaN and deep nesting are ``invalid_document``."""
    for document in (value if sibling is None else [sibling, value], {"a": sibling, "b": [value]}):
        with pytest.raises(BillingError) as caught:
            canonical_json(document)
        assert code_of(caught) == "invalid_document"
        assert str(caught.value).isprintable()


def test_64_levels_are_accepted() -> None:
    """A document may have 64 levels, with an integer or a float at the bottom."""
    assert canonical_json(nested(64)) == b"[" * 64 + b"1" + b"]" * 64
    assert canonical_json([1.5, nested(63)])


INVALID_JSON: list[str | bytes] = [
    '{"a": 1, "a": 1}',
    '{"b": {"a": 1, "\\u0061": 2}}',
    "NaN",
    "[Infinity]",
    "-Infinity",
]
INVALID_JSON += ["", "{", b"\xff", "1 2", "[" * 100_000, "1" * 5000, "{'a': 1}", "[1,]"]


@pytest.mark.parametrize("text", INVALID_JSON, ids=lambda text: repr(text)[:20])
def test_invalid_json_is_rejected(text: str | bytes) -> None:
    """Malformed JSON, a duplicate key, NaN or deep nesting is ``invalid_document`` with the name of the document."""
    with pytest.raises(BillingError, match=r"^the invoice: ") as caught:
        loads_strict(text, "the invoice")
    assert code_of(caught) == "invalid_document"


def test_large_integers_are_parsed_exactly() -> None:
    """Integers too large for a double are parsed exactly."""
    assert loads_strict("[9007199254740993, 1.5, 100000000000000000000]", "x") == [9007199254740993, 1.5, 10**20]
