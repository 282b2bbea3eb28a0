"""Unwraps bodies: lines of batch results, events of Realtime and of streams, and answers that state no usage object.

A line of batch results has the answer inside: OpenAI, Mistral and Azure in ``response.body``, Anthropic in
``result.message``, Gemini in ``response``, Bedrock in ``modelOutput``. Such an answer was served as tier ``batch``,
whatever it says itself. An event such as Realtime's ``response.done`` has the response inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.usage.notes import is_number_text
from brivionix_billing.usage.parsing import whole_numbers
from brivionix_billing.usage.response_context import count_images, count_media
from brivionix_billing.usage.tool_calls import item_field
from brivionix_billing.usage.vendor_usage import find_vendor_usage

__all__ = ["BATCH_TIER", "Envelope", "substitute_usage", "unwrap"]

BATCH_TIER: Final = "batch"
_HEADERS: Final = {
    "x-amzn-bedrock-input-token-count": "inputTokenCount",
    "x-amzn-bedrock-output-token-count": "outputTokenCount",
    "x-amzn-bedrock-cache-read-input-token-count": "cacheReadInputTokenCount",
    "x-amzn-bedrock-cache-write-input-token-count": "cacheWriteInputTokenCount",
}
"""Headers by which Bedrock states the counts of InvokeModel for every model."""


_GEMINI_BATCH_KEYS: Final = frozenset({"key", "request", "processed_time", "status"})
"""Keys beside ``response`` in a line of batch results of Gemini."""
_WRAPPERS: Final = ("result", "Response", "orchestration_result", "final_result", "response", "body", "data")
"""Keys under which YandexGPT, Hunyuan, SAP's AI Core, Coze and many gateways have the whole answer."""
_BATCH_KEYS: Final = frozenset({"custom_id", "recordId", "key", "request", "processed_time"})
"""Keys beside the whole answer in a line of batch results of Fireworks and Vertex AI."""
_IMAGE_LISTS: Final = ("image_urls", "image_base64")


class Envelope(NamedTuple):
    """The answer inside a body."""

    body: object
    is_batch: bool = False


def unwrap(body: object) -> Envelope:
    """Return the answer inside a line of batch results or an event; any other body is the answer itself.

    Raises ``unknown_usage_format`` for a request that failed in its batch, for which nothing is owed.
    """
    if isinstance(body, list | tuple) and len(body) == 1 and item_field(body[0], "generated_text") is not None:
        body = body[0]  # Text Generation Inference
    if not isinstance(body, Mapping) or "usage" in body:
        if isinstance(body, Mapping) and body.get("object") == "batch" and isinstance(body.get("usage"), Mapping):
            raise BillingError(
                "unknown_usage_format",
                "the usage of a whole batch is a sum of many requests, which have no common price; give the lines of "
                "its results",
            )
        return Envelope(body)
    response, result = body.get("response"), body.get("result")
    if isinstance(response, Mapping) and isinstance(body.get("type"), str):
        return Envelope(response)  # an event of Realtime or of a stream
    if isinstance(response, Mapping) and ("status_code" in response or "body" in response):
        inner = response.get("body")
        if isinstance(inner, Mapping) and response.get("status_code") in (None, 200, 201):
            return Envelope(inner, True)
        raise _failed(f"status {safe_repr(response.get('status_code'))}")
    if isinstance(response, Mapping) and ("usageMetadata" in response or "usage_metadata" in response):
        is_batch = not _GEMINI_BATCH_KEYS.isdisjoint(body) or item_field(body.get("metadata"), "key") is not None
        return Envelope(response, is_batch)  # Code Assist wraps every answer
    if isinstance(response, Mapping) and "embedding" in response and "tokenCount" in response:
        return Envelope(response, not _GEMINI_BATCH_KEYS.isdisjoint(body))
    if isinstance(result, Mapping) and isinstance(result.get("type"), str):
        if isinstance(result.get("message"), Mapping):
            return Envelope(result["message"], True)
        if "custom_id" in body:
            raise _failed(safe_repr(result["type"]))
    for name in _WRAPPERS:  # and Cloudflare
        wrapped = body.get(name)
        usage = (wrapped.get("usage") or wrapped.get("Usage")) if isinstance(wrapped, Mapping) else None
        if isinstance(usage, Mapping) and "tokens" not in usage:  # of Jina's Reader
            return Envelope(wrapped, name == "response" and not _BATCH_KEYS.isdisjoint(body))
    inner = item_field(item_field(body.get("batch_result"), "response"), "chat_get_completion")
    if isinstance(inner, Mapping):
        return Envelope(inner, True)  # xAI
    if isinstance(body.get("modelOutput"), Mapping):
        return Envelope(body["modelOutput"], True)
    if ("custom_id" in body or "recordId" in body) and (body.get("error") or response is None):
        raise _failed("an error")
    return Envelope(body)


def _failed(reason: str) -> BillingError:
    return BillingError(
        "unknown_usage_format", f"the request ended with {reason} in its batch: no usage, and nothing to bill"
    )


def substitute_usage(body: object) -> dict[str, Any] | None:
    """Return a usage object for an answer without one that shows its quantities otherwise; else ``None``.

    Images are counted in ``data`` or ``predictions``, characters are in ``metadata`` (Vertex AI), seconds in
    ``duration`` (Whisper), and tokens in the headers of Bedrock or in objects of other names. A moderation result has
    no usage, and costs nothing but a price per request.
    """
    if not isinstance(body, Mapping):
        return None
    images = count_images(body.get("data")) or count_media(body.get("images")) or count_media(body.get("artifacts"))
    urls = body.get("data")
    if isinstance(urls, Mapping):  # MiniMax
        images = max(count_media(urls.get(name)) for name in _IMAGE_LISTS)
    if isinstance(body.get("image"), str) and body["image"]:
        images = 1  # Stability
    predictions = body.get("predictions") or _with_statistics(body.get("embeddings"))
    if isinstance(predictions, list | tuple):
        counted = _read_predictions(predictions, body.get("metadata"))
        if counted:
            return counted
        if predictions and all(item_field(item, "raiFilteredReason") is not None for item in predictions):
            return {"output_images": 0}  # all images were filtered, and are not charged
    if images:
        return {"output_images": images}
    duration = whole_numbers(body.get("duration"))
    if isinstance(duration, str) and is_number_text("duration", duration):
        duration = float(duration)  # as older versions of Whisper's API write it
    if type(duration) in (int, float) and ("text" in body or "segments" in body or "task" in body):
        return {"type": "duration", "seconds": duration}
    vendor = find_vendor_usage(body)
    if vendor is not None:
        return vendor
    headers = item_field(item_field(body, "ResponseMetadata"), "HTTPHeaders")
    if isinstance(headers, Mapping):
        stated = {str(name).lower(): value for name, value in headers.items()}
        metrics = {key: _header_count(name, stated[name]) for name, key in _HEADERS.items() if name in stated}
        if metrics:
            return metrics
    results = body.get("results")
    if isinstance(results, list | tuple) and any(
        item_field(each, "generated_token_count") is not None for each in results
    ):
        return {
            name: sum(_whole(item_field(each, name)) for each in results)
            for name in ("input_token_count", "generated_token_count")
        }
    if isinstance(results, list | tuple) and results and item_field(results[0], "flagged") is not None:
        return {"queries": 0}
    return None


def _with_statistics(embeddings: object) -> list[Any]:
    """Return the embeddings of Google's SDK as the predictions that they were on the wire."""
    items = embeddings if isinstance(embeddings, list | tuple) else ()
    return [{"embeddings": item} for item in items if item_field(item, "statistics") is not None]


def _header_count(name: str, value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 12:
        return int(value)
    raise BillingError("invalid_usage", f"the header {name} is {safe_repr(value)}; use a whole number from 0 to 10^12")


def _whole(value: object) -> int:
    return value if type(value) is int else 0


def _read_predictions(predictions: list[Any] | tuple[Any, ...], metadata: object) -> dict[str, Any]:
    """Return the tokens or characters of embeddings, or the number of images, of Vertex AI's ``predict``."""
    images = sum(item_field(item, "bytesBase64Encoded") is not None for item in predictions)
    if images:
        return {"output_images": images}
    statistics = [item_field(item_field(item, "embeddings"), "statistics") for item in predictions]
    tokens = [item_field(found, "token_count") for found in statistics if found is not None]
    whole = [int(count) for count in tokens if type(count) in (int, float) and count == int(count)]
    if tokens and len(whole) == len(predictions):
        return {"prompt_tokens": sum(whole), "total_tokens": sum(whole)}
    characters = item_field(metadata, "billableCharacterCount")
    return {"input_characters": characters} if type(characters) is int else {}
