"""Usage: disjoint meters from contained counts, and reading them from what providers send."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings

from body_builders import sdk, spaced
from brivionix_billing import BillingError, Usage
from brivionix_billing.usage import MAX_COUNT, billable_body
from paths import DATA
from profiles import examples
from request_strategies import made
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
NONSENSE: list[Any] = [True, False, 1.0, float("nan"), "1", b"1", -1, 10**12 + 1, 10**400, [1], {}, 1j]


class Liar(int):
    """An int that says it is zero."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


# --- the class ---


@pytest.mark.parametrize("value", [*NONSENSE, None, Liar(5)], ids=lambda value: f"{type(value).__name__}-{value!r:.12}")
@pytest.mark.parametrize("name", COUNTS.split())
def test_a_count_is_a_whole_number_within_bounds(name: str, value: Any) -> None:
    """Whatever is no whole number from 0 to 10^12 is ``invalid_usage`` with the argument's name, for every argument."""
    if name == "total_tokens" and value is None:
        return  # "not said" is fine for what is checked only
    with pytest.raises(BillingError, match=f"^{name} is ") as caught:
        Usage(**{"input_tokens": 9, "output_tokens": 9} | {name: value})
    assert (code_of(caught), caught.value.http_status) == ("invalid_usage", 502)
    assert len(str(caught.value)) < 250


def test_the_bounds_themselves_are_counts() -> None:
    """0 and 10^12 are taken, and nothing is no usage at all."""
    most = Usage(input_tokens=MAX_COUNT, output_tokens=MAX_COUNT, cache_read_tokens=MAX_COUNT)
    assert most.total_tokens == 2 * 10**12
    assert Usage().meters == {}
    assert Usage() == Usage(0, 0, 0, 0, 0, total_tokens=0)


@pytest.mark.parametrize(
    ("given_counts", "message"),
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
def test_a_contradiction_names_both_sides(given_counts: dict[str, int], message: str) -> None:
    """Parts that exceed what contains them, or a total that is no sum, are told with every name and number."""
    with pytest.raises(BillingError) as caught:
        Usage(**given_counts)  # type: ignore[arg-type]
    assert code_of(caught) == "usage_contradiction"
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["service_tier", "model"])
@pytest.mark.parametrize("value", ["", "x" * 257, 5, b"flex", ["flex"], False])
def test_a_served_name_is_a_word(name: str, value: Any) -> None:
    """A served tier or model that is no string of 1 to 256 characters is ``invalid_usage``."""
    with pytest.raises(BillingError, match=f"^{name} is ") as caught:
        Usage(**{"input_tokens": 1, name: value})
    assert code_of(caught) == "invalid_usage"


@given(counts())
def test_a_usage_is_the_same_however_it_was_made(given_counts: dict[str, int]) -> None:
    """Zeros left out or written, one order or another: equal usages are equal and hash equal; a tuple is not one."""
    usage = made(given_counts)
    again = Usage(**{name: given_counts.get(name, 0) for name in reversed(COUNTS.split()[:-1])})  # type: ignore[arg-type]
    assert (usage, hash(usage)) == (again, hash(again))
    assert usage != tuple(usage)
    assert usage != Usage(**given_counts | {"web_search_calls": given_counts.get("web_search_calls", 0) + 1})  # type: ignore[arg-type]


# --- bodies ---


@pytest.mark.parametrize("body", REAL, ids=range(len(REAL)))
def test_real_responses_are_read(body: dict[str, Any]) -> None:
    """Responses that providers sent are read, add up to the provider's own total, and name its model."""
    usage = Usage.from_response(body)
    assert usage.total_tokens == body["usage"]["total_tokens"]
    assert usage.model == body.get("model")
    assert Usage.from_response(spaced(body)) == usage
    details = body["usage"].get("prompt_tokens_details") or body["usage"].get("input_tokens_details") or {}
    assert usage.cache_read_tokens == (details.get("cached_tokens") or 0)
    assert sum(usage.meters.values()) == usage.total_tokens
    outside = body["usage"].get("completion_tokens_details") or body["usage"].get("output_tokens_details") or {}
    assert usage.reasoning_tokens == (outside.get("reasoning_tokens") or 0)


def test_an_embedding_has_no_output() -> None:
    """An embedding's usage has no completion tokens; a chat's without them is an error, not free output."""
    body = {"object": "list", "model": "e", "usage": {"prompt_tokens": 8, "total_tokens": 8}}
    assert Usage.from_response(body) == Usage(input_tokens=8, model="e")
    with pytest.raises(BillingError, match="completion_tokens is missing") as caught:
        Usage.from_response({"prompt_tokens": 8, "total_tokens": 9})
    assert code_of(caught) == "invalid_usage"
    with pytest.raises(BillingError, match="output_tokens is missing"):
        Usage.from_response({"input_tokens": 8})


@pytest.mark.parametrize("value", NONSENSE, ids=lambda value: f"{type(value).__name__}-{value!r:.12}")
@pytest.mark.parametrize(
    "key", ["prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens", "audio_tokens"]
)
def test_nonsense_in_a_body_is_refused(key: str, value: Any) -> None:
    """A count in a body that is no whole number is an error that names it, on the fast path and on the slow one."""
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
def test_a_served_tier_that_cannot_be_read_is_never_standard(tier: Any) -> None:
    """A served tier that is no tier's name is refused, when it is read or when it is rated."""
    body = {"service_tier": tier, "usage": {"prompt_tokens": 9, "completion_tokens": 9}}
    with pytest.raises(BillingError) as caught:
        shipped().rate(Usage.from_response(body), model="gpt-5.4", group="default", at=NOW)
    assert code_of(caught) in ("invalid_usage", "unknown_service_tier")


@pytest.mark.parametrize(
    ("usage", "named"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 3, "prompt_audio_seconds": 5}, "'prompt_audio_seconds': 5"),
        (
            {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"taste_tokens": 5}},
            "'taste_tokens': 5",
        ),
        ({"input_tokens": 9, "output_tokens": 3, "output_tokens_details": {"x": {"y": 5}}}, "'x': {'y': 5}"),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 3,
                "prompt_tokens_details": {"cached_tokens_details": {"taste_tokens": 5}},
            },
            "'taste_tokens': 5",
        ),
    ],
)
def test_a_count_that_nobody_knows_is_refused(usage: dict[str, Any], named: str) -> None:
    """An unknown count that is not zero may be money: it is refused with its name and number; a zero is not."""
    with pytest.raises(BillingError, match=named) as caught:
        Usage.from_response(usage)
    assert code_of(caught) == "unknown_usage_key"
    Usage.from_response(json.loads(json.dumps(usage).replace(": 5", ": 0")))


def test_unknown_counts_are_found_at_any_depth() -> None:
    """A whole number under unknown keys is found in lists and mappings; what is too deep to see through is refused."""
    chat = {"prompt_tokens": 9, "completion_tokens": 3}
    for unknown, known in (({"a": [{"b": (0, 5)}]}, False), ({"a": [{"b": (0, 0.5, "5", True)}]}, True)):
        deep: Any = unknown
        for _ in range(4):
            deep = {"x": deep}
        for body in (chat | unknown, chat | deep, chat | {"prompt_tokens_details": unknown}):
            assert (outcome(body) == "Usage(input_tokens=9, output_tokens=3)") is known
    abyss: Any = 0
    for _ in range(12):
        abyss = [abyss]
    assert "which has no known price" in outcome(chat | {"x": abyss})


def test_a_code_interpreter_counts_by_container_and_an_image_by_call() -> None:
    """Calls that share a container are one session, a call that names none is its own; each image is a call."""
    kind = "code_interpreter_call"
    items = [{"type": "message"}, {"type": "image_generation_call"}, {"type": "image_generation_call"}]
    items += [{"type": kind, "container_id": name} for name in ("c1", "c1", "c2")] + [{"type": kind}]
    body = {"output": items, "usage": {"input_tokens": 9, "output_tokens": 3}}
    for shape in (body, sdk(body), billable_body(body)):
        assert Usage.from_response(shape) == Usage(9, 3, code_interpreter_sessions=3, image_generation_calls=2)


def test_a_tool_without_a_fee_is_not_free() -> None:
    """Where the price file has no fee for a tool that ran, the request is refused by the meter's name."""
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
        {"usageMetadata": {"totalTokenCount": 1}},
        {"meta": {"billed": 3}},
        # An image generation: its output tokens are images, at another price than text.
        {
            "usage": {
                "input_tokens": 50,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
                "output_tokens": 4160,
                "total_tokens": 4210,
            }
        },
    ],
    ids=lambda body: repr(body).partition(" at 0x")[0],  # an address is another one in each process
)
def test_another_shape_is_refused(body: Any) -> None:
    """What is not in a shape known here is ``unknown_usage_format`` with the keys that it has, never an empty usage."""
    with pytest.raises(BillingError) as caught:
        Usage.from_response(body)
    assert (code_of(caught), caught.value.http_status) == ("unknown_usage_format", 502)


@settings(max_examples=examples(400), deadline=None)
@given(bodies)
def test_a_hostile_body_raises_nothing_else(body: Any) -> None:
    """Any JSON is read as a usage whose meters are whole and add up, or refused by a ``BillingError``."""
    for shape in (body, spaced(body) if isinstance(body, dict) else body, {"usage": body}):
        try:
            usage = Usage.from_response(shape)
        except BillingError as error:
            message = str(error)
        else:
            message = repr(usage)
            assert all(type(count) is int and 0 < count <= 2 * MAX_COUNT for count in usage.meters.values())
            assert sum(n for name, n in usage.meters.items() if "search" not in name) == usage.total_tokens
        assert len(message) < 3000
        assert message.isprintable()


def outcome(body: Any) -> str:
    try:
        return repr(Usage.from_response(body))
    except BillingError as error:
        return str(error)


def test_deep_and_long_bodies_are_refused_briefly() -> None:
    """Nesting and length of a hostile body end in a short message, not in the interpreter's stack."""
    deep: Any = 1
    for _ in range(100_000):
        deep = {"a": deep}
    for usage in (deep, {"x" * 100_000: 1}, {"a": ["x" * 100_000, 1]}, dict.fromkeys(map(str, range(10_000)), 1)):
        chat = {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": usage}
        for body in (chat, {"usage": usage}, SimpleNamespace(usage=usage), chat | {"a": usage}):
            assert len(outcome(body)) < 1200
    while isinstance(deep, dict):
        deep = deep.popitem()[1]


def test_deep_objects_are_refused() -> None:
    """Objects nested without end, in a usage or around it, are refused; a part called meta that is no usage is none."""
    deep: Any = 1
    for _ in range(5000):
        deep = SimpleNamespace(a=deep)
    for body in (SimpleNamespace(usage=deep), SimpleNamespace(usage=SimpleNamespace(prompt_tokens=1, more=[deep]))):
        assert "nested more than" in outcome(body)
    while isinstance(deep, SimpleNamespace):
        deep = vars(deep).pop("a")
    bare = SimpleNamespace(meta={"page": "3"}, inputTokens=3, outputTokens=1)
    assert outcome(bare) == "Usage(input_tokens=3, output_tokens=1)"


def test_usages_are_not_added() -> None:
    """Case 11: a sum of usages could fall into another context tier, so there is none; charges are added."""
    with pytest.raises(TypeError, match="price each request"):
        Usage(1, 1) + Usage(1, 1)
