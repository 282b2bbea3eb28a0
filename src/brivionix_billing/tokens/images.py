"""The tokens of an image, and its size from the first bytes of its file.

The rules (tiles of 512 px, patches of 32 px) and their numbers are OpenAI's, guide "Images and vision". If OpenAI's
usage differs from its guide, the usage is followed, see ``token_families``.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from dataclasses import replace
from math import ceil, floor, sqrt
from typing import Final

from brivionix_billing.token_families import Images, PatchRule, TileRule

__all__ = ["documented_max_tokens", "image_tokens", "max_image_tokens", "size_of_data_url"]

Size = tuple[int, int]
_PATCH_SIDE: Final = 32
_TILE_SIDE: Final = 512
_HEAD_CHARACTERS: Final = 65_536
"""Characters of a data URL that are decoded first. They contain the size of nearly all images."""
_MAX_DECODED_CHARACTERS: Final = 4_194_304
"""Maximum number of characters that are decoded. An image whose size comes later is of unknown size."""
_LOW_DETAIL_SIDE: Final = 512


def image_tokens(rule: Images, size: Size, detail: str = "auto") -> int:
    """Return the tokens of an image of ``size`` (width, height in pixels) at a detail.

    The details are low, high, original and auto.

    >>> image_tokens(TileRule(85, 170), (1024, 1024), "high"), image_tokens(PatchRule(162), (1024, 1024))
    (765, 1659)
    """
    width, height = (max(1, side) for side in size)
    if isinstance(rule, TileRule):
        if detail == "low":
            return rule.base
        width, height = _scale_down(width, height, 2_048, max(width, height))
        width, height = _scale_down(width, height, 768, min(width, height))
        return rule.base + rule.tile * _ceil_div(width, _TILE_SIDE) * _ceil_div(height, _TILE_SIDE)
    return -(-_patches(rule, width, height, detail) * rule.percent // 100)


def documented_max_tokens(rule: Images, size: Size, detail: str = "auto") -> int:
    """Return the most tokens by OpenAI's guide.

    Its usage may be lower, and a small image may be enlarged to 768 px.
    """
    if isinstance(rule, TileRule) and detail != "low":
        width, height = (max(1, side) for side in size)
        short = min(width, height)
        enlarged = (-(-width * 768 // short), -(-height * 768 // short))
        return max(image_tokens(rule, size, detail), min(image_tokens(rule, enlarged, detail), max_image_tokens(rule)))
    if isinstance(rule, PatchRule) and rule.documented is not None:
        rule = replace(rule, percent=max(rule.percent, rule.documented))
    return image_tokens(rule, size, detail)


def max_image_tokens(rule: Images, detail: str = "auto") -> int:
    """Return the most tokens that any image can cost."""
    if isinstance(rule, TileRule):
        return rule.base if detail == "low" else rule.base + rule.tile * 8  # 768 x 2048 px are 2 x 4 tiles
    effective_detail = rule.auto if detail == "auto" else detail
    budget = rule.original[0] if effective_detail == "original" and rule.original else rule.max_patches
    return -(-budget * max(rule.percent, rule.documented or 0) // 100)


def _scale_down(width: int, height: int, limit: int, side: int) -> Size:
    """Shrink, never enlarge, an image so that its ``side`` is at most ``limit``."""
    if side <= limit:
        return width, height
    return max(1, width * limit // side), max(1, height * limit // side)


def _ceil_div(length: int, unit: int) -> int:
    return -(-length // unit)


def _patches(rule: PatchRule, width: int, height: int, detail: str) -> int:
    effective_detail = rule.auto if detail == "auto" else detail
    budget, side = rule.original if effective_detail == "original" and rule.original else (rule.max_patches, rule.side)
    if effective_detail == "low":
        width, height = _scale_down(width, height, _LOW_DETAIL_SIDE, max(width, height))
    width, height = _scale_down(width, height, side, max(width, height))
    count = _ceil_div(width, _PATCH_SIDE) * _ceil_div(height, _PATCH_SIDE)
    if count <= budget:
        return count
    # Shrink to the area of the budget, then a little more, so that one side is a whole number of patches.
    factor = sqrt(budget * _PATCH_SIDE * _PATCH_SIDE / (width * height))
    across, down = width * factor / _PATCH_SIDE, height * factor / _PATCH_SIDE
    ratio = min(floor(side) / side if side >= 1 else 1.0 for side in (across, down))
    # The tolerance makes up for rounding errors of floats just above a whole number.
    return min(budget, max(1, ceil(across * ratio - 1e-9)) * max(1, ceil(down * ratio - 1e-9)))


def size_of_data_url(url: str) -> Size | None:
    """Return the size of a PNG, JPEG, GIF or WebP image in a base64 data URL, or ``None`` if it is unreadable."""
    head, comma, _ = url[:256].partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        return None
    size = _image_size(_decode_bytes(url, len(head) + 1, _HEAD_CHARACTERS))
    if size is None and len(url) > _HEAD_CHARACTERS:
        size = _image_size(_decode_bytes(url, len(head) + 1, _MAX_DECODED_CHARACTERS))
    return size


def _decode_bytes(url: str, start: int, length: int) -> bytes:
    text = url[start : start + length]
    try:
        return b64decode(text[: len(text) // 4 * 4])  # the last bytes do not contain the size
    except (binascii.Error, ValueError):
        return b""


def _image_size(data: bytes) -> Size | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR" and len(data) >= 24:
        return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    if data[:6] in (b"GIF87a", b"GIF89a") and len(data) >= 10:
        return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_size(data)
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data)
    return None


def _webp_size(data: bytes) -> Size | None:
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8 " and len(data) >= 30:
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    if kind == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return None


def _jpeg_size(data: bytes) -> Size | None:
    position = 2
    while position + 9 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:  # fill bytes
            position = len(data) - len(data[position:].lstrip(b"\xff")) - 1
            continue
        # The frame headers C0 to CF contain the size. C4, C8 and CC are other tables.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[position + 7 : position + 9]), int.from_bytes(data[position + 5 : position + 7])
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
    return None
