"""Images: the size from the first bytes, and the tokens from the size."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brivionix_billing.token_families import FAMILIES, PatchRule, TileRule
from brivionix_billing.tokens import TokenCounter
from brivionix_billing.tokens.images import image_tokens, max_image_tokens, size_of_data_url
from token_kit import counter


def png(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0" * 20


def jpeg(width: int, height: int, before: int = 0) -> bytes:
    """Return a JPEG start, ``before`` bytes of other segments, and a frame header."""
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", 60_002) + b"x" * 60_000 for _ in range(before // 60_000))
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3) + b"\0" * 9
    return b"\xff\xd8" + segments + b"\xff\xc4" + struct.pack(">H", 6) + b"tabl" + b"\xff" + frame


def webp(width: int, height: int, kind: bytes = b"VP8X") -> bytes:
    if kind == b"VP8X":
        body = b"\0" * 4 + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    elif kind == b"VP8L":
        body = b"\x2f" + ((width - 1) | (height - 1) << 14).to_bytes(4, "little")
    else:
        body = b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height)
    return b"RIFF" + struct.pack("<I", 100) + b"WEBP" + kind + struct.pack("<I", len(body)) + body + b"\0" * 16


def url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{b64encode(data).decode()}"


@pytest.mark.parametrize(
    "data",
    [
        *(png(640, 480), gif(640, 480), jpeg(640, 480), jpeg(640, 480, before=240_000)),
        *(webp(640, 480), webp(640, 480, b"VP8L"), webp(640, 480, b"VP8 ")),
    ],
    ids=["png", "gif", "jpeg", "jpeg with much before", "webp", "webp lossless", "webp lossy"],
)
def test_the_size_of_an_image_is_read_from_its_header(data: bytes) -> None:
    """Width and height of PNG, GIF, JPEG (at any frame position) and the three kinds of WebP are read."""
    assert size_of_data_url(url(data)) == (640, 480)


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com/a.png",
        "data:image/png;base64,",
        "data:image/png;base64,!!!!",
        "data:image/png,abc",
        url(b"\x89PNG\r\n\x1a\n"),
        url(b"\xff\xd8\xff\xe0\0\0" * 9),
        url(b"no image at all"),
        url(b"RIFF....WEBPXXXX" + b"\0" * 30),
        "data:" + "x" * 500,
    ],
)
def test_unreadable_images_have_no_size(text: str) -> None:
    """A link, invalid base64 or another file has no size."""
    assert size_of_data_url(text) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    """Any bytes after the signature of a format return a size or none, and raise nothing."""
    for head in (b"", b"\xff\xd8", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"RIFF1234WEBP"):
        result = size_of_data_url(url(head + data))
        assert result is None or len(result) == 2


@pytest.mark.parametrize(
    ("rule", "size", "detail", "tokens"),
    [
        # OpenAI's guide: examples for tiles
        (TileRule(85, 170), (1024, 1024), "high", 765),
        (TileRule(85, 170), (2048, 4096), "high", 1105),
        (TileRule(85, 170), (4096, 8192), "low", 85),
        (TileRule(2833, 5667), (512, 512), "auto", 8500),
        (TileRule(70, 140), (1, 1), "auto", 210),
        # ... and for patches
        (PatchRule(100), (1024, 1024), "auto", 1024),
        (PatchRule(100), (1800, 2400), "auto", 1452),
        (PatchRule(162), (1800, 2400), "high", 2353),
        # published measurements of gpt-5-mini
        (PatchRule(120), (256, 256), "auto", 77),
        (PatchRule(120), (512, 512), "auto", 308),
        (PatchRule(120), (768, 1024), "auto", 922),
        (PatchRule(120), (1280, 720), "auto", 1104),
        (PatchRule(120), (1024, 1024), "auto", 1229),
        (PatchRule(120), (2048, 768), "auto", 1844),
        # details
        (PatchRule(100), (4000, 4000), "low", 256),
        (PatchRule(100, 2_500, original=(10_000, 6_000)), (3200, 3200), "original", 10_000),
        (PatchRule(100, 2_500, original=(10_000, 6_000)), (3200, 3200), "high", 2_500),
        (PatchRule(100, 2_500, original=(10_000, 6_000), auto="original"), (3200, 3200), "auto", 10_000),
    ],
)
def test_documented_and_measured_images(rule: Any, size: tuple[int, int], detail: str, tokens: int) -> None:
    """The examples of OpenAI's guide and published measurements are reproduced."""
    assert image_tokens(rule, size, detail) == tokens


sides = st.integers(1, 20_000)
details = st.sampled_from(["low", "high", "auto", "original"])
rules = st.sampled_from([family.images for family in FAMILIES.values() if family.images is not None])


@given(rules, sides, sides, details)
def test_no_image_costs_more_than_its_bound(rule: Any, width: int, height: int, detail: str) -> None:
    """For every family, size and detail, an image costs at least one token and at most the bound."""
    assert 1 <= image_tokens(rule, (width, height), detail) <= max_image_tokens(rule, detail)


@given(st.integers(1, 1_200), st.integers(1, 1_200))
def test_small_images_cost_their_patches(width: int, height: int) -> None:
    """An image that is not scaled costs its 32 px patches times the factor, rounded up."""
    squares = ceil(Fraction(width, 32)) * ceil(Fraction(height, 32))
    if squares <= 1_536:
        assert image_tokens(PatchRule(120), (width, height)) == ceil(squares * Fraction(120, 100))


def ask(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, *parts]}]}


def test_an_inline_image_costs_its_size() -> None:
    """An image in a data URL adds the tokens of its size to the text."""
    plain = counter().chat(ask())
    image = {"type": "image_url", "image_url": {"url": url(png(512, 512)), "detail": "high"}}
    result = counter().chat(ask(image, image))
    assert result - plain == 2 * 308
    assert result.by_kind()["images"] == 616
    # The guide states 1.62 tokens per patch, real usage shows 1.20: the bound follows the guide.
    assert result.upper is not None
    assert result.upper >= plain + 2 * ceil(256 * Fraction(162, 100))


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-5.4-mini"])
def test_the_bound_follows_a_known_size(model: str) -> None:
    """The bound of an image of known size follows its own size, not the largest image."""
    image = {"type": "image_url", "image_url": {"url": url(png(64, 64))}}
    count = counter(model).chat(ask(image))
    own = {"gpt-4o": 765, "gpt-5.4-mini": ceil(4 * Fraction(162, 100))}[model]
    assert count.upper == counter(model).chat(ask()) + own + 5


def test_low_detail_in_tiles_needs_no_size() -> None:
    """At low detail, a tiled image costs its base at any size."""
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}
    assert counter("gpt-4o").chat(ask(image)).by_kind()["images"] == 85 + 2


def test_a_linked_image_has_a_size_or_a_bound() -> None:
    """For a link, the counter calls image_size; without a size, it returns an estimate with the family's bound."""
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    requested = []

    def size(name: str) -> tuple[int, int]:
        requested.append(name)
        return 320, 320

    known = TokenCounter("gpt-5.4-mini", image_size=size).chat(ask(image))
    assert requested == ["https://example.com/a.png"]
    unknown = counter().chat(ask(image))
    rule = FAMILIES["gpt-5.4-mini"].images
    assert rule is not None
    assert known < unknown <= (unknown.upper or 0) <= known + max_image_tokens(rule) + 10
    assert "size" in unknown.reasons[0]
