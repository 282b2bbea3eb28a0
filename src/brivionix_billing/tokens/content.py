"""Counts the content of one message or tool result: text, images, audio and files, in the formats of both APIs."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.token_families import TileRule
from brivionix_billing.tokens.images import (
    Size,
    documented_max_tokens,
    image_tokens,
    max_image_tokens,
    size_of_data_url,
)
from brivionix_billing.tokens.token_count import CountBuilder

__all__ = ["ImageSizeLookup", "count_content"]

ImageSizeLookup = Callable[[str], Size | None]
"""Function that returns the size (width, height in pixels) of an image that a request refers to by URL or file id."""

_TEXT_FIELDS: Final = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "summary_text": "text",
    "reasoning_text": "text",
    "refusal": "refusal",
}
_PART_KEYS: Final = frozenset(
    {
        *("type", "text", "refusal", "annotations", "logprobs", "image_url", "detail", "file_id", "input_audio"),
        *("file", "file_data", "file_url", "filename", "encrypted_content", "cache_control"),
    }
)
_ANNOTATIONS: Final = frozenset({"annotations"})
_TEXT_PART_KEYS: Final = frozenset({"type", "text"})
_IMAGE_URL_KEYS: Final = frozenset({"url", "detail"})
_AUDIO_KEYS: Final = frozenset({"data", "format"})
_FILE_KEYS: Final = frozenset({"file_data", "file_id", "filename", "file_url"})
_DETAIL_LEVELS: Final = ("low", "high", "original", "auto")
_ASSUMED_IMAGE_SIZE: Final = (600, 600)
"""Assumed size of an image of unknown size, in pixels: the closest to three recorded requests with such images. The
upper bound is that of the largest image."""
_LINKED_IMAGE_OVERHEAD: Final = {"chat": 2, "responses": 5}
"""Additional tokens of an image that is given by a link, by API. Two recorded requests each confirm it. Inline images
have no overhead."""
_PDF_PAGE_TOKENS: Final = {"chat": 220, "responses": 20}
"""Tokens of a page with little text, by API. Chat completions also receive an image of the page."""
_ASSUMED_FILE_TOKENS: Final = 750
_AUDIO_TOKENS_PER_SECOND: Final = 10
"""OpenAI, guide "Realtime costs": one token of user audio is 100 ms."""


def count_content(
    builder: CountBuilder, kind: str, content: object, api: str, image_size: ImageSizeLookup | None
) -> None:
    """Count a ``content``: a text, a list of parts, or ``None``. Raises ``invalid_request`` for anything else."""
    if content is None:
        return
    if isinstance(content, str):
        builder.add_text(kind, content)
        return
    if not isinstance(content, list | tuple):
        raise BillingError("invalid_request", f"a content is {safe_repr(content)}; use a text or a list of parts")
    if len(content) > 1:
        content = _join_texts(content)
    for part in content:
        if isinstance(part, str):
            builder.add_text(kind, part)
        elif isinstance(part, Mapping):
            _count_part(builder, kind, part, api, image_size)
        else:
            raise BillingError(
                "invalid_request", f"a part of a content is {safe_repr(part)}; use an object with a type"
            )


def _join_texts(content: Sequence[Any]) -> list[Any]:
    """Join consecutive parts that are plain texts, because the model is shown one text."""
    joined: list[Any] = []
    for part in content:
        text = part.get("text") if isinstance(part, Mapping) and part.keys() == _TEXT_PART_KEYS else None
        if isinstance(text, str) and isinstance(part["type"], str) and part["type"] in _TEXT_FIELDS:
            if joined and isinstance(joined[-1], str):
                joined[-1] += text
                continue
            part = text
        joined.append(part)
    return joined


def _count_part(
    builder: CountBuilder, kind: str, part: Mapping[str, Any], api: str, image_size: ImageSizeLookup | None
) -> None:
    part_type = part.get("type")
    if not part.keys() <= _PART_KEYS or part.get("annotations"):
        _note_unknown_keys(builder, kind, part)
    field = "text" if part_type is None else _TEXT_FIELDS.get(part_type) if isinstance(part_type, str) else None
    if field is not None and isinstance(part.get(field), str):
        builder.add_text(kind, part[field])
    elif part_type in ("image_url", "input_image", "computer_screenshot"):
        _count_image(builder, part, api, image_size)
    elif part_type == "input_audio":
        _count_audio(builder, part.get("input_audio"))
    elif part_type in ("file", "input_file"):
        inner = part.get("file")
        _note_unknown_inner_keys(builder, "files", inner, _FILE_KEYS)
        _count_file(builder, inner if isinstance(inner, Mapping) else part, api)
    elif part_type == "encrypted_content" or "encrypted_content" in part:
        builder.add_estimate("unseen", 0, None, "an encrypted content is unreadable")
    else:
        raise BillingError(
            "invalid_request",
            f"a part of type {safe_repr(part_type)} with the keys {_format_keys(part)} is unknown",
        )


def _note_unknown_keys(builder: CountBuilder, kind: str, part: Mapping[str, Any]) -> None:
    """Make a part with unknown keys an estimate: of a text with a bound, of other content without one.

    A text without annotations has an empty list of them. Whether the model sees annotations is unknown.
    """
    for key in part.keys() - (_PART_KEYS - _ANNOTATIONS):
        if part[key] is not None and not (key in _ANNOTATIONS and not part[key]):
            is_text = part.get("type") in (None, *_TEXT_FIELDS)
            size = len(str(part[key]).encode("utf-8", "replace"))
            builder.charge_characters(size)
            reason = f"what {safe_repr(key, 40)} of a part adds to the input is unknown"
            builder.add_estimate(kind, 0, size + 64 if is_text else None, reason)


def _note_unknown_inner_keys(builder: CountBuilder, kind: str, value: object, known_keys: frozenset[str]) -> None:
    if isinstance(value, Mapping):
        for key in value.keys() - known_keys:
            if value[key] is not None:
                builder.add_estimate(kind, 0, None, f"what {safe_repr(key, 40)} adds to the input is unknown")


def _count_image(builder: CountBuilder, part: Mapping[str, Any], api: str, image_size: ImageSizeLookup | None) -> None:
    source = part.get("image_url")
    detail = part.get("detail")
    _note_unknown_inner_keys(builder, "images", source, _IMAGE_URL_KEYS)
    if isinstance(source, Mapping):  # the format of chat completions, where a detail next to the object is ignored
        detail, source = source.get("detail"), source.get("url")
    detail = detail if detail in _DETAIL_LEVELS else "auto"
    rule = builder.family.images
    if rule is None:
        builder.add_estimate(
            "images", 1_000, None, f"the tokens of an image are unknown for the family {builder.family.name}"
        )
        return
    is_inline = isinstance(source, str) and source.startswith("data:")
    overhead = 0 if is_inline else _LINKED_IMAGE_OVERHEAD[api]
    size = _image_size(part, source, image_size)
    if isinstance(rule, TileRule) and detail == "low":
        size = _ASSUMED_IMAGE_SIZE  # the price is the same at any size
    if size is None:
        width, height = _ASSUMED_IMAGE_SIZE
        reason = (
            f"the size of an image is unknown and assumed to be {width} x {height} pixels; "
            "pass image_size to the counter, or the image as a data URL"
        )
        assumed = image_tokens(rule, _ASSUMED_IMAGE_SIZE, detail)
        builder.add_estimate(
            "images",
            assumed,
            max(max_image_tokens(rule, detail), assumed) + _LINKED_IMAGE_OVERHEAD["responses"],
            reason,
        )
        return
    # OpenAI documents how images are counted, but some models count less. The documented count is the bound.
    upper = documented_max_tokens(rule, size, detail) + _LINKED_IMAGE_OVERHEAD["responses"]
    builder.add_estimate(
        "images", image_tokens(rule, size, detail) + overhead, upper, "an image is counted by OpenAI's guide"
    )


def _image_size(part: Mapping[str, Any], source: object, image_size: ImageSizeLookup | None) -> Size | None:
    """Return the size that the image states, or that the caller knows."""
    name = source if isinstance(source, str) else part.get("file_id")
    size = size_of_data_url(name) if isinstance(name, str) and name.startswith("data:") else None
    return (
        _lookup_image_size(image_size, name)
        if size is None and isinstance(name, str) and image_size is not None
        else size
    )


def _lookup_image_size(image_size: ImageSizeLookup, name: str) -> Size | None:
    """Return the size that the caller knows. Raises ``invalid_argument`` if it is invalid.

    Exceptions of the caller's function pass through.
    """
    size = image_size(name)
    if size is None or (
        isinstance(size, tuple) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)
    ):
        return size
    raise BillingError(
        "invalid_argument", f"image_size returned {safe_repr(size)}; return (width, height) in pixels, or None"
    )


def _count_audio(builder: CountBuilder, audio: object) -> None:
    data = audio.get("data") if isinstance(audio, Mapping) else None
    if not isinstance(data, str):
        raise BillingError("invalid_request", f"input_audio is {safe_repr(audio)}; add 'data' and 'format'")
    size = len(data) * 3 // 4
    _note_unknown_inner_keys(builder, "audio", audio, _AUDIO_KEYS)
    # Assume 128 kbit/s if the header states no rate. More compressed audio lasts longer.
    tokens = size * _AUDIO_TOKENS_PER_SECOND // (_bytes_per_second(data) or 16_000) + 1
    # The header may be wrong. No accepted format has less than 4 kbit/s.
    upper = max(tokens, size * _AUDIO_TOKENS_PER_SECOND // 500) + 10
    builder.add_estimate("audio", tokens, upper, "audio is counted by its length, ten tokens per second")


def _bytes_per_second(data: str) -> int | None:
    """Read the byte rate from the header of a WAV file in base64, if it is plausible."""
    try:
        head = b64decode(data[:64])
    except (binascii.Error, ValueError):
        return None
    if head[:4] == b"RIFF" and head[8:16] == b"WAVEfmt " and len(head) >= 32:
        rate = int.from_bytes(head[28:32], "little")
        return rate if 1_000 <= rate <= 2_000_000 else None
    return None


def _count_file(builder: CountBuilder, file: Mapping[str, Any], api: str) -> None:
    data = file.get("file_data")
    if not isinstance(data, str) or file.get("file_id") or file.get("file_url"):
        builder.add_estimate(
            "files", _ASSUMED_FILE_TOKENS, None, "a file that the request refers to by id or URL cannot be counted"
        )
        return
    head, _, body = data.partition(",")
    body = body if head.startswith("data:") else data
    try:
        content = b64decode(body.rstrip("=") + "=" * (-len(body.rstrip("=")) % 4), validate=True)
    except (binascii.Error, ValueError):
        builder.add_estimate("files", _ASSUMED_FILE_TOKENS, None, "a file with invalid base64 cannot be counted")
        return
    # The size of a PDF or another document does not bound its compressed content.
    if content[:5] == b"%PDF-":
        pages = max(1, content.count(b"/Type /Page") + content.count(b"/Type/Page") - content.count(b"/Pages"))
        reason = "the text of a PDF is unknown; it is counted as pages of little text"
        builder.add_estimate("files", pages * _PDF_PAGE_TOKENS[api], None, reason)
        return
    try:
        text = content.decode()
    except UnicodeDecodeError:
        builder.add_estimate("files", _ASSUMED_FILE_TOKENS, None, "the text of a binary file is unknown")
        return
    tokens = builder.count_text(text)
    builder.add_estimate(
        "files", tokens + 8, tokens + 200, "a text file is counted as its text; its framing is unknown"
    )


def _format_keys(part: Mapping[str, Any]) -> str:
    return ", ".join([safe_repr(key, 40) for key in list(part)[:20]]) or "(none)"
