"""The meters to which sources are mapped: what their prices are quoted for, and the order in which they are written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["METER_ORDER", "PER", "TOKEN_METERS", "TOOL_METERS", "sort_meters", "steps_per_price"]

_MILLION: Final = 1_000_000
_TOKENS: Final = (
    *("input", "cache_read", "cache_write", "cache_write_1h", "cache_write_12h", "explicit_cache_read"),
    *("output", "reasoning", "citation"),
    *("audio_input", "audio_cache_read", "audio_cache_write", "audio_output"),
    *("image_input", "image_cache_read", "image_output"),
    *("video_input", "video_cache_read", "video_output"),
)
_TOOLS: Final = {
    **dict.fromkeys(("web_search", "web_search_low", "web_search_high", "file_search", "maps_search"), 1_000),
    **dict.fromkeys(("image_generation", "code_interpreter"), 1_000),
}
_OTHERS: Final = {
    **dict.fromkeys(("input_characters", "output_characters", "input_pixels", "output_pixels"), _MILLION),
    **dict.fromkeys(("audio_input_seconds", "audio_output_seconds", "video_input_seconds", "video_output_seconds"), 1),
    **dict.fromkeys(("compute_seconds", "input_images", "output_images", "vector_storage", "request"), 1),
    **dict.fromkeys(("pages", "annotation_pages", "queries"), 1_000),
    **dict.fromkeys(("cache_storage", "router_fee"), _MILLION),
}
PER: Final[dict[str, int]] = {**dict.fromkeys(_TOKENS, _MILLION), **_OTHERS, **_TOOLS}
"""Built-in meter -> the quantity that its price is quoted for."""
_PLACES: Final = {
    **dict.fromkeys((name for name in PER if name.endswith("_seconds")), 3),
    "vector_storage": 6,
}
_OWN_METER_PLACES: Final = 6
"""Decimal places of the quantities of a meter that a price file declares."""
TOKEN_METERS: Final = frozenset(_TOKENS)
"""The meters that a price set inside another one must price, if the outer one does."""
TOOL_METERS: Final = frozenset(_TOOLS)
"""Fees of tools. Factors of regions, modes and windows do not apply to them."""
METER_ORDER: Final[dict[str, int]] = {name: position for position, name in enumerate(PER)}


def sort_meters(names: Iterable[str]) -> list[str]:
    """Return meter names in the order in which price sets are written; meters of the file come last, by name."""
    return sorted(names, key=lambda name: (METER_ORDER.get(name, len(METER_ORDER)), name))


def steps_per_price(meter: str, per: int | None = None) -> int:
    """Return how many of the smallest quantities a price is quoted for. Seconds are counted in thousandths.

    ``per`` is that of a meter which the price file declares.
    """
    quoted_for = PER.get(meter, 1) if per is None else per
    places = _PLACES.get(meter, 0 if meter in PER else _OWN_METER_PLACES)
    return quoted_for * int(10**places)
