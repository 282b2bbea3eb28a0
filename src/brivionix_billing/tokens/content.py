"""The content of one message or tool result: text, images, audio, files, as both APIs write them."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable, Mapping
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
"""Asked for the size (width, height in pixels) of an image that a request only names, by its URL or file id."""

_TEXTS: Final = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "summary_text": "text",
    "reasoning_text": "text",
    "refusal": "refusal",
}
_DETAILS: Final = ("low", "high", "original", "auto")
_ASSUMED_IMAGE_SIZE: Final = (600, 600)
"""An image whose size nobody says is taken for one of this size, which is nearest to the three pairs that have such.
Its bound is that of the largest image."""
_LINKED_IMAGE_OVERHEAD: Final = {"chat": 2, "responses": 5}
"""More for an image that is given by a link, seen in two pairs each; images given in full cost nothing more."""
_PDF_PAGE: Final = {"chat": 220, "responses": 20}
"""A page of little text: in chat completions a picture of the page is given as well."""
_ASSUMED_FILE_TOKENS: Final = 750
_AUDIO_PER_SECOND: Final = 10
"""OpenAI, guide "Realtime costs": a token of a user's audio is 100 ms."""


def count_content(
    tally: CountBuilder, kind: str, content: object, api: str, image_size: ImageSizeLookup | None
) -> None:
    """Count a ``content``: a text, a list of parts, or nothing. Raises ``invalid_request`` for anything else."""
    if content is None:
        return
    if isinstance(content, str):
        tally.add_text(kind, content)
        return
    if not isinstance(content, list | tuple):
        raise BillingError("invalid_request", f"a content is {safe_repr(content)}; it is a text or a list of parts")
    for part in content:
        if isinstance(part, str):
            tally.add_text(kind, part)
        elif isinstance(part, Mapping):
            _count_part(tally, kind, part, api, image_size)
        else:
            raise BillingError(
                "invalid_request", f"a part of a content is {safe_repr(part)}; it is an object with a type"
            )


def _count_part(
    tally: CountBuilder, kind: str, part: Mapping[str, Any], api: str, image_size: ImageSizeLookup | None
) -> None:
    what = part.get("type")
    field = "text" if what is None else _TEXTS.get(what) if isinstance(what, str) else None
    if field is not None and isinstance(part.get(field), str):
        tally.add_text(kind, part[field])
    elif what in ("image_url", "input_image", "computer_screenshot"):
        _count_image(tally, part, api, image_size)
    elif what == "input_audio":
        _count_audio(tally, part.get("input_audio"))
    elif what in ("file", "input_file"):
        inner = part.get("file")
        _count_file(tally, inner if isinstance(inner, Mapping) else part, api)
    elif what == "encrypted_content" or "encrypted_content" in part:
        tally.add_estimate("unseen", 0, None, "an encrypted content cannot be read")
    else:
        raise BillingError(
            "invalid_request", f"a part of type {safe_repr(what)} with the keys {_keys(part)} is not known here"
        )


def _count_image(tally: CountBuilder, part: Mapping[str, Any], api: str, image_size: ImageSizeLookup | None) -> None:
    source = part.get("image_url")
    detail = part.get("detail")
    if isinstance(source, Mapping):  # as chat completions write it: there a detail beside it is not read
        detail, source = source.get("detail"), source.get("url")
    detail = detail if detail in _DETAILS else "auto"
    rule = tally.family.images
    if rule is None:
        tally.add_estimate("images", 1_000, None, f"what an image costs the family {tally.family.name} is not known")
        return
    inside = isinstance(source, str) and source.startswith("data:")
    around = 0 if inside else _LINKED_IMAGE_OVERHEAD[api]
    size = _image_size(part, source, image_size)
    if isinstance(rule, TileRule) and detail == "low":
        size = _ASSUMED_IMAGE_SIZE  # it costs the same at any size
    if size is None:
        width, height = _ASSUMED_IMAGE_SIZE
        why = (
            f"the size of an image is not known, so it is taken for {width} x {height} pixels; "
            "give the counter image_size, or the image as a data URL"
        )
        usual = image_tokens(rule, _ASSUMED_IMAGE_SIZE, detail)
        tally.add_estimate(
            "images", usual, max(max_image_tokens(rule, detail), usual) + _LINKED_IMAGE_OVERHEAD["responses"], why
        )
        return
    # OpenAI says how an image is counted, but not every model does as is said: the bound is what it says at the most.
    most = documented_max_tokens(rule, size, detail) + _LINKED_IMAGE_OVERHEAD["responses"]
    tally.add_estimate(
        "images", image_tokens(rule, size, detail) + around, most, "an image is counted by OpenAI's guide"
    )


def _image_size(part: Mapping[str, Any], source: object, image_size: ImageSizeLookup | None) -> Size | None:
    """The size that the image says itself, or that the caller knows."""
    name = source if isinstance(source, str) else part.get("file_id")
    size = size_of_data_url(name) if isinstance(name, str) and name.startswith("data:") else None
    return (
        _lookup_image_size(image_size, name)
        if size is None and isinstance(name, str) and image_size is not None
        else size
    )


def _lookup_image_size(image_size: ImageSizeLookup, name: str) -> Size | None:
    """What the caller knows of an image. What it raises is its own; what is no size is told."""
    size = image_size(name)
    if size is None or (
        isinstance(size, tuple) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)
    ):
        return size
    raise BillingError(
        "invalid_argument", f"image_size gave {safe_repr(size)}; it gives (width, height) in pixels, or None"
    )


def _count_audio(tally: CountBuilder, audio: object) -> None:
    data = audio.get("data") if isinstance(audio, Mapping) else None
    if not isinstance(data, str):
        raise BillingError("invalid_request", f"input_audio is {safe_repr(audio)}; it has 'data' and 'format'")
    size = len(data) * 3 // 4
    # 128 kbit/s where the head does not say it: what is packed more tightly lasts longer.
    tokens = size * _AUDIO_PER_SECOND // (_bytes_per_second(data) or 16_000) + 1
    # The head is the sender's word. No format that is taken has less than 4 kbit/s.
    most = max(tokens, size * _AUDIO_PER_SECOND // 500) + 10
    tally.add_estimate("audio", tokens, most, "audio is counted by its length, ten tokens a second")


def _bytes_per_second(data: str) -> int | None:
    """From the head of a WAV file in base64, if it is what sound can have."""
    try:
        head = b64decode(data[:64])
    except (binascii.Error, ValueError):
        return None
    if head[:4] == b"RIFF" and head[8:16] == b"WAVEfmt " and len(head) >= 32:
        rate = int.from_bytes(head[28:32], "little")
        return rate if 1_000 <= rate <= 2_000_000 else None
    return None


def _count_file(tally: CountBuilder, file: Mapping[str, Any], api: str) -> None:
    data = file.get("file_data")
    if not isinstance(data, str) or file.get("file_id") or file.get("file_url"):
        tally.add_estimate("files", _ASSUMED_FILE_TOKENS, None, "a file that the request only names cannot be counted")
        return
    head, _, body = data.partition(",")
    body = body if head.startswith("data:") else data
    try:
        content = b64decode(body.rstrip("=") + "=" * (-len(body.rstrip("=")) % 4), validate=True)
    except (binascii.Error, ValueError):
        tally.add_estimate("files", _ASSUMED_FILE_TOKENS, None, "a file whose data is no base64 cannot be counted")
        return
    # What is packed in a PDF or another document has no bound that its bytes would say.
    if content[:5] == b"%PDF-":
        pages = max(1, content.count(b"/Type /Page") + content.count(b"/Type/Page") - content.count(b"/Pages"))
        why = "what is read out of a PDF is not known; it is taken for pages of little text"
        tally.add_estimate("files", pages * _PDF_PAGE[api], None, why)
        return
    try:
        text = content.decode()
    except UnicodeDecodeError:
        tally.add_estimate("files", _ASSUMED_FILE_TOKENS, None, "what is read out of a file is not known")
        return
    tokens = tally.count_text(text)
    tally.add_estimate(
        "files", tokens + 8, tokens + 200, "a text file is counted as its text; what stands around is not known"
    )


def _keys(part: Mapping[str, Any]) -> str:
    return ", ".join([safe_repr(key, 40) for key in list(part)[:20]]) or "(none)"
