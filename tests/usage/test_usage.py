"""Usage: disjoint meters from containing counts, and reading usage from the bodies of providers."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings

from body_builders import as_namespaces, as_sdk_objects
from brivionix_billing import BillingError, Usage
from brivionix_billing.usage import MAX_COUNT, billable_body
from paths import DATA
from profiles import examples
from request_strategies import usage_of
from samples import NOW, code_of, shipped
from strategies import bodies, counts

RESPONSES = DATA / "openai_responses.jsonl"
REAL = [json.loads(line) for line in RESPONSES.read_text(encoding="utf-8").splitlines()]
COUNTS = (
    "input_tokens output_tokens cache_read_tokens cache_write_tokens reasoning_tokens cache_write_1h_tokens "
    "audio_input_tokens audio_cache_read_tokens audio_output_tokens image_input_tokens image_cache_read_tokens "
    "image_output_tokens video_input_tokens video_cache_read_tokens web_search_calls file_search_calls "
    "code_interpreter_sessions image_generation_calls total_tokens"
)
INVALID_COUNTS: list[Any] = [True, False, 1.0, float("nan"), "1", b"1", -1, 10**12 + 1, 10**400, [1], {}, 1j]
INVALID_IN_BODIES: list[Any] = [1.5 if type(value) is float and value == 1 else value for value in INVALID_COUNTS]
INVALID_IN_BODIES = ["one" if value == "1" else value for value in INVALID_IN_BODIES]


class EqualToAll(int):
    """An int that equals everything."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


# --- the class ---


@pytest.mark.parametrize(
    "value", [*INVALID_COUNTS, None, EqualToAll(5)], ids=lambda value: f"{type(value).__name__}-{value!r:.12}"
)
@pytest.mark.parametrize("name", COUNTS.split())
def test_a_count_must_be_an_integer_within_bounds(name: str, value: Any) -> None:
    """Anything except an integer from 0 to 10^12 is ``invalid_usage`` with the name of the argument."""
    if name == "total_tokens" and value is None:
        return  # a missing total is allowed
    with pytest.raises(BillingError, match=f"^{name} is ") as caught:
        Usage(**{"input_tokens": 9, "output_tokens": 9} | {name: value})
    assert (code_of(caught), caught.value.http_status) == ("invalid_usage", 502)
    assert len(str(caught.value)) < 250


def test_0_and_10_to_the_12_are_valid_counts() -> None:
    """The bounds 0 and 10^12 are valid counts."""
    largest = Usage(input_tokens=MAX_COUNT, output_tokens=MAX_COUNT, cache_read_tokens=MAX_COUNT)
    assert largest.total_tokens == 2 * 10**12
    assert Usage().meters == {}
    assert Usage() == Usage(0, 0, 0, 0, 0, total_tokens=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_tokens": 3, "cache_read_tokens": 4}, "cache_read_tokens 4 is more than input_tokens 3"),
        (
            {"input_tokens": 9, "cache_read_tokens": 4, "cache_write_tokens": 3, "cache_write_1h_tokens": 3},
            "cache_read_tokens 4 + cache_write_tokens 3 + cache_write_1h_tokens 3 = 10 is more than input_tokens 9",
        ),
        (
            {"input_tokens": 9, "audio_input_tokens": 6, "image_input_tokens": 4},
            "audio_input_tokens not cached 6 + image_input_tokens not cached 4 = 10 is more than input_tokens 9",
        ),
        (
            {"input_tokens": 9, "cache_read_tokens": 5, "audio_input_tokens": 5},
            "cache_read_tokens 5 + audio_input_tokens not cached 5 = 10 is more than input_tokens 9",
        ),
        (
            {"input_tokens": 9, "cache_read_tokens": 2, "audio_input_tokens": 3, "audio_cache_read_tokens": 3},
            "audio_cache_read_tokens 3 is more than cache_read_tokens 2",
        ),
        (
            {"input_tokens": 9, "cache_read_tokens": 4, "audio_input_tokens": 3, "audio_cache_read_tokens": 4},
            "audio_cache_read_tokens 4 is more than audio_input_tokens 3",
        ),
        (
            {"input_tokens": 9, "cache_read_tokens": 4, "image_input_tokens": 3, "image_cache_read_tokens": 4},
            "image_cache_read_tokens 4 is more than image_input_tokens 3",
        ),
        ({"output_tokens": 3, "reasoning_tokens": 4}, "reasoning_tokens 4 is more than output_tokens 3"),
        (
            {"output_tokens": 3, "audio_output_tokens": 2, "image_output_tokens": 2},
            "audio_output_tokens 2 + image_output_tokens 2 = 4 is more than output_tokens 3",
        ),
        (
            {"input_tokens": 3, "output_tokens": 4, "total_tokens": 8},
            "total_tokens 8 is not input_tokens 3 + output_tokens 4 = 7",
        ),
    ],
)
def test_a_contradiction_names_both_sides(arguments: dict[str, int], message: str) -> None:
    """Parts above their whole, or a total that is not the sum, are reported with all names and numbers."""
    with pytest.raises(BillingError) as caught:
        Usage(**arguments)  # type: ignore[arg-type]
    assert code_of(caught) == "usage_contradiction"
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["service_tier", "model"])
@pytest.mark.parametrize("value", ["", "x" * 257, 5, b"flex", ["flex"], False])
def test_a_served_name_must_be_a_short_string(name: str, value: Any) -> None:
    """A served tier or model must be a string of 1 to 256 characters, else it is ``invalid_usage``."""
    with pytest.raises(BillingError, match=f"^{name} is ") as caught:
        Usage(**{"input_tokens": 1, name: value})
    assert code_of(caught) == "invalid_usage"


@given(counts())
def test_equal_arguments_give_equal_usages(arguments: dict[str, int]) -> None:
    """Usages with equal counts are equal and have equal hashes, with or without zeros and in any order."""
    usage = usage_of(arguments)
    names = sorted({*COUNTS.split()[:-1], *arguments}, reverse=True)
    with_zeros = Usage(**{name: arguments.get(name, 0) for name in names})  # type: ignore[arg-type]  # all are counts
    assert (usage, hash(usage)) == (with_zeros, hash(with_zeros))
    assert usage != tuple(usage)
    assert usage != Usage(**arguments | {"web_search_calls": arguments.get("web_search_calls", 0) + 1})  # type: ignore[arg-type]


# --- bodies ---


@pytest.mark.parametrize("body", REAL, ids=range(len(REAL)))
def test_recorded_responses_are_read(body: dict[str, Any]) -> None:
    """Recorded responses are read, add up to the total of the provider, and keep its model."""
    usage = Usage.from_response(body)
    assert usage.total_tokens == body["usage"]["total_tokens"]
    assert usage.model == body.get("model")
    assert Usage.from_response(as_namespaces(body)) == usage
    details = body["usage"].get("prompt_tokens_details") or body["usage"].get("input_tokens_details") or {}
    assert usage.cache_read_tokens == (details.get("cached_tokens") or 0)
    assert sum(usage.meters.values()) == usage.total_tokens
    output_details = body["usage"].get("completion_tokens_details") or body["usage"].get("output_tokens_details") or {}
    assert usage.reasoning_tokens == (output_details.get("reasoning_tokens") or 0)


def test_only_an_embedding_may_have_no_output() -> None:
    """The usage of an embedding has no completion tokens; without them a chat body is ``invalid_usage``."""
    body = {"object": "list", "model": "e", "usage": {"prompt_tokens": 8, "total_tokens": 8}}
    assert Usage.from_response(body) == Usage(input_tokens=8, model="e")
    with pytest.raises(BillingError, match="completion_tokens is missing") as caught:
        Usage.from_response({"prompt_tokens": 8, "total_tokens": 9})
    assert code_of(caught) == "invalid_usage"
    with pytest.raises(BillingError, match="output_tokens is missing"):
        Usage.from_response({"input_tokens": 8})


@pytest.mark.parametrize("value", INVALID_IN_BODIES, ids=lambda value: f"{type(value).__name__}-{value!r:.12}")
@pytest.mark.parametrize(
    "key", ["prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens", "audio_tokens"]
)
def test_an_invalid_count_in_a_body_is_rejected(key: str, value: Any) -> None:
    """A count in a body that is no whole number is an error with its key, on the fast path and on the slow path."""
    for more in ({}, {"cost": 0.5}):
        usage: dict[str, Any] = {"prompt_tokens": 9, "completion_tokens": 9, **more}
        details = {"cached_tokens": "prompt", "audio_tokens": "prompt", "reasoning_tokens": "completion"}
        if key in details:
            usage[f"{details[key]}_tokens_details"] = {key: value}
        else:
            usage[key] = value
        with pytest.raises(BillingError, match=key.removeprefix("audio_")) as caught:
            Usage.from_response({"usage": usage})
        assert code_of(caught) in ("invalid_usage", "usage_contradiction")


@pytest.mark.parametrize("tier", [5, True, ["flex"], {"name": "flex"}, "x" * 300])
def test_an_invalid_served_tier_is_never_rated_as_standard(tier: Any) -> None:
    """A served tier that is not the name of a tier is rejected, when it is read or when it is rated."""
    body = {"service_tier": tier, "usage": {"prompt_tokens": 9, "completion_tokens": 9}}
    with pytest.raises(BillingError) as caught:
        shipped().rate(Usage.from_response(body), model="gpt-5.4", group="default", at=NOW)
    assert code_of(caught) in ("invalid_usage", "unknown_service_tier")


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"prompt_audio_seconds": 5}, "usage.prompt_audio_seconds"),
        ({"prompt_tokens_details": {"taste_tokens": 5}}, "usage.prompt_tokens_details.taste_tokens"),
        ({"completion_tokens_details": {"x": {"y": 5}}}, "usage.completion_tokens_details.x.y"),
        (
            {"prompt_tokens_details": {"cached_tokens_details": {"taste_tokens": 5}}},
            "usage.prompt_tokens_details.cached_tokens_details.taste_tokens",
        ),
        ({"a": [{"b": (0, 5)}]}, "usage.a[0].b[1]"),
        ({"a b": 5}, "usage['a b']"),
    ],
)
def test_an_unknown_count_is_listed_with_its_path(more: dict[str, Any], path: str) -> None:
    """A count under an unknown key is listed with its JSON path, unless it is zero, and nothing else changes."""
    usage = Usage.from_response(CHAT | more)
    assert (usage.unaccounted, usage.meters) == (((path, 5),), {"input": 9, "output": 3})
    assert Usage.from_response(json.loads(json.dumps(CHAT | more).replace("5", "0"))) == Usage(9, 3)


CHAT = {"prompt_tokens": 9, "completion_tokens": 3}


def test_times_are_warnings() -> None:
    """Times and speeds have no price: they are one warning."""
    usage = Usage.from_response({**CHAT, "queue_time": 0.01, "tokens_per_second": 45.5, "time_to_first_token_ms": 33})
    assert (usage.unaccounted, len(usage.warnings)) == ((), 1)
    assert "'queue_time' 0.01, 'tokens_per_second' 45.5, 'time_to_first_token_ms' 33" in usage.warnings[0]
    assert Usage.from_response({**CHAT, "audio_duration": 5}).unaccounted == (("usage.audio_duration", 5),)


def test_numbers_that_are_no_quantities_are_warnings() -> None:
    """Not-a-number, infinity and numbers of more than 30 digits are warnings, never quantities."""
    for value in (float("nan"), float("inf"), 10**31):
        usage = Usage.from_response({**CHAT, "magic": value})
        assert (usage.unaccounted, len(usage.warnings)) == ((), 1)


def test_a_body_of_hundreds_of_unknown_numbers_is_rejected() -> None:
    """More than 256 unknown numbers, or numbers nested too deep to find, are no usage of one request."""
    assert len(Usage.from_response({**CHAT, "x": list(range(1, 257))}).unaccounted) == 256
    assert "more than 256 numbers" in outcome({**CHAT, "x": list(range(1, 258))})
    too_deep: Any = 0
    for _ in range(12):
        too_deep = [too_deep]
    assert "nested more than 8 deep" in outcome({**CHAT, "x": too_deep})


def test_code_interpreter_sessions_and_image_calls_are_counted() -> None:
    """Code interpreter calls count once per container, or each if they name none, and each image is a call."""
    kind = "code_interpreter_call"
    items = [{"type": "message"}, {"type": "image_generation_call"}, {"type": "image_generation_call"}]
    items += [{"type": kind, "container_id": name} for name in ("c1", "c1", "c2")] + [{"type": kind}]
    body = {"output": items, "usage": {"input_tokens": 9, "output_tokens": 3}}
    for variant in (body, as_sdk_objects(body), billable_body(body)):
        assert Usage.from_response(variant) == Usage(9, 3, code_interpreter_sessions=3, image_generation_calls=2)


def test_a_tool_without_a_fee_is_rejected() -> None:
    """If the price file has no fee for a used tool, rating raises ``meter_unpriced`` with the meter."""
    for usage in (Usage(9, 3, code_interpreter_sessions=1), Usage(9, 3, image_generation_calls=1)):
        with pytest.raises(BillingError, match=r"code_interpreter|image_generation") as caught:
            shipped().rate(usage, model="gpt-5.4", group="default", at=NOW)
        assert code_of(caught) == "meter_unpriced"


@pytest.mark.parametrize(
    "body",
    [
        *(None, "text", b"bytes", 5, [], [{"prompt_tokens": 1}], {}, object()),
        *({"usage": {}}, {"usage": None}, {"usage": 5}, {"usage": {"tokens": 1}}, SimpleNamespace(usage=[1])),
        {"usage": {"outputTokens": 3, "totalTokens": 3}},
        {"usageMetadata": {"thoughtsTokenCount": 1}},
        {"meta": {"billed": 3}},
    ],
    ids=lambda body: repr(body).partition(" at 0x")[0],  # addresses differ between processes
)
def test_an_unknown_format_is_rejected(body: Any) -> None:
    """A body of an unknown format is ``unknown_usage_format``, never an empty usage."""
    with pytest.raises(BillingError) as caught:
        Usage.from_response(body)
    assert (code_of(caught), caught.value.http_status) == ("unknown_usage_format", 502)


@settings(max_examples=examples(400), deadline=None)
@given(bodies)
def test_any_json_is_read_or_raises_a_billing_error(body: Any) -> None:
    """Any JSON is read as a usage whose meters add up, or raises a ``BillingError``."""
    for variant in (body, as_namespaces(body) if isinstance(body, dict) else body, {"usage": body}):
        try:
            usage = Usage.from_response(variant)
        except BillingError as error:
            message = str(error)
        else:
            message = repr(usage)
            assert all(type(count) is int and 0 < count <= 2 * MAX_COUNT for count in usage.meters.values())
            assert sum(n for name, n in usage.meters.items() if "search" not in name) == usage.total_tokens
        assert len(message) < 3000
        assert message.isprintable()


def outcome(body: Any) -> str:
    """Return the repr of the usage, or the error as text."""
    try:
        return repr(Usage.from_response(body))
    except BillingError as error:
        return str(error)


def test_deep_and_long_bodies_give_short_errors() -> None:
    """A very deep or very long body is rejected with a short message."""
    deep: Any = 1
    for _ in range(100_000):
        deep = {"a": deep}
    for usage in (deep, {"x" * 100_000: 1}, {"a": ["x" * 100_000, 1]}, dict.fromkeys(map(str, range(10_000)), 1)):
        chat = {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": usage}
        for body in (chat, {"usage": usage}, SimpleNamespace(usage=usage), chat | {"a": usage}):
            assert len(outcome(body)) < 1200
    while isinstance(deep, dict):
        deep = deep.popitem()[1]


def test_deep_objects_are_rejected() -> None:
    """Deeply nested objects are rejected in a usage object and in its envelope."""
    deep: Any = 1
    for _ in range(5000):
        deep = SimpleNamespace(a=deep)
    for body in (SimpleNamespace(usage=deep), SimpleNamespace(usage=SimpleNamespace(prompt_tokens=1, more=[deep]))):
        assert "nested more than" in outcome(body)
    while isinstance(deep, SimpleNamespace):
        deep = vars(deep).pop("a")
    bare = SimpleNamespace(meta={"page": "3"}, inputTokens=3, outputTokens=1)
    assert outcome(bare) == "Usage(input_tokens=3, output_tokens=1)"


def test_usages_cannot_be_added() -> None:
    """Case 11: usages cannot be added, because the sum could be in a different context tier."""
    with pytest.raises(TypeError, match="price each request"):
        Usage(1, 1) + Usage(1, 1)
