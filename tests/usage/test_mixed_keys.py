"""Counts under the keys of several formats with any kind of value: a usage or a ``BillingError``."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from brivionix_billing import BillingError, Usage
from brivionix_billing.usage import billable_body

VALUES: list[Any] = [..., None, 0, 5, -1, 1.5, float("inf"), False, "5", [], {}, {"cached_tokens": 3}]
"""Values of a count or an object of counts; ``...``: the key is absent."""
DETAILS: list[Any] = [
    ...,
    None,
    0,
    5,
    [],
    {},
    "5",
    {"cached_tokens": 3},
    {"cached_tokens": []},
    {"reasoning_tokens": -1},
]


@pytest.mark.parametrize(
    ("keys", "values"),
    [
        (("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens"), VALUES[:10]),
        (("prompt_tokens", "completion_tokens", "input_tokens", "total_tokens"), VALUES[:10]),
        (("prompt_tokens", "completion_tokens", "prompt_tokens_details", "input_tokens_details"), DETAILS),
        (("input_tokens", "output_tokens", "cache_creation", "cache_creation_input_tokens"), DETAILS),
        (("promptTokenCount", "candidatesTokenCount", "totalTokenCount"), VALUES),
        (("inputTokens", "outputTokens", "cacheReadInputTokens"), VALUES),
    ],
)
def test_any_combination_is_read_or_rejected(keys: tuple[str, ...], values: list[Any]) -> None:
    """No combination of keys and values raises anything but a ``BillingError``, bare or in a response."""
    read = rejected = 0
    for chosen in product(values, repeat=len(keys)):
        usage = {key: value for key, value in zip(keys, chosen, strict=True) if value is not ...}
        for body in (usage, {"usage": usage}):
            try:
                billable_body(body)
                Usage.from_response(body)
                read += 1
            except BillingError:
                rejected += 1
    assert min(read, rejected) > 10


@pytest.mark.parametrize("none", [0, [], "", False, None])
def test_input_and_output_in_different_formats_are_rejected(none: Any) -> None:
    """If the input is nothing in one format and the output stands in the other, the input of the other is missing."""
    for keys, missing in (
        (("input_tokens", "completion_tokens"), "prompt_tokens"),
        (("prompt_tokens", "output_tokens"), "input_tokens"),
    ):
        with pytest.raises(BillingError, match=f"^{missing} is missing from a usage with the keys ") as caught:
            Usage.from_response({"usage": {keys[0]: none, keys[1]: 60}})
        assert caught.value.code == "invalid_usage"
