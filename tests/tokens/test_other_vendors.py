"""Bounds of requests in the formats of Anthropic and Gemini, whose vocabularies are not public."""

from __future__ import annotations

from base64 import b64encode
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brivionix_billing import BillingError
from brivionix_billing.tokens import TokenCounter
from profiles import examples
from samples import AUTUMN, code_of, shipped
from token_kit import VENDOR_BODIES, counter, places, with_unknown_key

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"


def png(width: int, height: int) -> str:
    """Return the first bytes of a PNG of this size in base64."""
    return b64encode(PNG + width.to_bytes(4) + height.to_bytes(4) + b"\x08\x02\x00\x00\x00").decode()


def upper(api: Any, body: dict[str, Any]) -> int | None:
    count = counter().request(body, api=api)
    assert not count.exact
    assert count.reasons
    return count.upper


def says(content: Any, **more: Any) -> dict[str, Any]:
    return {"max_tokens": 100, "messages": [{"role": "user", "content": content}], **more}


def generate_request(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": list(parts)}], **more}


@settings(max_examples=examples(100))
@given(st.text(max_size=60))
def test_a_text_is_bounded_by_its_bytes(text: str) -> None:
    """A text adds its bytes to the bound, because no token is shorter than a byte."""
    size = len(text.encode("utf-8", "surrogatepass"))
    empty = upper("anthropic", says(""))
    assert empty is not None
    assert upper("anthropic", says(text)) == empty + size
    assert upper("anthropic", says("", system=text)) == empty + size
    bare = upper("gemini", generate_request({"text": ""}))
    assert bare is not None
    assert upper("gemini", generate_request({"text": text})) == bare + size


@pytest.mark.parametrize(
    ("body", "reported"),
    [
        (says("Hello, Claude", system="You are a scientist"), 14),
        (
            says(
                "What's the weather like in San Francisco?",
                tools=[
                    {
                        "name": "get_weather",
                        "description": "Get the current weather in a given location",
                        "input_schema": {
                            "type": "object",
                            "properties": {
                                "location": {
                                    "type": "string",
                                    "description": "The city and state, e.g. San Francisco, CA",
                                }
                            },
                            "required": ["location"],
                        },
                    }
                ],
            ),
            403,
        ),
    ],
    ids=["a system message", "a tool"],
)
def test_documented_counts_are_within_the_bound(body: dict[str, Any], reported: int) -> None:
    """The input tokens of the examples in Anthropic's guide on token counting are within the bound."""
    bound = upper("anthropic", body)
    assert bound is not None
    assert reported <= bound


@pytest.mark.parametrize(("size", "least"), [((200, 200), 54), ((1000, 1000), 1_334), ((8_000, 8_000), 4_784)])
def test_an_image_of_claude_is_bounded_by_its_size(size: tuple[int, int], least: int) -> None:
    """An image has its documented tokens at least, and at most those of the largest image."""
    source = {"type": "base64", "media_type": "image/png", "data": png(*size)}
    empty, bound = upper("anthropic", says([])), upper("anthropic", says([{"type": "image", "source": source}]))
    assert empty is not None
    assert bound is not None
    assert least <= bound - empty <= 5_000 + 8
    by_url = upper("anthropic", says([{"type": "image", "source": {"type": "url", "url": "https://x.y/z"}}]))
    assert by_url == empty + 5_000 + 8


@pytest.mark.parametrize(("size", "least"), [((200, 200), 258), ((960, 540), 1_548), ((3_000, 3_000), 4_128)])
def test_an_image_of_gemini_is_bounded_by_its_tiles(size: tuple[int, int], least: int) -> None:
    """An image has the documented tokens of its tiles at least, and those of the largest image of Gemini 3."""
    empty = upper("gemini", generate_request())
    bound = upper("gemini", generate_request({"inlineData": {"mimeType": "image/png", "data": png(*size)}}))
    assert empty is not None
    assert bound is not None
    assert bound - empty >= max(least, 2_240)


@pytest.mark.parametrize(
    ("api", "body"),
    [
        ("anthropic", says([{"type": "wibble", "text": "Hi"}])),
        ("anthropic", says([{"type": "document", "source": {"type": "base64", "data": "JVBERi0="}}])),
        ("anthropic", says([{"type": "document", "source": {"type": "file", "file_id": "f"}}])),
        ("anthropic", says("Hi", tools=[{"type": "web_search_20250305", "name": "web_search"}])),
        ("anthropic", says("Hi", container="c")),
        ("anthropic", says("Hi", mcp_servers=[])),
        ("anthropic", says("Hi", thinking="on")),
        ("gemini", generate_request({"fileData": {"fileUri": "gs://a/b"}})),
        ("gemini", generate_request({"inlineData": {"mimeType": "video/mp4", "data": "AAAA"}})),
        ("gemini", generate_request({"inlineData": {"mimeType": "image/png", "data": "AAAA"}})),
        ("gemini", generate_request({"text": "Hi"}, cachedContent="c")),
        ("gemini", generate_request({"text": "Hi"}, tools=[{"googleSearch": {}}])),
        ("gemini", generate_request({"text": "Hi"}, generationConfig={"mediaResolution": "MEDIA_RESOLUTION_HIGH"})),
    ],
)
def test_unknown_content_has_no_bound(api: str, body: dict[str, Any]) -> None:
    """Content of an unknown kind, files of unknown size and tools that the provider runs have no bound."""
    assert upper(api, body) is None


@settings(max_examples=examples(150))
@given(st.data())
def test_an_unknown_key_of_another_vendor_removes_the_bound(data: st.DataObject) -> None:
    """An unknown key in a request, a message, a part, a tool or the settings leaves no bound, or a wider one."""
    api, body = data.draw(st.sampled_from(VENDOR_BODIES))
    before = upper(api, body)
    place = data.draw(st.sampled_from(places(body)))
    after = upper(api, with_unknown_key(body, place, data.draw(st.sampled_from([0, False, "pro", [], {"a": "b"}]))))
    assert before is not None
    assert after is None or after > before


def test_a_worst_case_of_another_vendor_has_the_usual_form() -> None:
    """The worst case has the derived bound of the input and the limit of the output, and is not guaranteed."""
    terms: Any = {"group": "default", "at": AUTUMN}
    counter_of_book = TokenCounter("gpt-5.4", shipped())
    claude = counter_of_book.worst_case(
        says("Hi", thinking={"type": "enabled", "budget_tokens": 90}), api="anthropic", **terms
    )
    assert (claude.input_tokens, claude.output_tokens) == (32 + 16 + 2, 100)
    gemini = counter_of_book.worst_case(
        generate_request({"text": "Hi"}, generationConfig={"maxOutputTokens": 50, "candidateCount": 2}), **terms
    )
    assert (gemini.input_tokens, gemini.output_tokens) == (64 + 16 + 2, 100)
    for result in (claude, gemini):
        assert not result.is_guaranteed
        assert "is not public" in result.reasons[0]
        assert result.charge is not None
        assert result.charge.usage.input_tokens == result.input_tokens


def test_an_unbounded_input_of_another_vendor_is_that_of_the_model() -> None:
    """Without a bound, the worst case is the maximum input of the model, or an error without a price book."""
    body = says("Hi", container="c")
    assert TokenCounter("gpt-5.4", shipped()).worst_case(body, api="anthropic").input_tokens == 922_000
    with pytest.raises(BillingError) as caught:
        counter().worst_case(body, api="anthropic")
    assert code_of(caught) == "cost_unbounded"


@pytest.mark.parametrize(
    ("api", "body"),
    [
        ("anthropic", {"max_tokens": 5, "messages": "Hi"}),
        ("anthropic", says([{"type": "text", "text": 5}])),
        ("anthropic", says("Hi", tools=[{"description": "no name"}])),
        ("gemini", {"contents": "Hi"}),
        ("gemini", generate_request({"text": 5})),
        ("gemini", generate_request({"text": "Hi"}, generationConfig=5)),
        ("gemini", generate_request({"text": "Hi"}, generationConfig={"candidateCount": 0})),
    ],
)
def test_invalid_requests_of_other_vendors_are_rejected(api: Any, body: dict[str, Any]) -> None:
    """A request of another type than its format requires is ``invalid_request``."""
    with pytest.raises(BillingError) as caught:
        TokenCounter("gpt-5.4", shipped()).worst_case(body, api=api)
    assert code_of(caught) == "invalid_request"


def test_a_bound_does_not_change_the_body() -> None:
    """Counting changes nothing in the body."""
    for api, body in VENDOR_BODIES:
        before = deepcopy(body)
        counter().request(body, api=api)
        assert body == before
